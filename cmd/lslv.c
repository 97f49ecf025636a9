/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lslv: lists logical volumes, or what one is made of.
 *
 * Without a name all of the pool, with -free those that nobody has open. With a
 * name that volume; -map its extents, each with its place on a pv; -pv how much of
 * it each pv has.
 *
 * The extents are those of the last commit; the map of a volume only changes
 * where it is extended.
 *
 * Failure modes: no such volume (2), not a logical volume (1).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/text.h"
#include "cmd/volumes.h"
#include "meta/pool.h"
#include "meta/volume.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "map", NULL, CMD_FLAG, 0, NULL, "the extents of the volume: where on which pv each part of it is" },
	{ "pv", NULL, CMD_FLAG, 0, NULL, "how much of the volume is on which pv" },
	{ "free", NULL, CMD_FLAG, 0, NULL, "only volumes that nobody has open" },
	{ "lv", NULL, CMD_TEXT, CMD_POSITIONAL, "LV", "a logical volume" },
	{ 0 },
};

struct pvs {
	char paths[64][META_PV_PATH_BYTES_MAX]; /* a pool has at most 64 */
	uint64_t bytes[64], extents[64];
	json_t *map; /* NULL: only sums */
};

static void note_path(const struct meta_pv_info *pv, void *ctx)
{
	struct pvs *pvs = ctx;

	if (pv->number < ARRAY_LEN(pvs->paths))
		snprintf(pvs->paths[pv->number], sizeof(pvs->paths[0]), "%s", pv->path);
}

static int note_extent(const struct meta_extent *extent, void *ctx)
{
	struct pvs *pvs = ctx;

	if (extent->pv >= ARRAY_LEN(pvs->paths))
		return -EBADMSG;
	pvs->bytes[extent->pv] += extent->bytes;
	pvs->extents[extent->pv]++;
	if (!pvs->map)
		return 0;
	return json_array_append_new(pvs->map,
				     json_pack("{s:I, s:I, s:o, s:I}", "offset_bytes",
					       (json_int_t)extent->offset_bytes, "bytes", (json_int_t)extent->bytes,
					       "pv", cmd_text_to_json(pvs->paths[extent->pv]), "pv_offset_bytes",
					       (json_int_t)extent->pv_byte))
		       ? -ENOMEM
		       : 0;
}

static json_t *sums_to_json(const struct pvs *pvs)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_LEN(pvs->paths); i++)
		if (pvs->extents[i])
			json_array_append_new(list,
					      json_pack("{s:o, s:I, s:I, s:I}", "pv", cmd_text_to_json(pvs->paths[i]),
							"bytes", (json_int_t)pvs->bytes[i], "partitions",
							(json_int_t)(pvs->bytes[i] / META_PP_BYTES), "extents",
							(json_int_t)pvs->extents[i]));
	return list;
}

static int show_extents(struct cmd_context *ctx, struct meta_disk *disk, bool map, json_t **ret_result,
			struct base_error *err)
{
	struct pvs *pvs = calloc(1, sizeof(*pvs));
	int r = pvs ? 0 : base_error_set(err, -ENOMEM, "out of memory");

	if (r == 0 && map)
		pvs->map = json_array();
	if (r == 0) {
		meta_pool_each_pv(ctx->meta, note_path, pvs);
		r = meta_disk_extents(disk, note_extent, pvs, err);
	}
	if (r == 0)
		*ret_result = json_pack("{s:o, s:o}", "lv", cmd_volume_to_json(disk), map ? "extents" : "pvs",
					map ? json_incref(pvs->map) : sums_to_json(pvs));
	if (pvs)
		json_decref(pvs->map);
	free(pvs);
	return r;
}

static int show_one(struct cmd_context *ctx, const json_t *args, const char *name, json_t **ret_result,
		    struct base_error *err)
{
	bool map = cmd_arg_flag(args, "map");
	struct meta_disk *disk;
	int r = cmd_volume_find(ctx, name, &disk, err);

	if (r < 0)
		return r;
	if (map || cmd_arg_flag(args, "pv"))
		r = show_extents(ctx, disk, map, ret_result, err);
	else
		*ret_result = json_pack("{s:[o]}", "volume", cmd_volume_to_json(disk));
	meta_disk_put(disk);
	return r;
}

static int list(struct cmd_context *ctx, bool only_free, json_t **ret_result)
{
	char after[NAME_BYTES_MAX + 1] = "";
	json_t *volumes = json_array();
	struct meta_disk_info info;
	struct meta_disk *disk;

	while ((disk = meta_disk_next(ctx->meta, after))) {
		meta_disk_info(disk, &info);
		memcpy(after, info.record.name, sizeof(after));
		if (info.record.kind == META_DISK_LV && !(only_free && info.opens))
			json_array_append_new(volumes, cmd_volume_to_json(disk));
		meta_disk_put(disk);
	}
	*ret_result = json_pack("{s:o}", "volumes", volumes);
	return 0;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	bool one = cmd_arg_flag(args, "map") || cmd_arg_flag(args, "pv");
	char name[4 * NAME_BYTES_MAX];
	int r = cmd_arg_text(args, "lv", name, sizeof(name), err);

	if (r < 0)
		return r;
	if (cmd_arg_flag(args, "map") + cmd_arg_flag(args, "pv") + cmd_arg_flag(args, "free") > 1)
		return base_error_set(err, -EINVAL, "-map, -pv and -free can't go together");
	if (r == CMD_ARG_ABSENT && one)
		return base_error_set(err, -EINVAL, "-map and -pv are about one logical volume: name it");
	if (r == CMD_ARG_ABSENT)
		return list(ctx, cmd_arg_flag(args, "free"), ret_result);
	if (cmd_arg_flag(args, "free"))
		return base_error_set(err, -EINVAL, "-free is a list of volumes: without a name");
	return show_one(ctx, args, name, ret_result, err);
}

const struct cmd_verb cmd_lslv = {
	.name = "lslv",
	.summary = "list logical volumes, and where they are",
	.synopsis = "bdfs lslv [-sp POOL] [-free]\n"
		    "bdfs lslv [-sp POOL] [-map | -pv] LV",
	.about =
		"Lists the logical volumes of a pool, with -free those that nobody has open. With a name it shows that "
		"volume, with -map its extents in order, each with its place on a physical volume, with -pv "
		"how much of "
		"it each physical volume has and in how many extents. A partition (LP, PP) has 4 MiB.\n"
		"Fields: lvname type lps pps state size udid (lists and LV, there ppsize too); offset size pv "
		"pvoffset (-map); pv size pps extents (-pv).",
	.examples = "bdfs lslv -sp vms\n"
		    "bdfs lslv -sp vms -map db1",
	.options = options,
	.run = run,
};
