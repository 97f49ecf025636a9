/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of the control path: filling and wrapping `struct base_error`.
 *
 * An error is a value in its caller's hands: a code and a bounded text, no
 * memory of its own, so nothing has to be freed and reporting "out of memory"
 * needs none.
 *
 * The usual way: the lowest function that knows what went wrong sets code and
 * text and returns the code; each caller on the way up may put words in front
 * ("pool vms: disk web1: no space ...") and passes the code on.
 *
 * Failure modes: a text that is too long keeps its beginning and ends in
 * "...", since the beginning says what was asked; a format that printf refuses
 * leaves the words out and keeps the code. A caller that hands in no error
 * still gets the code back, and wrapping where no code is known answers -EIO, since
 * a failure must not come out as success.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* Marks a text that did not fit. needed: what snprintf would have written. */
static void mark_cut(char *text, size_t room, int needed)
{
	static const char dots[] = "...";

	if (needed < 0)
		text[0] = '\0';
	else if ((size_t)needed >= room && room >= sizeof(dots))
		memcpy(text + room - sizeof(dots), dots, sizeof(dots));
}

static void set_text(struct base_error *err, const char *fmt, va_list args)
{
	mark_cut(err->text, sizeof(err->text), vsnprintf(err->text, sizeof(err->text), fmt, args));
}

int base_error_set(struct base_error *err, int code, const char *fmt, ...)
{
	va_list args;

	assert(code < 0);
	if (!err)
		return code;
	err->code = code;
	va_start(args, fmt);
	set_text(err, fmt, args);
	va_end(args);
	return code;
}

int base_error_set_errno(struct base_error *err, int code, const char *fmt, ...)
{
	char reason_buf[128];
	va_list args;

	assert(code < 0);
	if (!err)
		return code;
	err->code = code;
	va_start(args, fmt);
	set_text(err, fmt, args);
	va_end(args);

	/* The GNU strerror_r: strerror's own buffer may be shared between threads. */
	const char *reason = strerror_r(-code, reason_buf, sizeof(reason_buf));
	size_t used = strlen(err->text);
	size_t room = sizeof(err->text) - used;

	mark_cut(err->text + used, room, snprintf(err->text + used, room, ": %s", reason));
	return code;
}

int base_error_wrap(struct base_error *err, const char *fmt, ...)
{
	char inner[BASE_ERROR_TEXT_BYTES];
	va_list args;

	if (!err)
		return -EIO;
	memcpy(inner, err->text, sizeof(inner));
	va_start(args, fmt);
	set_text(err, fmt, args);
	va_end(args);

	size_t used = strlen(err->text);
	size_t room = sizeof(err->text) - used;

	mark_cut(err->text + used, room, snprintf(err->text + used, room, ": %s", inner));
	return err->code < 0 ? err->code : -EIO;
}
