/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of adapters and VTDs: make, change, remove, map, unmap. Each is one
 * mw_call, see catalog.c for the rules.
 *
 * Mapping is the one change that others race with: a file of the mount can be
 * opened between the check and the commit. So the check takes the claim at once,
 * under catalog_lock (a count on the disk), and gives it back if the transaction
 * fails. A file's open looks at that count under the same lock; so one of the two
 * sees the other.
 *
 *	disk.vtds        VTDs of the disk, those about to be made included
 *	disk.exclusive   of these, the ones that are not shared: 0 or 1
 *	disk.files       files of the mount, by descriptor
 *	disk.announced   the pid that may open it once all the same; 0 = none
 *
 * Failure modes: refusals, each naming the holder; -ENOSPC from the metadata's file
 * system. On failure neither LMDB nor memory has changed.
 */
#include "meta/targets.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/uuid.h"
#include "meta/internal.h"

/* A device's name is one for adapters and VTDs, since verbs take either. */
static int check_new_name(const struct meta_pool *pool, const char *name, struct base_error *err)
{
	if (target_find(&pool->adapters, name))
		return base_error_set(err, -EEXIST, "there is an adapter named %s already", name);
	if (target_find(&pool->vtds, name))
		return base_error_set(err, -EEXIST, "there is a VTD named %s already", name);
	return 0;
}

/* ---- writing records ---------------------------------------------------------------------- */

static int put_adapter(struct db_txn *txn, const char *name, const struct meta_adapter_record *rec)
{
	struct db_key key = db_key_bytes(name, strlen(name));
	uint8_t buf[DB_VALUE_BYTES_MAX];

	return db_put(txn, DB_ADAPTER, &key, buf, meta_adapter_encode(rec, buf));
}

static int put_vtd(struct db_txn *txn, const char *name, const struct meta_vtd_record *rec)
{
	struct db_key key = db_key_bytes(name, strlen(name));
	uint8_t buf[DB_VALUE_BYTES_MAX];

	return db_put(txn, DB_VTD, &key, buf, meta_vtd_encode(rec, buf));
}

static int del_record(struct db_txn *txn, enum db_kind kind, const char *name)
{
	struct db_key key = db_key_bytes(name, strlen(name));
	int rc = db_del(txn, kind, &key);

	return rc == DB_NOT_FOUND ? -EBADMSG : rc;
}

/* Room in a table is made before the transaction, so that publishing can't fail. MW alone adds, so it stays. */
static int make_room(struct meta_pool *pool, struct target_table *table, struct base_error *err)
{
	pthread_mutex_lock(&pool->catalog_lock);
	int rc = target_reserve(table);
	pthread_mutex_unlock(&pool->catalog_lock);
	return rc < 0 ? base_error_set_errno(err, rc, "adapters and VTDs") : 0;
}

/* ---- changes of an adapter ---------------------------------------------------------------- */

struct adapter_change {
	const char *name;
	const struct meta_adapter_record *rec; /* to make */
	const char *client;                    /* to change */
	struct target *target;                 /* made before the call; the one in the table once it is known */
};

static int check_physloc(const struct meta_pool *pool, const char *physloc, struct base_error *err)
{
	for (size_t i = 0; physloc[0] && i < pool->adapters.count; i++)
		if (strcmp(pool->adapters.items[i]->adapter.physloc, physloc) == 0)
			return base_error_set(err, -EEXIST, "adapter %s has the location %s already",
					      pool->adapters.items[i]->name, physloc);
	return 0;
}

static int adapter_create_fn(struct mw_call *call, struct db_txn *txn)
{
	struct adapter_change *change = call->arg;
	int rc = check_new_name(call->pool, change->name, call->err);

	if (rc == 0)
		rc = check_physloc(call->pool, change->rec->physloc, call->err);
	if (rc == 0)
		rc = make_room(call->pool, &call->pool->adapters, call->err);
	if (rc < 0)
		return rc;
	rc = put_adapter(txn, change->name, &change->target->adapter);
	return rc < 0 ? base_error_set_errno(call->err, rc, "%s", change->name) : 0;
}

static void adapter_create_applied(struct mw_call *call)
{
	struct adapter_change *change = call->arg;

	target_insert(&call->pool->adapters, change->target);
	change->target = NULL;
}

int meta_adapter_create(struct meta_pool *pool, const char *name, const struct meta_adapter_record *rec,
			struct base_error *err)
{
	struct adapter_change change = { .name = name, .rec = rec };
	struct mw_call call = { .fn = adapter_create_fn,
				.applied = adapter_create_applied,
				.arg = &change,
				.err = err };
	int rc = meta_device_name_check(name, err);

	if (rc < 0)
		return rc;
	change.target = target_new(name);
	if (!change.target)
		return base_error_set_errno(err, -ENOMEM, "%s", name);
	change.target->adapter = *rec;
	change.target->adapter.created_s = base_clock_wall_s();
	rc = mw_call_wait(pool, &call);
	free(change.target); /* NULL when it went into the table */
	return rc;
}

static int adapter_client_fn(struct mw_call *call, struct db_txn *txn)
{
	struct adapter_change *change = call->arg;

	change->target = target_find(&call->pool->adapters, change->name);
	if (!change->target)
		return base_error_set(call->err, -ENOENT, "%s: no such adapter", change->name);
	struct meta_adapter_record rec = change->target->adapter;
	snprintf(rec.client, sizeof(rec.client), "%s", change->client);
	int rc = put_adapter(txn, change->name, &rec);
	return rc < 0 ? base_error_set_errno(call->err, rc, "%s", change->name) : 0;
}

static void adapter_client_applied(struct mw_call *call)
{
	struct adapter_change *change = call->arg;

	snprintf(change->target->adapter.client, sizeof(change->target->adapter.client), "%s", change->client);
}

int meta_adapter_set_client(struct meta_pool *pool, const char *name, const char *client, struct base_error *err)
{
	struct adapter_change change = { .name = name, .client = client };
	struct mw_call call = { .fn = adapter_client_fn,
				.applied = adapter_client_applied,
				.arg = &change,
				.err = err };

	for (const char *c = client; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return base_error_set(err, -EINVAL, "%s: the client's label has a control character", name);
	if (strlen(client) > META_CLIENT_BYTES_MAX)
		return base_error_set(err, -EINVAL, "%s: the client's label has more than %d bytes", name,
				      META_CLIENT_BYTES_MAX);
	return mw_call_wait(pool, &call);
}

static int adapter_remove_fn(struct mw_call *call, struct db_txn *txn)
{
	struct adapter_change *change = call->arg;
	const struct target_table *vtds = &call->pool->vtds;

	change->target = target_find(&call->pool->adapters, change->name);
	if (!change->target)
		return base_error_set(call->err, -ENOENT, "%s: no such adapter", change->name);
	for (size_t i = 0; i < vtds->count; i++)
		if (strcmp(vtds->items[i]->vtd.adapter, change->name) == 0)
			return base_error_set(call->err, -EBUSY,
					      "adapter %s has VTD %s: remove its VTDs first (`bdfs rmvdev`)",
					      change->name, vtds->items[i]->name);
	int rc = del_record(txn, DB_ADAPTER, change->name);
	return rc < 0 ? base_error_set_errno(call->err, rc, "%s", change->name) : 0;
}

static void adapter_remove_applied(struct mw_call *call)
{
	struct adapter_change *change = call->arg;

	target_drop(&call->pool->adapters, change->target);
}

int meta_adapter_remove(struct meta_pool *pool, const char *name, struct base_error *err)
{
	struct adapter_change change = { .name = name };
	struct mw_call call = { .fn = adapter_remove_fn,
				.applied = adapter_remove_applied,
				.arg = &change,
				.err = err };

	return mw_call_wait(pool, &call);
}

/* ---- mapping ------------------------------------------------------------------------------ */

struct map_call {
	const struct meta_vtd_spec *spec;
	struct target *vtd, *adapter; /* made before the call; NULL once they are in the tables */
	struct meta_disk *disk;       /* claimed */
	struct meta_vtd_info *ret;
};

static bool same_backing(const struct meta_vtd_record *a, const struct meta_vtd_record *b)
{
	if (a->backing == META_BACKING_DISK || b->backing == META_BACKING_DISK)
		return a->backing == b->backing && a->disk == b->disk;
	if (a->backing == META_BACKING_SNAPSHOT || b->backing == META_BACKING_SNAPSHOT)
		return a->backing == b->backing && strcmp(a->identity, b->identity) == 0;
	/* By whatever names it goes, one thing has one identity. */
	return strcmp(a->path, b->path) == 0 || strcmp(a->identity, b->identity) == 0;
}

/* The holder that stands against a mapping; a second one counts only if one of the two is not shared. */
static int check_mapped(const struct meta_pool *pool, const struct meta_vtd_record *rec, const char *what,
			struct base_error *err)
{
	for (size_t i = 0; i < pool->vtds.count; i++) {
		const struct target *other = pool->vtds.items[i];
		if (!same_backing(&other->vtd, rec) || (rec->shared && other->vtd.shared))
			continue;
		if (!rec->shared && other->vtd.shared)
			return base_error_set(err, -EBUSY,
					      "%s is mapped already, as VTD %s on %s, which is shared: add --shared to "
					      "map it a second time",
					      what, other->name, other->vtd.adapter);
		return base_error_set(
			err, -EBUSY,
			"%s is mapped already, as VTD %s on %s, which is not shared: unmap that first, or "
			"let both say shared (`bdfs chdev -dev %s -attr shared=yes`)",
			what, other->name, other->vtd.adapter, other->name);
	}
	return 0;
}

static int claim_disk(struct map_call *map, struct meta_pool *pool, struct base_error *err)
{
	const struct meta_vtd_record *rec = &map->vtd->vtd;
	struct meta_disk *disk = target_disk(pool, rec);
	int rc = 0;

	if (!disk)
		return base_error_set(err, -ENOENT, "there is no disk with the number %" PRIu64, rec->disk);
	rc = check_mapped(pool, rec, disk->record.name, err);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&pool->catalog_lock);
	if (disk->removed)
		rc = base_error_set(err, -ENOENT, "disk %s is being removed", disk->record.name);
	else if (disk->files > 0 && !rec->shared)
		rc = base_error_set(err, -EBUSY,
				    "%s is open as a file of the mount (by %u descriptors): close it first, or add "
				    "--shared",
				    disk->record.name, disk->files);
	if (rc == 0) {
		target_claim(disk, rec);
		map->disk = disk;
	}
	pthread_mutex_unlock(&pool->catalog_lock);
	return rc;
}

/* Nothing is claimed: a removal is a call of MW too, and looks at the table of VTDs. */
static int check_snapshot(struct meta_pool *pool, const struct meta_vtd_record *rec, struct base_error *err)
{
	struct base_uuid uuid;

	if (base_uuid_parse(rec->identity, &uuid) < 0)
		return base_error_set(err, -EINVAL, "%s: not the UUID of a snapshot", rec->identity);
	if (!rec->read_only || !rec->shared)
		return base_error_set(err, -EINVAL, "a snapshot is mapped read-only and shared, or not at all");
	pthread_mutex_lock(&pool->catalog_lock);
	struct meta_snapshot *snapshot = snapshot_with_uuid(pool, uuid);
	bool found = snapshot && !snapshot->removed;
	pthread_mutex_unlock(&pool->catalog_lock);
	return found ? 0 : base_error_set(err, -ENOENT, "the snapshot was removed meanwhile");
}

/* Takes what is to be mapped, or says who stands against it. */
static int claim_backing(struct map_call *map, struct meta_pool *pool, struct base_error *err)
{
	const struct meta_vtd_record *rec = &map->vtd->vtd;

	if (rec->backing == META_BACKING_DISK)
		return claim_disk(map, pool, err);
	if (rec->backing == META_BACKING_SNAPSHOT)
		return check_snapshot(pool, rec, err);
	return check_mapped(pool, rec, rec->path, err);
}

static int choose_name(const struct meta_pool *pool, struct target *vtd, struct base_error *err)
{
	if (vtd->name[0])
		return check_new_name(pool, vtd->name, err);
	/* Each round that finds its name taken has met another device, so this ends. */
	for (unsigned n = 0;; n++) {
		snprintf(vtd->name, sizeof(vtd->name), "vtscsi%u", n);
		if (check_new_name(pool, vtd->name, NULL) == 0)
			return 0;
	}
}

static int choose_lun(const struct meta_pool *pool, struct meta_vtd_record *rec, struct base_error *err)
{
	uint8_t used[META_LUN_COUNT / 8] = { 1 }; /* there is no index 0 */

	for (size_t i = 0; i < pool->vtds.count; i++) {
		const struct target *other = pool->vtds.items[i];
		if (strcmp(other->vtd.adapter, rec->adapter) != 0)
			continue;
		if (other->vtd.lun == rec->lun)
			return base_error_set(err, -EEXIST, "adapter %s has LUN 0x%" PRIx64 " already, VTD %s",
					      rec->adapter, rec->lun, other->name);
		uint32_t index = meta_lun_to_index(other->vtd.lun);
		used[index / 8] |= (uint8_t)(1u << index % 8);
	}
	for (uint32_t i = 1; rec->lun == 0 && i < META_LUN_COUNT; i++)
		if (!(used[i / 8] >> i % 8 & 1))
			rec->lun = meta_lun_of_index(i);
	if (rec->lun == 0)
		return base_error_set(err, -ENOSPC, "adapter %s has no LUN left", rec->adapter);
	return 0;
}

static int check_adapter(struct map_call *map, struct meta_pool *pool, struct db_txn *txn, struct base_error *err)
{
	const char *name = map->vtd->vtd.adapter;

	if (target_find(&pool->adapters, name)) {
		free(map->adapter);
		map->adapter = NULL;
		return 0;
	}
	if (!map->adapter)
		return base_error_set(err, -ENOENT, "%s: no such adapter; `bdfs mkvdev -vadapter %s -transport T` "
						    "makes one",
				      name, name);
	int rc = check_new_name(pool, name, err);
	if (rc == 0)
		rc = check_physloc(pool, map->adapter->adapter.physloc, err);
	if (rc == 0)
		rc = make_room(pool, &pool->adapters, err);
	if (rc < 0)
		return rc;
	rc = put_adapter(txn, name, &map->adapter->adapter);
	return rc < 0 ? base_error_set_errno(err, rc, "%s", name) : 0;
}

static int map_fn(struct mw_call *call, struct db_txn *txn)
{
	struct map_call *map = call->arg;
	struct meta_vtd_record *rec = &map->vtd->vtd;
	int rc = check_adapter(map, call->pool, txn, call->err);

	if (rc == 0 && strcmp(map->vtd->name, rec->adapter) == 0)
		rc = base_error_set(call->err, -EEXIST, "%s: a VTD needs another name than its adapter", rec->adapter);
	if (rc == 0)
		rc = choose_name(call->pool, map->vtd, call->err);
	if (rc == 0)
		rc = choose_lun(call->pool, rec, call->err);
	if (rc == 0)
		rc = make_room(call->pool, &call->pool->vtds, call->err);
	if (rc == 0)
		rc = claim_backing(map, call->pool, call->err);
	if (rc < 0)
		return rc;
	rc = put_vtd(txn, map->vtd->name, rec);
	return rc < 0 ? base_error_set_errno(call->err, rc, "%s", map->vtd->name) : 0;
}

static void map_applied(struct mw_call *call)
{
	struct map_call *map = call->arg;

	if (map->adapter)
		target_insert(&call->pool->adapters, map->adapter);
	target_insert(&call->pool->vtds, map->vtd);
	target_fill_vtd(map->vtd, map->ret);
	map->adapter = NULL;
	map->disk = NULL; /* the claim is the VTD's now */
}

static int map_prepare(struct meta_pool *pool, struct map_call *map, struct base_error *err)
{
	const struct meta_vtd_spec *spec = map->spec;
	int rc = spec->name[0] ? meta_device_name_check(spec->name, err) : 0;

	if (rc == 0)
		rc = meta_device_name_check(spec->record.adapter, err);
	if (rc < 0)
		return rc;
	map->vtd = target_new(spec->name);
	map->adapter = spec->adapter ? target_new(spec->record.adapter) : NULL;
	if (!map->vtd || (spec->adapter && !map->adapter))
		return base_error_set_errno(err, -ENOMEM, "%s", spec->record.adapter);
	map->vtd->vtd = spec->record;
	map->vtd->vtd.created_s = base_clock_wall_s();
	if (map->adapter) {
		map->adapter->adapter = *spec->adapter;
		map->adapter->adapter.created_s = base_clock_wall_s();
	}
	return 0;
}

int meta_vtd_create(struct meta_pool *pool, const struct meta_vtd_spec *spec, struct meta_vtd_info *ret,
		    struct base_error *err)
{
	struct map_call map = { .spec = spec, .ret = ret };
	struct mw_call call = { .fn = map_fn, .applied = map_applied, .arg = &map, .err = err };
	int rc = map_prepare(pool, &map, err);

	if (rc == 0)
		rc = mw_call_wait(pool, &call);
	if (rc == 0)
		return 0;
	pthread_mutex_lock(&pool->catalog_lock);
	if (map.disk)
		target_unclaim(map.disk, &map.vtd->vtd);
	pthread_mutex_unlock(&pool->catalog_lock);
	free(map.vtd);
	free(map.adapter);
	return rc;
}

/* ---- unmapping, sharing ------------------------------------------------------------------- */

struct vtd_change {
	const char *name;
	struct target *target;
	bool shared;
	unsigned own_files;
};

static int find_vtd(struct mw_call *call)
{
	struct vtd_change *change = call->arg;

	change->target = target_find(&call->pool->vtds, change->name);
	if (!change->target)
		return base_error_set(call->err, -ENOENT, "%s: no such VTD", change->name);
	return 0;
}

static int unmap_fn(struct mw_call *call, struct db_txn *txn)
{
	struct vtd_change *change = call->arg;
	int rc = find_vtd(call);

	if (rc < 0)
		return rc;
	rc = del_record(txn, DB_VTD, change->name);
	return rc < 0 ? base_error_set_errno(call->err, rc, "%s", change->name) : 0;
}

/* Under catalog_lock, so not by meta_disk_get_by_number. */
static struct meta_disk *disk_of_locked(struct meta_pool *pool, const struct meta_vtd_record *rec)
{
	return rec->backing == META_BACKING_DISK ? catalog_disk_by_number(pool, rec->disk) : NULL;
}

static void unmap_applied(struct mw_call *call)
{
	struct vtd_change *change = call->arg;
	struct meta_disk *disk = disk_of_locked(call->pool, &change->target->vtd);

	if (disk)
		target_unclaim(disk, &change->target->vtd);
	target_drop(&call->pool->vtds, change->target);
}

int meta_vtd_remove(struct meta_pool *pool, const char *name, struct base_error *err)
{
	struct vtd_change change = { .name = name };
	struct mw_call call = { .fn = unmap_fn, .applied = unmap_applied, .arg = &change, .err = err };

	return mw_call_wait(pool, &call);
}

/* Whether it may be the only holder. A raw device has no files, and its path is looked at. */
static int check_alone(struct mw_call *call, const struct vtd_change *change)
{
	const struct target *target = change->target;

	for (size_t i = 0; i < call->pool->vtds.count; i++) {
		const struct target *other = call->pool->vtds.items[i];
		if (other != target && same_backing(&other->vtd, &target->vtd))
			return base_error_set(call->err, -EBUSY,
					      "%s has to stay shared: what it maps is mapped as VTD %s on %s too",
					      change->name, other->name, other->vtd.adapter);
	}
	return 0;
}

static int share_fn(struct mw_call *call, struct db_txn *txn)
{
	struct vtd_change *change = call->arg;
	int rc = find_vtd(call);

	if (rc == 0 && !change->shared && change->target->vtd.backing == META_BACKING_SNAPSHOT)
		rc = base_error_set(call->err, -EINVAL,
				    "%s has to stay shared: it maps a snapshot, which anybody may read", change->name);
	if (rc == 0 && !change->shared)
		rc = check_alone(call, change);
	if (rc < 0)
		return rc;
	struct meta_vtd_record rec = change->target->vtd;
	struct meta_disk *disk = target_disk(call->pool, &rec);
	pthread_mutex_lock(&call->pool->catalog_lock);
	unsigned files = disk ? disk->files : 0;
	/* From here on no file can be opened; taken back below if the transaction fails. */
	if (disk && rec.shared && !change->shared && files <= change->own_files)
		disk->exclusive++;
	pthread_mutex_unlock(&call->pool->catalog_lock);
	if (rec.shared && !change->shared && files > change->own_files)
		return base_error_set(call->err, -EBUSY,
				      "%s has to stay shared: the disk is open as a file of the mount", change->name);
	rec.shared = change->shared;
	rc = put_vtd(txn, change->name, &rec);
	return rc < 0 ? base_error_set_errno(call->err, rc, "%s", change->name) : 0;
}

static void share_applied(struct mw_call *call)
{
	struct vtd_change *change = call->arg;
	struct meta_disk *disk = disk_of_locked(call->pool, &change->target->vtd);

	if (disk && change->shared && !change->target->vtd.shared)
		disk->exclusive--;
	change->target->vtd.shared = change->shared;
}

/* What a failed transaction may have left counted. */
static void recount_exclusive(struct meta_pool *pool, const char *name)
{
	pthread_mutex_lock(&pool->catalog_lock);
	struct target *target = target_find(&pool->vtds, name);
	struct meta_disk *disk = target ? disk_of_locked(pool, &target->vtd) : NULL;
	if (disk)
		disk->exclusive = 0;
	for (size_t i = 0; disk && i < pool->vtds.count; i++)
		disk->exclusive += same_backing(&pool->vtds.items[i]->vtd, &target->vtd) &&
				   !pool->vtds.items[i]->vtd.shared;
	pthread_mutex_unlock(&pool->catalog_lock);
}

int meta_vtd_set_shared(struct meta_pool *pool, const char *name, bool shared, unsigned own_files,
			struct base_error *err)
{
	struct vtd_change change = { .name = name, .shared = shared, .own_files = own_files };
	struct mw_call call = { .fn = share_fn, .applied = share_applied, .arg = &change, .err = err };
	int rc = mw_call_wait(pool, &call);

	if (rc < 0)
		recount_exclusive(pool, name);
	return rc;
}
