/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Node ids, and what stat(2) shows of a node.
 *
 *	1      /            a directory that nobody writes to
 *	2      /disks       the catalogue
 *	3      /snapshots   a directory for each disk that has snapshots
 *	4      /media       empty
 *	16 + n              the disk with number n, or the snapshot whose layer is n
 *	2^62 + 16 + n       /snapshots/DISK, DISK being the disk with number n
 *
 * A disk's number (a layer's, too) is persistent and never used again, so the node id is derived
 * from it, nothing is counted, and FORGET means nothing to us. Generations stay 0.
 *
 * st_size is the virtual size, st_blocks what is allocated, st_blksize the
 * chunk: programs that write in pieces of it fill whole chunks. st_mtime is the
 * time noted in the open table as long as the disk's record does not have it.
 *
 * Failure modes: a node of a disk that is gone: -ESTALE, upon which the kernel
 * looks its name up again.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "fs/internal.h"
#include "meta/snapshot.h"

#define STAT_BLOCK_BYTES 512

uint64_t fs_now_s(void)
{
	struct timespec now;

	/* The coarse clock costs no counter read; seconds are all that is kept. */
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return (uint64_t)now.tv_sec;
}

void fs_catalogue_touch(struct fs_mount *fs)
{
	atomic_store(&fs->catalogue_changed_s, fs_now_s());
}

struct meta_disk *fs_node_disk(struct fs_mount *fs, fuse_ino_t node)
{
	return node > FS_NODE_FIRST_DISK && !fs_node_is_snapshots_of(node)
		       ? meta_disk_get_by_number(fs->meta, node - FS_NODE_FIRST_DISK)
		       : NULL;
}

static uint64_t modified_s(struct fs_mount *fs, const struct meta_disk_info *info)
{
	uint64_t noted = fs_open_modified(&fs->opens, info->number);

	return noted ? noted : info->record.modified_s;
}

void fs_disk_stat(struct fs_mount *fs, struct meta_disk *disk, struct stat *ret)
{
	struct meta_disk_info info;

	meta_disk_info(disk, &info);
	*ret = (struct stat){
		.st_ino = fs_node_of_disk(disk),
		.st_mode = S_IFREG | (info.record.mode & ACCESSPERMS),
		.st_nlink = 1,
		.st_uid = info.record.uid,
		.st_gid = info.record.gid,
		.st_size = (off_t)info.size_bytes,
		.st_blksize = CHUNK_BYTES,
		.st_blocks = (blkcnt_t)(info.allocated_bytes / STAT_BLOCK_BYTES),
	};
	ret->st_mtim.tv_sec = (time_t)modified_s(fs, &info);
	ret->st_atim = ret->st_mtim;
	ret->st_ctim.tv_sec = (time_t)MAX((uint64_t)ret->st_mtim.tv_sec, info.record.created_s);
}

void fs_disk_entry(struct fs_mount *fs, struct meta_disk *disk, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){ .ino = fs_node_of_disk(disk),
					  .attr_timeout = FS_ATTR_TIMEOUT_S,
					  .entry_timeout = FS_ENTRY_TIMEOUT_S };
	fs_disk_stat(fs, disk, &ret->attr);
}

void fs_directory_stat(struct fs_mount *fs, fuse_ino_t node, struct stat *ret)
{
	*ret = (struct stat){
		.st_ino = node,
		.st_mode = S_IFDIR | (node == FS_NODE_DISKS && !fs->read_only ? 0755 : 0555),
		.st_nlink = node == FS_NODE_ROOT ? 5 : 2,
		.st_uid = fs->uid,
		.st_gid = fs->gid,
		.st_blksize = BLOCK_BYTES,
	};
	ret->st_mtim.tv_sec = (time_t)atomic_load(&fs->catalogue_changed_s);
	ret->st_atim = ret->st_ctim = ret->st_mtim;
}

static int snapshots_of_stat(struct fs_mount *fs, fuse_ino_t node, struct stat *ret)
{
	struct meta_disk *disk = fs_node_snapshots_of(fs, node);

	if (!disk)
		return -ESTALE;
	meta_disk_put(disk);
	fs_directory_stat(fs, node, ret);
	return 0;
}

static int snapshot_stat(struct fs_mount *fs, fuse_ino_t node, struct stat *ret)
{
	struct meta_snapshot *snapshot = fs_node_snapshot(fs, node);

	if (!snapshot)
		return -ESTALE;
	fs_snapshot_stat(fs, snapshot, ret);
	meta_snapshot_put(snapshot);
	return 0;
}

int fs_node_stat(struct fs_mount *fs, fuse_ino_t node, struct stat *ret)
{
	struct meta_disk *disk;

	if (node >= FS_NODE_ROOT && node <= FS_NODE_MEDIA) {
		fs_directory_stat(fs, node, ret);
		return 0;
	}
	if (fs_node_is_snapshots_of(node))
		return snapshots_of_stat(fs, node, ret);
	disk = fs_node_disk(fs, node);
	if (!disk)
		return snapshot_stat(fs, node, ret);
	fs_disk_stat(fs, disk, ret);
	meta_disk_put(disk);
	return 0;
}
