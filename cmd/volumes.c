/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logical volumes, as the verbs mklv, lslv, extendlv, rmlv and cplv see them.
 *
 * Sizes are whole partitions of META_PP_BYTES. A volume grows in two steps: it is
 * promised its new size, then that is allocated and the disk made longer, which
 * can't fail for space any more.
 *
 * Failure modes: each names the volume; what could not be done is undone.
 */
#include "cmd/volumes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/units.h"
#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/text.h"
#include "iocore/pool.h"
#include "meta/io.h"
#include "meta/volume.h"

#define GENERATED_MAX 10000

int cmd_volume_find(struct cmd_context *ctx, const char *name, struct meta_disk **ret, struct base_error *err)
{
	int r = cmd_disk_find(ctx, name, ret, err);

	if (r < 0 || meta_disk_kind(*ret) == META_DISK_LV)
		return r;
	meta_disk_put(*ret);
	return base_error_set(err, -EINVAL,
			      "%s: is a disk, not a logical volume: chbdsp, rmbdsp and lu are for those", name);
}

int cmd_volume_name(struct cmd_context *ctx, const json_t *args, char *name, size_t room, struct base_error *err)
{
	char prefix[NAME_BYTES_MAX + 1];
	int r = cmd_arg_text(args, "prefix", prefix, sizeof(prefix), err);

	if (r < 0)
		return r;
	if (r == CMD_ARG_ABSENT)
		strcpy(prefix, "lv");
	for (unsigned i = 0; i < GENERATED_MAX; i++) {
		snprintf(name, room, "%s%02u", prefix, i);
		struct meta_disk *taken = meta_disk_get_by_name(ctx->meta, name);
		if (!taken)
			return 0;
		meta_disk_put(taken);
	}
	return base_error_set(err, -EEXIST, "%s: all numbers behind this prefix are taken", prefix);
}

int cmd_volume_create(struct cmd_context *ctx, const char *name, uint64_t size_bytes, struct meta_disk **ret,
		      struct base_error *err)
{
	struct meta_disk_spec spec = { .logical_block_bytes = 512 };
	uint64_t number;
	struct stat st;

	if (size_bytes == 0 || size_bytes > DISK_BYTES_MAX)
		return base_error_set(err, size_bytes ? -EFBIG : -EINVAL, "%s: not a size for a logical volume",
				      name);
	if (strlen(name) >= sizeof(spec.name))
		return base_error_set(err, -ENAMETOOLONG, "%s: a name has at most %d bytes", name, NAME_BYTES_MAX);
	strcpy(spec.name, name);
	spec.size_bytes = round_up_to(size_bytes, META_PP_BYTES);
	if (stat(ctx->directory, &st) == 0) {
		spec.uid = st.st_uid;
		spec.gid = st.st_gid;
	}
	int r = meta_volume_create(ctx->meta, &spec, &number, err);

	if (r < 0)
		return r;
	*ret = meta_disk_get_by_number(ctx->meta, number);
	return *ret ? 0 : base_error_set(err, -ENOENT, "%s: was made, and removed again by somebody else", name);
}

static int allocate(struct cmd_context *ctx, struct meta_disk *disk, uint64_t new_bytes, struct base_error *err)
{
	uint64_t old_bytes = meta_disk_size(disk);
	struct ioc_request req = { .op = IOC_OP_ALLOCATE,
				   .flags = IOC_GROW | IOC_EXTEND,
				   .offset = old_bytes,
				   .length = new_bytes - old_bytes };
	int r = ioc_disk_open(ctx->ioc, disk, &req.bd, err);

	if (r < 0)
		return r;
	r = ioc_bd_call(ctx->ioc, &req);
	ioc_disk_close(req.bd);
	if (r == 0)
		r = meta_pool_commit(ctx->meta);
	return r < 0 ? base_error_set_errno(err, r, "the space could not be allocated") : 0;
}

int cmd_volume_extend(struct cmd_context *ctx, struct meta_disk *disk, uint64_t new_bytes, struct base_error *err)
{
	char size[BASE_SIZE_TEXT_BYTES];

	new_bytes = round_up_to(new_bytes, META_PP_BYTES);
	if (new_bytes > DISK_BYTES_MAX)
		return base_error_set(err, -EFBIG, "larger than the largest disk, %s",
				      base_size_to_text(DISK_BYTES_MAX, size));
	int r = meta_pool_await_space(ctx->meta, new_bytes - meta_disk_size(disk), err);

	if (r < 0)
		return r;
	/* Only verbs grow a volume, one at a time. */
	if (!meta_claim_for(disk, new_bytes))
		return base_error_set(err, -ENOSPC,
				      "no space to extend it to %s: free space, or add some with chsp -add",
				      base_size_to_text(new_bytes, size));
	r = allocate(ctx, disk, new_bytes, err);
	meta_claim_fit(disk);
	if (r == 0 && ctx->service)
		ctx->service->disk_changed(ctx->service, meta_disk_number(disk));
	return r;
}

json_t *cmd_volume_to_json(struct meta_disk *disk)
{
	json_t *volume = cmd_disk_to_json(disk);

	json_object_set_new(volume, "partition_bytes", json_integer(META_PP_BYTES));
	json_object_set_new(volume, "partitions", json_integer((json_int_t)(meta_disk_size(disk) / META_PP_BYTES)));
	json_object_set_new(volume, "state", json_string(meta_disk_opens(disk) ? "opened/syncd" : "closed/syncd"));
	return volume;
}
