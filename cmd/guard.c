/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks: what freezes a guest before its disks are snapshotted, and thaws it.
 *
 * The hook before runs as a child in the terminal's foreground, so Ctrl-C ends
 * it, and that cancels. The hook after must run whatever happens to us: a guest
 * that stays frozen is worse than no snapshot. So it belongs to a guard, a
 * process of a session of its own that is started first and waits at the end of
 * a pipe. We tell it how things went and it runs the hook; if we are killed the
 * pipe ends without a word, and it runs the hook all the same.
 *
 *   command:  guard_start ... hook before ... snapshot ... guard_end
 *   guard:    read of the pipe ............................ hook after, exit
 *
 * A hook gets what it may want to know in its environment: BDFS_POOL,
 * BDFS_SNAPSHOT and BDFS_LUS, set by the caller; the one after also BDFS_STATUS,
 * which is "done" or "failed".
 *
 * Failure modes: a hook that can't be started, ends with anything but 0 or by a
 * signal is -ECANCELED with words that say so. Only killing the guard itself, or
 * the end of the machine, keeps the hook after from running.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/guard.h"

/* Return: as waitpid's status; negative errno. */
static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status;
}

static int judge(const char *option, int status, struct base_error *err)
{
	if (status < 0)
		return base_error_set_errno(err, -ECANCELED, "-%s: its end could not be waited for", option);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status))
		return base_error_set(err, -ECANCELED, "-%s: ended with status %d", option, WEXITSTATUS(status));
	return base_error_set(err, -ECANCELED, "-%s: ended by signal %d", option, WTERMSIG(status));
}

int cmd_guard_run(const char *option, const char *command, struct base_error *err)
{
	char *const words[] = { "sh", "-c", (char *)command, NULL };
	pid_t pid;
	int r = posix_spawn(&pid, "/bin/sh", NULL, NULL, words, environ);

	if (r != 0)
		return base_error_set_errno(err, -ECANCELED, "-%s: the shell can't be started (error %d)", option, r);
	return judge(option, wait_for(pid), err);
}

/* The guard's life. */
_Noreturn static void guard(int fd, const char *command)
{
	char word = 'f';
	ssize_t n;

	setsid();
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	while ((n = read(fd, &word, 1)) < 0 && errno == EINTR)
		;
	close(fd);
	signal(SIGINT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	setenv("BDFS_STATUS", n == 1 && word == 'd' ? "done" : "failed", 1);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

int cmd_guard_start(const char *command, struct cmd_guard *ret, struct base_error *err)
{
	int fds[2];

	*ret = (struct cmd_guard){ .fd = -1 };
	if (!command)
		return 0;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return base_error_set_errno(err, -errno, "can't make a pipe");
	ret->pid = fork();
	if (ret->pid < 0) {
		int r = base_error_set_errno(err, -errno, "can't start the process for the command after");

		*ret = (struct cmd_guard){ .fd = -1 };
		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (ret->pid == 0) {
		close(fds[1]);
		guard(fds[0], command);
	}
	close(fds[0]);
	ret->fd = fds[1];
	return 0;
}

int cmd_guard_end(struct cmd_guard *guard_process, const char *option, bool done, struct base_error *err)
{
	pid_t pid = guard_process->pid;

	if (pid == 0)
		return 0;
	/* A guard that is gone (somebody killed it) is found out by its status. */
	signal(SIGPIPE, SIG_IGN);
	if (write(guard_process->fd, done ? "d" : "f", 1) < 0)
		base_error_set_errno(err, -errno, "-%s: can't be told", option);
	close(guard_process->fd);
	*guard_process = (struct cmd_guard){ .fd = -1 };
	return judge(option, wait_for(pid), err);
}
