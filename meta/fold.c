/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folding: a layer without a name, and with one child, becomes one with it.
 *
 * Entries move between the two stores, chunk by chunk, in leaf order. Which way:
 *
 *   up    the parent's entries go into the child's store; then the child's parent is
 *         the parent's parent. The parent's store only shrinks, so it ends under
 *         any load, whether the child is a head that is written or not
 *   down  the child's entries go into the parent's store; then that store is the
 *         child's. Only for a frozen child that has less than its parent, and
 *         nothing above its overlap
 *
 * A move is one record in the restart log, and both entries change under one lock
 * that the commit's copy takes too, so a chunk has one owner at every moment, on
 * disk, in the log and in memory. What a reader of the child sees is the same
 * before, between and after (layer.c has the argument for readers). So there is
 * nothing to undo: a fold that is interrupted anywhere goes on at the next open,
 * which finds a layer without a name and with one child, and fewer entries to move.
 *
 * Leaf by leaf, and what becomes of one entry: fold_leaf.c.
 *
 * A layer without a parent has no zero bits. When the lowest layer is folded up its
 * child may have some; they are cleared at the end, with its overlap at 0 so that
 * none come in behind.
 *
 * Copies of the metadata: what one says of a chunk has to stay true (copy.h), and a
 * chunk that has moved up is written in place by its new owner. So a fold begins only
 * when the copy that counts knows the layer as it is now: nameless, seen by nobody but
 * through this child. Whatever is written there from then on, the child has written.
 *
 * One fold at a time. Failure modes: a leaf that can't be read, or a block that
 * can't be copied, ends it: nothing is lost, the next open tries again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/planted.h"
#include "meta/fold.h"
#include "meta/internal.h"

#define LEAVES_A_STEP 16
#define POLL_NS UINT64_C(1000000)

/* ---- starting, ending ------------------------------------------------------------------------ */

static bool is_candidate(const struct meta_store *store)
{
	return !store->head_of && !store->snapshot && !store->unlinked && store->layer.state == META_LAYER_LIVE &&
	       store->layer.children == 1;
}

void fold_consider(struct meta_store *store)
{
	struct meta_pool *pool = store->pool;
	struct fold_job **at = &pool->folds;

	if (store->fold_asked || !is_candidate(store) || pool->read_only)
		return;
	struct fold_job *job = calloc(1, sizeof(*job));
	if (!job) {
		log_warning("no memory to fold layer %" PRIu64 " now: it is done after the next open",
			    store->layer_id);
		return;
	}
	store->fold_asked = true;
	store->refs++;
	job->lower = store;
	pthread_mutex_lock(&pool->jobs_lock);
	job->info = (struct meta_job_info){
		.id = ++pool->last_job_id, .kind = META_JOB_FOLD, .layer = store->layer_id, .waiting = true
	};
	while (*at)
		at = &(*at)->next;
	*at = job;
	pthread_mutex_unlock(&pool->jobs_lock);
	base_park_wake(&pool->bg_park);
}

void fold_free(struct meta_pool *pool)
{
	while (pool->folds) {
		struct fold_job *job = pool->folds;
		pool->folds = job->next;
		free(job);
	}
}

/* catalog_lock. The child that is left. */
static struct meta_store *only_child(struct meta_store *store)
{
	struct meta_store *child = store->pool->stores;

	while (child && atomic_load(&child->parent) != store)
		child = child->next;
	return child;
}

static bool is_valid(const struct fold_job *job)
{
	return is_candidate(job->lower) && job->upper->layer.state == META_LAYER_LIVE &&
	       atomic_load(&job->upper->parent) == job->lower;
}

/* Whether the upper store has an entry with a block at or above the overlap: down in the lower store nobody would see
 * it before the end. Return: 1, 0, negative errno. */
static int has_blocks_above(struct meta_store *store, struct db_txn **slot)
{
	uint64_t overlap_bytes = atomic_load(&store->overlap_bytes), number = overlap_bytes / LEAF_BYTES;
	struct meta_leaf *leaf;

	if (meta_map_next_leaf(store, number + 1) != UINT64_MAX)
		return 1;
	int rc = store_load_leaf_now(store, number, slot, &leaf);
	if (rc != 0)
		return rc == META_HOLE ? 0 : rc;
	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		uint16_t below = store_mask_below(store, number * LEAF_CHUNKS + i);
		meta_entry entry = meta_leaf_entry(leaf, i);
		uint16_t said = meta_entry_valid(entry) | meta_entry_zero(entry);
		if ((said & (uint16_t)~below) || (entry != 0 && below == 0))
			return 1;
	}
	return 0;
}

/* Down is for a frozen child that has less, and nothing above its overlap. */
static void choose_direction(struct fold_job *job, struct db_txn **slot)
{
	struct meta_store *upper = job->upper, *lower = job->lower;

	job->down = job->down && atomic_load(&upper->chunks_owned) < atomic_load(&lower->chunks_owned);
	int above = job->down ? has_blocks_above(upper, slot) : 0;
	if (above < 0) {
		job->result = above;
		job->state = FOLD_OVER;
		return;
	}
	job->down = job->down && !above;
	job->state = job->down ? FOLD_CUT : FOLD_MOVE;
	job->cursor = job->down ? atomic_load(&upper->overlap_bytes) / LEAF_BYTES : 0;
}

/*
 * The name, or the other child, went in a transaction that was durable before the job was made, and neither comes back.
 * So what is said of the job whose turn it is goes for those behind it too, and one copy does for all.
 */
static void note_commit(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->catalog_lock);
	pthread_mutex_lock(&pool->jobs_lock);
	for (struct fold_job *job = pool->folds; job; job = job->next)
		if (job->known_in == 0)
			job->known_in = pool->record.commit;
	pthread_mutex_unlock(&pool->jobs_lock);
	pthread_mutex_unlock(&pool->catalog_lock);
}

static bool may_begin(struct meta_pool *pool, struct fold_job *job)
{
	if (job->known_in == 0)
		note_commit(pool);
	return copy_knows(pool, job->known_in) || planted(BUG_FOLD_NO_COPY);
}

bool fold_needs_copy(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->jobs_lock);
	struct fold_job *job = pool->folds;
	pthread_mutex_unlock(&pool->jobs_lock);
	return job && job->state == FOLD_QUEUED && !may_begin(pool, job);
}

static void begin(struct fold_job *job, struct db_txn **slot)
{
	struct meta_pool *pool = job->lower->pool;

	pthread_mutex_lock(&pool->catalog_lock);
	job->upper = is_candidate(job->lower) ? only_child(job->lower) : NULL;
	if (job->upper) {
		job->upper->refs++;
		job->down = !job->upper->head_of; /* for good: a layer never becomes a head again */
	}
	pthread_mutex_unlock(&pool->catalog_lock);
	if (!job->upper) {
		job->state = FOLD_OVER;
		return;
	}
	job->result = store_load_index(job->lower, NULL);
	if (job->result == 0)
		job->result = store_load_index(job->upper, NULL);
	if (job->result == 0)
		choose_direction(job, slot);
	else
		job->state = FOLD_OVER;
	pthread_mutex_lock(&pool->jobs_lock);
	job->info.waiting = false;
	pthread_mutex_unlock(&pool->jobs_lock);
}

static void finish(struct meta_pool *pool, struct fold_job *job)
{
	struct fold_job **at = &pool->folds;

	if (job->result < 0 && pool_failed_code(pool) == 0)
		log_error("folding layer %" PRIu64 " was given up: %s; it is tried again when the pool is opened; "
			  "run `bdfs check`",
			  job->lower->layer_id, strerror(-job->result));
	pthread_mutex_lock(&pool->jobs_lock);
	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	pool->folded.folds++;
	pool->folded.leaves += job->info.leaves_done;
	pool->folded.chunks_moved += job->info.chunks_moved;
	pool->folded.blocks_copied += job->info.blocks_copied;
	pool->folded.chunks_freed += job->info.chunks_freed;
	pthread_mutex_unlock(&pool->jobs_lock);
	if (job->upper)
		store_put(job->upper);
	store_put(job->lower);
	free(job);
	base_park_wake(&pool->mw_park); /* who waits for space may now have to be told that none will come */
}

/* ---- the run ---------------------------------------------------------------------------------- */

static uint64_t next_number(const struct fold_job *job)
{
	bool lower = job->state == FOLD_CUT || (job->state == FOLD_MOVE && !job->down);

	return meta_map_next_leaf(lower ? job->lower : job->upper, job->cursor);
}

static void next_state(struct fold_job *job)
{
	if (job->state == FOLD_CUT) {
		job->state = FOLD_MOVE;
	} else if (job->state == FOLD_MOVE && !job->down && !atomic_load(&job->lower->parent)) {
		/* The lower store is empty and has nothing below: its child sees nothing through it. */
		pthread_mutex_lock(&job->upper->pool->catalog_lock); /* a shrink may be lowering it too */
		atomic_store(&job->upper->overlap_bytes, 0);
		pthread_mutex_unlock(&job->upper->pool->catalog_lock);
		job->state = FOLD_SWEEP;
	} else {
		job->state = FOLD_COMMIT;
	}
	job->cursor = 0;
}

/* Return: 0; FOLD_AGAIN: to be tried again in a moment; negative errno. */
static int run_some(struct meta_pool *pool, struct fold_job *job, uint64_t now_ns, struct db_txn **slot)
{
	uint64_t rate = atomic_load(&pool->fold_rate), moved = job->info.chunks_moved + job->info.chunks_freed;

	if (now_ns < job->not_before_ns || atomic_load(&pool->dirty_count) >= COMMIT_LEAVES)
		return FOLD_AGAIN;
	for (unsigned i = 0; i < LEAVES_A_STEP && job->state < FOLD_COMMIT; i++) {
		uint64_t number = next_number(job);
		if (number == UINT64_MAX) {
			next_state(job);
			continue;
		}
		int rc = fold_leaf(pool, job, number, slot);
		if (rc != 0)
			return rc;
		job->cursor = number + 1;
		pthread_mutex_lock(&pool->jobs_lock);
		job->info.leaves_done++;
		pthread_mutex_unlock(&pool->jobs_lock);
		if (rate != 0) {
			moved = job->info.chunks_moved + job->info.chunks_freed - moved;
			job->not_before_ns = now_ns + moved * UINT64_C(1000000000) / rate;
			break;
		}
	}
	return 0;
}

/* ---- the end ---------------------------------------------------------------------------------- */

static struct meta_layer_record joined(const struct fold_job *job)
{
	struct meta_layer_record rec = job->down ? job->lower->layer : job->upper->layer;
	uint64_t overlap_bytes = MIN(job->upper->layer.overlap_bytes, job->lower->layer.overlap_bytes);

	rec.parent = job->lower->layer.parent;
	rec.overlap_bytes = rec.parent ? overlap_bytes : 0;
	rec.children = job->upper->layer.children;
	rec.owner_disk = job->upper->layer.owner_disk;
	return rec;
}

static int end_fn(struct mw_call *call, struct db_txn *txn)
{
	struct fold_job *job = call->arg;
	struct meta_layer_record rec = joined(job);
	struct meta_store *empty = job->down ? job->upper : job->lower;
	struct db_key key = db_key_u64(job->lower->layer_id);

	if (!is_valid(job) || (job->down && job->upper->head_of))
		return -ESTALE;
	if (empty->layer.index_records != 0)
		return -EBADMSG; /* something of it is still there: check will say what */
	int rc = catalog_put_layer(txn, job->upper->layer_id, &rec);
	return rc == 0 ? db_del(txn, DB_LAYER, &key) : rc;
}

/* The lower store becomes the upper layer's. */
static void take_over(struct fold_job *job, const struct meta_layer_record *rec)
{
	struct meta_store *lower = job->lower, *upper = job->upper;
	struct meta_snapshot *snapshot = upper->snapshot;

	lower->layer = *rec;
	lower->layer_id = upper->layer_id;
	upper->layer_id = 0; /* until it is freed it is on the list, and who looks for the layer is to find the other */
	lower->refs++; /* while names and children change hands */
	atomic_store(&lower->overlap_bytes, rec->overlap_bytes);
	/* Its views show what the upper layer hid: void before anybody else can ask for them. */
	if (!planted(BUG_VIEW_JOINED))
		atomic_fetch_add(&lower->joins, 1);
	if (snapshot) {
		lower->refs++;
		lower->snapshot = snapshot;
		upper->snapshot = NULL;
		atomic_store(&snapshot->store, lower);
		store_put_locked(upper);
	}
	for (struct meta_store *child = lower->pool->stores; child; child = child->next)
		if (child != lower && atomic_load(&child->parent) == upper)
			store_set_parent(child, lower, atomic_load(&child->overlap_bytes));
	upper->fold_asked = true;
	lower->fold_asked = false;
	store_put_locked(lower);
	fold_consider(lower);
}

static void end_applied(struct mw_call *call)
{
	struct fold_job *job = call->arg;
	struct meta_layer_record rec = joined(job);

	if (job->down) {
		take_over(job, &rec);
		return;
	}
	job->upper->layer = rec;
	store_set_parent(job->upper, atomic_load(&job->lower->parent), rec.overlap_bytes);
}

static void ended(struct base_msg *msg)
{
	struct fold_job *job = container_of(msg, struct fold_job, done);

	job->result = job->call.result == -ESTALE ? 0 : job->call.result;
	job->state = FOLD_OVER;
}

static void end_finished(struct mw_call *call)
{
	struct fold_job *job = call->arg;

	job->done.run = ended;
	base_mailbox_post(&call->pool->bg_box, &job->done);
}

static void committed(struct base_msg *msg)
{
	struct fold_job *job = container_of(msg, struct fold_job, commit.msg);
	struct meta_pool *pool = job->lower->pool;

	if (job->commit.result == -ENOSPC) { /* the metadata's file system is full: it is tried again */
		meta_wait_commit(pool, &job->commit);
		return;
	}
	if (job->commit.result < 0) {
		job->result = job->commit.result;
		job->state = FOLD_OVER;
		return;
	}
	job->call = (struct mw_call){
		.fn = end_fn, .applied = end_applied, .finished = end_finished, .may_use_reserve = true, .arg = job
	};
	mw_call_post(pool, &job->call);
}

/* ---- the step --------------------------------------------------------------------------------- */

static bool has_to_stop(struct meta_pool *pool, struct fold_job *job)
{
	pthread_mutex_lock(&pool->jobs_lock);
	bool stop = job->cancelled;
	pthread_mutex_unlock(&pool->jobs_lock);
	if (stop || !job->upper)
		return stop;
	pthread_mutex_lock(&pool->catalog_lock);
	stop = !is_valid(job);
	pthread_mutex_unlock(&pool->catalog_lock);
	return stop;
}

uint64_t fold_step(struct meta_pool *pool, uint64_t now_ns, struct db_txn **slot)
{
	pthread_mutex_lock(&pool->jobs_lock);
	struct fold_job *job = pool->folds;
	pthread_mutex_unlock(&pool->jobs_lock);
	if (!job || job->state == FOLD_WAIT)
		return 0;
	if (job->state != FOLD_OVER && has_to_stop(pool, job)) {
		fold_let_go(pool, job);
		job->state = FOLD_OVER;
	}
	if (job->state == FOLD_QUEUED && !may_begin(pool, job))
		return 0; /* copy_step() says when */
	if (job->state == FOLD_QUEUED)
		begin(job, slot);
	int rc = job->state < FOLD_COMMIT ? run_some(pool, job, now_ns, slot) : 0;
	if (rc < 0) {
		fold_let_go(pool, job);
		job->result = rc;
		job->state = FOLD_OVER;
	}
	if (job->state == FOLD_COMMIT) {
		job->state = FOLD_WAIT;
		job->commit.box = &pool->bg_box;
		job->commit.msg.run = committed;
		meta_wait_commit(pool, &job->commit);
		return 0;
	}
	if (job->state == FOLD_OVER)
		finish(pool, job);
	return rc == FOLD_AGAIN ? now_ns + POLL_NS : now_ns;
}
