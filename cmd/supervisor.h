/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor: a small process that outlives the daemon and keeps its mount.
 *
 * It holds the FUSE device and the table of open files. When the daemon dies it
 * starts another, which takes the mount over: programs and loop devices on the
 * files wait for a moment, and nothing fails.
 */
#ifndef CMD_SUPERVISOR_H
#define CMD_SUPERVISOR_H

#include "base/error.h"
#include "base/types.h"

/* What a daemon is given. */
struct cmd_kept {
	int keeper_fd;  /* where to hand the device to; -1: there is no supervisor */
	int handles_fd; /* fs/handles.h; -1: there is no supervisor */
	int device_fd;  /* of the mount to take over; -1: mount */
	int signal;     /* what the daemon before died of; 0: none did */
};
#define CMD_KEPT_NOTHING                                                                                             \
	{                                                                                                            \
		.keeper_fd = -1, .handles_fd = -1, .device_fd = -1                                                   \
	}

/*
 * Forks the first daemon, and another one whenever one dies of a signal while it had a mount. run: in the child,
 * returns its exit status. begin: what there is of a mount already. detach: in this process after the first fork (may
 * be NULL). Return: the last daemon's exit status, 128 + signal when it died and can't be followed by another;
 * negative errno with err when none could be started. Context: a process that has no other thread, with SIGCHLD,
 * SIGTERM and SIGINT blocked.
 */
MUST_CHECK int cmd_supervise(int (*run)(void *ctx, const struct cmd_kept *kept), void (*detach)(void *ctx), void *ctx,
			     const struct cmd_kept *begin, struct base_error *err);

/* The daemon's: hands the device to the supervisor. Return: 0; negative errno. */
MUST_CHECK int cmd_supervisor_keep(int keeper_fd, int device_fd);

#endif
