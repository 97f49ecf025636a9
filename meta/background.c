/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The background thread (BG): everything that nobody waits for.
 *
 *   - the way of a freed chunk after its commit: wait until the epoch of its
 *     batch has drained and a copy of the metadata covers it, give the space
 *     back to the file or device, then make it free;
 *   - copies of the metadata (copy.c);
 *   - clear jobs: freeing what lies above a shrunk disk's end (a trim), and all
 *     of a removed disk's layer. Both are the same: entries above an offset are
 *     cleared leaf by leaf, committed, and then the mark (or the layer record)
 *     goes in one transaction. The mark is in LMDB from the start, so a restart
 *     begins the job again and finds less to do;
 *   - discarding free space again after an unclean end: discards that had not
 *     been made are not known, so all free space is walked once, lazily;
 *   - eviction from the cache of maps (cache.c).
 *
 * BG gives way: a step does a slice of each and returns.
 *
 * Failure modes: a leaf that can't be read ends its job unfinished: the mark
 * stays, the space stays taken, it is logged, and the next open tries again. A
 * discard that fails costs only the host's space.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/planted.h"
#include "meta/internal.h"

/* A slice: a few milliseconds. */
#define LEAVES_A_STEP 64
#define DISCARDS_A_STEP 32
/* An epoch that has not drained, or a batch that waits for one, is looked at again after this time. */
#define POLL_NS UINT64_C(1000000)
/* Free space is discarded again in runs of at most this many chunks (64 MiB), while they are taken out of use. */
#define REDISCARD_CHUNKS 1024

/* ---- freed chunks ------------------------------------------------------------------------- */

static int by_number(const void *pa, const void *pb)
{
	const uint32_t *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

static void discard_run(struct meta_pool *pool, uint32_t first, uint32_t count)
{
	unsigned pv;
	uint64_t byte;

	if (!meta_io_locate(pool, (struct pchunk){ first }, &pv, &byte) || atomic_load(&pool->pvs[pv].no_discard))
		return;
	int rc = pool->pv_ops->discard(pool->pv_ctx, &pool->pvs[pv].handle, byte, count * CHUNK_BYTES);
	if (rc == -EOPNOTSUPP) {
		atomic_store(&pool->pvs[pv].no_discard, true);
		log_info("pv %s takes no discards: freed space is not given back to it", pool->pvs[pv].record.path);
	} else if (rc < 0) {
		log_warning("discard of %" PRIu64 " KiB on pv %s: %s", count * CHUNK_BYTES / KIB,
			    pool->pvs[pv].record.path, strerror(-rc));
	}
}

/* True when the batch is discarded to its end. */
static bool discard_some(struct meta_pool *pool, struct free_batch *batch)
{
	if (!batch->sorted) {
		qsort(batch->chunks, batch->count, sizeof(*batch->chunks), by_number);
		batch->sorted = true;
	}
	for (unsigned i = 0; i < DISCARDS_A_STEP && batch->discarded < batch->count; i++) {
		size_t first = batch->discarded, end = first + 1;
		while (end < batch->count && batch->chunks[end] == batch->chunks[end - 1] + 1)
			end++;
		discard_run(pool, batch->chunks[first], (uint32_t)(end - first));
		batch->discarded = end;
	}
	return batch->discarded == batch->count;
}

/* Returns 0: nothing to do; else when to come again. */
static uint64_t drain_batches(struct meta_pool *pool, uint64_t now_ns)
{
	struct free_batch *batch;

	while ((batch = space_oldest_batch(&pool->space))) {
		if (!meta_epoch_drained(&pool->epochs, batch->epoch) && !planted(BUG_REUSE_NO_EPOCH))
			return now_ns + POLL_NS;
		if (!copy_covers(pool, batch))
			return 0; /* copy_step() says when */
		for (size_t i = 0; planted(BUG_REUSE_BEFORE_DISCARD) && batch->discarded == 0 && i < batch->count; i++)
			space_give_back(&pool->space, batch->chunks[i], 1);
		if (!discard_some(pool, batch))
			return now_ns;
		space_release_batch(&pool->space, batch);
		base_park_wake(&pool->mw_park); /* somebody may wait for space */
	}
	return 0;
}

/* ---- after an unclean end ----------------------------------------------------------------- */

static uint64_t rediscard(struct meta_pool *pool, uint64_t now_ns)
{
	struct pchunk first;

	if (pool->rediscard_at > UINT32_MAX)
		return 0;
	/* Taken like an allocation, so nobody writes there meanwhile; then back. */
	unsigned count = space_borrow(&pool->space, REDISCARD_CHUNKS, (uint32_t)pool->rediscard_at, &first);
	if (count == 0) {
		pool->rediscard_at = (uint64_t)UINT32_MAX + 1;
		return 0;
	}
	discard_run(pool, first.n, count);
	space_give_back(&pool->space, first.n, count);
	base_park_wake(&pool->mw_park); /* somebody may wait for space */
	pool->rediscard_at = (uint64_t)first.n + count;
	return now_ns;
}

/* ---- clear jobs --------------------------------------------------------------------------- */

int bg_add_clear(struct meta_pool *pool, struct meta_store *store, struct meta_disk *disk, uint64_t from_byte)
{
	struct clear_job *job = calloc(1, sizeof(*job));

	if (!job)
		return -ENOMEM;
	job->store = store;
	store->refs++;
	job->disk = disk;
	if (disk)
		disk->refs++;
	job->from_byte = from_byte;
	job->cursor = from_byte / LEAF_BYTES;
	pthread_mutex_lock(&pool->jobs_lock);
	job->id = ++pool->last_job_id;
	job->next = pool->jobs;
	pool->jobs = job;
	pthread_mutex_unlock(&pool->jobs_lock);
	base_park_wake(&pool->bg_park);
	return 0;
}

/*
 * What is left of an entry when its blocks at or above from_byte are cleared. The chunk that from_byte lies in stays,
 * even without a valid block: the disk's writers may be at work below from_byte in it, and BG takes no part in their
 * gate. Whole chunks above it nobody can reach: they are past the end, and the disk can't grow before the trim has
 * ended.
 */
static meta_entry entry_below(meta_entry entry, uint64_t chunk_number, uint64_t from_byte)
{
	uint64_t chunk_byte = chunk_number * CHUNK_BYTES;

	if (chunk_byte + CHUNK_BYTES <= from_byte)
		return entry;
	unsigned keep = from_byte <= chunk_byte ? 0 : (unsigned)((from_byte - chunk_byte) / BLOCK_BYTES);
	uint16_t mask = meta_block_mask(0, keep), valid = meta_entry_valid(entry) & mask;
	return meta_entry_make(keep > 0 ? meta_entry_chunk(entry) : (struct pchunk){ 0 }, valid,
			       meta_entry_zero(entry) & mask);
}

/* No restart record: the mark brings the job back. The order is that of leaf_set_logged(). */
static void clear_leaf(struct meta_leaf *leaf, uint64_t from_byte)
{
	struct meta_pool *pool = leaf->store->pool;

	pthread_mutex_lock(&leaf->lock);
	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		meta_entry before = atomic_load_explicit(&leaf->entries[i], memory_order_relaxed);
		meta_entry after = entry_below(before, leaf->number * LEAF_CHUNKS + i, from_byte);
		if (after == before)
			continue;
		atomic_store_explicit(&leaf->entries[i], after, memory_order_release);
		leaf_mark_dirty(leaf);
		leaf_account(leaf->store, before, after);
		if (meta_entry_chunk(before).n != 0 && meta_entry_chunk(after).n == 0)
			space_free(&pool->space, &leaf->store->claim, meta_entry_chunk(before).n);
	}
	pthread_mutex_unlock(&leaf->lock);
	pool_note_dirty(pool);
}

static void commit_waited(struct base_msg *msg);

static void await_commit(struct meta_pool *pool, struct clear_job *job)
{
	job->state = CLEAR_WAITING;
	job->commit.box = &pool->bg_box;
	job->commit.msg.run = commit_waited;
	meta_wait_commit(pool, &job->commit);
}

/* With or without an error the leaves that were cleared have to be committed: the store goes with the job. */
static void clear_some(struct meta_pool *pool, struct clear_job *job, struct db_txn **slot)
{
	struct meta_leaf *leaf;

	/* A layer that died with its child was perhaps never looked at. */
	job->result = store_load_index(job->store, NULL);
	if (job->result < 0)
		job->state = CLEAR_DONE;
	for (unsigned i = 0; i < LEAVES_A_STEP && job->result == 0; i++) {
		uint64_t number = meta_map_next_leaf(job->store, job->cursor);
		int rc = number == UINT64_MAX ? META_HOLE : store_load_leaf_now(job->store, number, slot, &leaf);
		if (rc < 0 || number == UINT64_MAX) {
			job->result = MIN(rc, 0);
			await_commit(pool, job);
			return;
		}
		if (rc == 0)
			clear_leaf(leaf, job->from_byte);
		job->cursor = number + 1;
		job->leaves_done++;
	}
}

static int last_step_txn(struct mw_call *call, struct db_txn *txn)
{
	struct clear_job *job = call->arg;

	if (job->disk) {
		struct meta_disk_record rec = job->disk->record;
		rec.trim_above_bytes = UINT64_MAX;
		/* A removed disk has no record any more: its layer's own job does the rest. */
		return job->disk->removed ? 0 : catalog_put_disk(txn, job->disk->number, &rec);
	}
	if (job->store->layer.index_records != 0)
		return -EBADMSG; /* something of it is still there: check will say what */
	struct db_key key = db_key_u64(job->store->layer_id);
	return db_del(txn, DB_LAYER, &key);
}

static void last_step_applied(struct mw_call *call)
{
	struct clear_job *job = call->arg;

	if (job->disk)
		job->disk->record.trim_above_bytes = UINT64_MAX;
}

/* The metadata's file system is full, or there is no memory: it is tried again. */
static bool is_put_off(int result)
{
	return result == -ENOSPC || result == -ENOMEM;
}

static void job_is_done(struct base_msg *msg)
{
	struct clear_job *job = container_of(msg, struct clear_job, done);

	if (is_put_off(job->call.result)) {
		await_commit(job->store->pool, job);
		return;
	}
	job->result = job->call.result;
	job->state = CLEAR_DONE;
}

static void last_step_finished(struct mw_call *call)
{
	struct clear_job *job = call->arg;

	job->done.run = job_is_done;
	base_mailbox_post(&call->pool->bg_box, &job->done);
}

static void commit_waited(struct base_msg *msg)
{
	struct clear_job *job = container_of(msg, struct clear_job, commit.msg);
	struct meta_pool *pool = job->store->pool;

	if (is_put_off(job->commit.result)) {
		await_commit(pool, job);
		return;
	}
	if (job->result == 0)
		job->result = job->commit.result;
	if (job->result < 0) {
		job->state = CLEAR_DONE;
		return;
	}
	job->call = (struct mw_call){ .fn = last_step_txn,
				      .applied = last_step_applied,
				      .finished = last_step_finished,
				      .arg = job,
				      .may_use_reserve = true };
	mw_call_post(pool, &job->call);
}

static void job_end(struct meta_pool *pool, struct clear_job *job)
{
	struct clear_job **at = &pool->jobs;

	if (job->result < 0 && pool_failed_code(pool) == 0)
		log_error(
			"freeing the space of %s was given up: %s; "
			"it stays taken until the pool is opened again; run `bdfs check`",
			job->disk ? job->disk->record.name : "a removed disk", strerror(-job->result));
	pthread_mutex_lock(&pool->jobs_lock);
	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	struct meta_wait *waiters = NULL;
	if (job->disk) {
		waiters = job->disk->trim_waiters;
		job->disk->trim_waiters = NULL;
		/* What a given up trim has left may not come back by a growth: the mark, and this, stay. */
		job->disk->trim_error = job->result;
		atomic_store(&job->disk->trimming, job->result < 0);
	}
	pthread_mutex_unlock(&pool->jobs_lock);
	wait_post_all(&waiters, job->result);
	if (job->disk)
		meta_disk_put(job->disk);
	store_put(job->store);
	free(job);
	base_park_wake(&pool->mw_park); /* who waits for space may now have to be told that none will come */
}

static uint64_t run_jobs(struct meta_pool *pool, uint64_t now_ns, struct db_txn **slot)
{
	uint64_t again = 0;

	pthread_mutex_lock(&pool->jobs_lock);
	struct clear_job *job = pool->jobs;
	pthread_mutex_unlock(&pool->jobs_lock);
	while (job) { /* only BG takes jobs off the list */
		struct clear_job *next = job->next;
		if (job->state == CLEAR_RUNNING && atomic_load(&pool->dirty_count) >= pool_commit_leaves(pool)) {
			base_park_wake(&pool->mw_park);
			again = now_ns + POLL_NS;
		} else if (job->state == CLEAR_RUNNING) {
			clear_some(pool, job, slot);
			again = now_ns;
		}
		if (job->state == CLEAR_DONE)
			job_end(pool, job);
		job = next;
	}
	return again;
}

bool meta_is_trimming(struct meta_disk *disk)
{
	return atomic_load(&disk->trimming);
}

void meta_wait_trimmed(struct meta_disk *disk, struct meta_wait *wait)
{
	pthread_mutex_lock(&disk->pool->jobs_lock);
	int error = disk->trim_error;
	bool waits = atomic_load(&disk->trimming) && error == 0;
	if (waits) {
		wait->next = disk->trim_waiters;
		disk->trim_waiters = wait;
	}
	pthread_mutex_unlock(&disk->pool->jobs_lock);
	if (!waits)
		wait_post(wait, error);
}

/* ---- the step, the thread ----------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	if (a == 0 || b == 0)
		return a ? a : b;
	return MIN(a, b);
}

uint64_t bg_step(struct meta_pool *pool, uint64_t now_ns)
{
	base_mailbox_run(&pool->bg_box);
	uint64_t again = copy_step(pool, now_ns);
	again = earlier(again, drain_batches(pool, now_ns));
	again = earlier(again, run_jobs(pool, now_ns, &pool->bg_slot));
	again = earlier(again, fold_step(pool, now_ns, &pool->bg_slot));
	again = earlier(again, layers_free_retired(pool, now_ns));
	again = earlier(again, rediscard(pool, now_ns));
	return earlier(again, cache_evict(pool, now_ns));
}

bool bg_no_batches(struct meta_pool *pool)
{
	return space_oldest_batch(&pool->space) == NULL;
}

bool bg_drain_step(struct meta_pool *pool)
{
	struct free_batch *batch = space_oldest_batch(&pool->space);

	if (batch && !copy_covers(pool, batch) && copy_take(pool, false) < 0 && copy_give_up(pool) < 0)
		return false;
	(void)drain_batches(pool, base_clock_ns());
	return true;
}

bool bg_is_idle(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->jobs_lock);
	bool idle = pool->jobs == NULL && pool->folds == NULL;
	pthread_mutex_unlock(&pool->jobs_lock);
	return idle && bg_no_batches(pool);
}

static void *bg_main(void *arg)
{
	struct meta_pool *pool = arg;

	while (!atomic_load(&pool->bg_stop)) {
		uint64_t now = base_clock_ns(), deadline = bg_step(pool, now);
		if (!base_mailbox_is_empty(&pool->bg_box) || (deadline && deadline <= now))
			continue;
		base_park_wait(&pool->bg_park, deadline);
	}
	return NULL;
}

int bg_start(struct meta_pool *pool)
{
	return base_thread_start(&pool->bg_thread, "bdfs-back", bg_main, pool);
}

void bg_stop(struct meta_pool *pool)
{
	atomic_store(&pool->bg_stop, true);
	base_park_wake(&pool->bg_park);
	pthread_join(pool->bg_thread, NULL);
}
