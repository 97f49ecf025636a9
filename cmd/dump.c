/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump: a pool's metadata, in short or whole.
 *
 * Without an option: the pool, its physical volumes, its disks as one JSON
 * object, what a bug report or a script needs in one piece. On a mounted pool it
 * is answered by the daemon, with figures of that moment.
 *
 * -records: every record there is. That can be gigabytes, so it is the one
 * result that a verb writes to standard output itself, in the command's own
 * process, which reads the metadata beside the daemon: no object, no frame of the
 * control socket would hold it.
 *
 * Failure modes: those of opening the pool; with -records those of reading its
 * directory, and an output that can't be written.
 */
#include <errno.h>

#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/dump_records.h"
#include "cmd/pools.h"
#include "cmd/registry.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "records", NULL, CMD_FLAG, 0, NULL, "every record of the metadata, one a line" },
	{ 0 },
};

static int find_pool(struct cmd_context *ctx, const json_t *args, struct cmd_pool_ref *ret, struct base_error *err)
{
	char sp[PATH_MAX];
	int r = cmd_arg_text(args, "sp", sp, sizeof(sp), err);

	if (r >= 0)
		r = cmd_registry_find(r == CMD_ARG_ABSENT ? NULL : sp, ret, err);
	if (r < 0)
		ctx->subject = CMD_SUBJECT_POOL;
	return r;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_pool_ref pool;

	if (!cmd_arg_flag(args, "records"))
		return CMD_ON_POOL;

	int r = find_pool(ctx, args, &pool, err);

	if (r < 0)
		return r;
	r = cmd_dump_records(pool.directory, stdout, err);
	return r < 0 ? base_error_wrap(err, "%s", pool.name) : 0;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	if (cmd_arg_flag(args, "records"))
		return base_error_set(err, -EINVAL, "-records: the command reads the records, not the daemon");
	*ret_result =
		json_pack("{s:i, s:o, s:o, s:o, s:o}", "format", 1, "pool", cmd_pool_to_json(ctx), "pvs",
			  cmd_pvs_to_json(ctx), "disks", cmd_disks_to_json(ctx), "daemon", cmd_service_to_json(ctx));
	return 0;
}

const struct cmd_verb cmd_dump = {
	.name = "dump",
	.summary = "print a pool's metadata as JSON",
	.synopsis = "bdfs dump [-sp POOL] [-records]",
	.about = "Prints the pool, its physical volumes and its disks as one JSON object. Sizes are bytes, times are "
		 "seconds since 1970.\n"
		 "-records prints every record of the metadata instead: one JSON object with an array \"records\", in "
		 "which each record is a line. It holds little in memory however large the pool is, and works whether "
		 "the pool is mounted, can be opened, or neither. Records of a pool that changes meanwhile are of "
		 "different moments.",
	.examples = "bdfs dump -sp vms > vms.json\n"
		    "bdfs dump -sp vms -records | grep '\"database\":\"disk\"'",
	.options = options,
	.local = local,
	.run = run,
};
