/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What several verbs do with disks (mkbdsp and lu -create, chbdsp and lu
 * -resize ...), each once.
 *
 * Context: CTL, on the open pool in ctx.
 */
#ifndef CMD_DISKS_H
#define CMD_DISKS_H

#include "cmd/verb.h"

struct meta_disk;

/* Disks of one command at most, so that their specifications stay within 64 MiB. */
#define CMD_DISKS_AT_ONCE_MAX 100000

/* Return: 0 with a reference; -ENOENT, -ENAMETOOLONG, about the bd. */
MUST_CHECK int cmd_disk_find(struct cmd_context *ctx, const char *name, struct meta_disk **ret,
			     struct base_error *err);
/* By its UDID. Return: 0 with a reference; -EINVAL, -ENOENT, about the bd. */
MUST_CHECK int cmd_disk_find_udid(struct cmd_context *ctx, const char *text, struct meta_disk **ret,
				  struct base_error *err);
/* By the option -name_option or -uuid_option of args, exactly one of which must be there. */
MUST_CHECK int cmd_disk_find_by_args(struct cmd_context *ctx, const json_t *args, const char *name_option,
				     const char *uuid_option, struct meta_disk **ret, struct base_error *err);

/* Makes disk NAME, or with count > 0 disks NAME0 to NAME(count - 1): all or none. Gives {"pool", "disks": [...]}. */
MUST_CHECK int cmd_disk_create(struct cmd_context *ctx, const char *name, uint64_t size_bytes, int64_t count,
			       uint32_t logical_block_bytes, bool thick, json_t **ret_result, struct base_error *err);

/* Makes a thin disk thick or a thick one thin, in use or not. Return: 0; -ENOSPC; -EINVAL: a logical volume. */
MUST_CHECK int cmd_disk_convert(struct cmd_context *ctx, struct meta_disk *disk, bool thick, struct base_error *err);

/* Makes disk NAME as a clone of the snapshot -from, with which -size, -count and -block don't go. Same result. */
MUST_CHECK int cmd_disk_create_from(struct cmd_context *ctx, const char *name, const json_t *args,
				    json_t **ret_result, struct base_error *err);

/* Sets the size. Return: 0; -EBUSY: a shrink, and somebody has the disk open; -EFBIG; others of iocore. */
MUST_CHECK int cmd_disk_resize(struct cmd_context *ctx, struct meta_disk *disk, uint64_t new_bytes,
			       struct base_error *err);

/* Return: 0: not mapped, and closed within a moment; -EBUSY with err: by whom, and what to do before one can TO_DO. */
MUST_CHECK int cmd_disk_check_unused(struct cmd_context *ctx, struct meta_disk *disk, const char *to_do,
				     struct base_error *err);
/* Removes. Return: 0; -EBUSY: open, or it has snapshots and may not take them along. */
MUST_CHECK int cmd_disk_remove(struct cmd_context *ctx, struct meta_disk *disk, bool with_snapshots,
			       struct base_error *err);
/*
 * The same, and appends `about` (what it was, for the result) to `removed` when it is gone. Takes over the references
 * to disk and about in any case.
 */
MUST_CHECK int cmd_disk_remove_listed(struct cmd_context *ctx, struct meta_disk *disk, json_t *about,
				      bool with_snapshots, json_t *removed, struct base_error *err);
/* Removes every disk, or none when one of them could not be. Gives those removed even when it fails on the way. */
MUST_CHECK int cmd_disk_remove_all(struct cmd_context *ctx, bool with_snapshots, json_t *removed,
				   struct base_error *err);

/* New references, NULL when memory is short. */
json_t *cmd_disk_to_json(struct meta_disk *disk);
json_t *cmd_disks_to_json(struct cmd_context *ctx);

#endif
