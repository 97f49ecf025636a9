/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map in memory: stores, their index, their leaves, and how an entry changes.
 *
 * A store is the map of one layer. In memory it is a radix tree of three
 * levels: directory -> group (64 GiB, with the index record's presence bits) ->
 * row (1 GiB) -> leaf (8 MiB). Readers walk it with plain atomic loads inside a
 * pinned epoch; insertions and removals take store.lock.
 *
 * States of a leaf slot:
 *   no leaf, presence bit clear   a hole: every entry is 0
 *   no leaf, presence bit set     on disk only: a miss
 *   leaf in memory                what it says, whatever the bit says
 *
 * States of a leaf: clean -> dirty (an entry changed) -> committing (copied; may be
 * dirty again) -> clean. Only a clean leaf that nobody has pinned is evicted (cache.c).
 *
 * One change (leaf_set_logged), all under leaf.lock: append the restart record,
 * store the entry, put the leaf on the dirty list, then free what was dropped,
 * then say that the append has ended. The order is what commit.c relies on.
 *
 * Failure modes: no memory for a group, row or leaf (-ENOMEM to the request);
 * a damaged index (the disk does not open).
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/planted.h"
#include "meta/internal.h"

/* ---- stores ------------------------------------------------------------------------------- */

_Static_assert(sizeof(struct meta_leaf) + 8 <= META_LEAF_MEMORY_BYTES, "what the cache's limit counts a leaf at");

struct meta_store *store_new(struct meta_pool *pool, uint64_t layer_id, const struct meta_layer_record *layer)
{
	struct meta_store *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	store->pool = pool;
	store->id = layer->store_id;
	store->layer_id = layer_id;
	store->layer = *layer;
	atomic_init(&store->chunks_owned, layer->chunks_owned);
	atomic_init(&store->blocks_valid, layer->blocks_valid);
	pthread_mutex_init(&store->lock, NULL);
	return store;
}

static void group_free(struct meta_pool *pool, struct leaf_group *group)
{
	for (unsigned r = 0; group && r < GROUP_ROWS; r++) {
		struct leaf_row *row = atomic_load(&group->rows[r]);
		for (unsigned i = 0; row && i < ROW_LEAVES; i++) {
			struct meta_leaf *leaf = atomic_load(&row->leaf[i]);
			if (leaf)
				cache_discard(pool, &leaf->item);
		}
		atomic_fetch_sub(&pool->cache_tables, row ? sizeof(*row) : 0);
		free(row);
		view_row_free(pool, atomic_load(&group->view_rows[r]));
	}
	atomic_fetch_sub(&pool->cache_tables, group ? sizeof(*group) : 0);
	free(group);
}

/* Nobody can reach the store any more, and no leaf of it is dirty or on its way. */
void store_free(struct meta_store *store)
{
	struct group_dir *dir = atomic_load(&store->dir);

	for (uint64_t g = 0; dir && g < dir->count; g++)
		group_free(store->pool, atomic_load(&dir->groups[g]));
	cache_discard_replaced(store);
	while (dir) {
		struct group_dir *older = dir->older;
		free(dir);
		dir = older;
	}
	space_claim_drop(&store->pool->space, &store->claim);
	pthread_mutex_destroy(&store->lock);
	free(store);
}

struct leaf_group *store_group(struct meta_store *store, uint64_t group_number)
{
	struct group_dir *dir = atomic_load_explicit(&store->dir, memory_order_acquire);

	if (!dir || group_number >= dir->count)
		return NULL;
	return atomic_load_explicit(&dir->groups[group_number], memory_order_acquire);
}

static int grow_dir(struct meta_store *store, uint64_t count)
{
	struct group_dir *old = atomic_load(&store->dir);

	if (old && count <= old->count)
		return 0;
	count = old ? MAX(count, old->count * 2) : count;
	struct group_dir *dir = calloc(1, sizeof(*dir) + count * sizeof(dir->groups[0]));
	if (!dir)
		return -ENOMEM;
	dir->older = old;
	dir->count = count;
	for (uint64_t i = 0; old && i < old->count; i++)
		atomic_init(&dir->groups[i], atomic_load(&old->groups[i]));
	atomic_store_explicit(&store->dir, dir, memory_order_release);
	return 0;
}

struct leaf_group *store_group_make(struct meta_store *store, uint64_t group_number)
{
	struct leaf_group *group = store_group(store, group_number);

	if (group)
		return group;
	if (grow_dir(store, group_number + 1) < 0)
		return NULL;
	group = calloc(1, sizeof(*group));
	if (group) {
		atomic_fetch_add(&store->pool->cache_tables, sizeof(*group));
		atomic_store_explicit(&atomic_load(&store->dir)->groups[group_number], group, memory_order_release);
	}
	return group;
}

/* ---- presence ----------------------------------------------------------------------------- */

static bool group_has(struct leaf_group *group, uint64_t leaf_number)
{
	uint64_t i = leaf_number % GROUP_LEAVES;

	return atomic_load_explicit(&group->present[i / 64], memory_order_acquire) >> (i % 64) & 1;
}

bool store_leaf_is_present(struct meta_store *store, uint64_t leaf_number)
{
	struct leaf_group *group = store_group(store, leaf_number >> GROUP_SHIFT);

	return group && group_has(group, leaf_number);
}

void store_set_present(struct meta_store *store, uint64_t leaf_number, bool present)
{
	struct leaf_group *group = store_group(store, leaf_number >> GROUP_SHIFT);
	uint64_t i = leaf_number % GROUP_LEAVES, bit = UINT64_C(1) << (i % 64);

	assert(group); /* a leaf of it is in memory */
	if (present)
		atomic_fetch_or(&group->present[i / 64], bit);
	else
		atomic_fetch_and(&group->present[i / 64], ~bit);
}

static int load_one_index(struct meta_store *store, uint64_t group_number, const struct db_value *value,
			  struct base_error *err)
{
	struct meta_index_record rec;

	if (meta_index_decode(value->b, value->bytes, &rec) < 0)
		return base_error_set(err, -EBADMSG,
				      "index record %" PRIu64 " of store %" PRIu64 " is damaged; run `bdfs check`",
				      group_number, store->id);
	struct leaf_group *group = group_number < DISK_BYTES_MAX / LEAF_BYTES / GROUP_LEAVES
					   ? store_group_make(store, group_number)
					   : NULL;
	if (!group)
		return base_error_set(err, -ENOMEM, "no memory for the index of store %" PRIu64, store->id);
	for (unsigned w = 0; w < GROUP_LEAVES / 64; w++) {
		uint64_t word = 0;
		for (unsigned b = 0; b < 8; b++)
			word |= (uint64_t)rec.present[w * 8 + b] << (b * 8);
		atomic_store(&group->present[w], word);
	}
	return 0;
}

static int scan_index(struct meta_store *store, struct db_txn *txn, uint64_t *found, struct base_error *err)
{
	struct db_key key = db_key_u64_u64(store->id, 0);
	struct db_value value;
	uint64_t id, group_number;
	bool inclusive = true;

	for (;; inclusive = false) {
		int rc = db_next(txn, DB_INDEX, &key, inclusive, &value);
		if (rc == DB_NOT_FOUND)
			return 0;
		if (rc < 0 && rc != -EBADMSG)
			return base_error_set_errno(err, rc, "can't read the index of store %" PRIu64, store->id);
		if (!db_key_to_u64_u64(&key, &id, &group_number) || id != store->id)
			return 0;
		if (rc == -EBADMSG)
			return base_error_set(err, rc,
					      "index record %" PRIu64 " of store %" PRIu64
					      " has a wrong checksum; run `bdfs check`",
					      group_number, store->id);
		rc = load_one_index(store, group_number, &value, err);
		if (rc < 0)
			return rc;
		++*found;
	}
}

/* All index records of a store are loaded when its disk is opened, and counted: a lost one would read as holes. */
int store_load_index(struct meta_store *store, struct base_error *err)
{
	struct db_txn *txn = NULL;
	uint64_t found = 0;

	pthread_mutex_lock(&store->lock);
	bool loaded = store->index_loaded;
	pthread_mutex_unlock(&store->lock);
	if (loaded)
		return 0;
	int rc = db_read_begin(store->pool->env, &txn);
	if (rc < 0)
		return base_error_set_errno(err, rc, "can't read the metadata");
	/* store.lock: two openers at once must not both fill groups. Nobody has the store open yet, so nobody waits
	 * for it on a hot path. */
	pthread_mutex_lock(&store->lock);
	if (!store->index_loaded) {
		rc = scan_index(store, txn, &found, err);
		if (rc == 0 && found != store->layer.index_records)
			rc = base_error_set(err, -EBADMSG,
					    "store %" PRIu64 " has %" PRIu64
					    " index records where its layer counts %" PRIu64 "; run `bdfs check`",
					    store->id, found, store->layer.index_records);
		store->index_loaded = rc == 0;
	}
	pthread_mutex_unlock(&store->lock);
	db_read_end(txn);
	db_read_free(txn);
	return rc;
}

/* ---- leaves ------------------------------------------------------------------------------- */

struct leaf_row *store_row(struct leaf_group *group, uint64_t leaf_number)
{
	return atomic_load_explicit(&group->rows[leaf_number % GROUP_LEAVES / ROW_LEAVES], memory_order_acquire);
}

static struct meta_leaf *leaf_in_memory(struct leaf_group *group, uint64_t leaf_number)
{
	struct leaf_row *row = store_row(group, leaf_number);

	return row ? atomic_load_explicit(&row->leaf[leaf_number % ROW_LEAVES], memory_order_acquire) : NULL;
}

int meta_map_find(struct meta_store *store, uint64_t leaf_number, struct meta_leaf **ret)
{
	struct leaf_group *group = store_group(store, leaf_number >> GROUP_SHIFT);

	if (!group)
		return META_HOLE;
	/* The slot before the bit: a leaf's bit is set before the leaf can be evicted. */
	struct meta_leaf *leaf = leaf_in_memory(group, leaf_number);
	if (!leaf)
		return group_has(group, leaf_number) ? META_MISS : META_HOLE;
	if (!atomic_load_explicit(&leaf->item.referenced, memory_order_relaxed))
		atomic_store_explicit(&leaf->item.referenced, true, memory_order_relaxed);
	*ret = leaf;
	return 0;
}

static struct leaf_row *row_make(struct meta_pool *pool, struct leaf_group *group, uint64_t leaf_number)
{
	_Atomic(struct leaf_row *) *slot = &group->rows[leaf_number % GROUP_LEAVES / ROW_LEAVES];
	struct leaf_row *row = atomic_load(slot);

	if (!row) {
		row = calloc(1, sizeof(*row));
		atomic_fetch_add(&pool->cache_tables, row ? sizeof(*row) : 0);
		atomic_store_explicit(slot, row, memory_order_release);
	}
	return row;
}

struct meta_leaf *store_install(struct meta_store *store, uint64_t leaf_number, const meta_entry *entries)
{
	struct meta_pool *pool = store->pool;
	struct leaf_group *group = store_group_make(store, leaf_number >> GROUP_SHIFT);
	struct leaf_row *row = group ? row_make(pool, group, leaf_number) : NULL;
	struct meta_leaf *leaf = row ? calloc(1, sizeof(*leaf)) : NULL;

	if (!leaf)
		return NULL;
	leaf->store = store;
	leaf->number = leaf_number;
	pthread_mutex_init(&leaf->lock, NULL);
	leaf->item.bytes = META_LEAF_MEMORY_BYTES;
	atomic_init(&leaf->item.referenced, true);
	for (unsigned i = 0; entries && i < LEAF_CHUNKS; i++)
		atomic_init(&leaf->entries[i], entries[i]);
	/* First into its place: what eviction meets on the ring is in its place, or was. */
	atomic_store_explicit(&row->leaf[leaf_number % ROW_LEAVES], leaf, memory_order_release);
	cache_insert(pool, &leaf->item);
	return leaf;
}

/* Return: 0; META_BUSY; META_MISS: it has just been evicted. */
static int try_pin(struct meta_leaf *leaf)
{
	pthread_mutex_lock(&leaf->lock);
	int rc = leaf->evicted ? META_MISS : leaf->folding ? META_BUSY : 0;
	if (rc == 0)
		leaf->pins++;
	pthread_mutex_unlock(&leaf->lock);
	return rc;
}

int meta_map_pin(struct meta_store *store, uint64_t leaf_number, struct meta_leaf **ret)
{
	for (;;) {
		int rc = meta_map_find(store, leaf_number, ret);
		if (rc == META_MISS)
			return rc;
		if (rc == META_HOLE) {
			pthread_mutex_lock(&store->lock);
			/* Somebody may have made it, or committed and evicted it, in between. */
			rc = meta_map_find(store, leaf_number, ret);
			if (rc == META_HOLE)
				rc = (*ret = store_install(store, leaf_number, NULL)) ? 0 : -ENOMEM;
			pthread_mutex_unlock(&store->lock);
			if (rc != 0)
				return rc;
		}
		rc = try_pin(*ret);
		if (rc != META_MISS)
			return rc;
		/* Evicted under our hands; it is out of its slot, or will be in a moment. */
	}
}

void meta_leaf_unpin(struct meta_leaf *leaf)
{
	pthread_mutex_lock(&leaf->lock);
	assert(leaf->pins > 0);
	leaf->pins--;
	pthread_mutex_unlock(&leaf->lock);
}

meta_entry meta_leaf_entry(struct meta_leaf *leaf, unsigned index)
{
	return atomic_load_explicit(&leaf->entries[index], memory_order_acquire);
}

/* The first leaf of the row at or after `from` that is in memory or present, or UINT64_MAX. */
static uint64_t next_in_group(struct leaf_group *group, uint64_t from)
{
	uint64_t base = from / GROUP_LEAVES * GROUP_LEAVES;

	for (uint64_t i = from % GROUP_LEAVES; i < GROUP_LEAVES; i++) {
		uint64_t word = atomic_load(&group->present[i / 64]) >> (i % 64);
		bool row = atomic_load(&group->rows[i / ROW_LEAVES]) != NULL;
		if (word == 0 && !row) { /* nothing in the rest of this word: on to the next */
			i |= 63;
			continue;
		}
		if ((word & 1) || leaf_in_memory(group, base + i))
			return base + i;
	}
	return UINT64_MAX;
}

uint64_t meta_map_next_leaf(struct meta_store *store, uint64_t from)
{
	struct group_dir *dir = atomic_load_explicit(&store->dir, memory_order_acquire);

	for (uint64_t g = from >> GROUP_SHIFT; dir && g < dir->count; g++) {
		struct leaf_group *group = atomic_load_explicit(&dir->groups[g], memory_order_acquire);
		uint64_t found = group ? next_in_group(group, MAX(from, g << GROUP_SHIFT)) : UINT64_MAX;
		if (found != UINT64_MAX)
			return found;
	}
	return UINT64_MAX;
}

/* ---- changes ------------------------------------------------------------------------------ */

void pool_note_dirty(struct meta_pool *pool)
{
	uint64_t none = 0;

	if (atomic_load_explicit(&pool->dirty_since_ns, memory_order_relaxed) == 0 &&
	    atomic_compare_exchange_strong(&pool->dirty_since_ns, &none, base_clock_ns()))
		base_park_wake(&pool->mw_park); /* its deadline is new */
	if (atomic_load_explicit(&pool->dirty_count, memory_order_relaxed) == pool_commit_leaves(pool) ||
	    (pool->log && restart_percent_used(pool->log) == 50))
		base_park_wake(&pool->mw_park);
}

void leaf_mark_dirty(struct meta_leaf *leaf)
{
	struct meta_pool *pool = leaf->store->pool;

	if (leaf->dirty)
		return;
	leaf->dirty = true;
	pthread_mutex_lock(&pool->dirty_lock);
	leaf->dirty_next = pool->dirty_leaves;
	pool->dirty_leaves = leaf;
	atomic_fetch_add(&pool->dirty_count, 1);
	pthread_mutex_unlock(&pool->dirty_lock);
}

void leaf_account(struct meta_store *store, meta_entry before, meta_entry after)
{
	int chunks = (meta_entry_chunk(after).n != 0) - (meta_entry_chunk(before).n != 0);
	int blocks = __builtin_popcount(meta_entry_valid(after)) - __builtin_popcount(meta_entry_valid(before));

	/* Unsigned wrap-around makes adding a negative number right. */
	if (chunks) {
		atomic_fetch_add(&store->chunks_owned, (uint64_t)(int64_t)chunks);
		atomic_fetch_add(&store->pool->space.mapped, (uint64_t)(int64_t)chunks);
	}
	if (blocks)
		atomic_fetch_add(&store->blocks_valid, (uint64_t)(int64_t)blocks);
}

void leaf_set_logged(struct meta_disk *disk, struct meta_leaf *leaf, unsigned index, meta_entry entry)
{
	struct meta_pool *pool = leaf->store->pool;
	meta_entry before = atomic_load_explicit(&leaf->entries[index], memory_order_relaxed);
	struct restart_record rec = {
		.kind = RESTART_ENTRY, .id = leaf->store->id, .at = leaf->number * LEAF_CHUNKS + index, .value = entry
	};

	if (planted(BUG_NO_RESTART_RECORD))
		rec.kind = 0; /* a replay skips what it does not know */
	unsigned token = restart_append(pool->log, &rec);
	atomic_store_explicit(&leaf->entries[index], entry, memory_order_release);
	disk_note_change(disk);
	leaf_mark_dirty(leaf);
	leaf_account(leaf->store, before, entry);
	uint32_t dropped = meta_entry_chunk(before).n;
	if (dropped != 0 && dropped != meta_entry_chunk(entry).n)
		space_free(&pool->space, &leaf->store->claim, dropped);
	restart_append_end(pool->log, token);
}

void meta_change_add(struct meta_disk *disk, struct meta_leaf *leaf, unsigned index, struct pchunk chunk,
		     uint16_t add)
{
	pthread_mutex_lock(&leaf->lock);
	meta_entry before = atomic_load_explicit(&leaf->entries[index], memory_order_relaxed);
	assert(meta_entry_chunk(before).n == 0 || meta_entry_chunk(before).n == chunk.n);
	leaf_set_logged(
		disk, leaf, index,
		meta_entry_make(chunk, meta_entry_valid(before) | add, meta_entry_zero(before) & (uint16_t)~add));
	pthread_mutex_unlock(&leaf->lock);
	pool_note_dirty(disk->pool);
}

void meta_change_remove(struct meta_disk *disk, struct meta_leaf *leaf, unsigned index, uint16_t remove,
			bool drop_chunk)
{
	pthread_mutex_lock(&leaf->lock);
	meta_entry before = atomic_load_explicit(&leaf->entries[index], memory_order_relaxed);
	uint16_t valid = meta_entry_valid(before) & (uint16_t)~remove;
	/* Where a parent would show, the block is marked as zero. */
	uint16_t zero = remove & store_mask_below(leaf->store, leaf->number * LEAF_CHUNKS + index);
	bool drop = drop_chunk && valid == 0 && (remove == UINT16_MAX || meta_entry_valid(before) != 0);
	leaf_set_logged(disk, leaf, index,
			meta_entry_make(drop ? (struct pchunk){ 0 } : meta_entry_chunk(before), valid,
					meta_entry_zero(before) | zero));
	pthread_mutex_unlock(&leaf->lock);
	pool_note_dirty(disk->pool);
}

void meta_change_unmark(struct meta_disk *disk, struct meta_leaf *leaf, unsigned index, uint16_t blocks)
{
	pthread_mutex_lock(&leaf->lock);
	meta_entry before = atomic_load_explicit(&leaf->entries[index], memory_order_relaxed);
	leaf_set_logged(disk, leaf, index,
			meta_entry_make(meta_entry_chunk(before), meta_entry_valid(before),
					meta_entry_zero(before) & (uint16_t)~blocks));
	pthread_mutex_unlock(&leaf->lock);
	pool_note_dirty(disk->pool);
}

void meta_change_grow(struct meta_disk *disk, uint64_t size_bytes)
{
	struct meta_pool *pool = disk->pool;
	struct restart_record rec = { .kind = RESTART_SIZE, .id = disk->number, .value = size_bytes };

	pthread_mutex_lock(&disk->size_lock);
	rec.at = disk->record.resize_count; /* changes only under every stripe, which the caller holds */
	unsigned token = restart_append(pool->log, &rec);
	atomic_store(&disk->size_bytes, size_bytes);
	disk_note_change(disk);
	pthread_mutex_lock(&pool->dirty_lock);
	if (!disk->size_dirty) {
		disk->size_dirty = true;
		disk->size_dirty_next = pool->dirty_sizes;
		pool->dirty_sizes = disk;
	}
	pthread_mutex_unlock(&pool->dirty_lock);
	restart_append_end(pool->log, token);
	pthread_mutex_unlock(&disk->size_lock);
	pool_note_dirty(pool);
}

bool meta_change_reserve(struct meta_pool *pool, unsigned slots)
{
	return restart_reserve(pool->log, slots);
}

void meta_change_unreserve(struct meta_pool *pool, unsigned slots)
{
	restart_unreserve(pool->log, slots);
}

bool meta_change_is_throttled(struct meta_pool *pool)
{
	return atomic_load_explicit(&pool->dirty_count, memory_order_relaxed) >= 2 * pool_commit_leaves(pool);
}
