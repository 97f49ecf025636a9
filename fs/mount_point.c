/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The place of a mount in the tree: finding what is there, clearing a dead
 * mount, unmounting, and asking from outside whether a mount answers.
 *
 * What is mounted is read from /proc/self/mountinfo. A mount of ours whose
 * daemon is gone answers every call with ENOTCONN; it is detached and the place
 * is free. Anything else that is mounted there is left alone: -EBUSY.
 *
 * Whether a mount answers is asked by a forked child. It must not be a thread
 * of the daemon: a thread waiting for the daemon's own answer sleeps where
 * SIGKILL does not reach, and keeps the descriptor of the device open, so a
 * daemon killed just then would never go away. The child first closes every
 * descriptor but its pipe (the device, and the pvs that carry the pool's lock),
 * and calls only what is allowed after a fork of a process with threads. It
 * can't be killed while it waits, but ends when the daemon or the mount does.
 *
 * Failure modes: no answer before the deadline: -ETIMEDOUT. A mount that hangs
 * is treated as one that is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/internal.h"

#define OUR_TYPE "fuse.bdfs"
/* Mounts stacked on one directory: more than this is not cleaned up but reported. */
#define DEAD_MOUNTS_MAX 16

extern char **environ;

/* ---- what is mounted ---------------------------------------------------------------------- */

struct mounted {
	char type[64];
	char source[NAME_BYTES_MAX + 1];
};

/* Undoes the octal escapes of mountinfo (\040 for a space) in place. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from;) {
		unsigned code;

		if (from[0] == '\\' && sscanf(from + 1, "%3o", &code) == 1) {
			*to++ = (char)code;
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

/* The nth field of a line, from 0, cut off in place; NULL when there is none. */
static char *field(char *line, unsigned n)
{
	char *save = NULL, *token = strtok_r(line, " \n", &save);

	while (token && n-- > 0)
		token = strtok_r(NULL, " \n", &save);
	return token;
}

/* Return: true when the line is of a mount on path. */
static bool parse_line(const char *line, const char *path, struct mounted *ret)
{
	const char *rest = strstr(line, " - ");
	char copy[PATH_MAX + 256], *at;

	snprintf(copy, sizeof(copy), "%s", line);
	at = field(copy, 4);
	if (!rest || !at)
		return false;
	unescape(at);
	if (strcmp(at, path) != 0)
		return false;
	snprintf(copy, sizeof(copy), "%s", rest + 3);
	*ret = (struct mounted){ 0 };
	if (sscanf(rest + 3, "%63s %127s", ret->type, ret->source) < 1)
		return false;
	unescape(ret->source);
	return true;
}

/* The topmost mount on path. Return: false when there is none. */
static bool find_mounted(const char *path, struct mounted *ret)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	struct mounted one;
	char *line = NULL;
	size_t room = 0;
	bool found = false;

	while (file && getline(&line, &room, file) > 0) {
		/* Later lines are on top of earlier ones. */
		if (parse_line(line, path, &one)) {
			*ret = one;
			found = true;
		}
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

/* ---- the probe ---------------------------------------------------------------------------- */

static _Noreturn void probe_child(const char *path, int fd)
{
	struct statfs st;
	unsigned char code;

	if (fd > 0)
		close_range(0, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0U, 0);
	code = statfs(path, &st) < 0 ? (unsigned char)errno : 0;
	(void)!write(fd, &code, 1);
	_exit(0);
}

/* Return: the child's answer, or -ETIMEDOUT. */
static int await_probe(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	unsigned char code;
	int ready;

	do {
		ready = poll(&pfd, 1, timeout_ms);
	} while (ready < 0 && errno == EINTR);
	if (ready == 0)
		return -ETIMEDOUT;
	return ready > 0 && read(fd, &code, 1) == 1 ? -code : -EIO;
}

int fs_mount_point_probe(const char *path, int timeout_ms)
{
	sigset_t all, before;
	int fds[2], rc;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	/* No handler of the daemon may run in the child. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pid = fork();
	if (pid == 0)
		probe_child(path, fds[1]);
	rc = pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(fds[1]);
	if (rc == 0)
		rc = await_probe(fds[0], timeout_ms);
	close(fds[0]);
	/* One that did not answer ends with the mount; then it is init's or our parent's to collect. */
	if (pid > 0)
		waitpid(pid, NULL, rc == -ETIMEDOUT ? WNOHANG : 0);
	return rc;
}

/* ---- unmounting --------------------------------------------------------------------------- */

static int run_fusermount(const char *path, bool lazy)
{
	char *const argv[] = { "fusermount3", lazy ? "-quz" : "-qu", "--", (char *)path, NULL };
	int status, rc;
	pid_t pid;

	rc = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
	if (rc != 0)
		return -rc;
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	/* It says no more than yes or no; no is nearly always "busy". */
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

int fs_mount_point_unmount(const char *path, int flags)
{
	if (umount2(path, flags | UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	return run_fusermount(path, flags & MNT_DETACH);
}

/* ---- preparing ---------------------------------------------------------------------------- */

/* What a mount says whose daemon is gone, or whose connection was aborted. */
static bool is_of_dead_daemon(int error)
{
	return error == -ENOTCONN || error == -ECONNABORTED;
}

/* realpath(3) of a directory that a dead mount may cover: the last name is not looked at. */
static int absolute_path(const char *path, char **ret)
{
	char *copy, *slash, *parent, *name;
	int rc = 0;

	*ret = realpath(path, NULL);
	if (*ret || !is_of_dead_daemon(-errno))
		return *ret ? 0 : -errno;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	slash = strrchr(copy, '/');
	name = slash ? slash + 1 : copy;
	if (slash)
		*slash = '\0';
	parent = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
	if (!parent)
		rc = -errno;
	else if (asprintf(ret, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) < 0)
		rc = -ENOMEM;
	free(parent);
	free(copy);
	return rc;
}

static bool is_dead(const char *path, const struct mounted *mounted)
{
	return strcmp(mounted->type, OUR_TYPE) == 0 &&
	       is_of_dead_daemon(fs_mount_point_probe(path, FS_START_DEADLINE_MS));
}

static int clear_dead_mount(const char *path, const struct mounted *mounted, struct base_error *err)
{
	int rc;

	if (!is_dead(path, mounted))
		return base_error_set(err, -EBUSY,
				      "%s: %s (%s) is mounted there; unmount it first, or choose another directory",
				      path, mounted->source, mounted->type);
	rc = fs_mount_point_unmount(path, MNT_DETACH);
	if (rc < 0)
		return base_error_set_errno(err, rc, "%s: detaching the mount of a daemon that is gone", path);
	log_info("%s: detached the mount of %s, whose daemon is gone", path, mounted->source);
	return 0;
}

void fs_mount_point_clear(const char *path)
{
	struct mounted mounted;

	if (find_mounted(path, &mounted) && is_dead(path, &mounted) && fs_mount_point_unmount(path, MNT_DETACH) < 0)
		log_warning("%s: a dead mount of %s is left there", path, mounted.source);
}

static int check_free(const char *path, struct base_error *err)
{
	struct mounted mounted;
	struct stat st;
	int rc = 0;

	for (unsigned i = 0; i < DEAD_MOUNTS_MAX && rc == 0 && find_mounted(path, &mounted); i++)
		rc = clear_dead_mount(path, &mounted, err);
	if (rc < 0)
		return rc;
	if (stat(path, &st) < 0)
		return base_error_set_errno(err, -errno, "%s", path);
	if (!S_ISDIR(st.st_mode))
		return base_error_set(err, -ENOTDIR, "%s is not a directory; a pool is mounted on one", path);
	return 0;
}

int fs_mount_point_prepare(const char *path, char **ret, struct base_error *err)
{
	char *absolute = NULL;
	int rc = absolute_path(path, &absolute);

	if (rc < 0)
		return base_error_set_errno(err, rc, "%s", path);
	rc = check_free(absolute, err);
	if (rc < 0)
		free(absolute);
	else
		*ret = absolute;
	return rc;
}
