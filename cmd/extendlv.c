/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extendlv: makes a logical volume larger.
 *
 * `extendlv LV SIZE`: SIZE is what is added, as in VIOS. The volume may be in
 * use; what uses it sees the new size when it looks.
 *
 * Failure modes: no such volume (2); no space (4), and nothing has changed.
 */
#include <errno.h>

#include "base/units.h"
#include "cmd/args.h"
#include "cmd/volumes.h"
#include "meta/pool.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "lv", NULL, CMD_TEXT, CMD_POSITIONAL | CMD_REQUIRED, "LV", "the logical volume" },
	{ "size", NULL, CMD_SIZE, CMD_POSITIONAL | CMD_REQUIRED, "SIZE", "how much to add, as 10G or +10G" },
	{ 0 },
};

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	struct meta_disk *disk;
	struct base_size size;
	int r = cmd_arg_text(args, "lv", name, sizeof(name), err);

	if (r == 0)
		r = cmd_arg_size(args, "size", &size);
	if (r == 0)
		r = cmd_volume_find(ctx, name, &disk, err);
	if (r != 0)
		return r;
	ctx->subject = CMD_SUBJECT_NONE;
	if (size.bytes == 0 || size.bytes > DISK_BYTES_MAX)
		r = base_error_set(err, -EINVAL, "can't add %llu bytes", (unsigned long long)size.bytes);
	else
		r = cmd_volume_extend(ctx, disk, meta_disk_size(disk) + size.bytes, err);
	if (r < 0)
		base_error_wrap(err, "%s", name);
	else
		*ret_result = json_pack("{s:o}", "lv", cmd_volume_to_json(disk));
	meta_disk_put(disk);
	return r;
}

static unsigned needs(const json_t *args)
{
	(void)args;
	return CMD_CHANGES | CMD_IO;
}

const struct cmd_verb cmd_extendlv = {
	.name = "extendlv",
	.summary = "make a logical volume larger",
	.synopsis = "bdfs extendlv [-sp POOL] LV SIZE",
	.about =
		"Adds SIZE to a logical volume, rounded up to whole partitions of 4 MiB, with its space. The "
		"volume may be "
		"in use. Without enough space nothing changes.",
	.examples = "bdfs extendlv -sp vms db1 20G",
	.options = options,
	.run = run,
	.needs = needs,
};
