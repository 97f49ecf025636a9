/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: whether a layer's counters are right, while its store changes.
 *
 * The map pass adds up what it sees of a store over many transactions, so on a
 * pool in use a difference from the layer's counters proves nothing. Here the
 * store is counted again in turns of the metadata thread (check_live.c), and
 * what each leaf counts for is kept: 3 bytes a leaf, so 384 KiB for a disk of 1
 * TiB. After each commit the leaves of this store that it wrote are set to what it
 * wrote: then all leaves that the walk has passed count for what they durably hold
 * once more. The index records are counted in the same way: one flag a group,
 * looked at again when a commit has touched the group. When the walk is at its
 * end, the sums and the layer's record are of one moment, and a difference is a
 * finding.
 *
 * Layers are taken one after the other, as many as fit into a turn.
 *
 * Failure modes: a store with a leaf that can't be used is not judged; a layer
 * that goes meanwhile has taken its counters along.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "meta/check_internal.h"

#define INDEX_GROUPS (DISK_BYTES_MAX / LEAF_BYTES / GROUP_LEAVES)

struct tally {
	uint16_t blocks[GROUP_LEAVES];
	uint8_t chunks[GROUP_LEAVES];
};

struct recount {
	struct check *check;
	size_t at;               /* which of check->recounts */
	uint64_t store;          /* 0: the layer has yet to be looked up */
	struct db_key index_key; /* of the index record that was met last */
	bool index_over, map_unknown;
	struct leaf_walk walk;
	uint64_t chunks, blocks, index_records;
	struct tally *tallies[INDEX_GROUPS];
	bool has_index[INDEX_GROUPS];
};

void check_found_counters(struct check *check, uint64_t layer_id, const struct meta_layer_record *rec,
			  uint64_t chunks, uint64_t blocks, uint64_t index_records)
{
	check_found(check, META_CHECK_LAYER_COUNTERS,
		    CHECK_PLACE(.disk = rec->owner_disk, .layer = layer_id, .store = rec->store_id),
		    "layer %" PRIu64 " counts %" PRIu64 " chunks, %" PRIu64 " blocks, %" PRIu64
		    " index records, and has %" PRIu64 ", %" PRIu64 ", %" PRIu64,
		    layer_id, rec->chunks_owned, rec->blocks_valid, rec->index_records, chunks, blocks,
		    index_records);
}

/* ---- counting ---------------------------------------------------------------------------------- */

static int count_leaf(struct recount *recount, uint64_t number, const meta_entry *entries)
{
	struct tally **slot = &recount->tallies[number >> GROUP_SHIFT];
	unsigned chunks = 0, blocks = 0, i = number % GROUP_LEAVES;

	if (!*slot && !(*slot = calloc(1, sizeof(**slot))))
		return check_no_memory(recount->check);
	for (unsigned n = 0; n < LEAF_CHUNKS; n++) {
		chunks += meta_entry_chunk(entries[n]).n != 0;
		blocks += (unsigned)__builtin_popcount(meta_entry_valid(entries[n]));
	}
	recount->chunks += chunks - (uint64_t)(*slot)->chunks[i];
	recount->blocks += blocks - (uint64_t)(*slot)->blocks[i];
	(*slot)->chunks[i] = (uint8_t)chunks;
	(*slot)->blocks[i] = (uint16_t)blocks;
	return 0;
}

static void count_index(struct recount *recount, uint64_t group, bool has)
{
	recount->index_records += (uint64_t)has - (uint64_t)recount->has_index[group];
	recount->has_index[group] = has;
}

static void reset(struct recount *recount)
{
	for (uint64_t g = 0; g < INDEX_GROUPS; g++) {
		free(recount->tallies[g]);
		recount->tallies[g] = NULL;
	}
	memset(recount->has_index, 0, sizeof(recount->has_index));
	recount->chunks = recount->blocks = recount->index_records = 0;
	recount->index_over = recount->map_unknown = false;
}

/* ---- what a commit has changed behind the walk ---------------------------------------------------- */

static int look_at_index(struct recount *recount, struct db_txn *txn, uint64_t group)
{
	struct db_key key = db_key_u64_u64(recount->store, group);
	struct db_value value;
	int rc = db_get(txn, DB_INDEX, &key, &value);

	if (rc < 0 && rc != -EBADMSG)
		return check_cant_read(recount->check, DB_INDEX, rc);
	count_index(recount, group, rc != DB_NOT_FOUND);
	return 0;
}

static int follow_commit(struct recount *recount, const struct check_turn *turn)
{
	const struct commit_work *work = turn->committed;
	uint64_t looked_at = UINT64_MAX;
	int rc = 0;

	for (size_t i = 0; work && i < work->leaf_count && rc == 0; i++) {
		const struct leaf_copy *copy = &work->leaves[i]; /* sorted by store and number */
		uint64_t group = copy->number >> GROUP_SHIFT;
		if (copy->store->id != recount->store)
			continue;
		/* Ahead of the walk too: it will find what was counted here, and count it for the same. */
		rc = count_leaf(recount, copy->number, copy->entries);
		if (rc == 0 && group != looked_at)
			rc = look_at_index(recount, turn->txn, group);
		looked_at = group;
	}
	return rc;
}

/* ---- the walk ------------------------------------------------------------------------------------- */

/* Return: 0: begun; DB_NOT_FOUND: the layer is gone or can't be used; negative errno. */
static int begin_layer(struct recount *recount, struct check_turn *turn)
{
	struct meta_layer_record rec;
	int rc = check_get_layer(turn->txn, recount->check->recounts[recount->at], &rec);

	if (rc == -EBADMSG)
		return DB_NOT_FOUND;
	if (rc != 0)
		return rc < 0 ? check_cant_read(recount->check, DB_LAYER, rc) : rc;
	reset(recount);
	recount->store = rec.store_id;
	recount->index_key = db_key_u64_u64(rec.store_id, 0);
	recount->walk = (struct leaf_walk){ .store = rec.store_id };
	return 0;
}

static int next_index(struct recount *recount, struct check_turn *turn, bool first)
{
	uint64_t store, group;
	struct db_value value;
	int rc = db_next(turn->txn, DB_INDEX, &recount->index_key, first, &value);

	if (rc < 0 && rc != -EBADMSG)
		return check_cant_read(recount->check, DB_INDEX, rc);
	bool right = rc != DB_NOT_FOUND && db_key_to_u64_u64(&recount->index_key, &store, &group);
	recount->index_over = rc == DB_NOT_FOUND || (right && store != recount->store);
	if (right && store == recount->store && group < INDEX_GROUPS)
		count_index(recount, group, true);
	return 0;
}

static int next_leaf(struct recount *recount, struct check_turn *turn)
{
	struct walked_leaf leaf;
	int rc = leaf_walk_next(&recount->walk, turn->txn, &leaf);

	if (rc < 0)
		return check_cant_read(recount->check, DB_MAP, rc);
	if (rc == DB_NOT_FOUND)
		return rc;
	recount->map_unknown |= leaf.bad;
	return leaf.bad ? 0 : count_leaf(recount, leaf.number, leaf.entries);
}

static int judge_layer(struct recount *recount, struct check_turn *turn)
{
	struct check *check = recount->check;
	uint64_t id = check->recounts[recount->at];
	struct meta_layer_record rec;
	int rc = check_get_layer(turn->txn, id, &rec);

	if (rc < 0 && rc != -EBADMSG)
		return check_cant_read(check, DB_LAYER, rc);
	if (rc != 0 || rec.store_id != recount->store)
		return 0;
	if (recount->map_unknown)
		check->report->not_judged++;
	else if (rec.chunks_owned != recount->chunks || rec.blocks_valid != recount->blocks ||
		 rec.index_records != recount->index_records)
		check_found_counters(check, id, &rec, recount->chunks, recount->blocks, recount->index_records);
	return 0;
}

/* One layer, or as far as the turn goes. Return: 0: done with it; CHECK_MORE; negative errno. */
static int layer_step(struct recount *recount, struct check_turn *turn)
{
	bool first = recount->store == 0;
	int rc = first ? begin_layer(recount, turn) : 0;

	if (rc == DB_NOT_FOUND)
		return 0;
	for (; rc == 0 && !recount->index_over; first = false) {
		if (!first && check_turn_is_over(turn))
			return CHECK_MORE;
		rc = next_index(recount, turn, first);
	}
	while (rc == 0) {
		if (check_turn_is_over(turn))
			return CHECK_MORE;
		rc = next_leaf(recount, turn);
	}
	return rc == DB_NOT_FOUND ? judge_layer(recount, turn) : rc;
}

static int recount_step(struct check_turn *turn, void *arg)
{
	struct recount *recount = arg;
	int rc = recount->store != 0 ? follow_commit(recount, turn) : 0;

	while (rc == 0) {
		rc = layer_step(recount, turn);
		if (rc != 0)
			break;
		recount->store = 0;
		if (++recount->at == recount->check->recount_count)
			return 0;
		if (check_turn_is_over(turn))
			return CHECK_MORE;
	}
	return rc;
}

int check_recounts(struct check *check)
{
	struct recount *recount;

	if (check->recount_count == 0)
		return 0;
	recount = calloc(1, sizeof(*recount));
	if (!recount)
		return check_no_memory(check);
	recount->check = check;
	int rc = check_live_run(check, recount_step, recount);
	reset(recount);
	free(recount);
	return rc;
}
