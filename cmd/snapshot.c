/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot: takes, lists, removes and compares snapshots, and goes back to one.
 *
 * VIOS's spelling: one action, the snapshot's name, the disks by -lu or -luudid.
 * Several disks are one group: their snapshots are of one instant, whatever
 * writes go on meanwhile.
 *
 * A snapshot is what a power cut at that instant would have left. A guest's file
 * system recovers from that; to have it clean, -exec-before freezes and
 * -exec-after thaws. These run in the command, by its user and with its
 * environment, never in the daemon.
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
#include <string.h>

#include "cmd/args.h"
#include "cmd/diff.h"
#include "cmd/disks.h"
#include "cmd/snapshot_internal.h"
#include "cmd/snapshots.h"
#include "cmd/text.h"
#include "meta/snapshot.h"

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

/* ---- remove, roll back -------------------------------------------------------------------- */

/* Does something to one disk and its snapshot, and appends what it was to done. */
typedef int (*act_fn)(struct cmd_context *ctx, struct meta_disk *disk, struct meta_snapshot *snapshot, json_t *done,
		      struct base_error *err);

static int remove_one(struct cmd_context *ctx, struct meta_disk *disk, struct meta_snapshot *snapshot, json_t *done,
		      struct base_error *err)
{
	json_t *about = cmd_snapshot_to_json(snapshot);
	int r = cmd_snapshot_remove(ctx, snapshot, err);

	if (r == 0)
		json_array_append(done, about);
	json_decref(about);
	return r;
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
	json_array_append_new(done, cmd_disk_to_json(disk));
	return 0;
}

/* Before anything is done to the first: it is done to all or to none, as far as one can tell. */
static int check_unused(struct cmd_context *ctx, const struct cmd_snapshot_group *group, bool removes,
			struct base_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < group->count; i++) {
		r = removes ? cmd_snapshot_check_unused(ctx, group->snapshots[i], err)
			    : cmd_disk_check_unused(ctx, group->disks[i], "roll it back", err);
		if (r == 0)
			r = cmd_snapshot_check_not_mapped(ctx, group->snapshots[i], err);
	}
	return r;
}

static int find_all(struct cmd_context *ctx, const json_t *args, struct cmd_snapshot_group *group,
		    struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	int r = cmd_arg_text(args, "name", name, sizeof(name), err);

	if (r == CMD_ARG_ABSENT)
		return base_error_set(err, -EINVAL, "which snapshot? Give its name");
	if (r == 0)
		r = cmd_snapshot_group_find(ctx, args, group, err);
	return r == 0 ? cmd_snapshot_group_find_snapshots(group, name, err) : r;
}

static int act_on_all(struct cmd_context *ctx, const struct cmd_snapshot_group *group, act_fn act, json_t *done,
		      struct base_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < group->count; i++) {
		r = act(ctx, group->disks[i], group->snapshots[i], done, err);
		if (r < 0 && i > 0)
			base_error_wrap(err, "%zu of %zu are done, then", i, group->count);
	}
	return r;
}

static int remove_or_roll_back(struct cmd_context *ctx, const json_t *args, bool removes, json_t **ret_result,
			       struct base_error *err)
{
	struct cmd_snapshot_group group = { .count = 0 };
	json_t *done = json_array();
	int r = find_all(ctx, args, &group, err);

	if (r == 0)
		ctx->subject = CMD_SUBJECT_NONE;
	if (r == 0 && !cmd_arg_flag(args, "yes"))
		r = base_error_set(err, -EINVAL, "not confirmed, nothing was changed: add --yes to %s",
				   removes ? "remove the snapshot" : "give up what was written since the snapshot");
	if (r == 0)
		r = check_unused(ctx, &group, removes, err);
	if (r == 0)
		r = act_on_all(ctx, &group, removes ? remove_one : roll_back_one, done, err);
	if (r == 0)
		*ret_result = json_pack("{s:O}", removes ? "removed" : "rolled_back", done);
	json_decref(done);
	cmd_snapshot_group_done(&group);
	return r;
}

/* ---- list --------------------------------------------------------------------------------- */

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
	struct cmd_snapshot_group group = { 0 };
	struct meta_pool_info info;
	int r = of_some ? cmd_snapshot_group_find(ctx, args, &group, err) : 0;

	for (size_t i = 0; r == 0 && i < group.count; i++)
		r = cmd_snapshots_append(group.disks[i], snapshots);
	if (r == 0 && !of_some)
		r = append_all(ctx, snapshots);
	cmd_snapshot_group_done(&group);
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
	if (cmd_snapshot_has_hooks(args))
		return cmd_snapshot_create_with_hooks(ctx, args, ret_result, err);
	return CMD_ON_POOL;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int action = check(args, err);

	switch (action) {
	case ACTION_CREATE:
		if (cmd_snapshot_has_hooks(args))
			return base_error_set(err, -EINVAL, "hooks are run by the command, never by the daemon");
		return cmd_snapshot_create(ctx, args, ret_result, err);
	case ACTION_REMOVE:
		return remove_or_roll_back(ctx, args, true, ret_result, err);
	case ACTION_ROLLBACK:
		return remove_or_roll_back(ctx, args, false, ret_result, err);
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
