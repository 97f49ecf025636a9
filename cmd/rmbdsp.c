/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rmbdsp: deletes a disk, or all disks of a pool.
 *
 * In VIOS this verb deletes data without a question, even of a disk in use.
 * Here deleting is never a side effect: a terminal is asked, anything else needs
 * --yes, and a disk that is open is refused whatever is said. -f is accepted
 * and means --yes, nothing more.
 *
 * The disk leaves the catalogue in one transaction; its space comes back in the
 * background, also across restarts.
 *
 * Failure modes: not confirmed (1); no such disk (39); in use (4). With -all
 * every disk is looked at before the first is deleted.
 */
#include <errno.h>
#include <stdio.h>

#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/vtds.h"
#include "meta/pool.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "bd", NULL, CMD_TEXT, 0, "NAME", "the disk" },
	{ "all", NULL, CMD_FLAG, 0, NULL, "every disk of the pool" },
	{ "with-snapshots", NULL, CMD_FLAG, 0, NULL,
	  "delete a disk's snapshots with it; else a disk that has some is refused" },
	{ "yes", "f", CMD_FLAG, 0, NULL, "don't ask; needed where there is no terminal to ask" },
	{ "vtd", NULL, CMD_TEXT, 0, "VTD", "the disk that this virtual target device maps: it is unmapped first" },
	{ "savebd", NULL, CMD_FLAG, 0, NULL, "-vtd: only unmap, and keep the disk and its data" },
	{ "clustername", NULL, CMD_TEXT, CMD_LATER, "CLUSTER", "clusters are not in this release; leave it out" },
	{ 0 },
};

static const char *const either[] = { "bd", "all", "vtd", NULL };

/* Unmaps and, without -savebd, deletes what was mapped. A device or file outside the pool is never deleted. */
static int remove_vtd(struct cmd_context *ctx, const json_t *args, json_t *removed, struct base_error *err)
{
	struct meta_vtd_info vtd;
	char name[256];
	int r = cmd_arg_text(args, "vtd", name, sizeof(name), err);

	if (r == 0)
		r = meta_vtd_get(ctx->meta, name, &vtd, err);
	if (r == 0)
		r = cmd_vtd_unmap(ctx, name, false, err);
	if (r < 0 || cmd_arg_flag(args, "savebd") || vtd.record.backing != META_BACKING_DISK)
		return r;

	struct meta_disk *disk = meta_disk_get_by_number(ctx->meta, vtd.record.disk);

	if (!disk)
		return 0;

	r = cmd_disk_remove_listed(ctx, disk, cmd_disk_to_json(disk), cmd_arg_flag(args, "with-snapshots"), removed,
				   err);
	return r < 0 ? base_error_wrap(err, "%s was unmapped, but its disk stays", name) : 0;
}

static int remove_one(struct cmd_context *ctx, const json_t *args, json_t *removed, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	struct meta_disk *disk;
	int r = cmd_arg_text(args, "bd", name, sizeof(name), err);

	if (r == -ENAMETOOLONG)
		ctx->subject = CMD_SUBJECT_BD;
	if (r == 0)
		r = cmd_disk_find(ctx, name, &disk, err);
	if (r < 0)
		return r;

	ctx->subject = CMD_SUBJECT_NONE;
	return cmd_disk_remove_listed(ctx, disk, cmd_disk_to_json(disk), cmd_arg_flag(args, "with-snapshots"),
				      removed, err);
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int which = cmd_arg_one_of(args, either, err);

	if (which < 0)
		return which;
	if (cmd_arg_flag(args, "savebd") && which != 2)
		return base_error_set(err, -EINVAL, "-savebd goes with -vtd: what else would be done to the disk?");
	if (!cmd_arg_flag(args, "yes") && !cmd_arg_flag(args, "savebd"))
		return base_error_set(err, -EINVAL, "not confirmed, nothing was deleted: add --yes to delete %s",
				      which == 1 ? "all disks and their data" : "the disk and its data");

	json_t *removed = json_array();
	int r = which == 0   ? remove_one(ctx, args, removed, err)
		: which == 2 ? remove_vtd(ctx, args, removed, err)
			     : cmd_disk_remove_all(ctx, cmd_arg_flag(args, "with-snapshots"), removed, err);

	if (r < 0)
		json_decref(removed);
	else
		*ret_result = json_pack("{s:o, s:O?}", "removed", removed, "vtd", json_object_get(args, "vtd"));
	return r;
}

static bool question(const json_t *args, char *buf, size_t room)
{
	const char *sp = json_string_value(json_object_get(args, "sp"));
	const char *bd = json_string_value(json_object_get(args, "bd"));

	const char *vtd = json_string_value(json_object_get(args, "vtd"));

	if (cmd_arg_flag(args, "yes") || cmd_arg_flag(args, "savebd") ||
	    (!bd && !vtd && !cmd_arg_flag(args, "all")))
		return false;
	if (vtd) {
		snprintf(buf, room, "Unmap %s and delete its disk with all data on it?", vtd);
		return true;
	}
	snprintf(buf, room, "Delete %s%s of %s%s and all data on %s?", bd ? "disk " : "ALL disks", bd ? bd : "",
		 sp ? "pool " : "the default pool", sp ? sp : "", bd ? "it" : "them");
	return true;
}

static unsigned needs(const json_t *args)
{
	return CMD_CHANGES;
}

const struct cmd_verb cmd_rmbdsp = {
	.name = "rmbdsp",
	.summary = "delete disks",
	.synopsis = "bdfs rmbdsp [-sp POOL] {-bd NAME | -all} [--with-snapshots] [--yes]\n"
		    "bdfs rmbdsp [-sp POOL] -vtd VTD {-savebd | [--with-snapshots] [--yes]}",
	.about =
		"Deletes a disk and its data. Asks first on a terminal; without one it needs --yes. -f is accepted "
		"and means --yes and nothing else. A disk that is in use is refused in any case, and one that has "
		"snapshots is refused without --with-snapshots; clones of them stay.\n"
		"A disk that is mapped is refused too; -vtd unmaps it first, unless somebody uses it. With "
		"-savebd that "
		"is all, as with rmvdev.\n"
		"The space comes back in the background, within moments.",
	.examples = "bdfs rmbdsp -sp vms -bd web1\n"
		    "bdfs rmbdsp -sp scratch -all --yes",
	.exits = "23 no such pool; 39 no such disk in the pool",
	.options = options,
	.run = run,
	.needs = needs,
	.question = question,
};
