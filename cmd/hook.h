/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hook: a program that is run for each alarm of a mounted pool.
 *
 * Its name comes from who mounts the pool, never from the pool or the control
 * socket: it runs with the daemon's rights.
 *
 * Context: CTL, after the fork.
 */
#ifndef CMD_HOOK_H
#define CMD_HOOK_H

#include "base/error.h"

struct cmd_hook;
struct meta_pool;

/* An absolute path of something that can be run. Return: 0; -EINVAL; what access says; with err. */
MUST_CHECK int cmd_hook_check(const char *path, struct base_error *err);
/* path and pool are copied. Return: 0, -ENOMEM or what starting a thread says, with err. */
MUST_CHECK int cmd_hook_start(const char *path, const char *pool, struct meta_pool *meta, struct cmd_hook **ret,
			      struct base_error *err);
/* Waits for the run under way, which is ended if it takes long. NULL is fine. */
void cmd_hook_stop(struct cmd_hook *hook);

#endif
