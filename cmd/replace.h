/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bdfs mount -replace`: a daemon takes over from one that is alive.
 */
#ifndef CMD_REPLACE_H
#define CMD_REPLACE_H

#include <signal.h>

#include "cmd/daemon.h"
#include "cmd/supervisor.h"
#include "cmd/verb.h"

/* Tells a daemon that is to be replaced to end. */
#define CMD_REPLACE_SIGNAL SIGUSR2

/*
 * In the command: ends the daemon that serves d->mountpoint, and gives what it kept; the descriptors are then the
 * caller's. Return: 0; -ENOENT (nobody serves it), -EOPNOTSUPP (mounted without -survive), -EPERM, -ENOSYS (before
 * Linux 5.6), -EBADMSG (a version that keeps its table differently), others; with err. On failure the old daemon goes
 * on, but for -ETIMEDOUT.
 */
MUST_CHECK int cmd_replace_begin(const struct cmd_daemon_args *d, struct cmd_kept *ret, struct base_error *err);

/* In the daemon: the verb `mount` as it comes over the control socket. */
MUST_CHECK int cmd_replace_serve(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err);

#endif
