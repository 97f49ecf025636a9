/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mksp made, and its removal.
 *
 * mksp may be given files and directories that were there before. Those are not
 * ours to delete. So mksp notes what it made, and rmsp removes that and the
 * metadata files, whose names are known, and nothing else: a file that a user
 * put beside them stays, and so does then the directory.
 *
 * The note and rmsp's mark go last but for the directory, so a removal that was
 * cut short can be run again.
 *
 * Failure modes: no note (a pool whose mksp was cut short between the pool and
 * the note): nothing but metadata is removed. A name that can't be removed for
 * another reason than not being there is an error and ends the removal.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/made.h"
#include "cmd/text.h"

#define MADE_NAME "made-by-mksp"

/* Of meta/ and of the daemon. The mark is last: as long as it is there, a removal that was cut short goes on. */
static const char *const our_names[] = { "control", "loops",     "reserve", "restart", "data.mdb",        "lock.mdb",
					 "log",     "log.1",   MADE_NAME, CMD_MADE_MARK_NAME };

static int write_json(int fd, json_t *made)
{
	if (json_dumpfd(made, fd, JSON_INDENT(2)) < 0)
		return errno ? -errno : -EIO;
	return fsync(fd) < 0 ? -errno : 0;
}

int cmd_made_write(const char *directory, bool made_directory, json_t *files, struct base_error *err)
{
	int dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = dir_fd < 0 ? -1 : openat(dir_fd, MADE_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : 0;

	if (r == 0) {
		json_t *made = json_pack("{s:b, s:O}", "directory", made_directory, "files", files);

		r = made ? write_json(fd, made) : -ENOMEM;
		json_decref(made);
	}
	if (r == 0 && fsync(dir_fd) < 0)
		r = -errno;
	if (fd >= 0)
		close(fd);
	if (dir_fd >= 0)
		close(dir_fd);
	return r < 0 ? base_error_set_errno(err, r, "can't write %s/" MADE_NAME, directory) : 0;
}

json_t *cmd_made_read(const char *directory)
{
	int dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = dir_fd < 0 ? -1 : openat(dir_fd, MADE_NAME, O_RDONLY | O_CLOEXEC);
	json_t *made = fd < 0 ? NULL : json_loadfd(fd, JSON_REJECT_DUPLICATES, NULL);

	if (fd >= 0)
		close(fd);
	if (dir_fd >= 0)
		close(dir_fd);
	if (json_is_object(made))
		return made;
	json_decref(made);
	return json_object();
}

bool cmd_made_has_file(const json_t *made, const char *path)
{
	const json_t *files = json_object_get(made, "files");
	char file[4096];

	for (size_t i = 0; i < json_array_size(files); i++)
		if (cmd_text_from_json(json_array_get(files, i), file, sizeof(file)) == 0 && strcmp(file, path) == 0)
			return true;
	return false;
}

bool cmd_made_has_directory(const json_t *made)
{
	return json_is_true(json_object_get(made, "directory"));
}

static void find_left(int dir_fd, char ret_left[NAME_BYTES_MAX + 1])
{
	DIR *dir = fdopendir(dup(dir_fd));
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			snprintf(ret_left, NAME_BYTES_MAX + 1, "%.*s", NAME_BYTES_MAX, entry->d_name);
	if (dir)
		closedir(dir);
}

int cmd_made_remove(const char *directory, const json_t *made, char ret_left[NAME_BYTES_MAX + 1],
		    struct base_error *err)
{
	int dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	ret_left[0] = '\0';
	if (dir_fd < 0)
		return base_error_set_errno(err, -errno, "%s: can't open the pool's directory", directory);
	for (size_t i = 0; i < ARRAY_LEN(our_names) && r == 0; i++)
		if (unlinkat(dir_fd, our_names[i], 0) < 0 && errno != ENOENT)
			r = base_error_set_errno(err, -errno, "can't remove %s/%s", directory, our_names[i]);
	if (r == 0 && cmd_made_has_directory(made) && rmdir(directory) < 0) {
		if (errno == ENOTEMPTY || errno == EEXIST)
			find_left(dir_fd, ret_left);
		else
			r = base_error_set_errno(err, -errno, "can't remove %s", directory);
	}
	close(dir_fd);
	return r;
}
