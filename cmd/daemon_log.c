/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's log file, bounded.
 *
 * Standard error is turned to `log` in the pool's directory, not to a pipe that
 * a thread reads: what a dying process says last must be on the file. So that
 * the file stays bounded without a timer that wakes an idle daemon, an inotify
 * watch tells the main thread when it was written to; above 1 MiB it becomes
 * log.1, in place of the one before, and a new one is begun.
 *
 * Writers need no lock: they write to descriptor 2, and dup2() changes what that
 * is in one step. A line under way goes to the one or the other file.
 *
 * Failure modes: no new file can be made (the file system is full): the old one
 * is kept, and it is tried again at the next line.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/daemon.h"

#define LOG_BYTES_MAX MIB

static int open_log(const char *directory)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/log", directory) >= (int)sizeof(path))
		return -ENAMETOOLONG;

	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

static int watch_log(int watch_fd, const char *directory)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/log", directory);
	return inotify_add_watch(watch_fd, path, IN_MODIFY) < 0 ? -errno : 0;
}

static void mute_input_and_output(void)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null_fd < 0)
		return;
	dup2(null_fd, STDIN_FILENO);
	dup2(null_fd, STDOUT_FILENO);
	if (null_fd > STDERR_FILENO)
		close(null_fd);
}

int cmd_log_begin(const char *directory, int *ret_watch_fd, struct base_error *err)
{
	int fd = open_log(directory);
	int watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int r = fd < 0 ? fd : watch_fd < 0 ? -errno : watch_log(watch_fd, directory);

	if (r == 0) {
		mute_input_and_output();
		dup2(fd, STDERR_FILENO);
		*ret_watch_fd = watch_fd;
	} else if (watch_fd >= 0) {
		close(watch_fd);
	}
	if (fd >= 0)
		close(fd);
	return r < 0 ? base_error_set_errno(err, r, "can't write the log %s/log", directory) : 0;
}

static void begin_new(const char *directory, int watch_fd)
{
	char path[PATH_MAX], old[PATH_MAX];

	snprintf(path, sizeof(path), "%s/log", directory);
	if (snprintf(old, sizeof(old), "%s/log.1", directory) >= (int)sizeof(old) || rename(path, old) < 0)
		return;

	int fd = open_log(directory);

	if (fd < 0) {
		/* Back, so that the lines to come stay where people look. */
		if (rename(old, path) < 0)
			return;
	} else {
		dup2(fd, STDERR_FILENO);
		close(fd);
	}
	(void)watch_log(watch_fd, directory);
}

void cmd_log_turn(const char *directory, int watch_fd)
{
	char events[4096];
	struct stat st;

	while (read(watch_fd, events, sizeof(events)) > 0)
		;
	if (fstat(STDERR_FILENO, &st) == 0 && (uint64_t)st.st_size > LOG_BYTES_MAX)
		begin_new(directory, watch_fd);
}
