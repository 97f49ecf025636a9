/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's processes: in the foreground or behind the command, alone or
 * under a supervisor.
 *
 * The command forks before anything is opened. The child leads a session of its
 * own, opens everything (daemon.c) and reports success, or the error's text,
 * over a socket pair; the command prints that and exits. Only then does standard
 * error go to the log, so that what goes wrong on the way is seen by whoever
 * typed the command. In the foreground there is no fork and no report, all else
 * is the same.
 *
 *   command -> daemon                       in the background
 *   command -> supervisor -> daemon, ...    with the option "survive"
 *
 * The supervisor (supervisor.c) starts another daemon when one dies; that one
 * finds the mount there and takes it over.
 *
 * Failure modes: if the command is interrupted before the report, the child
 * finds nobody to report to and undoes all. A daemon that dies before its report
 * is told by the command, with the signal or status. When the supervisor gives
 * up, the log says so and the mount is dead.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/park.h"
#include "cmd/daemon_internal.h"
#include "cmd/frame.h"
#include "cmd/replace.h"
#include "cmd/text.h"

#define REPORT_TIMEOUT_MS 10000

/* ---- in the foreground -------------------------------------------------------------------- */

static int run_in_foreground(const struct cmd_daemon_args *args, json_t **ret_result, struct base_error *err)
{
	static const struct cmd_kept nothing = CMD_KEPT_NOTHING;
	struct cmd_daemon d;

	cmd_daemon_begin(&d, args, &nothing);

	int r = cmd_daemon_open(&d, err);

	if (r < 0)
		return r;

	json_t *result = cmd_daemon_describe(&d);

	r = cmd_daemon_serve(&d, err);
	if (r < 0) {
		json_decref(result);
		return r;
	}
	json_object_set_new(result, "ended", json_true());
	*ret_result = result;
	return 0;
}

/* ---- in the background -------------------------------------------------------------------- */

static int send_report(int fd, int code, json_t *result, const struct base_error *err)
{
	struct cmd_outcome outcome = { .code = code, .result = result };

	if (code < 0)
		outcome.err = *err;

	json_t *report = cmd_outcome_to_json(&outcome);
	int r = cmd_frame_send(fd, report, REPORT_TIMEOUT_MS);

	json_decref(report);
	cmd_outcome_done(&outcome);
	close(fd);
	return r;
}

/* The supervisor reads them from a descriptor; a daemon takes them off again. */
static void block_child_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

struct background {
	const struct cmd_daemon_args *args;
	int report_fd; /* -1: the command has its answer */
};

/* The first one, which is waited for. Return: the exit status. */
static int run_first(const struct background *b, const struct cmd_kept *kept)
{
	const struct cmd_daemon_args *args = b->args;
	struct base_error err = { 0 };
	struct cmd_daemon d;

	cmd_daemon_begin(&d, args, kept);

	int r = cmd_daemon_open(&d, &err);

	if (r == 0 && !cmd_env_is_journal()) {
		r = cmd_log_begin(args->pool.directory, &d.log_fd, &err);
		if (r < 0)
			cmd_daemon_undo(&d);
	}
	if (r < 0)
		return send_report(b->report_fd, r, NULL, &err) < 0 ? CMD_EXIT_NOT_COMPLETED : CMD_EXIT_OK;
	if (send_report(b->report_fd, 0, cmd_daemon_describe(&d), NULL) < 0) {
		log_warning("pool %s: the mount command went away: unmounting again", args->pool.name);
		cmd_daemon_undo(&d);
		return CMD_EXIT_NOT_COMPLETED;
	}
	r = cmd_daemon_serve(&d, &err);
	return r < 0 ? CMD_EXIT_NOT_COMPLETED : CMD_EXIT_OK;
}

/* One whose errors go to standard error or the log. r: how it went so far. Return: the exit status. */
static int open_and_serve(struct cmd_daemon *d, int r, struct base_error *err)
{
	if (r == 0)
		r = cmd_daemon_open(d, err);
	if (r == 0)
		r = cmd_daemon_serve(d, err);
	if (r < 0)
		log_error("%s", err->text);
	return r < 0 ? CMD_EXIT_NOT_COMPLETED : CMD_EXIT_OK;
}

/* One that comes after a dead one. Return: the exit status. */
static int run_next(const struct cmd_daemon_args *args, const struct cmd_kept *kept)
{
	struct base_error err = { 0 };
	struct cmd_daemon d;

	cmd_daemon_begin(&d, args, kept);

	int r = args->foreground || cmd_env_is_journal() ? 0 : cmd_log_begin(args->pool.directory, &d.log_fd, &err);

	log_warning("pool %s: the daemon was ended by signal %d (%s): another one takes over the mount",
		    args->pool.name, kept->signal, strsignal(kept->signal));
	return open_and_serve(&d, r, &err);
}

static int run_daemon(void *ctx, const struct cmd_kept *kept)
{
	const struct background *b = ctx;

	return b->report_fd >= 0 ? run_first(b, kept) : run_next(b->args, kept);
}

/* The supervisor: what it has of the command's must not keep a terminal or the command waiting. */
static void detach(void *ctx)
{
	struct background *b = ctx;
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	close(b->report_fd);
	b->report_fd = -1;
	for (int fd = 0; fd <= 2 && null_fd >= 0; fd++)
		dup2(null_fd, fd);
	if (null_fd > 2)
		close(null_fd);
}

static void tell_given_up(const struct cmd_daemon_args *args, int status)
{
	int watch_fd;

	if (!cmd_env_is_journal() && cmd_log_begin(args->pool.directory, &watch_fd, NULL) < 0)
		return;
	log_error("pool %s: the daemon was ended by signal %d, and no other one is started: %s is dead; mount again",
		  args->pool.name, status - 128, args->mountpoint);
}

/*
 * What the command has inherited must not stay open as long as the daemon lives: least of all a file in the mount
 * that it takes over.
 */
static void close_inherited(int report_fd, const struct cmd_kept *kept)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (fd > STDERR_FILENO && fd != dirfd(dir) && fd != report_fd && fd != kept->device_fd &&
		    fd != kept->handles_fd)
			close(fd);
	}
	if (dir)
		closedir(dir);
}

/* The child. Does not return. */
static void run_in_background(const struct cmd_daemon_args *args, const struct cmd_kept *kept, int report_fd)
{
	struct background b = { .args = args, .report_fd = report_fd };
	struct base_error err = { 0 };

	setsid();
	close_inherited(report_fd, kept);
	if (chdir("/") < 0)
		log_debug("can't leave the working directory: %m");
	if (!args->options.survive)
		exit(run_daemon(&b, kept)); /* not _exit: a sanitizer reports leaks at exit */
	cmd_daemon_block_signals();
	block_child_signals();

	int r = cmd_supervise(run_daemon, detach, &b, kept, &err);

	if (r < 0 && b.report_fd >= 0)
		(void)send_report(b.report_fd, r, NULL, &err);
	if (r >= 128)
		tell_given_up(args, r);
	exit(r < 0 ? CMD_EXIT_NOT_COMPLETED : r);
}

static int await_report(int fd, pid_t child, json_t **ret_result, struct base_error *err)
{
	struct cmd_outcome outcome = { 0 };
	json_t *report;
	int status = 0;
	int r = cmd_frame_receive(fd, CMD_REQUEST_BYTES_MAX, -1, &report);

	if (r == 0) {
		r = cmd_outcome_from_json(report, &outcome);
		json_decref(report);
	}
	if (r == 0 && outcome.code == 0) {
		*ret_result = outcome.result;
		return 0;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return base_error_set(err, -EIO, "the daemon ended (%s %d) before the mount was there",
				      WIFSIGNALED(status) ? "signal" : "status",
				      WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	if (err)
		*err = outcome.err;
	return outcome.code;
}

/* ---- in the foreground, with a supervisor ------------------------------------------------- */

static int run_child(void *ctx, const struct cmd_kept *kept)
{
	const struct cmd_daemon_args *args = ctx;
	struct base_error err = { 0 };
	struct cmd_daemon d;

	if (kept->device_fd >= 0)
		return run_next(args, kept);
	cmd_daemon_begin(&d, args, kept);
	return open_and_serve(&d, 0, &err);
}

static int supervise_in_foreground(const struct cmd_daemon_args *args, json_t **ret_result, struct base_error *err)
{
	fflush(NULL);
	cmd_daemon_block_signals();
	block_child_signals();

	struct cmd_kept kept = CMD_KEPT_NOTHING;
	int r = cmd_supervise(run_child, NULL, (void *)args, &kept, err);

	if (r < 0)
		return r;
	if (r > 0)
		return base_error_set(err, -EIO, "%s: the daemon ended with status %d, see the messages above",
				      args->pool.name, r);
	*ret_result = json_pack("{s:o, s:o, s:b}", "pool", cmd_text_to_json(args->pool.name), "mountpoint",
				cmd_text_to_json(args->mountpoint), "ended", 1);
	return 0;
}

int cmd_daemon_start(const struct cmd_daemon_args *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_kept kept = CMD_KEPT_NOTHING;
	uint64_t began_ns = base_clock_ns();
	int fds[2];

	if (args->foreground)
		return args->options.survive ? supervise_in_foreground(args, ret_result, err) :
					       run_in_foreground(args, ret_result, err);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return base_error_set_errno(err, -errno, "can't start the daemon");
	fflush(NULL); /* nothing buffered is to come out twice */
	if (args->replace) {
		int rc = cmd_replace_begin(args, &kept, err);

		if (rc < 0)
			return rc;
	}

	pid_t child = fork();

	if (child == 0) {
		close(fds[0]);
		run_in_background(args, &kept, fds[1]);
	}
	close(fds[1]);

	int r = child < 0 ? base_error_set_errno(err, -errno, "can't start the daemon")
			  : await_report(fds[0], child, ret_result, err);

	close(fds[0]);
	if (r == 0 && args->replace)
		json_object_set_new(*ret_result, "replaced_ms",
				    json_integer((json_int_t)((base_clock_ns() - began_ns) / 1000000)));
	return r;
}
