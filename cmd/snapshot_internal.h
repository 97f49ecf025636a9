/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verb snapshot from within: what its files share.
 *
 *   snapshot.c         the verb: options, remove, roll back, list
 *   snapshot_create.c  taking snapshots, with the commands before and after
 *   snapshot_group.c   the disks that one command is about
 *
 * Context: CTL, on the open pool in ctx, unless said otherwise.
 */
#ifndef CMD_SNAPSHOT_INTERNAL_H
#define CMD_SNAPSHOT_INTERNAL_H

#include "cmd/verb.h"

struct meta_disk;
struct meta_snapshot;

#define CMD_SNAPSHOT_GROUP_MAX 64 /* as ioc_snapshot_create */

struct cmd_snapshot_group {
	struct meta_disk *disks[CMD_SNAPSHOT_GROUP_MAX];
	struct meta_snapshot *snapshots[CMD_SNAPSHOT_GROUP_MAX]; /* of one name; not of -create */
	size_t count;
};

/* Those of -lu or -luudid. A disk that is named twice counts once. cmd_snapshot_group_done in every case. */
MUST_CHECK int cmd_snapshot_group_find(struct cmd_context *ctx, const json_t *args, struct cmd_snapshot_group *ret,
				       struct base_error *err);
/* The snapshot NAME of each disk. Return: 0; -ENOENT with err. */
MUST_CHECK int cmd_snapshot_group_find_snapshots(struct cmd_snapshot_group *group, const char *name,
						 struct base_error *err);
void cmd_snapshot_group_done(struct cmd_snapshot_group *group);

/* Gives {"pool", "name", "created": [...], "pause_ns", "total_ns"}. */
MUST_CHECK int cmd_snapshot_create(struct cmd_context *ctx, const json_t *args, json_t **ret_result,
				   struct base_error *err);
bool cmd_snapshot_has_hooks(const json_t *args);
/* The same between -exec-before and -exec-after. Context: the command's own process, no pool is open. */
MUST_CHECK int cmd_snapshot_create_with_hooks(struct cmd_context *ctx, json_t *args, json_t **ret_result,
					      struct base_error *err);

#endif
