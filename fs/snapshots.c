/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots as files: snapshots/DISK/NAME.
 *
 * snapshots/ has a directory for each disk that has snapshots, under the disk's
 * present name; in it each snapshot is a regular file of the size that the disk
 * had. Nothing in there can be changed through the mount: opening for writing is
 * EROFS, and removing, renaming and changing attributes EPERM, since there is a
 * verb for it and an rm -r of the wrong tree must not take the way back along.
 *
 * A file has mode and owner of its disk, with the bits for writing too, as a
 * read-only mount shows them: a clone made by cp is then one that its owner can
 * write. Its times are the one when it was taken; st_blocks is what its own
 * layer holds.
 *
 * A snapshot never changes, so its files are opened cached, and the pages stay
 * good from one open to the next (FOPEN_KEEP_CACHE). When it is removed the
 * kernel is told.
 *
 * Node ids are in node.c. A file handle is the number of the layer.
 *
 * Failure modes: what was removed meanwhile is ENOENT, or ESTALE for a node that
 * the kernel still has. A snapshot that is open here can't be removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "fs/internal.h"
#include "iocore/snapshot.h"

#define SNAPSHOT_OPEN_FLAGS (FOPEN_KEEP_CACHE | FOPEN_NOFLUSH)
#define STAT_BLOCK_BYTES 512

struct meta_snapshot *fs_node_snapshot(struct fs_mount *fs, fuse_ino_t node)
{
	if (node <= FS_NODE_FIRST_DISK || fs_node_is_snapshots_of(node))
		return NULL;
	return meta_snapshot_get_by_layer(fs->meta, node - FS_NODE_FIRST_DISK);
}

struct meta_disk *fs_node_snapshots_of(struct fs_mount *fs, fuse_ino_t node)
{
	return fs_node_is_snapshots_of(node) ? fs_node_disk(fs, node & ~FS_NODE_SNAPSHOTS_BIT) : NULL;
}

fuse_ino_t fs_snapshots_parent(struct fs_mount *fs, fuse_ino_t node)
{
	struct meta_snapshot *snapshot;
	struct meta_snapshot_info info;

	if (fs_node_is_snapshots_of(node))
		return FS_NODE_SNAPSHOTS;
	snapshot = fs_node_snapshot(fs, node);
	if (!snapshot)
		return 0;
	meta_snapshot_info(snapshot, &info);
	meta_snapshot_put(snapshot);
	return FS_NODE_SNAPSHOTS_BIT | (FS_NODE_FIRST_DISK + info.disk);
}

/* ---- what they look like ------------------------------------------------------------------ */

void fs_snapshot_stat(struct fs_mount *fs, struct meta_snapshot *snapshot, struct stat *ret)
{
	struct meta_disk_info disk_info = { .record.mode = 0 };
	struct meta_snapshot_info info;
	struct meta_disk *disk;

	meta_snapshot_info(snapshot, &info);
	disk = meta_disk_get_by_number(fs->meta, info.disk);
	if (disk) {
		meta_disk_info(disk, &disk_info);
		meta_disk_put(disk);
	}
	*ret = (struct stat){
		.st_ino = FS_NODE_FIRST_DISK + info.layer,
		.st_mode = S_IFREG | (disk_info.record.mode & ACCESSPERMS),
		.st_nlink = 1,
		.st_uid = disk_info.record.uid,
		.st_gid = disk_info.record.gid,
		.st_size = (off_t)info.size_bytes,
		.st_blksize = CHUNK_BYTES,
		.st_blocks = (blkcnt_t)(meta_snapshot_owned_bytes(snapshot) / STAT_BLOCK_BYTES),
	};
	ret->st_mtim.tv_sec = (time_t)info.created_s;
	ret->st_atim = ret->st_ctim = ret->st_mtim;
}

static void snapshot_entry(struct fs_mount *fs, struct meta_snapshot *snapshot, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){ .attr_timeout = FS_ATTR_TIMEOUT_S, .entry_timeout = FS_ENTRY_TIMEOUT_S };
	fs_snapshot_stat(fs, snapshot, &ret->attr);
	ret->ino = ret->attr.st_ino;
}

static void directory_entry(struct fs_mount *fs, const struct meta_disk *disk, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){ .ino = FS_NODE_SNAPSHOTS_BIT | fs_node_of_disk(disk),
					  .attr_timeout = FS_ATTR_TIMEOUT_S,
					  .entry_timeout = FS_ENTRY_TIMEOUT_S };
	fs_directory_stat(fs, ret->ino, &ret->attr);
}

/* ---- names -------------------------------------------------------------------------------- */

static int look_up_directory(struct fs_mount *fs, const char *name, struct fuse_entry_param *ret)
{
	struct meta_disk *disk = meta_disk_get_by_name(fs->meta, name);
	bool found = disk && meta_snapshot_count(disk) > 0;

	if (found)
		directory_entry(fs, disk, ret);
	if (disk)
		meta_disk_put(disk);
	return found ? 0 : -ENOENT;
}

int fs_snapshots_look_up(struct fs_mount *fs, fuse_ino_t parent, const char *name, struct fuse_entry_param *ret)
{
	struct meta_snapshot *snapshot;
	struct meta_disk *disk;

	if (parent == FS_NODE_SNAPSHOTS)
		return look_up_directory(fs, name, ret);
	disk = fs_node_snapshots_of(fs, parent);
	if (!disk)
		return -ENOENT;
	snapshot = meta_snapshot_get_by_name(disk, name);
	meta_disk_put(disk);
	if (!snapshot)
		return -ENOENT;
	snapshot_entry(fs, snapshot, ret);
	meta_snapshot_put(snapshot);
	return 0;
}

static int entry_of_directory(struct fs_mount *fs, uint64_t number, char ret_name[NAME_BYTES_MAX + 1],
			      struct fuse_entry_param *ret)
{
	struct meta_disk *disk = meta_disk_get_by_number(fs->meta, number);
	struct meta_disk_info info;

	if (!disk)
		return -ENOENT;
	meta_disk_info(disk, &info);
	snprintf(ret_name, NAME_BYTES_MAX + 1, "%s", info.record.name);
	directory_entry(fs, disk, ret);
	meta_disk_put(disk);
	return 0;
}

int fs_snapshots_entry(struct fs_mount *fs, fuse_ino_t parent, uint64_t number, char ret_name[NAME_BYTES_MAX + 1],
		       struct fuse_entry_param *ret)
{
	struct meta_snapshot *snapshot;
	struct meta_snapshot_info info;

	if (parent == FS_NODE_SNAPSHOTS)
		return entry_of_directory(fs, number, ret_name, ret);
	snapshot = meta_snapshot_get_by_layer(fs->meta, number);
	if (!snapshot)
		return -ENOENT;
	meta_snapshot_info(snapshot, &info);
	snprintf(ret_name, NAME_BYTES_MAX + 1, "%s", info.name);
	snapshot_entry(fs, snapshot, ret);
	meta_snapshot_put(snapshot);
	return 0;
}

static int each_disk(struct fs_mount *fs, int (*add)(void *ctx, uint64_t number), void *ctx)
{
	char after[NAME_BYTES_MAX + 1] = "";
	struct meta_disk_info info;
	struct meta_disk *disk;
	int rc = 0;

	while (rc == 0 && (disk = meta_disk_next(fs->meta, after))) {
		meta_disk_info(disk, &info);
		snprintf(after, sizeof(after), "%s", info.record.name);
		if (meta_snapshot_count(disk) > 0)
			rc = add(ctx, info.number);
		meta_disk_put(disk);
	}
	return rc;
}

int fs_snapshots_each(struct fs_mount *fs, fuse_ino_t node, int (*add)(void *ctx, uint64_t number), void *ctx)
{
	char after[NAME_BYTES_MAX + 1] = "";
	struct meta_snapshot_info info;
	struct meta_snapshot *snapshot;
	struct meta_disk *disk;
	int rc = 0;

	if (node == FS_NODE_SNAPSHOTS)
		return each_disk(fs, add, ctx);
	disk = fs_node_snapshots_of(fs, node);
	while (rc == 0 && disk && (snapshot = meta_snapshot_next(disk, after))) {
		meta_snapshot_info(snapshot, &info);
		meta_snapshot_put(snapshot);
		snprintf(after, sizeof(after), "%s", info.name);
		rc = add(ctx, info.layer);
	}
	if (disk)
		meta_disk_put(disk);
	return rc;
}

/* ---- opening ------------------------------------------------------------------------------ */

int fs_snapshot_add_open(struct fs_mount *fs, struct meta_snapshot *snapshot)
{
	struct meta_snapshot_info info;
	struct ioc_bd *bd;
	int rc;

	meta_snapshot_info(snapshot, &info);
	rc = ioc_snapshot_open(fs->ioc, snapshot, &bd, NULL);
	if (rc < 0)
		return rc;
	rc = fs_open_add(&fs->opens, info.layer, bd, NULL);
	if (rc < 0)
		ioc_snapshot_close(bd);
	return rc;
}

int fs_snapshot_open(struct fs_mount *fs, struct meta_snapshot *snapshot, int open_flags, struct fuse_open_out *ret)
{
	struct meta_snapshot_info info;
	int rc;

	*ret = (struct fuse_open_out){ .open_flags = SNAPSHOT_OPEN_FLAGS };
	if ((open_flags & O_ACCMODE) != O_RDONLY || (open_flags & O_TRUNC))
		return -EROFS;
	meta_snapshot_info(snapshot, &info);
	if (fs_handles_find(fs->handles, fs_request_unique(), info.layer, &ret->fh))
		return 0;
	rc = fs_snapshot_add_open(fs, snapshot);
	if (rc < 0)
		return rc;
	return fs_hand_out(fs, info.layer, &ret->fh);
}
