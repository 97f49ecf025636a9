/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chsp: changes a pool: adds a physical volume, grows one, chooses the default,
 * says what happens when the pool is full.
 *
 * `-add PV...` adds block devices, or files: one that is not there is made -size
 * large. `-add -size S` without a PV grows the pool's file by S (as in VIOS,
 * -size is the amount to add); with several files the one to grow has to be
 * named. A PV that is the pool's already is grown, a device to the size that it
 * has by now. `-default POOL` is a matter of the registry and touches no pool.
 *
 * `-policy error` answers a write that finds no space at once; `-policy hold` keeps
 * it, for -hold-limit seconds at most, until there is space.
 *
 * Paths are made absolute before they travel, as the daemon has a working
 * directory of its own. And since the daemon opens them with its own rights,
 * only the user it runs as, or root, may name any: else the owner of a pool
 * that root mounted could have root write to any file.
 *
 * Failure modes: a pv that carries a label is refused with whose it is (4),
 * unless -f; no such device (2); several pvs are added one after the other, and
 * the error says which were.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"
#include "cmd/args.h"
#include "cmd/own_mount.h"
#include "cmd/paths.h"
#include "cmd/pools.h"
#include "cmd/registry.h"
#include "cmd/text.h"
#include "meta/pool.h"

#define HOLD_LIMIT_MAX_S 86400

static const struct cmd_option options[] = {
	{ "add", NULL, CMD_FLAG, 0, NULL, "add physical volumes, or grow one" },
	{ "default", NULL, CMD_TEXT, 0, "POOL", "make POOL the default pool" },
	CMD_OPTION_SP,
	{ "policy", NULL, CMD_TEXT, 0, "POLICY",
	  "what a write meets that finds the pool full: error (no space left) or hold (it waits for space)" },
	{ "hold-limit", NULL, CMD_NUMBER, 0, "SECONDS", "how long a write is held at most (60)" },
	{ "size", NULL, CMD_SIZE, 0, "SIZE",
	  "how large a new file is, or how much a file grows; bare numbers: megabytes" },
	{ "take-over", "f", CMD_FLAG, 0, NULL,
	  "use a pv even if it carries the label of another pool, which is then lost" },
	{ "rm", NULL, CMD_FLAG, CMD_LATER, NULL, "taking a physical volume out of a pool is not in this release" },
	{ "clustername", NULL, CMD_TEXT, CMD_LATER, "CLUSTER", "clusters are not in this release; leave it out" },
	{ "pv", NULL, CMD_LIST, CMD_POSITIONAL, "PV", "a block device or a file" },
	{ 0 },
};

static const char *const either[] = { "add", "default", NULL };

static int choose_default(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[4 * NAME_BYTES_MAX];
	int r = cmd_arg_text(args, "default", name, sizeof(name), err);

	ctx->subject = CMD_SUBJECT_POOL;
	if (r == 0)
		r = cmd_registry_set_default(name, err);
	if (r == 0)
		*ret_result = json_pack("{s:o}", "default", cmd_text_to_json(name));
	return r;
}

static bool sets_policy(const json_t *args)
{
	return cmd_arg_is_set(args, "policy") || cmd_arg_is_set(args, "hold-limit");
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	if (sets_policy(args)) {
		if (cmd_arg_flag(args, "add") || cmd_arg_is_set(args, "default"))
			return base_error_set(err, -EINVAL,
					      "-policy and -hold-limit go alone, without -add and -default");
		return CMD_ON_POOL;
	}

	int which = cmd_arg_one_of(args, either, err);

	if (which < 0)
		return which;
	if (which == 1)
		return choose_default(ctx, args, ret_result, err);

	int r = cmd_paths_make_absolute(args, "pv", err);

	return r < 0 ? r : CMD_ON_POOL;
}

struct find_pv {
	const char *path; /* NULL = any file */
	unsigned found;
	struct meta_pv_info pv;
};

static void match_pv(const struct meta_pv_info *pv, void *arg)
{
	struct find_pv *find = arg;

	if (find->path ? strcmp(pv->path, find->path) != 0 : !pv->is_file)
		return;
	find->pv = *pv;
	find->found++;
}

static int grow(struct cmd_context *ctx, const struct meta_pv_info *pv, uint64_t add_bytes, struct base_error *err)
{
	if (pv->is_file && add_bytes == 0)
		return base_error_set(err, -EINVAL, "%s: is a pv of this pool: say with -size how much it grows",
				      pv->path);
	if (!pv->is_file && add_bytes != 0)
		return base_error_set(err, -EINVAL,
				      "%s: a device has the size it has: make it larger, then run this without -size",
				      pv->path);
	if (add_bytes > (uint64_t)INT64_MAX - pv->size_bytes)
		return base_error_set(err, -EINVAL, "%s: can't grow by %llu bytes", pv->path,
				      (unsigned long long)add_bytes);
	return meta_pool_grow_pv(ctx->meta, pv->number, pv->is_file ? pv->size_bytes + add_bytes : 0, err);
}

static int grow_the_file(struct cmd_context *ctx, uint64_t add_bytes, struct base_error *err)
{
	struct find_pv find = { 0 };

	if (add_bytes == 0)
		return base_error_set(err, -EINVAL,
				      "say which PV to add, or with -size how much the pool's file grows");
	meta_pool_each_pv(ctx->meta, match_pv, &find);
	if (find.found == 0)
		return base_error_set(err, -EINVAL, "this pool has no file that could grow: add a PV");
	if (find.found > 1)
		return base_error_set(err, -EINVAL,
				      "this pool has %u files: name the one to grow; `bdfs lssp -detail` lists them",
				      find.found);
	return grow(ctx, &find.pv, add_bytes, err);
}

static int add_or_grow(struct cmd_context *ctx, const char *path, uint64_t size_bytes, bool force,
		       struct base_error *err)
{
	struct meta_pv_spec spec = { .path = path, .size_bytes = size_bytes, .force = force };
	struct find_pv find = { .path = path };

	meta_pool_each_pv(ctx->meta, match_pv, &find);
	int r = ctx->service ? cmd_own_mount_refuse(ctx->service->mountpoint, path, err) : 0;
	if (r < 0)
		return r;
	if (find.found)
		return grow(ctx, &find.pv, size_bytes, err);
	if (size_bytes == 0 && access(path, F_OK) < 0)
		return base_error_set_errno(err, -errno, "%s: no such device or file (to make a file, say -size)",
					    path);
	return meta_pool_add_pv(ctx->meta, &spec, err);
}

static int add(struct cmd_context *ctx, const json_t *args, struct base_error *err)
{
	size_t count = cmd_arg_list_count(args, "pv");
	bool force = cmd_arg_flag(args, "take-over");
	struct base_size size = { 0 };
	char path[PATH_MAX];
	int r = cmd_arg_size(args, "size", &size); /* absent: 0 bytes */

	if (r == 0 && size.bytes == 0)
		return base_error_set(err, -EINVAL, "-size 0 adds nothing");
	if (count == 0)
		return grow_the_file(ctx, size.bytes, err);
	for (size_t i = 0; i < count; i++) {
		r = cmd_arg_list_item(args, "pv", i, path, sizeof(path), err);
		if (r == 0 && path[0] != '/')
			r = base_error_set(err, -EINVAL, "%s: the path must be absolute here", path);
		if (r == 0)
			r = add_or_grow(ctx, path, size.bytes, force, err);
		if (r < 0 && i > 0)
			base_error_wrap(err, "%zu of %zu pvs were added, then", i, count);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_policy(const json_t *args, struct meta_pool_settings *ret, struct base_error *err)
{
	int64_t limit_s = cmd_arg_number(args, "hold-limit", META_HOLD_LIMIT_DEFAULT_S);
	char policy[16];
	int r = cmd_arg_text(args, "policy", policy, sizeof(policy), err);

	*ret = (struct meta_pool_settings){ 0 };
	if (r == 0 && strcmp(policy, "error") != 0 && strcmp(policy, "hold") != 0)
		r = -EINVAL;
	if (r < 0)
		return base_error_set(err, -EINVAL, "-policy: must be error or hold");
	if (limit_s < 1 || limit_s > HOLD_LIMIT_MAX_S)
		return base_error_set(err, -EINVAL, "-hold-limit %lld: must be from 1 to %d seconds",
				      (long long)limit_s, HOLD_LIMIT_MAX_S);
	if (r == 0) {
		ret->which |= META_SET_FULL_POLICY;
		ret->full_policy = policy[0] == 'h' ? META_FULL_HOLD : META_FULL_ERROR;
	}
	if (cmd_arg_is_set(args, "hold-limit")) {
		ret->which |= META_SET_HOLD_LIMIT;
		ret->hold_limit_s = (uint32_t)limit_s;
	}
	return 0;
}

static int set_policy(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_pool_settings settings;
	int r = read_policy(args, &settings, err);

	if (r == 0)
		r = meta_pool_set(ctx->meta, &settings, err);
	if (r == 0)
		*ret_result = json_pack("{s:o}", "pool", cmd_pool_to_json(ctx));
	return r;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	if (sets_policy(args))
		return set_policy(ctx, args, ret_result, err);
	if (!cmd_arg_flag(args, "add"))
		return base_error_set(err, -EINVAL, "on a pool, only -add and -policy can be done");
	if (ctx->uid != 0 && ctx->uid != geteuid())
		return base_error_set(
			err, -EACCES,
			"the pool's daemon runs as uid %u, who would open the files: ask as that user, or as root",
			(unsigned)geteuid());

	int r = add(ctx, args, err);

	if (r == 0)
		*ret_result = json_pack("{s:o, s:o}", "pool", cmd_pool_to_json(ctx), "pvs", cmd_pvs_to_json(ctx));
	return r;
}

static unsigned needs(const json_t *args)
{
	return CMD_CHANGES;
}

const struct cmd_verb cmd_chsp = {
	.name = "chsp",
	.summary = "add space to a pool; say what a full pool does; choose the default pool",
	.synopsis = "bdfs chsp -add [-sp POOL] [-f] [-size SIZE] PV...\n"
		    "bdfs chsp -add [-sp POOL] -size SIZE\n"
		    "bdfs chsp -policy {error | hold} [-hold-limit SECONDS] [-sp POOL]\n"
		    "bdfs chsp -default POOL",
	.about =
		"-add with PVs adds block devices, or files; a file that is not there is made, SIZE large. A PV "
		"that is the pool's already grows: a file by SIZE, a device to the size it has now. -add -size "
		"without a PV grows the pool's only file. -size is the amount to add, as in VIOS. All this works "
		"while disks are in use. -f uses a PV that carries another pool's label; without it such a PV is "
		"refused.\n"
		"-policy says what a write meets that needs space when there is none: with error (the rule for a new "
		"pool) it fails with ENOSPC at once; with hold it waits until there is space, because some was added "
		"or freed, and fails only after -hold-limit seconds. Reads, overwrites, discards and deletions go on "
		"meanwhile. `bdfs lssp` shows how many writes are held, `bdfs events` when that begins and ends.\n"
		"-default chooses the pool that is meant where no -sp is given.",
	.examples = "bdfs chsp -add -sp vms -size 50G\n"
		    "bdfs chsp -add -sp vms /dev/nvme2n1\n"
		    "bdfs chsp -policy hold -hold-limit 300 -sp vms\n"
		    "bdfs chsp -default vms",
	.options = options,
	.local = local,
	.run = run,
	.needs = needs,
};
