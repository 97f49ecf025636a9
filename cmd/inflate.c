/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inflate: makes a clone, or a disk that has snapshots below it, independent.
 *
 * What the disk shows of its parent is copied into chunks of its own, while it is
 * in use; then it has no parent, and what it stood on can be removed and given
 * back whole. In a daemon that is a background job; a pool that is not mounted
 * has nobody to do it later, so there the command does it before it returns.
 *
 * Failure modes: a full pool, in which case what was copied stays and the same
 * command goes on later; -wait tells of it, else `bdfs jobs` does.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/park.h"
#include "base/units.h"
#include "cmd/args.h"
#include "cmd/background.h"
#include "cmd/disks.h"
#include "cmd/jobs.h"
#include "iocore/snapshot.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "lu", NULL, CMD_TEXT, 0, "NAME", "the disk, by name" },
	{ "luudid", NULL, CMD_TEXT, 0, "UDID", "the disk, by its UDID" },
	{ "rate", NULL, CMD_SIZE, 0, "SIZE", "copy no more than this in a second" },
	{ "wait", NULL, CMD_FLAG, 0, NULL, "return when it is done, and show how far it is" },
	{ 0 },
};

struct now {
	struct cmd_progress *progress;
	uint64_t rate_bytes;
};

static bool report(uint64_t done_bytes, uint64_t total_bytes, void *ctx)
{
	struct now *now = ctx;

	if (now->rate_bytes)
		base_sleep_ms((unsigned)(LEAF_BYTES * 1000 / now->rate_bytes));
	return !now->progress || now->progress->report(now->progress, "inflate", done_bytes, total_bytes) == 0;
}

static int inflate_now(struct cmd_context *ctx, struct meta_disk *disk, uint64_t rate_bytes, struct base_error *err)
{
	struct now now = { ctx->progress, rate_bytes };
	struct ioc_bd *bd;
	int r = ioc_disk_open(ctx->ioc, disk, &bd, err);

	if (r < 0)
		return r;
	r = ioc_disk_inflate(ctx->ioc, bd, report, &now, err);
	ioc_disk_close(bd);
	return r;
}

static int check_rate(const json_t *args, struct base_size *ret, struct base_error *err)
{
	int r = cmd_arg_size(args, "rate", ret);

	if (r != CMD_ARG_ABSENT && (ret->is_increment || ret->bytes < 64 * KIB))
		return base_error_set(err, -EINVAL, "-rate: at least 64K in a second, such as -rate 50M");
	return 0;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_disk_info info;
	struct base_size rate = { 0 };
	struct meta_disk *disk;
	uint64_t id = 0;
	char text[24];
	int r = check_rate(args, &rate, err);

	if (r == 0)
		r = cmd_disk_find_by_args(ctx, args, "lu", "luudid", &disk, err);
	if (r < 0)
		return r;
	ctx->subject = CMD_SUBJECT_NONE;
	if (ctx->service)
		r = cmd_background_inflate(ctx->service->background, disk, rate.bytes, &id, err);
	else
		r = inflate_now(ctx, disk, rate.bytes, err);
	meta_disk_info(disk, &info);
	if (r < 0)
		base_error_wrap(err, "%s", info.record.name);
	snprintf(text, sizeof(text), "i%" PRIu64, id);
	if (r == 0)
		*ret_result = json_pack("{s:o, s:o}", "disk", cmd_disk_to_json(disk), "job",
					id ? json_string(text) : json_null());
	meta_disk_put(disk);
	return r;
}

static int begin_and_wait(struct cmd_context *ctx, const struct cmd_pool_ref *pool, json_t *args, json_t **ret_result,
			  struct base_error *err)
{
	struct cmd_outcome outcome = { 0 };
	const char *id;
	int r;

	json_object_del(args, "wait");
	cmd_execute_on(pool, &cmd_inflate, args, ctx->progress, &outcome);
	ctx->subject = outcome.subject;
	*err = outcome.err;
	r = outcome.code;
	id = json_string_value(json_object_get(outcome.result, "job"));
	if (r == 0 && id)
		r = cmd_jobs_wait(pool, id, ctx->progress, err);
	if (r == 0)
		*ret_result = json_incref(outcome.result);
	cmd_outcome_done(&outcome);
	return r;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_pool_ref pool;
	int r;

	if (!cmd_arg_flag(args, "wait"))
		return CMD_ON_POOL;
	r = cmd_execute_pool(ctx, args, &pool, err);
	return r < 0 ? r : begin_and_wait(ctx, &pool, args, ret_result, err);
}

static unsigned needs(const json_t *args)
{
	return CMD_CHANGES | CMD_IO;
}

const struct cmd_verb cmd_inflate = {
	.name = "inflate",
	.summary = "make a clone independent of what it was cloned from",
	.synopsis = "bdfs inflate [-sp POOL] {-lu NAME | -luudid UDID} [-rate SIZE] [-wait]",
	.about =
		"Copies what the disk shares with the snapshot it was cloned from, while the disk is in use. Then the "
		"two have nothing to do with each other, and removing the one gives all its space back. On a mounted "
		"pool the copying is a job in the background (`bdfs jobs`); it can be cancelled, and the same command "
		"goes on where it was.\n"
		"The disk's own snapshots are below it as well: after this it shares nothing with them either.",
	.examples = "bdfs inflate -sp vms -lu web2 -wait",
	.options = options,
	.local = local,
	.run = run,
	.needs = needs,
};
