/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `lssp -space`: who takes how much of a pool.
 *
 * Each chunk in use is owned by one layer; a layer is what a disk has of its
 * own, or a snapshot has, or has no name any more because only clones and later
 * snapshots still need it. So the owned bytes of all three kinds are what the
 * pool has in use: that is the column to add up. The others overlap by nature:
 * what two disks share is in the referenced bytes of both.
 *
 * These figures are found by reading the maps of all layers concerned. So this
 * is a form of its own, and plain lists, which have to be quick, have only what
 * counters tell.
 *
 * Failure modes: a map that can't be read fails the verb and names the disk. The
 * figures of a pool in use are of slightly different moments.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/space.h"
#include "cmd/text.h"
#include "meta/snapshot.h"

static int append(json_t *list, const char *name, const char *kind, uint64_t virtual_bytes,
		  const struct meta_space_use *use)
{
	return json_array_append_new(list,
				     json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "name",
					       cmd_text_to_json(name), "kind", kind, "virtual_bytes",
					       (json_int_t)virtual_bytes, "owned_bytes", (json_int_t)use->owned_bytes,
					       "referenced_bytes", (json_int_t)use->referenced_bytes,
					       "exclusive_bytes", (json_int_t)use->exclusive_bytes, "shared_bytes",
					       (json_int_t)use->shared_bytes, "reclaimable_bytes",
					       (json_int_t)use->reclaimable_bytes))
		       ? -ENOMEM
		       : 0;
}

static int append_snapshot(struct meta_snapshot *snapshot, json_t *list, char ret_name[NAME_BYTES_MAX + 1],
			   struct base_error *err)
{
	char name[2 * NAME_BYTES_MAX + 2];
	struct meta_snapshot_info info;
	struct meta_space_use use;
	int r = meta_snapshot_space(snapshot, &use, err);

	meta_snapshot_info(snapshot, &info);
	memcpy(ret_name, info.name, NAME_BYTES_MAX + 1);
	snprintf(name, sizeof(name), "%s@%s", info.disk_name, info.name);
	if (r < 0)
		return base_error_wrap(err, "%s", name);
	return append(list, name, "snapshot", info.size_bytes, &use);
}

static int append_disk(struct meta_disk *disk, json_t *list, struct base_error *err)
{
	char after[NAME_BYTES_MAX + 1] = "";
	struct meta_snapshot *snapshot;
	struct meta_disk_info info;
	struct meta_space_use use;
	int r = meta_disk_space(disk, &use, err);

	meta_disk_info(disk, &info);
	if (r < 0)
		return base_error_wrap(err, "%s", info.record.name);
	r = append(list, info.record.name, "disk", info.size_bytes, &use);
	while (r == 0 && (snapshot = meta_snapshot_next(disk, after))) {
		r = append_snapshot(snapshot, list, after, err);
		meta_snapshot_put(snapshot);
	}
	return r;
}

static int append_all(struct cmd_context *ctx, json_t *list, struct base_error *err)
{
	char after[NAME_BYTES_MAX + 1] = "";
	struct meta_disk_info info;
	struct meta_disk *disk;
	int r = 0;

	while (r == 0 && (disk = meta_disk_next(ctx->meta, after))) {
		meta_disk_info(disk, &info);
		memcpy(after, info.record.name, sizeof(after));
		r = append_disk(disk, list, err);
		meta_disk_put(disk);
	}
	return r;
}

int cmd_space_to_json(struct cmd_context *ctx, json_t **ret_result, struct base_error *err)
{
	json_t *list = json_array();
	struct meta_pool_space space;
	struct meta_pool_info info;
	int r = append_all(ctx, list, err);

	meta_pool_space(ctx->meta, &space);
	meta_pool_info(ctx->meta, &info);
	if (r == 0 && space.unnamed_layers)
		r = append(list, "(unnamed layers)", "unnamed", 0,
			   &(struct meta_space_use){ .owned_bytes = space.unnamed_bytes });
	if (r < 0) {
		json_decref(list);
		return r == -ENOMEM ? base_error_set(err, r, "out of memory for the list") : r;
	}
	*ret_result = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "pool", cmd_text_to_json(info.name),
				"space", list, "allocated_bytes",
				(json_int_t)((info.total_chunks - info.free_chunks) * CHUNK_BYTES), "disks_bytes",
				(json_int_t)space.disks_bytes, "snapshots_bytes", (json_int_t)space.snapshots_bytes,
				"unnamed_bytes", (json_int_t)space.unnamed_bytes, "unnamed_layers",
				(json_int_t)space.unnamed_layers, "snapshots", (json_int_t)space.snapshots);
	return 0;
}
