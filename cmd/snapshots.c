/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, as verbs see them: find, describe, list, clone, remove.
 *
 * The text form DISK@NAME is for verbs that have one argument for a snapshot
 * (lu -from, snapshot -diff, send); VIOS's own spelling gives the name and the
 * disks apart. A disk's name may hold an '@', a new snapshot's may not, so the
 * last '@' is the one that divides. (A snapshot that got such a name elsewhere
 * can still be named apart from its disk.)
 *
 * A clone takes block size, kind, mode and owner from the disk whose snapshot
 * it is cloned from: whoever could open that can open this.
 *
 * In a mounted pool the kernel has names and pages of snapshots/DISK/NAME in
 * its cache, so it is told when one goes.
 *
 * Failure modes: a snapshot that is open (as a file, by a transfer) can't be
 * removed (-EBUSY, and how many opens there are). Names that are not there name
 * the verb that lists what is.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/uuid.h"
#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/snapshots.h"
#include "cmd/text.h"
#include "meta/snapshot.h"
#include "meta/targets.h"

/* After the last close of a file its RELEASE may still be on the way from the kernel. */
#define RELEASE_PATIENCE_NS UINT64_C(300000000)

int cmd_snapshot_split(const char *text, char disk[NAME_BYTES_MAX + 1], char name[NAME_BYTES_MAX + 1],
		       struct base_error *err)
{
	const char *at = strrchr(text, '@');

	if (!at || at == text || !at[1])
		return base_error_set(err, -EINVAL, "%s: not a snapshot: write DISK@NAME, such as web1@monday", text);
	if (at - text > NAME_BYTES_MAX || strlen(at + 1) > NAME_BYTES_MAX)
		return base_error_set(err, -ENAMETOOLONG, "%s: a name has at most %d bytes", text, NAME_BYTES_MAX);
	snprintf(disk, NAME_BYTES_MAX + 1, "%.*s", (int)(at - text), text);
	snprintf(name, NAME_BYTES_MAX + 1, "%s", at + 1);
	return 0;
}

int cmd_snapshot_check_name(const char *name, struct base_error *err)
{
	int r = meta_name_check(name, err);

	if (r < 0)
		return base_error_wrap(err, "%s: not a name for a snapshot", name);
	if (strchr(name, '@'))
		return base_error_set(err, -EINVAL, "%s: a snapshot's name has no '@': that divides it from its disk",
				      name);
	return 0;
}

int cmd_snapshot_find_of(struct meta_disk *disk, const char *name, struct meta_snapshot **ret, struct base_error *err)
{
	struct meta_disk_info info;

	*ret = meta_snapshot_get_by_name(disk, name);
	if (*ret)
		return 0;
	meta_disk_info(disk, &info);
	return base_error_set(err, -ENOENT,
			      "%s: disk %s has no snapshot of that name; `bdfs snapshot -list` lists them", name,
			      info.record.name);
}

int cmd_snapshot_find(struct cmd_context *ctx, const char *text, struct meta_snapshot **ret, struct base_error *err)
{
	char disk_name[NAME_BYTES_MAX + 1], name[NAME_BYTES_MAX + 1];
	struct meta_disk *disk;
	int r = cmd_snapshot_split(text, disk_name, name, err);

	if (r == 0)
		r = cmd_disk_find(ctx, disk_name, &disk, err);
	if (r < 0)
		return r;
	r = cmd_snapshot_find_of(disk, name, ret, err);
	meta_disk_put(disk);
	return r;
}

/* ---- cloning ------------------------------------------------------------------------------ */

static int fill_spec(struct cmd_context *ctx, struct meta_snapshot *snapshot, const char *name,
		     struct meta_disk_spec *ret, struct base_error *err)
{
	struct meta_snapshot_info info;
	struct meta_disk_info disk_info;
	struct meta_disk *disk;

	if (strlen(name) > NAME_BYTES_MAX) {
		ctx->subject = CMD_SUBJECT_BD;
		return base_error_set(err, -ENAMETOOLONG, "%s: a disk's name has at most %d bytes", name,
				      NAME_BYTES_MAX);
	}
	meta_snapshot_info(snapshot, &info);
	disk = meta_disk_get_by_number(ctx->meta, info.disk);
	if (!disk)
		return base_error_set(err, -ENOENT, "%s@%s: was removed meanwhile", info.disk_name, info.name);
	meta_disk_info(disk, &disk_info);
	meta_disk_put(disk);
	*ret = (struct meta_disk_spec){ .logical_block_bytes = disk_info.record.logical_block_bytes,
					.kind = META_DISK_THIN,
					.mode = disk_info.record.mode,
					.uid = disk_info.record.uid,
					.gid = disk_info.record.gid };
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	return 0;
}

static json_t *cloned_to_json(struct cmd_context *ctx, uint64_t number)
{
	struct meta_disk *disk = meta_disk_get_by_number(ctx->meta, number);
	struct meta_pool_info info;
	json_t *list = json_array();

	if (disk) {
		json_array_append_new(list, cmd_disk_to_json(disk));
		meta_disk_put(disk);
	}
	meta_pool_info(ctx->meta, &info);
	return json_pack("{s:o, s:o}", "pool", cmd_text_to_json(info.name), "disks", list);
}

int cmd_snapshot_clone(struct cmd_context *ctx, const char *name, const char *from, json_t **ret_result,
		       struct base_error *err)
{
	struct meta_snapshot *snapshot;
	struct meta_disk_spec spec;
	uint64_t number;
	int r = cmd_snapshot_find(ctx, from, &snapshot, err);

	if (r < 0)
		return r;
	ctx->subject = CMD_SUBJECT_NONE;
	r = fill_spec(ctx, snapshot, name, &spec, err);
	if (r == 0) {
		r = meta_snapshot_clone(snapshot, &spec, &number, err);
		if (r < 0)
			base_error_wrap(err, "%s: not cloned from %s", name, from);
	}
	if (r == 0)
		*ret_result = cloned_to_json(ctx, number);
	meta_snapshot_put(snapshot);
	return r;
}

int cmd_disk_create_from(struct cmd_context *ctx, const char *name, const json_t *args, json_t **ret_result,
			 struct base_error *err)
{
	static const char *const others[] = { "size", "count", "block", "thick" };
	char from[2 * NAME_BYTES_MAX + 2];
	int r = cmd_arg_text(args, "from", from, sizeof(from), err);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(others); i++)
		if (cmd_arg_is_set(args, others[i]))
			return base_error_set(err, -EINVAL,
					      "%s: a clone has the size and blocks of its snapshot: leave out %s; it "
					      "can be resized afterwards",
					      name, others[i]);
	return r < 0 ? r : cmd_snapshot_clone(ctx, name, from, ret_result, err);
}

/* ---- removing ----------------------------------------------------------------------------- */

/* The catalogue refuses it too; here the holder is named before anybody waits for him. */
int cmd_snapshot_check_not_mapped(struct cmd_context *ctx, struct meta_snapshot *snapshot, struct base_error *err)
{
	struct meta_snapshot_info info;
	struct meta_vtd_info vtd;

	meta_snapshot_info(snapshot, &info);
	if (!meta_vtd_next_of_snapshot(ctx->meta, info.uuid, "", &vtd))
		return 0;
	return base_error_set(err, -EBUSY, "%s@%s: mapped, as VTD %s on %s: unmap it first (`bdfs rmvdev -vtd %s`)",
			      info.disk_name, info.name, vtd.name, vtd.record.adapter, vtd.name);
}

int cmd_snapshot_check_unused(struct cmd_context *ctx, struct meta_snapshot *snapshot, struct base_error *err)
{
	struct meta_snapshot_info info;

	if (cmd_snapshot_check_not_mapped(ctx, snapshot, err) < 0)
		return -EBUSY;
	if (meta_snapshot_wait_closed(snapshot, RELEASE_PATIENCE_NS) == 0)
		return 0;
	meta_snapshot_info(snapshot, &info);
	return base_error_set(err, -EBUSY, "%s@%s: in use (open %u times): close what reads it, then remove it",
			      info.disk_name, info.name, info.opens);
}

int cmd_snapshot_remove(struct cmd_context *ctx, struct meta_snapshot *snapshot, struct base_error *err)
{
	struct meta_snapshot_info info;
	int r = cmd_snapshot_check_unused(ctx, snapshot, err);

	if (r < 0)
		return r;
	meta_snapshot_info(snapshot, &info);
	r = meta_snapshot_remove(snapshot, err);
	if (r < 0)
		return base_error_wrap(err, "%s@%s: not removed", info.disk_name, info.name);
	if (ctx->service)
		ctx->service->snapshot_removed(ctx->service, info.disk, info.layer, info.name);
	return 0;
}

/* ---- describing --------------------------------------------------------------------------- */

json_t *cmd_snapshot_to_json(struct meta_snapshot *snapshot)
{
	char uuid[BASE_UUID_TEXT_BYTES];
	struct meta_snapshot_info info;

	meta_snapshot_info(snapshot, &info);
	return json_pack("{s:o, s:o, s:s, s:I, s:I, s:I, s:I, s:I}", "disk", cmd_text_to_json(info.disk_name), "name",
			 cmd_text_to_json(info.name), "uuid", base_uuid_to_text(info.uuid, uuid), "size_bytes",
			 (json_int_t)info.size_bytes, "created_s", (json_int_t)info.created_s, "owned_bytes",
			 (json_int_t)meta_snapshot_owned_bytes(snapshot), "children", (json_int_t)info.children,
			 "opens", (json_int_t)info.opens);
}

int cmd_snapshots_append(struct meta_disk *disk, json_t *list)
{
	char after[NAME_BYTES_MAX + 1] = "";
	struct meta_snapshot *snapshot;
	struct meta_snapshot_info info;
	int failed = 0;

	while (!failed && (snapshot = meta_snapshot_next(disk, after))) {
		meta_snapshot_info(snapshot, &info);
		memcpy(after, info.name, sizeof(after));
		failed = json_array_append_new(list, cmd_snapshot_to_json(snapshot));
		meta_snapshot_put(snapshot);
	}
	return failed ? -ENOMEM : 0;
}
