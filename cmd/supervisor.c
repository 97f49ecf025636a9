/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's life: fork, wait, fork again.
 *
 * It opens nothing of the pool and has no thread; what it holds are two
 * descriptors. A mount stays as long as somebody has its device open, so the
 * death of the daemon changes nothing for the kernel but that nobody answers.
 *
 *	fork a daemon -> it mounts -> it hands the device over -> ... -> it ends
 *		exit              the mount is gone (or never came): we end too
 *		death by signal   fork another one, which gets device and handles
 *
 * SIGTERM and SIGINT are passed on: whoever stops "the service" may mean this
 * process.
 *
 * Failure modes: a daemon that dies before it had a mount is not followed by
 * another. One that keeps dying is given up after CRASHES_MAX deaths within
 * CRASH_WINDOW_NS: the device is closed, and the mount is dead, as it would be
 * without a supervisor. If the supervisor itself is killed the daemon goes on
 * without one.
 */
#include "cmd/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/park.h"
#include "fs/handles.h"

#define CRASHES_MAX 10
#define CRASH_WINDOW_NS (5 * UINT64_C(1000000000))

struct supervisor {
	struct cmd_kept kept;
	int receive_fd; /* the other end of keeper_fd */
	int signal_fd;
	pid_t daemon;
	uint64_t died_ns[CRASHES_MAX]; /* a ring */
	unsigned deaths;
};

/* ---- handing a descriptor over ------------------------------------------------------------- */

int cmd_supervisor_keep(int keeper_fd, int device_fd)
{
	char byte = 'd', control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &device_fd, sizeof(int));
	return sendmsg(keeper_fd, &msg, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/* Takes the device if it has been sent. */
static void receive_device(struct supervisor *s)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *header;

	if (recvmsg(s->receive_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1)
		return;
	header = CMSG_FIRSTHDR(&msg);
	if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int)))
		return;
	if (s->kept.device_fd >= 0)
		close(s->kept.device_fd);
	memcpy(&s->kept.device_fd, CMSG_DATA(header), sizeof(int));
}

/* ---- daemons ------------------------------------------------------------------------------- */

static void close_own(struct supervisor *s)
{
	close(s->receive_fd);
	close(s->signal_fd);
}

static int fork_daemon(struct supervisor *s, int (*run)(void *ctx, const struct cmd_kept *kept), void *ctx)
{
	s->daemon = fork();
	if (s->daemon < 0)
		return -errno;
	if (s->daemon == 0) {
		sigset_t set;

		close_own(s);
		sigemptyset(&set);
		sigaddset(&set, SIGCHLD);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		/* Not _exit: a sanitizer reports leaks at exit. */
		exit(run(ctx, &s->kept));
	}
	return 0;
}

static bool may_follow(struct supervisor *s)
{
	uint64_t now_ns = base_clock_ns(), *oldest = &s->died_ns[s->deaths % CRASHES_MAX];
	bool often = s->deaths >= CRASHES_MAX && now_ns - *oldest < CRASH_WINDOW_NS;

	*oldest = now_ns;
	s->deaths++;
	return s->kept.device_fd >= 0 && !often;
}

/* Return: the wait status of the daemon. */
static int await_end(struct supervisor *s)
{
	struct pollfd pfds[] = { { .fd = s->signal_fd, .events = POLLIN },
				 { .fd = s->receive_fd, .events = POLLIN } };
	struct signalfd_siginfo info;
	int status;

	for (;;) {
		if (waitpid(s->daemon, &status, WNOHANG) == s->daemon)
			return status;
		if (poll(pfds, ARRAY_LEN(pfds), -1) < 0)
			continue;
		if (pfds[1].revents)
			receive_device(s);
		if (pfds[0].revents && read(s->signal_fd, &info, sizeof(info)) == sizeof(info) &&
		    info.ssi_signo != SIGCHLD)
			kill(s->daemon, (int)info.ssi_signo);
	}
}

static int open_supervisor(struct supervisor *s, struct base_error *err)
{
	sigset_t set;
	int fds[2];

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return base_error_set_errno(err, -errno, "can't set up the supervisor");
	if (s->kept.handles_fd < 0)
		s->kept.handles_fd = fs_handles_make();
	if (s->kept.handles_fd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return base_error_set_errno(err, s->kept.handles_fd < 0 ? s->kept.handles_fd : -errno,
					    "can't set up the supervisor");
	s->receive_fd = fds[0];
	s->kept.keeper_fd = fds[1];
	return 0;
}

int cmd_supervise(int (*run)(void *ctx, const struct cmd_kept *kept), void (*detach)(void *ctx), void *ctx,
		  const struct cmd_kept *begin, struct base_error *err)
{
	struct supervisor s = { .kept = *begin, .receive_fd = -1 };
	int status = 0, rc = open_supervisor(&s, err);

	if (rc < 0)
		return rc;
	do {
		s.kept.signal = status && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
		rc = fork_daemon(&s, run, ctx);
		if (rc < 0)
			return base_error_set_errno(err, rc, "can't start the daemon");
		if (detach)
			detach(ctx);
		detach = NULL;
		status = await_end(&s);
	} while (WIFSIGNALED(status) && may_follow(&s));
	if (s.kept.device_fd >= 0)
		close(s.kept.device_fd);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
