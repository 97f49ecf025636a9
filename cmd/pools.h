/* SPDX-License-Identifier: Apache-2.0 */
/* An open pool as JSON, for lssp and dump. Context: CTL. New references, NULL when memory is short. */
#ifndef CMD_POOLS_H
#define CMD_POOLS_H

#include "cmd/verb.h"

json_t *cmd_pool_to_json(struct cmd_context *ctx);
json_t *cmd_pvs_to_json(struct cmd_context *ctx);
/* The daemon around the pool, its engine and counters; JSON null when the pool is not mounted. */
json_t *cmd_service_to_json(struct cmd_context *ctx);

/* The uid that owns the pool: root and it may use the control socket. */
uid_t cmd_pool_owner(const char *directory);

#endif
