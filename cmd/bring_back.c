/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing a pool back: its directory, its entry in the registry, its pvs.
 *
 * A pool that lost its directory is often still on the list of pools, by a link
 * that leads to nothing or to an empty directory: then that is where it comes back
 * to. The name is entered last, when the metadata is there; until then a second
 * command for the same pool is kept out by the locks of the pvs.
 *
 * Failure modes: the name belongs to a pool elsewhere; what can't be made; pvs that
 * can't be opened. What was made is taken back by cmd_bring_back_end().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/uuid.h"
#include "cmd/args.h"
#include "cmd/bring_back.h"
#include "cmd/paths.h"
#include "cmd/text.h"

static int registered_directory(const char *name, char ret[PATH_MAX])
{
	struct cmd_pool_ref pool;

	if (cmd_registry_find(name, &pool, NULL) < 0 || !pool.registered)
		return -ENOENT;
	strcpy(ret, pool.directory);
	return 0;
}

static int choose_directory(struct cmd_bring_back *to, const json_t *args, struct base_error *err)
{
	char dir[PATH_MAX], registered[PATH_MAX] = "";
	int r = cmd_arg_text(args, "dir", dir, sizeof(dir), err);

	if (r < 0)
		return r;
	to->registered = registered_directory(to->name, registered) == 0;
	if (r == CMD_ARG_ABSENT) {
		if (!to->registered)
			return cmd_registry_home_of(to->name, to->directory, err);
		strcpy(to->directory, registered);
		return 0;
	}
	r = cmd_path_absolute(dir, to->directory, err);
	if (r == 0 && to->registered && strcmp(registered, to->directory) != 0)
		return base_error_set(
			err, -EEXIST,
			"there is a pool %s on the list already, in %s: bring it back there, or take it "
			"off with `bdfs rmsp %s --forget`",
			to->name, registered, to->name);
	return r;
}

int cmd_bring_back_begin(struct cmd_bring_back *to, const char *name, const json_t *args, struct base_error *err)
{
	struct stat st;

	strcpy(to->name, name); /* a decoder has bounded it */
	int r = choose_directory(to, args, err);

	if (r < 0)
		return r;
	to->made_directory = stat(to->directory, &st) != 0;
	if (to->made_directory)
		r = cmd_make_directories(to->directory, 0700, err);
	else if (!S_ISDIR(st.st_mode))
		r = base_error_set(err, -ENOTDIR, "%s is no directory", to->directory);
	return r;
}

int cmd_bring_back_open_pvs(struct cmd_bring_back *to, const json_t *args, struct base_error *err)
{
	size_t count = cmd_arg_list_count(args, "pv");
	char path[PATH_MAX], absolute[PATH_MAX];
	int r = 0;

	if (count == 0)
		return 0;
	to->pvs = calloc(count, sizeof(*to->pvs));
	if (!to->pvs)
		return base_error_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count && r == 0; i++) {
		r = cmd_arg_list_item(args, "pv", i, path, sizeof(path), err);
		if (r == 0)
			r = cmd_path_absolute(path, absolute, err);
		if (r == 0)
			r = meta_restore_open_pv(&meta_pv_real, NULL, absolute, &to->pvs[i], err);
		to->pv_count += r == 0;
	}
	return r;
}

int cmd_bring_back_register(struct cmd_bring_back *to, struct base_error *err)
{
	return to->registered ? 0 : cmd_registry_add(to->name, to->directory, err);
}

void cmd_bring_back_end(struct cmd_bring_back *to, bool done)
{
	for (unsigned i = 0; i < to->pv_count; i++)
		if (to->pvs[i].open)
			meta_pv_real.close(NULL, &to->pvs[i].handle);
	free(to->pvs);
	if (!done && to->made_directory)
		rmdir(to->directory);
}

void cmd_bring_back_note_disk(const struct meta_disk_record *rec, void *ctx)
{
	char uuid[BASE_UUID_TEXT_BYTES];

	json_array_append_new(ctx, json_pack("{s:o, s:s, s:I}", "name", cmd_text_to_json(rec->name), "uuid",
					     base_uuid_to_text(rec->uuid, uuid), "size_bytes",
					     (json_int_t)rec->size_bytes));
}
