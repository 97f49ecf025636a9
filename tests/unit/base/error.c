/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of the control path: codes come through, texts grow in front, and nothing overflows. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"

Test(base_error, set_returns_the_code_and_keeps_the_text)
{
	struct base_error err = { 0 };

	cr_expect_eq(base_error_set(&err, -ENOSPC, "no space for %s", "web1"), -ENOSPC);
	cr_expect_eq(err.code, -ENOSPC);
	cr_expect_str_eq(err.text, "no space for web1");
}

Test(base_error, set_errno_adds_what_the_code_means)
{
	struct base_error err = { 0 };

	cr_expect_eq(base_error_set_errno(&err, -ENOENT, "open %s", "x"), -ENOENT);
	cr_expect_str_eq(err.text, "open x: No such file or directory");
}

Test(base_error, wrap_puts_words_in_front_and_returns_the_code)
{
	struct base_error err = { 0 };

	base_error_set(&err, -EBUSY, "disk web1 is mapped by vhost0");
	cr_expect_eq(base_error_wrap(&err, "pool %s", "vms"), -EBUSY);
	cr_expect_eq(base_error_wrap(&err, "rmbdsp"), -EBUSY);
	cr_expect_str_eq(err.text, "rmbdsp: pool vms: disk web1 is mapped by vhost0");
}

Test(base_error, no_error_to_fill_still_gives_a_failure)
{
	struct base_error unset = { 0 };

	cr_expect_eq(base_error_set(NULL, -EPERM, "x"), -EPERM);
	cr_expect_eq(base_error_set_errno(NULL, -EPERM, "x"), -EPERM);
	cr_expect_eq(base_error_wrap(NULL, "x"), -EIO);
	cr_expect_eq(base_error_wrap(&unset, "x"), -EIO);
}

Test(base_error, a_text_that_does_not_fit_keeps_its_beginning_and_says_so)
{
	struct {
		struct base_error err;
		char canary[16];
	} box;
	char filler[2 * BASE_ERROR_TEXT_BYTES];

	memset(&box, 'c', sizeof(box));
	memset(filler, 'f', sizeof(filler) - 1);
	filler[sizeof(filler) - 1] = '\0';
	base_error_set(&box.err, -EINVAL, "begins %s", filler);
	cr_expect_eq(strlen(box.err.text), BASE_ERROR_TEXT_BYTES - 1);
	cr_expect_eq(strncmp(box.err.text, "begins f", 8), 0);
	cr_expect_str_eq(box.err.text + BASE_ERROR_TEXT_BYTES - 4, "...");

	base_error_wrap(&box.err, "outer");
	cr_expect_eq(strlen(box.err.text), BASE_ERROR_TEXT_BYTES - 1);
	cr_expect_eq(strncmp(box.err.text, "outer: begins f", 15), 0);
	cr_expect_str_eq(box.err.text + BASE_ERROR_TEXT_BYTES - 4, "...");

	base_error_set_errno(&box.err, -EINVAL, "%s", filler);
	cr_expect_eq(strlen(box.err.text), BASE_ERROR_TEXT_BYTES - 1);
	for (size_t i = 0; i < sizeof(box.canary); i++)
		cr_expect_eq(box.canary[i], 'c');
}
