/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon: one process that serves one mounted pool.
 *
 * It forks before anything is opened (LMDB, rings and threads do not survive a
 * fork), and the command that started it returns when the mount answers, or
 * with the reason why it doesn't.
 */
#ifndef CMD_DAEMON_H
#define CMD_DAEMON_H

#include <limits.h>

#include "cmd/mount_options.h"
#include "cmd/outcome.h"
#include "cmd/registry.h"

struct cmd_daemon_args {
	struct cmd_pool_ref pool;
	char mountpoint[PATH_MAX]; /* absolute */
	struct cmd_mount_options options;
	char given_options[512]; /* as typed, to be shown */
	bool foreground;         /* serve in this process; return when the mount is gone */
	bool replace;            /* take over from the daemon that serves the mount now (replace.c) */
};

/*
 * Gives {"pool", "mountpoint", "pid", "engine", "engine_why", "queues"}; in the foreground with "ended": true.
 * Context: a process that has no other thread.
 */
MUST_CHECK int cmd_daemon_start(const struct cmd_daemon_args *args, json_t **ret_result, struct base_error *err);

/* ---- its parts ---------------------------------------------------------------------------- */

/* daemon_env.c. All of it as far as the process may: what it may not is done without. */
void cmd_env_prepare(void);
/* A line in the log for what the surroundings must then take care of. */
void cmd_env_say_what_lacks(void);
/* One datagram to systemd, if it started us and wants to know ("READY=1", "STOPPING=1"). */
void cmd_env_notify(const char *state);
bool cmd_env_is_journal(void); /* standard error leads to the journal */

/* daemon_log.c. Sends standard error to DIRECTORY/log, input and output to nowhere. ret_watch_fd: readable when the
 * log has grown. */
MUST_CHECK int cmd_log_begin(const char *directory, int *ret_watch_fd, struct base_error *err);
/* Drains watch_fd and begins a new log when this one is over 1 MiB; the old one is DIRECTORY/log.1. */
void cmd_log_turn(const char *directory, int watch_fd);

/* daemon_verbs.c: the verbs that come over the control socket. */
struct cmd_dispatch;
struct cmd_dispatch_args {
	const char *directory;
	struct meta_pool *meta;
	struct ioc_pool *ioc;
	const struct cmd_service *service;
};
MUST_CHECK int cmd_dispatch_start(const struct cmd_dispatch_args *args, struct cmd_dispatch **ret,
				  struct base_error *err);
/* No verb runs any more when this returns; those that wait for the end of the daemon still wait. */
void cmd_dispatch_stop(struct cmd_dispatch *dispatch);
/* Tells them how it ended (code 0, or err) and frees. */
void cmd_dispatch_free(struct cmd_dispatch *dispatch, int code, const struct base_error *err);

/* mounts.c: who is mounted where, by /proc/self/mountinfo. */
struct cmd_mount_entry {
	char mountpoint[PATH_MAX];
	char source[PATH_MAX];
};
/* The last bdfs mount whose mount point (if not NULL) and source (if not NULL) are these. Return: 0, -ENOENT. */
MUST_CHECK int cmd_mount_find(const char *mountpoint, const char *source, struct cmd_mount_entry *ret);
/* Whether the daemon of a mount is gone. One that does not answer within seconds counts as being there. */
bool cmd_mount_is_dead(const char *mountpoint);
/* Unmounts as umount(8) does. Return: 0; -EBUSY (files are open, and it is not lazy); -EPERM; others; with err. */
MUST_CHECK int cmd_mount_remove(const char *mountpoint, bool lazy, struct base_error *err);

#endif
