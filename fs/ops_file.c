/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on one node: attributes, open, statfs, ioctl.
 *
 * SETATTR is several things in one request, and they are done in an order that
 * leaves nothing half done when the likely refusals come: first the size (it
 * can be refused: EBUSY, EFBIG, a full pool), then mode, owner and time in one
 * transaction. A resize records the time by itself.
 *
 * A size that grows is set at any time. One that shrinks must have the disk to
 * itself, but for the descriptor that ftruncate(2) was called on: a guest or a
 * loop device whose disk is cut off behind its back loses data.
 *
 * OPEN's answer is written as raw bytes: libfuse 3.14 drops the flag for
 * parallel direct writes.
 *
 * Failure modes: a node that is gone: ESTALE. Attributes of directories and
 * snapshots can't be changed: EPERM. An OPEN whose client is gone before the answer gets no
 * RELEASE, so it is undone here.
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "fs/internal.h"
#include "fs/result.h"
#include "meta/snapshot.h"

void fs_op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct stat st;
	int rc = fs_node_stat(fs_of(req), node, &st);

	if (rc < 0)
		fs_answer(req, rc);
	else
		fuse_reply_attr(req, &st, FS_ATTR_TIMEOUT_S);
}

/* ---- SETATTR ------------------------------------------------------------------------------ */

static int set_size(struct fs_mount *fs, struct meta_disk *disk, uint64_t size_bytes, bool has_handle)
{
	uint64_t now = meta_disk_size(disk);
	int rc = 0;

	if (size_bytes < now)
		rc = fs_disk_wait_unused(fs, disk, has_handle ? 1 : 0);
	if (rc == 0 && size_bytes != now)
		rc = fs_disk_resize(fs, disk, size_bytes);
	return rc;
}

static unsigned collect_attr(const struct stat *attr, int which, struct meta_disk_attr *ret)
{
	unsigned set = 0;

	*ret = (struct meta_disk_attr){ .uid = UINT32_MAX, .gid = UINT32_MAX };
	if (which & FUSE_SET_ATTR_MODE) {
		ret->mode = attr->st_mode & ACCESSPERMS;
		set |= META_ATTR_MODE;
	}
	if (which & FUSE_SET_ATTR_UID)
		ret->uid = attr->st_uid;
	if (which & FUSE_SET_ATTR_GID)
		ret->gid = attr->st_gid;
	if (which & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		set |= META_ATTR_OWNER;
	if (which & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
		/* Times before 1970 are not kept. */
		ret->modified_s =
			which & FUSE_SET_ATTR_MTIME_NOW ? fs_now_s() : (uint64_t)MAX(attr->st_mtim.tv_sec, 0);
		set |= META_ATTR_MODIFIED;
	}
	return set;
}

static int set_attr(struct fs_mount *fs, struct meta_disk *disk, const struct stat *attr, int which, bool has_handle)
{
	struct meta_disk_attr changes;
	unsigned set = collect_attr(attr, which, &changes);
	int rc = 0;

	if (fs->read_only)
		return -EROFS;
	/* Before the new time is set, or an older one could be recorded after it. */
	if ((set & META_ATTR_MODIFIED) || (which & FUSE_SET_ATTR_SIZE))
		fs_open_clear_modified(&fs->opens, meta_disk_number(disk));
	if (which & FUSE_SET_ATTR_SIZE)
		rc = attr->st_size < 0 ? -EINVAL : set_size(fs, disk, (uint64_t)attr->st_size, has_handle);
	if (rc == 0 && set)
		rc = meta_disk_set_attr(disk, set, &changes, NULL);
	return rc;
}

void fs_op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int which, struct fuse_file_info *fi)
{
	struct fs_mount *fs = fs_of(req);
	struct meta_disk *disk;
	struct stat st;
	int rc;

	disk = fs_node_disk(fs, node);
	if (!disk) {
		rc = fs_node_stat(fs, node, &st); /* a directory or a snapshot: nothing of it can be set */
		fuse_reply_err(req, rc == 0 ? EPERM : ESTALE);
		return;
	}
	rc = set_attr(fs, disk, attr, which, fi != NULL);
	if (rc == 0)
		fs_disk_stat(fs, disk, &st);
	meta_disk_put(disk);
	if (rc < 0)
		fs_answer(req, rc);
	else
		fuse_reply_attr(req, &st, FS_ATTR_TIMEOUT_S);
}

/* ---- OPEN --------------------------------------------------------------------------------- */

static void open_snapshot(fuse_req_t req, fuse_ino_t node, const struct fuse_file_info *fi)
{
	struct fs_mount *fs = fs_of(req);
	struct meta_snapshot *snapshot = fs_node_snapshot(fs, node);
	struct fuse_open_out out;
	int rc;

	if (!snapshot) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	rc = fs_snapshot_open(fs, snapshot, fi->flags, &out);
	if (rc < 0)
		fs_answer(req, rc);
	else if (fuse_reply_buf(req, (const char *)&out, sizeof(out)) < 0)
		(void)fs_release(fs, out.fh);
	meta_snapshot_put(snapshot);
}

void fs_op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct fs_mount *fs = fs_of(req);
	struct meta_disk *disk = fs_node_disk(fs, node);
	struct fuse_open_out out;
	int rc;

	if (!disk) {
		open_snapshot(req, node, fi);
		return;
	}
	rc = fs_disk_open(fs, disk, fi->flags, fuse_req_ctx(req)->pid, &out);
	if (rc < 0)
		fs_answer(req, rc);
	else if (fuse_reply_buf(req, (const char *)&out, sizeof(out)) < 0)
		(void)fs_release(fs, out.fh);
	meta_disk_put(disk);
}

/* ---- the rest ----------------------------------------------------------------------------- */

void fs_op_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct meta_pool_info info;
	struct statvfs st;

	meta_pool_info(fs_of(req)->meta, &info);
	/* A loop device takes f_bsize for the granularity of discards, so it is the chunk. */
	st = (struct statvfs){
		.f_bsize = CHUNK_BYTES,
		.f_frsize = CHUNK_BYTES,
		.f_blocks = info.total_chunks,
		.f_bfree = info.free_chunks,
		.f_bavail = info.free_chunks,
		.f_files = info.disks + info.free_chunks,
		.f_ffree = info.free_chunks,
		.f_favail = info.free_chunks,
		.f_namemax = NAME_BYTES_MAX,
	};
	fuse_reply_statfs(req, &st);
}

void fs_op_ioctl(fuse_req_t req, fuse_ino_t node, unsigned cmd, void *arg, struct fuse_file_info *fi, unsigned flags,
		 const void *in, size_t in_bytes, size_t out_bytes)
{
	fuse_reply_err(req, ENOTTY);
}
