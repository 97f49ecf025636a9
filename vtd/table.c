/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VTDs of a mounted pool, see table.h.
 *
 * An item is a VTD that was to be served: with its unit, or with the reason why there
 * is none. A VTD without an item has not been started yet.
 *
 * Two locks. `work` is held by whoever starts or stops, for as long as that takes (a
 * helper process, a guest's last requests), so there is one such at a time. `lock`,
 * taken inside it or alone, guards the list and is held while a unit is asked for its
 * status; a unit that is to be stopped is taken out of its item first, so nobody asks
 * it any more.
 *
 * Order of events. Map: record, start; if the start fails the record is removed again.
 * Unmap: stop, remove the record; if that fails, start again. A crash between the two
 * finds the record, and the next mount serves it: a mapping is there until its unmap has
 * been answered.
 *
 * Failure modes: a start that fails at mount leaves the item with its reason; lsmap
 * shows it, and mapping anew or the next mount tries again. A stop without force that
 * meets a user changes nothing.
 */
#include "vtd/table.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/uuid.h"
#include "vtd/loop.h"

struct item {
	struct item *next; /* lock */
	char name[META_DEVICE_NAME_BYTES_MAX + 1];
	const struct vtd_transport_ops *ops;
	void *unit;             /* lock; NULL: not served */
	struct meta_disk *disk; /* a reference while there is a unit; NULL: something else is mapped */
	struct meta_snapshot *snapshot; /* the same */
	char *reason;           /* lock; when there is no unit */
};

struct vtd_table {
	struct vtd_env env;
	pthread_mutex_t work, lock;
	struct item *items; /* lock; changed with work held too */
	bool stopped;       /* work: between stop_all and start_all */
	bool swept;         /* work: what a dead daemon left behind is gone */
};

const struct vtd_transport_ops *vtd_transport_find(uint8_t transport)
{
	static const struct vtd_transport_ops *const transports[] = {
		[META_TRANSPORT_VHOST_USER] = &vtd_transport_vhost,
		[META_TRANSPORT_LOOP] = &vtd_transport_loop,
		[META_TRANSPORT_LIO] = &vtd_transport_lio,
	};

	return transport < ARRAY_LEN(transports) ? transports[transport] : NULL;
}

/* ---- items -------------------------------------------------------------------------------- */

/* work or lock. */
static struct item *find(struct vtd_table *table, const char *name)
{
	struct item *item = table->items;

	while (item && strcmp(item->name, name) != 0)
		item = item->next;
	return item;
}

static struct item *find_or_make(struct vtd_table *table, const char *name)
{
	struct item *item = find(table, name);

	if (item)
		return item;
	item = calloc(1, sizeof(*item));
	if (!item)
		return NULL;
	snprintf(item->name, sizeof(item->name), "%s", name);
	pthread_mutex_lock(&table->lock);
	item->next = table->items;
	table->items = item;
	pthread_mutex_unlock(&table->lock);
	return item;
}

static void forget(struct vtd_table *table, struct item *item)
{
	struct item **at = &table->items;

	assert(!item->unit);
	pthread_mutex_lock(&table->lock);
	while (*at != item)
		at = &(*at)->next;
	*at = item->next;
	pthread_mutex_unlock(&table->lock);
	free(item->reason);
	free(item);
}

static void set_unit(struct vtd_table *table, struct item *item, void *unit, const char *reason)
{
	pthread_mutex_lock(&table->lock);
	free(item->reason);
	item->reason = reason ? strdup(reason) : NULL;
	item->unit = unit;
	pthread_mutex_unlock(&table->lock);
}

/* ---- starting and stopping one ------------------------------------------------------------ */

static int take_disk(struct vtd_table *table, struct item *item, const struct meta_vtd_record *rec,
		     struct vtd_target *target, struct base_error *err)
{
	struct meta_disk_info info;

	item->disk = meta_disk_get_by_number(table->env.meta, rec->disk);
	if (!item->disk)
		return base_error_set(err, -ENOENT, "its disk is gone; `bdfs check` says more");
	meta_disk_info(item->disk, &info);
	target->disk = item->disk;
	target->logical_block_bytes = info.record.logical_block_bytes;
	return 0;
}

static int take_snapshot(struct vtd_table *table, struct item *item, const struct meta_vtd_record *rec,
			 struct vtd_target *target, struct base_error *err)
{
	struct meta_snapshot_info info;
	struct meta_disk_info disk_info;
	struct base_uuid uuid;

	if (base_uuid_parse(rec->identity, &uuid) == 0)
		item->snapshot = meta_snapshot_get_by_uuid(table->env.meta, uuid);
	if (!item->snapshot)
		return base_error_set(err, -ENOENT, "its snapshot is gone; `bdfs check` says more");
	meta_snapshot_info(item->snapshot, &info);
	struct meta_disk *disk = meta_disk_get_by_number(table->env.meta, info.disk);
	if (!disk)
		return base_error_set(err, -ENOENT, "the disk of its snapshot is gone; `bdfs check` says more");
	meta_disk_info(disk, &disk_info);
	meta_disk_put(disk);
	target->snapshot = item->snapshot;
	target->logical_block_bytes = disk_info.record.logical_block_bytes;
	return 0;
}

static void put_backing(struct item *item)
{
	if (item->disk)
		meta_disk_put(item->disk);
	if (item->snapshot)
		meta_snapshot_put(item->snapshot);
	item->disk = NULL;
	item->snapshot = NULL;
}

static int start_unit(struct vtd_table *table, struct item *item, const struct meta_vtd_info *vtd, void **ret_unit,
		      struct base_error *err)
{
	struct meta_adapter_info adapter;
	int rc = meta_adapter_get(table->env.meta, vtd->record.adapter, &adapter, err);
	struct vtd_target target = {
		.name = vtd->name,
		.vtd = &vtd->record,
		.adapter_name = adapter.name,
		.adapter = &adapter.record,
		.read_only = vtd->record.read_only || table->env.read_only,
	};

	if (rc < 0)
		return rc;
	item->ops = vtd_transport_find(adapter.record.transport);
	if (!item->ops)
		return base_error_set(err, -EOPNOTSUPP, "the transport %s is not in this release",
				      meta_transport_to_text(adapter.record.transport));
	if (vtd->record.backing == META_BACKING_DISK)
		rc = take_disk(table, item, &vtd->record, &target, err);
	else if (vtd->record.backing == META_BACKING_SNAPSHOT)
		rc = take_snapshot(table, item, &vtd->record, &target, err);
	if (rc == 0)
		rc = item->ops->start(&table->env, &target, ret_unit, err);
	if (rc < 0)
		put_backing(item);
	return rc;
}

/* work. Return: 0, also when it is served already; negative errno with err: the item has the reason. */
static int start(struct vtd_table *table, const struct meta_vtd_info *vtd, struct base_error *err)
{
	struct item *item = find_or_make(table, vtd->name);
	struct base_error why = { 0 };
	void *unit;

	if (!item)
		return base_error_set_errno(err, -ENOMEM, "%s", vtd->name);
	if (item->unit)
		return 0;
	int rc = start_unit(table, item, vtd, &unit, &why);
	set_unit(table, item, rc == 0 ? unit : NULL, rc == 0 ? NULL : why.text);
	if (rc < 0 && err)
		*err = why;
	return rc;
}

/* work. Return: 0; -EBUSY with err, without force: it is served as before. */
static int stop(struct vtd_table *table, struct item *item, bool force, struct base_error *err)
{
	void *unit = item->unit;

	if (!unit)
		return 0;
	set_unit(table, item, NULL, "it is being stopped");
	int rc = item->ops->stop(unit, force, err);
	if (rc < 0) {
		set_unit(table, item, unit, NULL);
		return base_error_wrap(err, "%s", item->name);
	}
	set_unit(table, item, NULL, "it was stopped");
	put_backing(item);
	return 0;
}

/* ---- all of them -------------------------------------------------------------------------- */

int vtd_table_open(const struct vtd_table_args *args, struct vtd_table **ret, struct base_error *err)
{
	struct vtd_table *table = calloc(1, sizeof(*table));

	if (!table)
		return base_error_set_errno(err, -ENOMEM, "the table of VTDs");
	table->env = (struct vtd_env){ .meta = args->meta,
				       .ioc = args->ioc,
				       .directory = args->directory,
				       .mountpoint = args->mountpoint,
				       .taken_over = args->taken_over,
				       .read_only = args->read_only };
	table->stopped = true;
	pthread_mutex_init(&table->work, NULL);
	pthread_mutex_init(&table->lock, NULL);
	*ret = table;
	return 0;
}

static void start_recorded(struct vtd_table *table)
{
	struct meta_vtd_info vtd = { 0 };
	struct meta_adapter_info adapter;
	struct base_error err;

	table->stopped = false;
	if (!table->swept && !table->env.taken_over && meta_adapter_next(table->env.meta, "", &adapter))
		vtd_loop_sweep(&table->env);
	table->swept = true;
	while (meta_vtd_next(table->env.meta, vtd.name, &vtd))
		if (start(table, &vtd, &err) < 0)
			log_error("VTD %s on %s can't be served: %s", vtd.name, vtd.record.adapter, err.text);
}

void vtd_table_start_all(struct vtd_table *table)
{
	pthread_mutex_lock(&table->work);
	start_recorded(table);
	pthread_mutex_unlock(&table->work);
}

/* Looked at first, so that the usual refusal disturbs nobody. */
static int check_unused(struct vtd_table *table, struct base_error *err)
{
	struct vtd_status status;

	for (struct item *item = table->items; item; item = item->next) {
		if (!item->unit)
			continue;
		item->ops->status(item->unit, &status);
		if (status.in_use)
			return base_error_set(err, -EBUSY, "VTD %s is in use: %s", item->name, status.who);
	}
	return 0;
}

int vtd_table_stop_all(struct vtd_table *table, bool force, struct base_error *err)
{
	pthread_mutex_lock(&table->work);
	int rc = force ? 0 : check_unused(table, err);
	if (rc == 0)
		table->stopped = true;
	for (struct item *item = table->items; item && rc == 0; item = item->next)
		rc = stop(table, item, force, err);
	if (rc < 0)
		start_recorded(table);
	pthread_mutex_unlock(&table->work);
	return rc;
}

void vtd_table_free(struct vtd_table *table)
{
	if (!table)
		return;
	pthread_mutex_lock(&table->work);
	while (table->items) {
		int rc = stop(table, table->items, true, NULL);
		assert(rc == 0);
		(void)rc;
		forget(table, table->items);
	}
	pthread_mutex_unlock(&table->work);
	pthread_mutex_destroy(&table->work);
	pthread_mutex_destroy(&table->lock);
	free(table);
}

/* ---- one of them -------------------------------------------------------------------------- */

static int serve_new(struct vtd_table *table, const struct meta_vtd_info *vtd, struct base_error *err)
{
	struct base_error undo_err = { 0 };
	int rc = table->stopped ? 0 : start(table, vtd, err);

	if (rc == 0)
		return 0;

	struct item *item = find(table, vtd->name);
	if (item)
		forget(table, item);
	if (meta_vtd_remove(table->env.meta, vtd->name, &undo_err) < 0)
		log_error("VTD %s was recorded, can't be served, and can't be removed: %s", vtd->name, undo_err.text);
	return rc;
}

int vtd_table_map(struct vtd_table *table, const struct meta_vtd_spec *spec, struct meta_vtd_info *ret,
		  struct base_error *err)
{
	pthread_mutex_lock(&table->work);
	int rc = meta_vtd_create(table->env.meta, spec, ret, err);
	if (rc == 0)
		rc = serve_new(table, ret, err);
	pthread_mutex_unlock(&table->work);
	return rc;
}

static int unmap(struct vtd_table *table, const struct meta_vtd_info *vtd, bool force, struct base_error *err)
{
	struct item *item = find(table, vtd->name);
	struct vtd_status status = { 0 };

	if (item && item->unit && !force) {
		item->ops->status(item->unit, &status);
		if (status.in_use)
			return base_error_set(err, -EBUSY,
					      "VTD %s on %s is in use: %s; let it go first, or add --force",
					      vtd->name, vtd->record.adapter, status.who);
	}
	int rc = item ? stop(table, item, force, err) : 0;
	if (rc < 0)
		return rc;
	rc = meta_vtd_remove(table->env.meta, vtd->name, err);
	if (rc < 0 && !table->stopped && start(table, vtd, NULL) < 0)
		log_error("VTD %s could not be removed, and can't be served again", vtd->name);
	if (rc == 0 && item)
		forget(table, item);
	return rc;
}

int vtd_table_unmap(struct vtd_table *table, const char *name, bool force, struct base_error *err)
{
	struct meta_vtd_info vtd;

	pthread_mutex_lock(&table->work);
	int rc = meta_vtd_get(table->env.meta, name, &vtd, err);
	if (rc == 0)
		rc = unmap(table, &vtd, force, err);
	pthread_mutex_unlock(&table->work);
	return rc;
}

int vtd_table_set_shared(struct vtd_table *table, const char *name, bool shared, struct base_error *err)
{
	pthread_mutex_lock(&table->work);
	struct item *item = find(table, name);
	unsigned files = item && item->unit ? item->ops->files : 0;
	int rc = meta_vtd_set_shared(table->env.meta, name, shared, files, err);
	pthread_mutex_unlock(&table->work);
	return rc;
}

/* ---- asking ------------------------------------------------------------------------------- */

void vtd_table_state(struct vtd_table *table, const char *name, struct vtd_state *ret)
{
	*ret = (struct vtd_state){ 0 };
	pthread_mutex_lock(&table->lock);
	struct item *item = find(table, name);
	ret->available = item && item->unit;
	if (ret->available)
		item->ops->status(item->unit, &ret->status);
	else
		snprintf(ret->reason, sizeof(ret->reason), "%s",
			 item && item->reason ? item->reason : "it has not been started yet");
	pthread_mutex_unlock(&table->lock);
}

int vtd_table_stats(struct vtd_table *table, const char *name, struct vtd_io_stats *ret)
{
	*ret = (struct vtd_io_stats){ 0 };
	pthread_mutex_lock(&table->lock);
	struct item *item = find(table, name);
	bool served = item && item->unit;
	if (served)
		item->ops->stats(item->unit, ret);
	pthread_mutex_unlock(&table->lock);
	return served ? 0 : -ENOENT;
}

void vtd_table_resized(struct vtd_table *table, uint64_t disk)
{
	pthread_mutex_lock(&table->work);
	for (struct item *item = table->items; item; item = item->next)
		if (item->unit && item->disk && meta_disk_number(item->disk) == disk)
			item->ops->resized(item->unit, meta_disk_size(item->disk));
	pthread_mutex_unlock(&table->work);
}
