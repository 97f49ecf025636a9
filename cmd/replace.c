/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replacing the daemon of a mount while it is in use: `bdfs mount -replace`.
 *
 * The new command copies the two descriptors that make a mount survive (the
 * FUSE device and the table of open files, see supervisor.c) out of the old
 * daemon, and looks whether it can read the table. Then it signals the old daemon to end: that one
 * lets the verbs under way finish, commits, and exits without unmounting. What it had not answered the
 * kernel sends again to the new daemon, as after a crash; its supervisor sees an exit and
 * ends as well.
 *
 *	old daemon: serves ............ commits, exits
 *	command:    copies, asks to end ............... forks supervisor and daemon -> takes over
 *
 * From the exit until the new daemon answers, programs on the mount wait: that is the pause, and it is printed.
 *
 * Failure modes: up to the exit nothing has changed and the old daemon goes on.
 * If the new daemon can't start after it, the mount is dead, as without a supervisor;
 * nothing that was completed is lost.
 */
#include "cmd/replace.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/control.h"
#include "cmd/text.h"
#include "fs/handles.h"

#define END_TIMEOUT_MS 60000

/* ---- in the old daemon --------------------------------------------------------------------- */

static int check_target(struct cmd_context *ctx, const json_t *args, struct base_error *err)
{
	char mountpoint[PATH_MAX];
	int r = cmd_arg_text(args, "mountpoint", mountpoint, sizeof(mountpoint), err);

	if (r < 0)
		return r;
	if (!ctx->service)
		return base_error_set(err, -ENOENT, "not mounted: mount it without -replace");
	if (strcmp(mountpoint, ctx->service->mountpoint) != 0)
		return base_error_set(err, -EBUSY, "mounted on %s, not on %s", ctx->service->mountpoint, mountpoint);
	if (ctx->service->handles_fd < 0)
		return base_error_set(err, -EOPNOTSUPP,
				      "%s was mounted without -survive, so its daemon can't be replaced: unmount it "
				      "and mount it again",
				      mountpoint);
	return 0;
}

int cmd_replace_serve(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int r = check_target(ctx, args, err);

	if (r < 0)
		return r;
	*ret_result = json_pack("{s:i, s:i, s:i}", "pid", (int)ctx->service->pid, "device_fd",
				ctx->service->device_fd, "handles_fd", ctx->service->handles_fd);
	return 0;
}

/* ---- in the command ------------------------------------------------------------------------- */

static int call(const struct cmd_daemon_args *d, struct cmd_outcome *ret, struct base_error *err)
{
	json_t *args = json_pack("{s:o, s:o, s:b}", "pool", cmd_text_to_json(d->pool.name), "mountpoint",
				 cmd_text_to_json(d->mountpoint), "replace", 1);
	int r = cmd_control_call(d->pool.directory, "mount", args, NULL, ret, err);

	json_decref(args);
	if (r == 0 && ret->code < 0) {
		if (err)
			*err = ret->err;
		r = ret->code;
	}
	if (r == CMD_NO_DAEMON)
		return base_error_set(err, -ENOENT, "%s: no daemon serves it: mount it without -replace",
				      d->pool.name);
	return r;
}

/* pidfd_open and pidfd_getfd are Linux 5.6, pidfd_send_signal is older; the C library of older distributions has no
 * names for them. */
static int copy_fd(int pid_fd, int fd)
{
	int copy = (int)syscall(SYS_pidfd_getfd, pid_fd, fd, 0);

	return copy < 0 ? -errno : copy;
}

static int copy_both(int pid_fd, const json_t *answer, struct cmd_kept *ret, struct base_error *err)
{
	struct fs_handles *handles;
	int r = 0;

	ret->device_fd = copy_fd(pid_fd, (int)json_integer_value(json_object_get(answer, "device_fd")));
	ret->handles_fd = copy_fd(pid_fd, (int)json_integer_value(json_object_get(answer, "handles_fd")));
	if (ret->device_fd < 0 || ret->handles_fd < 0)
		return base_error_set_errno(err, MIN(ret->device_fd, ret->handles_fd),
					    "can't take over the descriptors of the daemon (root is needed)");
	r = fs_handles_map(ret->handles_fd, &handles);
	if (r < 0)
		return base_error_set_errno(err, r, "the old daemon keeps its table of open files in another way");
	fs_handles_unmap(handles);
	return 0;
}

static int end_daemon(const struct cmd_daemon_args *d, int pid_fd, struct base_error *err)
{
	struct pollfd pfd = { .fd = pid_fd, .events = POLLIN };

	if (syscall(SYS_pidfd_send_signal, pid_fd, CMD_REPLACE_SIGNAL, NULL, 0) < 0)
		return base_error_set_errno(err, -errno, "%s: can't end the old daemon", d->pool.name);
	if (poll(&pfd, 1, END_TIMEOUT_MS) != 1)
		return base_error_set(err, -ETIMEDOUT, "%s: the old daemon does not end: its log says why",
				      d->pool.name);
	return 0;
}

static int take_over(const struct cmd_daemon_args *d, const json_t *answer, struct cmd_kept *ret,
		     struct base_error *err)
{
	pid_t pid = (pid_t)json_integer_value(json_object_get(answer, "pid"));
	int pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	int r;

	if (pid_fd < 0)
		return base_error_set_errno(err, -errno, "%s: the daemon, pid %d", d->pool.name, (int)pid);
	r = copy_both(pid_fd, answer, ret, err);
	if (r == 0)
		r = end_daemon(d, pid_fd, err);
	close(pid_fd);
	return r;
}

int cmd_replace_begin(const struct cmd_daemon_args *d, struct cmd_kept *ret, struct base_error *err)
{
	struct cmd_outcome outcome = { 0 };
	int r = call(d, &outcome, err);

	*ret = (struct cmd_kept)CMD_KEPT_NOTHING;
	if (r == 0)
		r = take_over(d, outcome.result, ret, err);
	cmd_outcome_done(&outcome);
	if (r < 0) {
		if (ret->device_fd >= 0)
			close(ret->device_fd);
		if (ret->handles_fd >= 0)
			close(ret->handles_fd);
	}
	return r;
}
