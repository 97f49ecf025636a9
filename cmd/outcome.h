/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a verb ended: a result or an error, as the daemon answers it, as --json
 * prints it, and as an exit status.
 *
 * Context: any thread; an outcome belongs to its caller.
 */
#ifndef CMD_OUTCOME_H
#define CMD_OUTCOME_H

#include "cmd/verb.h"

struct cmd_outcome {
	int code;                 /* 0; a negative errno; CMD_ANSWER_AT_END in the daemon only */
	enum cmd_subject subject; /* what a "not found" is about */
	json_t *result;           /* when code is 0, and of some verbs also beside an error; owned */
	struct base_error err;    /* when code is negative */
};

void cmd_outcome_done(struct cmd_outcome *outcome);

/* {"result": ...}, {"error": {"code": "ENOENT", "errno": 2, "about": "bd", "text": ...}}, or both. NULL when memory is
 * short. */
json_t *cmd_outcome_to_json(const struct cmd_outcome *outcome);
/* Return: 0; -EBADMSG when it is neither. */
MUST_CHECK int cmd_outcome_from_json(const json_t *answer, struct cmd_outcome *ret);

enum cmd_exit {
	CMD_EXIT_OK = 0,
	CMD_EXIT_USAGE = 1,
	CMD_EXIT_NOT_FOUND = 2,
	CMD_EXIT_NO_ACCESS = 3,
	CMD_EXIT_NOT_COMPLETED = 4,
	CMD_EXIT_NO_MEMORY = 18,
	CMD_EXIT_BAD_POOL = 23,  /* chbdsp, mkbdsp, rmbdsp: no such pool */
	CMD_EXIT_NO_BD = 39,     /* ...: no such backing device in the pool */
	CMD_EXIT_LONG_NAME = 40, /* ...: the name of the backing device is too long */
};

/* The exit status of `bdfs verb`. */
enum cmd_exit cmd_exit_status(const char *verb, int code, enum cmd_subject subject);
/* What mount(8) wants from its helper for an exit status of ours. */
int cmd_exit_status_for_mount(enum cmd_exit status);

#endif
