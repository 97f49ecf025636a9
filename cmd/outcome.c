/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a verb ended, in its three shapes, and the one table from error codes to
 * exit statuses.
 *
 * The statuses are the Virtual I/O Server's: 1 usage, 2 not found, 3 no access,
 * 4 did not complete, 18 out of memory. Three verbs have more: chbdsp and its
 * siblings tell a pool that is not there (23) from a backing device that is not
 * there (39) and from a name that is too long (40). An errno alone can't say
 * which of those it is, so a verb notes what it was looking for (the subject),
 * and that travels with the error from the daemon to the command.
 *
 * Codes that are in no row did not complete: 4. So a new errno somewhere below
 * is never mistaken for success or for a user's typing error.
 *
 * Failure modes: a text that is no UTF-8 (a name in it isn't) goes through
 * cmd/text.h as names do; an answer of a peer that has neither a result nor a
 * well-formed error is -EBADMSG.
 */
#include <errno.h>
#include <string.h>

#include "cmd/outcome.h"
#include "cmd/text.h"

#define ERRNO_MAX 4095

static const char *const subject_words[] = {
	[CMD_SUBJECT_NONE] = "",
	[CMD_SUBJECT_POOL] = "pool",
	[CMD_SUBJECT_BD] = "bd",
};

/* The first row that fits is taken. */
static const struct {
	int code;
	enum cmd_subject subject; /* NONE = whatever it is about */
	bool bdsp_only;           /* chbdsp, mkbdsp and rmbdsp */
	enum cmd_exit status;
} exits[] = {
	{ 0, CMD_SUBJECT_NONE, false, CMD_EXIT_OK },
	{ -ENOENT, CMD_SUBJECT_POOL, true, CMD_EXIT_BAD_POOL },
	{ -ENOENT, CMD_SUBJECT_BD, true, CMD_EXIT_NO_BD },
	{ -ENAMETOOLONG, CMD_SUBJECT_BD, true, CMD_EXIT_LONG_NAME },
	{ -EINVAL, CMD_SUBJECT_NONE, false, CMD_EXIT_USAGE },
	{ -ENAMETOOLONG, CMD_SUBJECT_NONE, false, CMD_EXIT_USAGE },
	{ -EFBIG, CMD_SUBJECT_NONE, false, CMD_EXIT_USAGE },
	{ -ERANGE, CMD_SUBJECT_NONE, false, CMD_EXIT_USAGE },
	{ -EOPNOTSUPP, CMD_SUBJECT_NONE, false, CMD_EXIT_USAGE },
	{ -ENOENT, CMD_SUBJECT_NONE, false, CMD_EXIT_NOT_FOUND },
	{ -ENXIO, CMD_SUBJECT_NONE, false, CMD_EXIT_NOT_FOUND },
	{ -ENODEV, CMD_SUBJECT_NONE, false, CMD_EXIT_NOT_FOUND },
	{ -ENOTDIR, CMD_SUBJECT_NONE, false, CMD_EXIT_NOT_FOUND },
	{ -EACCES, CMD_SUBJECT_NONE, false, CMD_EXIT_NO_ACCESS },
	{ -EPERM, CMD_SUBJECT_NONE, false, CMD_EXIT_NO_ACCESS },
	{ -ENOMEM, CMD_SUBJECT_NONE, false, CMD_EXIT_NO_MEMORY },
};

static bool is_bdsp(const char *verb)
{
	return strcmp(verb, "chbdsp") == 0 || strcmp(verb, "mkbdsp") == 0 || strcmp(verb, "rmbdsp") == 0;
}

enum cmd_exit cmd_exit_status(const char *verb, int code, enum cmd_subject subject)
{
	for (size_t i = 0; i < ARRAY_LEN(exits); i++)
		if (exits[i].code == code && (!exits[i].bdsp_only || is_bdsp(verb)) &&
		    (exits[i].subject == CMD_SUBJECT_NONE || exits[i].subject == subject))
			return exits[i].status;
	return CMD_EXIT_NOT_COMPLETED;
}

int cmd_exit_status_for_mount(enum cmd_exit status)
{
	enum { MOUNT_OK = 0, MOUNT_USAGE_OR_PERMISSION = 1, MOUNT_SYSTEM = 2, MOUNT_FAILED = 32 };

	if (status == CMD_EXIT_OK)
		return MOUNT_OK;
	if (status == CMD_EXIT_USAGE || status == CMD_EXIT_NO_ACCESS)
		return MOUNT_USAGE_OR_PERMISSION;
	return status == CMD_EXIT_NO_MEMORY ? MOUNT_SYSTEM : MOUNT_FAILED;
}

void cmd_outcome_done(struct cmd_outcome *outcome)
{
	json_decref(outcome->result);
	outcome->result = NULL;
}

static json_t *error_to_json(const struct cmd_outcome *outcome)
{
	const char *name = strerrorname_np(-outcome->code);

	return json_pack("{s:{s:s, s:i, s:s, s:o}}", "error", "code", name ? name : "EIO", "errno", -outcome->code,
			 "about", subject_words[outcome->subject], "text", cmd_text_to_json(outcome->err.text));
}

json_t *cmd_outcome_to_json(const struct cmd_outcome *outcome)
{
	json_t *answer = outcome->code < 0 ? error_to_json(outcome) : json_object();

	if (outcome->result && json_object_set(answer, "result", outcome->result)) {
		json_decref(answer);
		return NULL;
	}
	return answer;
}

static int error_from_json(const json_t *error, struct cmd_outcome *ret)
{
	json_int_t number = json_integer_value(json_object_get(error, "errno"));
	const char *about = json_string_value(json_object_get(error, "about"));
	int r = cmd_text_from_json(json_object_get(error, "text"), ret->err.text, sizeof(ret->err.text));

	if (number < 1 || number > ERRNO_MAX || r < 0)
		return -EBADMSG;
	ret->code = ret->err.code = -(int)number;
	for (size_t i = 0; about && i < ARRAY_LEN(subject_words); i++)
		if (strcmp(about, subject_words[i]) == 0)
			ret->subject = (enum cmd_subject)i;
	return 0;
}

int cmd_outcome_from_json(const json_t *answer, struct cmd_outcome *ret)
{
	json_t *result = json_object_get(answer, "result");
	const json_t *error = json_object_get(answer, "error");

	*ret = (struct cmd_outcome){ 0 };
	if (error && error_from_json(error, ret) < 0)
		return -EBADMSG;
	if (result ? !json_is_object(result) : !error)
		return -EBADMSG;
	ret->result = json_incref(result);
	return 0;
}
