/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts of bdfs, as the kernel lists them.
 *
 * /proc/self/mountinfo is read rather than asking the mounts: a mount whose
 * daemon is dead or stuck answers nothing, and a daemon must not open a path in
 * its own mount. A line is
 *
 *   36 35 0:52 / /srv/vms rw,nosuid - fuse.bdfs vms rw,user_id=0
 *
 * with blanks and backslashes in names written as \040 and the like. Later lines
 * lie on top of earlier ones, so the last match is the one that a path reaches.
 *
 * The source that a line shows is a pool's name, which another user's pool may
 * have too. So it finds a mount, and never proves whose it is.
 *
 * Unmounting is umount2(), or, without the right to, fusermount3, which is there
 * for that.
 *
 * Failure modes: not mounted (-ENOENT); busy; no permission.
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/park.h"
#include "cmd/daemon.h"

#define DEAD_PATIENCE_MS 3000
#define DEAD_STEP_MS 10

extern char **environ;

/* \ooo to its byte, in place. */
static void unescape(char *text)
{
	char *out = text;

	for (const char *p = text; *p; p++) {
		if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' &&
		    p[3] <= '7') {
			*out++ = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 3;
		} else {
			*out++ = *p;
		}
	}
	*out = '\0';
}

/* Return: true when the line is a bdfs mount. Changes line. */
static bool parse_line(char *line, struct cmd_mount_entry *ret)
{
	char *tail = strstr(line, " - "), *rest = NULL;

	if (!tail)
		return false;
	*tail = '\0';

	const char *type = strtok_r(tail + 3, " ", &rest);
	char *source = strtok_r(NULL, " ", &rest);
	char *at = line;

	if (!type || strcmp(type, "fuse.bdfs") != 0 || !source)
		return false;
	for (int field = 0; field < 4 && at; field++) { /* id, parent, device, root */
		at = strchr(at, ' ');
		at = at ? at + 1 : NULL;
	}
	if (!at)
		return false;
	at[strcspn(at, " ")] = '\0';
	unescape(at);
	unescape(source);
	snprintf(ret->mountpoint, sizeof(ret->mountpoint), "%s", at);
	snprintf(ret->source, sizeof(ret->source), "%s", source);
	return true;
}

int cmd_mount_find(const char *mountpoint, const char *source, struct cmd_mount_entry *ret)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	struct cmd_mount_entry *entry = malloc(sizeof(*entry));
	char *line = NULL;
	size_t room = 0;
	int r = mounts && entry ? -ENOENT : -ENOMEM;

	while (mounts && entry && getline(&line, &room, mounts) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (!parse_line(line, entry) || (mountpoint && strcmp(entry->mountpoint, mountpoint) != 0) ||
		    (source && strcmp(entry->source, source) != 0))
			continue;
		*ret = *entry;
		r = 0;
	}
	free(line);
	free(entry);
	if (mounts)
		fclose(mounts);
	return r;
}

/* Return: 0; negative errno. fusermount3 says why itself, so only that it refused is known. */
static int run_fusermount(const char *mountpoint, bool lazy)
{
	char *const argv[] = { "fusermount3", lazy ? "-uz" : "-u", "--", (char *)mountpoint, NULL };
	pid_t pid;
	int status;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0)
		return -EPERM;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int cmd_mount_remove(const char *mountpoint, bool lazy, struct base_error *err)
{
	int r = umount2(mountpoint, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0 ? -errno : 0;

	if (r == -EPERM)
		r = run_fusermount(mountpoint, lazy);
	if (r == -EBUSY)
		return base_error_set(err, r, "%s: files in it are open: close them, or add --lazy", mountpoint);
	return r < 0 ? base_error_set_errno(err, r, "%s: can't be unmounted", mountpoint) : 0;
}

/* Waits for child at most DEAD_PATIENCE_MS. Return: its exit status, or -1. */
static int await_child(pid_t child)
{
	int status = 0;

	for (int waited_ms = 0; waited_ms < DEAD_PATIENCE_MS; waited_ms += DEAD_STEP_MS) {
		pid_t got = waitpid(child, &status, WNOHANG);

		if (got == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
		if (got < 0 && errno != EINTR)
			return -1;
		base_sleep_ms(DEAD_STEP_MS);
	}
	kill(child, SIGKILL); /* and if it can't even die, it is nobody's but init's */
	return -1;
}

bool cmd_mount_is_dead(const char *mountpoint)
{
	/* A child asks, since the answer of a daemon that hangs would be waited for without end. */
	pid_t child = fork();

	if (child == 0) {
		struct statfs st;

		_exit(statfs(mountpoint, &st) < 0 && errno == ENOTCONN ? 1 : 0);
	}
	return child > 0 && await_child(child) == 1;
}
