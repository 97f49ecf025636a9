/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Epochs, see epoch.h.
 *
 * The one race that matters: a request reads the epoch, and before it has
 * counted itself the epoch moves on. So enter() counts first and reads the epoch
 * again; when it has moved, the count is taken back and the entry repeated. Both
 * sides use sequentially consistent operations: the count must be seen by an
 * advance that enter() did not see.
 *
 * Happy path: one store, one fence and two loads a request.
 * Failure mode: a request that never ends keeps freed space from being reused;
 * it keeps nothing else waiting.
 */
#include "meta/epoch.h"

#include <assert.h>

void meta_epochs_init(struct meta_epochs *epochs)
{
	atomic_init(&epochs->now, 1);
	atomic_init(&epochs->participants, 0);
	for (unsigned i = 0; i < META_EPOCH_PARTICIPANTS_MAX; i++) {
		atomic_init(&epochs->pins[i].count[0], 0);
		atomic_init(&epochs->pins[i].count[1], 0);
	}
}

unsigned meta_epoch_join(struct meta_epochs *epochs)
{
	unsigned number = atomic_fetch_add(&epochs->participants, 1);

	assert(number < META_EPOCH_PARTICIPANTS_MAX);
	return number;
}

uint64_t meta_epoch_enter(struct meta_epochs *epochs, unsigned participant)
{
	_Atomic uint32_t *count = epochs->pins[participant].count;

	for (;;) {
		uint64_t epoch = atomic_load(&epochs->now);
		atomic_fetch_add(&count[epoch & 1], 1);
		if (atomic_load(&epochs->now) == epoch)
			return epoch;
		atomic_fetch_sub(&count[epoch & 1], 1);
	}
}

void meta_epoch_leave(struct meta_epochs *epochs, unsigned participant, uint64_t epoch)
{
	atomic_fetch_sub(&epochs->pins[participant].count[epoch & 1], 1);
}

uint64_t meta_epoch_now(struct meta_epochs *epochs)
{
	return atomic_load(&epochs->now);
}

static bool parity_is_empty(struct meta_epochs *epochs, unsigned parity)
{
	unsigned participants = atomic_load(&epochs->participants);

	for (unsigned i = 0; i < participants; i++)
		if (atomic_load(&epochs->pins[i].count[parity]) != 0)
			return false;
	return true;
}

bool meta_epoch_drained(struct meta_epochs *epochs, uint64_t epoch)
{
	for (;;) {
		uint64_t now = atomic_load(&epochs->now);
		if (now >= epoch + 2)
			return true;
		/* Only this thread advances, so a plain store is enough. */
		if (!parity_is_empty(epochs, (now + 1) & 1))
			return false;
		atomic_store(&epochs->now, now + 1);
	}
}
