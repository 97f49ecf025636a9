/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot: takes, lists, removes and compares snapshots, and goes back to one.
 *
 * VIOS's spelling: one action, the snapshot's name, the disks by -lu or -luudid.
 * Several disks are one group: their snapshots are of one instant, whatever
 * writes go on meanwhile. Without a name they get one from the clock (UTC), such
 * as 20240131-235959, with -2, -3 behind it when that is taken.
 *
 * A snapshot is what a power cut at that instant would have left. A guest's file
 * system recovers from that; to have it clean, -exec-before freezes and
 * -exec-after thaws (cmd/guard.h). These run in the command, by its user and
 * with its environment, never in the daemon.
 *
 * -rollback and -remove throw data away, so they ask, or need --yes.
 *
 * Failure modes: nothing is done by halves. A group is taken or not; -remove and
 * -rollback of several look at all of them before they begin, and say how far
 * they came if something goes wrong after that. A rollback of a disk that is in
 * use is refused.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/args.h"
#include "cmd/diff.h"
#include "cmd/disks.h"
#include "cmd/execute.h"
#include "cmd/guard.h"
#include "cmd/snapshots.h"
#include "cmd/text.h"
#include "iocore/snapshot.h"
#include "meta/snapshot.h"

#define DISKS_MAX 64
#define TRIES_MAX 100
#define RELEASE_PATIENCE_NS UINT64_C(300000000)

static const struct cmd_option options[] = {
	{ "create", NULL, CMD_FLAG, 0, NULL, "take a snapshot of one disk, or of several at one instant: -lu" },
	{ "remove", "delete", CMD_FLAG, 0, NULL, "remove the snapshot NAME of the disks: -lu" },
	{ "rollback", NULL, CMD_FLAG, 0, NULL, "give the disks the content they had at the snapshot NAME: -lu" },
	{ "list", NULL, CMD_FLAG, 0, NULL, "list snapshots, of the pool or of the disks given by -lu" },
	{ "diff", NULL, CMD_FLAG, 0, NULL,
	  "list where NAME and OTHER differ; each is DISK@SNAPSHOT, or DISK for what it has now" },
	{ "name", NULL, CMD_TEXT, CMD_POSITIONAL, "NAME",
	  "the snapshot; -create without it makes a name of the time" },
	{ "other", NULL, CMD_TEXT, CMD_POSITIONAL, "OTHER", "-diff: the newer side" },
	CMD_OPTION_SP,
	{ "lu", NULL, CMD_LIST, 0, "NAME...", "the disks, by name" },
	{ "luudid", NULL, CMD_LIST, 0, "UDID...", "the disks, by their UDIDs" },
	{ "exec-before", NULL, CMD_TEXT, 0, "COMMAND",
	  "-create: run by sh before; if it fails there is no snapshot. To freeze file systems" },
	{ "exec-after", NULL, CMD_TEXT, 0, "COMMAND", "-create: run by sh after, whatever happened. To thaw them" },
	{ "offset", NULL, CMD_NUMBER, 0, "BYTES", "-diff: only what ends behind this place of the disk" },
	{ "limit", NULL, CMD_NUMBER, 0, "N", "-diff: at most N extents" },
	{ "yes", "f", CMD_FLAG, 0, NULL, "-remove, -rollback: don't ask; needed where there is no terminal to ask" },
	{ "clustername", NULL, CMD_TEXT, CMD_LATER, "CLUSTER", "clusters are not in this release; leave it out" },
	{ 0 },
};

enum action { ACTION_CREATE, ACTION_REMOVE, ACTION_ROLLBACK, ACTION_LIST, ACTION_DIFF };
static const char *const actions[] = { "create", "remove", "rollback", "list", "diff", NULL };

/* ---- the disks ---------------------------------------------------------------------------- */

struct group {
	struct meta_disk *disks[DISKS_MAX];
	struct meta_snapshot *snapshots[DISKS_MAX]; /* of one name; not of -create */
	size_t count;
};

static void group_done(struct group *group)
{
	for (size_t i = 0; i < group->count; i++) {
		if (group->snapshots[i])
			meta_snapshot_put(group->snapshots[i]);
		meta_disk_put(group->disks[i]);
	}
	group->count = 0;
}

static int find_one(struct cmd_context *ctx, const json_t *args, const char *option, size_t i, struct meta_disk **ret,
		    struct base_error *err)
{
	char text[4 * NAME_BYTES_MAX];
	int r = cmd_arg_list_item(args, option, i, text, sizeof(text), err);

	if (r < 0)
		return r;
	return strcmp(option, "lu") == 0 ? cmd_disk_find(ctx, text, ret, err)
					 : cmd_disk_find_udid(ctx, text, ret, err);
}

static bool is_in_group(const struct group *group, const struct meta_disk *disk)
{
	for (size_t i = 0; i < group->count; i++)
		if (group->disks[i] == disk)
			return true;
	return false;
}

/* A disk that is named twice counts once. group_done in every case. */
static int group_find(struct cmd_context *ctx, const json_t *args, struct group *ret, struct base_error *err)
{
	static const char *const either[] = { "lu", "luudid", NULL };
	int which = cmd_arg_one_of(args, either, err), r = MIN(which, 0);
	size_t count = which < 0 ? 0 : cmd_arg_list_count(args, either[which]);

	ret->count = 0;
	for (size_t i = 0; r == 0 && i < count; i++) {
		struct meta_disk *disk;

		r = find_one(ctx, args, either[which], i, &disk, err);
		if (r == 0 && is_in_group(ret, disk)) {
			meta_disk_put(disk);
		} else if (r == 0 && ret->count == DISKS_MAX) {
			meta_disk_put(disk);
			r = base_error_set(err, -EINVAL, "-%s: at most %d disks at once", either[which], DISKS_MAX);
		} else if (r == 0) {
			ret->snapshots[ret->count] = NULL;
			ret->disks[ret->count++] = disk;
		}
	}
	return r;
}

/* The snapshot NAME of each. */
static int group_find_snapshots(struct group *group, const char *name, struct base_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < group->count; i++)
		r = cmd_snapshot_find_of(group->disks[i], name, &group->snapshots[i], err);
	return r;
}

static int need_name(const json_t *args, char name[4 * NAME_BYTES_MAX], struct base_error *err)
{
	int r = cmd_arg_text(args, "name", name, 4 * NAME_BYTES_MAX, err);

	return r == CMD_ARG_ABSENT ? base_error_set(err, -EINVAL, "which snapshot? Give its name") : r;
}

static int need_yes(const json_t *args, const char *what, struct base_error *err)
{
	if (cmd_arg_flag(args, "yes"))
		return 0;
	return base_error_set(err, -EINVAL, "not confirmed, nothing was changed: add --yes to %s", what);
}

/* ---- create ------------------------------------------------------------------------------- */

static json_t *created_to_json(struct cmd_context *ctx, const struct group *group, const char *name,
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

static int take(struct cmd_context *ctx, const struct group *group, const char *name, json_t **ret_result,
		struct base_error *err)
{
	struct ioc_snapshot_spec specs[DISKS_MAX];
	struct ioc_snapshot_timing timing = { 0 };
	int r;

	for (size_t i = 0; i < group->count; i++)
		specs[i] = (struct ioc_snapshot_spec){ .disk = group->disks[i], .name = name };
	r = ioc_snapshot_create(ctx->ioc, specs, group->count, &timing, err);
	if (r == 0)
		*ret_result = created_to_json(ctx, group, name, &timing);
	return r;
}

static int take_named_by_time(struct cmd_context *ctx, const struct group *group, json_t **ret_result,
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

static int create(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX] = "";
	struct group group = { 0 };
	int r = cmd_arg_text(args, "name", name, sizeof(name), err);
	bool is_named = r == 0;

	if (is_named)
		r = cmd_snapshot_check_name(name, err);
	if (r >= 0)
		r = group_find(ctx, args, &group, err);
	if (r == 0)
		ctx->subject = CMD_SUBJECT_NONE;
	if (r == 0 && is_named)
		r = take(ctx, &group, name, ret_result, err);
	else if (r == 0)
		r = take_named_by_time(ctx, &group, ret_result, err);
	group_done(&group);
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

static int create_with_hooks(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
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

/* ---- remove, rollback, list --------------------------------------------------------------- */

static int remove_snapshots(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	struct group group = { 0 };
	json_t *removed = json_array();
	int r = need_name(args, name, err);

	if (r == 0)
		r = group_find(ctx, args, &group, err);
	if (r == 0)
		r = group_find_snapshots(&group, name, err);
	if (r == 0)
		r = need_yes(args, "remove the snapshot", err);
	for (size_t i = 0; r == 0 && i < group.count; i++) {
		json_t *about = cmd_snapshot_to_json(group.snapshots[i]);

		ctx->subject = CMD_SUBJECT_NONE;
		r = cmd_snapshot_remove(ctx, group.snapshots[i], err);
		if (r == 0)
			json_array_append(removed, about);
		else if (i > 0)
			base_error_wrap(err, "%zu snapshots were removed, then", i);
		json_decref(about);
	}
	if (r == 0)
		*ret_result = json_pack("{s:O}", "removed", removed);
	json_decref(removed);
	group_done(&group);
	return r;
}

static int check_closed(const struct group *group, struct base_error *err)
{
	struct meta_disk_info info;

	for (size_t i = 0; i < group->count; i++) {
		if (meta_disk_wait_closed(group->disks[i], RELEASE_PATIENCE_NS) == 0)
			continue;
		meta_disk_info(group->disks[i], &info);
		return base_error_set(
			err, -EBUSY,
			"%s: in use (open %u times), so it can't be rolled back: close what uses it first",
			info.record.name, info.opens);
	}
	return 0;
}

static int roll_back_one(struct cmd_context *ctx, struct meta_disk *disk, struct meta_snapshot *snapshot,
			 json_t *done, struct base_error *err)
{
	struct meta_disk_info info;
	int r = meta_disk_rollback(disk, snapshot, err);

	meta_disk_info(disk, &info);
	if (r < 0)
		return base_error_wrap(err, "%s: not rolled back", info.record.name);
	if (ctx->service)
		ctx->service->disk_replaced(ctx->service, info.number);
	return json_array_append_new(done, cmd_disk_to_json(disk)) ? base_error_set(err, -ENOMEM, "out of memory")
								   : 0;
}

static int roll_back(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	struct group group = { 0 };
	json_t *done = json_array();
	int r = need_name(args, name, err);

	if (r == 0)
		r = group_find(ctx, args, &group, err);
	if (r == 0)
		r = group_find_snapshots(&group, name, err);
	if (r == 0)
		ctx->subject = CMD_SUBJECT_NONE;
	if (r == 0)
		r = need_yes(args, "give up what was written since the snapshot", err);
	if (r == 0)
		r = check_closed(&group, err);
	for (size_t i = 0; r == 0 && i < group.count; i++) {
		r = roll_back_one(ctx, group.disks[i], group.snapshots[i], done, err);
		if (r < 0 && i > 0)
			base_error_wrap(err, "%zu disks were rolled back, then", i);
	}
	if (r == 0)
		*ret_result = json_pack("{s:O}", "rolled_back", done);
	json_decref(done);
	group_done(&group);
	return r;
}

static int append_all(struct cmd_context *ctx, json_t *snapshots)
{
	char after[NAME_BYTES_MAX + 1] = "";
	struct meta_disk_info info;
	struct meta_disk *disk;
	int r = 0;

	while (r == 0 && (disk = meta_disk_next(ctx->meta, after))) {
		meta_disk_info(disk, &info);
		memcpy(after, info.record.name, sizeof(after));
		r = cmd_snapshots_append(disk, snapshots);
		meta_disk_put(disk);
	}
	return r;
}

static int list(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	bool of_some = cmd_arg_is_set(args, "lu") || cmd_arg_is_set(args, "luudid");
	json_t *snapshots = json_array();
	struct group group = { 0 };
	struct meta_pool_info info;
	int r = of_some ? group_find(ctx, args, &group, err) : 0;

	for (size_t i = 0; r == 0 && i < group.count; i++)
		r = cmd_snapshots_append(group.disks[i], snapshots);
	if (r == 0 && !of_some)
		r = append_all(ctx, snapshots);
	group_done(&group);
	if (r < 0) {
		json_decref(snapshots);
		return r == -ENOMEM ? base_error_set(err, r, "out of memory for the list of snapshots") : r;
	}
	meta_pool_info(ctx->meta, &info);
	*ret_result = json_pack("{s:o, s:o}", "pool", cmd_text_to_json(info.name), "snapshots", snapshots);
	return 0;
}

/* ------------------------------------------------------------------------------------------- */

static const struct {
	const char *option;
	unsigned actions; /* with which it goes */
} fits[] = {
	{ "exec-before", 1 << ACTION_CREATE }, { "exec-after", 1 << ACTION_CREATE },
	{ "offset", 1 << ACTION_DIFF },        { "limit", 1 << ACTION_DIFF },
	{ "other", 1 << ACTION_DIFF },         { "name", (1 << ACTION_LIST) - 1 + (1 << ACTION_DIFF) },
	{ "lu", (1 << ACTION_DIFF) - 1 },      { "luudid", (1 << ACTION_DIFF) - 1 },
};

static int check(const json_t *args, struct base_error *err)
{
	int action = cmd_arg_one_of(args, actions, err);

	for (size_t i = 0; action >= 0 && i < ARRAY_LEN(fits); i++)
		if (cmd_arg_is_set(args, fits[i].option) && !(fits[i].actions & 1u << action))
			return base_error_set(err, -EINVAL, "%s does not go with -%s; see `bdfs help snapshot`",
					      fits[i].option, actions[action]);
	return action;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int action = check(args, err);

	if (action < 0)
		return action;
	if (action == ACTION_DIFF)
		return cmd_diff_collect(ctx, args, ret_result, err);
	if (cmd_arg_is_set(args, "exec-before") || cmd_arg_is_set(args, "exec-after"))
		return create_with_hooks(ctx, args, ret_result, err);
	return CMD_ON_POOL;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int action = check(args, err);

	switch (action) {
	case ACTION_CREATE:
		if (cmd_arg_is_set(args, "exec-before") || cmd_arg_is_set(args, "exec-after"))
			return base_error_set(err, -EINVAL, "hooks are run by the command, never by the daemon");
		return create(ctx, args, ret_result, err);
	case ACTION_REMOVE:
		return remove_snapshots(ctx, args, ret_result, err);
	case ACTION_ROLLBACK:
		return roll_back(ctx, args, ret_result, err);
	case ACTION_LIST:
		return list(ctx, args, ret_result, err);
	case ACTION_DIFF:
		return cmd_diff_page(ctx, args, ret_result, err);
	}
	return action;
}

static bool question(const json_t *args, char *buf, size_t room)
{
	const char *name = json_string_value(json_object_get(args, "name"));
	bool removes = cmd_arg_flag(args, "remove");

	if (!name || cmd_arg_flag(args, "yes") || (!removes && !cmd_arg_flag(args, "rollback")))
		return false;
	if (removes)
		snprintf(buf, room, "Delete the snapshot %s?", name);
	else
		snprintf(buf, room, "Delete all that was written since the snapshot %s?", name);
	return true;
}

static unsigned needs(const json_t *args)
{
	if (cmd_arg_flag(args, "create"))
		return CMD_CHANGES | CMD_IO;
	return cmd_arg_flag(args, "list") || cmd_arg_flag(args, "diff") ? 0 : CMD_CHANGES;
}

const struct cmd_verb cmd_snapshot = {
	.name = "snapshot",
	.summary = "take, list, compare and remove snapshots; roll back",
	.synopsis = "bdfs snapshot -create [NAME] [-sp POOL] {-lu NAME... | -luudid UDID...}\n"
		    "              [-exec-before COMMAND] [-exec-after COMMAND]\n"
		    "bdfs snapshot -list [-sp POOL] [-lu NAME... | -luudid UDID...]\n"
		    "bdfs snapshot {-remove | -rollback} NAME [-sp POOL] {-lu NAME... | -luudid UDID...} [--yes]\n"
		    "bdfs snapshot -diff OLDER NEWER [-sp POOL] [-offset BYTES] [-limit N]",
	.about =
		"A snapshot keeps what a disk has now. It takes no time and no space; what is written to the disk "
		"afterwards takes new space. Snapshots of several disks are taken at one instant. In the mount it is "
		"the read-only file snapshots/DISK/NAME, and `bdfs lu -create -lu NEW -from DISK@NAME` makes a "
		"writable clone of it.\n"
		"A snapshot is as good as a power cut: what a guest has not flushed yet is not in it. To freeze the "
		"guest's file systems around it, say how with -exec-before and -exec-after. They are run by sh, in "
		"this command, with BDFS_POOL, BDFS_LUS and BDFS_SNAPSHOT in their environment. If the first fails "
		"no snapshot is taken; the second runs in any case, even if this command is killed, and finds "
		"\"done\" or \"failed\" in BDFS_STATUS.\n"
		"-rollback gives a disk the content and size it had, and gives up what was written since; other "
		"snapshots stay, later ones too. The disk must not be in use. -remove gives back what only that "
		"snapshot holds, in the background (`bdfs jobs`). Both ask on a terminal and need --yes elsewhere.\n"
		"-diff reads only metadata. It lists every place that may read otherwise in NEWER than in OLDER, and "
		"whether NEWER has data or zeros there. OLDER may be '-' for nothing: all data of NEWER.",
	.examples = "bdfs snapshot -create before-upgrade -sp vms -lu web1 db1\n"
		    "bdfs snapshot -create -lu web1 -exec-before 'ssh web1 fsfreeze -f /srv' \\\n"
		    "              -exec-after 'ssh web1 fsfreeze -u /srv'\n"
		    "bdfs snapshot -diff web1@monday web1@tuesday --json",
	.options = options,
	.local = local,
	.run = run,
	.needs = needs,
	.question = question,
};
