/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's surroundings: limits, memory pressure, systemd.
 *
 * A process that serves block devices may be what the kernel waits for to get
 * memory back. So it asks not to be made to write out others' pages while it
 * allocates (PR_SET_IO_FLUSHER, Linux 5.6; inherited by threads made later, so
 * it is set before any), and not to be chosen by the out-of-memory killer.
 *
 * Everything here is as far as it is allowed: a user without privileges gets a
 * daemon that lacks it, at most with a line in the log.
 *
 * systemd is told by one datagram to $NOTIFY_SOCKET; that is the whole of its
 * protocol, so no library is needed for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/daemon.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#define PR_GET_IO_FLUSHER 58
#endif

static void raise_limit(int resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(resource, &limit);
}

static void spare_from_oom_killer(void)
{
	static const char score[] = "-1000";
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, score, sizeof(score) - 1) < 0)
		log_debug("oom_score_adj can't be set: %m");
	close(fd);
}

void cmd_env_say_what_lacks(void)
{
	/* Without it a queue thread that needs a page may have to wait for the write-back that it is itself to carry
	 * out: seen with cgroups of version 1, where reclaim within a group waits for pages of that group. */
	if (prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) != 1)
		log_info("the kernel does not take this process for one that writes memory back (PR_SET_IO_FLUSHER "
			 "needs CAP_SYS_RESOURCE): keep programs that write to file systems on disks of this pool "
			 "out of the daemon's memory cgroup");
}

void cmd_env_prepare(void)
{
	raise_limit(RLIMIT_NOFILE);
	raise_limit(RLIMIT_MEMLOCK); /* request memory: base/memory.h */
	spare_from_oom_killer();
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

void cmd_env_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, strlen(path));
	if (path[0] == '@')
		address.sun_path[0] = '\0'; /* an abstract name */

	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));

	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, size) < 0)
		log_warning("systemd can't be told %s: %m", state);
	close(fd);
}

bool cmd_env_is_journal(void)
{
	/* The variable is inherited also by what was started from a terminal of a session that systemd
	 * started, so it counts only if it names the very file that standard error is. */
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == device && st.st_ino == inode;
}
