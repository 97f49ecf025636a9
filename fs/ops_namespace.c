/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names: look-up, create, unlink, rename.
 *
 * Only disks/ has names that come and go by file operations. Nobody but the
 * pool's verbs puts anything into snapshots/ and media/, or takes it away: one
 * rm -r too many must not cost the snapshots that are there for that.
 *
 *	create, mknod   a new empty disk of size 0, durable when answered
 *	unlink          removes the disk; EBUSY while anybody has it open
 *	rename          a new label; onto an existing name: EEXIST, never a replacement
 *	mkdir, rmdir, symlink, link   EPERM, as is unlink of a snapshot
 *
 * CREATE opens as well. If somebody else has made the name in between, it is
 * an OPEN of that disk, unless O_EXCL says otherwise.
 *
 * Looking up "." and ".." works on any node, so a file handle can be turned
 * into a path again after the kernel has forgotten the inode (EXPORT_SUPPORT).
 *
 * A request that is sent again after the death of a daemon may have been carried
 * out: what is there, or gone, as it asks for, is success then.
 *
 * Failure modes: a name over 127 bytes: ENAMETOOLONG. Whatever the catalogue
 * says else goes through the table in result.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fs/internal.h"
#include "fs/result.h"

/* ---- LOOKUP ------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	fuse_ino_t node;
} root_names[] = {
	{ "disks", FS_NODE_DISKS },
	{ "snapshots", FS_NODE_SNAPSHOTS },
	{ "media", FS_NODE_MEDIA },
};

static fuse_ino_t root_child(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(root_names); i++) {
		if (strcmp(root_names[i].name, name) == 0)
			return root_names[i].node;
	}
	return 0;
}

static fuse_ino_t parent_of(struct fs_mount *fs, fuse_ino_t node)
{
	struct meta_disk *disk;

	if (node <= FS_NODE_MEDIA)
		return FS_NODE_ROOT;
	disk = fs_node_disk(fs, node);
	if (!disk)
		return fs_snapshots_parent(fs, node);
	meta_disk_put(disk);
	return FS_NODE_DISKS;
}

/* 0 when there is no such directory entry; a disk is not looked for. */
static fuse_ino_t fixed_node(struct fs_mount *fs, fuse_ino_t parent, const char *name)
{
	if (strcmp(name, ".") == 0)
		return parent;
	if (strcmp(name, "..") == 0)
		return parent_of(fs, parent);
	return parent == FS_NODE_ROOT ? root_child(name) : 0;
}

static void answer_disk_entry(fuse_req_t req, struct meta_disk *disk)
{
	struct fuse_entry_param entry;

	fs_disk_entry(fs_of(req), disk, &entry);
	fuse_reply_entry(req, &entry);
}

static void look_up_disk(fuse_req_t req, const char *name)
{
	struct meta_disk *disk = meta_disk_get_by_name(fs_of(req)->meta, name);

	if (!disk) {
		/* Not cached as missing: a verb may create it, and that needs no notification then. */
		fuse_reply_err(req, ENOENT);
		return;
	}
	answer_disk_entry(req, disk);
	meta_disk_put(disk);
}

static void look_up_snapshot(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry;

	if (fs_snapshots_look_up(fs_of(req), parent, name, &entry) < 0)
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &entry);
}

void fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .attr_timeout = FS_ATTR_TIMEOUT_S, .entry_timeout = FS_ENTRY_TIMEOUT_S };
	int rc;

	entry.ino = fixed_node(fs_of(req), parent, name);
	if (entry.ino == 0 && strlen(name) > NAME_BYTES_MAX) {
		fs_answer(req, -ENAMETOOLONG);
	} else if (entry.ino == 0 && parent == FS_NODE_DISKS) {
		look_up_disk(req, name);
	} else if (entry.ino == 0 && parent != FS_NODE_ROOT) {
		look_up_snapshot(req, parent, name);
	} else {
		rc = entry.ino ? fs_node_stat(fs_of(req), entry.ino, &entry.attr) : -ENOENT;
		if (rc < 0)
			fuse_reply_err(req, -rc);
		else
			fuse_reply_entry(req, &entry);
	}
}

/* ---- creating ----------------------------------------------------------------------------- */

static int make_disk(struct fs_mount *fs, const struct meta_disk_spec *spec, uint64_t *ret_number)
{
	int rc = meta_disk_create(fs->meta, spec, 1, ret_number, NULL);

	if (rc == 0)
		fs_catalogue_touch(fs);
	return rc;
}

/* The catalogue takes mode 0 for "the usual"; a file may really have it. */
static int remove_permissions(struct meta_disk *disk)
{
	struct meta_disk_attr attr = { .mode = 0 };

	return meta_disk_set_attr(disk, META_ATTR_MODE, &attr, NULL);
}

/* The disk that a daemon made which died before it could say so: nobody else's looks like this. */
static struct meta_disk *made_before(struct fs_mount *fs, const struct meta_disk_spec *spec)
{
	struct meta_disk *disk = fs_request_is_resent() ? meta_disk_get_by_name(fs->meta, spec->name) : NULL;
	struct meta_disk_info info;

	if (!disk)
		return NULL;
	meta_disk_info(disk, &info);
	if (info.size_bytes == 0 && info.opens == 0 && info.record.uid == spec->uid && info.record.gid == spec->gid)
		return disk;
	meta_disk_put(disk);
	return NULL;
}

/* Return: 0 with a referenced new disk; negative errno. */
static int create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct meta_disk **ret)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fs_mount *fs = fs_of(req);
	struct meta_disk_spec spec = {
		.kind = META_DISK_THIN, .mode = mode & ACCESSPERMS, .uid = ctx->uid, .gid = ctx->gid
	};
	uint64_t number;
	int rc;

	if (fs->read_only)
		return -EROFS;
	if (parent != FS_NODE_DISKS || !S_ISREG(mode))
		return -EPERM;
	if (strlen(name) > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	snprintf(spec.name, sizeof(spec.name), "%s", name);
	rc = make_disk(fs, &spec, &number);
	if (rc == -EEXIST && (*ret = made_before(fs, &spec)))
		return 0;
	if (rc < 0)
		return rc;
	*ret = meta_disk_get_by_number(fs->meta, number);
	if (!*ret)
		return -ENOENT;
	return spec.mode ? 0 : remove_permissions(*ret);
}

void fs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct meta_disk *disk = NULL;
	int rc = create(req, parent, name, mode, &disk);

	if (rc < 0)
		fs_answer(req, rc);
	else
		answer_disk_entry(req, disk);
	if (disk)
		meta_disk_put(disk);
}

static struct fuse_attr attr_of(const struct stat *st)
{
	return (struct fuse_attr){
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.blksize = (uint32_t)st->st_blksize,
	};
}

/* As raw bytes, for the same reason as OPEN's answer. Return: 0, or negative when nobody took it. */
static int answer_create(fuse_req_t req, struct meta_disk *disk, const struct fuse_open_out *open_out)
{
	struct fuse_entry_param entry;
	struct fuse_entry_out out;
	char buf[sizeof(out) + sizeof(*open_out)];

	fs_disk_entry(fs_of(req), disk, &entry);
	out = (struct fuse_entry_out){ .nodeid = entry.ino,
				       .entry_valid = (uint64_t)FS_ENTRY_TIMEOUT_S,
				       .attr_valid = (uint64_t)FS_ATTR_TIMEOUT_S,
				       .attr = attr_of(&entry.attr) };
	memcpy(buf, &out, sizeof(out));
	memcpy(buf + sizeof(out), open_out, sizeof(*open_out));
	return fuse_reply_buf(req, buf, sizeof(buf));
}

void fs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs_mount *fs = fs_of(req);
	struct meta_disk *disk = NULL;
	struct fuse_open_out out;
	int rc = create(req, parent, name, mode, &disk);

	if (rc == -EEXIST && !(fi->flags & O_EXCL)) {
		disk = meta_disk_get_by_name(fs->meta, name);
		rc = disk ? 0 : -ENOENT;
	}
	if (rc == 0)
		rc = fs_disk_open(fs, disk, fi->flags, fuse_req_ctx(req)->pid, &out);
	if (rc < 0)
		fs_answer(req, rc);
	else if (answer_create(req, disk, &out) < 0)
		(void)fs_release(fs, out.fh);
	if (disk)
		meta_disk_put(disk);
}

/* ---- UNLINK and RENAME -------------------------------------------------------------------- */

static int unlink_disk(struct fs_mount *fs, const char *name)
{
	struct meta_disk *disk;
	int rc;

	if (fs->read_only)
		return -EROFS;
	disk = meta_disk_get_by_name(fs->meta, name);
	if (!disk)
		return fs_request_is_resent() ? 0 : -ENOENT;
	rc = fs_disk_wait_unused(fs, disk, 0);
	if (rc == 0)
		rc = meta_disk_remove(disk, NULL);
	if (rc == 0) {
		fs_open_clear_modified(&fs->opens, meta_disk_number(disk));
		fs_catalogue_touch(fs);
	}
	meta_disk_put(disk);
	return rc;
}

void fs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fs_answer(req, parent == FS_NODE_DISKS ? unlink_disk(fs_of(req), name) : -EPERM);
}

static bool is_there(struct fs_mount *fs, const char *name)
{
	struct meta_disk *disk = meta_disk_get_by_name(fs->meta, name);

	if (disk)
		meta_disk_put(disk);
	return disk;
}

static int rename_disk(struct fs_mount *fs, const char *name, const char *new_name)
{
	struct meta_disk *disk;
	int rc;

	if (fs->read_only)
		return -EROFS;
	if (strlen(new_name) > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	disk = meta_disk_get_by_name(fs->meta, name);
	if (!disk)
		return fs_request_is_resent() && is_there(fs, new_name) ? 0 : -ENOENT;
	rc = meta_disk_rename(disk, new_name, NULL);
	if (rc == 0) {
		fs_catalogue_touch(fs);
		/* The kernel moved disks/NAME itself, and knows nothing of snapshots/NAME. */
		fs_notify_snapshots_moved(fs, name);
	}
	meta_disk_put(disk);
	return rc;
}

void fs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		  unsigned flags)
{
	int rc;

	if (flags & ~(unsigned)RENAME_NOREPLACE)
		rc = -EINVAL;
	else if (parent != FS_NODE_DISKS || new_parent != FS_NODE_DISKS)
		rc = -EPERM;
	else
		rc = rename_disk(fs_of(req), name, new_name);
	fs_answer(req, rc);
}

/* ---- what a pool has no place for --------------------------------------------------------- */

void fs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	fs_answer(req, -EPERM);
}

void fs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fs_answer(req, -EPERM);
}

void fs_op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	fs_answer(req, -EPERM);
}

void fs_op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t new_parent, const char *new_name)
{
	fs_answer(req, -EPERM);
}
