/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a helper and waiting for its answer, see run_helper.h.
 *
 * posix_spawn, since the daemon has threads and much memory. The helper gets a pipe as
 * standard input and one as standard output; standard error stays the daemon's, that
 * is, its log. All other descriptors are close-on-exec.
 *
 * A helper that does not answer in time is killed by its pid and reaped: one that hangs
 * in the kernel is left to be reaped by init when we end; its announcement is withdrawn
 * by the caller in every case.
 */
#include "vtd/run_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/park.h"

#define WORDS_MAX 12

struct helper {
	pid_t pid;
	int to, from; /* its standard input and output */
};

static int spawn(const char *const words[], int in, int out, pid_t *ret)
{
	char *argv[WORDS_MAX + 3] = { (char *)"bdfs", (char *)VTD_HELPER_WORD };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;

	for (size_t i = 0; words[i] && i < WORDS_MAX; i++)
		argv[i + 2] = (char *)(uintptr_t)words[i];
	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none); /* the daemon's threads have all signals blocked */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	int rc = -posix_spawn(ret, "/proc/self/exe", &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

static int begin(const char *const words[], struct helper *ret)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(from, O_CLOEXEC) < 0) {
		int rc = -errno;
		close(to[0]);
		close(to[1]);
		return rc;
	}
	int rc = spawn(words, to[0], from[1], &ret->pid);
	close(to[0]);
	close(from[1]);
	if (rc < 0) {
		close(to[1]);
		close(from[0]);
		return rc;
	}
	ret->to = to[1];
	ret->from = from[0];
	return 0;
}

/* All that it says until it ends. Return: 0, -ETIMEDOUT, negative errno. */
static int read_answer(const struct helper *helper, char *buf, size_t room)
{
	uint64_t deadline = base_clock_ns() + VTD_HELPER_TIMEOUT_MS * UINT64_C(1000000);
	struct pollfd pfd = { .fd = helper->from, .events = POLLIN };
	size_t used = 0;

	for (;;) {
		uint64_t now = base_clock_ns();
		if (now >= deadline)
			return -ETIMEDOUT;
		int n = poll(&pfd, 1, (int)((deadline - now) / 1000000) + 1);
		if (n <= 0)
			continue;
		ssize_t got = read(helper->from, buf + used, room - 1 - used);
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		used += (size_t)got;
	}
	buf[used] = '\0';
	return 0;
}

static void end(const struct helper *helper, bool answered)
{
	close(helper->to);
	close(helper->from);
	if (!answered)
		kill(helper->pid, SIGKILL);
	/* One that hangs in the kernel is not waited for. */
	for (int i = 0; i < 200; i++) {
		if (waitpid(helper->pid, NULL, WNOHANG) != 0)
			return;
		poll(NULL, 0, 5);
	}
}

static int take_answer(char *answer, char ret_answer[VTD_HELPER_ANSWER_BYTES], struct base_error *err)
{
	size_t length = strcspn(answer, "\n");
	char *text;

	answer[length] = '\0';
	if (strncmp(answer, "ok ", 3) == 0) {
		memmove(ret_answer, answer + 3, length - 3 + 1);
		return 0;
	}
	long code = strncmp(answer, "error ", 6) == 0 ? strtol(answer + 6, &text, 10) : 0;
	if (code < 1 || code > 4095 || *text != ' ')
		return base_error_set(err, -EIO, "the helper process ended without an answer");
	return base_error_set(err, -(int)code, "%s", text + 1);
}

int vtd_run_helper(const char *const words[], void (*started)(pid_t pid, void *ctx), void *ctx,
		   char ret_answer[VTD_HELPER_ANSWER_BYTES], struct base_error *err)
{
	char answer[VTD_HELPER_ANSWER_BYTES];
	struct helper helper;
	int rc = begin(words, &helper);

	if (rc < 0)
		return base_error_set_errno(err, rc, "can't start the helper process");
	if (started)
		started(helper.pid, ctx);
	if (write(helper.to, "\n", 1) != 1) /* SIGPIPE is ignored by the daemon */
		rc = -EIO;
	if (rc == 0)
		rc = read_answer(&helper, answer, sizeof(answer));
	end(&helper, rc == 0);
	if (rc < 0)
		return base_error_set_errno(err, rc, "the helper process did not answer");
	return take_answer(answer, ret_answer, err);
}
