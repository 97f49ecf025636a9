/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What several verbs do with snapshots: find, describe, list, clone.
 *
 * A snapshot is written DISK@NAME. Verbs refuse an '@' in the name of a new
 * snapshot, so the last one divides.
 *
 * Context: CTL, on the open pool in ctx.
 */
#ifndef CMD_SNAPSHOTS_H
#define CMD_SNAPSHOTS_H

#include "cmd/verb.h"

struct meta_disk;
struct meta_snapshot;
struct meta_space_use;

/* What stands before and behind the last '@'. Return: 0; -EINVAL with err (there is none, or a side is empty),
 * -ENAMETOOLONG. */
MUST_CHECK int cmd_snapshot_split(const char *text, char disk[NAME_BYTES_MAX + 1], char name[NAME_BYTES_MAX + 1],
				  struct base_error *err);
/* A name for a new snapshot. Return: 0; -EINVAL, -ENAMETOOLONG. */
MUST_CHECK int cmd_snapshot_check_name(const char *name, struct base_error *err);

/* Each returns 0 with a reference; -ENOENT with err (no such disk or snapshot). */
MUST_CHECK int cmd_snapshot_find(struct cmd_context *ctx, const char *text, struct meta_snapshot **ret,
				 struct base_error *err);
MUST_CHECK int cmd_snapshot_find_of(struct meta_disk *disk, const char *name, struct meta_snapshot **ret,
				    struct base_error *err);

/* Makes a disk with the content of a snapshot, DISK@NAME. Gives {"pool", "disks": [...]} as cmd_disk_create. */
MUST_CHECK int cmd_snapshot_clone(struct cmd_context *ctx, const char *name, const char *from, json_t **ret_result,
				  struct base_error *err);

/* Return: 0: closed, within a moment; -EBUSY with err. */
MUST_CHECK int cmd_snapshot_check_unused(struct cmd_context *ctx, struct meta_snapshot *snapshot,
					 struct base_error *err);
/* Return: 0; -EBUSY: err names the VTD. */
MUST_CHECK int cmd_snapshot_check_not_mapped(struct cmd_context *ctx, struct meta_snapshot *snapshot,
					     struct base_error *err);
/* Takes the name away and tells the mount. Return: 0; -EBUSY; others of meta_snapshot_remove. */
MUST_CHECK int cmd_snapshot_remove(struct cmd_context *ctx, struct meta_snapshot *snapshot, struct base_error *err);

/* New references, NULL when memory is short. */
json_t *cmd_snapshot_to_json(struct meta_snapshot *snapshot);
/* Appends those of one disk to list. Return: 0 or -ENOMEM. */
MUST_CHECK int cmd_snapshots_append(struct meta_disk *disk, json_t *list);

#endif
