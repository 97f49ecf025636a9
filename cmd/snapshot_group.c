/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks that one `bdfs snapshot` is about.
 *
 * They are named by -lu or by -luudid, never both. Each is referenced until
 * cmd_snapshot_group_done, so it stays what it is although others may remove or
 * rename it meanwhile; what changes it asks the catalogue again.
 *
 * Failure modes: a name that is not there is the whole command's failure, before
 * anything was changed.
 */
#include <errno.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/snapshot_internal.h"
#include "cmd/snapshots.h"
#include "meta/snapshot.h"

void cmd_snapshot_group_done(struct cmd_snapshot_group *group)
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

static bool is_in_group(const struct cmd_snapshot_group *group, const struct meta_disk *disk)
{
	for (size_t i = 0; i < group->count; i++)
		if (group->disks[i] == disk)
			return true;
	return false;
}

int cmd_snapshot_group_find(struct cmd_context *ctx, const json_t *args, struct cmd_snapshot_group *ret,
			    struct base_error *err)
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
		} else if (r == 0 && ret->count == CMD_SNAPSHOT_GROUP_MAX) {
			meta_disk_put(disk);
			r = base_error_set(err, -EINVAL, "-%s: at most %d disks at once", either[which],
					   CMD_SNAPSHOT_GROUP_MAX);
		} else if (r == 0) {
			ret->snapshots[ret->count] = NULL;
			ret->disks[ret->count++] = disk;
		}
	}
	return r;
}

int cmd_snapshot_group_find_snapshots(struct cmd_snapshot_group *group, const char *name, struct base_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < group->count; i++)
		r = cmd_snapshot_find_of(group->disks[i], name, &group->snapshots[i], err);
	return r;
}
