/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue of snapshots: which there are, in memory and in LMDB.
 *
 * All snapshots are in memory from open on, each disk's in a list by name, under
 * catalog_lock. A snapshot names a layer: store->snapshot points back to it. MW is
 * the only one that changes the lists, after the transaction is durable; taking
 * one is the exception (snapshot_take.c).
 *
 * A snapshot holds a reference of its layer and one of its disk's struct. Opens
 * are what its removal is refused by. References keep the struct alive after its
 * removal; the last one hands it to BG, as with disks.
 *
 * Failure modes: a damaged record, or one whose layer or disk is not there, keeps
 * the pool from being opened: run `bdfs check`.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "meta/internal.h"
#include "meta/snapshot.h"

/* ---- records, structs ----------------------------------------------------------------------- */

int snapshot_put_record(struct db_txn *txn, const struct meta_snapshot *snapshot)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct db_key key = db_key_bytes(snapshot->uuid.b, UUID_BYTES);

	return db_put(txn, DB_SNAPSHOT, &key, buf, meta_snapshot_encode(&snapshot->record, buf));
}

static void insert(struct meta_snapshot *snapshot)
{
	struct meta_snapshot **at = &snapshot->disk->snapshots;

	while (*at && strcmp((*at)->record.name, snapshot->record.name) < 0)
		at = &(*at)->next;
	snapshot->next = *at;
	*at = snapshot;
}

static void take_out(struct meta_snapshot *snapshot)
{
	struct meta_snapshot **at = &snapshot->disk->snapshots;

	while (*at != snapshot)
		at = &(*at)->next;
	*at = snapshot->next;
}

struct meta_snapshot *snapshot_new(struct meta_disk *disk, struct base_uuid uuid,
				   const struct meta_snapshot_record *rec, struct meta_store *store)
{
	struct meta_snapshot *snapshot = calloc(1, sizeof(*snapshot));

	if (!snapshot)
		return NULL;
	snapshot->pool = disk->pool;
	snapshot->disk = disk;
	snapshot->uuid = uuid;
	snapshot->record = *rec;
	snapshot->refs = 1; /* the list's */
	atomic_init(&snapshot->store, store);
	disk->refs++;
	disk->snapshot_count++;
	store->refs++;
	store->snapshot = snapshot;
	insert(snapshot);
	return snapshot;
}

static void run_free(struct base_msg *msg)
{
	struct meta_snapshot *snapshot = container_of(msg, struct meta_snapshot, free_msg);

	meta_disk_put(snapshot->disk);
	free(snapshot);
}

static void put_locked(struct meta_snapshot *snapshot)
{
	assert(snapshot->refs > 0);
	if (--snapshot->refs > 0)
		return;
	snapshot->free_msg.run = run_free;
	base_mailbox_post(&snapshot->pool->bg_box, &snapshot->free_msg);
}

void snapshot_unlink(struct meta_snapshot *snapshot)
{
	struct meta_store *store = atomic_load(&snapshot->store);

	snapshot->removed = true;
	take_out(snapshot);
	snapshot->disk->snapshot_count--;
	store->snapshot = NULL;
	store_put_locked(store);
	put_locked(snapshot);
}

void snapshot_move(struct meta_snapshot *snapshot, struct meta_disk *to)
{
	struct meta_disk *from = snapshot->disk;

	take_out(snapshot);
	from->snapshot_count--;
	from->refs--; /* the caller has another one */
	to->refs++;
	to->snapshot_count++;
	snapshot->disk = to;
	snapshot->record.disk = to->number;
	insert(snapshot);
}

void snapshot_set_name(struct meta_snapshot *snapshot, const char *name)
{
	take_out(snapshot);
	strcpy(snapshot->record.name, name); /* meta_name_check has bounded it */
	insert(snapshot);
}

void snapshots_free(struct meta_disk *disk)
{
	while (disk->snapshots) {
		struct meta_snapshot *snapshot = disk->snapshots;
		disk->snapshots = snapshot->next;
		free(snapshot);
	}
}

/* ---- loading -------------------------------------------------------------------------------- */

static struct meta_store *layer_by_id(struct meta_pool *pool, uint64_t layer_id)
{
	struct meta_store *store = pool->stores;

	while (store && store->layer_id != layer_id)
		store = store->next;
	return store;
}

int snapshots_load_one(struct meta_pool *pool, const struct db_key *key, const struct db_value *value,
		       struct base_error *err)
{
	struct meta_snapshot_record rec;
	struct base_uuid uuid;

	if (key->bytes != UUID_BYTES || meta_snapshot_decode(value->b, value->bytes, &rec) < 0)
		return base_error_set(err, -EBADMSG, "the record of a snapshot is damaged; run `bdfs check`");
	memcpy(uuid.b, key->b, UUID_BYTES);
	struct meta_store *store = layer_by_id(pool, rec.layer);
	struct meta_disk *disk = meta_disk_get_by_number(pool, rec.disk);
	int rc = 0;
	if (!store || !disk || store->snapshot)
		rc = base_error_set(err, -EBADMSG, "snapshot %s has no %s of its own; run `bdfs check`", rec.name,
				    disk ? "layer" : "disk");
	else if (!snapshot_new(disk, uuid, &rec, store))
		rc = base_error_set_errno(err, -ENOMEM, "snapshots");
	if (disk)
		meta_disk_put(disk);
	return rc;
}

/* ---- finding, listing ------------------------------------------------------------------------ */

struct meta_snapshot *snapshot_find(struct meta_disk *disk, const char *name)
{
	struct meta_snapshot *snapshot = disk->snapshots;

	while (snapshot && strcmp(snapshot->record.name, name) != 0)
		snapshot = snapshot->next;
	return snapshot;
}

static struct meta_snapshot *referenced(struct meta_snapshot *snapshot)
{
	if (snapshot)
		snapshot->refs++;
	return snapshot;
}

struct meta_snapshot *meta_snapshot_get_by_name(struct meta_disk *disk, const char *name)
{
	pthread_mutex_lock(&disk->pool->catalog_lock);
	struct meta_snapshot *snapshot = referenced(snapshot_find(disk, name));
	pthread_mutex_unlock(&disk->pool->catalog_lock);
	return snapshot;
}

struct meta_snapshot *snapshot_with_uuid(struct meta_pool *pool, struct base_uuid uuid)
{
	for (struct meta_store *store = pool->stores; store; store = store->next)
		if (store->snapshot && base_uuid_equal(store->snapshot->uuid, uuid))
			return store->snapshot;
	return NULL;
}

struct meta_snapshot *meta_snapshot_get_by_uuid(struct meta_pool *pool, struct base_uuid uuid)
{
	pthread_mutex_lock(&pool->catalog_lock);
	struct meta_snapshot *found = referenced(snapshot_with_uuid(pool, uuid));
	pthread_mutex_unlock(&pool->catalog_lock);
	return found;
}

struct meta_snapshot *meta_snapshot_get_by_layer(struct meta_pool *pool, uint64_t layer)
{
	pthread_mutex_lock(&pool->catalog_lock);
	struct meta_store *store = layer_by_id(pool, layer);
	struct meta_snapshot *snapshot = referenced(store ? store->snapshot : NULL);
	pthread_mutex_unlock(&pool->catalog_lock);
	return snapshot;
}

void meta_snapshot_put(struct meta_snapshot *snapshot)
{
	struct meta_pool *pool = snapshot->pool;

	pthread_mutex_lock(&pool->catalog_lock);
	put_locked(snapshot);
	pthread_mutex_unlock(&pool->catalog_lock);
}

struct meta_snapshot *meta_snapshot_next(struct meta_disk *disk, const char *after)
{
	pthread_mutex_lock(&disk->pool->catalog_lock);
	struct meta_snapshot *snapshot = disk->snapshots;
	while (snapshot && strcmp(snapshot->record.name, after) <= 0)
		snapshot = snapshot->next;
	referenced(snapshot);
	pthread_mutex_unlock(&disk->pool->catalog_lock);
	return snapshot;
}

unsigned meta_snapshot_count(struct meta_disk *disk)
{
	pthread_mutex_lock(&disk->pool->catalog_lock);
	unsigned count = disk->snapshot_count;
	pthread_mutex_unlock(&disk->pool->catalog_lock);
	return count;
}

void meta_snapshot_info(struct meta_snapshot *snapshot, struct meta_snapshot_info *ret)
{
	const struct meta_snapshot_record *rec = &snapshot->record;

	pthread_mutex_lock(&snapshot->pool->catalog_lock);
	struct meta_store *store = atomic_load(&snapshot->store);
	*ret = (struct meta_snapshot_info){ .uuid = snapshot->uuid,
					    .disk = rec->disk,
					    .layer = rec->layer,
					    .size_bytes = rec->size_bytes,
					    .created_s = rec->created_s,
					    .children = snapshot->removed ? 0 : store->layer.children,
					    .opens = snapshot->opens };
	strcpy(ret->name, rec->name);
	strcpy(ret->disk_name, snapshot->disk->record.name);
	pthread_mutex_unlock(&snapshot->pool->catalog_lock);
}

uint64_t meta_snapshot_owned_bytes(struct meta_snapshot *snapshot)
{
	pthread_mutex_lock(&snapshot->pool->catalog_lock);
	struct meta_store *store = snapshot->removed ? NULL : atomic_load(&snapshot->store);
	uint64_t chunks = store ? atomic_load(&store->chunks_owned) : 0;
	pthread_mutex_unlock(&snapshot->pool->catalog_lock);
	return chunks * CHUNK_BYTES;
}

/* ---- opens ------------------------------------------------------------------------------------ */

int meta_snapshot_open(struct meta_snapshot *snapshot, struct base_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&snapshot->pool->catalog_lock);
	if (snapshot->removed)
		rc = base_error_set(err, -ENOENT, "snapshot %s of disk %s is gone", snapshot->record.name,
				    snapshot->disk->record.name);
	else
		snapshot->opens++;
	pthread_mutex_unlock(&snapshot->pool->catalog_lock);
	if (rc == 0) {
		rc = layers_load_index(snapshot->pool, &snapshot->store, err);
		if (rc < 0)
			meta_snapshot_close(snapshot);
	}
	return rc;
}

void meta_snapshot_close(struct meta_snapshot *snapshot)
{
	struct meta_pool *pool = snapshot->pool;

	pthread_mutex_lock(&pool->catalog_lock);
	assert(snapshot->opens > 0);
	if (--snapshot->opens == 0)
		pthread_cond_broadcast(&pool->closed_cond);
	pthread_mutex_unlock(&pool->catalog_lock);
}

int meta_snapshot_wait_closed(struct meta_snapshot *snapshot, uint64_t timeout_ns)
{
	struct meta_pool *pool = snapshot->pool;
	uint64_t until = base_clock_ns() + timeout_ns;
	struct timespec deadline = { .tv_sec = (time_t)(until / 1000000000), .tv_nsec = (long)(until % 1000000000) };
	int rc = 0;

	pthread_mutex_lock(&pool->catalog_lock);
	while (snapshot->opens > 0 && rc == 0)
		rc = pthread_cond_timedwait(&pool->closed_cond, &pool->catalog_lock, &deadline);
	rc = snapshot->opens > 0 ? -EBUSY : 0;
	pthread_mutex_unlock(&pool->catalog_lock);
	return rc;
}

struct meta_store *meta_io_snapshot_store(struct meta_snapshot *snapshot)
{
	return atomic_load_explicit(&snapshot->store, memory_order_acquire);
}
