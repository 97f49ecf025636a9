/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments as a daemon gets them: what the check lets through and what it refuses. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "cmd/args.h"

static int check(const struct cmd_verb *verb, const char *text, struct base_error *err)
{
	json_t *args = json_loads(text, JSON_DECODE_ANY, NULL);

	cr_assert_not_null(args, "%s", text);

	int r = cmd_args_check(verb, args, err);

	json_decref(args);
	return r;
}

Test(cmd_args, what_fits_the_table_passes)
{
	cr_assert_eq(check(&cmd_mkbdsp, "{\"size\": 1048576, \"bd\": \"a\"}", NULL), 0);
	cr_assert_eq(check(&cmd_mkbdsp, "{\"size\": {\"bytes\": 7, \"increment\": false}, \"bd\": \"a\", \"count\": 3}",
			   NULL),
		     0);
	cr_assert_eq(check(&cmd_lssp, "{\"bd\": true}", NULL), 0);
	cr_assert_eq(check(&cmd_chsp, "{\"add\": true, \"pv\": [\"/a\", \"/b\"]}", NULL), 0);
}

Test(cmd_args, what_does_not_fit_is_refused)
{
	static const struct {
		const struct cmd_verb *verb;
		const char *args;
	} cases[] = {
		{ &cmd_lssp, "[]" },
		{ &cmd_lssp, "7" },
		{ &cmd_lssp, "{\"bd\": 1}" },
		{ &cmd_lssp, "{\"bd\": \"yes\"}" },
		{ &cmd_lssp, "{\"sp\": [\"a\"]}" },
		{ &cmd_lssp, "{\"sp\": null}" },
		{ &cmd_lssp, "{\"no-such-option\": true}" },
		{ &cmd_mkbdsp, "{\"size\": 1}" },
		{ &cmd_mkbdsp, "{\"size\": -1, \"bd\": \"a\"}" },
		{ &cmd_mkbdsp, "{\"size\": 1.5, \"bd\": \"a\"}" },
		{ &cmd_mkbdsp, "{\"size\": \"20G\", \"bd\": \"a\"}" },
		{ &cmd_mkbdsp, "{\"size\": {\"bytes\": -1}, \"bd\": \"a\"}" },
		{ &cmd_mkbdsp, "{\"size\": {}, \"bd\": \"a\"}" },
		{ &cmd_mkbdsp, "{\"size\": {\"bytes\": 1, \"increment\": 1}, \"bd\": \"a\"}" },
		{ &cmd_mkbdsp, "{\"size\": 1, \"bd\": \"a\", \"count\": -1}" },
		{ &cmd_chsp, "{\"add\": true, \"pv\": \"/a\"}" },
		{ &cmd_chsp, "{\"add\": true, \"pv\": []}" },
		{ &cmd_chsp, "{\"add\": true, \"pv\": [1]}" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct base_error err = { 0 };

		cr_assert_eq(check(cases[i].verb, cases[i].args, &err), -EINVAL, "%s", cases[i].args);
		cr_assert_neq(err.text[0], '\0', "%s", cases[i].args);
	}
}

Test(cmd_args, an_option_of_a_later_release_is_refused_with_the_reason)
{
	struct base_error err = { 0 };

	cr_assert_eq(check(&cmd_mkbdsp, "{\"size\": 1, \"bd\": \"a\", \"clustername\": \"c\"}", &err), -EOPNOTSUPP);
	cr_assert_not_null(strstr(err.text, "-clustername"));
	cr_assert_not_null(strstr(err.text, "not in this release"));
}

Test(cmd_args, a_missing_option_is_named_as_it_is_typed)
{
	struct base_error err = { 0 };

	cr_assert_eq(check(&cmd_mkbdsp, "{\"size\": 1}", &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "-bd NAME"), "%s", err.text);
	cr_assert_eq(check(&cmd_rmsp, "{}", &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "POOL"), "%s", err.text);
}

Test(cmd_args, one_of_wants_exactly_one)
{
	static const char *const names[] = { "size", "mv", NULL };
	json_t *none = json_object(), *one = json_pack("{s:i}", "mv", 1),
	       *both = json_pack("{s:i,s:i}", "mv", 1, "size", 1);
	struct base_error err = { 0 };

	cr_assert_eq(cmd_arg_one_of(one, names, &err), 1);
	cr_assert_eq(cmd_arg_one_of(none, names, &err), -EINVAL);
	cr_assert_str_eq(err.text, "one of -size or -mv is needed");
	cr_assert_eq(cmd_arg_one_of(both, names, &err), -EINVAL);
	json_decref(none);
	json_decref(one);
	json_decref(both);
}

Test(cmd_args, readers_tell_absent_from_empty)
{
	json_t *args = json_pack("{s:s, s:I}", "text", "", "size", (json_int_t)4096);
	struct base_size size;
	char buf[8] = "x";

	cr_assert_eq(cmd_arg_text(args, "text", buf, sizeof(buf), NULL), 0);
	cr_assert_str_eq(buf, "");
	cr_assert_eq(cmd_arg_text(args, "other", buf, sizeof(buf), NULL), CMD_ARG_ABSENT);
	cr_assert_eq(cmd_arg_size(args, "size", &size), 0);
	cr_assert_eq(size.bytes, 4096);
	cr_assert_not(size.is_increment);
	cr_assert_eq(cmd_arg_size(args, "other", &size), CMD_ARG_ABSENT);
	cr_assert_eq(cmd_arg_number(args, "other", 5), 5);
	json_decref(args);
}
