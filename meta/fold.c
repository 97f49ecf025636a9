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
 * Where both have a chunk, the blocks of one are copied into the other, at places
 * that no reader looks at: in the parent's chunk those that the child covers, in the
 * child's those that it has not. Under a live head it is always the head's chunk
 * that stays: what is in the parent's may be what a power cut leaves of a block
 * that was not flushed.
 *
 * Writers: while an entry of a leaf is being moved nobody may be between planning
 * and completion in it. `folding` keeps new ones from pinning the leaf (they wait
 * in meta_wait_fold, holding nothing); the work begins when the last pin is gone.
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
#include <assert.h>
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

enum { FOLD_AGAIN = 1 };

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
	pthread_mutex_unlock(&pool->jobs_lock);
	if (job->upper)
		store_put(job->upper);
	store_put(job->lower);
	free(job);
	base_park_wake(&pool->mw_park); /* who waits for space may now have to be told that none will come */
}

/* ---- holding a leaf --------------------------------------------------------------------------- */

static void set_folding(struct meta_leaf *leaf, bool folding)
{
	pthread_mutex_lock(&leaf->lock);
	leaf->folding = folding;
	pthread_mutex_unlock(&leaf->lock);
}

static void let_go(struct meta_pool *pool, struct fold_job *job)
{
	for (unsigned i = 0; i < ARRAY_LEN(job->held); i++)
		if (job->held[i])
			set_folding(job->held[i], false);
	job->held[0] = job->held[1] = NULL;
	pthread_mutex_lock(&pool->jobs_lock);
	struct meta_wait *waiters = pool->fold_waiters;
	pool->fold_waiters = NULL;
	pool->fold_holds = false;
	pthread_mutex_unlock(&pool->jobs_lock);
	wait_post_all(&waiters, 0);
}

void meta_wait_fold(struct meta_pool *pool, struct meta_wait *wait)
{
	pthread_mutex_lock(&pool->jobs_lock);
	bool waits = pool->fold_holds;
	if (waits) {
		wait->next = pool->fold_waiters;
		pool->fold_waiters = wait;
	}
	pthread_mutex_unlock(&pool->jobs_lock);
	if (!waits)
		wait_post(wait, 0);
}

static int get_leaf(struct meta_store *store, uint64_t number, struct db_txn **slot, struct meta_leaf **ret)
{
	int rc = store_load_leaf_now(store, number, slot, ret);

	if (rc != META_HOLE)
		return rc;
	pthread_mutex_lock(&store->lock);
	rc = meta_map_find(store, number, ret);
	if (rc == META_HOLE)
		rc = (*ret = store_install(store, number, NULL)) ? 0 : -ENOMEM;
	pthread_mutex_unlock(&store->lock);
	return rc == META_MISS ? get_leaf(store, number, slot, ret) : rc;
}

/* Return: 0: nobody else is in the upper leaf; FOLD_AGAIN: somebody is, not for long; negative errno. Only BG evicts,
 * so what it has looked up stays. */
static int hold(struct meta_pool *pool, struct fold_job *job, uint64_t number, struct db_txn **slot)
{
	struct meta_leaf *leaves[2];

	if (!job->held[0]) {
		int rc = get_leaf(job->upper, number, slot, &leaves[0]);
		if (rc == 0)
			rc = get_leaf(job->lower, number, slot, &leaves[1]);
		if (rc < 0)
			return rc;
		pthread_mutex_lock(&pool->jobs_lock);
		pool->fold_holds = true;
		pthread_mutex_unlock(&pool->jobs_lock);
		for (unsigned i = 0; i < 2; i++)
			set_folding(job->held[i] = leaves[i], true);
	}
	pthread_mutex_lock(&job->held[0]->lock);
	bool alone = job->held[0]->pins == 0;
	pthread_mutex_unlock(&job->held[0]->lock);
	return alone ? 0 : FOLD_AGAIN;
}

/* ---- one entry -------------------------------------------------------------------------------- */

struct fold_plan {
	meta_entry result;
	struct pchunk displaced; /* to be freed: the one of the two that does not stay */
	uint16_t copy;           /* blocks from the displaced one into the one that stays */
};

static struct fold_plan plan_entry(const struct fold_job *job, meta_entry upper, meta_entry lower, uint64_t at)
{
	uint16_t said = meta_entry_valid(upper) | meta_entry_zero(upper);
	uint16_t keep = store_mask_below(job->upper, at) & (uint16_t)~said;
	uint16_t from_lower = meta_entry_valid(lower) & keep, valid = meta_entry_valid(upper) | from_lower;
	uint16_t zero = (meta_entry_zero(upper) | (meta_entry_zero(lower) & keep)) & (uint16_t)~valid;
	struct pchunk mine = meta_entry_chunk(upper), below = meta_entry_chunk(lower), stays;
	struct fold_plan plan = { 0 };
	bool live = job->upper->head_of != NULL;

	if (job->down) /* the lower store's own parent is what zero bits hide there */
		zero &= store_mask_below(job->lower, at);
	if (from_lower == 0)
		stays = mine;
	else if (mine.n == 0 || meta_entry_valid(upper) == 0)
		stays = below;
	else if (live || __builtin_popcount(from_lower) < __builtin_popcount(meta_entry_valid(upper)))
		stays = mine;
	else
		stays = below;
	plan.displaced = stays.n == mine.n ? below : mine;
	if (stays.n != 0 && plan.displaced.n != 0)
		plan.copy = stays.n == mine.n ? from_lower : meta_entry_valid(upper);
	plan.result = meta_entry_make(stays, valid, zero);
	return plan;
}

static int copy_blocks(struct meta_pool *pool, struct pchunk from, struct pchunk to, uint16_t blocks)
{
	static _Alignas(BLOCK_BYTES) uint8_t buf[BLOCK_BYTES]; /* BG's */
	uint64_t from_byte, to_byte;
	unsigned from_pv, to_pv;
	int rc = 0;

	if (!meta_io_locate(pool, from, &from_pv, &from_byte) || !meta_io_locate(pool, to, &to_pv, &to_byte))
		return -EBADMSG;
	for (unsigned left = blocks; left && rc == 0; left &= left - 1) {
		uint64_t at = (uint64_t)__builtin_ctz(left) * BLOCK_BYTES;
		rc = pool->pv_ops->read(pool->pv_ctx, &pool->pvs[from_pv].handle, buf, BLOCK_BYTES, from_byte + at);
		if (rc == 0)
			rc = pool->pv_ops->write(pool->pv_ctx, &pool->pvs[to_pv].handle, buf, BLOCK_BYTES,
						 to_byte + at);
		meta_io_note_write(pool, to_pv);
	}
	return rc;
}

/* The locks are held, and the log slot is reserved. */
static void change_both(struct fold_job *job, unsigned index, meta_entry upper, meta_entry lower, meta_entry result)
{
	struct meta_leaf *leaves[2] = { job->held[0], job->held[1] };
	struct meta_pool *pool = job->lower->pool;
	uint64_t number = leaves[0]->number;
	unsigned gets = job->down ? 1 : 0;
	struct restart_record rec = { .kind = RESTART_MOVE,
				      .id = leaves[gets]->store->id,
				      .at = number * LEAF_CHUNKS + index,
				      .value = result,
				      .from = leaves[!gets]->store->id };
	meta_entry before[2] = { upper, lower };

	unsigned token = restart_append(pool->log, &rec);
	/* The one that gets it first; then the count, for who has passed the one and not yet reached the other. */
	atomic_store(&leaves[gets]->entries[index], result);
	atomic_fetch_add(&pool->move_counts[number % MOVE_BUCKETS], 1);
	atomic_fetch_add(&pool->moved_leaves, 1);
	atomic_store(&leaves[!gets]->entries[index], 0);
	atomic_fetch_add(&pool->move_counts[number % MOVE_BUCKETS], 1);
	leaf_mark_dirty(leaves[0]);
	leaf_mark_dirty(leaves[1]);
	leaf_account(leaves[gets]->store, before[gets], result);
	leaf_account(leaves[!gets]->store, before[!gets], 0);
	restart_append_end(pool->log, token);
}

static void note(struct meta_pool *pool, struct fold_job *job, const struct fold_plan *plan, bool moved)
{
	pthread_mutex_lock(&pool->jobs_lock);
	job->info.chunks_moved += moved;
	job->info.blocks_copied += (uint64_t)__builtin_popcount(plan->copy);
	job->info.chunks_freed += plan->displaced.n != 0;
	pthread_mutex_unlock(&pool->jobs_lock);
}

static void apply_entry(struct fold_job *job, unsigned index, meta_entry upper, meta_entry lower,
			const struct fold_plan *plan)
{
	struct meta_pool *pool = job->lower->pool;
	struct space_claim *gives = job->down ? &job->upper->claim : &job->lower->claim;
	struct space_claim *gets = job->down ? &job->lower->claim : &job->upper->claim;
	uint32_t source = meta_entry_chunk(job->down ? upper : lower).n;
	bool moved = source != 0 && source == meta_entry_chunk(plan->result).n;

	pthread_mutex_lock(&pool->catalog_lock);
	struct meta_disk *disk = job->upper->head_of;
	pthread_mutex_lock(&pool->move_lock);
	pthread_mutex_lock(&job->held[0]->lock);
	pthread_mutex_lock(&job->held[1]->lock);
	change_both(job, index, upper, lower, plan->result);
	/* A flush of the disk has to make this durable: what is written from now on is where the new entry says. */
	if (disk)
		atomic_store(&disk->changed_in, atomic_load(&pool->commit_open));
	if (moved)
		space_claim_pass(&pool->space, gives, gets);
	if (plan->displaced.n != 0)
		space_free(&pool->space,
			   plan->displaced.n == meta_entry_chunk(upper).n ? &job->upper->claim : &job->lower->claim,
			   plan->displaced.n);
	pthread_mutex_unlock(&job->held[1]->lock);
	pthread_mutex_unlock(&job->held[0]->lock);
	pthread_mutex_unlock(&pool->move_lock);
	pthread_mutex_unlock(&pool->catalog_lock);
	note(pool, job, plan, moved);
}

static int fold_entry(struct meta_pool *pool, struct fold_job *job, unsigned index)
{
	meta_entry upper = meta_leaf_entry(job->held[0], index), lower = meta_leaf_entry(job->held[1], index);

	if ((job->down ? upper : lower) == 0)
		return 0;
	if (!restart_reserve(pool->log, 1)) {
		atomic_store(&pool->commit_forced, true);
		base_park_wake(&pool->mw_park);
		return FOLD_AGAIN;
	}
	struct fold_plan plan = plan_entry(job, upper, lower, job->held[0]->number * LEAF_CHUNKS + index);
	int rc = plan.copy ? copy_blocks(pool, plan.displaced, meta_entry_chunk(plan.result), plan.copy) : 0;
	if (rc < 0) {
		restart_unreserve(pool->log, 1);
		return rc;
	}
	apply_entry(job, index, upper, lower, &plan);
	return 0;
}

/* An entry that changes alone: blocks of `drop` go, zero bits of `unzero` too. Logged, as every change of a fold. */
static int strip_entry(struct meta_pool *pool, struct meta_leaf *leaf, unsigned index, uint16_t drop, uint16_t unzero)
{
	int rc = 0;

	pthread_mutex_lock(&pool->move_lock);
	pthread_mutex_lock(&leaf->lock);
	meta_entry before = atomic_load(&leaf->entries[index]);
	uint16_t valid = meta_entry_valid(before) & (uint16_t)~drop;
	bool frees = valid == 0 && drop == UINT16_MAX;
	meta_entry after = meta_entry_make(frees ? (struct pchunk){ 0 } : meta_entry_chunk(before), valid,
					   meta_entry_zero(before) & (uint16_t) ~(drop | unzero));
	if (after != before && !restart_reserve(pool->log, 1)) {
		rc = FOLD_AGAIN;
	} else if (after != before) {
		struct restart_record rec = { .kind = RESTART_ENTRY,
					      .id = leaf->store->id,
					      .at = leaf->number * LEAF_CHUNKS + index,
					      .value = after };
		unsigned token = restart_append(pool->log, &rec);
		atomic_store(&leaf->entries[index], after);
		leaf_mark_dirty(leaf);
		leaf_account(leaf->store, before, after);
		if (frees && meta_entry_chunk(before).n != 0)
			space_free(&pool->space, &leaf->store->claim, meta_entry_chunk(before).n);
		restart_append_end(pool->log, token);
	}
	pthread_mutex_unlock(&leaf->lock);
	pthread_mutex_unlock(&pool->move_lock);
	if (rc == FOLD_AGAIN) {
		atomic_store(&pool->commit_forced, true);
		base_park_wake(&pool->mw_park);
	}
	return rc;
}

/* ---- leaves ----------------------------------------------------------------------------------- */

static int move_leaf(struct meta_pool *pool, struct fold_job *job, uint64_t number, struct db_txn **slot)
{
	int rc = hold(pool, job, number, slot);

	if (rc == FOLD_AGAIN)
		return rc; /* still held, or who comes next would be before us for ever */
	for (unsigned i = 0; i < LEAF_CHUNKS && rc == 0; i++)
		rc = fold_entry(pool, job, i);
	let_go(pool, job);
	pool_note_dirty(pool);
	return rc;
}

/* What the child cuts off is not to come back when the store is its own. */
static int cut_leaf(struct meta_pool *pool, struct fold_job *job, uint64_t number, struct db_txn **slot)
{
	struct meta_leaf *leaf;
	int rc = store_load_leaf_now(job->lower, number, slot, &leaf);
	uint64_t overlap_bytes = atomic_load(&job->upper->overlap_bytes);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	for (unsigned i = 0; i < LEAF_CHUNKS && rc == 0; i++) {
		uint64_t byte = (number * LEAF_CHUNKS + i) * CHUNK_BYTES;
		uint64_t below = overlap_bytes > byte ? (overlap_bytes - byte) / BLOCK_BYTES : 0;
		unsigned stay = (unsigned)MIN(below, CHUNK_BLOCKS);
		rc = strip_entry(pool, leaf, i, (uint16_t)~meta_block_mask(0, stay), 0);
	}
	pool_note_dirty(pool);
	return rc;
}

static int sweep_leaf(struct meta_pool *pool, struct fold_job *job, uint64_t number, struct db_txn **slot)
{
	struct meta_leaf *leaf;
	int rc = store_load_leaf_now(job->upper, number, slot, &leaf);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	for (unsigned i = 0; i < LEAF_CHUNKS && rc == 0; i++)
		if (meta_entry_zero(meta_leaf_entry(leaf, i)))
			rc = strip_entry(pool, leaf, i, 0, UINT16_MAX);
	pool_note_dirty(pool);
	return rc;
}

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
		atomic_store(&job->upper->overlap_bytes, 0);
		job->state = FOLD_SWEEP;
	} else {
		job->state = FOLD_COMMIT;
	}
	job->cursor = 0;
}

static int do_leaf(struct meta_pool *pool, struct fold_job *job, uint64_t number, struct db_txn **slot)
{
	if (job->state == FOLD_CUT)
		return cut_leaf(pool, job, number, slot);
	return job->state == FOLD_MOVE ? move_leaf(pool, job, number, slot) : sweep_leaf(pool, job, number, slot);
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
		int rc = do_leaf(pool, job, number, slot);
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
	lower->refs++; /* while names and children change hands */
	atomic_store(&lower->overlap_bytes, rec->overlap_bytes);
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
		let_go(pool, job);
		job->state = FOLD_OVER;
	}
	if (job->state == FOLD_QUEUED && !may_begin(pool, job))
		return 0; /* copy_step() says when */
	if (job->state == FOLD_QUEUED)
		begin(job, slot);
	int rc = job->state < FOLD_COMMIT ? run_some(pool, job, now_ns, slot) : 0;
	if (rc < 0) {
		let_go(pool, job);
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
