/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rmsp: removes a pool: its labels, its metadata, the files that mksp made.
 *
 * A pool with disks is refused; --with-disks together with --yes deletes them
 * too. A mounted pool is refused in any case: the pool is opened for writing
 * here, and its lock is the daemon's then.
 *
 * Order: a mark in the pool's directory; the pvs, one after the other (files
 * that mksp made are deleted, of all else the label is wiped, after a look that
 * it is this pool's); the metadata; the registry. A removal that was cut short
 * finds the mark and goes on without asking the half-removed pool.
 *
 * --forget takes a pool off the registry and touches nothing else: for one whose
 * devices are gone, or that moves to another host.
 *
 * Failure modes: mounted or otherwise open (4, with the pid); disks (4); a pv
 * that can't be opened is an error and ends the removal, so that no label is
 * left behind unnoticed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/uuid.h"
#include "cmd/args.h"
#include "cmd/made.h"
#include "cmd/registry.h"
#include "cmd/text.h"
#include "meta/pool.h"
#include "meta/pv.h"

static const struct cmd_option options[] = {
	{ "pool", NULL, CMD_TEXT, CMD_POSITIONAL | CMD_REQUIRED, "POOL", "its name, or the path of its directory" },
	{ "with-disks", NULL, CMD_FLAG, 0, NULL, "although it has disks: delete them too" },
	{ "yes", "f", CMD_FLAG, 0, NULL, "--with-disks: don't ask; needed where there is no terminal to ask" },
	{ "forget", NULL, CMD_FLAG, 0, NULL, "only take it off the list of pools; touch nothing else" },
	{ 0 },
};

/* What has to go, as the mark keeps it: {"uuid": text, "pvs": [path ...]}. */
struct removal {
	struct cmd_pool_ref pool;
	char mark[PATH_MAX];
	json_t *todo;
};

static void add_pv_path(const struct meta_pv_info *pv, void *arg)
{
	json_array_append_new(arg, cmd_text_to_json(pv->path));
}

static int check_disks(const struct meta_pool_info *info, const json_t *args, struct base_error *err)
{
	if (info->disks == 0)
		return 0;
	if (!cmd_arg_flag(args, "with-disks"))
		return base_error_set(err, -ENOTEMPTY,
				      "%s: has %llu disks: delete them first (`bdfs rmbdsp`), or add --with-disks",
				      info->name, (unsigned long long)info->disks);
	if (!cmd_arg_flag(args, "yes"))
		return base_error_set(err, -EINVAL,
				      "%s: not confirmed, nothing was deleted: add --yes to delete %llu disks",
				      info->name, (unsigned long long)info->disks);
	return 0;
}

static int survey(struct removal *rm, const json_t *args, struct base_error *err)
{
	struct meta_pool_open_args open_args = { .dir = rm->pool.directory };
	char uuid[BASE_UUID_TEXT_BYTES];
	struct meta_pool_info info;
	struct meta_pool *meta;
	int r = meta_pool_open(&open_args, &meta, err);

	if (r == -EBUSY)
		return base_error_wrap(err, "%s: in use: unmount it first (`bdfs umount %s`)", rm->pool.name,
				       rm->pool.name);
	if (r < 0)
		return base_error_wrap(err, "%s: can't be opened (--forget takes it off the list only)", rm->pool.name);
	meta_pool_info(meta, &info);
	r = check_disks(&info, args, err);
	if (r == 0) {
		json_t *pvs = json_array();

		meta_pool_each_pv(meta, add_pv_path, pvs);
		rm->todo = json_pack("{s:s, s:o}", "uuid", base_uuid_to_text(info.uuid, uuid), "pvs", pvs);
		r = rm->todo ? 0 : base_error_set(err, -ENOMEM, "out of memory");
	}

	int closed = meta_pool_close(meta, r == 0 ? err : NULL);

	return r < 0 ? r : closed;
}

/* From here on the pool is being removed, whatever happens to this command. */
static int write_mark(struct removal *rm, struct base_error *err)
{
	int fd = open(rm->mark, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : 0;

	if (r == 0 && (json_dumpfd(rm->todo, fd, 0) < 0 || fsync(fd) < 0))
		r = -EIO;
	if (fd >= 0)
		close(fd);
	return r < 0 ? base_error_set_errno(err, r, "%s: can't write %s", rm->pool.name, rm->mark) : 0;
}

static int wipe_label(const char *path, struct base_uuid pool, struct base_error *err)
{
	struct meta_pv_handle pv;
	struct meta_label label;
	uint8_t *buf = aligned_alloc(META_LABEL_BYTES, META_LABEL_BYTES); /* aligned for direct I/O */
	int r;

	if (!buf)
		return base_error_set(err, -ENOMEM, "out of memory");
	r = meta_pv_real.open(NULL, path, 0, 0, &pv, err);
	if (r < 0) {
		free(buf);
		return r;
	}
	r = meta_pv_real.read(NULL, &pv, buf, META_LABEL_BYTES, 0);
	/* Somebody else's by now, or wiped before: not ours to touch. */
	if (r == 0 && meta_label_decode(buf, &label) == 0 && base_uuid_equal(label.pool, pool)) {
		memset(buf, 0, META_LABEL_BYTES);
		r = meta_pv_real.write(NULL, &pv, buf, META_LABEL_BYTES, 0);
		if (r == 0)
			r = meta_pv_real.sync(NULL, &pv);
	}
	meta_pv_real.close(NULL, &pv);
	free(buf);
	return r < 0 ? base_error_set_errno(err, r, "%s: can't wipe the label", path) : 0;
}

static int remove_pv(const char *path, const json_t *made, struct base_uuid pool, struct base_error *err)
{
	if (!cmd_made_has_file(made, path))
		return wipe_label(path, pool, err);
	if (unlink(path) < 0 && errno != ENOENT)
		return base_error_set_errno(err, -errno, "can't remove %s", path);
	return 0;
}

static int carry_out(struct removal *rm, json_t **ret_result, struct base_error *err)
{
	json_t *pvs = json_object_get(rm->todo, "pvs"), *made = cmd_made_read(rm->pool.directory);
	const char *uuid_text = json_string_value(json_object_get(rm->todo, "uuid"));
	char path[PATH_MAX], left[NAME_BYTES_MAX + 1] = "";
	struct base_uuid uuid;
	int r = uuid_text && base_uuid_parse(uuid_text, &uuid) == 0
			? 0
			: base_error_set(err, -EBADMSG, "%s: damaged; remove it by hand", rm->mark);

	for (size_t i = 0; i < json_array_size(pvs) && r == 0; i++) {
		r = cmd_text_from_json(json_array_get(pvs, i), path, sizeof(path));
		if (r < 0)
			base_error_set(err, r, "%s: damaged; remove it by hand", rm->mark);
		else
			r = remove_pv(path, made, uuid, err);
		if (r < 0)
			base_error_wrap(err, "%s: removed in part (run it again to go on)", rm->pool.name);
	}
	if (r == 0)
		r = cmd_made_remove(rm->pool.directory, made, left, err);
	if (r == 0 && rm->pool.registered)
		r = cmd_registry_remove(rm->pool.name, err);
	if (r == 0)
		*ret_result = json_pack("{s:o}", "removed", cmd_text_to_json(rm->pool.name));
	if (r == 0 && left[0]) {
		snprintf(path, sizeof(path), "%.3000s stays, since %s in it is not bdfs's", rm->pool.directory, left);
		json_object_set_new(*ret_result, "warning", cmd_text_to_json(path));
	}
	json_decref(made);
	return r;
}

static int forget(const struct cmd_pool_ref *pool, json_t **ret_result, struct base_error *err)
{
	if (!pool->registered)
		return base_error_set(err, -ENOENT, "%s: not on the list of pools", pool->directory);

	int r = cmd_registry_remove(pool->name, err);

	if (r == 0)
		*ret_result = json_pack("{s:o}", "forgotten", cmd_text_to_json(pool->name));
	return r;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct removal rm = { 0 };
	char sp[PATH_MAX];
	int r = cmd_arg_text(args, "pool", sp, sizeof(sp), err);

	if (r == 0)
		r = cmd_registry_find(sp, &rm.pool, err);
	if (r < 0) {
		ctx->subject = CMD_SUBJECT_POOL;
		return r;
	}
	if (cmd_arg_flag(args, "forget"))
		return forget(&rm.pool, ret_result, err);
	if (snprintf(rm.mark, sizeof(rm.mark), "%s/" CMD_MADE_MARK_NAME, rm.pool.directory) >= (int)sizeof(rm.mark))
		return base_error_set(err, -ENAMETOOLONG, "%s: the path is too long", rm.pool.directory);
	rm.todo = json_load_file(rm.mark, 0, NULL);
	if (!rm.todo) {
		r = survey(&rm, args, err);
		if (r == 0)
			r = write_mark(&rm, err);
	}
	if (r == 0)
		r = carry_out(&rm, ret_result, err);
	json_decref(rm.todo);
	return r;
}

static bool question(const json_t *args, char *buf, size_t room)
{
	if (!cmd_arg_flag(args, "with-disks") || cmd_arg_flag(args, "yes"))
		return false;
	snprintf(buf, room, "Delete pool %s with ALL its disks and all data on them?",
		 json_string_value(json_object_get(args, "pool")));
	return true;
}

const struct cmd_verb cmd_rmsp = {
	.name = "rmsp",
	.summary = "remove a pool",
	.synopsis = "bdfs rmsp POOL [--with-disks [--yes]]\n"
		    "bdfs rmsp POOL --forget",
	.about = "Removes a pool that is not mounted: the labels on its devices, its metadata, the files that mksp "
		 "made, and its entry in the list of pools. Files and directories that were there before mksp stay.\n"
		 "A pool that has disks is refused. --with-disks deletes them too, after a question on a terminal; "
		 "without one it needs --yes.\n"
		 "--forget only takes the pool off the list.",
	.examples = "bdfs rmsp scratch\n"
		    "bdfs rmsp scratch --with-disks --yes",
	.options = options,
	.local = local,
	.question = question,
};
