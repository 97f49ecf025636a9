/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk takes over head and snapshots of another one, which is gone then.
 *
 * It is how an incremental stream ends: the stream was received into a clone of
 * the base, the clone got the snapshot, and now the disk that has the base gets
 * both, in one transaction:
 *
 *	disk        head := that of `from`, and its size
 *	from        deleted
 *	snapshots   those of `from` are the disk's
 *	old head    has lost its disk: freed in the background (layers_release)
 *
 * In memory the two exchange their heads and `from`, with the old one, is then
 * removed like any disk.
 *
 * Nobody opens either of the two meanwhile: both are marked as removed until it
 * is done.
 *
 * Failure modes: refusals (-EBUSY with who is in the way, -EEXIST, -EINVAL,
 * -ENOENT); on failure neither LMDB nor memory has changed.
 */
#include <errno.h>

#include "meta/internal.h"
#include "meta/snapshot.h"

struct take_over_args {
	struct meta_disk *disk, *from;
	struct meta_disk_record rec;
	bool marked;
};

/* ---- judging; catalog_lock ------------------------------------------------------------------ */

static int refuse_use(struct mw_call *call, const struct meta_disk *disk)
{
	const char *name = disk->record.name;

	if (disk->removed)
		return base_error_set(call->err, -ENOENT, "disk %s is gone", name);
	if (disk->opens > 0)
		return base_error_set(call->err, -EBUSY, "disk %s is open (%u times): close it first", name,
				      disk->opens);
	if (disk->vtds > 0)
		return base_error_set(call->err, -EBUSY, "disk %s is mapped: unmap it first (`bdfs rmvdev`)", name);
	if (disk->record.kind != META_DISK_THIN)
		return base_error_set(call->err, -EINVAL, "disk %s is not thin: make it thin first", name);
	return atomic_load(&disk->trimming) ? -EAGAIN : 0;
}

static bool stands_on(const struct meta_disk *from, const struct meta_disk *disk)
{
	struct meta_store *store = atomic_load(&from->store);

	while (store && !(store->snapshot && store->snapshot->disk == disk))
		store = atomic_load(&store->parent);
	return store;
}

static int refuse_snapshots(struct mw_call *call, const struct take_over_args *args)
{
	for (struct meta_snapshot *snapshot = args->from->snapshots; snapshot; snapshot = snapshot->next) {
		if (snapshot->opens > 0)
			return base_error_set(call->err, -EBUSY, "snapshot %s of disk %s is open: close it first",
					      snapshot->record.name, args->from->record.name);
		if (snapshot_find(args->disk, snapshot->record.name))
			return base_error_set(call->err, -EEXIST, "disk %s has a snapshot named %s already",
					      args->disk->record.name, snapshot->record.name);
	}
	return 0;
}

static int mark_both(struct mw_call *call, struct take_over_args *args)
{
	pthread_mutex_lock(&call->pool->catalog_lock);
	int rc = refuse_use(call, args->disk);
	if (rc == 0)
		rc = refuse_use(call, args->from);
	if (rc == 0)
		rc = refuse_snapshots(call, args);
	if (rc == 0 && !stands_on(args->from, args->disk))
		rc = base_error_set(call->err, -EINVAL, "disk %s does not stand on a snapshot of disk %s",
				    args->from->record.name, args->disk->record.name);
	if (rc == 0)
		args->disk->removed = args->from->removed = args->marked = true;
	pthread_mutex_unlock(&call->pool->catalog_lock);
	return rc;
}

static void unmark_both(struct mw_call *call)
{
	struct take_over_args *args = call->arg;

	pthread_mutex_lock(&call->pool->catalog_lock);
	if (args->marked)
		args->disk->removed = args->from->removed = false;
	args->marked = false;
	pthread_mutex_unlock(&call->pool->catalog_lock);
}

/* ---- writing; MW ---------------------------------------------------------------------------- */

static int put_head(struct take_over_args *args, struct db_txn *txn)
{
	struct meta_store *head = atomic_load(&args->from->store);
	struct meta_layer_record *layer = layers_draft(head);

	layer->owner_disk = args->disk->number;
	args->rec = args->disk->record;
	args->rec.head_layer = head->layer_id;
	args->rec.size_bytes = atomic_load(&args->from->size_bytes);
	args->rec.modified_s = base_clock_wall_s();
	args->rec.resize_count++; /* sizes in the restart log are of before */
	int rc = catalog_put_layer(txn, head->layer_id, layer);
	return rc == 0 ? catalog_put_disk(txn, args->disk->number, &args->rec) : rc;
}

static int put_snapshots(const struct take_over_args *args, struct db_txn *txn)
{
	int rc = 0;

	for (struct meta_snapshot *it = args->from->snapshots; it && rc == 0; it = it->next) {
		struct meta_snapshot moved = *it;

		moved.record.disk = args->disk->number;
		rc = snapshot_put_record(txn, &moved);
	}
	return rc;
}

static int take_over_fn(struct mw_call *call, struct db_txn *txn)
{
	struct take_over_args *args = call->arg;
	struct db_key key = db_key_u64(args->from->number);
	int rc = mark_both(call, args);

	if (rc < 0)
		return rc;
	layers_release_begin(call->pool);
	rc = put_head(args, txn);
	if (rc == 0)
		rc = put_snapshots(args, txn);
	if (rc == 0)
		rc = layers_release(call->pool, txn, atomic_load(&args->disk->store));
	if (rc == 0)
		rc = db_del(txn, DB_DISK, &key);
	if (rc == 0)
		return 0;
	unmark_both(call);
	return base_error_set_errno(call->err, rc == DB_NOT_FOUND ? -EBADMSG : rc, "disk %s",
				    args->disk->record.name);
}

/* ---- in memory; MW, catalog_lock ------------------------------------------------------------ */

static void exchange_heads(struct meta_disk *disk, struct meta_disk *from)
{
	struct meta_store *old = atomic_load(&disk->store), *head = atomic_load(&from->store);

	head->head_of = disk;
	head->layer.owner_disk = disk->number;
	old->head_of = from;
	atomic_store(&disk->store, head);
	atomic_store(&from->store, old);
	atomic_store(&disk->changed_in, MAX(atomic_load(&disk->changed_in), atomic_load(&from->changed_in)));
}

static void take_over_applied(struct mw_call *call)
{
	struct take_over_args *args = call->arg;
	struct meta_disk *disk = args->disk, *from = args->from;

	disk_window_return(disk); /* they count as those of the heads that they have now */
	disk_window_return(from);
	while (from->snapshots)
		snapshot_move(from->snapshots, disk);
	exchange_heads(disk, from);
	changed_note(call->pool, disk->number, META_CHANGED_DATA, call->record->commit);
	changed_note(call->pool, from->number, META_CHANGED_GONE, call->record->commit);
	disk->record = args->rec;
	atomic_store(&disk->size_bytes, args->rec.size_bytes);
	disk_forget_size(disk);
	disk_forget_size(from);
	(void)disk_release_layers(from, NULL);
	space_claim_drop(&call->pool->space, &atomic_load(&from->store)->claim);
	catalog_unlink(from);
	disk->removed = false;
}

int meta_disk_take_over(struct meta_disk *disk, struct meta_disk *from, struct base_error *err)
{
	struct take_over_args args = { .disk = disk, .from = from };
	struct mw_call call = {
		.fn = take_over_fn, .applied = take_over_applied, .undone = unmark_both, .arg = &args, .err = err
	};
	int rc = disk == from ? -EINVAL : layers_load_index(disk->pool, &disk->store, err);

	if (rc < 0)
		return rc == -EINVAL ? base_error_set(err, rc, "a disk can't take itself over") : rc;
	while ((rc = mw_call_wait(disk->pool, &call)) == -EAGAIN && !disk->pool->no_threads) {
		rc = pool_wait_trimmed(disk, err);
		if (rc == 0)
			rc = pool_wait_trimmed(from, err);
		if (rc < 0)
			return rc;
	}
	if (rc == -EAGAIN)
		return base_error_set(err, rc, "disk %s was just made shorter: try again", disk->record.name);
	return rc;
}
