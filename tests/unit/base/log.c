/* SPDX-License-Identifier: Apache-2.0 */
/* The log: one whole line a message, the level where its reader looks for it, errno left alone. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* What fn writes to standard error. Each criterion test is a process of its own, so that and the environment may be
 * changed. */
static char *captured(void (*fn)(void))
{
	static char text[8192];
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	ssize_t n;

	cr_assert(file && saved >= 0);
	dup2(fileno(file), STDERR_FILENO);
	fn();
	dup2(saved, STDERR_FILENO);
	n = pread(fileno(file), text, sizeof(text) - 1, 0);
	cr_assert(n >= 0);
	text[n] = '\0';
	fclose(file);
	close(saved);
	return text;
}

static void each_level(void)
{
	log_error("e %d", 1);
	log_warning("w");
	log_info("i");
	log_debug("d");
}

Test(base_log, people_see_the_level_in_words_and_no_debugging)
{
	unsetenv("JOURNAL_STREAM");
	cr_expect_str_eq(captured(each_level), "bdfs: error: e 1\nbdfs: warning: w\nbdfs: i\n");
}

Test(base_log, the_journal_sees_the_level_as_a_number)
{
	setenv("JOURNAL_STREAM", "8:1234", 1);
	base_log_set_level(BASE_LOG_DEBUG);
	cr_expect_str_eq(captured(each_level), "<3>e 1\n<4>w\n<6>i\n<7>d\n");
}

Test(base_log, the_level_that_is_set_is_the_last_that_is_shown)
{
	unsetenv("JOURNAL_STREAM");
	base_log_set_level(BASE_LOG_ERROR);
	cr_expect_str_eq(captured(each_level), "bdfs: error: e 1\n");
}

static void forge(void)
{
	log_info("disk 'x\nbdfs: error: all is lost\r\x1b[2J'");
}

Test(base_log, a_name_can_not_forge_a_second_line)
{
	unsetenv("JOURNAL_STREAM");
	cr_expect_str_eq(captured(forge), "bdfs: disk 'x?bdfs: error: all is lost??[2J'\n");
}

static void very_long(void)
{
	char filler[6000];

	memset(filler, 'f', sizeof(filler) - 1);
	filler[sizeof(filler) - 1] = '\0';
	log_info("%s", filler);
}

Test(base_log, a_message_that_is_too_long_is_cut_but_stays_a_line)
{
	char *text = captured(very_long);
	size_t length = strlen(text);

	cr_assert_gt(length, 100);
	cr_expect_lt(length, 6000);
	cr_expect_str_eq(text + length - 4, "...\n");
	cr_expect_eq(strchr(text, '\n'), text + length - 1);
}

static int errno_after;

static void with_errno(void)
{
	errno = ENOENT;
	log_info("what: %m");
	errno_after = errno;
}

Test(base_log, errno_can_be_shown_and_survives)
{
	unsetenv("JOURNAL_STREAM");
	cr_expect_str_eq(captured(with_errno), "bdfs: what: No such file or directory\n");
	cr_expect_eq(errno_after, ENOENT);
}
