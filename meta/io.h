/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What iocore asks of meta on the data path: leaves, map changes, chunks,
 * flushes, waits. Everything that could take long is a continuation: the caller
 * hands over a struct meta_wait and gets a message in its mailbox.
 *
 * Context: Q (any queue thread), inside a pinned epoch, unless a function says
 * otherwise. Nothing here blocks for longer than an uncontended mutex.
 */
#ifndef META_IO_H
#define META_IO_H

#include "base/mailbox.h"
#include "meta/epoch.h"
#include "meta/leaf.h"
#include "meta/pool.h"
#include "meta/pv.h"

struct cache_item;
struct head_switch;
struct meta_leaf;
struct meta_snapshot;
struct meta_store;

/* A request that waits. msg.run is called on the thread that consumes box, with result set. */
struct meta_wait {
	struct base_msg msg;
	struct base_mailbox *box;
	int result; /* 0 or negative errno */
	struct cache_item *kept; /* of a wait for a look-up: the caller's now, see meta_map_load; may be NULL */
	/* meta's while waiting: */
	struct base_msg to_meta;
	struct meta_pool *pool;
	struct meta_wait *next;
	struct meta_disk *disk;
	bool held;
	uint64_t hold_epoch, retry_at_ns;
	/* Of a wait for space, the caller's: */
	unsigned chunks;        /* how many are needed at once */
	uint64_t claim_bytes;   /* or: the size that a thick disk is to be promised; 0 = none */
	bool needs_metadata;    /* or, and: room for metadata */
	bool pv_full;           /* or: a pv said ENOSPC */
	bool may_hold;          /* the front end can do without this request for as long as it takes */
	uint64_t bytes;         /* of memory that the request keeps while it is held */
	uint64_t held_since_ns; /* in and out: when the request was first held; 0 = never */
};

/* ---- the pool ----------------------------------------------------------------------------- */

struct meta_epochs *meta_io_epochs(struct meta_pool *pool);
/* 0, -EROFS (opened read-only), -EIO (failed). One atomic load. */
int meta_io_writable(struct meta_pool *pool);
/* Whether there is so much to be committed that it takes long. Loads of atomics. */
bool meta_io_is_very_dirty(const struct meta_pool *pool);
/* A device write of this pv has completed and is not synced. Before it is answered. */
void meta_io_note_write(struct meta_pool *pool, unsigned pv);
/* A pv said ENOSPC (a sparse pool file on a full host), EIO ...: counted and logged, not sticky. */
void meta_io_note_pv_error(struct meta_pool *pool, unsigned pv, int code);

unsigned meta_io_pv_count(struct meta_pool *pool);
struct meta_pv_handle *meta_io_pv(struct meta_pool *pool, unsigned pv);
/* Where a chunk is. Chunks with successive numbers that both exist are neighbours on one pv: the numbering has gaps
 * between pvs. Return false when the pool has no such chunk (a damaged map). */
bool meta_io_locate(struct meta_pool *pool, struct pchunk chunk, unsigned *ret_pv, uint64_t *ret_byte);

/* ---- leaves ------------------------------------------------------------------------------- */

/*
 * The store of the disk's head layer, or of a snapshot's. It changes: ask once a slice, in the epoch, and use what
 * was answered until the epoch ends. A writer asks again behind the gate, and is planned anew if it has changed.
 */
struct meta_store *meta_io_store(struct meta_disk *disk);
struct meta_store *meta_io_snapshot_store(struct meta_snapshot *snapshot);
/* True when some of what a reader of the store sees may come from layers below it. */
bool meta_store_is_layered(struct meta_store *store);
/* The blocks of the chunk that the store's parent may show, as far as the store has nothing to say of them. */
uint16_t meta_store_below(struct meta_store *store, uint64_t chunk_of_disk);

enum { META_HOLE = 1, META_MISS = 2, META_BUSY = 3 };
/*
 * Finds the leaf in memory: no lock, no allocation.
 * Return: 0 with *ret, valid until the caller's epoch ends; META_HOLE: nothing of this leaf is mapped; META_MISS: it
 * must be read first, see meta_map_load.
 */
int meta_map_find(struct meta_store *store, uint64_t leaf_number, struct meta_leaf **ret);
/* What a look-up lacks: a leaf of the store, or the view of it, which is what the store and all layers below it show in
 * that leaf. */
struct meta_missing {
	struct meta_store *store;
	uint64_t leaf_number;
	bool view;
};
/*
 * Reads what is missing on a look-up thread and posts wait; many may wait for one. result: 0, -EBADMSG, -EIO, -ENOMEM.
 * What was read is kept in memory for the caller (wait->kept) until meta_keep_end: however small the cache is, a
 * request that keeps what it has asked for comes to an end. A kept leaf holds up nobody but its eviction. kept may be
 * NULL: then the look-up is to be done again.
 * Called in the epoch that the store was got in: it is what keeps a store below the head alive until then.
 */
void meta_map_load(const struct meta_missing *missing, struct meta_wait *wait);
/* Any thread, in an epoch or not. */
void meta_keep_end(struct cache_item *kept);
/*
 * Where the blocks of one chunk of the disk are, as a reader of the store sees them, through all its layers:
 * ret_sources[b] for each block b in `want`: its chunk, 0 = it reads as zero. It is the same block of that chunk.
 * At most two things have to be in memory for it, however many layers there are: the store's own leaf, and the view of
 * its parent.
 * Return: 0; META_MISS: *ret_missing must be read first.
 */
int meta_map_resolve(struct meta_store *store, uint64_t chunk_of_disk, uint16_t want,
		     uint32_t ret_sources[CHUNK_BLOCKS], struct meta_missing *ret_missing);
/* As meta_map_next_leaf, of the store and of all that shows through it. */
uint64_t meta_map_next_visible(struct meta_store *store, uint64_t from);
/*
 * For a writer: finds the leaf, or makes an empty one where there is a hole, and pins it in memory until
 * meta_leaf_unpin. Return: 0, META_MISS, META_BUSY: wait with meta_wait_fold; -ENOMEM.
 */
int meta_map_pin(struct meta_store *store, uint64_t leaf_number, struct meta_leaf **ret);
void meta_leaf_unpin(struct meta_leaf *leaf);

/* Waits until the background has done with the leaf that it holds; posts at once when it holds none. */
void meta_wait_fold(struct meta_pool *pool, struct meta_wait *wait);

meta_entry meta_leaf_entry(struct meta_leaf *leaf, unsigned index);
/* The first leaf at or after `from` that is in memory or present on disk; UINT64_MAX when there is none. May report
 * one that turns out empty. */
uint64_t meta_map_next_leaf(struct meta_store *store, uint64_t from);

/* ---- map changes -------------------------------------------------------------------------- */

/* Reserve one slot for each entry that will change, before any device I/O. False: wait with meta_wait_commit and plan
 * anew. */
bool meta_change_reserve(struct meta_pool *pool, unsigned slots);
void meta_change_unreserve(struct meta_pool *pool, unsigned slots);

/*
 * The blocks `add` are now valid in `chunk`, which the entry has already or gets now (then it had none).
 * Uses one reserved slot. The leaf is pinned; the caller holds the chunk's stripe.
 */
void meta_change_add(struct meta_disk *disk, struct meta_leaf *leaf, unsigned index, struct pchunk chunk,
		     uint16_t add);
/*
 * The blocks `remove` read as zero from now on, whatever a parent has there. drop_chunk: when no valid block is left
 * the chunk is freed.
 * Uses one reserved slot. The caller holds the chunk's stripe exclusively.
 */
void meta_change_remove(struct meta_disk *disk, struct meta_leaf *leaf, unsigned index, uint16_t remove,
			bool drop_chunk);
/* Marks of `blocks` as zero go: no parent shows there any more. Uses one reserved slot. The caller holds the chunk's
 * stripe exclusively. */
void meta_change_unmark(struct meta_disk *disk, struct meta_leaf *leaf, unsigned index, uint16_t blocks);
/* The disk is now at least size_bytes long (a write past its end). Uses one reserved slot. The caller holds every
 * stripe. */
void meta_change_grow(struct meta_disk *disk, uint64_t size_bytes);

/* The metadata's file system has little room: what would make more metadata waits (meta_wait_space). One atomic load.
 */
bool meta_is_short(struct meta_pool *pool);
/* True when so many leaves are dirty that allocating writes should wait for a commit first (back-pressure). */
bool meta_change_is_throttled(struct meta_pool *pool);
/* Waits for a commit that is begun after this call. result: 0 or why it failed. Any thread. */
void meta_wait_commit(struct meta_pool *pool, struct meta_wait *wait);

/* ---- chunks ------------------------------------------------------------------------------- */

/*
 * Takes up to `want` chunks in a row for the disk, from its reserved window or the pool.
 * Return: how many (>= 1) with *ret_first; 0: none free right now, see meta_wait_space.
 */
unsigned meta_chunk_alloc(struct meta_disk *disk, unsigned want, struct pchunk *ret_first);
/* A chunk that was allocated and into which no device write was ever submitted. */
void meta_chunk_unalloc(struct meta_disk *disk, struct pchunk chunk);
/* A chunk that was allocated, may have been written, and did not enter a map (its write failed). It goes the long way
 * of a freed chunk. */
void meta_chunk_abandon(struct meta_disk *disk, struct pchunk chunk);
/*
 * Calls reservations back, commits, waits until what was freed is safe to hand out. result: 0: what wait asks for is
 * there, plan anew; -ENOSPC: it is not, and nothing is left that could come free, or, where the pool's policy is to
 * hold, nothing came in time. The caller holds nothing but its open of the disk.
 */
void meta_wait_space(struct meta_disk *disk, struct meta_wait *wait);
/* Ends the holds there are, of the disk or (NULL) of the pool: they are answered -ENOSPC. A front end that drains a
 * device calls it again until it has its requests back. Any thread, does not block. */
void meta_hold_end(struct meta_pool *pool, struct meta_disk *disk);
/* Ends all holds, and there will be no more before the pool is opened again. Any thread, does not block. */
void meta_hold_stop(struct meta_pool *pool);

/*
 * Before a thick disk grows by a write it is promised its new size. False: there is no space for that now, see
 * meta_wait_space. Thin disks always may. The caller holds every stripe, and calls meta_claim_fit before it lets
 * go of them, whether the disk has grown or not.
 */
bool meta_claim_for(struct meta_disk *disk, uint64_t size_bytes);
void meta_claim_fit(struct meta_disk *disk);

/* ---- flush, size -------------------------------------------------------------------------- */

/* Everything of the disk that completed before this call is made durable. result: 0 or -EIO. Any thread. */
struct meta_flush {
	struct meta_wait wait;
	struct meta_disk *disk;
};
void meta_flush_submit(struct meta_flush *flush);
/* True: nothing of what completed before this call is left to be made durable. Any thread; some atomic loads. */
bool meta_flush_is_done(struct meta_disk *disk);

/* Waits until no trim of the disk is under way: needed before it may grow. Posts at once when there is none, or when
 * it was given up; result: 0, or why it was. */
void meta_wait_trimmed(struct meta_disk *disk, struct meta_wait *wait);
bool meta_is_trimming(struct meta_disk *disk);

/*
 * Sets the size, durably; below the present one it also sets the trim-above mark and the freeing starts in the
 * background. The caller holds every stripe, and to grow the disk has zeroed what follows its end in that block. Of a
 * thick disk -ENOSPC when it can't be promised the space.
 */
struct meta_resize {
	struct meta_wait wait;
	struct meta_disk *disk;
	uint64_t size_bytes;
	int kind; /* -1: as it is; else enum meta_disk_kind, and the size stays as it is */
};
void meta_resize_submit(struct meta_resize *resize);

/* ---- new heads ---------------------------------------------------------------------------- */

struct meta_switch_spec {
	struct meta_disk *disk;
	const char *name; /* of the snapshot */
	struct base_uuid uuid; /* all zero: a new one */
};

/*
 * Gives each disk of a group a new, empty head, and the old one a name, at one moment. The caller has each disk
 * open and holds every stripe of it, and nothing is in flight.
 *
 * switched is posted when memory is so: result 0: let the stripes go; what is written from now on is the new
 * heads'. -EAGAIN: a disk is being trimmed (see meta_wait_trimmed); -EEXIST, -EINVAL, -ENAMETOOLONG, -ENOENT, -EROFS,
 * -EIO, -ENOSPC, -ENOMEM: nothing has changed, and durable is not posted.
 * durable is posted when it is on stable storage; -ENOSPC, -EIO: there are no new snapshots, though the heads have
 * changed.
 */
struct meta_switch {
	const struct meta_switch_spec *specs;
	size_t count;
	struct base_error *err; /* may be NULL */
	struct meta_wait switched, durable;
	/* meta's: */
	struct base_msg to_meta;
	struct meta_pool *pool;
	struct meta_switch *next;
	struct head_switch **made;
	int result;
};
/* CTL. specs, err and the switch itself stay until the last of the two is posted. */
void meta_switch_submit(struct meta_pool *pool, struct meta_switch *change);
/* CTL; every stripe is held. Zeroes what lies between the end of the disk and the end of its block, where the head
 * has that block: nobody above will. Return: 0, -EIO ... */
MUST_CHECK int meta_disk_zero_tail(struct meta_disk *disk);

#endif
