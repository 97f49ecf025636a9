/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listing directories.
 *
 * The place of a disk in disks/ is its node id, and the listing is in that
 * order; the same goes for snapshots/ (by the disk's number) and snapshots/DISK
 * (by the layer's, so in the order in which they were taken). Numbers are never used again and don't change with the
 * name, so a listing that goes on while disks are created, removed and renamed shows each disk at most once, and each
 * that was there all the time exactly once; an offset stays good for ever. "." and ".." are at 1 and 2.
 *
 * The catalogue lists by name, so a handle keeps the sorted numbers of the
 * disks that were there when it was read from the start (again on rewind);
 * names and attributes are looked up when they are asked for. A handle is a
 * number, not a pointer: one that is unknown begins with what is there now.
 *
 * Failure modes: no memory for the numbers: ENOMEM. A disk that went away in
 * between is left out.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/internal.h"
#include "fs/result.h"

struct fs_directory {
	struct fs_directory *next;
	uint64_t handle;
	uint64_t *numbers; /* ascending */
	size_t count, room;
};

/* ---- handles ------------------------------------------------------------------------------ */

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int append(void *ctx, uint64_t number)
{
	struct fs_directory *dir = ctx;

	if (dir->count == dir->room) {
		size_t more = dir->room ? dir->room * 2 : 64;
		uint64_t *numbers = realloc(dir->numbers, more * sizeof(*numbers));

		if (!numbers)
			return -ENOMEM;
		dir->numbers = numbers;
		dir->room = more;
	}
	dir->numbers[dir->count++] = number;
	return 0;
}

static void forget_numbers(struct fs_directory *dir)
{
	free(dir->numbers);
	dir->numbers = NULL;
	dir->count = dir->room = 0;
}

static int each_disk(struct fs_mount *fs, struct fs_directory *dir)
{
	char after[NAME_BYTES_MAX + 1] = "";
	struct meta_disk_info info;
	struct meta_disk *disk;
	int rc = 0;

	while (rc == 0 && (disk = meta_disk_next(fs->meta, after))) {
		meta_disk_info(disk, &info);
		meta_disk_put(disk);
		rc = append(dir, info.number);
		snprintf(after, sizeof(after), "%s", info.record.name);
	}
	return rc;
}

static int read_numbers(struct fs_mount *fs, fuse_ino_t node, struct fs_directory *dir)
{
	int rc;

	forget_numbers(dir);
	rc = node == FS_NODE_DISKS ? each_disk(fs, dir) : fs_snapshots_each(fs, node, append, dir);
	if (rc < 0)
		forget_numbers(dir);
	else if (dir->count > 0)
		qsort(dir->numbers, dir->count, sizeof(*dir->numbers), compare_numbers);
	return rc;
}

static struct fs_directory **find_locked(struct fs_mount *fs, uint64_t handle)
{
	struct fs_directory **link = &fs->directories;

	while (*link && (*link)->handle != handle)
		link = &(*link)->next;
	return link;
}

/* Takes the handle's directory out of the list, so that two readers of one handle do not meet; NULL: no memory. */
static struct fs_directory *directory_take(struct fs_mount *fs, uint64_t handle)
{
	struct fs_directory **link, *dir;

	pthread_mutex_lock(&fs->directories_lock);
	link = find_locked(fs, handle);
	dir = *link;
	if (dir)
		*link = dir->next;
	pthread_mutex_unlock(&fs->directories_lock);
	if (!dir)
		dir = calloc(1, sizeof(*dir));
	if (dir)
		dir->handle = handle;
	return dir;
}

static void directory_free(struct fs_directory *dir)
{
	if (dir)
		free(dir->numbers);
	free(dir);
}

static void directory_put(struct fs_mount *fs, struct fs_directory *dir)
{
	struct fs_directory *other;

	pthread_mutex_lock(&fs->directories_lock);
	other = *find_locked(fs, dir->handle);
	if (!other) {
		dir->next = fs->directories;
		fs->directories = dir;
	}
	pthread_mutex_unlock(&fs->directories_lock);
	if (other)
		directory_free(dir);
}

void fs_op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	if (!fs_node_is_directory(node)) {
		fs_answer(req, -ENOTDIR);
		return;
	}
	fi->fh = atomic_fetch_add(&fs_of(req)->next_directory, 1);
	fuse_reply_open(req, fi);
}

void fs_op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	directory_free(directory_take(fs_of(req), fi->fh));
	fuse_reply_err(req, 0);
}

void fs_directories_done(struct fs_mount *fs)
{
	while (fs->directories) {
		struct fs_directory *dir = fs->directories;

		fs->directories = dir->next;
		directory_free(dir);
	}
}

/* ---- entries ------------------------------------------------------------------------------ */

struct listing {
	fuse_req_t req;
	struct fs_mount *fs;
	bool plus;
	char *buf;
	size_t size, used;
};

/* Return: false when there is no room left. */
static bool list_entry(struct listing *to, const char *name, const struct fuse_entry_param *entry, off_t place)
{
	char *at = to->buf + to->used;
	size_t room = to->size - to->used, needed;

	if (to->plus)
		needed = fuse_add_direntry_plus(to->req, at, room, name, entry, place);
	else
		needed = fuse_add_direntry(to->req, at, room, name, &entry->attr, place);
	if (needed > room)
		return false;
	to->used += needed;
	return true;
}

static bool list_directory(struct listing *to, const char *name, fuse_ino_t node, off_t place)
{
	struct fuse_entry_param entry = { .attr_timeout = FS_ATTR_TIMEOUT_S, .entry_timeout = FS_ENTRY_TIMEOUT_S };

	if (fs_node_stat(to->fs, node, &entry.attr) < 0)
		return true;
	/* A reply with a node id would make the kernel look at "." as at a child. */
	if (name[0] != '.')
		entry.ino = node;
	return list_entry(to, name, &entry, place);
}

static bool list_disk(struct listing *to, uint64_t number)
{
	struct meta_disk *disk = meta_disk_get_by_number(to->fs->meta, number);
	struct fuse_entry_param entry;
	struct meta_disk_info info;
	bool fits;

	if (!disk)
		return true;
	meta_disk_info(disk, &info);
	fs_disk_entry(to->fs, disk, &entry);
	fits = list_entry(to, info.record.name, &entry, (off_t)entry.ino);
	meta_disk_put(disk);
	return fits;
}

static bool list_snapshot(struct listing *to, fuse_ino_t parent, uint64_t number)
{
	char name[NAME_BYTES_MAX + 1];
	struct fuse_entry_param entry;

	if (fs_snapshots_entry(to->fs, parent, number, name, &entry) < 0)
		return true;
	return list_entry(to, name, &entry, (off_t)(FS_NODE_FIRST_DISK + number));
}

static bool list_dots(struct listing *to, fuse_ino_t node, off_t offset)
{
	fuse_ino_t parent = fs_node_is_snapshots_of(node) ? FS_NODE_SNAPSHOTS : FS_NODE_ROOT;

	return (offset >= 1 || list_directory(to, ".", node, 1)) &&
	       (offset >= 2 || list_directory(to, "..", parent, 2));
}

static void list_root(struct listing *to, off_t offset)
{
	if (list_dots(to, FS_NODE_ROOT, offset) && (offset >= 3 || list_directory(to, "disks", FS_NODE_DISKS, 3)) &&
	    (offset >= 4 || list_directory(to, "snapshots", FS_NODE_SNAPSHOTS, 4)) && offset < 5)
		(void)list_directory(to, "media", FS_NODE_MEDIA, 5);
}

static size_t first_after(const struct fs_directory *dir, off_t offset)
{
	size_t low = 0, high = dir->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if ((off_t)(FS_NODE_FIRST_DISK + dir->numbers[middle]) > offset)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static int list_numbers(struct listing *to, fuse_ino_t node, uint64_t handle, off_t offset)
{
	struct fs_directory *dir = directory_take(to->fs, handle);
	int rc = 0;

	if (!dir)
		return -ENOMEM;
	if (offset == 0 || !dir->numbers)
		rc = read_numbers(to->fs, node, dir);
	if (rc == 0 && list_dots(to, node, offset)) {
		for (size_t i = first_after(dir, offset); i < dir->count; i++) {
			if (!(node == FS_NODE_DISKS ? list_disk(to, dir->numbers[i])
						    : list_snapshot(to, node, dir->numbers[i])))
				break;
		}
	}
	directory_put(to->fs, dir);
	return rc;
}

static int list(struct listing *to, fuse_ino_t node, uint64_t handle, off_t offset)
{
	if (node == FS_NODE_DISKS || node == FS_NODE_SNAPSHOTS || fs_node_is_snapshots_of(node))
		return list_numbers(to, node, handle, offset);
	if (node == FS_NODE_ROOT)
		list_root(to, offset);
	else
		(void)list_dots(to, node, offset);
	return 0;
}

static void answer_list(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, uint64_t handle, bool plus)
{
	struct listing to = { .req = req, .fs = fs_of(req), .plus = plus, .size = MIN(size, FS_DATA_BYTES_MAX) };
	int rc;

	if (!fs_node_is_directory(node)) {
		fs_answer(req, -ENOTDIR);
		return;
	}
	to.buf = malloc(MAX(to.size, 1));
	rc = to.buf ? list(&to, node, handle, offset) : -ENOMEM;
	if (rc < 0)
		fs_answer(req, rc);
	else
		fuse_reply_buf(req, to.buf, to.used);
	free(to.buf);
}

void fs_op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	answer_list(req, node, size, offset, fi->fh, false);
}

void fs_op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	answer_list(req, node, size, offset, fi->fh, true);
}
