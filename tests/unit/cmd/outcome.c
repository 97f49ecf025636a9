/* SPDX-License-Identifier: Apache-2.0 */
/* How a verb ended: the table of exit statuses, and the way over the control socket. */
#include <criterion/criterion.h>
#include <errno.h>

#include "cmd/outcome.h"

Test(cmd_outcome, exit_statuses_are_the_documented_ones)
{
	static const struct {
		const char *verb;
		int code;
		enum cmd_subject subject;
		int status;
	} cases[] = {
		{ "lssp", 0, CMD_SUBJECT_NONE, 0 },           { "lssp", -EINVAL, CMD_SUBJECT_NONE, 1 },
		{ "lssp", -EOPNOTSUPP, CMD_SUBJECT_NONE, 1 }, { "mkbdsp", -EFBIG, CMD_SUBJECT_NONE, 1 },
		{ "lu", -ENAMETOOLONG, CMD_SUBJECT_BD, 1 },   { "lssp", -ENOENT, CMD_SUBJECT_POOL, 2 },
		{ "lu", -ENOENT, CMD_SUBJECT_BD, 2 },         { "mount", -ENXIO, CMD_SUBJECT_NONE, 2 },
		{ "lssp", -EACCES, CMD_SUBJECT_NONE, 3 },     { "mount", -EPERM, CMD_SUBJECT_NONE, 3 },
		{ "rmbdsp", -EBUSY, CMD_SUBJECT_BD, 4 },      { "mkbdsp", -EEXIST, CMD_SUBJECT_BD, 4 },
		{ "mkbdsp", -ENOSPC, CMD_SUBJECT_NONE, 4 },   { "lssp", -EIO, CMD_SUBJECT_NONE, 4 },
		{ "lssp", -4000, CMD_SUBJECT_NONE, 4 }, /* none that there is */
		{ "lssp", -ENOMEM, CMD_SUBJECT_NONE, 18 },    { "chbdsp", -ENOENT, CMD_SUBJECT_POOL, 23 },
		{ "mkbdsp", -ENOENT, CMD_SUBJECT_POOL, 23 },  { "chbdsp", -ENOENT, CMD_SUBJECT_BD, 39 },
		{ "rmbdsp", -ENOENT, CMD_SUBJECT_BD, 39 },    { "chbdsp", -ENAMETOOLONG, CMD_SUBJECT_BD, 40 },
		{ "chbdsp", -ENOENT, CMD_SUBJECT_NONE, 2 }, /* a missing pv, say */
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		cr_assert_eq((int)cmd_exit_status(cases[i].verb, cases[i].code, cases[i].subject), cases[i].status,
			     "%s, code %d", cases[i].verb, cases[i].code);
}

Test(cmd_outcome, mount_gets_the_statuses_of_mount)
{
	cr_assert_eq(cmd_exit_status_for_mount(CMD_EXIT_OK), 0);
	cr_assert_eq(cmd_exit_status_for_mount(CMD_EXIT_USAGE), 1);
	cr_assert_eq(cmd_exit_status_for_mount(CMD_EXIT_NO_ACCESS), 1);
	cr_assert_eq(cmd_exit_status_for_mount(CMD_EXIT_NO_MEMORY), 2);
	cr_assert_eq(cmd_exit_status_for_mount(CMD_EXIT_NOT_FOUND), 32);
	cr_assert_eq(cmd_exit_status_for_mount(CMD_EXIT_NOT_COMPLETED), 32);
}

Test(cmd_outcome, an_error_comes_back_with_code_text_and_subject)
{
	struct cmd_outcome there = { .code = -ENOENT, .subject = CMD_SUBJECT_BD }, back;

	base_error_set(&there.err, -ENOENT, "web\xff: no such disk");

	json_t *json = cmd_outcome_to_json(&there);

	cr_assert_eq(cmd_outcome_from_json(json, &back), 0);
	cr_assert_eq(back.code, -ENOENT);
	cr_assert_eq(back.subject, CMD_SUBJECT_BD);
	cr_assert_str_eq(back.err.text, "web\xff: no such disk");
	cr_assert_str_eq(json_string_value(json_object_get(json_object_get(json, "error"), "code")), "ENOENT");
	json_decref(json);
}

Test(cmd_outcome, a_result_comes_back)
{
	struct cmd_outcome there = { .result = json_pack("{s:i}", "n", 7) }, back;
	json_t *json = cmd_outcome_to_json(&there);

	cr_assert_eq(cmd_outcome_from_json(json, &back), 0);
	cr_assert_eq(back.code, 0);
	cr_assert_eq(json_integer_value(json_object_get(back.result, "n")), 7);
	json_decref(json);
	cmd_outcome_done(&there);
	cmd_outcome_done(&back);
}

Test(cmd_outcome, an_answer_that_is_neither_is_refused)
{
	static const char *const answers[] = {
		"{}",
		"{\"result\": 7}",
		"{\"error\": \"text\"}",
		"{\"error\": {}}",
		"{\"error\": {\"errno\": 0, \"text\": \"x\"}}",
		"{\"error\": {\"errno\": -2, \"text\": \"x\"}}",
		"{\"error\": {\"errno\": 1000000, \"text\": \"x\"}}",
		"{\"error\": {\"errno\": 2, \"text\": 5}}",
	};

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		json_t *json = json_loads(answers[i], 0, NULL);
		struct cmd_outcome outcome;

		cr_assert_eq(cmd_outcome_from_json(json, &outcome), -EBADMSG, "%s", answers[i]);
		json_decref(json);
	}
}
