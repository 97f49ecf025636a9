/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Physical space: which chunks are owned, which may be handed out, and the way
 * that a freed chunk goes before it may be handed out again.
 *
 * A chunk's life: owned, freed, committed, drained, discarded, free.
 *
 *   busy   one bit a chunk: not to be handed out (owned, pending, reserved, on its way after a free, or not existing)
 *   owned  one bit a chunk: owned by an entry of the durable map; the in-memory twin of database `space`
 *
 * A freed chunk goes into the open batch. A commit closes the batch before it
 * copies (so what is in it was unlinked before the copy); when the commit is
 * durable the batch goes to the background, which waits for the epoch, discards,
 * and only then clears the busy bits. There is no short cut.
 *
 * Context: alloc, free: any thread. Batches: MW closes, BG finishes. owned: MW.
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
	struct free_batch *open;                      /* lock: collects frees */
	struct free_batch *closed;                    /* MW: of the commit under way */
	struct free_batch *draining, **draining_tail; /* lock: durable, for BG; oldest first */
	_Atomic uint64_t pending;                     /* chunks in batches */
	_Atomic uint64_t mapped;                      /* chunks in (live) maps */
};

MUST_CHECK int space_init(struct space *space);
void space_done(struct space *space);

/* Chunks [first, first + count) exist from now on and are free. Return 0 or -ENOMEM. */
MUST_CHECK int space_add_range(struct space *space, uint32_t first, uint32_t count);

/* Up to `want` free chunks in a row, from `hint` on if that one is free (0 = no hint). Returns how many. */
unsigned space_take(struct space *space, unsigned want, uint32_t hint, struct pchunk *ret_first);
/* As space_take, of the first free run at or after `from`; 0 when there is none up to the end of the pool. */
unsigned space_take_from(struct space *space, unsigned want, uint32_t from, struct pchunk *ret_first);
/* Back without having been written. */
void space_untake(struct space *space, uint32_t first, uint32_t count);
/* Into the open batch. The entry that owned the chunk is changed and its leaf is on the dirty list. */
void space_free(struct space *space, uint32_t chunk);
/* At open, before threads: the chunk is owned by the durable map. False: no such chunk, or owned already. */
bool space_set_owned_at_open(struct space *space, uint32_t chunk);

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
void space_release_batch(struct space *space, struct free_batch *batch);

#endif
