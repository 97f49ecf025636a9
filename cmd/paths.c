/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paths that a user typed, made absolute.
 *
 * Needed before a path leaves the process that knows the working directory: on
 * its way to the daemon, into the pool's metadata, into the registry.
 *
 * A path that exists is resolved whole. Otherwise its directory is resolved and
 * the last component appended: a file that is going to be made, or a mount
 * point whose daemon died and which answers ENOTCONN to everything.
 *
 * Failure modes: the directory does not exist (-ENOENT, named); too long.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/paths.h"
#include "cmd/text.h"

/* Splits at the last '/', after taking trailing ones off. */
static void split(const char *path, char directory[PATH_MAX], char last[PATH_MAX])
{
	size_t length = strlen(path);

	while (length > 1 && path[length - 1] == '/')
		length--;

	const char *slash = memrchr(path, '/', length);
	size_t head = slash ? (size_t)(slash - path) : 0;

	if (!slash)
		strcpy(directory, ".");
	else
		snprintf(directory, PATH_MAX, "%.*s", head ? (int)head : 1, path);
	snprintf(last, PATH_MAX, "%.*s", (int)(length - (slash ? head + 1 : 0)), slash ? slash + 1 : path);
}

int cmd_path_absolute(const char *path, char ret[PATH_MAX], struct base_error *err)
{
	char directory[PATH_MAX], last[PATH_MAX], real[PATH_MAX];

	if (path[0] == '\0')
		return base_error_set(err, -EINVAL, "an empty path");
	if (strlen(path) >= PATH_MAX)
		return base_error_set(err, -ENAMETOOLONG, "%.100s...: the path is too long", path);
	if (realpath(path, ret))
		return 0;
	if (errno != ENOENT && errno != ENOTCONN && errno != EACCES)
		return base_error_set_errno(err, -errno, "%s", path);
	split(path, directory, last);
	if (!realpath(directory, real))
		return base_error_set_errno(err, -errno, "%s: its directory %s", path, directory);

	int n = snprintf(ret, PATH_MAX, "%s/%s", strcmp(real, "/") == 0 ? "" : real, last);

	if (n >= PATH_MAX)
		return base_error_set(err, -ENAMETOOLONG, "%s: the path is too long", path);
	return 0;
}

int cmd_paths_make_absolute(json_t *args, const char *key, struct base_error *err)
{
	char path[PATH_MAX], absolute[PATH_MAX];
	json_t *list = json_object_get(args, key);

	for (size_t i = 0; i < json_array_size(list); i++) {
		int r = cmd_arg_list_item(args, key, i, path, sizeof(path), err);

		if (r == 0)
			r = cmd_path_absolute(path, absolute, err);
		if (r < 0)
			return r;
		if (json_array_set_new(list, i, cmd_text_to_json(absolute)))
			return base_error_set(err, -ENOMEM, "out of memory");
	}
	return 0;
}
