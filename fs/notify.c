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

enum event { REMOVED, RENAMED, CHANGED };

struct notification {
	struct fs_job job;
	struct fs_mount *fs;
	enum event event;
	fuse_ino_t node;
	char name[NAME_BYTES_MAX + 1];
};

static int send_notification(const struct notification *n)
{
	struct fuse_session *session = n->fs->session;

	switch (n->event) {
	case REMOVED:
		return fuse_lowlevel_notify_delete(session, FS_NODE_DISKS, n->node, n->name, strlen(n->name));
	case RENAMED:
		return fuse_lowlevel_notify_inval_entry(session, FS_NODE_DISKS, n->name, strlen(n->name));
	case CHANGED:
		/* A negative offset means the attributes alone; a new size cuts the pages of mappings by itself. */
		return fuse_lowlevel_notify_inval_inode(session, n->node, -1, 0);
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

static void post(struct fs_mount *fs, enum event event, uint64_t number, const char *name)
{
	struct notification *n = malloc(sizeof(*n));

	if (!n) {
		log_error("fuse: no memory to tell the kernel of a change of disk %llu", (unsigned long long)number);
		return;
	}
	*n = (struct notification){
		.job.run = run_notification, .fs = fs, .event = event, .node = FS_NODE_FIRST_DISK + number
	};
	snprintf(n->name, sizeof(n->name), "%s", name);
	fs_workers_post(&fs->notifier, &n->job);
}

void fs_notify_removed(struct fs_mount *fs, uint64_t number, const char *name)
{
	fs_catalogue_touch(fs);
	post(fs, REMOVED, number, name);
}

void fs_notify_renamed(struct fs_mount *fs, uint64_t number, const char *old_name)
{
	fs_catalogue_touch(fs);
	post(fs, RENAMED, number, old_name);
}

void fs_notify_changed(struct fs_mount *fs, uint64_t number)
{
	/* Whoever set a time meant that one. */
	fs_open_clear_modified(&fs->opens, number);
	post(fs, CHANGED, number, "");
}
