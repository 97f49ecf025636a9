/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Differences of two snapshots, or of a snapshot and a disk.
 *
 * Two sides differ only where a layer between one of them and their nearest
 * common one has something, or where an overlap on the way or one of the sizes
 * cuts off what is below. So the leaves to look at are those of the layers on
 * the two ways, and from the first cut on all that either side shows; all others
 * are skipped by the indexes, without being read. Without an older side it is
 * all that the newer one shows.
 *
 * A leaf that is looked at is judged block by block, by where each side finds
 * the block (meta_map_resolve): in the same place it is the same content, since
 * what is frozen is never written again and a chunk is not reused within an
 * epoch. So a leaf too many costs time and reports nothing.
 *
 * The background moves leaves between layers meanwhile. What is on the ways is
 * asked anew for every leaf, in an epoch of its own, and a count of moves tells
 * whether a leaf may have slipped through between two layers; then the question
 * is asked again. A block that is copied from one chunk into another in between
 * may be reported although it reads the same, never the other way round.
 *
 * Happy path: next candidate -> its leaves in memory -> 2,048 blocks judged ->
 * runs handed out.
 * Failure modes: a leaf that can't be read ends it with its error.
 */
#include <errno.h>
#include <stdlib.h>

#include "meta/internal.h"
#include "meta/snapshot.h"

#define LEAF_BLOCKS (LEAF_CHUNKS * CHUNK_BLOCKS)
#define NO_LEAF UINT64_MAX
#define KEPT_MAX 8

struct meta_diff {
	struct meta_pool *pool;
	struct meta_diff_side older, newer;
	uint64_t older_bytes, newer_bytes;
	struct db_txn *slot;
	uint64_t next_leaf; /* candidates before it have been handed out or are in blocks */
	uint64_t leaf;      /* whose blocks these are */
	unsigned at;        /* next block to hand out; LEAF_BLOCKS: none */
	uint8_t blocks[LEAF_BLOCKS];
	struct cache_item *kept[KEPT_MAX]; /* of the leaf that is being judged: two sides, two things each */
	unsigned kept_count;
};
enum { SAME, DATA, ZERO };

static bool is_nothing(const struct meta_diff_side *side)
{
	return !side->snapshot && !side->disk;
}

/* In an epoch. NULL: nothing. */
static struct meta_store *store_of(const struct meta_diff_side *side)
{
	if (side->snapshot)
		return meta_io_snapshot_store(side->snapshot);
	return side->disk ? meta_io_store(side->disk) : NULL;
}

static uint64_t size_of(const struct meta_diff_side *side)
{
	struct meta_snapshot_info info;

	if (side->disk)
		return meta_disk_size(side->disk);
	if (!side->snapshot)
		return 0;
	meta_snapshot_info(side->snapshot, &info);
	return info.size_bytes;
}

int meta_diff_begin(struct meta_pool *pool, const struct meta_diff_side *older, const struct meta_diff_side *newer,
		    struct meta_diff **ret, struct base_error *err)
{
	struct meta_diff *diff = malloc(sizeof(*diff));

	if (!diff)
		return base_error_set(err, -ENOMEM, "out of memory for a difference");
	diff->pool = pool;
	diff->older = older ? *older : (struct meta_diff_side){ .disk = NULL };
	diff->newer = *newer;
	diff->older_bytes = size_of(&diff->older);
	diff->newer_bytes = size_of(newer);
	diff->slot = NULL;
	diff->next_leaf = 0;
	diff->leaf = 0;
	diff->at = LEAF_BLOCKS;
	diff->kept_count = 0;
	*ret = diff;
	return 0;
}

void meta_diff_end(struct meta_diff *diff)
{
	if (!diff)
		return;
	db_read_free(diff->slot);
	free(diff);
}

/* ---- candidates; in an epoch ---------------------------------------------------------------- */

static struct meta_store *parent_of(struct meta_store *store)
{
	return atomic_load_explicit(&store->parent, memory_order_acquire);
}

static bool is_below(struct meta_store *top, const struct meta_store *store)
{
	while (top && top != store)
		top = parent_of(top);
	return top;
}

/* The nearest layer that both stand on or are; NULL: there is none. */
static struct meta_store *common_of(struct meta_store *a, struct meta_store *b)
{
	while (a && !is_below(b, a))
		a = parent_of(a);
	return a;
}

/* The next leaf of the layers from top down to, and without, common. Lowers *cut_bytes to each overlap on the way. */
static uint64_t next_on_way(struct meta_store *top, const struct meta_store *common, uint64_t from,
			    uint64_t *cut_bytes)
{
	uint64_t found = NO_LEAF;

	for (struct meta_store *at = top; at && at != common;) {
		struct meta_store *parent = parent_of(at);

		found = MIN(found, meta_map_next_leaf(at, from));
		if (parent)
			*cut_bytes = MIN(*cut_bytes, atomic_load(&at->overlap_bytes));
		at = parent;
	}
	return found;
}

static uint64_t next_of_both(const struct meta_diff *diff, struct meta_store *older, struct meta_store *newer,
			     uint64_t from)
{
	struct meta_store *common = common_of(older, newer);
	uint64_t cut_bytes = MIN(diff->older_bytes, diff->newer_bytes);
	uint64_t found = next_on_way(older, common, from, &cut_bytes);

	found = MIN(found, next_on_way(newer, common, from, &cut_bytes));
	/* Sides of one size with no cut between have nothing to be looked for behind it. */
	if (cut_bytes < MAX(diff->older_bytes, diff->newer_bytes)) {
		uint64_t cut_leaf = MAX(from, cut_bytes / LEAF_BYTES);

		found = MIN(found, meta_map_next_visible(older, cut_leaf));
		found = MIN(found, meta_map_next_visible(newer, cut_leaf));
	}
	return found;
}

/* The first leaf from `from` on in which the sides may differ. */
static uint64_t next_candidate(const struct meta_diff *diff, uint64_t from)
{
	struct meta_store *older = store_of(&diff->older), *newer = store_of(&diff->newer);
	uint64_t moves, found;

	if (!older)
		return meta_map_next_visible(newer, from);
	do {
		moves = atomic_load(&diff->pool->moved_leaves);
		found = next_of_both(diff, older, newer, from);
		atomic_thread_fence(memory_order_seq_cst);
	} while (atomic_load(&diff->pool->moved_leaves) != moves);
	return found;
}

/* ---- one leaf; in an epoch ------------------------------------------------------------------ */

static void let_go(struct meta_diff *diff)
{
	while (diff->kept_count > 0)
		meta_keep_end(diff->kept[--diff->kept_count]);
}

/* When a fold makes it more often than it should be, the first ones go. */
static void keep(struct meta_diff *diff, struct cache_item *item)
{
	if (item && diff->kept_count == KEPT_MAX)
		let_go(diff);
	if (item)
		diff->kept[diff->kept_count++] = item;
}

static int resolve(struct meta_diff *diff, struct meta_store *store, uint64_t chunk, uint32_t sources[CHUNK_BLOCKS])
{
	struct meta_missing missing;
	struct cache_item *kept;

	while (meta_map_resolve(store, chunk, UINT16_MAX, sources, &missing) == META_MISS) {
		int rc = map_load_now(&missing, &diff->slot, &kept);
		if (rc < 0)
			return rc;
		keep(diff, kept);
	}
	return 0;
}

/* What stands at a block of a side whose size is given; nothing stands behind its end. */
static uint32_t source_of(const uint32_t sources[CHUNK_BLOCKS], unsigned b, uint64_t block, uint64_t size_bytes)
{
	return block * BLOCK_BYTES < size_bytes ? sources[b] : 0;
}

static int judge_chunk(struct meta_diff *diff, unsigned i)
{
	uint32_t older[CHUNK_BLOCKS] = { 0 }, newer[CHUNK_BLOCKS] = { 0 };
	uint64_t chunk = diff->leaf * LEAF_CHUNKS + i;
	int rc = resolve(diff, store_of(&diff->newer), chunk, newer);

	if (rc == 0 && !is_nothing(&diff->older))
		rc = resolve(diff, store_of(&diff->older), chunk, older);
	for (unsigned b = 0; rc == 0 && b < CHUNK_BLOCKS; b++) {
		uint64_t block = chunk * CHUNK_BLOCKS + b;
		uint32_t was = source_of(older, b, block, diff->older_bytes);
		uint32_t is = source_of(newer, b, block, diff->newer_bytes);

		if (was == is || block * BLOCK_BYTES >= diff->newer_bytes)
			diff->blocks[i * CHUNK_BLOCKS + b] = SAME;
		else
			diff->blocks[i * CHUNK_BLOCKS + b] = is ? DATA : ZERO;
	}
	return rc;
}

/* Return: 0: blocks are of the next candidate; 1: there is none; negative errno. */
static int judge_next(struct meta_diff *diff)
{
	uint64_t epoch = pool_epoch_enter(diff->pool);
	int rc = 0;

	diff->leaf = next_candidate(diff, diff->next_leaf);
	if (diff->leaf == NO_LEAF || diff->leaf * LEAF_BYTES >= diff->newer_bytes)
		rc = 1;
	for (unsigned i = 0; rc == 0 && i < LEAF_CHUNKS; i++)
		rc = judge_chunk(diff, i);
	let_go(diff);
	pool_epoch_leave(diff->pool, epoch);
	if (rc == 0) {
		diff->next_leaf = diff->leaf + 1;
		diff->at = 0;
	}
	return rc;
}

/* ---- handing out ---------------------------------------------------------------------------- */

static void take_run(struct meta_diff *diff, struct meta_extent *ret)
{
	unsigned first = diff->at;
	uint64_t offset = diff->leaf * LEAF_BYTES + first * BLOCK_BYTES;

	while (diff->at < LEAF_BLOCKS && diff->blocks[diff->at] == diff->blocks[first])
		diff->at++;
	*ret = (struct meta_extent){
		.offset = offset,
		.bytes = MIN((diff->at - first) * BLOCK_BYTES, diff->newer_bytes - offset),
		.kind = diff->blocks[first] == ZERO ? META_EXTENT_ZERO : META_EXTENT_DATA,
	};
}

int meta_diff_next(struct meta_diff *diff, struct meta_extent *ret)
{
	for (;;) {
		while (diff->at < LEAF_BLOCKS && diff->blocks[diff->at] == SAME)
			diff->at++;
		if (diff->at < LEAF_BLOCKS) {
			take_run(diff, ret);
			return 0;
		}
		int rc = judge_next(diff);
		if (rc != 0)
			return rc;
	}
}
