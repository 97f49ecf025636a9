/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon from within: what its files share.
 *
 *   daemon.c          opening in order, serving, closing in order
 *   daemon_service.c  what the verbs may ask of a running daemon
 *   daemon_start.c    the processes: fork, report to the command, supervisor
 *
 * Context: the main thread, unless said otherwise.
 */
#ifndef CMD_DAEMON_INTERNAL_H
#define CMD_DAEMON_INTERNAL_H

#include <pthread.h>

#include "cmd/daemon.h"
#include "cmd/hook.h"
#include "cmd/supervisor.h"
#include "cmd/verb.h"
#include "fs/fs.h"
#include "iocore/pool.h"
#include "meta/pool.h"
#include "meta/pv_fault.h"
#include "vtd/table.h"

struct cmd_daemon {
	const struct cmd_daemon_args *args;
	struct cmd_kept kept; /* by a supervisor, if there is one */
	struct base_fault *fault; /* NULL, or what goes wrong on purpose */
	struct meta_pv_fault_ctx pv_fault;
	struct meta_pool *meta;
	struct ioc_pool *ioc;
	struct fs_mount *fs;
	struct vtd_table *vtds;
	struct cmd_service service;
	struct cmd_background *background;
	struct cmd_dispatch *dispatch;
	struct cmd_hook *hook;
	pthread_t waiter;
	int gone_fd; /* eventfd: the mount is gone */
	int signal_fd;
	int log_fd;  /* inotify, or -1 */
	bool ending; /* a signal asked for the end */
	bool told_busy;
	uint64_t end_deadline_ns; /* when it comes although files are open */
};

/* ---- daemon.c ----------------------------------------------------------------------------- */

/* Makes d, blocks the signals that the daemon reads, prepares the process. Opens nothing. */
void cmd_daemon_begin(struct cmd_daemon *d, const struct cmd_daemon_args *args, const struct cmd_kept *kept);
/* Everything, up to the control socket. On failure nothing is left open. Return: 0; negative errno with err. */
MUST_CHECK int cmd_daemon_open(struct cmd_daemon *d, struct base_error *err);
/* Undoes a mount that nobody has been told of. */
void cmd_daemon_undo(struct cmd_daemon *d);
/* What the command is told of a daemon that is open. The caller owns it. */
json_t *cmd_daemon_describe(const struct cmd_daemon *d);
/* Serves until the mount is gone, then closes all. Return: 0; negative errno with err when the close failed. */
MUST_CHECK int cmd_daemon_serve(struct cmd_daemon *d, struct base_error *err);
void cmd_daemon_block_signals(void);

/* ---- daemon_service.c --------------------------------------------------------------------- */

/* Fills d->service; d has a mount. Its functions are called by the threads of the control socket. */
void cmd_daemon_fill_service(struct cmd_daemon *d);

#endif
