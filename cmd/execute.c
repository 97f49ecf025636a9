/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a verb runs.
 *
 * First its local() part, in this process: the registry, mounting, what needs no
 * open pool. If that says "on the pool", the daemon of the pool is asked over
 * its control socket. If none answers, the pool is opened here without FUSE, the
 * very same run() is called, and the pool is closed again: one code path, and
 * one lock (the pool's own) for both.
 *
 * Between "no daemon answers" and "the pool is locked" lies a gap: another
 * command holds the pool for a moment, or a daemon is just starting or ending.
 * So both are tried in turn for some seconds before the lock's holder is named
 * as the reason for giving up.
 *
 * A verb that only reads opens the pool read-only: no replay, no commit, nothing
 * written.
 *
 * Over several pools (lssp without -sp) the arrays of the results are joined to
 * those that local() began with, so that no pools at all give empty ones. A pool
 * that can't be looked at is listed under "unavailable" with its error, and the
 * outcome carries an error beside the result.
 *
 * Failure modes: those of the parts, each with its text. If run() succeeded and
 * closing fails, closing is the error: what was promised may not be durable.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/control.h"
#include "cmd/execute.h"
#include "base/park.h"
#include "cmd/text.h"
#include "iocore/pool.h"
#include "meta/pool.h"

#define BUSY_PATIENCE_MS 5000
#define BUSY_STEP_MS 50

void cmd_run(const struct cmd_verb *verb, json_t *args, struct cmd_context *ctx, struct cmd_outcome *ret)
{
	*ret = (struct cmd_outcome){ 0 };
	ret->code = cmd_args_check(verb, args, &ret->err);
	if (ret->code < 0)
		return;
	ctx->subject = CMD_SUBJECT_NONE;
	ret->code = verb->run(ctx, args, &ret->result, &ret->err);
	ret->subject = ctx->subject;
	if (ret->code == 0 && !ret->result)
		ret->code = base_error_set(&ret->err, -ENOMEM, "out of memory for the answer");
}

static int open_pool(struct cmd_context *ctx, unsigned needs, struct base_error *err)
{
	if (needs & CMD_CLOSED)
		return 0;

	struct meta_pool_open_args open_args = { .dir = ctx->directory, .read_only = !(needs & CMD_CHANGES) };
	struct ioc_pool_args ioc_args = { .queues = 1 };
	int r = meta_pool_open(&open_args, &ctx->meta, err);

	if (r < 0 || !(needs & CMD_IO))
		return r;
	r = ioc_pool_open(ctx->meta, &ioc_args, &ctx->ioc, err);
	if (r < 0) {
		int ignored = meta_pool_close(ctx->meta, NULL); /* the first error is the one to tell */

		(void)ignored;
	}
	return r;
}

static void run_alone(struct cmd_context *ctx, const struct cmd_verb *verb, json_t *args, struct cmd_outcome *ret)
{
	struct base_error close_err = { 0 };

	*ret = (struct cmd_outcome){ 0 };
	ret->code = open_pool(ctx, cmd_verb_needs(verb, args), &ret->err);
	if (ret->code < 0)
		return;
	cmd_run(verb, args, ctx, ret);
	if (ctx->ioc)
		ioc_pool_close(ctx->ioc);
	if (ctx->meta && meta_pool_close(ctx->meta, &close_err) < 0 && ret->code == 0) {
		cmd_outcome_done(ret);
		ret->code = close_err.code;
		ret->err = close_err;
		base_error_wrap(&ret->err, "done, but the pool could not be closed in order");
	}
}

void cmd_execute_on(const struct cmd_pool_ref *pool, const struct cmd_verb *verb, json_t *args,
		    struct cmd_progress *progress, struct cmd_outcome *ret)
{
	/* By the clock: an attempt may itself wait for a dead daemon's last requests. */
	uint64_t deadline_ns = base_clock_ns() + BUSY_PATIENCE_MS * UINT64_C(1000000);

	for (;;) {
		struct cmd_context ctx = { .directory = pool->directory, .uid = geteuid(), .progress = progress };
		struct base_error err = { 0 };
		int r = cmd_control_call(pool->directory, verb->name, args, progress, ret, &err);

		if (r < 0)
			*ret = (struct cmd_outcome){ .code = r, .err = err };
		if (r == CMD_NO_DAEMON)
			run_alone(&ctx, verb, args, ret);

		/* -EAGAIN: a daemon that ends, or that has too much to do; -EBUSY from opening: a lock. */
		bool again = r == CMD_NO_DAEMON ? ret->code == -EBUSY && !ctx.meta : ret->code == -EAGAIN;

		if (!again || base_clock_ns() >= deadline_ns) {
			if (r == CMD_NO_DAEMON && ret->code < 0 && !ctx.meta)
				base_error_wrap(&ret->err, "%s", pool->name);
			return;
		}
		base_sleep_ms(BUSY_STEP_MS);
	}
}

int cmd_execute_pool(struct cmd_context *ctx, const json_t *args, struct cmd_pool_ref *ret, struct base_error *err)
{
	char sp[PATH_MAX];
	int r = cmd_arg_text(args, "sp", sp, sizeof(sp), err);

	if (r >= 0)
		r = cmd_registry_find(r == CMD_ARG_ABSENT ? NULL : sp, ret, err);
	if (r < 0)
		ctx->subject = CMD_SUBJECT_POOL;
	return r;
}

static void execute_on_named(const struct cmd_verb *verb, json_t *args, struct cmd_progress *progress,
			     struct cmd_outcome *ret)
{
	struct cmd_context ctx = { .uid = geteuid() };
	struct cmd_pool_ref pool;
	int r = cmd_execute_pool(&ctx, args, &pool, &ret->err);

	if (r < 0) {
		ret->code = r;
		ret->subject = ctx.subject;
		return;
	}
	cmd_execute_on(&pool, verb, args, progress, ret);
}

/* Appends the arrays of part to those of the same key in whole. */
static int join_result(json_t *whole, json_t *part)
{
	const char *key;
	json_t *value;

	json_object_foreach(part, key, value)
	{
		json_t *have = json_object_get(whole, key);

		if (have ? json_array_extend(have, value) : json_object_set(whole, key, value))
			return -ENOMEM;
	}
	return 0;
}

static int join_failure(json_t *whole, const struct cmd_pool_ref *pool, const struct cmd_outcome *part)
{
	json_t *list = json_object_get(whole, "unavailable");

	if (!list) {
		list = json_array();
		if (json_object_set_new(whole, "unavailable", list))
			return -ENOMEM;
	}
	return json_array_append_new(list, json_pack("{s:o, s:o, s:o}", "name", cmd_text_to_json(pool->name),
						     "directory", cmd_text_to_json(pool->directory), "error",
						     cmd_text_to_json(part->err.text)))
		       ? -ENOMEM
		       : 0;
}

static void execute_on_each(const struct cmd_verb *verb, json_t *args, struct cmd_progress *progress,
			    struct cmd_outcome *ret)
{
	struct cmd_pool_ref *pools = NULL;
	size_t count = 0, failed = 0;
	int r = cmd_registry_list(&pools, &count, &ret->err);

	for (size_t i = 0; r == 0 && i < count; i++) {
		struct cmd_outcome part = { 0 };

		cmd_execute_on(&pools[i], verb, args, progress, &part);
		if (part.code < 0) {
			failed++;
			r = join_failure(ret->result, &pools[i], &part);
		} else {
			r = join_result(ret->result, part.result);
		}
		if (r < 0)
			base_error_set(&ret->err, r, "out of memory for the answer");
		cmd_outcome_done(&part);
	}
	free(pools);
	ret->code = r;
	if (r == 0 && failed)
		ret->code = base_error_set(&ret->err, -EIO, "%zu of %zu pools could not be looked at", failed, count);
}

void cmd_execute(const struct cmd_verb *verb, json_t *args, struct cmd_progress *progress, struct cmd_outcome *ret)
{
	struct cmd_context ctx = { .uid = geteuid(), .progress = progress };

	*ret = (struct cmd_outcome){ 0 };
	ret->code = cmd_args_check(verb, args, &ret->err);
	if (ret->code < 0)
		return;

	int r = verb->local ? verb->local(&ctx, args, &ret->result, &ret->err) : CMD_ON_POOL;

	if (r == CMD_ON_POOL) {
		execute_on_named(verb, args, progress, ret);
	} else if (r == CMD_ON_EACH_POOL) {
		execute_on_each(verb, args, progress, ret);
	} else {
		ret->code = r;
		ret->subject = ctx.subject;
	}
}
