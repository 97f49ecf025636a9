/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carrying out a verb: here, in the daemon of a mounted pool, or on a pool that
 * is opened for this one request.
 */
#ifndef CMD_EXECUTE_H
#define CMD_EXECUTE_H

#include "cmd/outcome.h"
#include "cmd/registry.h"

/*
 * Runs verb with args (a JSON object) wherever it has to run. *ret may hold both an error and a result:
 * what could be found out although one of several pools could not be looked at.
 * Context: a command's main thread, before it has made threads.
 */
void cmd_execute(const struct cmd_verb *verb, json_t *args, struct cmd_progress *progress, struct cmd_outcome *ret);

/* As cmd_execute for a verb that has a run(), on the pool given. */
void cmd_execute_on(const struct cmd_pool_ref *pool, const struct cmd_verb *verb, json_t *args,
		    struct cmd_progress *progress, struct cmd_outcome *ret);

/* The pool that -sp of args names, or the default pool. Return: as cmd_registry_find, about the pool. */
MUST_CHECK int cmd_execute_pool(struct cmd_context *ctx, const json_t *args, struct cmd_pool_ref *ret,
				struct base_error *err);

/* Checks args and calls run() on the open pool in ctx: the daemon's part. ret->code may be CMD_ANSWER_AT_END. */
void cmd_run(const struct cmd_verb *verb, json_t *args, struct cmd_context *ctx, struct cmd_outcome *ret);

#endif
