/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One commit: making the map changes so far durable.
 *
 *   1  give the next commit its number; close the batch of freed chunks; switch the
 *      restart log to a new segment; take the dirty lists; copy
 *   2  sync the pvs: what the copies point to is on stable storage
 *   3  write the copies, and all that is derived from them (index, space bitmap,
 *      layer counters), in one LMDB transaction
 *   4  publish: presence bits, the batch to the background, drop the old log
 *      segment, labels (unsynced), answer who waited
 *
 * What changes after the copy belongs to the next commit.
 *
 * The order inside 1 is what makes it sound. A change appends to the log, enters
 * the map, goes on the dirty list, frees what it dropped, and ends its append,
 * all under its leaf's lock (map.c). The batch is closed before the dirty list is
 * taken: a chunk in the batch has its leaf on the list. The appends of the old
 * segment are waited for before the list is taken: a record in the old segment
 * has its change in the copy, so the segment may go when the copy is durable. The
 * number moves before the segment does: a change that is recorded in the new
 * segment, and so may miss the copy, carries the next commit's number.
 *
 * Bitmap changes are derived, not collected: the leaf that LMDB has is compared
 * with the copy. All clears come before all sets, since a chunk may move between
 * two leaves in one commit. A set bit that is set already is corruption.
 *
 * Failure modes: a failed sync marks the log, then fails the pool, for ever. A
 * full metadata file system (ENOSPC, nothing written), or no memory, makes
 * everything dirty again; tried again when there may be room. Any other failure fails the pool.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/planted.h"
#include "meta/internal.h"

/* ---- 1: copy ------------------------------------------------------------------------------ */

static int room_for(void **array, size_t *room, size_t want, size_t element_bytes)
{
	if (want <= *room)
		return 0;
	size_t grown_room = MAX(want, *room * 2);
	void *grown = realloc(*array, grown_room * element_bytes);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*room = grown_room;
	return 0;
}

static void copy_leaf(struct meta_leaf *leaf, struct leaf_copy *copy)
{
	pthread_mutex_lock(&leaf->lock);
	leaf->dirty = false;
	leaf->committing = true;
	for (unsigned i = 0; i < LEAF_CHUNKS; i++)
		copy->entries[i] = atomic_load_explicit(&leaf->entries[i], memory_order_relaxed);
	pthread_mutex_unlock(&leaf->lock);
	copy->leaf = leaf;
	copy->store = leaf->store;
	copy->number = leaf->number;
}

static int by_store_and_number(const void *pa, const void *pb)
{
	const struct leaf_copy *a = pa, *b = pb;

	if (a->store->id != b->store->id)
		return a->store->id < b->store->id ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

/* Room is made before the list is taken, so that no memory leaves all as it was. */
static int copy_leaves(struct meta_pool *pool)
{
	struct commit_work *work = &pool->work;

	pthread_mutex_lock(&pool->dirty_lock);
	int rc = room_for((void **)&work->leaves, &work->leaf_room, atomic_load(&pool->dirty_count),
			  sizeof(*work->leaves));
	struct meta_leaf *leaf = rc == 0 ? pool->dirty_leaves : NULL;
	if (rc == 0) {
		pool->dirty_leaves = NULL;
		atomic_store(&pool->dirty_count, 0);
		atomic_store(&pool->dirty_since_ns, 0);
	}
	pthread_mutex_unlock(&pool->dirty_lock);
	while (leaf) {
		/* Once `dirty` is false the leaf may be put on the new list: read the link first. */
		struct meta_leaf *next = leaf->dirty_next;
		copy_leaf(leaf, &work->leaves[work->leaf_count++]);
		leaf = next;
	}
	if (work->leaf_count > 1)
		qsort(work->leaves, work->leaf_count, sizeof(*work->leaves), by_store_and_number);
	return rc;
}

static int copy_sizes(struct meta_pool *pool)
{
	struct commit_work *work = &pool->work;
	size_t count = 0;

	pthread_mutex_lock(&pool->dirty_lock);
	for (struct meta_disk *disk = pool->dirty_sizes; disk; disk = disk->size_dirty_next)
		count++;
	int rc = room_for((void **)&work->sizes, &work->size_room, count, sizeof(*work->sizes));
	for (struct meta_disk *disk = pool->dirty_sizes; rc == 0 && disk; disk = disk->size_dirty_next) {
		disk->size_dirty = false;
		work->sizes[work->size_count++] = (struct size_copy){ disk, atomic_load(&disk->size_bytes) };
	}
	if (rc == 0)
		pool->dirty_sizes = NULL;
	pthread_mutex_unlock(&pool->dirty_lock);
	return rc;
}

/* Sizes last: a write that makes a disk longer changes the size before the map, so a copy that has its data has its
 * size. */
static int copy_dirty(struct meta_pool *pool)
{
	pool->work.leaf_count = pool->work.size_count = 0;
	/* A move of a chunk between two leaves (fold.c) is in both copies or in neither. */
	pthread_mutex_lock(&pool->move_lock);
	int rc = copy_leaves(pool);
	pthread_mutex_unlock(&pool->move_lock);
	return rc < 0 ? rc : copy_sizes(pool);
}

/* ---- 3: the transaction ------------------------------------------------------------------- */

static int push(struct chunk_vec *vec, uint32_t chunk)
{
	int rc = room_for((void **)&vec->chunks, &vec->room, vec->count + 1, sizeof(*vec->chunks));

	if (rc == 0)
		vec->chunks[vec->count++] = chunk;
	return rc;
}

static int compare_entries(struct commit_work *work, struct meta_layer_record *layer, const meta_entry *old,
			   const meta_entry *new)
{
	int rc = 0;

	for (unsigned i = 0; i < LEAF_CHUNKS && rc == 0; i++) {
		uint32_t was = meta_entry_chunk(old[i]).n, is = meta_entry_chunk(new[i]).n;
		layer->blocks_valid += (uint64_t)(int64_t)(__builtin_popcount(meta_entry_valid(new[i])) -
							   __builtin_popcount(meta_entry_valid(old[i])));
		if (was == is)
			continue;
		layer->chunks_owned += (uint64_t)(int64_t)((is != 0) - (was != 0));
		if (was)
			rc = push(&work->freed, was);
		if (is && rc == 0)
			rc = push(&work->taken, is);
	}
	return rc;
}

static int write_leaf(struct meta_pool *pool, struct db_txn *txn, struct leaf_copy *copy,
		      struct meta_layer_record *layer)
{
	struct db_key key = db_key_u64_u64(copy->store->id, copy->number);
	uint8_t encoded[META_LEAF_ENCODED_BYTES_MAX];
	meta_entry old[LEAF_CHUNKS] = { 0 };
	struct db_value value;

	int rc = db_get(txn, DB_MAP, &key, &value);
	copy->present_before = rc == 0;
	if (rc == 0)
		rc = meta_leaf_decode(value.b, value.bytes, old);
	if (rc < 0)
		return rc;
	rc = compare_entries(&pool->work, layer, old, copy->entries);
	if (rc < 0)
		return rc;
	size_t bytes = meta_leaf_encode(copy->entries, encoded);
	copy->present_after = bytes != 0;
	if (bytes)
		return db_put(txn, DB_MAP, &key, encoded, bytes);
	return copy->present_before ? db_del(txn, DB_MAP, &key) : 0;
}

static bool is_zero(const uint8_t *bytes, size_t count)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0;
}

/* The copies [first, end) are of one group of one store. */
static int write_index(struct db_txn *txn, const struct leaf_copy *first, const struct leaf_copy *end,
		       struct meta_layer_record *layer)
{
	struct db_key key = db_key_u64_u64(first->store->id, first->number >> GROUP_SHIFT);
	struct meta_index_record rec = { 0 };
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct db_value value;
	bool changed = false;

	for (const struct leaf_copy *copy = first; copy < end; copy++)
		changed |= copy->present_before != copy->present_after;
	if (!changed)
		return 0;
	int rc = db_get(txn, DB_INDEX, &key, &value);
	bool existed = rc == 0;
	if (existed)
		rc = meta_index_decode(value.b, value.bytes, &rec);
	if (rc < 0)
		return rc;
	for (const struct leaf_copy *copy = first; copy < end; copy++) {
		uint64_t i = copy->number % GROUP_LEAVES;
		if (!copy->present_after)
			rec.present[i / 8] &= (uint8_t) ~(1u << (i % 8));
		else
			rec.present[i / 8] |= (uint8_t)(1u << (i % 8));
	}
	bool exists = !is_zero(rec.present, sizeof(rec.present));
	layer->index_records += (uint64_t)(int64_t)((int)exists - (int)existed);
	if (exists)
		return db_put(txn, DB_INDEX, &key, buf, meta_index_encode(&rec, buf));
	return existed ? db_del(txn, DB_INDEX, &key) : 0;
}

/* One store's copies: leaves, index records, layer. The layer in memory changes only in publish(). */
static int write_store(struct meta_pool *pool, struct db_txn *txn, struct leaf_copy *first, struct leaf_copy *end,
		       struct meta_layer_record *ret_layer)
{
	struct meta_layer_record layer = first->store->layer;
	int rc = 0;

	for (struct leaf_copy *copy = first; copy < end && rc == 0; copy++)
		rc = write_leaf(pool, txn, copy, &layer);
	for (struct leaf_copy *copy = first; copy < end && rc == 0;) {
		struct leaf_copy *stop = copy;
		while (stop < end && stop->number >> GROUP_SHIFT == copy->number >> GROUP_SHIFT)
			stop++;
		rc = write_index(txn, copy, stop, &layer);
		copy = stop;
	}
	if (rc == 0)
		rc = catalog_put_layer(txn, first->store->layer_id, &layer);
	*ret_layer = layer;
	return rc;
}

static int write_stores(struct meta_pool *pool, struct db_txn *txn)
{
	struct leaf_copy *end = pool->work.leaves + pool->work.leaf_count;
	int rc = 0;

	for (struct leaf_copy *first = pool->work.leaves; first < end && rc == 0;) {
		struct leaf_copy *stop = first;
		while (stop < end && stop->store == first->store)
			stop++;
		rc = write_store(pool, txn, first, stop, &first->store->layer_next);
		first = stop;
	}
	return rc;
}

static int by_number(const void *pa, const void *pb)
{
	const uint32_t *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

int commit_put_space_group(struct meta_pool *pool, struct db_txn *txn, uint64_t group)
{
	struct meta_space_record rec;
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct db_key key = db_key_u64(group);

	memset(&rec, 0, sizeof(rec));
	memcpy(rec.owned, pool->space.owned + group * (SPACE_GROUP_CHUNKS / 64),
	       MIN(sizeof(rec.owned), (pool->space.room - group * SPACE_GROUP_CHUNKS) / 8));
	if (!is_zero(rec.owned, sizeof(rec.owned)))
		return db_put(txn, DB_SPACE, &key, buf, meta_space_encode(&rec, buf));
	int rc = db_del(txn, DB_SPACE, &key);
	return rc == DB_NOT_FOUND ? 0 : rc;
}

static int change_owned(struct meta_pool *pool)
{
	struct commit_work *work = &pool->work;

	for (; work->cleared < work->freed.count; work->cleared++)
		if (!space_owned_clear(&pool->space, work->freed.chunks[work->cleared]))
			return -EBADMSG;
	for (; work->set < work->taken.count; work->set++)
		if (!space_owned_set(&pool->space, work->taken.chunks[work->set]))
			return -EBADMSG;
	return 0;
}

/* Chunks come in runs, and so do their groups: what is sorted afterwards is short. */
static size_t note_groups(uint32_t *groups, size_t count, const struct chunk_vec *vec)
{
	for (size_t i = 0; i < vec->count; i++) {
		uint32_t group = vec->chunks[i] / SPACE_GROUP_CHUNKS;
		if (count == 0 || groups[count - 1] != group)
			groups[count++] = group;
	}
	return count;
}

static int write_space(struct meta_pool *pool, struct db_txn *txn)
{
	struct commit_work *work = &pool->work;
	size_t touched = work->freed.count + work->taken.count;

	int rc = room_for((void **)&work->groups, &work->group_room, touched, sizeof(*work->groups));
	if (rc == 0)
		rc = change_owned(pool);
	if (rc < 0)
		return rc;
	touched = note_groups(work->groups, note_groups(work->groups, 0, &work->freed), &work->taken);
	if (touched > 1)
		qsort(work->groups, touched, sizeof(*work->groups), by_number);
	for (size_t i = 0; i < touched && rc == 0; i++)
		if (i == 0 || work->groups[i] != work->groups[i - 1])
			rc = commit_put_space_group(pool, txn, work->groups[i]);
	return rc;
}

/* The transaction did not happen: the bitmap in memory is as it was. */
static void undo_space(struct meta_pool *pool)
{
	struct commit_work *work = &pool->work;

	while (work->set > 0)
		(void)space_owned_clear(&pool->space, work->taken.chunks[--work->set]);
	while (work->cleared > 0)
		(void)space_owned_set(&pool->space, work->freed.chunks[--work->cleared]);
}

static int write_sizes(struct meta_pool *pool, struct db_txn *txn)
{
	struct commit_work *work = &pool->work;

	for (size_t i = 0; i < work->size_count; i++) {
		struct meta_disk_record rec = work->sizes[i].disk->record;
		rec.size_bytes = work->sizes[i].size_bytes;
		int rc = catalog_put_disk(txn, work->sizes[i].disk->number, &rec);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int write_all(struct meta_pool *pool, struct meta_pool_record *rec)
{
	struct db_txn *txn;

	*rec = pool->record;
	rec->commit++;
	/* The labels were written after the commit before this one; the sync that this commit began with made them
	 * durable. */
	if (!planted(BUG_NO_LABEL_FLOOR))
		rec->label_floor = pool->label_written;
	pool->work.freed.count = pool->work.taken.count = 0;
	pool->work.cleared = pool->work.set = 0;
	int rc = db_write_begin(pool->env, &txn);
	if (rc < 0)
		return rc;
	/* First: what write_stores() says of a layer's counters is newer. */
	rc = switches_write(pool, txn);
	if (rc == 0)
		rc = write_stores(pool, txn);
	if (rc == 0)
		rc = write_space(pool, txn);
	if (rc == 0)
		rc = write_sizes(pool, txn);
	if (rc == 0)
		rc = catalog_put_pool(pool, txn, rec);
	if (rc == 0)
		rc = db_write_commit(txn);
	else
		db_write_abort(txn);
	if (rc < 0)
		undo_space(pool);
	return rc;
}

/* ---- 4: publish, or take back ------------------------------------------------------------- */

static void publish_leaf(struct leaf_copy *copy)
{
	/* Before the leaf can be evicted: who read it before this commit is not to bring that back. */
	atomic_fetch_add(&copy->store->commits, 1);
	if (copy->present_before != copy->present_after) {
		pthread_mutex_lock(&copy->store->lock);
		store_set_present(copy->store, copy->number, copy->present_after);
		pthread_mutex_unlock(&copy->store->lock);
	}
	pthread_mutex_lock(&copy->leaf->lock);
	copy->leaf->committing = false;
	pthread_mutex_unlock(&copy->leaf->lock);
}

static void publish(struct meta_pool *pool, uint64_t number, const struct meta_pool_record *rec, bool switched)
{
	struct commit_work *work = &pool->work;

	for (size_t i = 0; i < work->leaf_count; i++) {
		if (i == 0 || work->leaves[i].store != work->leaves[i - 1].store)
			work->leaves[i].store->layer = work->leaves[i].store->layer_next;
		publish_leaf(&work->leaves[i]);
	}
	pthread_mutex_lock(&pool->catalog_lock);
	pool->record = *rec;
	for (size_t i = 0; i < work->size_count; i++)
		work->sizes[i].disk->record.size_bytes = work->sizes[i].size_bytes;
	pthread_mutex_unlock(&pool->catalog_lock);
	if (pool->log)
		restart_drop_old(pool->log);
	atomic_store(&pool->commit_durable, number);
	/* Not synced: the next commit's sync does it, and its transaction records the floor. Before anything that was
	 * freed can go on: the copy of the metadata that it waits for makes the label stable with itself, so that a
	 * restore is told of this commit before a chunk has another's bytes. */
	int rc = pool_write_labels(pool, rec->commit);
	if (rc == 0)
		pool->label_written = rec->commit;
	else
		log_warning("can't write a pv's label: %s", strerror(-rc));
	/* Without a switch the segment keeps records from before the copy, and a clear job's changes have none: a
	 * replay could bring back who owned a freed chunk. So what was freed goes with the next commit, which does
	 * switch. */
	if (planted(BUG_REUSE_STALE_COMMIT))
		space_close_batch(&pool->space, meta_epoch_now(&pool->epochs));
	space_commit_done(&pool->space, switched);
	if (!switched)
		atomic_store(&pool->commit_forced, true);
	base_park_wake(&pool->bg_park);
}

/* Everything that was copied is dirty again. */
static void take_back(struct meta_pool *pool)
{
	struct commit_work *work = &pool->work;

	for (size_t i = 0; i < work->leaf_count; i++) {
		struct meta_leaf *leaf = work->leaves[i].leaf;
		pthread_mutex_lock(&leaf->lock);
		leaf->committing = false;
		leaf_mark_dirty(leaf);
		pthread_mutex_unlock(&leaf->lock);
	}
	pthread_mutex_lock(&pool->dirty_lock);
	for (size_t i = 0; i < work->size_count; i++) {
		struct meta_disk *disk = work->sizes[i].disk;
		if (disk->size_dirty)
			continue;
		disk->size_dirty = true;
		disk->size_dirty_next = pool->dirty_sizes;
		pool->dirty_sizes = disk;
	}
	pthread_mutex_unlock(&pool->dirty_lock);
	space_commit_done(&pool->space, false);
	pool_note_dirty(pool);
}

static int finish(struct meta_pool *pool, uint64_t number, int rc, const struct meta_pool_record *rec, bool switched)
{
	if (rc == 0) {
		publish(pool, number, rec, switched);
		return 0;
	}
	take_back(pool);
	if (rc == -ENOSPC || rc == -ENOMEM)
		return rc;
	pool_fail(pool, rc, rc == -EBADMSG ? "a commit met damaged metadata" : "a metadata commit failed");
	return rc;
}

/* Where the data sync stands is what matters most here, so it is what two of the planted bugs change. */
static int sync_before_copy(struct meta_pool *pool)
{
	return planted(BUG_COPY_AFTER_SYNC) ? pool_sync_pvs(pool) : 0;
}

static int sync_after_copy(struct meta_pool *pool)
{
	return planted(BUG_COPY_AFTER_SYNC) || planted(BUG_NO_DATA_SYNC) ? 0 : pool_sync_pvs(pool);
}

/* The disks that this commit changes go on the list of those that the copy of the metadata has not as they are. Before
 * the sync of the pvs, so that it is stable when they are. */
static void note_changed(struct meta_pool *pool, uint64_t number)
{
	const struct commit_work *work = &pool->work;

	for (size_t i = 0; i < work->leaf_count; i++)
		if (work->leaves[i].store->layer.owner_disk != 0 &&
		    (i == 0 || work->leaves[i].store != work->leaves[i - 1].store))
			changed_note(pool, work->leaves[i].store->layer.owner_disk, META_CHANGED_DATA, number);
	for (size_t i = 0; i < work->size_count; i++)
		changed_note(pool, work->sizes[i].disk->number, META_CHANGED_DATA, number);
	for (const struct head_switch *made = pool->switches; made; made = made->next)
		changed_note(pool, made->disk->number, META_CHANGED_DATA, number);
	changed_write(pool);
}

static int commit_once(struct meta_pool *pool)
{
	uint64_t began = base_clock_ns(), number = atomic_load(&pool->commit_open);
	struct meta_pool_record rec;

	atomic_store(&pool->commit_open, number + 1);
	if (!planted(BUG_REUSE_STALE_COMMIT))
		space_close_batch(&pool->space, meta_epoch_now(&pool->epochs));
	/* At the first commit of an open there is no log yet, and nobody who could append. */
	bool switched = !pool->log || restart_switch(pool->log);
	int rc = sync_before_copy(pool);
	if (rc == 0)
		rc = copy_dirty(pool);
	if (rc < 0) {
		take_back(pool);
		return rc;
	}
	note_changed(pool, pool->record.commit + 1);
	rc = sync_after_copy(pool);
	if (rc < 0) {
		take_back(pool);
		return rc;
	}
	rc = write_all(pool, &rec);
	if (rc == 0)
		note_changed(pool, rec.commit); /* once more, should a copy have been begun meanwhile */
	rc = finish(pool, number, rc, &rec, switched);
	uint64_t took = base_clock_ns() - began;
	atomic_fetch_add(&pool->commits, 1);
	atomic_store(&pool->commit_ns_last, took);
	if (took > atomic_load(&pool->commit_ns_max))
		atomic_store(&pool->commit_ns_max, took);
	return rc;
}

int commit_run(struct meta_pool *pool)
{
	int rc = commit_once(pool);

	pool->commit_attempts++;
	switches_committed(pool, rc);
	return rc;
}
