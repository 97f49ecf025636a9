/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": near enough, and not too far. */
#include <criterion/criterion.h>
#include <string.h>

#include "cli/cli.h"

Test(cli_suggest, a_slip_finds_the_verb)
{
	static const char *const slips[][2] = {
		{ "mkbds", "mkbdsp" }, { "mkbdps", "mkbdsp" }, { "lsps", "lssp" }, { "unmount", "umount" },
		{ "mkps", "mksp" },    { "chek", "check" },    { "hlep", "help" },
	};

	for (size_t i = 0; i < ARRAY_LEN(slips); i++) {
		const char *near = cli_nearest_verb(slips[i][0]);

		if (!cmd_verb_find(slips[i][1]) && strcmp(slips[i][1], "help") != 0)
			continue;
		cr_assert_not_null(near, "%s", slips[i][0]);
		cr_assert_str_eq(near, slips[i][1], "%s gave %s", slips[i][0], near);
	}
}

Test(cli_suggest, what_is_far_finds_nothing)
{
	cr_assert_null(cli_nearest_verb("defragment"));
	cr_assert_null(cli_nearest_verb(""));
	cr_assert_null(cli_nearest_verb("a-word-that-is-longer-than-any-name-could-ever-be"));
	cr_assert_null(cli_nearest_option(&cmd_lssp, "whatever"));
}

Test(cli_suggest, options_of_the_verb_and_of_the_output_are_considered)
{
	cr_assert_str_eq(cli_nearest_option(&cmd_lssp, "defualt"), "default");
	cr_assert_str_eq(cli_nearest_option(&cmd_lssp, "jsno"), "json");
}

Test(cli_suggest, what_is_not_here_yet_is_not_suggested)
{
	cr_assert_null(cli_nearest_option(&cmd_mkbdsp, "clustrename"));
	cr_assert_not_null(cli_verb_of_later("mkrep"));
	cr_assert_null(cli_verb_of_later("mksp"));
}
