/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Epochs: how it is known that every request which could still use what was
 * just unlinked (a freed chunk, an evicted leaf) has ended.
 *
 * Each request pins the epoch of its planning until its completion. The epoch
 * moves from E to E + 1 only when nothing pinned in E - 1 is left, so two
 * counters per participant are enough. What was unlinked in epoch E is
 * unreachable once the epoch is E + 2, or E + 1 with no pin of E left.
 *
 * Context: enter/leave: the participant's own thread (one participant a thread).
 * meta_epoch_drained: BG only.
 */
#ifndef META_EPOCH_H
#define META_EPOCH_H

#include <stdatomic.h>

#include "base/types.h"

#define META_EPOCH_PARTICIPANTS_MAX 64

struct meta_epoch_pins {
	_Atomic uint32_t count[2]; /* by parity of the epoch; owner writes, BG reads */
	char pad[56];              /* a cache line each: pins of two threads never share one */
};

struct meta_epochs {
	_Atomic uint64_t now;
	_Atomic uint32_t participants;
	_Alignas(64) struct meta_epoch_pins pins[META_EPOCH_PARTICIPANTS_MAX];
};

void meta_epochs_init(struct meta_epochs *epochs);
/* Returns the participant's number. Asserts that there are no more than META_EPOCH_PARTICIPANTS_MAX. Any thread. */
unsigned meta_epoch_join(struct meta_epochs *epochs);

/* Pins the present epoch and returns it; hand it to meta_epoch_leave. */
uint64_t meta_epoch_enter(struct meta_epochs *epochs, unsigned participant);
void meta_epoch_leave(struct meta_epochs *epochs, unsigned participant, uint64_t epoch);

/* The epoch to wait for after something was unlinked. Any thread. */
uint64_t meta_epoch_now(struct meta_epochs *epochs);
/* True when nothing that was pinned in `epoch` or before is left. */
bool meta_epoch_drained(struct meta_epochs *epochs, uint64_t epoch);

#endif
