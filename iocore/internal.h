/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of iocore: queues, bounce buffers, the stations of a thin request.
 *
 * Context: Q, unless a function says otherwise.
 */
#ifndef IOCORE_INTERNAL_H
#define IOCORE_INTERNAL_H

#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#include <stdatomic.h>

#include "base/park.h"
#include "iocore/bd.h"
#include "iocore/gate.h"
#include "iocore/pool.h"
#include "iocore/snapshot.h"
#include "meta/io.h"

/* ---- bounce buffers ----------------------------------------------------------------------- */

/* Data that is not aligned as the pv wants it, or that is merged with what is there, goes through one of these. */
#define BOUNCE_SMALL_BYTES (16 * KIB)
#define BOUNCE_LARGE_BYTES (2 * MIB + 2 * BLOCK_BYTES)
#define BOUNCE_SMALL_COUNT 64
#define BOUNCE_LARGE_COUNT 8

struct bounce {
	struct bounce *next;
	char *memory; /* page-aligned */
	bool large;
};

struct bounce_pool { /* owner Q */
	void *map;
	size_t map_bytes;
	struct bounce all[BOUNCE_SMALL_COUNT + BOUNCE_LARGE_COUNT];
	struct bounce *small, *large;
	struct ioc_request *waiting_small, **waiting_small_tail, *waiting_large, **waiting_large_tail;
};

MUST_CHECK int bounce_pool_init(struct bounce_pool *pool);
void bounce_pool_done(struct bounce_pool *pool);
/* Gets req->thin.bounce for `bytes`; true: it is there now; false: next is called when it is. */
bool bounce_get(struct ioc_request *req, size_t bytes, void (*next)(struct ioc_request *req));
void bounce_put(struct ioc_request *req);

/* ---- queues ------------------------------------------------------------------------------- */

struct queue_counters { /* written by the owner, read by anyone */
	_Atomic uint64_t reads, writes, flushes, discards, read_bytes, write_bytes, rmw, allocations, errors;
};

struct ioc_queue {
	struct ioc_pool *pool;     /* const */
	unsigned number;           /* const */
	struct meta_pool *meta;    /* const */
	struct ioc_engine *engine; /* owner Q; const once started */
	struct base_mailbox box;
	unsigned epoch_participant;            /* const */
	struct bounce_pool bounces;            /* owner Q */
	struct ioc_request *done, **done_tail; /* owner Q: ended, done() not called yet */
	struct queue_counters counters;
	unsigned space_waits; /* owner Q: requests that wait for space */
	_Atomic bool stop, may_close;
	_Atomic int started; /* 1: runs; negative errno: could not start */
	pthread_t thread;
	struct base_error start_error;
	const char *why; /* of the engine's choice */
};

/* For the simulator too: a queue without a thread, on an engine that the caller made. */
MUST_CHECK int queue_init(struct ioc_queue *queue, struct ioc_pool *pool, struct meta_pool *meta, unsigned number);
void queue_done(struct ioc_queue *queue);
/* One turn: messages, completions, answers. Returns what the engine's run returned. */
int queue_turn(struct ioc_queue *queue, int64_t timeout_ns);
void queue_finish(struct ioc_request *req, int result); /* done() is called from the queue's loop */

static inline void count(_Atomic uint64_t *counter, uint64_t n)
{
	/* One writer, so no locked instruction. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

struct ioc_pool {
	struct meta_pool *meta;
	struct ioc_pool_args args;
	unsigned queue_count;
	struct ioc_queue *queues;
	_Atomic unsigned next_queue; /* for calls from CTL */
	pthread_mutex_t lock;
	struct thin_disk *disks; /* lock: open ones */
	pthread_mutex_t raw_lock; /* held while one is opened or closed, so not lock */
	struct raw_disk *raws;    /* raw_lock: open ones */
};

/* ---- thin disks --------------------------------------------------------------------------- */

struct thin_disk {
	struct ioc_bd bd; /* first */
	struct ioc_pool *pool;
	struct meta_pool *meta;
	struct meta_disk *disk;         /* NULL: a snapshot */
	struct meta_snapshot *snapshot; /* NULL: a disk */
	uint64_t frozen_bytes;          /* const: the size of a snapshot */
	struct gate gate;
	unsigned opens;         /* pool.lock */
	struct thin_disk *next; /* pool.lock */
};

extern const struct ioc_bd_ops thin_ops;

static inline struct thin_disk *thin_of(struct ioc_request *req)
{
	return container_of(req->bd, struct thin_disk, bd);
}

/* Any thread; the store: within an epoch. */
static inline struct meta_store *thin_store(const struct thin_disk *thin)
{
	return thin->snapshot ? meta_io_snapshot_store(thin->snapshot) : meta_io_store(thin->disk);
}
static inline uint64_t thin_size(const struct thin_disk *thin)
{
	return thin->snapshot ? thin->frozen_bytes : meta_disk_size(thin->disk);
}

/* thin.c: opening; the caller has opened the disk (snapshot NULL), or the snapshot (disk NULL), in meta. NULL: no
 * memory. */
struct ioc_bd *thin_open(struct ioc_pool *pool, struct meta_disk *disk, struct meta_snapshot *snapshot);
void thin_close(struct ioc_bd *bd);

/* snapshot_take.c: the taking as a machine: whoever made `box` runs it until done is called. */
struct snapshot_take {
	/* The caller's. */
	struct ioc_pool *pool;
	const struct ioc_snapshot_spec *specs;
	size_t count;
	struct base_mailbox *box;
	void (*done)(struct snapshot_take *take, int result);
	struct base_error *err; /* may be NULL */
	void *ctx;
	/* Its own. */
	size_t opened, entered;
	struct ioc_bd **bds;
	struct gate_entry *gates;
	struct meta_switch_spec *names;
	struct meta_wait wait;
	struct meta_switch change;
	void (*next)(struct snapshot_take *take, int result);
	size_t trims; /* disks whose trim has been waited for */
	bool needs_commit; /* before the gates, whatever there is to commit */
	uint64_t began_ns, gated_ns, pause_ns;
};
void snapshot_take_begin(struct snapshot_take *take);

/* thin.c: what all operations share */
void thin_pin_epoch(struct ioc_request *req);
void thin_end_slice(struct ioc_request *req); /* leaves the gate, unpins, gives back what was reserved and not used */
void thin_fail(struct ioc_request *req, int error);
struct meta_wait *thin_wait(struct ioc_request *req,
			    void (*next)(struct ioc_request *req)); /* to be handed to a meta_wait_* */
/* Gives everything back. To be filled in and handed to meta_wait_space; `again` is called when it is over. */
struct meta_wait *thin_wait_space(struct ioc_request *req, void (*again)(struct ioc_request *req));
void thin_yield(struct ioc_request *req, void (*next)(struct ioc_request *req));
/* Pins the leaves of the slice. False: not now; a load or a fold is waited for and `again` is called after it (all
 * given back), or the request has failed. */
bool thin_pin_leaves(struct ioc_request *req, void (*again)(struct ioc_request *req));
/* Sets the cursor to the next place of the request that any layer has a leaf for. False: there is none. */
bool thin_skip_holes(struct ioc_request *req);
/* What is missing is being loaded; all was given back but what was loaded for this slice before, and `again` is called
 * after it. */
void thin_load(struct ioc_request *req, const struct meta_missing *missing, void (*again)(struct ioc_request *req));
/* The same, of a leaf of the head. */
void thin_load_leaf(struct ioc_request *req, uint64_t leaf_number, void (*again)(struct ioc_request *req));
/* Behind the gate: false: the disk has got a new head since the epoch was pinned. */
bool thin_same_head(struct ioc_request *req);
void thin_read_entries(struct ioc_request *req);
struct meta_leaf *thin_leaf_of(struct ioc_request *req, unsigned i, unsigned *ret_index);
/* True: entered; false: `next` is called when it is. */
bool thin_enter(struct ioc_request *req, uint64_t stripes, bool exclusive, void (*next)(struct ioc_request *req));
/* Reserves log slots for req->thin.changes and `extra`; false: everything was given back, `again` is called after a
 * commit. */
bool thin_reserve(struct ioc_request *req, unsigned extra, void (*again)(struct ioc_request *req));
/* Chunks for all entries of the slice that have none and whose bit is in `which`; false: everything was given back;
 * `again` after there is space. */
bool thin_allocate(struct ioc_request *req, uint64_t which, void (*again)(struct ioc_request *req));
/* Promises a thick disk the space for size_bytes; false: there is none now, everything was given back, `again` when
 * that may have changed. Every stripe is held. */
bool thin_claim(struct ioc_request *req, uint64_t size_bytes, void (*again)(struct ioc_request *req));
void thin_finish_write(struct ioc_request *req); /* the answer of a changing request; honours FUA */

/* thin_io.c */
void thin_alignment(struct meta_pool *meta, uint32_t *ret_sector, uint32_t *ret_memory);
bool thin_is_aligned(const struct ioc_request *req, uint32_t sector, uint32_t memory);
void thin_copy_out(struct ioc_request *req); /* bounce -> segments, the slice */
void thin_copy_in(struct ioc_request *req);  /* segments -> bounce, the slice */
/* Starts the plan's READ or WRITE steps and zeroes its ZERO ones; io_done is called when all have ended, with
 * req->thin.error set. Never calls it directly when anything was submitted. */
void thin_start_io(struct ioc_request *req, void (*io_done)(struct ioc_request *req));
/* Reads (or writes back) one block at `chunk`, byte in_chunk, into `memory`. Adds to pending. */
void thin_start_block(struct ioc_request *req, enum ioc_io_kind kind, struct pchunk chunk, uint32_t in_chunk,
		      char *memory);
void thin_io_begin(struct ioc_request *req, void (*io_done)(struct ioc_request *req));
void thin_io_end(struct ioc_request *req);
/* Looks up where the blocks of the edges are: `from`, and `to` where they are the head's own. copy_up: also those
 * that a layer below shows; their `to` is what the entry has, or nothing yet. False: as thin_load_end. Behind the
 * gate. */
bool thin_find_edges(struct ioc_request *req, bool copy_up, void (*again)(struct ioc_request *req));
/* Zeroes the edges that were found, through the bounce buffer; `next` is called after it with req->thin.error set.
 * Gate held exclusively. */
void thin_zero_edges(struct ioc_request *req, void (*next)(struct ioc_request *req));

/* thin_size.c */
/* The leaf of the disk's end is in memory, and pinned if there is one; false: it is being loaded, all was given back,
 * `again` is called after it. */
bool thin_load_end(struct ioc_request *req, void (*again)(struct ioc_request *req));
/* Zeroes what lies between the end of the disk and the end of its block. Every stripe is held exclusively. */
void thin_zero_tail(struct ioc_request *req, void (*next)(struct ioc_request *req));

/* one file each */
void thin_read(struct ioc_request *req);
void thin_write(struct ioc_request *req);
void thin_range(struct ioc_request *req); /* DISCARD, WRITE_ZEROES, ALLOCATE */
void thin_resize(struct ioc_request *req);
void thin_seek(struct ioc_request *req);
void thin_flush(struct ioc_request *req);
void thin_own(struct ioc_request *req);

#endif
