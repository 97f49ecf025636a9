/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `snapshot -create`: one instant for all disks that are named.
 *
 * The core takes them as one group (iocore/snapshot.h). Without a name they get
 * one from the clock (UTC), such as 20240131-235959, with -2, -3 behind it when
 * that is taken.
 *
 * With -exec-before or -exec-after the command does it in steps of its own: the
 * guard for the command after is started first (cmd/guard.h), so that what was
 * frozen is thawed even if this process is killed; then the command before; then
 * the snapshot, asked for like any other; then the guard is let go.
 *
 * Failure modes: nothing is taken by halves. If the command before fails nothing
 * is taken and the one after runs all the same. If the one after fails the
 * snapshot is there, and that is said.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/args.h"
#include "cmd/execute.h"
#include "cmd/guard.h"
#include "cmd/snapshot_internal.h"
#include "cmd/snapshots.h"
#include "cmd/text.h"
#include "iocore/snapshot.h"
#include "meta/snapshot.h"

#define TRIES_MAX 100

static json_t *created_to_json(struct cmd_context *ctx, const struct cmd_snapshot_group *group, const char *name,
			       const struct ioc_snapshot_timing *timing)
{
	struct meta_pool_info info;
	json_t *list = json_array();

	for (size_t i = 0; i < group->count; i++) {
		struct meta_snapshot *snapshot = meta_snapshot_get_by_name(group->disks[i], name);

		if (!snapshot) /* removed again already, by somebody else */
			continue;
		json_array_append_new(list, cmd_snapshot_to_json(snapshot));
		meta_snapshot_put(snapshot);
	}
	meta_pool_info(ctx->meta, &info);
	return json_pack("{s:o, s:o, s:o, s:I, s:I}", "pool", cmd_text_to_json(info.name), "name",
			 cmd_text_to_json(name), "created", list, "pause_ns", (json_int_t)timing->pause_ns,
			 "total_ns", (json_int_t)timing->total_ns);
}

static int take(struct cmd_context *ctx, const struct cmd_snapshot_group *group, const char *name, json_t **ret_result,
		struct base_error *err)
{
	struct ioc_snapshot_spec specs[CMD_SNAPSHOT_GROUP_MAX];
	struct ioc_snapshot_timing timing = { 0 };
	int r;

	for (size_t i = 0; i < group->count; i++)
		specs[i] = (struct ioc_snapshot_spec){ .disk = group->disks[i], .name = name };
	r = ioc_snapshot_create(ctx->ioc, specs, group->count, &timing, err);
	if (r == 0)
		*ret_result = created_to_json(ctx, group, name, &timing);
	return r;
}

static int take_named_by_time(struct cmd_context *ctx, const struct cmd_snapshot_group *group, json_t **ret_result,
			      struct base_error *err)
{
	char stamp[32], name[48];
	time_t now = time(NULL);
	struct tm tm;
	int r = -EEXIST;

	strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
	snprintf(name, sizeof(name), "%s", stamp);
	for (int i = 2; r == -EEXIST && i < TRIES_MAX; i++) {
		r = take(ctx, group, name, ret_result, err);
		snprintf(name, sizeof(name), "%s-%d", stamp, i);
	}
	return r;
}

int cmd_snapshot_create(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX] = "";
	struct cmd_snapshot_group group = { 0 };
	int r = cmd_arg_text(args, "name", name, sizeof(name), err);
	bool is_named = r == 0;

	if (is_named)
		r = cmd_snapshot_check_name(name, err);
	if (r >= 0)
		r = cmd_snapshot_group_find(ctx, args, &group, err);
	if (r == 0)
		ctx->subject = CMD_SUBJECT_NONE;
	if (r == 0 && is_named)
		r = take(ctx, &group, name, ret_result, err);
	else if (r == 0)
		r = take_named_by_time(ctx, &group, ret_result, err);
	cmd_snapshot_group_done(&group);
	return r;
}

/* ---- with hooks --------------------------------------------------------------------------- */

static void set_environment(const json_t *args, const char *pool)
{
	char lus[4096] = "", name[4 * NAME_BYTES_MAX];
	size_t used = 0;

	for (size_t i = 0; i < cmd_arg_list_count(args, "lu"); i++) {
		if (cmd_arg_list_item(args, "lu", i, name, sizeof(name), NULL) < 0 || used >= sizeof(lus))
			continue;
		used += (size_t)snprintf(lus + used, sizeof(lus) - used, "%s%s", used ? " " : "", name);
	}
	setenv("BDFS_POOL", pool, 1);
	setenv("BDFS_LUS", lus, 1);
	if (cmd_arg_text(args, "name", name, sizeof(name), NULL) == 0)
		setenv("BDFS_SNAPSHOT", name, 1);
	else
		unsetenv("BDFS_SNAPSHOT");
}

/* A copy that the caller frees; NULL: the option is not there. */
static char *take_command(json_t *args, const char *option)
{
	const char *text = json_string_value(json_object_get(args, option));
	char *command = text ? malloc(strlen(text) + 1) : NULL;

	/* A JSON string holds the bytes in fewer or as many of its own. */
	if (command && cmd_text_decode(text, command, strlen(text) + 1) < 0)
		command[0] = '\0';
	json_object_del(args, option);
	return command;
}

struct hooks {
	char *before, *after;
};

static int create_between(struct cmd_context *ctx, const struct cmd_pool_ref *pool, json_t *args,
			  const struct hooks *hooks, json_t **ret_result, struct base_error *err)
{
	struct base_error after_err = { 0 };
	struct cmd_outcome outcome = { 0 };
	struct cmd_guard guard;
	int r = cmd_guard_start(hooks->after, &guard, err);

	if (r < 0)
		return r;
	if (hooks->before)
		r = cmd_guard_run("exec-before", hooks->before, err);
	if (r < 0) {
		base_error_wrap(err, "no snapshot was taken");
	} else {
		cmd_execute_on(pool, &cmd_snapshot, args, ctx->progress, &outcome);
		*ret_result = outcome.result;
		r = outcome.code;
		ctx->subject = outcome.subject;
		*err = outcome.err;
	}
	if (cmd_guard_end(&guard, "exec-after", r == 0, &after_err) < 0 && r == 0) {
		*err = after_err;
		r = base_error_wrap(err, "the snapshot was taken, but");
	}
	return r;
}

bool cmd_snapshot_has_hooks(const json_t *args)
{
	return cmd_arg_is_set(args, "exec-before") || cmd_arg_is_set(args, "exec-after");
}

int cmd_snapshot_create_with_hooks(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct hooks hooks = { .before = take_command(args, "exec-before"),
			       .after = take_command(args, "exec-after") };
	struct cmd_pool_ref pool;
	int r = cmd_execute_pool(ctx, args, &pool, err);

	if (r == 0) {
		set_environment(args, pool.name);
		r = create_between(ctx, &pool, args, &hooks, ret_result, err);
	}
	free(hooks.before);
	free(hooks.after);
	return r;
}
