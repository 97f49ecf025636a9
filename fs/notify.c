/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling the kernel of changes that did not come through the mount.
 *
 * Names and attributes are cached long, since nearly all changes are the
 * kernel's own. A verb over the control socket is not: after it, the entry or
 * the attributes that it made wrong are thrown away.
 *
 * The kernel takes the directory's lock for an entry, and the holder of that
 * lock may be waiting for an answer of ours. So notifications are sent by a
 * thread that nobody waits for, one after the other.
 *
 * Failure modes: ENOENT means that the kernel has nothing cached; ENOSYS, that it is too
 * old; both are fine, as is an error when the mount is gone. Without memory a
 * notification is lost, which is logged: what is cached then lives out its time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/internal.h"

enum event { REMOVED, RENAMED, CHANGED, REPLACED };

struct notification {
	struct fs_job job;
	struct fs_mount *fs;
	enum event event;
	fuse_ino_t parent; /* REMOVED, RENAMED */
	fuse_ino_t node;
	char name[NAME_BYTES_MAX + 1];
};

static int send_notification(const struct notification *n)
{
	struct fuse_session *session = n->fs->session;

	switch (n->event) {
	case REMOVED:
		return fuse_lowlevel_notify_delete(session, n->parent, n->node, n->name, strlen(n->name));
	case RENAMED:
		return fuse_lowlevel_notify_inval_entry(session, n->parent, n->name, strlen(n->name));
	case CHANGED:
		/* A negative offset means the attributes alone; a new size cuts the pages of mappings by itself. */
		return fuse_lowlevel_notify_inval_inode(session, n->node, -1, 0);
	case REPLACED:
		/* Pages too: a mapping that was closed may have left some. */
		return fuse_lowlevel_notify_inval_inode(session, n->node, 0, 0);
	}
	return -EINVAL;
}

static void run_notification(struct fs_job *job)
{
	struct notification *n = container_of(job, struct notification, job);
	int rc = send_notification(n);

	if (rc < 0 && rc != -ENOENT && rc != -ENOSYS && rc != -ENODEV && rc != -ENOTCONN && rc != -ENOTDIR)
		log_warning("fuse: telling the kernel of a change of %s: %s", n->name, strerror(-rc));
	free(n);
}

static void post(struct fs_mount *fs, enum event event, fuse_ino_t parent, fuse_ino_t node, const char *name)
{
	struct notification *n = malloc(sizeof(*n));

	if (!n) {
		log_error("fuse: no memory to tell the kernel of a change of node %llu", (unsigned long long)node);
		return;
	}
	*n = (struct notification){
		.job.run = run_notification, .fs = fs, .event = event, .parent = parent, .node = node
	};
	snprintf(n->name, sizeof(n->name), "%s", name);
	fs_workers_post(&fs->notifier, &n->job);
}

void fs_notify_snapshots_moved(struct fs_mount *fs, const char *old_name)
{
	post(fs, RENAMED, FS_NODE_SNAPSHOTS, 0, old_name);
}

void fs_notify_removed(struct fs_mount *fs, uint64_t number, const char *name)
{
	fs_catalogue_touch(fs);
	post(fs, REMOVED, FS_NODE_DISKS, FS_NODE_FIRST_DISK + number, name);
	fs_notify_snapshots_moved(fs, name);
}

void fs_notify_renamed(struct fs_mount *fs, uint64_t number, const char *old_name)
{
	fs_catalogue_touch(fs);
	post(fs, RENAMED, FS_NODE_DISKS, FS_NODE_FIRST_DISK + number, old_name);
	fs_notify_snapshots_moved(fs, old_name);
}

void fs_notify_changed(struct fs_mount *fs, uint64_t number)
{
	/* Whoever set a time meant that one. */
	fs_open_clear_modified(&fs->opens, number);
	post(fs, CHANGED, 0, FS_NODE_FIRST_DISK + number, "");
}

void fs_notify_replaced(struct fs_mount *fs, uint64_t number)
{
	fs_open_clear_modified(&fs->opens, number);
	post(fs, REPLACED, 0, FS_NODE_FIRST_DISK + number, "");
}

void fs_notify_snapshot_removed(struct fs_mount *fs, uint64_t number, uint64_t layer, const char *name)
{
	struct meta_disk *disk = meta_disk_get_by_number(fs->meta, number);
	struct meta_disk_info info;

	fs_catalogue_touch(fs);
	post(fs, REMOVED, FS_NODE_SNAPSHOTS_BIT | (FS_NODE_FIRST_DISK + number), FS_NODE_FIRST_DISK + layer, name);
	if (!disk)
		return;
	/* With its last snapshot the directory goes too; else it is just looked up again. */
	meta_disk_info(disk, &info);
	meta_disk_put(disk);
	fs_notify_snapshots_moved(fs, info.record.name);
}
