/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks, as verbs see them: find, make, resize, remove, describe.
 *
 * VIOS has two families of verbs for one job (mkbdsp, chbdsp, rmbdsp and lu).
 * They differ in spelling and in what -size means; the work is here, so that
 * they can't differ in anything else.
 *
 * Each function names the disk in its error and notes in the context that the
 * error is about a disk, from which the exit status follows. Disks made by a
 * verb belong to the owner of the pool, whoever of the two that may ask (owner,
 * root) asked, so that the owner can open them in the mount.
 *
 * In a mounted pool the kernel keeps names and sizes of the mount in its cache;
 * after a change or a removal the service around us is told, so that it drops
 * them. (A disk that is new is in no cache.)
 *
 * Failure modes: a disk that is open can't be removed or made shorter (-EBUSY,
 * and what to do), one that has snapshots not removed unless they may go with it; removing all checks all before it
 * removes one, and if it fails on the way still tells which are gone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/units.h"
#include "base/uuid.h"
#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/snapshots.h"
#include "cmd/text.h"
#include "cmd/volumes.h"
#include "iocore/pool.h"
#include "meta/pool.h"
#include "meta/snapshot.h"
#include "meta/targets.h"

/* After the last close of a file its RELEASE may still be on the way from the kernel. */
#define RELEASE_PATIENCE_NS UINT64_C(300000000)

static void pool_name(struct cmd_context *ctx, char buf[NAME_BYTES_MAX + 1])
{
	struct meta_pool_info info;

	meta_pool_info(ctx->meta, &info);
	memcpy(buf, info.name, NAME_BYTES_MAX + 1);
}

int cmd_disk_find(struct cmd_context *ctx, const char *name, struct meta_disk **ret, struct base_error *err)
{
	char pool[NAME_BYTES_MAX + 1];
	int r = meta_name_check(name, err);

	ctx->subject = CMD_SUBJECT_BD;
	if (r < 0)
		return base_error_wrap(err, "%s", name);
	*ret = meta_disk_get_by_name(ctx->meta, name);
	if (*ret)
		return 0;
	pool_name(ctx, pool);
	return base_error_set(err, -ENOENT, "%s: no such disk in pool %s; `bdfs lssp -bd -sp %s` lists them", name,
			      pool, pool);
}

int cmd_disk_find_udid(struct cmd_context *ctx, const char *text, struct meta_disk **ret, struct base_error *err)
{
	char pool[NAME_BYTES_MAX + 1];
	struct base_uuid uuid;

	ctx->subject = CMD_SUBJECT_BD;
	if (base_uuid_parse(text, &uuid) < 0)
		return base_error_set(err, -EINVAL, "%s: not a UDID (32 hexadecimal digits)", text);
	*ret = meta_disk_get_by_uuid(ctx->meta, uuid);
	if (*ret)
		return 0;
	pool_name(ctx, pool);
	return base_error_set(err, -ENOENT, "%s: no disk of pool %s has this UDID", text, pool);
}

int cmd_disk_find_by_args(struct cmd_context *ctx, const json_t *args, const char *name_option,
			  const char *uuid_option, struct meta_disk **ret, struct base_error *err)
{
	const char *const either[] = { name_option, uuid_option, NULL };
	char text[4 * NAME_BYTES_MAX];
	int which = cmd_arg_one_of(args, either, err);
	int r = which < 0 ? which : cmd_arg_text(args, either[which], text, sizeof(text), err);

	if (r == -ENAMETOOLONG)
		ctx->subject = CMD_SUBJECT_BD;
	if (r < 0)
		return r;
	return which == 0 ? cmd_disk_find(ctx, text, ret, err) : cmd_disk_find_udid(ctx, text, ret, err);
}

static int check_size(const char *name, uint64_t size_bytes, struct base_error *err)
{
	char max[BASE_SIZE_TEXT_BYTES];

	if (size_bytes == 0)
		return base_error_set(err, -EINVAL, "%s: a disk of size 0: give a size, such as 20G", name);
	if (size_bytes > DISK_BYTES_MAX)
		return base_error_set(err, -EFBIG, "%s: %llu bytes is more than the largest disk, %s", name,
				      (unsigned long long)size_bytes, base_size_to_text(DISK_BYTES_MAX, max));
	return 0;
}

static int fill_spec(struct cmd_context *ctx, struct meta_disk_spec *spec, const char *name, int64_t index,
		     struct base_error *err)
{
	int n = index < 0 ? snprintf(spec->name, sizeof(spec->name), "%s", name)
			  : snprintf(spec->name, sizeof(spec->name), "%s%lld", name, (long long)index);

	if (n < 0 || (size_t)n >= sizeof(spec->name)) {
		ctx->subject = CMD_SUBJECT_BD;
		return base_error_set(err, -ENAMETOOLONG, "%s: a disk's name has at most %d bytes", name,
				      NAME_BYTES_MAX);
	}
	return 0;
}

/* The owner of the pool's directory. */
static void fill_owner(struct cmd_context *ctx, struct meta_disk_spec *spec)
{
	struct stat st;

	if (stat(ctx->directory, &st) == 0) {
		spec->uid = st.st_uid;
		spec->gid = st.st_gid;
	}
}

static json_t *created_to_json(struct cmd_context *ctx, const uint64_t *numbers, size_t count)
{
	char pool[NAME_BYTES_MAX + 1];
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++) {
		struct meta_disk *disk = meta_disk_get_by_number(ctx->meta, numbers[i]);

		if (!disk) /* removed again already, by somebody else */
			continue;
		json_array_append_new(list, cmd_disk_to_json(disk));
		meta_disk_put(disk);
	}
	pool_name(ctx, pool);
	return json_pack("{s:o, s:o}", "pool", cmd_text_to_json(pool), "disks", list);
}

static int create_specs(struct cmd_context *ctx, const struct meta_disk_spec *specs, size_t count,
			json_t **ret_result, struct base_error *err)
{
	uint64_t *numbers = calloc(count, sizeof(*numbers));

	if (!numbers)
		return base_error_set(err, -ENOMEM, "out of memory for %zu disks", count);

	int r = meta_disk_create(ctx->meta, specs, count, numbers, err);

	if (r == -ENAMETOOLONG)
		ctx->subject = CMD_SUBJECT_BD;
	if (r == 0)
		*ret_result = created_to_json(ctx, numbers, count);
	free(numbers);
	return r;
}

int cmd_disk_create(struct cmd_context *ctx, const char *name, uint64_t size_bytes, int64_t count,
		    uint32_t logical_block_bytes, bool thick, json_t **ret_result, struct base_error *err)
{
	size_t disks = count > 0 ? (size_t)count : 1;
	int r = check_size(name, size_bytes, err);

	if (r < 0)
		return r;
	if (count < 0 || disks > CMD_DISKS_AT_ONCE_MAX)
		return base_error_set(err, -EINVAL, "-count: must be from 1 to %d", CMD_DISKS_AT_ONCE_MAX);

	struct meta_disk_spec *specs = calloc(disks, sizeof(*specs));

	if (!specs)
		return base_error_set(err, -ENOMEM, "out of memory for %zu disks", disks);
	for (size_t i = 0; i < disks && r == 0; i++) {
		specs[i].logical_block_bytes = logical_block_bytes;
		/* At least what was asked for, in whole blocks: what VIOS does with its partitions. */
		specs[i].size_bytes = round_up_to(size_bytes, logical_block_bytes ? logical_block_bytes : 512);
		specs[i].kind = thick ? META_DISK_THICK : META_DISK_THIN;
		fill_owner(ctx, &specs[i]);
		r = fill_spec(ctx, &specs[i], name, count > 0 ? (int64_t)i : -1, err);
	}
	if (r == 0)
		r = create_specs(ctx, specs, disks, ret_result, err);
	free(specs);
	return r;
}

static void disk_name(struct meta_disk *disk, char buf[NAME_BYTES_MAX + 1])
{
	struct meta_disk_info info;

	meta_disk_info(disk, &info);
	memcpy(buf, info.record.name, NAME_BYTES_MAX + 1);
}

static int resize_open(struct cmd_context *ctx, struct ioc_bd *bd, const char *name, uint64_t new_bytes,
		       struct base_error *err)
{
	struct ioc_request req = { .op = IOC_OP_RESIZE, .bd = bd, .offset = new_bytes };
	int r = ioc_bd_call(ctx->ioc, &req);

	if (r < 0)
		return base_error_set_errno(err, r, "%s: can't be resized to %llu bytes", name,
					    (unsigned long long)new_bytes);
	if (ctx->service)
		ctx->service->disk_changed(ctx->service, meta_disk_number(ioc_disk_meta(bd)));
	return 0;
}

int cmd_disk_resize(struct cmd_context *ctx, struct meta_disk *disk, uint64_t new_bytes, struct base_error *err)
{
	char name[NAME_BYTES_MAX + 1];
	struct ioc_bd *bd;

	disk_name(disk, name);

	int r = check_size(name, new_bytes, err);

	if (r < 0)
		return r;
	if (meta_disk_kind(disk) == META_DISK_LV && new_bytes < meta_disk_size(disk))
		return base_error_set(err, -EINVAL, "%s: is a logical volume, which never gets smaller", name);
	if (meta_disk_kind(disk) == META_DISK_LV)
		return cmd_volume_extend(ctx, disk, new_bytes, err) < 0 ? base_error_wrap(err, "%s", name) : 0;
	if (new_bytes < meta_disk_size(disk)) {
		r = meta_disk_wait_closed(disk, RELEASE_PATIENCE_NS);
		if (r < 0)
			return base_error_set(
				err, -EBUSY,
				"%s: in use (open %u times), so it can't be made smaller: close it first", name,
				meta_disk_opens(disk));
	}
	if (meta_disk_kind(disk) == META_DISK_THICK && new_bytes > meta_disk_size(disk))
		r = meta_pool_await_space(ctx->meta, new_bytes - meta_disk_size(disk), err);
	if (r < 0)
		return r;
	r = ioc_disk_open(ctx->ioc, disk, &bd, err);
	if (r < 0)
		return base_error_wrap(err, "%s: can't be opened to resize it", name);
	r = resize_open(ctx, bd, name, new_bytes, err);
	ioc_disk_close(bd);
	return r;
}

static int convert_open(struct cmd_context *ctx, struct ioc_bd *bd, const char *name, bool thick,
			struct base_error *err)
{
	struct ioc_request req = { .op = IOC_OP_RESIZE, .bd = bd, .flags = thick ? IOC_MAKE_THICK : IOC_MAKE_THIN };
	char size[BASE_SIZE_TEXT_BYTES], free_text[BASE_SIZE_TEXT_BYTES];
	struct meta_disk *disk = ioc_disk_meta(bd);
	struct meta_disk_info info;
	struct meta_pool_info pool;
	int r = ioc_bd_call(ctx->ioc, &req);

	if (r != -ENOSPC)
		return r < 0 ? base_error_set_errno(err, r, "%s: not converted", name) : 0;
	meta_disk_info(disk, &info);
	meta_pool_info(ctx->meta, &pool);
	return base_error_set(err, r,
			      "%s: can't be made thick: of its %s it has not got %s yet, and the pool has %s that is "
			      "neither used nor reserved: free space, or add some with chsp -add",
			      name, base_size_to_text(info.size_bytes, size),
			      base_size_to_text(info.size_bytes - MIN(info.allocated_bytes, info.size_bytes),
						(char[BASE_SIZE_TEXT_BYTES]){ 0 }),
			      base_size_to_text(pool.free_chunks * CHUNK_BYTES, free_text));
}

int cmd_disk_convert(struct cmd_context *ctx, struct meta_disk *disk, bool thick, struct base_error *err)
{
	char name[NAME_BYTES_MAX + 1];
	struct meta_disk_info info;
	struct ioc_bd *bd;
	int r;

	disk_name(disk, name);
	if (meta_disk_kind(disk) == META_DISK_LV)
		return base_error_set(err, -EINVAL,
				      "%s: is a logical volume, which has all its space: copy it with cplv", name);
	meta_disk_info(disk, &info);
	r = thick ? meta_pool_await_space(ctx->meta,
					  info.size_bytes - MIN(info.allocated_bytes, info.size_bytes), err)
		  : 0;
	if (r == 0)
		r = ioc_disk_open(ctx->ioc, disk, &bd, err);
	if (r < 0)
		return r;
	r = convert_open(ctx, bd, name, thick, err);
	ioc_disk_close(bd);
	return r;
}

/* Return: 0, or -EBUSY with err saying which snapshots stand in the way. */
static int check_no_snapshots(struct meta_disk *disk, const char *name, struct base_error *err)
{
	struct meta_snapshot *first = meta_snapshot_next(disk, "");
	struct meta_snapshot_info info;

	if (!first)
		return 0;
	meta_snapshot_info(first, &info);
	meta_snapshot_put(first);
	return base_error_set(err, -EBUSY,
			      "%s: has snapshots (%u, the first is %s): remove them first, or add --with-snapshots "
			      "to remove them with it",
			      name, meta_snapshot_count(disk), info.name);
}

/* The catalogue refuses it too; here the holder is named before anybody waits for him. */
static int check_not_mapped(struct cmd_context *ctx, struct meta_disk *disk, const char *name, struct base_error *err)
{
	struct meta_vtd_info vtd;

	if (!meta_vtd_next_of_disk(ctx->meta, meta_disk_number(disk), "", &vtd))
		return 0;
	return base_error_set(err, -EBUSY, "%s: mapped, as VTD %s on %s: unmap it first (`bdfs rmvdev -vtd %s`)", name,
			      vtd.name, vtd.record.adapter, vtd.name);
}

static int check_snapshots_not_mapped(struct cmd_context *ctx, struct meta_disk *disk, struct base_error *err)
{
	char after[NAME_BYTES_MAX + 1] = "";
	struct meta_snapshot_info info;
	struct meta_snapshot *snapshot;
	int r = 0;

	while (r == 0 && (snapshot = meta_snapshot_next(disk, after))) {
		meta_snapshot_info(snapshot, &info);
		memcpy(after, info.name, sizeof(after));
		r = cmd_snapshot_check_not_mapped(ctx, snapshot, err);
		meta_snapshot_put(snapshot);
	}
	return r;
}

int cmd_disk_check_unused(struct cmd_context *ctx, struct meta_disk *disk, const char *to_do, struct base_error *err)
{
	char name[NAME_BYTES_MAX + 1];

	disk_name(disk, name);
	if (check_not_mapped(ctx, disk, name, err) < 0)
		return -EBUSY;
	if (meta_disk_wait_closed(disk, RELEASE_PATIENCE_NS) < 0)
		return base_error_set(err, -EBUSY, "%s: in use (open %u times): close what uses it, then %s", name,
				      meta_disk_opens(disk), to_do);
	return 0;
}

int cmd_disk_remove(struct cmd_context *ctx, struct meta_disk *disk, bool with_snapshots, struct base_error *err)
{
	char name[NAME_BYTES_MAX + 1];
	uint64_t number = meta_disk_number(disk);

	disk_name(disk, name);
	if (!with_snapshots && check_no_snapshots(disk, name, err) < 0)
		return -EBUSY;
	if (cmd_disk_check_unused(ctx, disk, "remove it", err) < 0)
		return -EBUSY;
	if (check_snapshots_not_mapped(ctx, disk, err) < 0)
		return -EBUSY;

	int r = with_snapshots ? meta_disk_remove_with_snapshots(disk, err) : meta_disk_remove(disk, err);

	if (r < 0)
		return base_error_wrap(err, "%s: not removed", name);
	if (ctx->service)
		ctx->service->disk_removed(ctx->service, number, name);
	return 0;
}

int cmd_disk_remove_listed(struct cmd_context *ctx, struct meta_disk *disk, json_t *about, bool with_snapshots,
			   json_t *removed, struct base_error *err)
{
	int r = cmd_disk_remove(ctx, disk, with_snapshots, err);

	if (r == 0)
		json_array_append(removed, about);
	json_decref(about);
	meta_disk_put(disk);
	return r;
}

/* Return: 0, or -EBUSY with err naming the first disk that can't be removed. */
static int check_all(struct cmd_context *ctx, bool with_snapshots, struct base_error *err)
{
	char after[NAME_BYTES_MAX + 1] = "";
	struct meta_disk *disk;
	int r = 0;

	while (r == 0 && (disk = meta_disk_next(ctx->meta, after))) {
		disk_name(disk, after);
		if (check_not_mapped(ctx, disk, after, err) < 0 || check_snapshots_not_mapped(ctx, disk, err) < 0)
			r = base_error_wrap(err, "nothing was removed");
		else if (meta_disk_wait_closed(disk, RELEASE_PATIENCE_NS) < 0)
			r = base_error_set(err, -EBUSY, "%s: in use (open %u times): nothing was removed", after,
					   meta_disk_opens(disk));
		else if (!with_snapshots)
			r = check_no_snapshots(disk, after, err);
		meta_disk_put(disk);
	}
	return r;
}

int cmd_disk_remove_all(struct cmd_context *ctx, bool with_snapshots, json_t *removed, struct base_error *err)
{
	char after[NAME_BYTES_MAX + 1] = "";
	struct meta_disk *disk;
	int r = check_all(ctx, with_snapshots, err);

	while (r == 0 && (disk = meta_disk_next(ctx->meta, after))) {
		disk_name(disk, after);
		r = cmd_disk_remove_listed(ctx, disk, cmd_disk_to_json(disk), with_snapshots, removed, err);
		if (r < 0)
			base_error_wrap(err, "%zu disks were removed, then", json_array_size(removed));
	}
	return r;
}

/* Who has it: the first VTD, as VIOS's lists name one only; null when nobody has. */
static void add_mapping(struct cmd_context *ctx, json_t *about, uint64_t number)
{
	struct meta_vtd_info vtd;
	bool mapped = meta_vtd_next_of_disk(ctx->meta, number, "", &vtd);

	json_object_set_new(about, "vtd", mapped ? json_string(vtd.name) : json_null());
	json_object_set_new(about, "svsa", mapped ? json_string(vtd.record.adapter) : json_null());
}

json_t *cmd_disk_to_json(struct meta_disk *disk)
{
	char uuid[BASE_UUID_TEXT_BYTES];
	struct meta_disk_info info;

	meta_disk_info(disk, &info);

	const struct meta_disk_record *rec = &info.record;

	return json_pack("{s:o, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "name",
			 cmd_text_to_json(rec->name), "number", (json_int_t)info.number, "uuid",
			 base_uuid_to_text(rec->uuid, uuid), "kind", meta_disk_kind_to_text(rec->kind), "size_bytes",
			 (json_int_t)info.size_bytes, "allocated_bytes", (json_int_t)info.allocated_bytes,
			 "valid_bytes", (json_int_t)info.valid_bytes, "logical_block_bytes",
			 (json_int_t)rec->logical_block_bytes, "created_s", (json_int_t)rec->created_s, "modified_s",
			 (json_int_t)rec->modified_s, "snapshots", (json_int_t)meta_snapshot_count(disk), "opens",
			 (json_int_t)info.opens, "mode", (json_int_t)rec->mode, "uid", (json_int_t)rec->uid, "gid",
			 (json_int_t)rec->gid, "labels", cmd_text_to_json(rec->labels));
}

json_t *cmd_disks_to_json(struct cmd_context *ctx)
{
	char after[NAME_BYTES_MAX + 1] = "";
	json_t *list = json_array();
	struct meta_disk *disk;

	while (list && (disk = meta_disk_next(ctx->meta, after))) {
		json_t *about = cmd_disk_to_json(disk);

		add_mapping(ctx, about, meta_disk_number(disk));

		int failed = json_array_append_new(list, about);

		disk_name(disk, after);
		meta_disk_put(disk);
		if (failed) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}
