/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the verbs of logical volumes share.
 *
 * Context: CTL, on the open pool in ctx.
 */
#ifndef CMD_VOLUMES_H
#define CMD_VOLUMES_H

#include "cmd/verb.h"

struct meta_disk;

/* Return: 0 with a reference; -ENOENT: no such disk; -EINVAL: not a logical volume, with err. */
MUST_CHECK int cmd_volume_find(struct cmd_context *ctx, const char *name, struct meta_disk **ret,
			       struct base_error *err);
/* By the option -prefix: that (or "lv") and the lowest free number. */
MUST_CHECK int cmd_volume_name(struct cmd_context *ctx, const json_t *args, char *name, size_t room,
			       struct base_error *err);
/* Makes it, rounded up to whole partitions. Return: 0 with a reference; as meta_volume_create. */
MUST_CHECK int cmd_volume_create(struct cmd_context *ctx, const char *name, uint64_t size_bytes,
				 struct meta_disk **ret, struct base_error *err);
/* Makes it at least new_bytes long, with its space. Return: 0; -ENOSPC; -EFBIG; others, with err. */
MUST_CHECK int cmd_volume_extend(struct cmd_context *ctx, struct meta_disk *disk, uint64_t new_bytes,
				 struct base_error *err);
/* As cmd_disk_to_json, with "partitions", "state". New reference. */
json_t *cmd_volume_to_json(struct meta_disk *disk);

#endif
