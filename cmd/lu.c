/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lu: the second family of VIOS's verbs for disks, with all in one verb.
 *
 * `lu -create | -list | -resize | -remove | -map | -unmap`; a disk is addressed by its name
 * (-lu) or its UDID (-luudid), which is its UUID. The work is in cmd/disks.c,
 * shared with mkbdsp, chbdsp and rmbdsp.
 *
 * -resize takes the new total; +10G is an increment. To make a disk smaller
 * cuts off its end, so that needs --shrink too: a typing error in a size must
 * not cost data.
 *
 * Failure modes: as those of the other family, with the common exit statuses (a
 * disk that is not there is 2).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/space.h"
#include "cmd/text.h"
#include "cmd/vtds.h"
#include "meta/pool.h"

static const struct cmd_option options[] = {
	{ "create", NULL, CMD_FLAG, 0, NULL, "make a disk: -lu, -size" },
	{ "list", NULL, CMD_FLAG, 0, NULL, "list disks" },
	{ "resize", NULL, CMD_FLAG, 0, NULL, "change the size of a disk: -lu or -luudid, -size" },
	{ "remove", NULL, CMD_FLAG, 0, NULL, "delete a disk: -lu, -luudid or -all" },
	CMD_OPTION_SP,
	{ "lu", NULL, CMD_TEXT, 0, "NAME", "the disk, by name" },
	{ "luudid", NULL, CMD_TEXT, 0, "UDID", "the disk, by its UDID" },
	{ "size", NULL, CMD_SIZE, 0, "SIZE",
	  "-create: how large; -resize: the new total, or +SIZE to add; a bare number counts megabytes" },
	{ "from", NULL, CMD_TEXT, 0, "DISK@SNAPSHOT",
	  "-create: a clone, with the content and size of this snapshot" },
	{ "count", NULL, CMD_NUMBER, 0, "N", "-create: make N disks, NAME0 to NAME(N-1), all or none" },
	{ "shrink", NULL, CMD_FLAG, 0, NULL, "-resize: yes, cut off the end of the disk" },
	{ "verbose", NULL, CMD_FLAG, 0, NULL, "-list: all there is to know, a paragraph a disk" },
	{ "space", NULL, CMD_FLAG, 0, NULL,
	  "-list: what disks and their snapshots own, share, and would give back; as lssp -space" },
	{ "all", NULL, CMD_FLAG, 0, NULL, "-remove: every disk of the pool" },
	{ "with-snapshots", NULL, CMD_FLAG, 0, NULL,
	  "-remove: delete a disk's snapshots with it; else a disk that has some is refused" },
	{ "yes", "f", CMD_FLAG, 0, NULL, "-remove: don't ask; needed where there is no terminal to ask" },
	{ "map", NULL, CMD_FLAG, 0, NULL, "map a disk: -lu or -luudid, -vadapter" },
	{ "unmap", NULL, CMD_FLAG, 0, NULL, "unmap a disk: -vtd, -lu or -luudid" },
	{ "vadapter", NULL, CMD_TEXT, 0, "ADAPTER", "-map, -create: to this adapter" },
	{ "vtd", NULL, CMD_TEXT, 0, "VTD", "-map, -create: how to call the VTD; -unmap: which" },
	CMD_OPTIONS_MAPPING,
	{ "force", NULL, CMD_FLAG, 0, NULL, "-unmap: although somebody uses it" },
	{ "thick", NULL, CMD_FLAG, 0, NULL, "-create: reserve all its space in the pool now" },
	{ "tier", NULL, CMD_TEXT, CMD_LATER, "TIER", "there are no tiers; leave it out" },
	{ "clustername", NULL, CMD_TEXT, CMD_LATER, "CLUSTER", "clusters are not in this release; leave it out" },
	{ 0 },
};

enum action { ACTION_CREATE, ACTION_LIST, ACTION_RESIZE, ACTION_REMOVE, ACTION_MAP, ACTION_UNMAP };
static const char *const actions[] = { "create", "list", "resize", "remove", "map", "unmap", NULL };

static int need_size(const json_t *args, struct base_size *ret, struct base_error *err)
{
	if (cmd_arg_size(args, "size", ret) == CMD_ARG_ABSENT)
		return base_error_set(err, -EINVAL, "-size is missing: say how large, such as -size 20G");
	return 0;
}

static int create_disk(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	struct base_size size;
	int r = cmd_arg_text(args, "lu", name, sizeof(name), err);

	if (r == CMD_ARG_ABSENT)
		return base_error_set(err, -EINVAL, "-lu is missing: say what the disk is called");
	if (r == 0 && cmd_arg_is_set(args, "from"))
		return cmd_disk_create_from(ctx, name, args, ret_result, err);
	if (r == 0)
		r = need_size(args, &size, err);
	if (r < 0)
		return r;
	if (size.is_increment)
		return base_error_set(err, -EINVAL, "%s: a new disk has no size to add to: write it without the +",
				      name);
	if (cmd_arg_number(args, "count", 1) == 0)
		return base_error_set(err, -EINVAL, "%s: -count 0 would make nothing", name);
	return cmd_disk_create(ctx, name, size.bytes, cmd_arg_number(args, "count", 0), 0,
			       cmd_arg_flag(args, "thick"), ret_result, err);
}

static int create(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	int map = cmd_vtd_is_asked(args, "vtd", err);
	int r = map < 0 ? map : create_disk(ctx, args, ret_result, err);

	if (r == 0 && map > 0)
		r = cmd_arg_text(args, "lu", name, sizeof(name), err);
	if (r == 0 && map > 0)
		r = cmd_vtd_map_named(ctx, args, "vtd", name, true, ret_result, err);
	return r;
}

/* A disk, or with -lu DISK@SNAPSHOT; no path, which the other family takes. */
static int find_backing(struct cmd_context *ctx, const json_t *args, struct cmd_backing *ret, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];

	*ret = (struct cmd_backing){ 0 };
	if (cmd_arg_is_set(args, "luudid") || cmd_arg_text(args, "lu", name, sizeof(name), NULL) != 0 ||
	    strchr(name, '/'))
		return cmd_disk_find_by_args(ctx, args, "lu", "luudid", &ret->disk, err);
	return cmd_backing_find(ctx, name, ret, err);
}

static int map_lu(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_backing backing;
	json_t *row = NULL;
	int r = find_backing(ctx, args, &backing, err);

	if (r < 0)
		return r;
	ctx->subject = CMD_SUBJECT_NONE;
	r = cmd_vtd_map_by_args(ctx, args, "vtd", &backing, &row, err);
	cmd_backing_put(&backing);
	if (r == 0)
		*ret_result = json_pack("{s:o}", "mapping", row);
	return r;
}

static int unmap_lu(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_vtd_info vtd = { 0 };
	struct cmd_backing backing;
	char name[256];
	int r = cmd_arg_text(args, "vtd", name, sizeof(name), err);

	if (r == CMD_ARG_ABSENT) {
		r = find_backing(ctx, args, &backing, err);
		if (r < 0)
			return r;
		r = cmd_vtd_of(ctx, &backing, &vtd, err);
		cmd_backing_put(&backing);
		memcpy(name, vtd.name, sizeof(vtd.name));
	}
	if (r == 0)
		r = cmd_vtd_unmap(ctx, name, cmd_arg_flag(args, "force"), err);
	if (r == 0)
		*ret_result = json_pack("{s:[s]}", "unmapped", name);
	return r;
}

static int list_space(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_disk_info info;
	struct meta_disk *disk;
	int r;

	if (!cmd_arg_is_set(args, "lu") && !cmd_arg_is_set(args, "luudid"))
		return cmd_space_to_json(ctx, NULL, ret_result, err);
	r = cmd_disk_find_by_args(ctx, args, "lu", "luudid", &disk, err);
	if (r < 0)
		return r;
	meta_disk_info(disk, &info);
	meta_disk_put(disk);
	return cmd_space_to_json(ctx, info.record.name, ret_result, err);
}

static int list(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_pool_info info;
	json_t *disks;

	if (cmd_arg_flag(args, "space"))
		return list_space(ctx, args, ret_result, err);
	if (cmd_arg_is_set(args, "lu") || cmd_arg_is_set(args, "luudid")) {
		struct meta_disk *disk;
		int r = cmd_disk_find_by_args(ctx, args, "lu", "luudid", &disk, err);

		if (r < 0)
			return r;
		disks = json_pack("[o]", cmd_disk_to_json(disk));
		meta_disk_put(disk);
	} else {
		disks = cmd_disks_to_json(ctx);
	}
	meta_pool_info(ctx->meta, &info);
	*ret_result = json_pack("{s:o, s:o}", "pool", cmd_text_to_json(info.name),
				cmd_arg_flag(args, "verbose") ? "verbose" : "lus", disks);
	return 0;
}

static int check_shrink(struct meta_disk *disk, uint64_t new_bytes, const json_t *args, struct base_error *err)
{
	char old_text[BASE_SIZE_TEXT_BYTES], new_text[BASE_SIZE_TEXT_BYTES];
	struct meta_disk_info info;

	meta_disk_info(disk, &info);
	if (new_bytes >= info.size_bytes || cmd_arg_flag(args, "shrink"))
		return 0;
	return base_error_set(
		err, -EINVAL,
		"%s: has %s; %s would cut off its end and the data there: add --shrink to do that, or write "
		"+SIZE to add",
		info.record.name, base_size_to_text(info.size_bytes, old_text),
		base_size_to_text(new_bytes, new_text));
}

static int resize_found(struct cmd_context *ctx, struct meta_disk *disk, const struct base_size *size,
			const json_t *args, struct base_error *err)
{
	uint64_t new_bytes = size->bytes;

	if (size->is_increment && new_bytes <= DISK_BYTES_MAX)
		new_bytes += meta_disk_size(disk);

	int r = check_shrink(disk, new_bytes, args, err);

	return r < 0 ? r : cmd_disk_resize(ctx, disk, new_bytes, err);
}

static int resize(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_disk *disk;
	struct base_size size;
	int r = need_size(args, &size, err);

	if (r == 0)
		r = cmd_disk_find_by_args(ctx, args, "lu", "luudid", &disk, err);
	if (r < 0)
		return r;
	r = resize_found(ctx, disk, &size, args, err);
	if (r == 0)
		*ret_result = json_pack("{s:o}", "disk", cmd_disk_to_json(disk));
	meta_disk_put(disk);
	return r;
}

static int remove_named(struct cmd_context *ctx, const json_t *args, json_t *removed, struct base_error *err)
{
	struct meta_disk *disk;
	int r = cmd_disk_find_by_args(ctx, args, "lu", "luudid", &disk, err);

	return r < 0 ? r
		     : cmd_disk_remove_listed(ctx, disk, cmd_disk_to_json(disk),
					      cmd_arg_flag(args, "with-snapshots"), removed, err);
}

static int remove_lus(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	static const char *const which[] = { "lu", "luudid", "all", NULL };
	int r = cmd_arg_one_of(args, which, err);

	if (r < 0)
		return r;
	if (!cmd_arg_flag(args, "yes"))
		return base_error_set(err, -EINVAL, "not confirmed, nothing was deleted: add --yes to delete data");

	json_t *removed = json_array();

	r = cmd_arg_flag(args, "all") ? cmd_disk_remove_all(ctx, cmd_arg_flag(args, "with-snapshots"), removed, err)
				      : remove_named(ctx, args, removed, err);
	if (r < 0)
		json_decref(removed);
	else
		*ret_result = json_pack("{s:o}", "removed", removed);
	return r;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int action = cmd_arg_one_of(args, actions, err);

	switch (action) {
	case ACTION_CREATE:
		return create(ctx, args, ret_result, err);
	case ACTION_LIST:
		return list(ctx, args, ret_result, err);
	case ACTION_RESIZE:
		return resize(ctx, args, ret_result, err);
	case ACTION_REMOVE:
		return remove_lus(ctx, args, ret_result, err);
	case ACTION_MAP:
		return map_lu(ctx, args, ret_result, err);
	case ACTION_UNMAP:
		return unmap_lu(ctx, args, ret_result, err);
	}
	return action;
}

static bool question(const json_t *args, char *buf, size_t room)
{
	const char *sp = json_string_value(json_object_get(args, "sp"));
	const char *lu = json_string_value(json_object_get(args, cmd_arg_is_set(args, "lu") ? "lu" : "luudid"));

	if (!cmd_arg_flag(args, "remove") || cmd_arg_flag(args, "yes") || (!lu && !cmd_arg_flag(args, "all")))
		return false;
	snprintf(buf, room, "Delete %s%s of %s%s and all data on %s?", lu ? "disk " : "ALL disks", lu ? lu : "",
		 sp ? "pool " : "the default pool", sp ? sp : "", lu ? "it" : "them");
	return true;
}

static unsigned needs(const json_t *args)
{
	if (cmd_arg_flag(args, "resize"))
		return CMD_CHANGES | CMD_IO;
	return cmd_arg_flag(args, "list") ? 0 : CMD_CHANGES;
}

const struct cmd_verb cmd_lu = {
	.name = "lu",
	.summary = "make, list, resize and delete disks (VIOS's other spelling)",
	.synopsis = "bdfs lu -create [-sp POOL] -lu NAME -size SIZE [-count N] [-thick]\n"
		    "bdfs lu -create [-sp POOL] -lu NAME -from DISK@SNAPSHOT\n"
		    "bdfs lu -list [-sp POOL] [-lu NAME | -luudid UDID] [-verbose | -space]\n"
		    "bdfs lu -resize [-sp POOL] {-lu NAME | -luudid UDID} -size SIZE [--shrink]\n"
		    "bdfs lu -map [-sp POOL] {-lu NAME | -luudid UDID} -vadapter ADAPTER [-vtd VTD] [-shared] [-ro]\n"
		    "bdfs lu -unmap [-sp POOL] {-vtd VTD | -lu NAME | -luudid UDID} [-force]\n"
		    "bdfs lu -remove [-sp POOL] {-lu NAME | -luudid UDID | -all} [--with-snapshots] [--yes]",
	.about = "A logical unit (LU) is a thin disk of the pool, the same that mkbdsp makes. Its UDID is its UUID "
		 "without dashes and stays the same when it is renamed.\n"
		 "-resize takes the new total, as in VIOS; +10G adds. A smaller total is refused without --shrink, "
		 "since it cuts off the end of the disk. -map and -unmap do what mkvdev and rmvdev do; -create with "
		 "-vadapter maps too. -remove asks on a terminal and needs --yes elsewhere.",
	.examples = "bdfs lu -create -sp vms -lu web1 -size 20G\n"
		    "bdfs lu -list -sp vms -field LU_NAME LU_SIZE -fmt :\n"
		    "bdfs lu -resize -sp vms -lu web1 -size +10G",
	.options = options,
	.run = run,
	.needs = needs,
	.question = question,
};
