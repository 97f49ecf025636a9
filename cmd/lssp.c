/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lssp: lists pools, and what one pool holds.
 *
 * Six forms. As VIOS has them: all pools (one line each); -bd, the disks of
 * one; -detail, its physical volumes and, when it is mounted, the daemon;
 * -default, the default pool. Two of our own: -occupancy, the share of each part
 * of the pool that is in use, for a picture of it; -space (alone or with -bd),
 * what each disk and snapshot owns, shares and would give back (cmd/space.c).
 *
 * Without -sp the first form goes over every registered pool; the mounted ones
 * are asked, the others opened read-only for a moment.
 *
 * Failure modes: a pool that can't be looked at is listed with its error, the
 * others are listed all the same, and the exit status is 4.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/pools.h"
#include "cmd/registry.h"
#include "cmd/space.h"
#include "cmd/text.h"
#include "meta/pool.h"

#define CELLS_DEFAULT 512
#define CELLS_MAX 65536

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "bd", NULL, CMD_FLAG, 0, NULL, "the disks of the pool" },
	{ "detail", NULL, CMD_FLAG, 0, NULL, "the pool's physical volumes, and the daemon if it is mounted" },
	{ "occupancy", NULL, CMD_FLAG, 0, NULL, "how full each part of the pool is" },
	{ "space", NULL, CMD_FLAG, 0, NULL,
	  "what each disk and snapshot owns, sees, shares, and would give back; reads their maps, which takes time" },
	{ "cells", NULL, CMD_NUMBER, 0, "N", "-occupancy: in how many parts (512)" },
	{ "default", NULL, CMD_FLAG, 0, NULL, "the default pool" },
	{ "type", NULL, CMD_TEXT, 0, "TYPE", "only pools of this type: fbpool (files) or lvpool (devices)" },
	{ "clustername", NULL, CMD_TEXT, CMD_LATER, "CLUSTER", "clusters are not in this release; leave it out" },
	{ 0 },
};

static const char *const forms[] = { "bd", "detail", "occupancy", "default", "space" };

static int check_form(const json_t *args, struct base_error *err)
{
	const char *found = NULL;

	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		if (!cmd_arg_flag(args, forms[i]))
			continue;
		if (found && !(strcmp(found, "bd") == 0 && strcmp(forms[i], "space") == 0))
			return base_error_set(err, -EINVAL, "-%s and -%s can't go together: give one of them", found,
					      forms[i]);
		found = forms[i];
	}
	if (found && cmd_arg_is_set(args, "type"))
		return base_error_set(err, -EINVAL, "-type goes with the plain list of pools, not with -%s", found);
	if (cmd_arg_is_set(args, "cells") && !cmd_arg_flag(args, "occupancy"))
		return base_error_set(err, -EINVAL, "-cells goes with -occupancy");
	return 0;
}

static int show_default(struct cmd_context *ctx, json_t **ret_result, struct base_error *err)
{
	struct cmd_pool_ref pool;
	int r = cmd_registry_find(NULL, &pool, err);

	if (r < 0) {
		ctx->subject = CMD_SUBJECT_POOL;
		return r;
	}
	*ret_result = json_pack("{s:o, s:o}", "default", cmd_text_to_json(pool.name), "directory",
				cmd_text_to_json(pool.directory));
	return 0;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int r = check_form(args, err);

	if (r < 0)
		return r;
	if (cmd_arg_flag(args, "default"))
		return show_default(ctx, ret_result, err);
	if (cmd_arg_is_set(args, "sp") || cmd_arg_flag(args, "bd") || cmd_arg_flag(args, "detail") ||
	    cmd_arg_flag(args, "occupancy") || cmd_arg_flag(args, "space"))
		return CMD_ON_POOL;
	*ret_result = json_pack("{s:[]}", "pools");
	return *ret_result ? CMD_ON_EACH_POOL : base_error_set(err, -ENOMEM, "out of memory for the list of pools");
}

static int occupancy(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	int64_t count = cmd_arg_number(args, "cells", CELLS_DEFAULT);

	if (count < 1 || count > CELLS_MAX)
		return base_error_set(err, -EINVAL, "-cells %lld: must be from 1 to %d", (long long)count, CELLS_MAX);

	uint8_t *cells = calloc((size_t)count, 1);
	json_t *list = json_array();

	if (!cells || !list) {
		json_decref(list);
		free(cells);
		return base_error_set(err, -ENOMEM, "out of memory for %lld cells", (long long)count);
	}
	meta_pool_occupancy(ctx->meta, cells, (unsigned)count);
	for (int64_t i = 0; i < count; i++)
		json_array_append_new(list, json_integer(cells[i]));
	free(cells);
	*ret_result = json_pack("{s:o, s:o}", "pool", cmd_pool_to_json(ctx), "cells", list);
	return 0;
}

static int plain(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char type[16];
	json_t *pools = json_array(), *pool = cmd_pool_to_json(ctx);
	int r = cmd_arg_text(args, "type", type, sizeof(type), err);

	if (r == CMD_ARG_ABSENT || (r == 0 && strcasecmp(type, json_string_value(json_object_get(pool, "type"))) == 0))
		json_array_append(pools, pool);
	json_decref(pool);
	if (r < 0)
		json_decref(pools);
	else
		*ret_result = json_pack("{s:o}", "pools", pools);
	return r < 0 ? r : 0;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_pool_info info;
	int r = check_form(args, err);

	if (r < 0)
		return r;
	if (cmd_arg_flag(args, "occupancy"))
		return occupancy(ctx, args, ret_result, err);
	if (cmd_arg_flag(args, "space"))
		return cmd_space_to_json(ctx, NULL, ret_result, err);
	if (cmd_arg_flag(args, "bd")) {
		meta_pool_info(ctx->meta, &info);
		*ret_result =
			json_pack("{s:o, s:o}", "pool", cmd_text_to_json(info.name), "bds", cmd_disks_to_json(ctx));
		return 0;
	}
	if (cmd_arg_flag(args, "detail")) {
		*ret_result = json_pack("{s:o, s:o, s:o}", "pool", cmd_pool_to_json(ctx), "pvs", cmd_pvs_to_json(ctx),
					"daemon", cmd_service_to_json(ctx));
		return 0;
	}
	return plain(ctx, args, ret_result, err);
}

const struct cmd_verb cmd_lssp = {
	.name = "lssp",
	.summary = "list pools, and what a pool holds",
	.synopsis = "bdfs lssp [-sp POOL] [-type TYPE]\n"
		    "bdfs lssp {-bd | -detail | -space | -occupancy [-cells N]} [-sp POOL]\n"
		    "bdfs lssp -default",
	.about = "The plain form lists every pool: its size, what is free, the unit in which disks take space, the "
		 "number of disks and its type, sizes in megabytes. -bd lists the disks of one pool, -detail its "
		 "physical volumes and, while it is mounted, which engine the daemon uses and why, queues, uptime "
		 "and counters. -occupancy draws the pool: a blank is free, '@' is full. -space tells for each disk "
		 "and snapshot, and for layers that have lost their name, what it owns (these add up to what the pool "
		 "has in use), what it refers to, how much of that nobody else does and how much others do too, and "
		 "what its removal would give back.\n"
		 "Fields for -field: pool size free alloc bds type (plain); bdname size vtd svsa used kind udid "
		 "(-bd); pvname pvid size free io (-detail); name kind virtual owned referenced exclusive shared "
		 "reclaimable (-space).",
	.examples = "bdfs lssp\n"
		    "bdfs lssp -bd -sp vms -field bdname size -fmt :\n"
		    "bdfs lssp -detail -sp vms --json",
	.options = options,
	.local = local,
	.run = run,
};
