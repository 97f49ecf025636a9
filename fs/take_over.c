/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a mount over from a daemon that died.
 *
 * Whoever kept the FUSE device has given it to us. To the kernel nothing has
 * happened: files are open, requests wait. What the dead daemon knew and we
 * don't is which files are open, and the handles say that (handles.h). What it had read and not answered
 * the kernel sends once more when it is asked to, with a bit in the request's number.
 *
 * All that our own loop answers may be carried out twice: a request without an
 * answer is in flight for its caller, and whatever he may rely on has not been told to him. What
 * names and handles need beside that is in ops_namespace.c and handles.c.
 *
 * Node ids are made of numbers that are never used again, and handles of
 * directories may be unknown, so nothing else is to be kept.
 *
 * Failure modes: a disk that can't be opened again (its index is damaged): a
 * line in the log, and its requests fail with EBADF.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/planted.h"
#include "fs/internal.h"
#include "meta/snapshot.h"
#include "meta/targets.h"

static int open_number(struct fs_mount *fs, uint64_t number)
{
	struct meta_disk *disk = meta_disk_get_by_number(fs->meta, number);
	struct meta_snapshot *snapshot;
	int rc;

	if (disk) {
		/* Who opened it is not known any more; that it is open is, and that he was allowed to. */
		meta_disk_announce(disk, META_PID_TAKEN_OVER);
		rc = fs_disk_add_open(fs, disk, O_RDWR, META_PID_TAKEN_OVER);
		meta_disk_put(disk);
		return rc;
	}
	snapshot = fs_node_snapshot(fs, FS_NODE_FIRST_DISK + number);
	if (!snapshot)
		return -ENOENT;
	rc = fs_snapshot_add_open(fs, snapshot);
	meta_snapshot_put(snapshot);
	return rc;
}

static int open_again(void *ctx, uint64_t number)
{
	int rc = open_number(ctx, number);

	if (rc < 0)
		log_error("taking over: what is open as number %llu can't be opened again: %s",
			  (unsigned long long)number, strerror(-rc));
	return rc;
}

void fs_take_over_opens(struct fs_mount *fs)
{
	if (!planted(BUG_FORGET_OPENS))
		fs_handles_each(fs->handles, open_again, fs);
}

int fs_take_over_requests(struct fs_mount *fs)
{
	struct fuse_out_header resend = { .len = sizeof(resend), .error = FS_NOTIFY_RESEND };

	return write(fs->fd, &resend, sizeof(resend)) < 0 ? -errno : 0;
}
