/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `snapshot -diff`: where two snapshots, or a snapshot and a disk, differ.
 *
 * Gives {"older", "newer", "older_uuid", "newer_uuid" (null: no snapshot), "size_bytes", "extents": [{"offset",
 * "bytes", "kind"}], "data_bytes", "zero_bytes"}, and "next_offset" when -limit or the size of an answer ended it
 * before the end.
 */
#ifndef CMD_DIFF_H
#define CMD_DIFF_H

#include "cmd/execute.h"

/* One page, on the open pool in ctx. Context: CTL. */
MUST_CHECK int cmd_diff_page(struct cmd_context *ctx, const json_t *args, json_t **ret_result,
			     struct base_error *err);

/* All pages, from wherever the pool is. Context: a command's own process. */
MUST_CHECK int cmd_diff_collect(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err);

/* The next page of older ("-": nothing) against newer, from offset on. Context: as cmd_diff_collect. */
MUST_CHECK int cmd_diff_fetch(const struct cmd_pool_ref *pool, const char *older, const char *newer, uint64_t offset,
			      json_t **ret_result, struct base_error *err);

#endif
