/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate of a disk: which writes may be in flight together.
 *
 * 64 stripes by chunk number. An overwrite of valid blocks enters its stripes
 * shared: one uncontended atomic each. Allocation, read-modify-write, discard,
 * zeroing enter exclusively and queue. Stripes are taken in ascending order,
 * each once, so two requests can't wait for each other. Who has to wait is a
 * continuation: a message in its mailbox says when it has all its stripes.
 *
 * First come, first served on each stripe: a shared entry does not pass a
 * waiting exclusive one. An exclusive entry to all stripes closes the gate while it
 * waits: who comes after it and holds nothing yet is kept back, whatever its
 * stripes, so that it waits for those in flight once and not stripe by stripe.
 *
 * Context: any thread. Nothing blocks; the lock is held for a few instructions.
 */
#ifndef IOCORE_GATE_H
#define IOCORE_GATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/mailbox.h"
#include "base/types.h"

#define GATE_STRIPES 64

struct gate_entry {
	/* Set by the caller. */
	uint64_t stripes; /* one bit each */
	bool exclusive;
	struct base_mailbox *box;
	struct base_msg msg; /* run when every stripe is held, unless gate_enter returned true */
	void *ctx;           /* the caller's own */
	/* The gate's. */
	struct gate *gate;
	uint64_t held;
	struct gate_entry *next; /* in a stripe's queue, or kept back */
};

struct gate_stripe {
	_Atomic uint32_t word; /* holders, or EXCLUSIVE; WAITING while the queue is not empty */
	struct gate_entry *head, **tail; /* lock */
};

struct gate {
	pthread_mutex_t lock;
	struct gate_stripe stripes[GATE_STRIPES];
	/* lock; NULL, or who waits for all stripes, and who is kept back until it has them */
	struct gate_entry *closer;
	struct gate_entry *kept, **kept_tail;
};

void gate_init(struct gate *gate);
void gate_done(struct gate *gate);

/* The stripes of the chunks [first, first + count). */
uint64_t gate_stripes_of(uint64_t first_chunk, uint64_t count);

/* True: all stripes are held now. False: entry->msg is posted to entry->box when they are. */
bool gate_enter(struct gate *gate, struct gate_entry *entry);
/* Gives all stripes back. */
void gate_leave(struct gate_entry *entry);

#endif
