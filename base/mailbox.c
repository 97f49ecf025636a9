/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mailbox: a lock-free stack of messages that is taken whole and turned round.
 *
 * Producers push onto `head`, newest first, with one compare-and-swap. The
 * consumer takes the whole chain with one exchange and reverses it, so messages
 * run in the order in which their pushes took effect, and messages of one
 * producer in the order it posted them. Taking all at once is what makes the
 * stack safe: no one ever pops a single node, so the ABA problem has no place.
 *
 * Waking: the push that finds the mailbox empty wakes the consumer. The
 * consumer looks again after every wake-up and before it sleeps (its wake
 * function is an eventfd write or the like, which stays readable), so no
 * message is left lying: either the consumer's exchange came before the push
 * and the push saw NULL and wakes, or it came after and takes the message.
 *
 * Memory order: the push releases what the producer wrote into the message and
 * the exchange acquires it. A push also continues the release sequence of the
 * pushes under it (a read-modify-write on the same atomic), so the acquire
 * covers every message of the chain and not only the newest.
 *
 * A message belongs to the mailbox until its run function is called, which may
 * free it, or post it again, here or elsewhere: `next` is read before the call.
 *
 * Failure modes: none. Posting a message that is already posted is a caller's
 * bug that can't be seen from here.
 */
#include <sched.h>

#include "base/mailbox.h"

void base_mailbox_init(struct base_mailbox *box, void (*wake)(void *ctx), void *wake_ctx)
{
	atomic_init(&box->head, NULL);
	atomic_init(&box->posting, 0);
	box->wake = wake;
	box->wake_ctx = wake_ctx;
}

/* Return: whether the mailbox was empty. */
static bool push(struct base_mailbox *box, struct base_msg *msg)
{
	struct base_msg *head = atomic_load_explicit(&box->head, memory_order_relaxed);

	do {
		msg->next = head;
	} while (!atomic_compare_exchange_weak_explicit(&box->head, &head, msg, memory_order_release,
							memory_order_relaxed));
	return !head;
}

void base_mailbox_post(struct base_mailbox *box, struct base_msg *msg)
{
	/* Counted before the push: after it the consumer may have run the message, and the message may be the one
	 * that ends the mailbox's life. */
	atomic_fetch_add_explicit(&box->posting, 1, memory_order_relaxed);
	if (push(box, msg))
		box->wake(box->wake_ctx);
	atomic_fetch_sub_explicit(&box->posting, 1, memory_order_release);
}

void base_mailbox_post_own(struct base_mailbox *box, struct base_msg *msg)
{
	(void)push(box, msg);
}

void base_mailbox_wait_for_producers(const struct base_mailbox *box)
{
	while (atomic_load_explicit(&box->posting, memory_order_acquire) > 0)
		sched_yield();
}

static struct base_msg *reverse(struct base_msg *newest)
{
	struct base_msg *oldest = NULL;

	while (newest) {
		struct base_msg *older = newest->next;

		newest->next = oldest;
		oldest = newest;
		newest = older;
	}
	return oldest;
}

unsigned base_mailbox_run(struct base_mailbox *box)
{
	struct base_msg *msg = reverse(atomic_exchange_explicit(&box->head, NULL, memory_order_acquire));
	unsigned count = 0;

	while (msg) {
		struct base_msg *next = msg->next;

		msg->run(msg);
		msg = next;
		count++;
	}
	return count;
}

bool base_mailbox_is_empty(const struct base_mailbox *box)
{
	return atomic_load_explicit(&box->head, memory_order_acquire) == NULL;
}
