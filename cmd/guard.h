/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that run around a verb: freeze before a snapshot, thaw after it.
 *
 * Context: a command's own process, never the daemon; before it has made threads.
 */
#ifndef CMD_GUARD_H
#define CMD_GUARD_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* Runs command by sh and waits for it. Return: 0; -ECANCELED with err: it could not be run, or did not end with 0. */
MUST_CHECK int cmd_guard_run(const char *option, const char *command, struct base_error *err);

/* A process that runs a command when it is told to, or when the one that made it is gone. */
struct cmd_guard {
	pid_t pid; /* 0 = none */
	int fd;
};

/* command NULL: a guard that has nothing to do. Return: 0; negative errno with err. */
MUST_CHECK int cmd_guard_start(const char *command, struct cmd_guard *ret, struct base_error *err);
/* Has the command run, with BDFS_STATUS "done" or "failed", and waits for it. Return: as cmd_guard_run. */
MUST_CHECK int cmd_guard_end(struct cmd_guard *guard, const char *option, bool done, struct base_error *err);

#endif
