/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkbdsp: makes a backing device, that is a thin disk, in a pool.
 *
 * `mkbdsp [-sp POOL] SIZE -bd NAME` as VIOS has it. With -count N it makes
 * NAME0 to NAME(N-1) in one transaction: all or none, and far faster than N
 * commands.
 *
 * VIOS also maps with this verb (-vadapter, -tn): a disk that it makes, or, without
 * a size, one that is there. A disk that is made and can't be mapped is removed again:
 * a script that is told "failed" finds nothing.
 *
 * Failure modes: the name is taken (4), too long (40), the pool is not there
 * (23); a size of 0, or beyond the largest disk (1).
 */
#include <errno.h>

#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/vtds.h"
#include "meta/pool.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "size", NULL, CMD_SIZE, CMD_POSITIONAL, "SIZE", "how large, such as 20G; a bare number counts megabytes" },
	{ "bd", NULL, CMD_TEXT, CMD_REQUIRED, "NAME", "its name: 1 to 127 bytes, any but '/'" },
	{ "from", NULL, CMD_TEXT, 0, "DISK@SNAPSHOT",
	  "a clone, with the content and size of this snapshot; without SIZE" },
	{ "count", NULL, CMD_NUMBER, 0, "N", "make N disks, NAME0 to NAME(N-1), all or none" },
	{ "block", NULL, CMD_NUMBER, 0, "BYTES", "logical block size, 512 (the default) or 4096" },
	{ "thick", NULL, CMD_FLAG, 0, NULL, "reserve all its space in the pool now" },
	{ "vadapter", NULL, CMD_TEXT, 0, "ADAPTER", "map it to this adapter; without SIZE: a disk that is there" },
	{ "tn", NULL, CMD_TEXT, 0, "VTD", "-vadapter: how to call the VTD; without it the next free vtscsiN" },
	CMD_OPTIONS_MAPPING,
	{ "clustername", NULL, CMD_TEXT, CMD_LATER, "CLUSTER", "clusters are not in this release; leave it out" },
	{ 0 },
};

static int check_block(int64_t block_bytes, struct base_error *err)
{
	if (block_bytes != 512 && block_bytes != 4096)
		return base_error_set(err, -EINVAL, "-block %lld: must be 512 or 4096", (long long)block_bytes);
	return 0;
}

static int make(struct cmd_context *ctx, const char *name, const json_t *args, json_t **ret_result,
		struct base_error *err)
{
	int64_t block_bytes = cmd_arg_number(args, "block", 512);
	struct base_size size;
	int r = check_block(block_bytes, err);

	if (r == 0 && cmd_arg_is_set(args, "from"))
		return cmd_disk_create_from(ctx, name, args, ret_result, err);
	if (r == 0)
		r = cmd_arg_size(args, "size", &size);
	if (r == CMD_ARG_ABSENT)
		return base_error_set(err, -EINVAL, "SIZE is missing: say how large, such as 20G");
	if (r != 0)
		return r;
	if (size.is_increment)
		return base_error_set(err, -EINVAL, "%s: a new disk has no size to add to: write it without the +",
				      name);
	if (cmd_arg_number(args, "count", 1) == 0)
		return base_error_set(err, -EINVAL, "%s: -count 0 would make nothing", name);
	return cmd_disk_create(ctx, name, size.bytes, cmd_arg_number(args, "count", 0), (uint32_t)block_bytes,
			       cmd_arg_flag(args, "thick"), ret_result, err);
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	int r = cmd_arg_text(args, "bd", name, sizeof(name), err);
	int map = cmd_vtd_is_asked(args, "tn", err);
	bool exists = map > 0 && !cmd_arg_is_set(args, "size") && !cmd_arg_is_set(args, "from");

	if (r == -ENAMETOOLONG)
		ctx->subject = CMD_SUBJECT_BD;
	if (r == 0)
		r = MIN(map, 0);
	if (r == 0 && !exists)
		r = make(ctx, name, args, ret_result, err);
	if (r == 0 && map > 0)
		r = cmd_vtd_map_named(ctx, args, "tn", name, !exists, ret_result, err);
	return r;
}

static unsigned needs(const json_t *args)
{
	return CMD_CHANGES;
}

const struct cmd_verb cmd_mkbdsp = {
	.name = "mkbdsp",
	.summary = "make a disk",
	.synopsis = "bdfs mkbdsp [-sp POOL] SIZE -bd NAME [-count N] [-block BYTES] [-thick]\n"
		    "bdfs mkbdsp [-sp POOL] -bd NAME -from DISK@SNAPSHOT\n"
		    "bdfs mkbdsp [-sp POOL] [SIZE] -bd NAME -vadapter ADAPTER [-tn VTD] [-shared] [-ro]",
	.about = "Makes a disk. It is thin: it takes space in the pool as it is written to. It is there at once, "
		 "durably, "
		 "as disks/NAME in the pool's mount, and after a crash it is there whole or not at all.\n"
		 "The disks together may be larger than the pool; `bdfs lssp` shows by how much. With -thick the "
		 "disk's whole size is reserved: no other disk can take it, and writing it never meets a full pool. "
		 "`bdfs chbdsp -thick` and `-thin` convert.\n"
		 "SIZE is rounded up to whole blocks.\n"
		 "With -vadapter the disk is mapped too, as mkvdev does; without SIZE that is a disk that is there.",
	.examples = "bdfs mkbdsp -sp vms 20G -bd web1\n"
		    "bdfs mkbdsp -sp vms 20G -bd web2 -vadapter vhost0\n"
		    "bdfs mkbdsp -sp vms 512M -bd scratch -count 100",
	.exits = "23 no such pool; 40 NAME is too long",
	.options = options,
	.run = run,
	.needs = needs,
};
