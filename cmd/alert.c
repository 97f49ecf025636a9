/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alert: thresholds of a pool, and whether they are crossed.
 *
 * Two kinds, as VIOS has them: *threshold*, the share of the pool that is free,
 * which should not fall below it, and *overcommit*, by how much the disks
 * together are larger than the pool, which should not rise above it; both in
 * percent of the pool. Nothing is throttled or refused because of them.
 *
 * What happens when one is crossed is meta/alert.c: an event, a line in the log;
 * and the daemon's hook, cmd/hook.c. -list says how it stands now.
 *
 * Failure modes: a value out of range (1), no such pool (2).
 */
#include <errno.h>
#include <string.h>

#include "base/uuid.h"
#include "cmd/args.h"
#include "cmd/pools.h"
#include "cmd/text.h"
#include "meta/pool.h"

static const struct cmd_option options[] = {
	{ "set", NULL, CMD_FLAG, 0, NULL, "watch, from now on: -value" },
	{ "unset", NULL, CMD_FLAG, 0, NULL, "watch no more" },
	{ "list", NULL, CMD_FLAG, 0, NULL, "what is watched, and how it stands" },
	{ "sp", "spname", CMD_TEXT, 0, "POOL",
	  "the pool. Without it: -list lists all, the others mean the default pool" },
	{ "type", NULL, CMD_TEXT, 0, "TYPE",
	  "threshold (free space, the default) or overcommit; -list: without it, both" },
	{ "value", NULL, CMD_NUMBER, 0, "PERCENT", "-set: threshold: 1 to 99, overcommit: 1 to 65535" },
	{ "clustername", NULL, CMD_TEXT, CMD_LATER, "CLUSTER", "clusters are not in this release; leave it out" },
	{ 0 },
};

static const char *const actions[] = { "set", "unset", "list", NULL };
enum { ACTION_SET, ACTION_UNSET, ACTION_LIST };
enum { TYPE_THRESHOLD, TYPE_OVERCOMMIT, TYPE_BOTH };

static int read_type(const json_t *args, int if_absent, struct base_error *err)
{
	char type[16];
	int r = cmd_arg_text(args, "type", type, sizeof(type), err);

	if (r == CMD_ARG_ABSENT)
		return if_absent;
	if (r == 0 && strcmp(type, "threshold") == 0)
		return TYPE_THRESHOLD;
	if (r == 0 && strcmp(type, "overcommit") == 0)
		return TYPE_OVERCOMMIT;
	return base_error_set(err, -EINVAL, "-type: must be threshold or overcommit");
}

static json_t *level_to_json(uint64_t percent, uint64_t value, bool raised)
{
	if (!percent)
		return json_null();
	return json_pack("{s:I, s:I, s:b}", "limit_percent", (json_int_t)percent, "percent", (json_int_t)value,
			 "raised", raised);
}

static json_t *stands(const struct meta_pool_info *info, int type)
{
	char uuid[BASE_UUID_TEXT_BYTES];
	uint64_t total = info->total_chunks ? info->total_chunks : 1, total_bytes = total * CHUNK_BYTES;
	uint64_t over_bytes = info->virtual_bytes > total_bytes ? info->virtual_bytes - total_bytes : 0;
	uint64_t over = (uint64_t)((__uint128_t)over_bytes * 100 / total_bytes);
	unsigned low_limit = type == TYPE_OVERCOMMIT ? 0 : info->free_threshold_percent;
	unsigned over_limit = type == TYPE_THRESHOLD ? 0 : info->overcommit_threshold_percent;

	return json_pack("{s:o, s:s, s:o, s:o}", "name", cmd_text_to_json(info->name), "uuid",
			 base_uuid_to_text(info->uuid, uuid), "threshold",
			 level_to_json(low_limit, info->free_chunks * 100 / total,
				       info->free_chunks * 100 < total * low_limit),
			 "overcommit", level_to_json(over_limit, over, over > over_limit));
}

static int change(struct cmd_context *ctx, const json_t *args, bool set, struct base_error *err)
{
	int type = read_type(args, TYPE_THRESHOLD, err);
	int64_t value = cmd_arg_number(args, "value", 0), max = type == TYPE_THRESHOLD ? 99 : UINT16_MAX;
	struct meta_pool_settings settings = { 0 };

	if (type < 0)
		return type;
	if (set && (value < 1 || value > max))
		return base_error_set(err, -EINVAL, "-value: say how many percent, from 1 to %lld", (long long)max);
	if (!set && cmd_arg_is_set(args, "value"))
		return base_error_set(err, -EINVAL, "-value goes with -set");
	if (type == TYPE_THRESHOLD) {
		settings.which = META_SET_FREE_THRESHOLD;
		settings.free_threshold_percent = (uint8_t)value;
	} else {
		settings.which = META_SET_OVERCOMMIT_THRESHOLD;
		settings.overcommit_threshold_percent = (uint16_t)value;
	}
	return meta_pool_set(ctx->meta, &settings, err);
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_pool_info info;
	int action = cmd_arg_one_of(args, actions, err), type = TYPE_BOTH, r = action < 0 ? action : 0;

	if (r == 0 && action == ACTION_LIST)
		r = type = read_type(args, TYPE_BOTH, err);
	else if (r == 0)
		r = change(ctx, args, action == ACTION_SET, err);
	if (r < 0)
		return r;
	meta_pool_info(ctx->meta, &info);
	*ret_result = json_pack("{s:[o]}", action == ACTION_LIST ? "alerts" : "alert", stands(&info, type));
	return 0;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int action = cmd_arg_one_of(args, actions, err);

	(void)ctx;
	if (action < 0)
		return action;
	if (action != ACTION_LIST || cmd_arg_is_set(args, "sp"))
		return CMD_ON_POOL;
	*ret_result = json_pack("{s:[]}", "alerts");
	return *ret_result ? CMD_ON_EACH_POOL : base_error_set(err, -ENOMEM, "out of memory");
}

static unsigned needs(const json_t *args)
{
	return cmd_arg_flag(args, "list") ? 0 : CMD_CHANGES;
}

const struct cmd_verb cmd_alert = {
	.name = "alert",
	.summary = "watch how full a pool is",
	.synopsis = "bdfs alert -set [-sp POOL] [-type {threshold | overcommit}] -value PERCENT\n"
		    "bdfs alert -unset [-sp POOL] [-type {threshold | overcommit}]\n"
		    "bdfs alert -list [-sp POOL] [-type {threshold | overcommit}]",
	.about =
		"Sets thresholds of a pool. threshold: the alarm is on while less than PERCENT of the pool is free "
		"(neither used nor reserved). overcommit: it is on while the disks together exceed the pool by more "
		"than PERCENT of it. When an alarm goes on or off, once each time, there is an event (`bdfs events`), "
		"a line in the daemon's log, and a call of the hook that the pool was mounted with. Nothing is slowed "
		"down or refused.",
	.examples = "bdfs alert -set -sp vms -value 20\n"
		    "bdfs alert -set -sp vms -type overcommit -value 100\n"
		    "bdfs alert -list --json",
	.options = options,
	.local = local,
	.run = run,
	.needs = needs,
};
