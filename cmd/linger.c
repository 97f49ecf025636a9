/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that have been answered before their request was read, see
 * linger.h.
 *
 * A turn reads a bounded amount from each, so that a peer who sends without end
 * costs no more than his time: one second from the answer. The table is small
 * and scanned whole.
 *
 * Failure modes: a peer who neither closes nor sends is closed at his deadline;
 * more than CMD_LINGER_MAX at once: the oldest is closed early. Either may see
 * a reset; both had an answer.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/park.h"
#include "cmd/linger.h"

#define LINGER_NS UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define READS_A_TURN 64 /* of 4 KiB: a quarter of the longest request */

/* Return: true when the peer has closed, or the connection is broken. */
static bool drain(int fd)
{
	char waste[4096];

	for (unsigned i = 0; i < READS_A_TURN; i++) {
		ssize_t n = recv(fd, waste, sizeof(waste), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
	}
	return false;
}

static void drop(struct cmd_linger *linger, unsigned i)
{
	close(linger->all[i].fd);
	linger->count--;
	memmove(&linger->all[i], &linger->all[i + 1], (linger->count - i) * sizeof(linger->all[0]));
}

void cmd_linger_add(struct cmd_linger *linger, int fd)
{
	shutdown(fd, SHUT_WR);
	if (linger->count == CMD_LINGER_MAX)
		drop(linger, 0);
	linger->all[linger->count].fd = fd;
	linger->all[linger->count++].deadline_ns = base_clock_ns() + LINGER_NS;
}

unsigned cmd_linger_poll(const struct cmd_linger *linger, struct pollfd *pfds, int *ret_timeout_ms)
{
	uint64_t now_ns = base_clock_ns();

	*ret_timeout_ms = -1;
	for (unsigned i = 0; i < linger->count; i++)
		pfds[i] = (struct pollfd){ .fd = linger->all[i].fd, .events = POLLIN };
	if (linger->count > 0)
		*ret_timeout_ms = linger->all[0].deadline_ns <= now_ns
					  ? 0
					  : (int)((linger->all[0].deadline_ns - now_ns) / NS_PER_MS) + 1;
	return linger->count;
}

void cmd_linger_turn(struct cmd_linger *linger)
{
	uint64_t now_ns = base_clock_ns();

	for (unsigned i = linger->count; i-- > 0;)
		if (drain(linger->all[i].fd) || now_ns >= linger->all[i].deadline_ns)
			drop(linger, i);
}

void cmd_linger_done(struct cmd_linger *linger)
{
	while (linger->count > 0)
		drop(linger, linger->count - 1);
}

void cmd_linger_now(int fd, int timeout_ms)
{
	uint64_t now_ns = base_clock_ns(), deadline_ns = now_ns + (uint64_t)timeout_ms * NS_PER_MS;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	shutdown(fd, SHUT_WR);
	for (; now_ns < deadline_ns && !drain(fd); now_ns = base_clock_ns())
		(void)poll(&pfd, 1, (int)((deadline_ns - now_ns) / NS_PER_MS) + 1);
}
