/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One leaf of a fold: which entries move, what becomes of each, and who waits meanwhile.
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
 * Happy path: hold the leaf's two halves, copy blocks if there are any to copy, change both
 * entries with one record of the restart log, let go.
 * Failure modes: FOLD_AGAIN, when somebody is still in the leaf or the restart log is full;
 * what was done of the leaf stays done. A block that can't be read or written.
 */
#include <errno.h>

#include "meta/fold.h"
#include "meta/internal.h"

/* ---- holding a leaf --------------------------------------------------------------------------- */

static void set_folding(struct meta_leaf *leaf, bool folding)
{
	pthread_mutex_lock(&leaf->lock);
	leaf->folding = folding;
	pthread_mutex_unlock(&leaf->lock);
}

void fold_let_go(struct meta_pool *pool, struct fold_job *job)
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
		disk_note_change(disk);
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
	fold_let_go(pool, job);
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

int fold_leaf(struct meta_pool *pool, struct fold_job *job, uint64_t number, struct db_txn **slot)
{
	if (job->state == FOLD_CUT)
		return cut_leaf(pool, job, number, slot);
	return job->state == FOLD_MOVE ? move_leaf(pool, job, number, slot) : sweep_leaf(pool, job, number, slot);
}
