/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching: a copy from a snapshot to the same place of an empty disk, made by
 * showing instead of copying.
 *
 * The snapshot's layer becomes the parent of the disk's head, with the end of the
 * range as overlap; a further range raises the overlap. That is right only if it
 * changes nothing but the range:
 *
 *   between the old overlap (0 without a parent) and the range both are holes
 *   in the range the head says nothing yet: what it says would hide the source
 *
 * The caller holds every stripe of the disk, so what was looked at stays so. What
 * the disk's map had before has to be durable first: an entry that was discarded
 * and comes back by a power cut would otherwise lie above the new parent. So does
 * its size: an overlap behind the end would show when the disk grows.
 *
 * Happy path: look, commit if the disk has changes that are not durable, one
 * transaction for both layers; then memory.
 * Failure modes: META_NOT_ATTACHED when the conditions don't hold: then the bytes
 * are to be copied. After a crash the range is attached or it is not.
 */
#include <errno.h>

#include "meta/internal.h"
#include "meta/snapshot.h"

struct attach_args {
	struct meta_disk *disk;
	struct meta_snapshot *snapshot;
	struct meta_store *head;
	uint64_t end_bytes; /* of the range, in whole blocks */
	bool first;         /* it gets a parent */
	struct meta_layer_record head_next, base_next;
};

/* ---- looking -------------------------------------------------------------------------------- */

/* The blocks of the chunk that lie in [from, to). */
static uint16_t blocks_between(uint64_t chunk_of_disk, uint64_t from_bytes, uint64_t to_bytes)
{
	uint64_t first = chunk_of_disk * CHUNK_BYTES, last = first + CHUNK_BYTES;
	uint64_t from = MIN(MAX(from_bytes, first), last) - first, to = MIN(MAX(to_bytes, first), last) - first;

	return from < to ? meta_block_mask((unsigned)(from / BLOCK_BYTES), (unsigned)((to - from) / BLOCK_BYTES)) : 0;
}

/* Return: 0: it says nothing of [from, to); META_NOT_ATTACHED; negative errno. */
static int says_nothing(struct meta_store *head, uint64_t from_bytes, uint64_t to_bytes)
{
	meta_entry entries[LEAF_CHUNKS];
	struct db_txn *slot = NULL;
	uint64_t number = from_bytes / LEAF_BYTES;
	int rc = 0;

	while (rc == 0 && (number = meta_map_next_leaf(head, number)) * LEAF_BYTES < to_bytes && number != UINT64_MAX) {
		rc = leaf_copy_now(head, number, &slot, entries);
		for (unsigned i = 0; i < LEAF_CHUNKS && rc == 0; i++) {
			uint16_t said = meta_entry_valid(entries[i]) | meta_entry_zero(entries[i]);
			if (said & blocks_between(number * LEAF_CHUNKS + i, from_bytes, to_bytes))
				rc = META_NOT_ATTACHED;
		}
		number++;
	}
	db_read_free(slot);
	return rc;
}

/* In an epoch. */
static int resolve_now(struct meta_store *store, uint64_t chunk, uint16_t want, uint32_t sources[CHUNK_BLOCKS],
		       struct db_txn **slot)
{
	struct cache_item *kept[2] = { NULL, NULL }, *before; /* a leaf and a view, or an older one that was replaced */
	struct meta_missing missing;
	int rc = 0;

	while (rc == 0 && meta_map_resolve(store, chunk, want, sources, &missing) == META_MISS) {
		before = kept[1];
		kept[1] = kept[0];
		rc = map_load_now(&missing, slot, &kept[0]);
		if (rc < 0)
			kept[0] = NULL;
		if (before)
			meta_keep_end(before);
	}
	for (unsigned i = 0; i < ARRAY_LEN(kept); i++)
		if (kept[i])
			meta_keep_end(kept[i]);
	return rc;
}

static int leaf_shows_nothing(struct meta_store *base, uint64_t number, uint64_t from_bytes, uint64_t to_bytes,
			      struct db_txn **slot)
{
	uint32_t sources[CHUNK_BLOCKS];
	int rc = 0;

	for (unsigned i = 0; i < LEAF_CHUNKS && rc == 0; i++) {
		uint64_t chunk = number * LEAF_CHUNKS + i;
		uint16_t want = blocks_between(chunk, from_bytes, to_bytes);
		if (want)
			rc = resolve_now(base, chunk, want, sources, slot);
		for (unsigned left = want; left && rc == 0; left &= left - 1)
			if (sources[__builtin_ctz(left)] != 0)
				rc = META_NOT_ATTACHED;
	}
	return rc;
}

/* Return: 0: [from, to) of the snapshot is a hole; META_NOT_ATTACHED; negative errno. */
static int shows_nothing(struct meta_snapshot *snapshot, uint64_t from_bytes, uint64_t to_bytes)
{
	uint64_t number = from_bytes / LEAF_BYTES;
	struct db_txn *slot = NULL;
	int rc = 0;

	while (rc == 0 && number != UINT64_MAX && number * LEAF_BYTES < to_bytes) {
		uint64_t epoch = pool_epoch_enter(snapshot->pool);
		struct meta_store *base = meta_io_snapshot_store(snapshot);
		number = meta_map_next_visible(base, number);
		if (number != UINT64_MAX)
			rc = leaf_shows_nothing(base, number++, from_bytes, to_bytes, &slot);
		pool_epoch_leave(snapshot->pool, epoch);
	}
	db_read_free(slot);
	return rc;
}

/* ---- attaching; MW -------------------------------------------------------------------------- */

static bool may_attach(const struct attach_args *args, const struct meta_store *base)
{
	const struct meta_disk_record *rec = &args->disk->record;
	const struct meta_store *parent = atomic_load(&args->head->parent);

	return atomic_load(&args->disk->store) == args->head && (!parent || parent == base) &&
	       rec->kind == META_DISK_THIN && rec->trim_above_bytes == UINT64_MAX &&
	       args->end_bytes <= round_up_to(rec->size_bytes, BLOCK_BYTES);
}

static int attach_fn(struct mw_call *call, struct db_txn *txn)
{
	struct attach_args *args = call->arg;
	struct meta_store *base = atomic_load(&args->snapshot->store);
	int rc = 0;

	if (args->disk->removed || args->snapshot->removed)
		return base_error_set(call->err, -ENOENT, "it was removed meanwhile");
	if (!may_attach(args, base))
		return META_NOT_ATTACHED;
	args->first = !atomic_load(&args->head->parent);
	args->head_next = args->head->layer;
	args->head_next.parent = base->layer_id;
	args->head_next.overlap_bytes = args->end_bytes;
	args->base_next = base->layer;
	args->base_next.children++;
	if (args->first)
		rc = catalog_put_layer(txn, base->layer_id, &args->base_next);
	return rc == 0 ? catalog_put_layer(txn, args->head->layer_id, &args->head_next) : rc;
}

static void attach_applied(struct mw_call *call)
{
	struct attach_args *args = call->arg;
	struct meta_store *base = atomic_load(&args->snapshot->store);

	args->head->layer = args->head_next;
	args->head->overlap_rises++;
	if (args->first) {
		base->layer = args->base_next;
		store_set_parent(args->head, base, args->end_bytes);
	} else {
		atomic_store(&args->head->overlap_bytes, args->end_bytes);
	}
	changed_note(call->pool, args->head->layer.owner_disk, META_CHANGED_DATA, call->record->commit);
}

/* ---- the call ------------------------------------------------------------------------------- */

static int look(const struct attach_args *args, uint64_t offset, uint64_t overlap_bytes)
{
	int rc = says_nothing(args->head, MIN(offset, overlap_bytes), args->end_bytes);

	if (rc == 0 && overlap_bytes < offset)
		rc = shows_nothing(args->snapshot, overlap_bytes, offset);
	return rc;
}

int meta_disk_attach(struct meta_disk *disk, struct meta_snapshot *snapshot, uint64_t offset, uint64_t end_bytes,
		     struct base_error *err)
{
	struct attach_args args = { .disk = disk, .snapshot = snapshot, .head = atomic_load(&disk->store) };
	struct mw_call call = { .fn = attach_fn, .applied = attach_applied, .arg = &args, .err = err };
	struct meta_pool *pool = disk->pool;

	/* A snapshot's tail is zeroed to the end of its block. */
	args.end_bytes = end_bytes == snapshot->record.size_bytes ? round_up_to(end_bytes, BLOCK_BYTES) : end_bytes;
	if (offset % BLOCK_BYTES != 0 || args.end_bytes % BLOCK_BYTES != 0 || offset >= end_bytes ||
	    end_bytes > snapshot->record.size_bytes || end_bytes > atomic_load(&disk->size_bytes) ||
	    atomic_load(&disk->kind) != META_DISK_THIN || atomic_load(&disk->trimming) || pool->read_only)
		return META_NOT_ATTACHED;
	/* Only a fold changes the parent now, and only one that is not the snapshot's. */
	struct meta_store *parent = atomic_load(&args.head->parent);
	if (parent && parent != atomic_load(&snapshot->store))
		return META_NOT_ATTACHED;
	uint64_t overlap_bytes = parent ? atomic_load(&args.head->overlap_bytes) : 0;
	int rc = look(&args, offset, overlap_bytes);
	if (rc != 0)
		return rc < 0 ? base_error_set_errno(err, rc, "can't read the map") : rc;
	if (parent && args.end_bytes <= overlap_bytes)
		return 0; /* it shows already */
	if (atomic_load(&disk->changed_in) > atomic_load(&pool->commit_durable))
		rc = meta_pool_commit(pool);
	if (rc < 0)
		return base_error_set_errno(err, rc, "the commit before attaching failed");
	return mw_call_wait(pool, &call);
}
