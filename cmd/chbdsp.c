/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chbdsp: grows or renames a disk, makes it thick or thin.
 *
 * `-size S` is the amount to ADD, as in VIOS, with or without a plus sign. (`lu
 * -resize` takes the new total; both accept +S, which is never in doubt.)
 * `-mv NAME` renames; a disk that has the new name already is never replaced.
 *
 * Growing is seen at once through the mount; a guest or a loop device looks at
 * the size again when it is told to.
 *
 * Failure modes: no such disk (39), no such pool (23), the new name too long
 * (40) or taken (4); beyond the largest disk (1).
 */
#include <errno.h>

#include "base/units.h"
#include "cmd/args.h"
#include "cmd/disks.h"
#include "meta/pool.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "bd", NULL, CMD_TEXT, CMD_REQUIRED, "NAME", "the disk" },
	{ "size", NULL, CMD_SIZE, 0, "SIZE", "how much to add, as 10G or +10G; a bare number counts megabytes" },
	{ "thick", NULL, CMD_FLAG, 0, NULL, "reserve all its space in the pool" },
	{ "thin", NULL, CMD_FLAG, 0, NULL, "give back what is reserved and not used" },
	{ "mv", NULL, CMD_TEXT, 0, "NEWNAME", "the new name" },
	{ 0 },
};

static const char *const either[] = { "size", "mv", "thick", "thin", NULL };

static int grow(struct cmd_context *ctx, struct meta_disk *disk, const json_t *args, const char *name,
		struct base_error *err)
{
	char now[BASE_SIZE_TEXT_BYTES], max[BASE_SIZE_TEXT_BYTES];
	uint64_t old_bytes = meta_disk_size(disk);
	struct base_size size;
	int r = cmd_arg_size(args, "size", &size);

	if (r != 0)
		return r;
	if (size.bytes == 0)
		return base_error_set(err, -EINVAL, "%s: -size 0 adds nothing", name);
	if (size.bytes > DISK_BYTES_MAX || old_bytes + size.bytes > DISK_BYTES_MAX)
		return base_error_set(err, -EFBIG, "%s: has %s, and the largest disk has %s: can't add %llu bytes",
				      name, base_size_to_text(old_bytes, now), base_size_to_text(DISK_BYTES_MAX, max),
				      (unsigned long long)size.bytes);
	return cmd_disk_resize(ctx, disk, old_bytes + size.bytes, err);
}

static int rename_disk(struct cmd_context *ctx, struct meta_disk *disk, const json_t *args, const char *name,
		       struct base_error *err)
{
	char new_name[4 * NAME_BYTES_MAX];
	int r = cmd_arg_text(args, "mv", new_name, sizeof(new_name), err);

	if (r == 0)
		r = meta_disk_rename(disk, new_name, err);
	if (r == -ENAMETOOLONG)
		ctx->subject = CMD_SUBJECT_BD;
	if (r < 0)
		return base_error_wrap(err, "%s: not renamed", name);
	if (ctx->service)
		ctx->service->disk_renamed(ctx->service, meta_disk_number(disk), name);
	return 0;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	struct meta_disk *disk;
	int which = cmd_arg_one_of(args, either, err);
	int r = which < 0 ? which : cmd_arg_text(args, "bd", name, sizeof(name), err);

	if (r == -ENAMETOOLONG)
		ctx->subject = CMD_SUBJECT_BD;
	if (r == 0)
		r = cmd_disk_find(ctx, name, &disk, err);
	if (r < 0)
		return r;
	ctx->subject = CMD_SUBJECT_NONE;
	r = which == 0   ? grow(ctx, disk, args, name, err)
	    : which == 1 ? rename_disk(ctx, disk, args, name, err)
			 : cmd_disk_convert(ctx, disk, which == 2, err);
	if (r == 0)
		*ret_result = json_pack("{s:o}", "disk", cmd_disk_to_json(disk));
	meta_disk_put(disk);
	return r;
}

static unsigned needs(const json_t *args)
{
	return CMD_CHANGES | (cmd_arg_is_set(args, "mv") ? 0 : CMD_IO);
}

const struct cmd_verb cmd_chbdsp = {
	.name = "chbdsp",
	.summary = "grow, rename or convert a disk",
	.synopsis = "bdfs chbdsp [-sp POOL] -bd NAME -size SIZE\n"
		    "bdfs chbdsp [-sp POOL] -bd NAME -mv NEWNAME\n"
		    "bdfs chbdsp [-sp POOL] -bd NAME {-thick | -thin}",
	.about =
		"-size is the amount to add, as in VIOS: 10G and +10G both make the disk 10 GiB larger. To give the "
		"new total, or to make a disk smaller, use `bdfs lu -resize`. The disk may be in use; what uses it "
		"sees the new size when it looks (a loop device: losetup -c).\n"
		"-thick reserves what the disk has not taken of its size yet, -thin gives that back; the "
		"disk may be in "
		"use.\n"
		"-mv renames; it refuses a name that another disk has.",
	.examples = "bdfs chbdsp -sp vms -bd web1 -size 10G\n"
		    "bdfs chbdsp -sp vms -bd web1 -mv www1",
	.exits = "23 no such pool; 39 no such disk in the pool; 40 NEWNAME is too long",
	.options = options,
	.run = run,
	.needs = needs,
};
