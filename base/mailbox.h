/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How one thread asks another to do something: it posts a message to the
 * other's mailbox. Many producers, one consumer, in order of posting,
 * intrusive (posting allocates nothing and never fails).
 *
 * The consumer calls base_mailbox_run() in its loop. post() calls the wake
 * function only when the mailbox was empty, so a busy consumer costs its
 * producers no system call. The simulator has no threads: it gives a wake
 * function that does nothing and runs the mailboxes itself, in the order that
 * its seed says.
 */
#ifndef BASE_MAILBOX_H
#define BASE_MAILBOX_H

#include <stdatomic.h>

#include "base/types.h"

struct base_msg {
	struct base_msg *next; /* the mailbox's, from post until run */
	void (*run)(struct base_msg *msg);
};

struct base_mailbox {
	_Atomic(struct base_msg *) head; /* newest first */
	void (*wake)(void *ctx);         /* const after init; any thread calls it */
	void *wake_ctx;
};

void base_mailbox_init(struct base_mailbox *box, void (*wake)(void *ctx), void *wake_ctx);

/* Context: any thread, never blocks. msg is the mailbox's until its run function is called. */
void base_mailbox_post(struct base_mailbox *box, struct base_msg *msg);

/* Runs all that was there at entry. Context: the consumer. Returns how many ran. */
unsigned base_mailbox_run(struct base_mailbox *box);
bool base_mailbox_is_empty(const struct base_mailbox *box);

#endif
