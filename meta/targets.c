/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adapters and VTDs: the tables in memory.
 *
 * All records are in memory from open on, in two arrays sorted by name. As with
 * disks (catalog.c), MW alone changes them: a change checks and writes in a
 * transaction and is published under catalog_lock once it is durable: see
 * targets_change.c.
 *
 * Names are ordered by length, then letters, so that vtscsi9 is listed before
 * vtscsi10.
 *
 * Failure modes: a damaged record is logged, left where it is and not loaded: its
 * neighbours are served, `bdfs check` finds it. A VTD whose disk is not there is
 * loaded and can be removed; nobody can serve it.
 */
#include "meta/targets.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/uuid.h"
#include "meta/internal.h"

/* ---- tables ------------------------------------------------------------------------------- */

static int compare_names(const char *a, const char *b)
{
	size_t a_length = strlen(a), b_length = strlen(b);

	if (a_length != b_length)
		return a_length < b_length ? -1 : 1;
	return strcmp(a, b);
}

/* The place of the first item whose name is >= name. Under catalog_lock, or on MW. */
static size_t find_place(const struct target_table *table, const char *name)
{
	size_t low = 0, high = table->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare_names(table->items[middle]->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct target *target_find(const struct target_table *table, const char *name)
{
	size_t at = find_place(table, name);

	return at < table->count && strcmp(table->items[at]->name, name) == 0 ? table->items[at] : NULL;
}

static struct target *next_after(const struct target_table *table, const char *after)
{
	size_t at = find_place(table, after);

	if (at < table->count && strcmp(table->items[at]->name, after) == 0)
		at++;
	return at < table->count ? table->items[at] : NULL;
}

int target_reserve(struct target_table *table)
{
	if (table->count < table->room)
		return 0;
	size_t room = MAX(16, table->room * 2);
	struct target **items = realloc(table->items, room * sizeof(*items));
	if (!items)
		return -ENOMEM;
	table->items = items;
	table->room = room;
	return 0;
}

void target_insert(struct target_table *table, struct target *target)
{
	size_t at = find_place(table, target->name);

	assert(table->count < table->room);
	memmove(&table->items[at + 1], &table->items[at], (table->count - at) * sizeof(*table->items));
	table->items[at] = target;
	table->count++;
}

void target_drop(struct target_table *table, struct target *target)
{
	size_t at = find_place(table, target->name);

	memmove(&table->items[at], &table->items[at + 1], (--table->count - at) * sizeof(*table->items));
	free(target);
}

struct target *target_new(const char *name)
{
	struct target *target = calloc(1, sizeof(*target));

	if (target)
		snprintf(target->name, sizeof(target->name), "%s", name);
	return target;
}

static unsigned count_vtds(const struct meta_pool *pool, const char *adapter)
{
	unsigned count = 0;

	for (size_t i = 0; i < pool->vtds.count; i++)
		count += strcmp(pool->vtds.items[i]->vtd.adapter, adapter) == 0;
	return count;
}

/* ---- loading ------------------------------------------------------------------------------ */

struct meta_disk *target_disk(struct meta_pool *pool, const struct meta_vtd_record *rec)
{
	struct meta_disk *disk = rec->backing == META_BACKING_DISK ? meta_disk_get_by_number(pool, rec->disk) : NULL;

	if (disk)
		meta_disk_put(disk); /* a mapped disk can't be removed, so the pointer lasts as long as the VTD */
	return disk;
}

void target_claim(struct meta_disk *disk, const struct meta_vtd_record *rec)
{
	disk->vtds++;
	disk->exclusive += !rec->shared;
}

void target_unclaim(struct meta_disk *disk, const struct meta_vtd_record *rec)
{
	disk->vtds--;
	disk->exclusive -= !rec->shared;
}

static bool decode(enum db_kind kind, const struct db_key *key, const struct db_value *value, struct target *ret)
{
	if (key->bytes > META_DEVICE_NAME_BYTES_MAX)
		return false;
	memcpy(ret->name, key->b, key->bytes);
	ret->name[key->bytes] = '\0';
	if (strlen(ret->name) != key->bytes || meta_device_name_check(ret->name, NULL) < 0)
		return false;
	if (kind == DB_ADAPTER)
		return meta_adapter_decode(value->b, value->bytes, &ret->adapter) == 0;
	return meta_vtd_decode(value->b, value->bytes, &ret->vtd) == 0;
}

static int load_kind(struct meta_pool *pool, struct db_txn *txn, enum db_kind kind, struct target_table *table,
		     struct base_error *err)
{
	struct db_key key = { 0 };
	struct db_value value;
	int rc;

	while ((rc = db_next(txn, kind, &key, false, &value)) == 0 || rc == -EBADMSG) {
		struct target *target = calloc(1, sizeof(*target));
		if (!target || target_reserve(table) < 0) {
			free(target);
			return base_error_set_errno(err, -ENOMEM, "adapters and VTDs");
		}
		if (rc == 0 && decode(kind, &key, &value, target)) {
			target_insert(table, target);
			continue;
		}
		free(target);
		log_error("database %s has a damaged record, which is passed over; run `bdfs check`",
			  db_kind_to_text(kind));
	}
	return rc == DB_NOT_FOUND ? 0 :
				    base_error_set_errno(err, rc, "database %s can't be read", db_kind_to_text(kind));
}

int targets_load(struct meta_pool *pool, struct db_txn *txn, struct base_error *err)
{
	int rc = load_kind(pool, txn, DB_ADAPTER, &pool->adapters, err);

	if (rc == 0)
		rc = load_kind(pool, txn, DB_VTD, &pool->vtds, err);
	for (size_t i = 0; rc == 0 && i < pool->vtds.count; i++) {
		struct meta_disk *disk = target_disk(pool, &pool->vtds.items[i]->vtd);
		if (disk)
			target_claim(disk, &pool->vtds.items[i]->vtd);
	}
	return rc;
}

static void free_table(struct target_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->items[i]);
	free(table->items);
}

void targets_free(struct meta_pool *pool)
{
	free_table(&pool->adapters);
	free_table(&pool->vtds);
}

/* ---- looking up --------------------------------------------------------------------------- */

static void fill_adapter(const struct meta_pool *pool, const struct target *target, struct meta_adapter_info *ret)
{
	memcpy(ret->name, target->name, sizeof(ret->name));
	ret->record = target->adapter;
	ret->vtds = count_vtds(pool, target->name);
}

void target_fill_vtd(const struct target *target, struct meta_vtd_info *ret)
{
	memcpy(ret->name, target->name, sizeof(ret->name));
	ret->record = target->vtd;
}

bool meta_adapter_next(struct meta_pool *pool, const char *after, struct meta_adapter_info *ret)
{
	pthread_mutex_lock(&pool->catalog_lock);
	struct target *target = next_after(&pool->adapters, after);
	if (target)
		fill_adapter(pool, target, ret);
	pthread_mutex_unlock(&pool->catalog_lock);
	return target != NULL;
}

int meta_adapter_get(struct meta_pool *pool, const char *name, struct meta_adapter_info *ret, struct base_error *err)
{
	pthread_mutex_lock(&pool->catalog_lock);
	struct target *target = target_find(&pool->adapters, name);
	if (target)
		fill_adapter(pool, target, ret);
	pthread_mutex_unlock(&pool->catalog_lock);
	return target ? 0 : base_error_set(err, -ENOENT, "%s: no such adapter; `bdfs lsmap -all` lists them", name);
}

bool meta_vtd_next(struct meta_pool *pool, const char *after, struct meta_vtd_info *ret)
{
	pthread_mutex_lock(&pool->catalog_lock);
	struct target *target = next_after(&pool->vtds, after);
	if (target)
		target_fill_vtd(target, ret);
	pthread_mutex_unlock(&pool->catalog_lock);
	return target != NULL;
}

/* catalog_lock, or on MW. The first one behind the name `after`. */
static struct target *find_of_snapshot(const struct meta_pool *pool, struct base_uuid uuid, const char *after)
{
	char text[BASE_UUID_TEXT_BYTES];

	base_uuid_to_text(uuid, text);
	for (size_t i = find_place(&pool->vtds, after); i < pool->vtds.count; i++) {
		struct target *target = pool->vtds.items[i];
		if (target->vtd.backing == META_BACKING_SNAPSHOT && strcmp(target->vtd.identity, text) == 0 &&
		    strcmp(target->name, after) != 0)
			return target;
	}
	return NULL;
}

bool meta_vtd_next_of_snapshot(struct meta_pool *pool, struct base_uuid snapshot, const char *after,
			       struct meta_vtd_info *ret)
{
	pthread_mutex_lock(&pool->catalog_lock);
	struct target *found = find_of_snapshot(pool, snapshot, after);
	if (found)
		target_fill_vtd(found, ret);
	pthread_mutex_unlock(&pool->catalog_lock);
	return found != NULL;
}

int targets_refuse_mapped(const struct meta_snapshot *snapshot, struct base_error *err)
{
	const struct target *holder = find_of_snapshot(snapshot->pool, snapshot->uuid, "");

	if (!holder)
		return 0;
	return base_error_set(err, -EBUSY,
			      "snapshot %s of disk %s is mapped, as VTD %s on %s: unmap it first (`bdfs rmvdev -vtd "
			      "%s`)",
			      snapshot->record.name, snapshot->disk->record.name, holder->name, holder->vtd.adapter,
			      holder->name);
}

bool meta_vtd_next_of_disk(struct meta_pool *pool, uint64_t disk, const char *after, struct meta_vtd_info *ret)
{
	struct target *found = NULL;

	pthread_mutex_lock(&pool->catalog_lock);
	for (size_t i = find_place(&pool->vtds, after); i < pool->vtds.count && !found; i++) {
		struct target *target = pool->vtds.items[i];
		if (target->vtd.disk == disk && target->vtd.backing == META_BACKING_DISK &&
		    strcmp(target->name, after) != 0)
			found = target;
	}
	if (found)
		target_fill_vtd(found, ret);
	pthread_mutex_unlock(&pool->catalog_lock);
	return found != NULL;
}

int meta_vtd_get(struct meta_pool *pool, const char *name, struct meta_vtd_info *ret, struct base_error *err)
{
	pthread_mutex_lock(&pool->catalog_lock);
	struct target *target = target_find(&pool->vtds, name);
	if (target)
		target_fill_vtd(target, ret);
	pthread_mutex_unlock(&pool->catalog_lock);
	return target ? 0 : base_error_set(err, -ENOENT, "%s: no such VTD; `bdfs lsmap -all` lists them", name);
}

void targets_describe_holder(struct meta_pool *pool, uint64_t disk, char *buf, size_t room)
{
	for (size_t i = 0; i < pool->vtds.count; i++) {
		const struct target *target = pool->vtds.items[i];
		if (target->vtd.backing != META_BACKING_DISK || target->vtd.disk != disk)
			continue;
		snprintf(buf, room, "VTD %s on %s", target->name, target->vtd.adapter);
		return;
	}
}
