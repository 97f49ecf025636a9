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
	_Atomic unsigned posting; /* producers inside base_mailbox_post() */
};

void base_mailbox_init(struct base_mailbox *box, void (*wake)(void *ctx), void *wake_ctx);

/* Context: any thread, never blocks. msg is the mailbox's until its run function is called. */
void base_mailbox_post(struct base_mailbox *box, struct base_msg *msg);

/* The same without the wake function: the consumer posts to itself, and looks again before it sleeps. */
void base_mailbox_post_own(struct base_mailbox *box, struct base_msg *msg);

/* Runs all that was there at entry. Context: the consumer. Returns how many ran. */
unsigned base_mailbox_run(struct base_mailbox *box);
/*
 * Before the mailbox, or what its wake function wakes, goes: a message may be run before its producer has come back
 * from the wake function. The caller has seen the last message run. Context: the consumer; spins, for as long as a
 * wake-up takes.
 */
void base_mailbox_wait_for_producers(const struct base_mailbox *box);
bool base_mailbox_is_empty(const struct base_mailbox *box);

#endif
