/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Physical space: which chunks are owned, which may be handed out, and the way
 * that a freed chunk goes before it may be handed out again.
 *
 * A chunk's life: owned, freed, committed, drained, copied (meta/copy.h), discarded, free.
 *
 *   busy   one bit a chunk: not to be handed out (owned, pending, reserved, on its way after a free, or not existing)
 *   owned  one bit a chunk: owned by an entry of the durable map; the in-memory twin of database `space`
 *
 * A freed chunk goes into the open batch. A commit closes the batch before it
 * copies (so what is in it was unlinked before the copy); when the commit is
 * durable the batch goes to the background, which waits for the epoch, discards,
 * and only then clears the busy bits. There is no short cut.
 *
 * Reservations. Each store has a claim: how many chunks it has (held: in its map,
 * in its disk's window, or on their way into the map) and how many it is
 * promised (goal; 0 for thin disks). What is promised and not held yet, the sum
 * of max(0, goal - held) over all claims, nobody else may take:
 *
 *   promised <= free + those on their way back to free
 *
 * Taking out of one's own promise lowers both sides, taking anything else needs
 * free > promised, and what a claim gives back it is owed again, so every step
 * keeps that. A new promise counts on chunks on their way only once their commit
 * is durable: after a power cut the promise must still be covered.
 *
 * Context: alloc, free, claims: any thread. Batches: MW closes, BG finishes. owned: MW.
 */
#ifndef META_SPACE_H
#define META_SPACE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/error.h"
#include "base/types.h"

struct free_batch {
	struct free_batch *next;
	uint32_t *chunks;
	size_t count, room;
	uint64_t epoch; /* of the close */
	bool sorted;    /* BG: discards have been made up to `discarded` */
	size_t discarded;
	uint64_t copy_needed; /* BG: the copy of the metadata that covers it; 0: not looked at yet */
};

/* Guard: the space's lock. */
struct space_claim {
	uint64_t goal; /* chunks promised in all */
	int64_t held;
};

struct space {
	pthread_mutex_t lock;
	uint64_t *busy;                               /* lock */
	uint64_t *summary;                            /* lock: bit w: word w of busy has a free chunk */
	uint64_t *owned;                              /* lock; only MW changes it */
	uint32_t limit;                               /* lock: chunk numbers are below this */
	uint32_t room;                                /* bits allocated */
	uint32_t rotor;                               /* lock: where the search goes on */
	uint64_t total;                               /* lock: chunks that exist */
	uint64_t busy_count;                          /* lock: of those, busy */
	uint64_t promised;                            /* lock: see above */
	uint64_t returning; /* lock: busy, and sure to be free in a while: durable batches, BG's own loan */
	struct free_batch *open;                      /* lock: collects frees */
	struct free_batch *closed;                    /* MW: of the commit under way */
	struct free_batch *draining, **draining_tail; /* lock: durable, for BG; oldest first */
	_Atomic uint64_t pending;                     /* chunks in batches */
	_Atomic uint64_t mapped;                      /* chunks in (live) maps */
};

MUST_CHECK int space_init(struct space *space);
void space_done(struct space *space);

/* What space_add_range needs of memory for these chunks, so that it can't fail then. Return 0 or -ENOMEM. */
MUST_CHECK int space_make_room(struct space *space, uint32_t first, uint32_t count);
/* Chunks [first, first + count) exist from now on and are free. Return 0 or -ENOMEM. */
MUST_CHECK int space_add_range(struct space *space, uint32_t first, uint32_t count);

/* Up to `want` free chunks in a row that the claim may have, from `hint` on if that one is free (0 = no hint).
 * Returns how many. */
unsigned space_take(struct space *space, struct space_claim *claim, unsigned want, uint32_t hint,
		    struct pchunk *ret_first);
/*
 * For a large allocation: one run of free chunks, at most `want`, that the claim may have. best: the shortest that is
 * long enough, else the longest; looks at the whole pool, some milliseconds for 10 TiB. Else: the first there is.
 * Returns how many, 0 when there is none now.
 */
struct space_run {
	uint32_t first, count;
};
uint32_t space_take_run(struct space *space, struct space_claim *claim, uint32_t want, bool best,
			uint32_t *ret_first);
/* Back without having been written. */
void space_untake(struct space *space, struct space_claim *claim, uint32_t first, uint32_t count);
/* Into the open batch. The entry that owned the chunk is changed and its leaf is on the dirty list. claim NULL: at
 * open, before there are claims. */
void space_free(struct space *space, struct space_claim *claim, uint32_t chunk);

/* BG: keeps up to `want` free chunks, the first run at or after `from`, out of use for a while. Returns how many; 0
 * when there are none up to the end of the pool. */
unsigned space_borrow(struct space *space, unsigned want, uint32_t from, struct pchunk *ret_first);
void space_give_back(struct space *space, uint32_t first, uint32_t count);

/* ---- claims ------------------------------------------------------------------------------- */

/* Promises the claim `goal` chunks in all. A lower goal is always granted. Return: 0; -ENOSPC, nothing changed, and
 * *ret_short (may be NULL) says how many chunks there were too few. */
MUST_CHECK int space_claim_set(struct space *space, struct space_claim *claim, uint64_t goal, uint64_t *ret_short);
/* Before threads, or for a claim that nobody uses yet: what it holds and is promised, granted or not. */
void space_claim_init(struct space *space, struct space_claim *claim, uint64_t goal, uint64_t held);
/* Another struct stands for it from now on. */
void space_claim_move(struct space *space, struct space_claim *from, struct space_claim *to);
/* The claim is about to go: what it was promised is anybody's. */
void space_claim_drop(struct space *space, struct space_claim *claim);
/* One chunk changes hands between two maps. */
void space_claim_pass(struct space *space, struct space_claim *from, struct space_claim *to);
/* Whether space_claim_set would grant it. */
bool space_claim_fits(struct space *space, const struct space_claim *claim, uint64_t goal);
/* How many chunks the claim could take now. */
uint64_t space_available(struct space *space, const struct space_claim *claim);
uint64_t space_promised(struct space *space);

/* At open, before threads: the chunks [first, first + count) whose bits are set are owned by the durable map; both are
 * multiples of 64. False: *ret_chunk does not exist, or is owned already. */
bool space_set_owned_at_open(struct space *space, uint64_t first, const uint8_t *bits, uint64_t count,
			     uint64_t *ret_chunk);

/* Owned chunks in [first, first + count), as far as is durable. Takes the lock for a few microseconds at a time. */
uint64_t space_count_owned(struct space *space, uint32_t first, uint32_t count);

/* At open, after replay: the chunk is in a map and will be owned by the first commit. False: taken already, or no
 * such chunk. */
bool space_set_busy_at_open(struct space *space, uint32_t chunk);

/* MW. */
void space_close_batch(struct space *space, uint64_t epoch);
void space_commit_done(struct space *space,
		       bool durable); /* durable: the closed batch goes to BG; else it is open again */
bool space_owned_set(struct space *space, uint32_t chunk);   /* false: was set, or no such chunk */
bool space_owned_clear(struct space *space, uint32_t chunk); /* false: was clear */

/* BG: the oldest batch, or NULL; stays on the list until space_release_batch. */
struct free_batch *space_oldest_batch(struct space *space);
/* BG: batches that don't know yet which copy of the metadata covers them: this one. */
void space_batches_need_copy(struct space *space, uint64_t number);
void space_release_batch(struct space *space, struct free_batch *batch);

#endif
