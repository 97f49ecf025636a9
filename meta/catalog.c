/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue: which disks there are, in memory and in LMDB.
 *
 * All disks are in memory from open on (some 600 bytes each), hashed by name and
 * by number. MW is the only one that changes them: a change is a mw_call whose
 * fn checks and writes records inside a transaction, and whose applied function
 * changes memory, under catalog_lock, once the transaction is durable. So a crash
 * finds each change whole or not at all, and a reader never sees one that could
 * still be taken back.
 *
 * Opens: what removal is refused by. A disk that is about to be removed is marked
 * under catalog_lock first, so that an open and a removal can't both succeed.
 *
 * References keep a struct alive after its removal; the last one hands it to BG.
 *
 * Failure modes: refusals (-EEXIST, -EBUSY, -ENOENT, -EINVAL), each with who or
 * what stands against it; -ENOSPC from the metadata's file system, with nothing
 * changed.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/log.h"
#include "base/uuid.h"
#include "meta/internal.h"

/* ---- records ------------------------------------------------------------------------------ */

int catalog_put_pool(struct meta_pool *pool, struct db_txn *txn, const struct meta_pool_record *rec)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct db_key key = db_key_bytes("pool", 4);

	return db_put(txn, DB_POOL, &key, buf, meta_pool_encode(rec, buf));
}

int catalog_put_layer(struct db_txn *txn, uint64_t id, const struct meta_layer_record *rec)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct db_key key = db_key_u64(id);

	return db_put(txn, DB_LAYER, &key, buf, meta_layer_encode(rec, buf));
}

int catalog_put_disk(struct db_txn *txn, uint64_t number, const struct meta_disk_record *rec)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct db_key key = db_key_u64(number);

	return db_put(txn, DB_DISK, &key, buf, meta_disk_encode(rec, buf));
}

/* ---- hash tables; catalog_lock ------------------------------------------------------------ */

static size_t name_slot(const char *name)
{
	return base_checksum(name, strlen(name)) % DISK_HASH;
}

static struct meta_disk *find_name(struct meta_pool *pool, const char *name)
{
	struct meta_disk *disk = pool->by_name[name_slot(name)];

	while (disk && strcmp(disk->record.name, name) != 0)
		disk = disk->name_next;
	return disk;
}

static struct meta_disk *find_number(struct meta_pool *pool, uint64_t number)
{
	struct meta_disk *disk = pool->by_number[number % DISK_HASH];

	while (disk && disk->number != number)
		disk = disk->number_next;
	return disk;
}

/*
 * The names in order, made anew when they are asked for and not valid (sort_names). One that comes or goes is put in
 * or taken out, since who removes thousands asks for the next one after each.
 */

/* The first whose name is > name, or, with `same`, >= name. */
static size_t sorted_after(const struct meta_pool *pool, const char *name, bool same)
{
	size_t low = 0, high = pool->sorted_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(pool->sorted[middle]->record.name, name);
		if (order > 0 || (same && order == 0))
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static void sorted_insert(struct meta_disk *disk)
{
	struct meta_pool *pool = disk->pool;

	if (!pool->sorted_valid || pool->sorted_count == pool->sorted_room) {
		pool->sorted_valid = false;
		return;
	}
	size_t at = sorted_after(pool, disk->record.name, false);
	memmove(pool->sorted + at + 1, pool->sorted + at, (pool->sorted_count - at) * sizeof(*pool->sorted));
	pool->sorted[at] = disk;
	pool->sorted_count++;
}

static void sorted_remove(struct meta_disk *disk)
{
	struct meta_pool *pool = disk->pool;
	size_t at = pool->sorted_valid ? sorted_after(pool, disk->record.name, true) : 0;

	if (!pool->sorted_valid || at == pool->sorted_count || pool->sorted[at] != disk) {
		pool->sorted_valid = false;
		return;
	}
	pool->sorted_count--;
	memmove(pool->sorted + at, pool->sorted + at + 1, (pool->sorted_count - at) * sizeof(*pool->sorted));
}

static void insert_name(struct meta_disk *disk)
{
	struct meta_disk **slot = &disk->pool->by_name[name_slot(disk->record.name)];

	disk->name_next = *slot;
	*slot = disk;
	sorted_insert(disk);
}

static void unlink_name(struct meta_disk *disk)
{
	struct meta_disk **at = &disk->pool->by_name[name_slot(disk->record.name)];

	while (*at != disk)
		at = &(*at)->name_next;
	*at = disk->name_next;
	sorted_remove(disk);
}

static void insert(struct meta_disk *disk)
{
	struct meta_disk **slot = &disk->pool->by_number[disk->number % DISK_HASH];

	disk->number_next = *slot;
	*slot = disk;
	insert_name(disk);
	disk->pool->disk_count++;
}

static void unlink_disk(struct meta_disk *disk)
{
	struct meta_disk **at = &disk->pool->by_number[disk->number % DISK_HASH];

	while (*at != disk)
		at = &(*at)->number_next;
	*at = disk->number_next;
	unlink_name(disk);
	disk->pool->disk_count--;
}

struct meta_disk *catalog_disk_by_number(struct meta_pool *pool, uint64_t number)
{
	return find_number(pool, number);
}

struct meta_store *catalog_store_by_id(struct meta_pool *pool, uint64_t store_id)
{
	struct meta_store *store = pool->stores;

	while (store && store->id != store_id)
		store = store->next;
	return store;
}

/* ---- making and freeing structs ----------------------------------------------------------- */

struct meta_disk *catalog_disk_new(struct meta_pool *pool, uint64_t number, const struct meta_disk_record *rec,
				   struct meta_store *store)
{
	struct meta_disk *disk = calloc(1, sizeof(*disk));

	if (!disk)
		return NULL;
	disk->pool = pool;
	disk->number = number;
	disk->record = *rec;
	atomic_init(&disk->store, store);
	atomic_init(&disk->size_bytes, rec->size_bytes);
	atomic_init(&disk->kind, rec->kind);
	atomic_init(&disk->window_goal, 1);
	pthread_mutex_init(&disk->size_lock, NULL);
	return disk;
}

void catalog_insert(struct meta_disk *disk)
{
	struct meta_store *store = atomic_load(&disk->store);

	store_link(store);
	store->head_of = disk;
	insert(disk);
}

void catalog_unlink(struct meta_disk *disk)
{
	unlink_disk(disk);
}

bool catalog_is_linked(struct meta_disk *disk)
{
	return find_number(disk->pool, disk->number) == disk;
}

void catalog_rename(struct meta_disk *disk, const char *new_name)
{
	unlink_name(disk);
	strcpy(disk->record.name, new_name); /* meta_name_check has bounded it */
	insert_name(disk);
}

void catalog_disk_drop(struct meta_disk *disk)
{
	pthread_mutex_destroy(&disk->size_lock);
	free(disk);
}

void catalog_disk_unmake(struct meta_disk *disk)
{
	store_free(atomic_load(&disk->store));
	catalog_disk_drop(disk);
}

void disk_free(struct meta_disk *disk)
{
	store_put(atomic_load(&disk->store));
	pthread_mutex_destroy(&disk->size_lock);
	free(disk);
}

static void run_free(struct base_msg *msg)
{
	disk_free(container_of(msg, struct meta_disk, free_msg));
}

void meta_disk_put(struct meta_disk *disk)
{
	struct meta_pool *pool = disk->pool;

	pthread_mutex_lock(&pool->catalog_lock);
	assert(disk->refs > 0);
	bool last = --disk->refs == 0 && disk->removed && !catalog_is_linked(disk);
	pthread_mutex_unlock(&pool->catalog_lock);
	if (last) {
		disk->free_msg.run = run_free;
		base_mailbox_post(&pool->bg_box, &disk->free_msg);
	}
}

/* ---- loading ------------------------------------------------------------------------------ */

static int load_layer(struct meta_pool *pool, uint64_t id, const struct db_value *value, struct base_error *err)
{
	struct meta_layer_record rec;

	if (meta_layer_decode(value->b, value->bytes, &rec) < 0)
		return base_error_set(err, -EBADMSG, "the record of layer %" PRIu64 " is damaged; run `bdfs check`",
				      id);
	struct meta_store *store = store_new(pool, id, &rec);
	if (!store)
		return base_error_set_errno(err, -ENOMEM, "layers");
	store_link(store);
	store->refs = 0; /* who has it comes next */
	atomic_fetch_add(&pool->space.mapped, rec.chunks_owned);
	return 0;
}

/* Layers are found by a table while loading: a list walk for each of 10,000 disks would be 10^8 steps. */
struct layer_table {
	struct meta_store **slots;
	size_t mask;
};

static int layer_table_make(struct meta_pool *pool, struct layer_table *table)
{
	size_t count = 0, size = 16;

	for (struct meta_store *store = pool->stores; store; store = store->next)
		count++;
	while (size < count * 2)
		size *= 2;
	table->mask = size - 1;
	table->slots = calloc(size, sizeof(*table->slots));
	if (!table->slots)
		return -ENOMEM;
	for (struct meta_store *store = pool->stores; store; store = store->next) {
		size_t i = store->layer_id * UINT64_C(0x9e3779b97f4a7c15) >> 20 & table->mask;
		while (table->slots[i])
			i = (i + 1) & table->mask;
		table->slots[i] = store;
	}
	return 0;
}

static struct meta_store *layer_table_find(const struct layer_table *table, uint64_t layer_id)
{
	size_t i = layer_id * UINT64_C(0x9e3779b97f4a7c15) >> 20 & table->mask;

	while (table->slots[i] && table->slots[i]->layer_id != layer_id)
		i = (i + 1) & table->mask;
	return table->slots[i];
}

static int load_disk(struct meta_pool *pool, const struct layer_table *table, uint64_t number,
		     const struct db_value *value, struct base_error *err)
{
	struct meta_disk_record rec;

	if (meta_disk_decode(value->b, value->bytes, &rec) < 0)
		return base_error_set(err, -EBADMSG, "the record of disk %" PRIu64 " is damaged; run `bdfs check`",
				      number);
	struct meta_store *store = layer_table_find(table, rec.head_layer);
	if (!store)
		return base_error_set(err, -EBADMSG, "disk %s has no layer %" PRIu64 "; run `bdfs check`", rec.name,
				      rec.head_layer);
	struct meta_disk *disk = catalog_disk_new(pool, number, &rec, store);
	if (!disk)
		return base_error_set_errno(err, -ENOMEM, "disks");
	store->refs++;
	store->head_of = disk;
	insert(disk);
	return 0;
}

/* Every layer's parent is in memory now. */
static int link_layers(struct meta_pool *pool, const struct layer_table *table, struct base_error *err)
{
	for (struct meta_store *store = pool->stores; store; store = store->next) {
		if (store->layer.parent == 0)
			continue;
		struct meta_store *parent = layer_table_find(table, store->layer.parent);
		if (!parent)
			return base_error_set(err, -EBADMSG,
					      "layer %" PRIu64 " has a parent, %" PRIu64
					      ", that is not there; run `bdfs check`",
					      store->layer_id, store->layer.parent);
		store_set_parent(store, parent, store->layer.overlap_bytes);
	}
	for (struct meta_store *store = pool->stores; store; store = store->next) {
		struct meta_store *slow = store, *fast = store;
		while (fast && (fast = atomic_load(&fast->parent)) && (fast = atomic_load(&fast->parent))) {
			slow = atomic_load(&slow->parent);
			if (slow == fast)
				return base_error_set(err, -EBADMSG,
						      "the parents of layer %" PRIu64
						      " come round in a ring; run `bdfs check`",
						      store->layer_id);
		}
	}
	return 0;
}

static int load_snapshots(struct meta_pool *pool, struct db_txn *txn, struct base_error *err)
{
	struct db_key key = { 0 };
	struct db_value value;
	int rc;

	while ((rc = db_next(txn, DB_SNAPSHOT, &key, false, &value)) == 0) {
		rc = snapshots_load_one(pool, &key, &value, err);
		if (rc < 0)
			return rc;
	}
	if (rc == DB_NOT_FOUND)
		return 0;
	return base_error_set(err, rc, "database snapshot has a record that can't be read; run `bdfs check`");
}

/* Calls fn with each record of a database whose key is one number. */
static int each_record(struct meta_pool *pool, struct db_txn *txn, enum db_kind kind, const struct layer_table *table,
		       struct base_error *err)
{
	struct db_key key = db_key_u64(0);
	struct db_value value;
	uint64_t id;

	for (bool inclusive = true;; inclusive = false) {
		int rc = db_next(txn, kind, &key, inclusive, &value);
		if (rc == DB_NOT_FOUND)
			return 0;
		if (rc < 0)
			return base_error_set(
				err, rc, "database %s has a %s; run `bdfs check`", db_kind_to_text(kind),
				rc == -EBADMSG ? "record with a wrong checksum" : "record that can't be read");
		if (!db_key_to_u64(&key, &id))
			return base_error_set(err, -EBADMSG,
					      "database %s has a key of a wrong length; run `bdfs check`",
					      db_kind_to_text(kind));
		rc = kind == DB_LAYER ? load_layer(pool, id, &value, err) : load_disk(pool, table, id, &value, err);
		if (rc < 0)
			return rc;
	}
}

/* What an earlier run left unfinished: dead layers, trims. */
static int start_jobs(struct meta_pool *pool, struct base_error *err)
{
	int rc = 0;

	for (struct meta_store *store = pool->stores; store && rc == 0; store = store->next) {
		if (store->layer.state != META_LAYER_DEAD)
			continue;
		rc = store_load_index(store, err);
		if (rc == 0)
			rc = bg_add_clear(pool, store, NULL, 0); /* the job's is the only reference */
	}
	for (struct meta_store *store = pool->stores; store && rc == 0; store = store->next)
		fold_consider(store);
	for (size_t i = 0; i < DISK_HASH && rc == 0; i++) {
		for (struct meta_disk *disk = pool->by_number[i]; disk && rc == 0; disk = disk->number_next) {
			if (disk->record.trim_above_bytes == UINT64_MAX)
				continue;
			atomic_store(&disk->trimming, true);
			struct meta_store *store = atomic_load(&disk->store);
			rc = store_load_index(store, err);
			if (rc == 0)
				rc = bg_add_clear(pool, store, disk, disk->record.trim_above_bytes);
		}
	}
	return rc;
}

int catalog_load(struct meta_pool *pool, struct base_error *err)
{
	struct layer_table table = { 0 };
	struct db_txn *txn = NULL;

	int rc = db_read_begin(pool->env, &txn);
	if (rc < 0)
		return base_error_set_errno(err, rc, "can't read the metadata");
	rc = each_record(pool, txn, DB_LAYER, NULL, err);
	if (rc == 0 && layer_table_make(pool, &table) < 0)
		rc = base_error_set_errno(err, -ENOMEM, "layers");
	if (rc == 0)
		rc = link_layers(pool, &table, err);
	if (rc == 0)
		rc = each_record(pool, txn, DB_DISK, &table, err);
	if (rc == 0)
		rc = load_snapshots(pool, txn, err);
	if (rc == 0)
		rc = targets_load(pool, txn, err);
	db_read_end(txn);
	db_read_free(txn);
	free(table.slots);
	return rc;
}

uint64_t catalog_goal_chunks(uint8_t kind, uint64_t size_bytes)
{
	return kind == META_DISK_THIN ? 0 : round_up_to(size_bytes, CHUNK_BYTES) / CHUNK_BYTES;
}

/* Granted unasked: what was promised before is promised now. */
void catalog_claim_all(struct meta_pool *pool)
{
	for (struct meta_store *store = pool->stores; store; store = store->next)
		space_claim_init(&pool->space, &store->claim, 0, atomic_load(&store->chunks_owned));
	for (size_t i = 0; i < DISK_HASH; i++)
		for (struct meta_disk *disk = pool->by_number[i]; disk; disk = disk->number_next)
			space_claim_init(&pool->space, &meta_io_store(disk)->claim,
					 catalog_goal_chunks(disk->record.kind, atomic_load(&disk->size_bytes)),
					 atomic_load(&meta_io_store(disk)->chunks_owned));
}

int catalog_start_jobs(struct meta_pool *pool, struct base_error *err)
{
	return pool->read_only ? 0 : start_jobs(pool, err);
}

/* The last reference of a disk that was removed may be its trim's. */
static void free_job(struct clear_job *job)
{
	struct meta_disk *disk = job->disk;

	if (disk && --disk->refs == 0 && disk->removed && !catalog_is_linked(disk))
		disk_free(disk);
	store_put(job->store);
	free(job);
}

static void stores_free(struct meta_store *store)
{
	while (store) {
		struct meta_store *next = store->next;
		store_free(store);
		store = next;
	}
}

/* Nobody is left who could look: references count no more. */
void catalog_free(struct meta_pool *pool)
{
	while (pool->jobs) {
		struct clear_job *job = pool->jobs;
		pool->jobs = job->next;
		free_job(job);
	}
	for (size_t i = 0; i < DISK_HASH; i++) {
		while (pool->by_number[i]) {
			struct meta_disk *disk = pool->by_number[i];
			pool->by_number[i] = disk->number_next;
			snapshots_free(disk);
			pthread_mutex_destroy(&disk->size_lock);
			free(disk);
		}
	}
	fold_free(pool);
	stores_free(pool->stores);
	stores_free(pool->retired_stores);
	free(pool->sorted);
	targets_free(pool);
}

/* ---- windows ------------------------------------------------------------------------------ */

void disk_window_return(struct meta_disk *disk)
{
	uint64_t window = atomic_exchange(&disk->window, 0);

	if ((uint32_t)window)
		space_untake(&disk->pool->space, &meta_io_store(disk)->claim, (uint32_t)(window >> 32),
			     (uint32_t)window);
	atomic_store(&disk->window_goal, 1);
}

void catalog_recall_windows(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->catalog_lock);
	for (size_t i = 0; i < DISK_HASH; i++)
		for (struct meta_disk *disk = pool->by_number[i]; disk; disk = disk->number_next)
			if ((uint32_t)atomic_load(&disk->window))
				disk_window_return(disk);
	pthread_mutex_unlock(&pool->catalog_lock);
}

/* ---- looking up --------------------------------------------------------------------------- */

static struct meta_disk *referenced(struct meta_disk *disk)
{
	if (disk)
		disk->refs++;
	return disk;
}

struct meta_disk *meta_disk_get_by_name(struct meta_pool *pool, const char *name)
{
	pthread_mutex_lock(&pool->catalog_lock);
	struct meta_disk *disk = referenced(find_name(pool, name));
	pthread_mutex_unlock(&pool->catalog_lock);
	return disk;
}

struct meta_disk *meta_disk_get_by_number(struct meta_pool *pool, uint64_t number)
{
	pthread_mutex_lock(&pool->catalog_lock);
	struct meta_disk *disk = referenced(find_number(pool, number));
	pthread_mutex_unlock(&pool->catalog_lock);
	return disk;
}

struct meta_disk *meta_disk_get_by_uuid(struct meta_pool *pool, struct base_uuid uuid)
{
	struct meta_disk *found = NULL;

	pthread_mutex_lock(&pool->catalog_lock);
	for (size_t i = 0; i < DISK_HASH && !found; i++)
		for (struct meta_disk *disk = pool->by_number[i]; disk && !found; disk = disk->number_next)
			if (base_uuid_equal(disk->record.uuid, uuid))
				found = referenced(disk);
	pthread_mutex_unlock(&pool->catalog_lock);
	return found;
}

static int by_name_order(const void *pa, const void *pb)
{
	struct meta_disk *const *a = pa, *const *b = pb;

	return strcmp((*a)->record.name, (*b)->record.name);
}

static void sort_names(struct meta_pool *pool)
{
	size_t room = pool->disk_count + pool->disk_count / 4 + 16;
	struct meta_disk **sorted = realloc(pool->sorted, room * sizeof(*sorted));

	if (!sorted)
		return; /* the listing ends early; the next one tries again */
	pool->sorted = sorted;
	pool->sorted_room = room;
	pool->sorted_count = 0;
	for (size_t i = 0; i < DISK_HASH; i++)
		for (struct meta_disk *disk = pool->by_name[i]; disk; disk = disk->name_next)
			sorted[pool->sorted_count++] = disk;
	qsort(sorted, pool->sorted_count, sizeof(*sorted), by_name_order);
	pool->sorted_valid = true;
}

struct meta_disk *meta_disk_next(struct meta_pool *pool, const char *after)
{
	pthread_mutex_lock(&pool->catalog_lock);
	if (!pool->sorted_valid)
		sort_names(pool);
	size_t count = pool->sorted_valid ? pool->sorted_count : 0, low = count ? sorted_after(pool, after, false) : 0;
	struct meta_disk *disk = low < count ? referenced(pool->sorted[low]) : NULL;
	pthread_mutex_unlock(&pool->catalog_lock);
	return disk;
}

void meta_disk_info(struct meta_disk *disk, struct meta_disk_info *ret)
{
	pthread_mutex_lock(&disk->pool->catalog_lock);
	ret->record = disk->record;
	ret->opens = disk->opens;
	struct meta_store *store = atomic_load(&disk->store);
	ret->allocated_bytes = atomic_load(&store->chunks_owned) * CHUNK_BYTES;
	ret->valid_bytes = atomic_load(&store->blocks_valid) * BLOCK_BYTES;
	pthread_mutex_unlock(&disk->pool->catalog_lock);
	ret->number = disk->number;
	ret->size_bytes = atomic_load(&disk->size_bytes);
}

uint64_t meta_disk_number(const struct meta_disk *disk)
{
	return disk->number;
}

uint64_t meta_disk_size(const struct meta_disk *disk)
{
	return atomic_load(&((struct meta_disk *)(uintptr_t)disk)->size_bytes);
}

uint8_t meta_disk_kind(const struct meta_disk *disk)
{
	return atomic_load(&((struct meta_disk *)(uintptr_t)disk)->kind);
}

struct meta_store *meta_io_store(struct meta_disk *disk)
{
	return atomic_load_explicit(&disk->store, memory_order_acquire);
}

/* ---- opens -------------------------------------------------------------------------------- */

int meta_disk_open(struct meta_disk *disk, struct base_error *err)
{
	struct meta_pool *pool = disk->pool;
	int rc = 0;

	/* Counted first: from then on no rollback can give it a head with other layers below. */
	pthread_mutex_lock(&pool->catalog_lock);
	if (disk->removed)
		rc = base_error_set(err, -ENOENT, "disk %s is being removed", disk->record.name);
	else
		disk->opens++;
	pthread_mutex_unlock(&pool->catalog_lock);
	if (rc == 0) {
		rc = layers_load_index(pool, &disk->store, err);
		if (rc < 0)
			meta_disk_close(disk);
	}
	return rc;
}

void meta_disk_close(struct meta_disk *disk)
{
	struct meta_pool *pool = disk->pool;

	pthread_mutex_lock(&pool->catalog_lock);
	assert(disk->opens > 0);
	if (disk->opens == 1)
		disk_window_return(disk); /* before who waits for the close may remove the disk, and it is freed */
	if (--disk->opens == 0)
		pthread_cond_broadcast(&pool->closed_cond);
	pthread_mutex_unlock(&pool->catalog_lock);
}

unsigned meta_disk_opens(const struct meta_disk *disk)
{
	pthread_mutex_lock(&disk->pool->catalog_lock);
	unsigned opens = disk->opens;
	pthread_mutex_unlock(&disk->pool->catalog_lock);
	return opens;
}

int meta_disk_wait_closed(struct meta_disk *disk, uint64_t timeout_ns)
{
	struct meta_pool *pool = disk->pool;
	uint64_t until = base_clock_ns() + timeout_ns;
	struct timespec deadline = { .tv_sec = (time_t)(until / 1000000000), .tv_nsec = (long)(until % 1000000000) };
	int rc = 0;

	pthread_mutex_lock(&pool->catalog_lock);
	while (disk->opens > 0 && rc == 0)
		rc = pthread_cond_timedwait(&pool->closed_cond, &pool->catalog_lock, &deadline);
	rc = disk->opens > 0 ? -EBUSY : 0;
	pthread_mutex_unlock(&pool->catalog_lock);
	return rc;
}
