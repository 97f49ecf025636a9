/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs: what the daemon does in the background, and how far it is.
 *
 * There are two kinds. Layers that lost their name are freed or folded together
 * by the core; such jobs are part of the pool, go on after a restart, and have a
 * number as their id. Inflating a clone is the daemon's own (cmd/background.h);
 * such ids begin with an 'i'.
 *
 * Jobs run while the pool is mounted. On a pool that is not, the list shows what
 * is still to be done.
 *
 * -wait asks again and again from the command: a waiting command must not keep
 * one of the daemon's few threads for verbs.
 *
 * Failure modes: an id that is not there (2): it may just have ended. Freeing
 * can't be cancelled.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/args.h"
#include "cmd/background.h"
#include "cmd/jobs.h"
#include "cmd/text.h"
#include "meta/snapshot.h"

#define WAIT_STEP_NS 100000000L

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "wait", NULL, CMD_FLAG, 0, NULL, "wait until the job ID, or all there are, have ended" },
	{ "cancel", NULL, CMD_FLAG, 0, NULL, "stop the job ID where it stands; all content stays as it is" },
	{ "resume", NULL, CMD_FLAG, 0, NULL, "go on with what was cancelled" },
	{ "id", NULL, CMD_TEXT, CMD_POSITIONAL, "ID", "a job, as the list has it" },
	{ 0 },
};

/* ---- the list ----------------------------------------------------------------------------- */

static json_t *job_to_json(const struct meta_job_info *info)
{
	char id[24];

	snprintf(id, sizeof(id), "%" PRIu64, info->id);
	return json_pack(
		"{s:s, s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I}", "id", id, "kind", meta_job_kind_to_text(info->kind),
		"disk", cmd_text_to_json(info->disk_name[0] ? info->disk_name : NULL), "state",
		info->waiting ? "waiting" : "running", "done", (json_int_t)info->leaves_done, "total",
		(json_int_t)info->leaves_total, "chunks_moved", (json_int_t)info->chunks_moved, "blocks_copied",
		(json_int_t)info->blocks_copied, "chunks_freed", (json_int_t)info->chunks_freed);
}

static json_t *background_to_json(struct cmd_context *ctx, const struct cmd_background_info *info)
{
	struct meta_disk *disk = meta_disk_get_by_number(ctx->meta, info->disk);
	struct meta_disk_info disk_info = { .record.name = "" };
	const char *state = info->failed ? "failed" : info->waiting ? "waiting" : "running";
	char id[24];

	if (disk) {
		meta_disk_info(disk, &disk_info);
		meta_disk_put(disk);
	}
	snprintf(id, sizeof(id), "i%" PRIu64, info->id);
	return json_pack("{s:s, s:s, s:o, s:s, s:I, s:I, s:o}", "id", id, "kind", "inflate", "disk",
			 cmd_text_to_json(disk ? disk_info.record.name : NULL), "state", state, "done",
			 (json_int_t)info->done_bytes, "total", (json_int_t)info->total_bytes, "error",
			 cmd_text_to_json(info->failed ? info->why : NULL));
}

static json_t *list(struct cmd_context *ctx)
{
	struct cmd_background *background = ctx->service ? ctx->service->background : NULL;
	struct cmd_background_info own = { .id = 0 };
	struct meta_job_info info = { .id = 0 };
	struct meta_pool_info pool;
	json_t *jobs = json_array();

	while (meta_job_next(ctx->meta, info.id, &info))
		json_array_append_new(jobs, job_to_json(&info));
	while (background && cmd_background_next(background, own.id, &own))
		json_array_append_new(jobs, background_to_json(ctx, &own));
	meta_pool_info(ctx->meta, &pool);
	return json_pack("{s:o, s:o}", "pool", cmd_text_to_json(pool.name), "jobs", jobs);
}

/* ---- cancelling --------------------------------------------------------------------------- */

/* Return: the number, 0 when it is none. */
static uint64_t parse_id(const char *text)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
	return n && !errno && !*end ? n : 0;
}

static int cancel(struct cmd_context *ctx, const json_t *args, struct base_error *err)
{
	char id[32] = "";
	uint64_t number;
	int r = cmd_arg_text(args, "id", id, sizeof(id), err);

	if (r == CMD_ARG_ABSENT)
		return base_error_set(err, -EINVAL, "-cancel: which job? `bdfs jobs` lists their ids");
	number = r < 0 ? 0 : parse_id(id[0] == 'i' ? id + 1 : id);
	if (number == 0)
		return base_error_set(err, -EINVAL, "%s: not the id of a job; `bdfs jobs` lists them", id);
	if (id[0] != 'i')
		r = meta_job_cancel(ctx->meta, number, err);
	else
		r = ctx->service ? cmd_background_cancel(ctx->service->background, number) : -ENOENT;
	if (r == -ENOENT)
		return base_error_set(err, r, "%s: no such job; it may have ended", id);
	return r < 0 ? base_error_wrap(err, "job %s", id) : 0;
}

/* ---- waiting ------------------------------------------------------------------------------ */

static const json_t *find_job(const json_t *jobs, const char *id)
{
	const json_t *job;
	size_t i;

	json_array_foreach(jobs, i,
			   job) if (!id || strcmp(json_string_value(json_object_get(job, "id")), id) == 0) return job;
	return NULL;
}

static int look_at(const json_t *job, struct cmd_progress *progress, struct base_error *err)
{
	char what[2 * NAME_BYTES_MAX], name[NAME_BYTES_MAX + 1] = "", why[200] = "failed";
	const char *kind = json_string_value(json_object_get(job, "kind"));

	if (strcmp(json_string_value(json_object_get(job, "state")), "failed") == 0) {
		if (cmd_text_from_json(json_object_get(job, "error"), why, sizeof(why)) < 0)
			why[0] = '\0';
		return base_error_set(err, -EIO, "job %s: %s", json_string_value(json_object_get(job, "id")), why);
	}
	if (cmd_text_from_json(json_object_get(job, "disk"), name, sizeof(name)) < 0)
		name[0] = '\0';
	snprintf(what, sizeof(what), "%s %s", kind, name);
	if (progress && progress->report(progress, what, (uint64_t)json_integer_value(json_object_get(job, "done")),
					 (uint64_t)json_integer_value(json_object_get(job, "total"))))
		return base_error_set(err, -ECANCELED, "interrupted; the jobs go on");
	return 0;
}

int cmd_jobs_wait(const struct cmd_pool_ref *pool, const char *id, struct cmd_progress *progress,
		  struct base_error *err)
{
	struct timespec step = { .tv_nsec = WAIT_STEP_NS };

	for (;;) {
		struct cmd_outcome outcome = { 0 };
		json_t *args = json_object();
		const json_t *job;
		int r;

		cmd_execute_on(pool, &cmd_jobs, args, NULL, &outcome);
		json_decref(args);
		r = outcome.code;
		if (r < 0)
			*err = outcome.err;
		job = r < 0 ? NULL : find_job(json_object_get(outcome.result, "jobs"), id);
		if (job)
			r = look_at(job, progress, err);
		cmd_outcome_done(&outcome);
		if (r < 0 || !job)
			return r;
		nanosleep(&step, NULL);
	}
}

static int wait_for(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_pool_ref pool;
	char id[32];
	int has_id = cmd_arg_text(args, "id", id, sizeof(id), err);
	int r = has_id < 0 ? has_id : cmd_execute_pool(ctx, args, &pool, err);

	if (r == 0)
		r = cmd_jobs_wait(&pool, has_id == 0 ? id : NULL, ctx->progress, err);
	if (r == 0)
		*ret_result = json_object();
	return r;
}

/* ------------------------------------------------------------------------------------------- */

static int check(const json_t *args, struct base_error *err)
{
	int given = cmd_arg_flag(args, "wait") + cmd_arg_flag(args, "cancel") + cmd_arg_flag(args, "resume");

	if (given > 1)
		return base_error_set(err, -EINVAL, "-wait, -cancel and -resume can't go together");
	if (cmd_arg_is_set(args, "id") && !cmd_arg_flag(args, "wait") && !cmd_arg_flag(args, "cancel"))
		return base_error_set(err, -EINVAL, "an ID goes with -wait or -cancel");
	return 0;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int r = check(args, err);

	if (r < 0)
		return r;
	return cmd_arg_flag(args, "wait") ? wait_for(ctx, args, ret_result, err) : CMD_ON_POOL;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int r = check(args, err);

	if (r == 0 && cmd_arg_flag(args, "cancel"))
		r = cancel(ctx, args, err);
	else if (r == 0 && cmd_arg_flag(args, "resume"))
		meta_jobs_resume(ctx->meta);
	if (r == 0)
		*ret_result =
			cmd_arg_flag(args, "cancel") || cmd_arg_flag(args, "resume") ? json_object() : list(ctx);
	return r;
}

static unsigned needs(const json_t *args)
{
	return cmd_arg_flag(args, "cancel") || cmd_arg_flag(args, "resume") ? CMD_CHANGES : 0;
}

const struct cmd_verb cmd_jobs = {
	.name = "jobs",
	.summary = "list, await and cancel what runs in the background",
	.synopsis = "bdfs jobs [-sp POOL]\n"
		    "bdfs jobs -wait [ID] [-sp POOL]\n"
		    "bdfs jobs {-cancel ID | -resume} [-sp POOL]",
	.about = "Removing snapshots and disks gives their space back in the background. This lists such jobs and how "
		 "far they are, in leaves of 8 MiB of a disk each.\n"
		 "\"free\" frees what nobody needs any more, \"fold\" joins what a removed snapshot left with what "
		 "stands on it, \"trim\" frees what lies behind the end of a disk that was made smaller. They go on "
		 "after a restart.\n"
		 "-cancel stops a fold; nobody sees a difference in content. It goes on with -resume or at the next "
		 "mount. Freeing can't be cancelled.",
	.examples = "bdfs jobs -sp vms\n"
		    "bdfs jobs -wait -sp vms",
	.options = options,
	.local = local,
	.run = run,
	.needs = needs,
};
