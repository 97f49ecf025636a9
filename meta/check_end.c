/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: data beyond the end of a disk, while the disk changes.
 *
 * A write past the end of a disk enters the map first and moves the end then, and
 * a commit that comes between the two writes the one without the other. So on a
 * pool in use a leaf with data beyond the end that the disk's record tells is
 * nothing unusual. It is judged here by what is in memory, on the metadata
 * thread, which is the one that shrinks disks, so that no shrink is in between:
 *
 *   - the end that the disk has in memory now, and the mark of its record;
 *   - the leaf, as it is in memory, or in LMDB when it isn't in memory (then it is
 *     clean, and nobody writes to it);
 *   - whether a writer is between planning and completion: it holds a pin on the
 *     leaf from before it enters the map until after it has moved the end.
 *
 * Data beyond the end in a leaf that nobody has pinned is a finding. With a pin
 * it is looked at again a moment later, and not judged when that goes on for
 * long.
 *
 * The leaf is held still by the lock of the leaf cache: whoever evicts a leaf
 * takes it.
 *
 * Failure modes: a disk that is gone, or can't be looked up, has no end to judge.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "meta/check_internal.h"

#define AGAIN_NS UINT64_C(1000000)
#define PATIENCE_NS UINT64_C(2000000000)
/* A look-up, and 128 entries, each: a turn's worth. */
#define SUSPECTS_A_TURN 64

struct ends {
	size_t at;   /* the next suspect */
	size_t kept; /* those before it that have to be looked at again */
};

/* Of one suspect, in one moment. */
struct end_view {
	struct meta_disk *disk;
	uint64_t size_bytes, trim_above_bytes;
	uint64_t leaf;
	bool pinned;
	meta_entry entries[LEAF_CHUNKS];
};

/* True: the leaf is in memory, and was copied. */
static bool look_in_memory(struct end_view *view)
{
	struct meta_pool *pool = view->disk->pool;
	struct meta_leaf *leaf;

	pthread_mutex_lock(&pool->cache_lock);
	bool found = meta_map_find(view->disk->store, view->leaf, &leaf) == 0;
	if (found) {
		pthread_mutex_lock(&leaf->lock);
		view->pinned = leaf->pins > 0;
		for (unsigned i = 0; i < LEAF_CHUNKS; i++)
			view->entries[i] = atomic_load(&leaf->entries[i]);
		view->size_bytes = atomic_load(&view->disk->size_bytes);
		pthread_mutex_unlock(&leaf->lock);
	}
	pthread_mutex_unlock(&pool->cache_lock);
	return found;
}

static int look_in_db(struct end_view *view, struct db_txn *txn)
{
	struct db_key key = db_key_u64_u64(view->disk->store->id, view->leaf);
	struct db_value value;
	int rc = db_get(txn, DB_MAP, &key, &value);

	memset(view->entries, 0, sizeof(view->entries));
	view->size_bytes = atomic_load(&view->disk->size_bytes);
	return rc == 0 ? meta_leaf_decode(value.b, value.bytes, view->entries) : rc;
}

/* Return: 0: judged; CHECK_MORE: to be looked at again; negative errno. */
static int judge(struct check *check, struct db_txn *txn, struct end_view *view)
{
	unsigned beyond = 0;

	if (!look_in_memory(view)) {
		int rc = look_in_db(view, txn);
		if (rc < 0 && rc != -EBADMSG)
			return check_cant_read(check, DB_MAP, rc);
	}
	view->trim_above_bytes = view->disk->record.trim_above_bytes;
	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		uint64_t at = view->leaf * LEAF_CHUNKS + i;
		if (!check_beyond_end(view->entries[i], at, view->size_bytes, view->trim_above_bytes))
			continue;
		beyond++;
		if (!view->pinned)
			check_found_beyond_end(check, view->disk->number, view->disk->store->id, at,
					       view->size_bytes);
	}
	return beyond > 0 && view->pinned ? CHECK_MORE : 0;
}

static int ends_step(struct check_turn *turn, void *arg)
{
	struct check *check = turn->check;
	struct ends *ends = arg;
	int rc = 0;

	for (unsigned i = 0; i < SUSPECTS_A_TURN && ends->at < check->end_count && rc >= 0; i++, ends->at++) {
		struct end_suspect suspect = check->ends[ends->at];
		struct end_view view = { .disk = meta_disk_get_by_number(check->pool, suspect.disk),
					 .leaf = suspect.leaf };
		if (!view.disk)
			continue;
		rc = judge(check, turn->txn, &view);
		meta_disk_put(view.disk);
		if (rc == CHECK_MORE)
			check->ends[ends->kept++] = suspect;
	}
	if (rc < 0)
		return rc;
	return ends->at < check->end_count ? CHECK_MORE : 0;
}

static void wait_a_moment(void)
{
	struct base_park park;

	base_park_init(&park);
	base_park_wait(&park, base_clock_ns() + AGAIN_NS);
	base_park_done(&park);
}

int check_ends(struct check *check)
{
	uint64_t until = base_clock_ns() + PATIENCE_NS;
	int rc = 0;

	while (check->end_count > 0 && rc == 0) {
		struct ends ends = { 0 };
		rc = check_live_run(check, ends_step, &ends);
		check->end_count = ends.kept;
		if (rc < 0 || ends.kept == 0)
			break;
		if (base_clock_ns() > until) {
			check->report->not_judged += ends.kept;
			break;
		}
		wait_a_moment();
		rc = check_tick(check);
	}
	return rc;
}
