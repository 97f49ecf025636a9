/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ending a connection whose request was not read to its end.
 *
 * The kernel answers a close with unread bytes in it, or a send after it, with
 * ECONNRESET or EPIPE on the other side, who may then never see the answer that
 * stands in front of it. So our side says that nothing more comes, and what the
 * peer still sends is read and thrown away until he closes, or his time is over.
 *
 * Context: one thread for each struct cmd_linger; cmd_linger_now: any thread.
 */
#ifndef CMD_LINGER_H
#define CMD_LINGER_H

#include <poll.h>

#include "base/types.h"

#define CMD_LINGER_MAX 32

struct cmd_linger {
	struct {
		int fd;
		uint64_t deadline_ns;
	} all[CMD_LINGER_MAX]; /* in order of arrival */
	unsigned count;
};

/* Takes fd. With the table full, the one that has waited longest is closed for it. */
void cmd_linger_add(struct cmd_linger *linger, int fd);
/* Fills pfds[0..count) and returns count; *ret_timeout_ms: when to turn all the same, -1 = never. */
unsigned cmd_linger_poll(const struct cmd_linger *linger, struct pollfd *pfds, int *ret_timeout_ms);
/* Reads what is there; closes those that are done or whose time is over. Never blocks. */
void cmd_linger_turn(struct cmd_linger *linger);
/* Closes all of them. */
void cmd_linger_done(struct cmd_linger *linger);

/* The same for one, at once: at most timeout_ms. fd stays open. */
void cmd_linger_now(int fd, int timeout_ms);

#endif
