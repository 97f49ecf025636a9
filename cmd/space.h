/* SPDX-License-Identifier: Apache-2.0 */
/* What disks and snapshots take of a pool, in figures that add up. Context: CTL, on the open pool in ctx. */
#ifndef CMD_SPACE_H
#define CMD_SPACE_H

#include "cmd/verb.h"

/*
 * {"pool", "space": [{"name", "kind", "virtual_bytes", "owned_bytes", "referenced_bytes", "exclusive_bytes",
 * "shared_bytes", "reclaimable_bytes"}], "allocated_bytes", ...}. kind: "disk"; "snapshot", named DISK@NAME;
 * "unnamed", for all layers without a name together, of which only owned_bytes is told. The sum of all owned_bytes is
 * allocated_bytes when nothing changes meanwhile.
 */
MUST_CHECK int cmd_space_to_json(struct cmd_context *ctx, json_t **ret_result, struct base_error *err);

#endif
