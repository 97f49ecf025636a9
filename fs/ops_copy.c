/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_file_range: `cp snapshots/web1/monday disks/web2` as a clone.
 *
 * cp of coreutils 9 makes the new file, asks for its data in ranges at equal
 * offsets, and sets the size at the end. A range of a snapshot that goes to the
 * same place of a disk with nothing in its way is not copied: the snapshot's
 * layer becomes the disk's parent, with the end of the range as how far it may
 * show through; further ranges raise that (iocore/snapshot.h). So it takes the
 * time of its ranges, not of its bytes.
 *
 * Everything else (a disk to a disk, a disk with data in it, another offset, an
 * unaligned range) is answered with EOPNOTSUPP, upon which the kernel copies by
 * reading and writing. FICLONE, which cp --reflink=always insists on, never
 * comes here: the kernel does not hand it to a FUSE file system.
 *
 * The answer of FUSE counts in 32 bits, so a longer range is done in part and
 * the caller comes again.
 *
 * Failure modes: a range past the source's end is cut there; one wholly behind
 * it copies nothing. If the disk can't be made long enough, that is the error.
 */
#include <errno.h>

#include "fs/internal.h"
#include "fs/result.h"
#include "iocore/snapshot.h"

/* The largest multiple of a chunk that fits the answer. */
#define COPY_BYTES_MAX (4 * GIB - CHUNK_BYTES)

static int attach(struct fs_mount *fs, struct meta_snapshot *snapshot, struct meta_disk *disk, uint64_t offset,
		  uint64_t length)
{
	struct ioc_bd *bd;
	int rc = 0;

	if (meta_disk_size(disk) < offset + length)
		rc = fs_disk_resize(fs, disk, offset + length);
	if (rc == 0)
		rc = ioc_disk_open(fs->ioc, disk, &bd, NULL);
	if (rc < 0)
		return rc;
	rc = ioc_snapshot_attach(fs->ioc, snapshot, bd, offset, length, NULL);
	ioc_disk_close(bd);
	return rc == IOC_NOT_ATTACHED ? -EOPNOTSUPP : rc;
}

/* Return: how many bytes; negative errno. */
static int64_t clone_range(struct fs_mount *fs, struct meta_snapshot *snapshot, struct meta_disk *disk,
			   uint64_t offset, uint64_t length)
{
	struct meta_snapshot_info info;
	int rc;

	meta_snapshot_info(snapshot, &info);
	if (offset >= info.size_bytes || length == 0)
		return 0;
	length = MIN(MIN(length, info.size_bytes - offset), COPY_BYTES_MAX);
	/* Before the disk is made longer: what can't be attached is copied by the kernel, which does that itself. */
	if (offset % BLOCK_BYTES != 0 || (length % BLOCK_BYTES != 0 && offset + length != info.size_bytes))
		return -EOPNOTSUPP;
	rc = attach(fs, snapshot, disk, offset, length);
	if (rc < 0)
		return rc;
	fs_open_note_modified(&fs->opens, meta_disk_number(disk), fs_now_s());
	return (int64_t)length;
}

void fs_op_copy_file_range(fuse_req_t req, fuse_ino_t node_in, off_t offset_in, struct fuse_file_info *in,
			   fuse_ino_t node_out, off_t offset_out, struct fuse_file_info *out, size_t length,
			   int flags)
{
	struct fs_mount *fs = fs_of(req);
	struct meta_snapshot *snapshot = fs_node_snapshot(fs, node_in);
	struct meta_disk *disk = fs_node_disk(fs, node_out);
	int64_t done = -EOPNOTSUPP;

	if (fs->read_only)
		done = -EROFS;
	else if (snapshot && disk && flags == 0 && offset_in == offset_out && offset_in >= 0)
		done = clone_range(fs, snapshot, disk, (uint64_t)offset_in, length);
	if (done < 0)
		fs_answer(req, (int)done);
	else
		fuse_reply_write(req, (size_t)done);
	if (snapshot)
		meta_snapshot_put(snapshot);
	if (disk)
		meta_disk_put(disk);
}
