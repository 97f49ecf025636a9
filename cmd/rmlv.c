/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rmlv: deletes logical volumes and their data.
 *
 * Asks on a terminal; elsewhere it needs --yes (VIOS's -f), which means nothing
 * else: a volume in use is refused in any case.
 *
 * Failure modes: no such volume (2), one in use (4). Several are deleted one
 * after the other, and the error says which were.
 */
#include <errno.h>
#include <stdio.h>

#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/volumes.h"
#include "meta/pool.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "yes", "f", CMD_FLAG, 0, NULL, "don't ask; needed where there is no terminal to ask" },
	{ "lv", NULL, CMD_LIST, CMD_POSITIONAL | CMD_REQUIRED, "LV", "a logical volume" },
	{ 0 },
};

static int remove_one(struct cmd_context *ctx, const char *name, json_t *removed, struct base_error *err)
{
	struct meta_disk *disk;
	int r = cmd_volume_find(ctx, name, &disk, err);

	return r < 0 ? r : cmd_disk_remove_listed(ctx, disk, cmd_volume_to_json(disk), false, removed, err);
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	size_t count = cmd_arg_list_count(args, "lv");
	char name[4 * NAME_BYTES_MAX];
	int r = 0;

	if (!cmd_arg_flag(args, "yes"))
		return base_error_set(err, -EINVAL, "not confirmed, nothing was deleted: add --yes to delete data");

	json_t *removed = json_array();

	for (size_t i = 0; i < count && r == 0; i++) {
		r = cmd_arg_list_item(args, "lv", i, name, sizeof(name), err);
		if (r == 0)
			r = remove_one(ctx, name, removed, err);
	}
	if (r < 0 && json_array_size(removed))
		base_error_wrap(err, "%zu of %zu were removed, then", json_array_size(removed), count);
	if (r < 0)
		json_decref(removed);
	else
		*ret_result = json_pack("{s:o}", "removed_lvs", removed);
	return r;
}

static bool question(const json_t *args, char *buf, size_t room)
{
	const char *first = json_string_value(json_array_get(json_object_get(args, "lv"), 0));
	size_t count = cmd_arg_list_count(args, "lv");

	if (cmd_arg_flag(args, "yes") || !first)
		return false;
	if (count == 1)
		snprintf(buf, room, "Delete logical volume %s and all data on it?", first);
	else
		snprintf(buf, room, "Delete %zu logical volumes, %s first, and all data on them?", count, first);
	return true;
}

static unsigned needs(const json_t *args)
{
	(void)args;
	return CMD_CHANGES;
}

const struct cmd_verb cmd_rmlv = {
	.name = "rmlv",
	.summary = "delete logical volumes",
	.synopsis = "bdfs rmlv [-sp POOL] LV... [--yes]",
	.about =
		"Deletes logical volumes and their data. A terminal is asked first; where there is none it needs "
		"--yes (-f). "
		"A volume that is in use is refused in any case. The space comes back in the background.",
	.examples = "bdfs rmlv -sp vms db1 --yes",
	.options = options,
	.run = run,
	.needs = needs,
	.question = question,
};
