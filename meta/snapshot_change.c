/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of what snapshots there are, but for taking them: clone, rename, remove,
 * rollback, and what a removed disk takes along.
 *
 * Each is one mw_call: fn checks and writes records, applied changes memory once
 * they are durable. Both go through the same steps in the same order, so that what
 * a step finds in memory is what it found as a draft (layers_release).
 *
 *   clone      a disk whose head has the snapshot's layer as parent
 *   remove     the record goes; its layer has lost its name
 *   rollback   the old head has lost its disk; a new one stands on the snapshot
 *
 * Failure modes: refusals (-EBUSY with who is in the way, -EEXIST, -ENOENT); on
 * failure neither LMDB nor memory has changed.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/internal.h"
#include "meta/snapshot.h"

/* ---- releasing -------------------------------------------------------------------------------- */

static int delete_record(struct db_txn *txn, const struct meta_snapshot *snapshot)
{
	struct db_key key = db_key_bytes(snapshot->uuid.b, UUID_BYTES);
	int rc = db_del(txn, DB_SNAPSHOT, &key);

	return rc == DB_NOT_FOUND ? -EBADMSG : rc;
}

/* catalog_lock. */
static void release_snapshot(struct meta_snapshot *snapshot)
{
	struct meta_store *store = atomic_load(&snapshot->store);

	store->refs++;
	snapshot_unlink(snapshot);
	(void)layers_release(store->pool, NULL, store);
	store_put_locked(store);
}

int disk_release_layers(struct meta_disk *disk, struct db_txn *txn)
{
	struct meta_store *head = atomic_load(&disk->store);

	if (!txn) {
		head->head_of = NULL;
		(void)layers_release(disk->pool, NULL, head);
		while (disk->snapshots)
			release_snapshot(disk->snapshots);
		return 0;
	}
	layers_release_begin(disk->pool);
	int rc = layers_release(disk->pool, txn, head);
	for (struct meta_snapshot *snapshot = disk->snapshots; snapshot && rc == 0; snapshot = snapshot->next) {
		rc = delete_record(txn, snapshot);
		if (rc == 0)
			rc = layers_release(disk->pool, txn, atomic_load(&snapshot->store));
	}
	return rc;
}

/* ---- clone ------------------------------------------------------------------------------------ */

int meta_snapshot_clone(struct meta_snapshot *snapshot, const struct meta_disk_spec *spec, uint64_t *ret_number,
			struct base_error *err)
{
	struct meta_disk_spec mine = *spec;

	if (mine.size_bytes != 0 && mine.size_bytes != snapshot->record.size_bytes)
		return base_error_set(err, -EINVAL,
				      "%s: a clone has the size of its snapshot; resize it when it is there",
				      mine.name);
	mine.size_bytes = snapshot->record.size_bytes;
	return catalog_create(snapshot->pool, &mine, 1, ret_number, snapshot, err);
}

/* ---- rename ----------------------------------------------------------------------------------- */

struct rename_args {
	struct meta_snapshot *snapshot;
	const char *new_name;
};

static int rename_fn(struct mw_call *call, struct db_txn *txn)
{
	struct rename_args *args = call->arg;
	struct meta_snapshot renamed = *args->snapshot;

	if (renamed.removed)
		return base_error_set(call->err, -ENOENT, "snapshot %s is gone", renamed.record.name);
	if (snapshot_find(renamed.disk, args->new_name))
		return base_error_set(call->err, -EEXIST, "disk %s has a snapshot named %s already",
				      renamed.disk->record.name, args->new_name);
	strcpy(renamed.record.name, args->new_name); /* its length was checked */
	return snapshot_put_record(txn, &renamed);
}

static void rename_applied(struct mw_call *call)
{
	struct rename_args *args = call->arg;

	snapshot_set_name(args->snapshot, args->new_name);
}

int meta_snapshot_rename(struct meta_snapshot *snapshot, const char *new_name, struct base_error *err)
{
	struct rename_args args = { snapshot, new_name };
	struct mw_call call = { .fn = rename_fn, .applied = rename_applied, .arg = &args, .err = err };
	int rc = meta_name_check(new_name, err);

	return rc < 0 ? rc : mw_call_wait(snapshot->pool, &call);
}

/* ---- remove ----------------------------------------------------------------------------------- */

static int mark_removed(struct mw_call *call, struct meta_snapshot *snapshot)
{
	int rc = 0;

	pthread_mutex_lock(&call->pool->catalog_lock);
	if (snapshot->removed)
		rc = base_error_set(call->err, -ENOENT, "snapshot %s is gone already", snapshot->record.name);
	else
		rc = targets_refuse_mapped(snapshot, call->err);
	if (rc == 0 && snapshot->opens > 0)
		rc = base_error_set(
			call->err, -EBUSY,
			"snapshot %s of disk %s is open (%u times, as a file of the mount, by a device on "
			"it or by a copy of it): close it first",
			snapshot->record.name, snapshot->disk->record.name, snapshot->opens);
	if (rc == 0)
		snapshot->removed = true;
	pthread_mutex_unlock(&call->pool->catalog_lock);
	return rc;
}

struct remove_args {
	struct meta_snapshot *snapshot;
	bool marked;
};

static void unmark_removed(struct mw_call *call)
{
	struct remove_args *args = call->arg;

	pthread_mutex_lock(&call->pool->catalog_lock);
	if (args->marked)
		args->snapshot->removed = false;
	args->marked = false;
	pthread_mutex_unlock(&call->pool->catalog_lock);
}

static int remove_fn(struct mw_call *call, struct db_txn *txn)
{
	struct remove_args *args = call->arg;
	int rc = mark_removed(call, args->snapshot);

	if (rc < 0)
		return rc;
	args->marked = true;
	layers_release_begin(call->pool);
	rc = delete_record(txn, args->snapshot);
	if (rc == 0)
		rc = layers_release(call->pool, txn, atomic_load(&args->snapshot->store));
	if (rc == 0)
		return 0;
	unmark_removed(call);
	return base_error_set_errno(call->err, rc, "snapshot %s", args->snapshot->record.name);
}

static void remove_applied(struct mw_call *call)
{
	struct remove_args *args = call->arg;

	release_snapshot(args->snapshot);
}

/* On the reserve, if there is no other room: what is removed makes some. */
int meta_snapshot_remove(struct meta_snapshot *snapshot, struct base_error *err)
{
	struct remove_args args = { snapshot, false };
	struct mw_call call = { .fn = remove_fn,
				.applied = remove_applied,
				.undone = unmark_removed,
				.may_use_reserve = true,
				.arg = &args,
				.err = err };

	return mw_call_wait(snapshot->pool, &call);
}

/* ---- rollback --------------------------------------------------------------------------------- */

struct rollback_args {
	struct meta_disk *disk;
	struct meta_snapshot *snapshot;
	struct meta_store *fresh;
	struct meta_disk_record rec;
	bool marked;
};

/* Nobody opens the disk while it is marked; the open that comes meanwhile is told that it is being removed, which
 * is true of what it would have seen. */
static int mark_disk(struct mw_call *call, struct rollback_args *args)
{
	struct meta_disk *disk = args->disk;
	int rc = 0;

	pthread_mutex_lock(&call->pool->catalog_lock);
	if (disk->removed)
		rc = base_error_set(call->err, -ENOENT, "disk %s is gone", disk->record.name);
	else if (disk->vtds > 0)
		rc = base_error_set(
			call->err, -EBUSY,
			"disk %s is mapped: unmap it first (`bdfs rmvdev`), it can't be rolled back under "
			"its users",
			disk->record.name);
	else if (disk->opens > 0)
		rc = base_error_set(
			call->err, -EBUSY,
			"disk %s is open (%u times, as a file of the mount or by a device on it): close it "
			"first, it can't be rolled back under its users",
			disk->record.name, disk->opens);
	else if (args->snapshot->removed)
		rc = base_error_set(call->err, -ENOENT, "snapshot %s is gone", args->snapshot->record.name);
	else if (atomic_load(&disk->trimming))
		rc = -EAGAIN;
	else
		rc = targets_refuse_mapped(args->snapshot, call->err);
	if (rc == 0)
		disk->removed = args->marked = true;
	pthread_mutex_unlock(&call->pool->catalog_lock);
	return rc;
}

static int new_head(struct mw_call *call, struct db_txn *txn, struct rollback_args *args)
{
	struct meta_store *parent = atomic_load(&args->snapshot->store);
	uint64_t layer_id = call->record->next_id++;
	struct meta_layer_record layer = { .store_id = call->record->next_id++,
					   .parent = parent->layer_id,
					   .overlap_bytes =
						   round_up_to(args->snapshot->record.size_bytes, BLOCK_BYTES),
					   .owner_disk = args->disk->number };

	args->fresh = store_new(call->pool, layer_id, &layer);
	if (!args->fresh)
		return -ENOMEM;
	args->fresh->index_loaded = true; /* there is none */
	uint64_t goal = catalog_goal_chunks(atomic_load(&args->disk->kind), args->snapshot->record.size_bytes);
	int claimed = space_claim_set(&call->pool->space, &args->fresh->claim, goal, NULL);
	if (claimed < 0)
		return claimed;
	layers_draft(parent)->children++;
	int rc = catalog_put_layer(txn, layer_id, &layer);
	if (rc == 0)
		rc = catalog_put_layer(txn, parent->layer_id, layers_draft(parent));
	args->rec = args->disk->record;
	args->rec.head_layer = layer_id;
	args->rec.size_bytes = args->snapshot->record.size_bytes;
	args->rec.modified_s = base_clock_wall_s();
	args->rec.resize_count++; /* sizes in the restart log are of before */
	return rc == 0 ? catalog_put_disk(txn, args->disk->number, &args->rec) : rc;
}

static int rollback_fn(struct mw_call *call, struct db_txn *txn)
{
	struct rollback_args *args = call->arg;
	int rc = mark_disk(call, args);

	if (rc < 0)
		return rc;
	layers_release_begin(call->pool);
	rc = new_head(call, txn, args);
	if (rc == 0)
		rc = layers_release(call->pool, txn, atomic_load(&args->disk->store));
	return rc < 0 ? base_error_set_errno(call->err, rc, "disk %s", args->disk->record.name) : 0;
}

static void rollback_applied(struct mw_call *call)
{
	struct rollback_args *args = call->arg;
	struct meta_disk *disk = args->disk;
	struct meta_store *old = atomic_load(&disk->store), *parent = atomic_load(&args->snapshot->store);

	disk_window_return(disk); /* it counts as the old head's */
	store_link(args->fresh);
	args->fresh->head_of = disk;
	parent->layer.children++;
	store_set_parent(args->fresh, parent, args->fresh->layer.overlap_bytes);
	disk->record = args->rec;
	atomic_store(&disk->store, args->fresh);
	atomic_store(&disk->size_bytes, args->rec.size_bytes);
	disk_forget_size(disk);
	changed_note(call->pool, disk->number, META_CHANGED_DATA, call->record->commit);
	old->head_of = NULL;
	space_claim_drop(&call->pool->space, &old->claim);
	(void)layers_release(call->pool, NULL, old);
	store_put_locked(old); /* the disk's reference */
	disk->removed = false;
}

int meta_disk_rollback(struct meta_disk *disk, struct meta_snapshot *snapshot, struct base_error *err)
{
	struct rollback_args args = { .disk = disk, .snapshot = snapshot };
	struct mw_call call = { .fn = rollback_fn, .applied = rollback_applied, .arg = &args, .err = err };
	int rc;

	if (snapshot->disk != disk)
		return base_error_set(err, -EINVAL,
				      "snapshot %s is of disk %s, not of %s: make a clone of it instead",
				      snapshot->record.name, snapshot->disk->record.name, disk->record.name);
	while ((rc = mw_call_wait(disk->pool, &call)) == -EAGAIN && !disk->pool->no_threads) {
		rc = pool_wait_trimmed(disk, err);
		if (rc < 0)
			return rc;
	}
	if (rc == 0)
		return 0;
	if (rc == -EAGAIN)
		rc = base_error_set(err, rc, "disk %s was just made shorter: try again", disk->record.name);
	if (args.fresh)
		store_free(args.fresh);
	if (args.marked) {
		pthread_mutex_lock(&disk->pool->catalog_lock);
		disk->removed = false;
		pthread_mutex_unlock(&disk->pool->catalog_lock);
	}
	return rc;
}
