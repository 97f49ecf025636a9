/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mksp: makes a pool and enters it in the registry.
 *
 * What a PATH means:
 *   a directory (or a name with a trailing '/')      the pool's directory, with its space in a file pv0 there
 *   a block device                                   a pv
 *   a regular file                                   a pv
 *   nothing yet, the only PATH, not *.img or *.raw   as a directory, which is made
 *   nothing yet, otherwise                           a file that is made, -size large: a pv
 *   no PATH at all                                   as a directory, STATE/NAME
 * Without a directory among them the metadata goes to STATE/NAME.
 *
 * The name is entered in the registry first, which is what makes two commands
 * for one name exclude each other, and taken off again if the pool can't be
 * made. Then the pool is made (all or nothing, meta's promise), then the note
 * of what was made for it is written.
 *
 * Failure modes: the name is taken; a pv carries a label (whose is said; -f
 * takes it over); no size for a file that is to be made; too small. A command
 * that is killed half-way may leave a name that leads to nothing: `rmsp
 * --forget` takes it off.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/units.h"
#include "cmd/args.h"
#include "cmd/made.h"
#include "cmd/paths.h"
#include "cmd/registry.h"
#include "cmd/text.h"
#include "meta/pool.h"

#define PVS_MAX 256

static const struct cmd_option options[] = {
	{ "name", NULL, CMD_TEXT, CMD_POSITIONAL | CMD_REQUIRED, "NAME", "what the pool is called" },
	{ "path", NULL, CMD_LIST, CMD_POSITIONAL, "PATH", "where its space is: a directory, block devices or files" },
	{ "size", NULL, CMD_SIZE, 0, "SIZE", "how large each file that is made is; a bare number counts megabytes" },
	{ "take-over", "f", CMD_FLAG, 0, NULL,
	  "use a pv even if it carries the label of another pool, which is then lost" },
	{ "fb", NULL, CMD_TEXT, CMD_LATER, "POOL",
	  "a pool of files needs no parent pool: `bdfs mksp NAME -size SIZE DIRECTORY`" },
	{ 0 },
};

struct plan {
	char name[NAME_BYTES_MAX + 1];
	char directory[PATH_MAX]; /* of the metadata */
	bool made_directory;
	uint64_t size_bytes; /* 0 = not given */
	bool force;
	unsigned pv_count;
	struct meta_pv_spec pvs[PVS_MAX];
	char paths[PVS_MAX][PATH_MAX];
	json_t *made_files;
};

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), end_length = strlen(end);

	return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static bool looks_like_directory(const char *path, bool only_one)
{
	return ends_with(path, "/") || (only_one && !ends_with(path, ".img") && !ends_with(path, ".raw"));
}

/* path is absolute. */
static int plan_pv(struct plan *plan, const char *path, bool exists, bool is_device, struct base_error *err)
{
	char size[BASE_SIZE_TEXT_BYTES];

	if (!exists && plan->size_bytes == 0)
		return base_error_set(err, -EINVAL, "%s: is not there, so say with -size how large it is to be", path);
	for (unsigned i = 0; i < plan->pv_count; i++)
		if (strcmp(plan->paths[i], path) == 0)
			return base_error_set(err, -EINVAL, "%s: given twice", path);
	if (!exists && plan->size_bytes > INT64_MAX / 2)
		return base_error_set(err, -EFBIG, "%s: %s is too large for a file", path,
				      base_size_to_text(plan->size_bytes, size));
	strcpy(plan->paths[plan->pv_count], path);
	plan->pvs[plan->pv_count] = (struct meta_pv_spec){
		.path = plan->paths[plan->pv_count],
		.size_bytes = exists || is_device ? 0 : plan->size_bytes,
		.force = plan->force,
	};
	plan->pv_count++;
	if (!exists)
		json_array_append_new(plan->made_files, cmd_text_to_json(path));
	return 0;
}

/* The pool's directory, with its first pv in it. */
static int plan_directory(struct plan *plan, const char *path, bool exists, struct base_error *err)
{
	char pv[PATH_MAX];

	if (plan->directory[0])
		return base_error_set(err, -EINVAL, "%s: a pool has one directory, and %s was given already", path,
				      plan->directory);
	strcpy(plan->directory, path);
	plan->made_directory = !exists;
	if (snprintf(pv, sizeof(pv), "%s/pv0", path) >= (int)sizeof(pv))
		return base_error_set(err, -ENAMETOOLONG, "%s: the path is too long", path);
	return plan_pv(plan, pv, access(pv, F_OK) == 0, false, err);
}

/* Makes the directories above path, so that it can be resolved. */
static int make_parents(const char *path, struct base_error *err)
{
	char parent[PATH_MAX];
	size_t length = strlen(path);

	while (length > 1 && path[length - 1] == '/')
		length--;

	const char *slash = memrchr(path, '/', length);

	if (!slash || slash == path)
		return 0;
	snprintf(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
	return cmd_make_directories(parent, 0755, err);
}

static int plan_path(struct plan *plan, const char *path, bool only_one, struct base_error *err)
{
	char absolute[PATH_MAX];
	struct stat st;
	bool exists = stat(path, &st) == 0;

	if (!exists && errno != ENOENT)
		return base_error_set_errno(err, -errno, "%s", path);
	if (plan->pv_count == PVS_MAX)
		return base_error_set(err, -EINVAL, "more than %d paths: add the rest with `bdfs chsp -add`", PVS_MAX);

	bool directory = exists ? S_ISDIR(st.st_mode) : looks_like_directory(path, only_one);
	int r = directory && !exists ? make_parents(path, err) : 0;

	if (r == 0)
		r = cmd_path_absolute(path, absolute, err);
	if (r < 0)
		return r;
	if (exists && !directory && !S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return base_error_set(err, -EINVAL, "%s: neither a directory, a block device nor a regular file", path);
	return directory ? plan_directory(plan, absolute, exists, err)
			 : plan_pv(plan, absolute, exists, exists && S_ISBLK(st.st_mode), err);
}

static int plan_home(struct plan *plan, struct base_error *err)
{
	char home[PATH_MAX];
	int r = cmd_registry_home_of(plan->name, home, err);

	if (r == 0)
		r = make_parents(home, err);
	if (r < 0)
		return r;

	bool exists = access(home, F_OK) == 0;

	if (plan->pv_count == 0)
		return plan_directory(plan, home, exists, err);
	strcpy(plan->directory, home);
	plan->made_directory = !exists;
	return 0;
}

static int make_plan(struct plan *plan, const json_t *args, struct base_error *err)
{
	size_t count = cmd_arg_list_count(args, "path");
	struct base_size size = { 0 };
	char path[PATH_MAX];
	int r = cmd_arg_text(args, "name", plan->name, sizeof(plan->name), err);

	if (r == 0 && cmd_arg_size(args, "size", &size) == 0 && (size.bytes == 0 || size.is_increment))
		r = base_error_set(err, -EINVAL, "-size: must be a size such as 200G, not 0 and without +");
	plan->size_bytes = size.bytes;
	plan->force = cmd_arg_flag(args, "take-over");
	for (size_t i = 0; i < count && r == 0; i++) {
		r = cmd_arg_list_item(args, "path", i, path, sizeof(path), err);
		if (r == 0)
			r = plan_path(plan, path, count == 1, err);
	}
	if (r == 0 && !plan->directory[0])
		r = plan_home(plan, err);
	return r;
}

static int carry_out(const struct plan *plan, json_t **ret_result, struct base_error *err)
{
	struct meta_pool_create_args create = {
		.dir = plan->directory,
		.name = plan->name,
		.owner_uid = geteuid(),
		.pvs = plan->pvs,
		.pv_count = plan->pv_count,
	};
	int r = cmd_registry_add(plan->name, plan->directory, err);

	if (r < 0)
		return r;
	r = meta_pool_create(&create, err);
	if (r < 0) {
		int ignored = cmd_registry_remove(plan->name, NULL); /* the first error is the one to tell */

		(void)ignored;
		return base_error_wrap(err, "%s: not made", plan->name);
	}
	*ret_result = json_pack("{s:o, s:o}", "pool", cmd_text_to_json(plan->name), "directory",
				cmd_text_to_json(plan->directory));
	/* The pool is there and whole; without the note, only its removal does less. */
	struct base_error note_err;

	if (cmd_made_write(plan->directory, plan->made_directory, plan->made_files, &note_err) < 0)
		json_object_set_new(*ret_result, "warning", cmd_text_to_json(note_err.text));
	return 0;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct plan *plan = calloc(1, sizeof(*plan));

	if (!plan)
		return base_error_set(err, -ENOMEM, "out of memory");
	plan->made_files = json_array();

	int r = make_plan(plan, args, err);

	if (r == 0)
		r = carry_out(plan, ret_result, err);
	json_decref(plan->made_files);
	free(plan);
	return r;
}

const struct cmd_verb cmd_mksp = {
	.name = "mksp",
	.summary = "make a pool",
	.synopsis = "bdfs mksp NAME [-size SIZE] [-f] [PATH...]",
	.about = "Makes a storage pool. PATH says where its space is: a directory (made if it is not there; the pool "
		 "then lives in it whole, its space in a file pv0), one or more block devices, or one or more files. "
		 "A file that is not there is made, SIZE large and sparse. With devices and files, and with no PATH "
		 "at all, the metadata is kept below the state directory (see FILES in bdfs(8)).\n"
		 "A single PATH that is not there yet is taken for a directory, unless it ends in .img or .raw. A "
		 "device or file that carries the label of a pool is refused; -f takes it over, and that pool is "
		 "lost.\n"
		 "A copy of the metadata is kept on the first device or file, for `bdfs import`, as long as it has "
		 "room: a thousandth of the pool for each of two copies, 16 MiB at most (2 TiB of disks written in "
		 "order); 480 KiB where the first has less than 1 GiB.",
	.examples = "bdfs mksp vms -size 200G /srv/pools/vms\n"
		    "bdfs mksp fast /dev/nvme1n1 /dev/nvme2n1\n"
		    "bdfs mksp scratch -size 10G",
	.options = options,
	.local = local,
};
