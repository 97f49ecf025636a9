/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of the control path: a code for programs and a text for people.
 *
 * A function that can fail on a user's request takes `struct base_error *err`
 * as its last argument and returns 0 or a negative errno. It fills err with
 * what was asked, what stands against it and what to do; each caller on the
 * way up may put its own words in front with base_error_wrap(). The data path
 * has codes only.
 *
 * Context: any thread; an error belongs to its caller. err may be NULL.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdarg.h>

#define BASE_ERROR_TEXT_BYTES 768

struct base_error {
	int code; /* negative errno, 0 = none */
	char text[BASE_ERROR_TEXT_BYTES];
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* Sets code (negative errno) and text; returns code, so that `return base_error_set(...)` reads well. */
int base_error_set(struct base_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As base_error_set, with ": " and strerror(-code) after the text. */
int base_error_set_errno(struct base_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * Puts "words: " in front of the text that is there; returns err's code, or -EIO
 * where none is known (err is NULL or was never set): a caller that may have no
 * err keeps the code it got and returns that.
 */
int base_error_wrap(struct base_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
