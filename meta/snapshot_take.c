/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking snapshots: new heads for a group of disks, at one moment.
 *
 * The caller (iocore) holds every stripe of the disks, so no write is in flight.
 * On MW, in one go: each disk's present head gets a child, a new layer with an
 * empty store, that becomes the disk's head; the old head gets its name. A record
 * in the restart log goes before each. Then the caller opens the gates, and the
 * next commit, which MW makes before anything else, writes layers, disks and
 * snapshots together with all map changes that were made before. So after a power
 * cut there are either the snapshots, with all that had been written, or none.
 *
 * Between switch and commit the new heads are written to already. If the daemon is
 * killed then, the log brings the new heads back (store id = layer id + 1), with
 * what was written into them; but not the names: nobody was told that there are
 * snapshots. A frozen layer without a name and with one child is folded, so
 * nothing of it stays.
 *
 * Happy path: check names, reserve log slots, make structs, switch, post
 * `switched`; commit; post `durable`.
 * Failure modes: a refusal before the switch changes nothing. A commit without
 * room (-ENOSPC) takes the names back and leaves the heads: they are folded later;
 * until a commit has succeeded catalogue calls are refused with -ENOSPC, since
 * their transactions would refer to layers that are not there.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/uuid.h"
#include "meta/internal.h"
#include "meta/snapshot.h"

static bool is_new(struct base_uuid uuid)
{
	return base_uuid_equal(uuid, (struct base_uuid){ 0 });
}

/* ---- checking -------------------------------------------------------------------------------- */

static int check_one(const struct meta_switch *change, size_t i)
{
	struct meta_disk *disk = change->specs[i].disk;
	const char *name = change->specs[i].name;
	int rc = meta_name_check(name, change->err);

	if (rc < 0)
		return rc;
	for (size_t k = 0; k < i; k++)
		if (change->specs[k].disk == disk)
			return base_error_set(change->err, -EINVAL, "disk %s is in the group twice",
					      disk->record.name);
	if (disk->removed)
		return base_error_set(change->err, -ENOENT, "disk %s is gone", disk->record.name);
	if (snapshot_find(disk, name))
		return base_error_set(change->err, -EEXIST, "disk %s has a snapshot named %s already",
				      disk->record.name, name);
	if (!is_new(change->specs[i].uuid) && snapshot_with_uuid(change->pool, change->specs[i].uuid))
		return base_error_set(change->err, -EEXIST, "the pool has a snapshot with the UUID of %s already",
				      name);
	return atomic_load(&disk->trimming) ? -EAGAIN : 0;
}

static int check_all(struct meta_switch *change)
{
	int rc = pool_failed_code(change->pool);

	if (rc < 0)
		return base_error_set(change->err, -EIO, "the pool has failed (%s)", change->pool->failed_why);
	if (change->pool->switches) /* an earlier one waits for room */
		return base_error_set(change->err, -ENOSPC, "the file system that holds the metadata (%s) is full",
				      change->pool->dir);
	pthread_mutex_lock(&change->pool->catalog_lock);
	for (size_t i = 0; i < change->count && rc == 0; i++)
		rc = check_one(change, i);
	pthread_mutex_unlock(&change->pool->catalog_lock);
	return rc;
}

/* ---- switching ------------------------------------------------------------------------------- */

/* ids: of the layer; the store has the next one. */
static struct head_switch *head_new(struct meta_disk *disk, uint64_t ids, uint64_t overlap_bytes)
{
	struct meta_layer_record rec = {
		.store_id = ids + 1, .parent = 0, .overlap_bytes = 0, .owner_disk = disk->number
	};
	struct head_switch *made = calloc(1, sizeof(*made));
	struct meta_store *fresh = made ? store_new(disk->pool, ids, &rec) : NULL;

	if (!fresh) {
		free(made);
		return NULL;
	}
	fresh->index_loaded = true; /* there is none */
	fresh->layer.overlap_bytes = overlap_bytes;
	*made = (struct head_switch){ .disk = disk, .fresh = fresh };
	return made;
}

static void heads_free(struct meta_switch *change)
{
	for (size_t i = 0; change->made && i < change->count; i++) {
		if (!change->made[i])
			continue;
		store_free(change->made[i]->fresh);
		free(change->made[i]);
	}
	free(change->made);
}

/* catalog_lock. From here on the disk's head is the new one. */
static void head_apply(struct head_switch *made)
{
	struct meta_disk *disk = made->disk;
	struct meta_pool *pool = disk->pool;
	struct meta_store *old = atomic_load(&disk->store), *fresh = made->fresh;

	made->old = old;
	disk_window_return(disk); /* it counts as the old head's */
	store_link(fresh);
	fresh->layer.parent = old->layer_id;
	store_set_parent(fresh, old, fresh->layer.overlap_bytes);
	old->layer.children++;
	old->layer.owner_disk = 0;
	space_claim_drop(&pool->space, &old->claim); /* it takes no more */
	old->head_of = NULL;
	fresh->head_of = disk;
	disk->refs++; /* the switch's */
	disk->record.head_layer = fresh->layer_id;
	atomic_store(&disk->store, fresh);
	store_put_locked(old); /* the disk's reference */
	made->next = pool->switches;
	pool->switches = made;
}

/* catalog_lock. */
static int name_apply(struct head_switch *made, const char *name, struct base_uuid uuid)
{
	struct meta_snapshot_record rec = { .disk = made->disk->number,
					    .layer = made->old->layer_id,
					    .size_bytes = atomic_load(&made->disk->size_bytes),
					    .created_s = base_clock_wall_s() };

	strcpy(rec.name, name); /* its length was checked */
	made->snapshot = snapshot_new(made->disk, is_new(uuid) ? base_uuid_new() : uuid, &rec, made->old);
	if (!made->snapshot)
		return -ENOMEM;
	made->snapshot->removed = true; /* not to be opened before it is durable: until then its name may go again */
	return 0;
}

static void log_head(struct head_switch *made)
{
	struct restart_record rec = { .kind = RESTART_HEAD,
				      .id = made->disk->number,
				      .at = made->fresh->layer_id,
				      .value = made->fresh->layer.overlap_bytes };

	unsigned token = restart_append(made->disk->pool->log, &rec);
	restart_append_end(made->disk->pool->log, token);
	disk_note_change(made->disk);
}

static int make_heads(struct meta_switch *change)
{
	struct meta_pool *pool = change->pool;

	change->made = calloc(change->count, sizeof(struct head_switch *));
	for (size_t i = 0; change->made && i < change->count; i++) {
		struct meta_disk *disk = change->specs[i].disk;
		uint64_t size = atomic_load(&disk->size_bytes), missing;
		change->made[i] = head_new(disk, pool->record.next_id + 2 * i, round_up_to(size, BLOCK_BYTES));
		if (!change->made[i])
			return base_error_set_errno(change->err, -ENOMEM, "snapshot");
		if (space_claim_set(&pool->space, &change->made[i]->fresh->claim,
				    catalog_goal_chunks(atomic_load(&disk->kind), size), &missing) < 0)
			return base_error_set(
				change->err, -ENOSPC,
				"disk %s is thick: a snapshot needs as much space again, and the pool has "
				"%" PRIu64 " MiB too little",
				disk->record.name, missing * CHUNK_BYTES / MIB);
	}
	return change->made ? 0 : base_error_set_errno(change->err, -ENOMEM, "snapshot");
}

static void switch_all(struct meta_switch *change)
{
	struct meta_pool *pool = change->pool;
	int rc = 0;

	pthread_mutex_lock(&pool->catalog_lock);
	for (size_t i = 0; i < change->count; i++) {
		log_head(change->made[i]);
		head_apply(change->made[i]);
	}
	pool->record.next_id += 2 * change->count;
	for (size_t i = 0; i < change->count && rc == 0; i++)
		rc = name_apply(change->made[i], change->specs[i].name, change->specs[i].uuid);
	change->result = rc;
	pthread_mutex_unlock(&pool->catalog_lock);
	change->next = pool->switch_waiters;
	pool->switch_waiters = change;
	atomic_store(&pool->commit_forced, true);
}

static void run_switch(struct base_msg *msg)
{
	struct meta_switch *change = container_of(msg, struct meta_switch, to_meta);
	struct meta_pool *pool = change->pool;
	int rc = check_all(change);

	if (rc == 0)
		rc = make_heads(change);
	/* No room in the log is as rare as it is short: a commit makes room. */
	if (rc == 0 && !restart_reserve(pool->log, (uint32_t)change->count)) {
		atomic_store(&pool->commit_forced, true);
		rc = -EAGAIN;
	}
	if (rc == 0)
		switch_all(change);
	else
		heads_free(change);
	wait_post(&change->switched, rc);
}

void meta_switch_submit(struct meta_pool *pool, struct meta_switch *change)
{
	change->pool = pool;
	change->made = NULL;
	change->to_meta.run = run_switch;
	base_mailbox_post(&pool->mw_box, &change->to_meta);
}

/* ---- making it durable; MW ------------------------------------------------------------------- */

int switches_write(struct meta_pool *pool, struct db_txn *txn)
{
	int rc = 0;

	for (struct head_switch *made = pool->switches; made && rc == 0; made = made->next) {
		rc = catalog_put_layer(txn, made->old->layer_id, &made->old->layer);
		if (rc == 0)
			rc = catalog_put_layer(txn, made->fresh->layer_id, &made->fresh->layer);
		if (rc == 0)
			rc = catalog_put_disk(txn, made->disk->number, &made->disk->record);
		if (rc == 0 && made->snapshot)
			rc = snapshot_put_record(txn, made->snapshot);
	}
	return rc;
}

/* catalog_lock. The heads stay, their names go. */
static void names_drop(struct meta_switch *change)
{
	for (size_t i = 0; i < change->count; i++) {
		if (change->made[i]->snapshot)
			snapshot_unlink(change->made[i]->snapshot);
		change->made[i]->snapshot = NULL;
	}
}

/* catalog_lock. */
static void names_keep(struct meta_switch *change)
{
	for (size_t i = 0; i < change->count; i++)
		change->made[i]->snapshot->removed = false;
}

static void answer(struct meta_pool *pool, int rc)
{
	while (pool->switch_waiters) {
		struct meta_switch *change = pool->switch_waiters;
		int result = rc < 0 ? rc : change->result;
		pool->switch_waiters = change->next;
		if (result < 0)
			base_error_set_errno(change->err, result, "the snapshot could not be made durable");
		pthread_mutex_lock(&pool->catalog_lock);
		if (result < 0)
			names_drop(change);
		else
			names_keep(change);
		pthread_mutex_unlock(&pool->catalog_lock);
		free(change->made);
		wait_post(&change->durable, result);
	}
}

void switches_committed(struct meta_pool *pool, int rc)
{
	answer(pool, rc);
	while (rc == 0 && pool->switches) {
		struct head_switch *made = pool->switches;
		pool->switches = made->next;
		pthread_mutex_lock(&pool->catalog_lock);
		if (!made->snapshot)
			fold_consider(made->old);
		pthread_mutex_unlock(&pool->catalog_lock);
		meta_disk_put(made->disk);
		free(made);
	}
}

/* ---- replay ----------------------------------------------------------------------------------- */

int switch_replay(struct meta_pool *pool, const struct restart_record *rec)
{
	struct meta_disk *disk = meta_disk_get_by_number(pool, rec->id);
	int rc = 1;

	/* Layer ids only grow: an older one was switched to before what is durable. */
	if (disk && rec->at > disk->record.head_layer && rec->at < UINT64_MAX - 1 && rec->value % BLOCK_BYTES == 0 &&
	    !catalog_store_by_id(pool, rec->at + 1)) {
		struct head_switch *made = head_new(disk, rec->at, rec->value);
		rc = made ? 0 : -ENOMEM;
		if (made) {
			pthread_mutex_lock(&pool->catalog_lock);
			head_apply(made);
			pool->record.next_id = MAX(pool->record.next_id, rec->at + 2);
			pthread_mutex_unlock(&pool->catalog_lock);
		}
	}
	if (disk)
		meta_disk_put(disk);
	return rc;
}

/* ---- the tail --------------------------------------------------------------------------------- */

static int zero_in_block(struct meta_pool *pool, meta_entry entry, uint64_t at)
{
	static _Alignas(BLOCK_BYTES) uint8_t buf[BLOCK_BYTES]; /* the epoch of CTL is one thread's at a time */
	uint64_t byte;
	unsigned pv;

	if (!(meta_entry_valid(entry) >> (at % CHUNK_BYTES / BLOCK_BYTES) & 1))
		return 0;
	if (!meta_io_locate(pool, meta_entry_chunk(entry), &pv, &byte))
		return -EBADMSG;
	byte += round_down_to(at % CHUNK_BYTES, BLOCK_BYTES);
	int rc = pool->pv_ops->read(pool->pv_ctx, &pool->pvs[pv].handle, buf, BLOCK_BYTES, byte);
	if (rc < 0)
		return rc;
	memset(buf + at % BLOCK_BYTES, 0, BLOCK_BYTES - at % BLOCK_BYTES);
	rc = pool->pv_ops->write(pool->pv_ctx, &pool->pvs[pv].handle, buf, BLOCK_BYTES, byte);
	meta_io_note_write(pool, pv);
	return rc;
}

int meta_disk_zero_tail(struct meta_disk *disk)
{
	uint64_t end = atomic_load(&disk->size_bytes);
	struct meta_store *store = atomic_load(&disk->store);
	struct db_txn *slot = NULL;
	struct meta_leaf *leaf;

	if (end % BLOCK_BYTES == 0)
		return 0;
	uint64_t epoch = pool_epoch_enter(disk->pool);
	int rc = store_load_leaf_now(store, end / LEAF_BYTES, &slot, &leaf);
	db_read_free(slot);
	if (rc == 0)
		rc = zero_in_block(disk->pool, meta_leaf_entry(leaf, (unsigned)(end / CHUNK_BYTES % LEAF_CHUNKS)),
				   end);
	pool_epoch_leave(disk->pool, epoch);
	return rc == META_HOLE ? 0 : rc;
}
