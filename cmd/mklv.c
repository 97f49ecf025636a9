/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mklv: makes a logical volume.
 *
 * `mklv [-lv NAME | -prefix P] POOL SIZE`, as VIOS has it; the pool may be given
 * by -sp instead, or left out for the default one. Without a name the lowest free
 * number behind the prefix ("lv") makes one: lv00, lv01.
 *
 * All its space is taken at once (meta/volume.h), so it never meets a full pool.
 *
 * Failure modes: the name is taken, or there is not enough space (4); a size of 0
 * (1).
 */
#include <errno.h>

#include "base/units.h"
#include "cmd/args.h"
#include "cmd/text.h"
#include "cmd/volumes.h"
#include "meta/pool.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "lv", NULL, CMD_TEXT, 0, "NAME", "its name" },
	{ "prefix", NULL, CMD_TEXT, 0, "PREFIX", "or: a name of this and the lowest free number (lv)" },
	{ "size", NULL, CMD_SIZE, 0, "SIZE", "its size, as SIZE by its place" },
	{ "words", NULL, CMD_LIST, CMD_POSITIONAL, "[POOL] SIZE",
	  "the pool, if not by -sp, and the size, such as 20G" },
	{ "mirror", NULL, CMD_FLAG, CMD_LATER, NULL, "a pool has no mirrors: mirror below it, or in the guest" },
	{ 0 },
};

/* POOL SIZE, or SIZE, become -sp and -size. */
static int read_words(json_t *args, struct base_error *err)
{
	size_t count = cmd_arg_list_count(args, "words");
	char word[4096];
	struct base_size size;
	int r = 0;

	if (count > 2 || (count == 2 && cmd_arg_is_set(args, "sp")) || (count > 0 && cmd_arg_is_set(args, "size")))
		return base_error_set(err, -EINVAL, "too many words: mklv [-lv NAME] [POOL] SIZE");
	if (count == 2) {
		r = cmd_arg_list_item(args, "words", 0, word, sizeof(word), err);
		if (r == 0)
			json_object_set_new(args, "sp", cmd_text_to_json(word));
	}
	if (r == 0 && count > 0) {
		r = cmd_arg_list_item(args, "words", count - 1, word, sizeof(word), err);
		if (r == 0)
			r = base_size_parse(word, MIB, &size, err);
		if (r == 0)
			json_object_set_new(args, "size", cmd_size_to_json(&size));
	}
	json_object_del(args, "words");
	return r;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	int r = read_words(args, err);

	(void)ctx;
	(void)ret_result;
	return r < 0 ? r : CMD_ON_POOL;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	struct meta_disk *disk;
	struct base_size size;
	int r = cmd_arg_text(args, "lv", name, sizeof(name), err);

	if (r == 0 && cmd_arg_is_set(args, "prefix"))
		return base_error_set(err, -EINVAL, "-lv and -prefix can't go together");
	if (r == CMD_ARG_ABSENT)
		r = cmd_volume_name(ctx, args, name, sizeof(name), err);
	if (r == 0 && cmd_arg_size(args, "size", &size) == CMD_ARG_ABSENT)
		r = base_error_set(err, -EINVAL, "%s: say how large, such as 20G", name);
	if (r == 0 && size.is_increment)
		r = base_error_set(err, -EINVAL, "%s: a new volume has no size to add to: write it without the +",
				   name);
	if (r == 0)
		r = cmd_volume_create(ctx, name, size.bytes, &disk, err);
	if (r < 0)
		return r;
	*ret_result = json_pack("{s:o}", "lv", cmd_volume_to_json(disk));
	meta_disk_put(disk);
	return 0;
}

static unsigned needs(const json_t *args)
{
	(void)args;
	return CMD_CHANGES;
}

const struct cmd_verb cmd_mklv = {
	.name = "mklv",
	.summary = "make a logical volume",
	.synopsis = "bdfs mklv [-lv NAME | -prefix PREFIX] [POOL] SIZE\n"
		    "bdfs mklv [-lv NAME | -prefix PREFIX] [-sp POOL] -size SIZE",
	.about =
		"Makes a logical volume: a disk that has all its space from the start, in as few pieces as the pool "
		"allows, and keeps it. SIZE is rounded up to whole partitions of 4 MiB. It is there at once, "
		"durably, as "
		"disks/NAME in the pool's mount; after a crash it is there whole or not at all. Its discards zero and "
		"give nothing back; it grows by extendlv only, and never gets smaller.\n"
		"Without -lv it is called PREFIX and the lowest free number; without -prefix: lv00, lv01. The name is "
		"printed.",
	.examples = "bdfs mklv -lv db1 vms 100G\n"
		    "bdfs mklv -prefix log -sp vms -size 8G",
	.options = options,
	.local = local,
	.run = run,
	.needs = needs,
};
