/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree of layers in memory, and how a reader looks through it.
 *
 * A layer is a store with a parent: a block of which the store says neither valid
 * nor zero is looked for in the parent, if it lies below the overlap; at the
 * bottom it reads as zero. Only a head is written. All layers of a pool are in
 * memory from open on; their indexes and leaves are read when somebody needs them.
 *
 * A look-up asks the store's own leaf, and for what that does not say the view of
 * its parent (view.c), which is what all layers below show. Where there is no view
 * yet it walks on itself for a few layers, as far as their leaves are in memory: so
 * a disk whose snapshot was just taken reads on without a look-up.
 *
 * All of it goes without locks, in a pinned epoch. The
 * background moves entries from one store into its neighbour meanwhile (fold.c).
 * Downwards it sets the lower entry before it clears the upper one, so a walk
 * meets one or the other. Upwards a walk could pass the upper store before and
 * the lower one after the move and miss both: so a count is raised between the
 * two, and a walk that sees it changed begins anew.
 *
 * References: a layer is held by the disk whose head it is, the snapshot that
 * names it, its children and the jobs that work on it. When the last one goes it
 * leaves the list; it is freed when the epoch has passed, no look-up of it is
 * under way and nothing of it is kept, and only then lets go of its parent: a reader
 * that is still in it finds its way on.
 *
 * Releasing: a layer without disk, name and children is dead. Its record says
 * so in the same transaction, its space is freed in slices, and its parent has
 * lost a child, which may be the last.
 *
 * Failure modes: a damaged index (the disk does not open); no memory for a job:
 * the space comes back at the next open.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "meta/internal.h"

/* ---- references; catalog_lock -------------------------------------------------------------- */

void store_link(struct meta_store *store)
{
	store->refs = 1;
	store->next = store->pool->stores;
	store->link = &store->pool->stores;
	if (store->next)
		store->next->link = &store->next;
	store->pool->stores = store;
}

static void unlink_store(struct meta_store *store)
{
	*store->link = store->next;
	if (store->next)
		store->next->link = store->link;
}

void store_put_locked(struct meta_store *store)
{
	struct meta_pool *pool = store->pool;

	assert(store->refs > 0);
	if (--store->refs > 0)
		return;
	unlink_store(store);
	store->unlinked = true;
	store->retired_epoch = meta_epoch_now(&pool->epochs);
	store->next = pool->retired_stores;
	pool->retired_stores = store;
}

void store_put(struct meta_store *store)
{
	struct meta_pool *pool = store->pool;

	pthread_mutex_lock(&pool->catalog_lock);
	store_put_locked(store);
	pthread_mutex_unlock(&pool->catalog_lock);
	base_park_wake(&pool->bg_park);
}

void store_set_parent(struct meta_store *store, struct meta_store *parent, uint64_t overlap_bytes)
{
	struct meta_store *before = atomic_load(&store->parent);

	if (parent)
		parent->refs++;
	/* A reader that sees the new parent sees the new overlap too. */
	atomic_store(&store->overlap_bytes, overlap_bytes);
	atomic_store(&store->parent, parent);
	if (before)
		store_put_locked(before);
}

static bool is_done_with(struct meta_store *store)
{
	pthread_mutex_lock(&store->lock);
	bool done = store->loads == NULL && atomic_load(&store->kept) == 0;
	pthread_mutex_unlock(&store->lock);
	return done && meta_epoch_drained(&store->pool->epochs, store->retired_epoch);
}

#define POLL_NS UINT64_C(1000000)

uint64_t layers_free_retired(struct meta_pool *pool, uint64_t now_ns)
{
	struct meta_store *gone = NULL;

	pthread_mutex_lock(&pool->catalog_lock);
	for (struct meta_store **at = &pool->retired_stores; *at;) {
		struct meta_store *store = *at;
		if (!is_done_with(store)) {
			at = &store->next;
			continue;
		}
		*at = store->next;
		store->next = gone;
		gone = store;
	}
	bool any = pool->retired_stores != NULL;
	pthread_mutex_unlock(&pool->catalog_lock);
	for (any |= gone != NULL; gone;) {
		struct meta_store *store = gone, *parent = atomic_load(&store->parent);
		gone = store->next;
		store_free(store);
		if (parent)
			store_put(parent);
	}
	return any ? now_ns + POLL_NS : 0;
}

int layers_load_index(struct meta_pool *pool, _Atomic(struct meta_store *) *slot, struct base_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&pool->catalog_lock);
	struct meta_store *store = atomic_load(slot);
	store->refs++;
	pthread_mutex_unlock(&pool->catalog_lock);
	while (store) {
		rc = store_load_index(store, err);
		pthread_mutex_lock(&pool->catalog_lock);
		struct meta_store *parent = rc == 0 ? atomic_load(&store->parent) : NULL;
		if (parent)
			parent->refs++;
		store_put_locked(store);
		pthread_mutex_unlock(&pool->catalog_lock);
		store = parent;
	}
	return rc;
}

/* ---- looking through ------------------------------------------------------------------------ */

bool meta_store_is_layered(struct meta_store *store)
{
	return atomic_load_explicit(&store->parent, memory_order_acquire) != NULL;
}

uint16_t layer_blocks_below(uint64_t chunk_of_disk, uint64_t limit_bytes)
{
	uint64_t from = chunk_of_disk * CHUNK_BYTES;

	if (limit_bytes <= from)
		return 0;
	return meta_block_mask(0, (unsigned)MIN((limit_bytes - from) / BLOCK_BYTES, CHUNK_BLOCKS));
}

uint16_t store_mask_below(struct meta_store *store, uint64_t chunk_of_disk)
{
	if (!atomic_load(&store->parent))
		return 0;
	return layer_blocks_below(chunk_of_disk, atomic_load(&store->overlap_bytes));
}

uint16_t meta_store_below(struct meta_store *store, uint64_t chunk_of_disk)
{
	return store_mask_below(store, chunk_of_disk);
}

/* One layer's say: what it has of `left`. Returns what is still to be looked for below; 0: nothing. */
static uint16_t take_blocks(meta_entry entry, uint16_t left, uint32_t sources[CHUNK_BLOCKS])
{
	for (unsigned found = meta_entry_valid(entry) & left; found; found &= found - 1)
		sources[__builtin_ctz(found)] = meta_entry_chunk(entry).n;
	return left & (uint16_t) ~(meta_entry_valid(entry) | meta_entry_zero(entry));
}

/* Layers that a reader walks through itself where there is no view. */
#define WALK_LAYERS 4

/* Down from `store`, a parent. Return: 0; META_MISS: a leaf is not in memory, or there are too many layers. */
static int walk_down(struct meta_store *store, uint64_t chunk_of_disk, uint16_t left, uint32_t sources[CHUNK_BLOCKS])
{
	struct meta_leaf *leaf;

	for (unsigned layers = 0; layers < WALK_LAYERS; layers++) {
		int rc = meta_map_find(store, chunk_of_disk / LEAF_CHUNKS, &leaf);
		if (rc == META_MISS)
			return rc;
		if (rc == 0)
			left = take_blocks(meta_leaf_entry(leaf, (unsigned)(chunk_of_disk % LEAF_CHUNKS)), left,
					   sources);
		struct meta_store *parent = atomic_load_explicit(&store->parent, memory_order_acquire);
		if (left && parent)
			left &= layer_blocks_below(chunk_of_disk, atomic_load(&store->overlap_bytes));
		if (!left || !parent)
			return 0;
		store = parent;
	}
	return META_MISS;
}

static int look(struct meta_store *store, uint64_t chunk_of_disk, uint16_t left, uint64_t moves,
		uint32_t sources[CHUNK_BLOCKS], struct meta_missing *ret_missing)
{
	uint64_t number = chunk_of_disk / LEAF_CHUNKS;
	unsigned index = (unsigned)(chunk_of_disk % LEAF_CHUNKS);
	struct meta_leaf *leaf;
	int rc = meta_map_find(store, number, &leaf);

	if (rc == META_MISS) {
		*ret_missing = (struct meta_missing){ .store = store, .leaf_number = number };
		return rc;
	}
	if (rc == 0)
		left = take_blocks(meta_leaf_entry(leaf, index), left, sources);
	struct meta_store *parent = atomic_load_explicit(&store->parent, memory_order_acquire);
	if (left && parent)
		left &= layer_blocks_below(chunk_of_disk, atomic_load(&store->overlap_bytes));
	if (!left || !parent)
		return 0;
	struct meta_view *view = view_find(parent, number, moves);
	if (view) {
		view_take(view, index, left, sources);
		return 0;
	}
	*ret_missing = (struct meta_missing){ .store = parent, .leaf_number = number, .view = true };
	return walk_down(parent, chunk_of_disk, left, sources);
}

int meta_map_resolve(struct meta_store *store, uint64_t chunk_of_disk, uint16_t want,
		     uint32_t ret_sources[CHUNK_BLOCKS], struct meta_missing *ret_missing)
{
	_Atomic uint64_t *moves = &store->pool->move_counts[chunk_of_disk / LEAF_CHUNKS % MOVE_BUCKETS];

	for (;;) {
		uint64_t before = atomic_load(moves);
		for (unsigned b = 0; b < CHUNK_BLOCKS; b++)
			if (want >> b & 1)
				ret_sources[b] = 0;
		int rc = look(store, chunk_of_disk, want, before, ret_sources, ret_missing);
		atomic_thread_fence(memory_order_seq_cst);
		if (rc != 0 || atomic_load(moves) == before)
			return rc;
	}
}

uint64_t meta_map_next_visible(struct meta_store *store, uint64_t from)
{
	_Atomic uint64_t *moves = &store->pool->moved_leaves;
	uint64_t before, found;

	do {
		uint64_t limit_leaves = UINT64_MAX;
		before = atomic_load(moves);
		found = UINT64_MAX;
		for (struct meta_store *at = store; at && from < limit_leaves;) {
			uint64_t next = meta_map_next_leaf(at, from);
			if (next < limit_leaves)
				found = MIN(found, next);
			struct meta_store *parent = atomic_load_explicit(&at->parent, memory_order_acquire);
			uint64_t overlap_bytes = atomic_load(&at->overlap_bytes);
			limit_leaves = MIN(limit_leaves, (overlap_bytes + LEAF_BYTES - 1) / LEAF_BYTES);
			at = parent;
		}
	} while (atomic_load(moves) != before);
	return found;
}

/* ---- releasing; MW --------------------------------------------------------------------------- */

static void apply_released(struct meta_store *store, const struct meta_layer_record *rec)
{
	store->layer = *rec;
	if (rec->state == META_LAYER_LIVE) {
		fold_consider(store);
		return;
	}
	if (bg_add_clear(store->pool, store, NULL, 0) < 0)
		log_warning("no memory to free the space of layer %llu now: it comes back at the next open",
			    (unsigned long long)store->layer_id);
	store_set_parent(store, NULL, 0);
}

void layers_release_begin(struct meta_pool *pool)
{
	pool->release_serial++;
}

struct meta_layer_record *layers_draft(struct meta_store *store)
{
	if (store->release_serial != store->pool->release_serial) {
		store->release_serial = store->pool->release_serial;
		store->layer_next = store->layer;
		store->release_unnamed = false;
	}
	return &store->layer_next;
}

/* What becomes of a layer's record when it loses its disk or name (first), or a child. */
static struct meta_layer_record released(struct meta_layer_record rec, bool first, bool unnamed)
{
	if (first)
		rec.owner_disk = 0;
	else
		rec.children--;
	if (rec.children == 0 && unnamed) {
		rec.state = META_LAYER_DEAD;
		rec.parent = rec.overlap_bytes = 0;
	}
	return rec;
}

/* first: the layer has lost its disk or name; else a child. Then, in memory, a reference of it is given back. */
static int release(struct meta_pool *pool, struct db_txn *txn, struct meta_store *store, bool first)
{
	bool dead = true;
	int rc = 0;

	for (; store && dead && rc == 0; first = false) {
		struct meta_store *parent = atomic_load(&store->parent);
		struct meta_layer_record draft = txn ? *layers_draft(store) : store->layer;
		if (txn && first)
			store->release_unnamed = true;
		bool unnamed = first || (!store->head_of && !store->snapshot) || (txn && store->release_unnamed);
		struct meta_layer_record rec = released(draft, first, unnamed);
		dead = rec.state == META_LAYER_DEAD;
		if (txn) {
			*layers_draft(store) = rec;
			rc = catalog_put_layer(txn, store->layer_id, &rec);
		} else {
			if (parent)
				parent->refs++; /* its child, this layer, may let go of it now */
			apply_released(store, &rec);
			if (!first)
				store_put_locked(store);
			if (parent && !dead)
				store_put_locked(parent);
		}
		store = parent;
	}
	return rc;
}

int layers_release(struct meta_pool *pool, struct db_txn *txn, struct meta_store *store)
{
	return release(pool, txn, store, true);
}

int layers_release_child(struct meta_pool *pool, struct db_txn *txn, struct meta_store *store)
{
	if (!txn)
		store->refs++;
	return release(pool, txn, store, false);
}
