/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of handlers, and what more than one of them does: opening a disk
 * for a descriptor, resizing, waiting until nobody holds it.
 *
 * Opens are counted three times: by iocore, where they keep a disk from being
 * removed; as files, which keep it from being mapped, and are refused while it is
 * (meta/targets.h); and in the open table, where the requests find it. One FUSE
 * open is one of each.
 *
 * "Nobody holds it" has a subtlety: close(2) returns before its RELEASE has
 * come here, so a disk may look open to the unlink or truncate(2) that follows. Those
 * wait a little for RELEASEs; a holder outside this mount is busy at once.
 *
 * Every handler runs on a control worker, may block, and answers once.
 *
 * What is not in the table libfuse answers with ENOSYS, which the kernel
 * remembers and serves by itself: FLUSH (nothing is to be done at a close),
 * FSYNCDIR (the catalogue is durable when changed), POLL (always ready), locks
 * (local), ACCESS (default_permissions).
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>

#include "fs/internal.h"
#include "fs/result.h"
#include "meta/targets.h"

const struct fuse_lowlevel_ops fs_ops = {
	.lookup = fs_op_lookup,
	.mknod = fs_op_mknod,
	.create = fs_op_create,
	.unlink = fs_op_unlink,
	.rename = fs_op_rename,
	.mkdir = fs_op_mkdir,
	.rmdir = fs_op_rmdir,
	.symlink = fs_op_symlink,
	.link = fs_op_link,
	.opendir = fs_op_opendir,
	.readdir = fs_op_readdir,
	.readdirplus = fs_op_readdirplus,
	.releasedir = fs_op_releasedir,
	.getattr = fs_op_getattr,
	.setattr = fs_op_setattr,
	.open = fs_op_open,
	.statfs = fs_op_statfs,
	.ioctl = fs_op_ioctl,
	.getxattr = fs_op_getxattr,
	.listxattr = fs_op_listxattr,
	.setxattr = fs_op_setxattr,
	.removexattr = fs_op_removexattr,
	.copy_file_range = fs_op_copy_file_range,
};

/* Every descriptor of a disk gets the same: one open that the kernel may cache would make all writers of the disk
 * queue for its inode lock. Nothing is cached, so a close has nothing to flush. */
#define DISK_OPEN_FLAGS (FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH)

void fs_answer(fuse_req_t req, int result)
{
	fuse_reply_err(req, -fs_result_to_errno(result));
}

int fs_disk_resize(struct fs_mount *fs, struct meta_disk *disk, uint64_t size_bytes)
{
	struct ioc_request req = { .op = IOC_OP_RESIZE, .offset = size_bytes };
	int rc;

	if (size_bytes > DISK_BYTES_MAX)
		return -EFBIG;
	rc = ioc_disk_open(fs->ioc, disk, &req.bd, NULL);
	if (rc < 0)
		return rc;
	rc = ioc_bd_call(fs->ioc, &req);
	ioc_disk_close(req.bd);
	return rc;
}

int fs_disk_wait_unused(struct fs_mount *fs, struct meta_disk *disk, unsigned allowed)
{
	uint64_t number = meta_disk_number(disk);
	/* Ours first: a close that ends between the two questions must not look like a holder that is not ours. */
	unsigned ours = fs_open_count(&fs->opens, number);
	int rc;

	/* Descriptors of this mount may be about to go; any other holder (a VTD) is not. */
	if (meta_disk_opens(disk) > MAX(ours, allowed))
		return -EBUSY;
	rc = fs_open_wait(&fs->opens, number, allowed, FS_RELEASE_WAIT_NS);
	return rc == 0 && meta_disk_opens(disk) > allowed ? -EBUSY : rc;
}

static int truncate_for_open(struct fs_mount *fs, struct meta_disk *disk)
{
	int rc = fs_disk_wait_unused(fs, disk, 0);

	if (rc == 0 && meta_disk_size(disk) > 0)
		rc = fs_disk_resize(fs, disk, 0);
	return rc;
}

static int open_claimed(struct fs_mount *fs, struct meta_disk *disk, int open_flags)
{
	struct ioc_bd *bd;
	int rc = 0;

	if (open_flags & O_TRUNC)
		rc = truncate_for_open(fs, disk);
	if (rc == 0)
		rc = ioc_disk_open(fs->ioc, disk, &bd, NULL);
	if (rc < 0)
		return rc;
	rc = fs_open_add(&fs->opens, meta_disk_number(disk), bd, ioc_disk_meta(bd));
	if (rc < 0)
		ioc_disk_close(bd);
	return rc;
}

int fs_disk_add_open(struct fs_mount *fs, struct meta_disk *disk, int open_flags, pid_t pid)
{
	int rc = meta_disk_open_file(disk, pid);

	if (rc < 0)
		return rc;
	rc = open_claimed(fs, disk, open_flags);
	if (rc < 0)
		meta_disk_close_file(disk);
	return rc;
}

int fs_hand_out(struct fs_mount *fs, uint64_t number, uint64_t *ret_fh)
{
	int rc = fs_handles_add(fs->handles, fs_request_unique(), number, ret_fh), undone;

	if (rc < 0) {
		undone = fs_open_release(&fs->opens, number);
		assert(undone == 0);
		(void)undone;
	}
	return rc;
}

int fs_disk_open(struct fs_mount *fs, struct meta_disk *disk, int open_flags, pid_t pid, struct fuse_open_out *ret)
{
	uint64_t number = meta_disk_number(disk);
	int rc;

	*ret = (struct fuse_open_out){ .open_flags = DISK_OPEN_FLAGS };
	if (fs->read_only && (open_flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY)
		return -EROFS;
	if (fs_handles_find(fs->handles, fs_request_unique(), number, &ret->fh))
		return 0;
	rc = fs_disk_add_open(fs, disk, open_flags, pid);
	if (rc < 0)
		return rc;
	return fs_hand_out(fs, number, &ret->fh);
}

void fs_disk_close(struct ioc_bd *bd)
{
	meta_disk_close_file(ioc_disk_meta(bd));
	ioc_disk_close(bd);
}

int fs_release(struct fs_mount *fs, uint64_t fh)
{
	/* Out of the handles first: killed in between, the one open too many dies with us. */
	if (!fs_handles_remove(fs->handles, fh))
		return 0;
	return fs_open_release(&fs->opens, fs_handle_number(fh));
}
