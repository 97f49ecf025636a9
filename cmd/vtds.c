/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adapters and VTDs, as verbs see them: map, unmap, describe.
 *
 * VIOS maps with three verbs and unmaps with three. They differ in spelling; the work
 * is here.
 *
 * A VTD's row has VIOS's fields under VIOS's names (svsa, physloc, clientid, vtd,
 * status, lun, backing, bdphysloc, mirrored) and what VIOS does not know: the device
 * or socket, whether and by whom it is in use, why it is not served.
 *
 * Failure modes: as cmd/vtds.h says; nothing is left half done, see vtd/table.c.
 */
#include "cmd/vtds.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/uuid.h"
#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/snapshots.h"
#include "cmd/text.h"
#include "iocore/raw.h"
#include "vtd/adapters.h"
#include "vtd/table.h"

/* After the last close of a file its RELEASE may still be on the way from the kernel. */
#define RELEASE_PATIENCE_NS UINT64_C(300000000)

#define CMD_BACKING_TEXT_BYTES (2 * NAME_BYTES_MAX + 2) /* DISK@SNAPSHOT */

static struct vtd_table *table_of(const struct cmd_context *ctx)
{
	return ctx->service ? ctx->service->vtds : NULL;
}

/* ---- what is mapped ----------------------------------------------------------------------- */

int cmd_backing_find(struct cmd_context *ctx, const char *text, struct cmd_backing *ret, struct base_error *err)
{
	int rc = 0;

	*ret = (struct cmd_backing){ .path = strchr(text, '/') ? text : NULL };
	if (ret->path)
		return 0;
	/* A disk's name may hold an '@', and goes first. */
	ret->disk = strchr(text, '@') ? meta_disk_get_by_name(ctx->meta, text) : NULL;
	if (!ret->disk)
		rc = strchr(text, '@') ? cmd_snapshot_find(ctx, text, &ret->snapshot, err) :
					 cmd_disk_find(ctx, text, &ret->disk, err);
	if (rc == 0)
		ctx->subject = CMD_SUBJECT_NONE;
	return rc;
}

void cmd_backing_put(struct cmd_backing *backing)
{
	if (backing->disk)
		meta_disk_put(backing->disk);
	if (backing->snapshot)
		meta_snapshot_put(backing->snapshot);
	*backing = (struct cmd_backing){ 0 };
}

static void fill_snapshot(struct meta_snapshot *snapshot, struct meta_vtd_record *rec)
{
	char uuid[BASE_UUID_TEXT_BYTES];
	struct meta_snapshot_info info;

	meta_snapshot_info(snapshot, &info);
	rec->backing = META_BACKING_SNAPSHOT;
	snprintf(rec->identity, sizeof(rec->identity), "%s", base_uuid_to_text(info.uuid, uuid));
	rec->read_only = rec->shared = true;
}

static struct meta_snapshot *snapshot_of(struct cmd_context *ctx, const struct meta_vtd_record *rec)
{
	struct base_uuid uuid;

	if (rec->backing != META_BACKING_SNAPSHOT || base_uuid_parse(rec->identity, &uuid) < 0)
		return NULL;
	return meta_snapshot_get_by_uuid(ctx->meta, uuid);
}

/* ---- mapping ------------------------------------------------------------------------------ */

static int check_path(const char *path, struct base_error *err)
{
	if (path[0] != '/')
		return base_error_set(err, -EINVAL, "%s: not an absolute path", path);
	if (strlen(path) > META_BACKING_PATH_BYTES_MAX)
		return base_error_set(err, -ENAMETOOLONG, "%s: the path has more than %d bytes", path,
				      META_BACKING_PATH_BYTES_MAX);
	for (const char *c = path; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return base_error_set(err, -EINVAL, "the path has a control character");
	return 0;
}

/* The second of two that share is not in its own way. */
static bool is_mapped(struct cmd_context *ctx, const char *identity)
{
	struct meta_vtd_info vtd = { 0 };

	while (meta_vtd_next(ctx->meta, vtd.name, &vtd))
		if (strcmp(vtd.record.identity, identity) == 0)
			return true;
	return false;
}

static int fill_path(struct cmd_context *ctx, const char *path, struct meta_vtd_record *rec, const char **ret_format,
		     struct base_error *err)
{
	struct ioc_raw_look look;
	int rc = check_path(path, err);

	/* The daemon would open it with its own rights. */
	if (rc == 0 && ctx->uid != 0 && ctx->uid != geteuid())
		rc = base_error_set(err, -EPERM, "%s: only root and the daemon's user can map what is outside the pool",
				    path);
	if (rc == 0)
		rc = ioc_raw_look(path, ctx->service ? ctx->service->mountpoint : NULL, &look, err);
	/* What is mapped already the catalogue refuses, or lets through, with better words. */
	if (rc == 0 && !is_mapped(ctx, look.identity))
		rc = ioc_raw_check_free(path, &look, ret_format, err);
	if (rc < 0)
		return rc;
	rec->backing = look.is_file ? META_BACKING_FILE : META_BACKING_DEVICE;
	snprintf(rec->path, sizeof(rec->path), "%s", path);
	snprintf(rec->identity, sizeof(rec->identity), "%s", look.identity);
	return 0;
}

static void warn_of_format(json_t *row, const char *path, const char *format)
{
	char text[META_BACKING_PATH_BYTES_MAX + 256];

	if (!format)
		return;
	snprintf(text, sizeof(text),
		 "%s begins as a %s image; it is served as the raw bytes that it is, not as the disk inside. To get "
		 "that, convert it (qemu-img convert -O raw)",
		 path, format);
	json_object_set_new(row, "warning", cmd_text_to_json(text));
	log_warning("%s", text);
}

static int create(struct cmd_context *ctx, const struct meta_vtd_spec *spec, struct meta_vtd_info *ret,
		  struct base_error *err)
{
	struct vtd_table *table = table_of(ctx);

	return table ? vtd_table_map(table, spec, ret, err) : meta_vtd_create(ctx->meta, spec, ret, err);
}

static int fill_spec(struct cmd_context *ctx, const struct cmd_mapping *mapping, struct meta_vtd_spec *spec,
		     struct meta_adapter_record *adapter, const char **ret_format, struct base_error *err)
{
	struct meta_pool_info info;
	int rc = meta_device_name_check(mapping->adapter, err);

	if (rc == 0 && mapping->name)
		rc = meta_device_name_check(mapping->name, err);
	if (rc < 0)
		return rc;
	snprintf(spec->name, sizeof(spec->name), "%s", mapping->name ? mapping->name : "");
	snprintf(spec->record.adapter, sizeof(spec->record.adapter), "%s", mapping->adapter);
	spec->record.read_only = mapping->read_only;
	spec->record.shared = mapping->shared;
	if (mapping->backing.disk)
		spec->record.disk = meta_disk_number(mapping->backing.disk);
	else if (mapping->backing.snapshot)
		fill_snapshot(mapping->backing.snapshot, &spec->record);
	else
		rc = fill_path(ctx, mapping->backing.path, &spec->record, ret_format, err);
	if (rc < 0)
		return rc;
	meta_pool_info(ctx->meta, &info);
	rc = vtd_adapter_default(info.name, mapping->adapter, mapping->transport, adapter, err);
	if (rc == 0)
		spec->adapter = adapter;
	return MIN(rc, 0);
}

int cmd_vtd_map(struct cmd_context *ctx, const struct cmd_mapping *mapping, json_t **ret_row, struct base_error *err)
{
	struct meta_vtd_spec spec = { 0 };
	struct meta_adapter_record adapter;
	const char *format = NULL;
	struct meta_vtd_info vtd;
	int rc = fill_spec(ctx, mapping, &spec, &adapter, &format, err);

	/* Whether it is really over, the catalogue decides. */
	if (rc == 0 && mapping->backing.disk && !mapping->shared)
		(void)!meta_disk_wait_files(mapping->backing.disk, 0, RELEASE_PATIENCE_NS);
	if (rc == 0)
		rc = create(ctx, &spec, &vtd, err);
	if (rc < 0)
		return rc;

	json_t *rows = cmd_mappings_to_json(ctx, &(struct cmd_mapping_filter){ .vtd = vtd.name });

	*ret_row = json_incref(json_array_get(rows, 0));
	json_decref(rows);
	if (*ret_row)
		warn_of_format(*ret_row, mapping->backing.path, format);
	return *ret_row ? 0 : base_error_set(err, -ENOMEM, "%s is mapped; out of memory for the answer", vtd.name);
}

/* Return: 0; CMD_ARG_ABSENT: *ret is NULL then; negative errno. */
static int optional_text(const json_t *args, const char *option, char *buf, size_t room, const char **ret,
			 struct base_error *err)
{
	int rc = cmd_arg_text(args, option, buf, room, err);

	*ret = rc == 0 ? buf : NULL;
	return rc;
}

int cmd_vtd_map_by_args(struct cmd_context *ctx, const json_t *args, const char *name_option,
			const struct cmd_backing *backing, json_t **ret_row, struct base_error *err)
{
	struct cmd_mapping mapping = { .backing = *backing,
				       .shared = cmd_arg_flag(args, "shared"),
				       .read_only = cmd_arg_flag(args, "ro") };
	char adapter[256], name[256], transport[160];
	int rc = optional_text(args, "vadapter", adapter, sizeof(adapter), &mapping.adapter, err);

	if (rc == CMD_ARG_ABSENT)
		return base_error_set(err, -EINVAL, "-vadapter is missing: say where to, such as vhost0 or loop");
	if (rc == 0)
		rc = optional_text(args, name_option, name, sizeof(name), &mapping.name, err);
	if (rc >= 0)
		rc = optional_text(args, "transport", transport, sizeof(transport), &mapping.transport, err);
	return rc < 0 ? rc : cmd_vtd_map(ctx, &mapping, ret_row, err);
}

int cmd_vtd_is_asked(const json_t *args, const char *name_option, struct base_error *err)
{
	const char *const others[] = { name_option, "shared", "ro", "transport" };

	for (size_t i = 0; i < ARRAY_LEN(others) && !cmd_arg_is_set(args, "vadapter"); i++)
		if (cmd_arg_is_set(args, others[i]))
			return base_error_set(err, -EINVAL, "-%s goes with -vadapter", others[i]);
	if (cmd_arg_is_set(args, "vadapter") && cmd_arg_is_set(args, "count"))
		return base_error_set(err, -EINVAL, "-count and -vadapter can't go together: map the disks one by one");
	return cmd_arg_is_set(args, "vadapter");
}

static void remove_again(struct cmd_context *ctx, struct meta_disk *disk, const char *name, struct base_error *err)
{
	struct base_error remove_err = { 0 };

	if (cmd_disk_remove(ctx, disk, false, &remove_err) < 0)
		base_error_wrap(err, "%s was made and stays (%s), but", name, remove_err.text);
	else
		base_error_wrap(err, "%s was not made", name);
}

int cmd_vtd_map_named(struct cmd_context *ctx, const json_t *args, const char *name_option, const char *name,
		      bool made, json_t **ret_result, struct base_error *err)
{
	struct meta_disk *disk = NULL;
	json_t *row = NULL;
	int rc = cmd_disk_find(ctx, name, &disk, err);

	if (rc == 0) {
		ctx->subject = CMD_SUBJECT_NONE;
		rc = cmd_vtd_map_by_args(ctx, args, name_option, &(struct cmd_backing){ .disk = disk }, &row, err);
		if (rc < 0 && made)
			remove_again(ctx, disk, name, err);
		meta_disk_put(disk);
	}
	if (rc < 0) {
		json_decref(*ret_result);
		*ret_result = NULL;
		return rc;
	}
	if (!*ret_result)
		*ret_result = json_object();
	json_object_set_new(*ret_result, "mapping", row);
	return 0;
}

/* ---- unmapping ---------------------------------------------------------------------------- */

int cmd_vtd_unmap(struct cmd_context *ctx, const char *name, bool force, struct base_error *err)
{
	struct vtd_table *table = table_of(ctx);

	return table ? vtd_table_unmap(table, name, force, err) : meta_vtd_remove(ctx->meta, name, err);
}

static bool maps(const struct meta_vtd_record *rec, const struct cmd_backing *backing)
{
	struct meta_vtd_record wanted = { 0 };

	if (backing->disk)
		return rec->backing == META_BACKING_DISK && rec->disk == meta_disk_number(backing->disk);
	if (backing->path)
		return strcmp(rec->path, backing->path) == 0; /* of disks and snapshots it is empty */
	fill_snapshot(backing->snapshot, &wanted);
	return rec->backing == META_BACKING_SNAPSHOT && strcmp(rec->identity, wanted.identity) == 0;
}

static const char *backing_name(const struct cmd_backing *backing, char text[CMD_BACKING_TEXT_BYTES])
{
	struct meta_snapshot_info snapshot;
	struct meta_disk_info disk;

	if (backing->path)
		return backing->path;
	if (backing->disk) {
		meta_disk_info(backing->disk, &disk);
		snprintf(text, CMD_BACKING_TEXT_BYTES, "%s", disk.record.name);
	} else {
		meta_snapshot_info(backing->snapshot, &snapshot);
		snprintf(text, CMD_BACKING_TEXT_BYTES, "%s@%s", snapshot.disk_name, snapshot.name);
	}
	return text;
}

int cmd_vtd_of(struct cmd_context *ctx, const struct cmd_backing *backing, struct meta_vtd_info *ret,
	       struct base_error *err)
{
	char text[CMD_BACKING_TEXT_BYTES];
	const char *name = backing_name(backing, text);
	struct meta_vtd_info vtd = { 0 };
	unsigned count = 0;

	while (meta_vtd_next(ctx->meta, vtd.name, &vtd)) {
		if (!maps(&vtd.record, backing))
			continue;
		if (count++ > 0)
			return base_error_set(
				err, -EBUSY,
				"%s is mapped more than once, as %s and %s: say which with -vtd, or --all",
				name, ret->name, vtd.name);
		*ret = vtd;
	}
	if (count == 0)
		return base_error_set(err, -ENOENT, "%s is not mapped", name);
	return 0;
}

/* ---- describing --------------------------------------------------------------------------- */

static const char *type_of(struct cmd_context *ctx, const struct meta_vtd_record *rec)
{
	if (rec->backing == META_BACKING_SNAPSHOT)
		return "snapshot";
	if (rec->backing != META_BACKING_DISK)
		return rec->backing == META_BACKING_DEVICE ? "disk" : "file";

	struct meta_disk *disk = meta_disk_get_by_number(ctx->meta, rec->disk);
	bool is_lv = disk && meta_disk_kind(disk) == META_DISK_LV;

	if (disk)
		meta_disk_put(disk);
	return is_lv ? "lv" : "cl_disk";
}

bool cmd_mapping_type_is_in(const json_t *types, const char *type)
{
	const json_t *it;
	size_t i;

	json_array_foreach(types, i, it)
		if (strcmp(json_string_value(it), type) == 0)
			return true;
	return !types;
}

int cmd_mapping_types_check(const json_t *types, const char *another, struct base_error *err)
{
	static const char *const known[] = { "cl_disk", "lv", "snapshot", "disk", "file" };
	const json_t *it;
	size_t i;

	json_array_foreach(types, i, it) {
		bool is_known = another && strcmp(json_string_value(it), another) == 0;

		for (size_t k = 0; k < ARRAY_LEN(known); k++)
			is_known |= strcmp(json_string_value(it), known[k]) == 0;
		if (!is_known)
			return base_error_set(err, -EINVAL, "-type %.40s: there are " CMD_MAPPING_TYPES "%s%s",
					      json_string_value(it), another ? " and " : "", another ? another : "");
	}
	return 0;
}

/* "web1", "web1@monday"; null: outside the pool, or gone. */
static json_t *bd_to_json(const struct cmd_backing *backing)
{
	char text[CMD_BACKING_TEXT_BYTES];

	return backing->disk || backing->snapshot ? cmd_text_to_json(backing_name(backing, text)) : json_null();
}

/* "web1.d9ce0a...", as VIOS writes a logical unit; a path as it is. */
static json_t *backing_to_json(struct meta_disk *disk, const struct meta_vtd_record *rec)
{
	char uuid[BASE_UUID_TEXT_BYTES], text[NAME_BYTES_MAX + 1 + BASE_UUID_TEXT_BYTES];
	struct meta_disk_info info;
	size_t used;

	if (!disk)
		return rec->path[0] ? cmd_text_to_json(rec->path) : json_null();
	meta_disk_info(disk, &info);
	used = (size_t)snprintf(text, sizeof(text), "%s.", info.record.name);
	base_uuid_to_text(info.record.uuid, uuid);
	for (const char *c = uuid; *c; c++)
		if (*c != '-')
			text[used++] = *c;
	text[used] = '\0';
	return cmd_text_to_json(text);
}

static json_t *stats_to_json(const struct vtd_io_stats *s)
{
	json_t *latency = json_array();

	for (size_t i = 0; i < VTD_LATENCY_BUCKETS; i++)
		json_array_append_new(latency, json_integer((json_int_t)s->latency[i]));
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "reads", (json_int_t)s->reads,
			 "writes", (json_int_t)s->writes, "flushes", (json_int_t)s->flushes, "discards",
			 (json_int_t)s->discards, "write_zeroes", (json_int_t)s->write_zeroes, "read_bytes",
			 (json_int_t)s->read_bytes, "write_bytes", (json_int_t)s->write_bytes, "discard_bytes",
			 (json_int_t)s->discard_bytes, "errors", (json_int_t)s->errors, "resubmitted",
			 (json_int_t)s->resubmitted, "inflight", (json_int_t)s->inflight, "latency_log2_us", latency);
}

static void add_state(struct cmd_context *ctx, json_t *row, const char *name)
{
	struct vtd_table *table = table_of(ctx);
	struct vtd_state state = { .reason = "the pool is not mounted" };

	if (table)
		vtd_table_state(table, name, &state);
	json_object_set_new(row, "status", json_string(state.available ? "Available" : "Defined"));
	json_object_set_new(row, "reason", !state.available	 ? cmd_text_to_json(state.reason)
					   : state.status.trouble ? json_string(state.status.trouble)
								  : json_null());
	json_object_set_new(row, "device", state.available ? cmd_text_to_json(state.status.device) : json_null());
	json_object_set_new(row, "in_use", json_boolean(state.available && state.status.in_use));
	json_object_set_new(row, "who", state.available && state.status.in_use ? cmd_text_to_json(state.status.who)
									      : json_null());
}

static void add_stats(struct cmd_context *ctx, json_t *row, const char *name)
{
	struct vtd_table *table = table_of(ctx);
	struct vtd_io_stats stats;
	bool served = table && vtd_table_stats(table, name, &stats) == 0;

	json_object_set_new(row, "stats", served ? stats_to_json(&stats) : json_null());
}

static json_t *row_of(struct cmd_context *ctx, const struct meta_vtd_info *vtd, bool with_stats)
{
	const struct meta_vtd_record *rec = &vtd->record;
	struct meta_disk *disk = rec->backing == META_BACKING_DISK ? meta_disk_get_by_number(ctx->meta, rec->disk)
								   : NULL;
	struct cmd_backing backing = { .disk = disk, .snapshot = snapshot_of(ctx, rec) };
	struct meta_adapter_info adapter = { 0 };
	bool known = meta_adapter_get(ctx->meta, rec->adapter, &adapter, NULL) == 0;
	char lun[24];

	snprintf(lun, sizeof(lun), "0x%016" PRIx64, rec->lun);

	json_t *row = json_pack(
		"{s:s, s:o, s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:s, s:b, s:b, s:I}", "svsa", rec->adapter,
		"physloc", known ? cmd_text_to_json(adapter.record.physloc) : json_null(), "clientid",
		known ? cmd_text_to_json(adapter.record.client) : json_null(), "vtd", vtd->name, "lun", lun, "type",
		type_of(ctx, rec), "backing", backing.snapshot ? bd_to_json(&backing) : backing_to_json(disk, rec),
		"bd", bd_to_json(&backing), "bdphysloc",
		disk ? json_null() : cmd_text_to_json(rec->identity), "mirrored", "false", "transport",
		known ? meta_transport_to_text(adapter.record.transport) : "unknown", "read_only", rec->read_only,
		"shared", rec->shared, "created_s", (json_int_t)rec->created_s);

	add_state(ctx, row, vtd->name);
	if (with_stats)
		add_stats(ctx, row, vtd->name);
	cmd_backing_put(&backing);
	return row;
}

/* By adapter as they are listed, then by LUN. */
static int by_place(const void *pa, const void *pb)
{
	const struct meta_vtd_info *a = pa, *b = pb;
	size_t a_length = strlen(a->record.adapter), b_length = strlen(b->record.adapter);
	int order = a_length != b_length ? (a_length < b_length ? -1 : 1)
					: strcmp(a->record.adapter, b->record.adapter);
	uint32_t a_lun = meta_lun_to_index(a->record.lun), b_lun = meta_lun_to_index(b->record.lun);

	return order ? order : (a_lun > b_lun) - (a_lun < b_lun);
}

static bool passes(struct cmd_context *ctx, const struct meta_vtd_info *vtd, const struct cmd_mapping_filter *filter)
{
	return (!filter->adapter || strcmp(filter->adapter, vtd->record.adapter) == 0) &&
	       (!filter->vtd || strcmp(filter->vtd, vtd->name) == 0) &&
	       cmd_mapping_type_is_in(filter->types, type_of(ctx, &vtd->record));
}

json_t *cmd_mappings_to_json(struct cmd_context *ctx, const struct cmd_mapping_filter *filter)
{
	struct meta_vtd_info *all = NULL, vtd = { 0 };
	json_t *rows = json_array();
	size_t count = 0, room = 0;

	while (meta_vtd_next(ctx->meta, vtd.name, &vtd)) {
		if (!passes(ctx, &vtd, filter))
			continue;
		if (count == room) {
			struct meta_vtd_info *more = realloc(all, (room = MAX(16, room * 2)) * sizeof(*all));
			if (!more) {
				free(all);
				json_decref(rows);
				return NULL;
			}
			all = more;
		}
		all[count++] = vtd;
	}
	if (count > 1)
		qsort(all, count, sizeof(*all), by_place);
	for (size_t i = 0; i < count; i++)
		json_array_append_new(rows, row_of(ctx, &all[i], filter->with_stats));
	free(all);
	return rows;
}

json_t *cmd_adapters_to_json(struct cmd_context *ctx, const char *adapter)
{
	struct meta_adapter_info info = { 0 };
	json_t *rows = json_array();

	while (meta_adapter_next(ctx->meta, info.name, &info)) {
		if (adapter && strcmp(adapter, info.name) != 0)
			continue;
		json_array_append_new(rows, json_pack("{s:s, s:s, s:o, s:o, s:i, s:I}", "svsa", info.name,
						      "transport", meta_transport_to_text(info.record.transport),
						      "physloc", cmd_text_to_json(info.record.physloc), "clientid",
						      cmd_text_to_json(info.record.client), "vtds", (int)info.vtds,
						      "created_s", (json_int_t)info.record.created_s));
	}
	return rows;
}
