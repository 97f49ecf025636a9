/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing a pool.
 *
 * Opening, in order: the environment; the pool and pv records; each pv is opened,
 * which takes the pool's exclusive lock; the records again, since the one who had
 * the lock may have written to the end; each pv's label is compared; free
 * space; the catalogue; the restart log of a daemon that died; a sync of all pvs
 * and a commit; a new restart log; a copy of the metadata; the threads; the jobs that an earlier run left
 * unfinished. Nothing is answered, and no chunk handed out, before that commit.
 *
 * Replay sets entries and sizes to what the records say, in order, and only then
 * looks at what that means for space: the final state of each touched leaf is
 * compared with the durable one. (Freeing record by record would be wrong: when a
 * commit was durable but its log segment not yet dropped, the records lead from
 * an older state, and a chunk that they drop on the way may be owned at the end.)
 *
 * A label older than the pool's floor means that the pv is of an earlier day; one
 * younger than the pool's commit counter, that the metadata is. Either is refused.
 *
 * Closing: the background stops, what is dirty is committed, freed chunks go
 * their way to the end, and the pool is marked clean. A pool that is not clean
 * has its free space discarded again, lazily, since which discards were still to
 * be made is not known.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/log.h"
#include "base/planted.h"
#include "base/uuid.h"
#include "meta/internal.h"

/* ---- records ------------------------------------------------------------------------------ */

static int read_pool_record(struct meta_pool *pool, struct db_txn *txn, struct base_error *err)
{
	struct db_key key = db_key_bytes("pool", 4);
	struct db_value value;

	int rc = db_get(txn, DB_POOL, &key, &value);
	if (rc == 0)
		rc = meta_pool_decode(value.b, value.bytes, &pool->record);
	if (rc == DB_NOT_FOUND)
		return base_error_set(err, -EBADMSG, "%s has no pool record", pool->dir);
	if (rc < 0)
		return base_error_set_errno(err, rc, "the pool record in %s can't be used", pool->dir);
	if (pool->record.pv_count < 1 || pool->record.pv_count > POOL_PVS_MAX)
		return base_error_set(err, -EBADMSG, "the pool record in %s says %u pvs", pool->dir,
				      pool->record.pv_count);
	return 0;
}

static int read_pv_records(struct meta_pool *pool, struct db_txn *txn, struct base_error *err)
{
	for (unsigned i = 0; i < pool->record.pv_count; i++) {
		struct db_key key = db_key_u64(i);
		struct db_value value;
		int rc = db_get(txn, DB_PV, &key, &value);
		if (rc == 0)
			rc = meta_pv_decode(value.b, value.bytes, &pool->pvs[i].record);
		if (rc != 0)
			return base_error_set(err, -EBADMSG, "the record of pv %u is %s; run `bdfs check`", i,
					      rc == DB_NOT_FOUND ? "missing" : "damaged");
		pool->pvs[i].number = i;
	}
	return 0;
}

static int read_records(struct meta_pool *pool, struct base_error *err)
{
	struct db_txn *txn = NULL;
	int rc = db_read_begin(pool->env, &txn);

	if (rc < 0)
		return base_error_set_errno(err, rc, "can't read the metadata in %s", pool->dir);
	rc = read_pool_record(pool, txn, err);
	if (rc == 0)
		rc = read_pv_records(pool, txn, err);
	db_read_end(txn);
	db_read_free(txn);
	return rc;
}

/* ---- pvs ---------------------------------------------------------------------------------- */

static int compare_label(struct meta_pool *pool, struct pool_pv *pv, const char *path, uint64_t *commit,
			 struct base_error *err)
{
	uint8_t buf[META_LABEL_BYTES];
	struct meta_label label;

	int rc = pool->pv_ops->read(pool->pv_ctx, &pv->handle, buf, sizeof(buf), 0);
	if (rc < 0)
		return base_error_set_errno(err, rc, "can't read the label of pv %s", path);
	rc = meta_label_decode(buf, &label);
	if (rc != 0)
		return base_error_set(err, -ESTALE, "pv %s has %s: it is not the pv that this pool had", path,
				      rc == META_LABEL_NONE ? "no bdfs label" : "a damaged label");
	if (!base_uuid_equal(label.pool, pool->record.uuid) || !base_uuid_equal(label.pv, pv->record.uuid))
		return base_error_set(err, -ESTALE, "pv %s belongs to another pool, or is another pv of this one",
				      path);
	if (label.commit < pool->record.label_floor)
		return base_error_set(err, -ESTALE,
				      "pv %s is of an earlier day (its commit %" PRIu64
				      ", the pool had at least %" PRIu64
				      "): it is an old copy; bring back the pv that goes with this metadata",
				      path, label.commit, pool->record.label_floor);
	if (label.commit > pool->record.commit)
		return base_error_set(err, -ESTALE,
				      "the metadata in %s is of an earlier day than pv %s (commit %" PRIu64
				      " against %" PRIu64
				      "): it is an old copy; bring back the metadata that goes with this pv",
				      pool->dir, path, pool->record.commit, label.commit);
	*commit = MIN(*commit, label.commit);
	return 0;
}

/* Opening a pv is what locks the pool. */
static int lock_pv(struct meta_pool *pool, struct pool_pv *pv, struct base_error *err)
{
	char path[8192];

	pool_pv_path(pool, &pv->record, path, sizeof(path));
	return pool->pv_ops->open(pool->pv_ctx, path, pool->read_only ? META_PV_READ_ONLY : 0, 0, &pv->handle, err);
}

/* All locks, and then the records as they are under the locks: whoever had the pool until now may have committed
 * since they were read, and may even have added a pv. */
static int lock_pvs(struct meta_pool *pool, struct base_error *err)
{
	unsigned locked = 0;
	int rc = 0;

	while (rc == 0 && locked < pool->record.pv_count) {
		for (; rc == 0 && locked < pool->record.pv_count; locked += rc == 0)
			rc = lock_pv(pool, &pool->pvs[locked], err);
		if (rc == 0)
			rc = read_records(pool, err);
	}
	return rc;
}

static int compare_pv(struct meta_pool *pool, struct pool_pv *pv, uint64_t *commit, struct base_error *err)
{
	char path[8192];
	uint64_t end = 0;

	pool_pv_path(pool, &pv->record, path, sizeof(path));
	for (unsigned r = 0; r < pv->record.range_count; r++)
		end = MAX(end, pv->record.ranges[r].first_byte + pv->record.ranges[r].chunks * CHUNK_BYTES);
	if (pv->handle.size_bytes < end)
		return base_error_set(err, -ESTALE,
				      "pv %s has been truncated: it has %" PRIu64 " bytes, the pool uses %" PRIu64,
				      path, pv->handle.size_bytes, end);
	return compare_label(pool, pv, path, commit, err);
}

static int open_pvs(struct meta_pool *pool, struct base_error *err)
{
	uint64_t commit = UINT64_MAX;
	int rc = lock_pvs(pool, err);

	for (unsigned i = 0; rc == 0 && i < pool->record.pv_count; i++) {
		rc = compare_pv(pool, &pool->pvs[i], &commit, err);
		/* What a dead daemon wrote is in the kernel or the drive, not yet stable: the first sync is of all.
		 */
		atomic_store(&pool->pvs[i].unsynced, true);
	}
	if (rc < 0)
		return rc;
	pool->label_written = commit;
	atomic_store(&pool->pv_count, pool->record.pv_count);
	struct range_table *table = pool_ranges_new(pool, 0);
	if (!table)
		return base_error_set_errno(err, -ENOMEM, "pvs");
	pool_ranges_fill(pool, table);
	pool_publish_ranges(pool, table);
	return 0;
}

/* ---- space -------------------------------------------------------------------------------- */

static int load_space_group(struct meta_pool *pool, uint64_t group, const struct db_value *value,
			    struct base_error *err)
{
	struct meta_space_record rec;
	uint64_t chunk;

	if (meta_space_decode(value->b, value->bytes, &rec) < 0)
		return base_error_set(err, -EBADMSG, "space record %" PRIu64 " is damaged; run `bdfs check`", group);
	if (group > UINT32_MAX / SPACE_GROUP_CHUNKS)
		return base_error_set(err, -EBADMSG, "there is no space group %" PRIu64 "; run `bdfs check`", group);
	if (!space_set_owned_at_open(&pool->space, group * SPACE_GROUP_CHUNKS, rec.owned, SPACE_GROUP_CHUNKS, &chunk))
		return base_error_set(err, -EBADMSG,
				      "space record %" PRIu64 " owns chunk %" PRIu64
				      ", which no pv has; run `bdfs check`",
				      group, chunk);
	return 0;
}

static int load_space(struct meta_pool *pool, struct base_error *err)
{
	const struct range_table *table = atomic_load(&pool->ranges);
	struct db_key key = db_key_u64(0);
	struct db_txn *txn = NULL;
	struct db_value value;
	uint64_t group;
	int rc = 0;

	if (table->count > 0) /* sorted: all memory at once, instead of moving it for each range */
		rc = space_make_room(&pool->space, table->ranges[table->count - 1].first_chunk,
				     table->ranges[table->count - 1].chunks);
	for (unsigned i = 0; i < table->count && rc == 0; i++)
		rc = space_add_range(&pool->space, table->ranges[i].first_chunk, table->ranges[i].chunks);
	if (rc == 0)
		rc = db_read_begin(pool->env, &txn);
	if (rc < 0)
		return base_error_set_errno(err, rc, "free space");
	for (bool inclusive = true; rc == 0; inclusive = false) {
		rc = db_next(txn, DB_SPACE, &key, inclusive, &value);
		if (rc == -EBADMSG)
			base_error_set(err, rc, "a space record has a wrong checksum; run `bdfs check`");
		else if (rc < 0)
			base_error_set_errno(err, rc, "can't read the space records");
		else if (rc == 0)
			rc = db_key_to_u64(&key, &group)
				     ? load_space_group(pool, group, &value, err)
				     : base_error_set(err, -EBADMSG, "a space record has a wrong key");
	}
	db_read_end(txn);
	db_read_free(txn);
	return rc == DB_NOT_FOUND ? 0 : rc;
}

/* ---- replay ------------------------------------------------------------------------------- */

struct replay {
	struct meta_pool *pool;
	struct meta_store *last; /* records come in bursts of one store */
	struct db_txn *slot;
	uint64_t skipped;
	struct base_error *err;
};

static int replay_entry(struct replay *replay, const struct restart_record *rec)
{
	struct meta_pool *pool = replay->pool;
	struct meta_leaf *leaf;
	uint64_t byte;
	unsigned pv;

	if (!replay->last || replay->last->id != rec->id)
		replay->last = catalog_store_by_id(pool, rec->id);
	bool sound = meta_entry_is_sound(rec->value) && rec->at < DISK_BYTES_MAX / CHUNK_BYTES &&
		     (meta_entry_chunk(rec->value).n == 0 ||
		      meta_io_locate(pool, meta_entry_chunk(rec->value), &pv, &byte));
	if (!replay->last || !sound) {
		replay->skipped++; /* its store is gone (the disk was removed), or it is not ours */
		return 0;
	}
	int rc = store_load_index(replay->last, replay->err);
	if (rc == 0)
		rc = store_load_leaf_now(replay->last, rec->at / LEAF_CHUNKS, &replay->slot, &leaf);
	if (rc == META_HOLE) {
		pthread_mutex_lock(&replay->last->lock);
		leaf = store_install(replay->last, rec->at / LEAF_CHUNKS, NULL);
		pthread_mutex_unlock(&replay->last->lock);
		rc = leaf ? 0 : -ENOMEM;
	}
	if (rc < 0)
		return base_error_set_errno(replay->err, rc, "replay of the restart log");
	pthread_mutex_lock(&leaf->lock);
	atomic_store(&leaf->entries[rec->at % LEAF_CHUNKS], rec->value);
	leaf_mark_dirty(leaf);
	pthread_mutex_unlock(&leaf->lock);
	return 0;
}

static int replay_size(struct replay *replay, const struct restart_record *rec)
{
	struct meta_disk *disk = meta_disk_get_by_number(replay->pool, rec->id);

	if (!disk || disk->record.resize_count != rec->at || rec->value > DISK_BYTES_MAX) {
		replay->skipped++; /* removed, or resized since */
	} else if (rec->value > atomic_load(&disk->size_bytes)) {
		atomic_store(&disk->size_bytes, rec->value);
		if (!disk->size_dirty) {
			disk->size_dirty = true;
			disk->size_dirty_next = replay->pool->dirty_sizes;
			replay->pool->dirty_sizes = disk;
		}
	}
	if (disk)
		meta_disk_put(disk);
	return 0;
}

/* Two entries in one record: a chunk that changes hands has one owner in every replay. */
static int replay_move(struct replay *replay, const struct restart_record *rec)
{
	struct restart_record gives = { .id = rec->from, .at = rec->at, .value = 0 };
	int rc = replay_entry(replay, rec);

	return rc == 0 ? replay_entry(replay, &gives) : rc;
}

static int replay_one(const struct restart_record *rec, void *ctx)
{
	struct replay *replay = ctx;

	if (rec->kind == RESTART_ENTRY)
		return replay_entry(replay, rec);
	if (rec->kind == RESTART_SIZE)
		return replay_size(replay, rec);
	if (rec->kind == RESTART_MOVE)
		return replay_move(replay, rec);
	if (rec->kind == RESTART_HEAD) {
		int rc = switch_replay(replay->pool, rec);
		replay->skipped += rc == 1;
		return rc < 0 ? base_error_set_errno(replay->err, rc, "replay of the restart log") : 0;
	}
	replay->skipped++;
	return 0;
}

/* Chunks that some entry has gained, or dropped, against the durable state. */
struct changed_hands {
	struct chunk_vec gained, dropped;
};

static int push_chunk(struct chunk_vec *vec, uint32_t chunk)
{
	if (vec->count == vec->room) {
		size_t room = MAX(vec->room * 2, (size_t)256);
		uint32_t *grown = realloc(vec->chunks, room * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		vec->chunks = grown;
		vec->room = room;
	}
	vec->chunks[vec->count++] = chunk;
	return 0;
}

static int by_chunk(const void *pa, const void *pb)
{
	const uint32_t *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

static bool has_chunk(const struct chunk_vec *vec, uint32_t chunk)
{
	return vec->count > 0 && bsearch(&chunk, vec->chunks, vec->count, sizeof(chunk), by_chunk);
}

/* What the final state of a leaf means for space, against the durable one. */
static int settle_leaf(struct meta_leaf *leaf, struct db_txn **slot, struct changed_hands *hands)
{
	meta_entry old[LEAF_CHUNKS];
	int rc = leaf_read(leaf->store, leaf->number, slot, old);

	for (unsigned i = 0; rc == 0 && i < LEAF_CHUNKS; i++) {
		meta_entry new = atomic_load(&leaf->entries[i]);
		uint32_t was = meta_entry_chunk(old[i]).n, is = meta_entry_chunk(new).n;
		leaf_account(leaf->store, old[i], new);
		if (was == is)
			continue;
		if (is != 0)
			rc = push_chunk(&hands->gained, is);
		if (was != 0 && rc == 0)
			rc = push_chunk(&hands->dropped, was);
	}
	return rc;
}

/* A chunk that one entry dropped and another gained was moved by a fold: it stays busy, and nobody frees it. */
static int settle_chunks(struct meta_pool *pool, struct changed_hands *hands)
{
	struct chunk_vec *gained = &hands->gained, *dropped = &hands->dropped;

	if (gained->count > 1)
		qsort(gained->chunks, gained->count, sizeof(*gained->chunks), by_chunk);
	if (dropped->count > 1)
		qsort(dropped->chunks, dropped->count, sizeof(*dropped->chunks), by_chunk);
	for (size_t i = 0; i < gained->count; i++) {
		bool twice = i > 0 && gained->chunks[i] == gained->chunks[i - 1];
		if (twice || (!has_chunk(dropped, gained->chunks[i]) &&
			      !space_set_busy_at_open(&pool->space, gained->chunks[i])))
			return -EBADMSG; /* two owners: the log does not fit the metadata */
	}
	for (size_t i = 0; i < dropped->count; i++)
		if (!has_chunk(gained, dropped->chunks[i]))
			space_free(&pool->space, NULL, dropped->chunks[i]);
	return 0;
}

static int settle(struct meta_pool *pool, struct db_txn **slot)
{
	struct changed_hands hands = { 0 };
	int rc = 0;

	for (struct meta_leaf *leaf = pool->dirty_leaves; leaf && rc == 0; leaf = leaf->dirty_next)
		rc = settle_leaf(leaf, slot, &hands);
	if (rc == 0)
		rc = settle_chunks(pool, &hands);
	free(hands.gained.chunks);
	free(hands.dropped.chunks);
	return rc;
}

/* Without the boot's id a log could be taken for one of another boot, and what it holds be lost. */
static int tag_now(struct meta_pool *pool, struct restart_tag *ret, struct base_error *err)
{
	uint64_t instances[POOL_PVS_MAX];
	unsigned count = atomic_load(&pool->pv_count);

	for (unsigned i = 0; i < count; i++)
		instances[i] = pool->pvs[i].handle.instance;
	*ret = (struct restart_tag){ .pool = pool->record.uuid,
				     .generation = pool->record.generation,
				     .pv_instances = base_checksum(instances, count * sizeof(instances[0])) };
	int rc = restart_boot_id(&ret->boot);
	return rc < 0 ? base_error_set_errno(err, rc, "can't read this boot's id (/proc/sys/kernel/random/boot_id)")
		      : 0;
}

static int replay_log(struct meta_pool *pool, struct base_error *err)
{
	struct replay replay = { .pool = pool, .err = err };
	struct restart_tag tag;
	const char *why = NULL;
	uint64_t records = 0;

	if (pool->record.clean)
		return 0;
	int rc = tag_now(pool, &tag, err);
	if (rc < 0)
		return rc;
	rc = restart_replay(pool->dir, &tag, replay_one, &replay, &records, &why);
	if (rc == 0)
		rc = settle(pool, &replay.slot);
	db_read_free(replay.slot);
	if (rc < 0)
		return base_error_set_errno(err, rc, "can't replay the restart log in %s; run `bdfs check`",
					    pool->dir);
	if (why)
		log_info("pool %s was not closed in order; nothing to replay: %s", pool->record.name, why);
	else
		log_info("pool %s was not closed in order; %" PRIu64 " changes replayed, %" PRIu64 " skipped",
			 pool->record.name, records - replay.skipped, replay.skipped);
	return 0;
}

/* ---- open --------------------------------------------------------------------------------- */

static void init(struct meta_pool *pool, const struct meta_pool_open_args *args)
{
	snprintf(pool->dir, sizeof(pool->dir), "%s", args->dir);
	pool->pv_ops = args->pv_ops ? args->pv_ops : &meta_pv_real;
	pool->pv_ctx = args->pv_ctx;
	pool->read_only = args->read_only;
	pool->no_threads = args->no_threads;
	pool->copy.off = args->no_copy;
	cache_init(pool, (args->leaf_cache_leaves ? args->leaf_cache_leaves : META_CACHE_LEAVES) *
				 META_LEAF_MEMORY_BYTES);
	pool->lookup_tail = &pool->lookup_head;
	pool->rediscard_at = (uint64_t)UINT32_MAX + 1;
	for (unsigned i = 0; i < POOL_PVS_MAX; i++)
		pool->pvs[i].handle.fd = -1;
	atomic_init(&pool->commit_open, 1);
	meta_epochs_init(&pool->epochs);
	pool->ctl_participant = meta_epoch_join(&pool->epochs);
	pool->lookup_participant = meta_epoch_join(&pool->epochs);
	pthread_mutex_init(&pool->ctl_epoch_lock, NULL);
	pthread_mutex_init(&pool->move_lock, NULL);
	pthread_mutex_init(&pool->sync_lock, NULL);
	pthread_mutex_init(&pool->catalog_lock, NULL);
	pthread_mutex_init(&pool->dirty_lock, NULL);
	pthread_mutex_init(&pool->lookup_lock, NULL);
	pthread_mutex_init(&pool->jobs_lock, NULL);
	pthread_cond_init(&pool->lookup_cond, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->closed_cond, &attr);
	pthread_condattr_destroy(&attr);
	events_init(&pool->events);
	pthread_mutex_init(&pool->rate.lock, NULL);
	base_park_init(&pool->mw_park);
	base_park_init(&pool->bg_park);
	base_mailbox_init(&pool->mw_box, base_park_wake_fn, &pool->mw_park);
	base_mailbox_init(&pool->bg_box, base_park_wake_fn, &pool->bg_park);
}

static void destroy(struct meta_pool *pool)
{
	base_mailbox_run(&pool->bg_box); /* disks whose last reference went */
	catalog_free(pool);
	cache_done(pool);
	restart_close(pool->log);
	reserve_close(pool);
	for (unsigned i = 0; i < POOL_PVS_MAX; i++)
		if (pool->pvs[i].record.range_count > 0)
			pool->pv_ops->close(pool->pv_ctx, &pool->pvs[i].handle);
	db_read_free(pool->bg_slot);
	if (pool->env)
		db_close(pool->env);
	struct range_table *table = atomic_load(&pool->ranges);
	while (table) {
		struct range_table *older = table->older;
		free(table);
		table = older;
	}
	space_done(&pool->space);
	free(pool->work.leaves);
	free(pool->work.sizes);
	free(pool->work.freed.chunks);
	free(pool->work.taken.chunks);
	free(pool->work.groups);
	base_park_done(&pool->mw_park);
	base_park_done(&pool->bg_park);
	free(pool);
}

/* Everything that was found, replayed and derived becomes durable; the generation makes the old log void. */
static int first_commit(struct meta_pool *pool, struct base_error *err)
{
	bool clean = pool->record.clean;

	uint64_t found_commit = pool->record.commit;

	pool->record.clean = 0;
	pool->record.generation++;
	int rc = commit_run(pool);
	if (rc == -ENOSPC && reserve_spend(pool))
		rc = commit_run(pool);
	if (rc < 0)
		return base_error_set_errno(err, rc, "the first commit of pool %s failed", pool->record.name);
	struct restart_tag tag;
	rc = tag_now(pool, &tag, err);
	if (rc == 0)
		rc = restart_open(pool->dir, &tag, &pool->log, err);
	if (rc == 0 && !clean)
		pool->rediscard_at = 1;
	return rc < 0 ? rc : copy_open(pool, found_commit, clean, err);
}

static int start(struct meta_pool *pool, const struct meta_pool_open_args *args, struct base_error *err)
{
	int rc = 0;

	if (pool->no_threads || pool->read_only)
		return pool->read_only ? lookup_start(pool, args->lookup_threads) : 0;
	rc = mw_start(pool);
	if (rc < 0)
		return base_error_set_errno(err, rc, "can't start the metadata thread");
	rc = bg_start(pool);
	if (rc == 0)
		rc = lookup_start(pool, args->lookup_threads);
	if (rc < 0) {
		if (pool->bg_thread)
			bg_stop(pool);
		lookup_stop(pool);
		mw_stop(pool);
		return base_error_set_errno(err, rc, "can't start the pool's threads");
	}
	return 0;
}

int meta_pool_open(const struct meta_pool_open_args *args, struct meta_pool **ret, struct base_error *err)
{
	struct meta_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return base_error_set_errno(err, -ENOMEM, "pool in %s", args->dir);
	init(pool, args);
	int rc = space_init(&pool->space);
	if (rc == 0)
		rc = db_open(args->dir, args->read_only ? DB_OPEN_READ_ONLY : DB_OPEN_WRITE, 0, &pool->env, err);
	if (rc == 0)
		rc = read_records(pool, err);
	if (rc == 0)
		rc = open_pvs(pool, err);
	if (rc == 0)
		rc = load_space(pool, err);
	if (rc == 0)
		rc = catalog_load(pool, err);
	if (rc == 0 && !args->read_only)
		changed_open(pool);
	if (rc == 0 && !args->read_only)
		rc = replay_log(pool, err);
	if (rc == 0)
		catalog_claim_all(pool);
	if (rc == 0)
		reserve_open(pool);
	if (rc == 0 && !args->read_only)
		rc = first_commit(pool, err);
	if (rc == 0)
		rc = catalog_start_jobs(pool, err);
	pool->alert_due = true;
	if (rc == 0)
		rc = start(pool, args, err);
	if (rc < 0)
		destroy(pool);
	else
		*ret = pool;
	return rc;
}

int meta_pool_holder_pid(const char *dir)
{
	char path[4200];

	/* The LMDB lock file says nothing about who writes; the pv does. The restart log is mapped by whoever has the
	 * pool open, and pv0 is where mksp puts a file pool; for others the error of meta_pool_open names the pid. */
	snprintf(path, sizeof(path), "%s/pv0", dir);
	return meta_pv_holder_pid(path);
}

/* ---- close -------------------------------------------------------------------------------- */

static int clean_fn(struct mw_call *call, struct db_txn *txn)
{
	struct meta_pool *pool = call->pool;
	int rc = pool_sync_pvs(pool);

	if (rc < 0)
		return base_error_set_errno(call->err, rc, "a pv of pool %s could not be synced", pool->record.name);
	if (!planted(BUG_NO_LABEL_FLOOR))
		call->record->label_floor = pool->label_written;
	/* Only what is known to be discarded: an interrupted walk over free space starts again. */
	call->record->clean = pool->rediscard_at > UINT32_MAX && bg_no_batches(pool);
	return 0;
}

static void drain(struct meta_pool *pool)
{
	/* Every queue has ended, so the epochs drain at once. */
	while (!bg_no_batches(pool) && bg_drain_step(pool))
		;
}

/* What a restart finds is another thing after a failed data sync, whenever that was: docs/durability.md. */
static int say_what_is_kept(struct meta_pool *pool, int rc, struct base_error *err)
{
	if (restart_is_marked_failed(pool->log))
		return base_error_set_errno(err, rc,
					    "the last commit of pool %s failed: a data sync has failed, so the restart "
					    "log is void and what was not committed before is lost",
					    pool->record.name);
	return base_error_set_errno(
		err, rc, "the last commit of pool %s failed: what was not flushed is kept in the restart log",
		pool->record.name);
}

int meta_pool_close(struct meta_pool *pool, struct base_error *err)
{
	struct mw_call call = { .fn = clean_fn, .may_use_reserve = true, .err = err };
	int rc = 0;

	if (!pool->read_only) {
		if (!pool->no_threads)
			bg_stop(pool);
		catalog_recall_windows(pool);
		rc = meta_pool_commit(pool);
		if (rc == 0) {
			drain(pool);
			rc = mw_call_wait(pool, &call);
			if (rc == 0 && !pool->copy.off)
				(void)copy_take(pool, pool->record.clean); /* it has been said; the one before counts */
		} else {
			say_what_is_kept(pool, rc, err);
		}
		if (!pool->no_threads)
			mw_stop(pool);
	}
	lookup_stop(pool);
	destroy(pool);
	return rc;
}
