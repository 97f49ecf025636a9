/* SPDX-License-Identifier: Apache-2.0 */
/* What disks and snapshots take of a pool, in figures that add up. Context: CTL, on the open pool in ctx. */
#ifndef CMD_SPACE_H
#define CMD_SPACE_H

#include "cmd/verb.h"

/*
 * {"pool", "space": [{"name", "kind", "layer", "virtual_bytes", "owned_bytes", "referenced_bytes", "exclusive_bytes",
 * "shared_bytes", "reclaimable_bytes"}], "allocated_bytes"}. kind: "disk"; "snapshot", named DISK@NAME; "unnamed", a
 * layer that only others still need. disk: only this one and its snapshots; NULL: all, and then the sum of all
 * owned_bytes is allocated_bytes. What each means: struct meta_space_use.
 */
MUST_CHECK int cmd_space_to_json(struct cmd_context *ctx, const char *disk, json_t **ret_result,
				 struct base_error *err);

#endif
