/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate, see gate.h.
 *
 * A stripe's word: the number of shared holders, or EXCLUSIVE, and WAITING while
 * somebody is queued. Entering and leaving an uncontended stripe is one
 * compare-and-swap or subtraction. Anything else goes through the lock:
 *
 *   enter: set WAITING, so that no fast path passes us; if the word lets us in
 *          all the same and nobody is queued before us, take it, else queue
 *   leave: when WAITING is set, grant from the head of the queue what fits
 *
 * A granted entry goes on with its next stripe on the thread that granted it; it
 * may have to queue again there. When it has the last one its message is posted.
 *
 * A closer, an exclusive entry to all stripes that has to wait, sets WAITING on all
 * of them, so that all who come take the lock and find it. Who holds a stripe
 * already goes on, else the closer would wait for it and it for the closer; who
 * holds none is kept back. When the closer has everything, those queue in the order
 * in which they came; another one that wants all stripes is the next closer, and
 * who came after it stays kept back.
 *
 * Failure modes: none of its own. A holder that never leaves blocks its stripes,
 * which is why a request that must wait for anything else leaves first.
 */
#include "iocore/gate.h"

#include <assert.h>

#define EXCLUSIVE (UINT32_C(1) << 30)
#define WAITING (UINT32_C(1) << 31)

void gate_init(struct gate *gate)
{
	pthread_mutex_init(&gate->lock, NULL);
	for (unsigned i = 0; i < GATE_STRIPES; i++) {
		atomic_init(&gate->stripes[i].word, 0);
		gate->stripes[i].head = NULL;
		gate->stripes[i].tail = &gate->stripes[i].head;
	}
	gate->closer = gate->kept = NULL;
	gate->kept_tail = &gate->kept;
}

void gate_done(struct gate *gate)
{
	assert(!gate->closer && !gate->kept);
	for (unsigned i = 0; i < GATE_STRIPES; i++)
		assert(atomic_load(&gate->stripes[i].word) == 0);
	pthread_mutex_destroy(&gate->lock);
}

uint64_t gate_stripes_of(uint64_t first_chunk, uint64_t count)
{
	if (count >= GATE_STRIPES)
		return UINT64_MAX;
	uint64_t mask = (UINT64_C(1) << count) - 1;
	unsigned shift = first_chunk % GATE_STRIPES;
	return shift ? mask << shift | mask >> (GATE_STRIPES - shift) : mask;
}

static bool fits(uint32_t word, bool exclusive)
{
	return exclusive ? (word & ~WAITING) == 0 : (word & EXCLUSIVE) == 0;
}

static uint32_t with_holder(uint32_t word, bool exclusive)
{
	return exclusive ? word | EXCLUSIVE : word + 1;
}

static bool enter_fast(struct gate_stripe *stripe, bool exclusive)
{
	uint32_t word = atomic_load(&stripe->word);

	while (!(word & WAITING) && fits(word, exclusive))
		if (atomic_compare_exchange_weak(&stripe->word, &word, with_holder(word, exclusive)))
			return true;
	return false;
}

/* Lock held. Only leaving changes the word meanwhile, since WAITING is set. */
static bool take_locked(struct gate_stripe *stripe, bool exclusive)
{
	uint32_t word = atomic_load(&stripe->word);

	while (fits(word, exclusive))
		if (atomic_compare_exchange_weak(&stripe->word, &word, with_holder(word, exclusive)))
			return true;
	return false;
}

/* Lock held. */
static void clear_waiting_if_empty(const struct gate *gate, struct gate_stripe *stripe)
{
	if (!stripe->head && !gate->closer)
		atomic_fetch_and(&stripe->word, ~WAITING);
}

/* Lock held. True: entered; false: queued. */
static bool enter_locked(struct gate_stripe *stripe, struct gate_entry *entry)
{
	const struct gate *gate = entry->gate;

	atomic_fetch_or(&stripe->word, WAITING);
	if (!stripe->head && take_locked(stripe, entry->exclusive)) {
		clear_waiting_if_empty(gate, stripe);
		return true;
	}
	entry->next = NULL;
	*stripe->tail = entry;
	stripe->tail = &entry->next;
	return false;
}

static unsigned next_stripe(const struct gate_entry *entry)
{
	return (unsigned)__builtin_ctzll(entry->stripes & ~entry->held);
}

/* Lock held. Goes on with the stripes that are missing; true when it has them all. */
static bool go_on_locked(struct gate_entry *entry)
{
	while (entry->held != entry->stripes) {
		unsigned i = next_stripe(entry);
		if (!enter_locked(&entry->gate->stripes[i], entry))
			return false;
		entry->held |= UINT64_C(1) << i;
	}
	return true;
}

static bool wants_all(const struct gate_entry *entry)
{
	return entry->exclusive && entry->stripes == UINT64_MAX;
}

/* Lock held. The closer has everything: whom it kept back queues behind it. */
static void open_locked(struct gate *gate)
{
	gate->closer = NULL;
	while (gate->kept && !gate->closer) {
		struct gate_entry *entry = gate->kept;

		gate->kept = entry->next;
		if (wants_all(entry))
			gate->closer = entry;
		if (go_on_locked(entry))
			assert(!"somebody else holds every stripe");
	}
	if (!gate->kept)
		gate->kept_tail = &gate->kept;
	for (unsigned i = 0; i < GATE_STRIPES; i++)
		clear_waiting_if_empty(gate, &gate->stripes[i]);
}

/* Lock held. True when it has them all. */
static bool close_locked(struct gate *gate, struct gate_entry *entry)
{
	gate->closer = entry;
	for (unsigned i = 0; i < GATE_STRIPES; i++)
		atomic_fetch_or(&gate->stripes[i].word, WAITING);
	if (!go_on_locked(entry))
		return false;
	open_locked(gate);
	return true;
}

/* Lock held. As gate_enter. */
static bool enter_slowly(struct gate *gate, struct gate_entry *entry)
{
	if (wants_all(entry) && !gate->closer)
		return close_locked(gate, entry);
	if (!gate->closer || entry->held)
		return go_on_locked(entry);
	entry->next = NULL;
	*gate->kept_tail = entry;
	gate->kept_tail = &entry->next;
	return false;
}

bool gate_enter(struct gate *gate, struct gate_entry *entry)
{
	entry->gate = gate;
	entry->held = 0;
	while (entry->held != entry->stripes) {
		unsigned i = next_stripe(entry);
		if (!enter_fast(&gate->stripes[i], entry->exclusive))
			break;
		entry->held |= UINT64_C(1) << i;
	}
	if (entry->held == entry->stripes)
		return true;
	pthread_mutex_lock(&gate->lock);
	bool all = enter_slowly(gate, entry);
	pthread_mutex_unlock(&gate->lock);
	return all;
}

/* Lock held. Grants from the head of the queue; who then has everything is chained to *granted. */
static void grant_locked(struct gate *gate, unsigned i, struct gate_entry **granted)
{
	struct gate_stripe *stripe = &gate->stripes[i];

	while (stripe->head && take_locked(stripe, stripe->head->exclusive)) {
		struct gate_entry *entry = stripe->head;
		stripe->head = entry->next;
		if (!stripe->head)
			stripe->tail = &stripe->head;
		entry->held |= UINT64_C(1) << i;
		if (!go_on_locked(entry))
			continue;
		entry->next = *granted;
		*granted = entry;
		if (entry == gate->closer)
			open_locked(gate);
	}
	clear_waiting_if_empty(gate, stripe);
}

static bool leave_fast(struct gate_stripe *stripe, bool exclusive)
{
	uint32_t word = exclusive ? atomic_fetch_and(&stripe->word, ~EXCLUSIVE) : atomic_fetch_sub(&stripe->word, 1);

	return !(word & WAITING);
}

void gate_leave(struct gate_entry *entry)
{
	struct gate *gate = entry->gate;
	struct gate_entry *granted = NULL;
	uint64_t contended = 0;

	for (uint64_t left = entry->held; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);
		if (!leave_fast(&gate->stripes[i], entry->exclusive))
			contended |= UINT64_C(1) << i;
	}
	entry->held = 0;
	if (!contended)
		return;
	pthread_mutex_lock(&gate->lock);
	for (uint64_t left = contended; left; left &= left - 1)
		grant_locked(gate, (unsigned)__builtin_ctzll(left), &granted);
	pthread_mutex_unlock(&gate->lock);
	while (granted) {
		struct gate_entry *next = granted->next;
		base_mailbox_post(granted->box, &granted->msg);
		granted = next;
	}
}
