/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A verb's arguments: checked once against its option table, then read.
 *
 * The check runs in the command and again in the daemon, which believes no
 * peer. The readers may be called on arguments that passed it only for the
 * options of the verb's own table.
 *
 * Context: any thread, pure.
 */
#ifndef CMD_ARGS_H
#define CMD_ARGS_H

#include "base/units.h"
#include "cmd/verb.h"

/* Return: 0; -EINVAL (unknown key, wrong type, missing option); -EOPNOTSUPP (an option of a later release). */
MUST_CHECK int cmd_args_check(const struct cmd_verb *verb, const json_t *args, struct base_error *err);

bool cmd_arg_is_set(const json_t *args, const char *name);
bool cmd_arg_flag(const json_t *args, const char *name);

enum { CMD_ARG_ABSENT = 1 };
/* Return: 0; CMD_ARG_ABSENT; -ENAMETOOLONG with err. */
MUST_CHECK int cmd_arg_text(const json_t *args, const char *name, char *buf, size_t room, struct base_error *err);
/* Return: 0; CMD_ARG_ABSENT. */
MUST_CHECK int cmd_arg_size(const json_t *args, const char *name, struct base_size *ret);
/* The number, or if_absent. */
int64_t cmd_arg_number(const json_t *args, const char *name, int64_t if_absent);
/* How many strings a list holds, and one of them. */
size_t cmd_arg_list_count(const json_t *args, const char *name);
MUST_CHECK int cmd_arg_list_item(const json_t *args, const char *name, size_t i, char *buf, size_t room,
				 struct base_error *err);

/* Exactly one of the flags (NULL at the end) must be set: its index, or -EINVAL with err naming them. */
MUST_CHECK int cmd_arg_one_of(const json_t *args, const char *const names[], struct base_error *err);

/* A size as JSON has it. New reference. */
json_t *cmd_size_to_json(const struct base_size *size);

#endif
