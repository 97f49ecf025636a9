/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump: a pool's metadata as one JSON object.
 *
 * What a rebuild, a bug report or a script needs in one piece: the pool, its
 * physical volumes, its disks. It only reads; on a mounted pool it is answered
 * by the daemon, with figures of that moment.
 *
 * Failure modes: those of opening the pool.
 */
#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/pools.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ 0 },
};

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	*ret_result =
		json_pack("{s:i, s:o, s:o, s:o, s:o}", "format", 1, "pool", cmd_pool_to_json(ctx), "pvs",
			  cmd_pvs_to_json(ctx), "disks", cmd_disks_to_json(ctx), "daemon", cmd_service_to_json(ctx));
	return 0;
}

const struct cmd_verb cmd_dump = {
	.name = "dump",
	.summary = "print a pool's metadata as JSON",
	.synopsis = "bdfs dump [-sp POOL]",
	.about = "Prints the pool, its physical volumes and its disks as one JSON object. Sizes are bytes, times are "
		 "seconds since 1970.",
	.examples = "bdfs dump -sp vms > vms.json",
	.options = options,
	.run = run,
};
