/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE front end: a pool's disks and snapshots as files.
 *
 * libfuse mounts and parses the rarer operations; READ, WRITE, FSYNC, FALLOCATE,
 * LSEEK and RELEASE are read, decoded and answered by our own loop on the queue
 * threads. See fs/internal.h for who does what.
 *
 * Context: CTL. fs_mount() must be called after the fork.
 */
#ifndef FS_FS_H
#define FS_FS_H

#include "base/error.h"
#include "base/types.h"

struct meta_pool;
struct ioc_pool;
struct fs_mount;

struct fs_mount_args {
	struct meta_pool *meta;
	struct ioc_pool *ioc;
	const char *mountpoint; /* an existing directory; a mount of a dead daemon on it is cleaned up first */
	const char *source;     /* what /proc/mounts shows as the device: the pool's name */
	bool read_only;
	bool allow_other;
	const char *options; /* further mount options for the kernel ("noexec,nodev"), or NULL */
	int handles_fd;      /* of fs_handles_make(), whose holder keeps the mount when we die; -1 = none */
	int device_fd;       /* of a mount to take over, with handles_fd; -1 = mount anew */
};

/*
 * Mounts and starts to serve. Returns when the mount answers (a statfs of it has been served).
 * With device_fd the mount is there already and its daemon is dead: files that were open are opened again, and the
 * kernel sends again what had not been answered. The descriptor becomes the mount's.
 * Return: 0; -EBUSY (something is mounted there), -ENOENT / -ENOTDIR, -EPERM, -EINVAL (an option that the kernel
 * or libfuse does not know), -ENODEV (no FUSE in this kernel), -ETIMEDOUT, -ENOMEM, with err.
 */
MUST_CHECK int fs_mount(const struct fs_mount_args *args, struct fs_mount **ret, struct base_error *err);

/* The FUSE device, for whoever keeps it in case we die. */
int fs_device_fd(const struct fs_mount *fs);

/* Blocks until the mount is gone: umount(8), fs_unmount() or an abort of the connection. */
void fs_wait(struct fs_mount *fs);

enum fs_unmount_how {
	FS_UNMOUNT,      /* refused while files are open */
	FS_UNMOUNT_LAZY, /* out of the tree now; serves until the last file is closed */
	/* Now: what is not answered yet fails for its callers, open files fail from here on. Root only; for a mount
	 * by somebody else it is the same as lazy. */
	FS_UNMOUNT_FORCE,
};

/*
 * Asks for the unmount; fs_wait() says when it is done. Any thread but those that serve; not after fs_free().
 * Return: 0 (also when it is gone already); -EBUSY (files are open; nothing changed); -EPERM.
 */
MUST_CHECK int fs_unmount(struct fs_mount *fs, enum fs_unmount_how how);

/* After fs_wait(): waits for what is in flight, frees everything. The pools stay the caller's. */
void fs_free(struct fs_mount *fs);

const char *fs_mountpoint(const struct fs_mount *fs); /* absolute */
/* Whether the kernel allows MAP_SHARED of a disk (Linux 6.6); else mmap says ENODEV. */
bool fs_has_shared_mmap(const struct fs_mount *fs);

/*
 * What the kernel has to be told when a verb, not a file operation, changes the catalogue. The telling is done on
 * a thread of its own, so a call returns at once and may be made under a lock that handlers need; a disk that
 * was created needs none. number: the disk's. Any thread; not after fs_free().
 */
void fs_notify_removed(struct fs_mount *fs, uint64_t number, const char *name);
void fs_notify_renamed(struct fs_mount *fs, uint64_t number, const char *old_name);
void fs_notify_replaced(struct fs_mount *fs, uint64_t number); /* all of its content */
/* number: the disk's; layer: that of the snapshot. */
void fs_notify_snapshot_removed(struct fs_mount *fs, uint64_t number, uint64_t layer, const char *name);
void fs_notify_changed(struct fs_mount *fs, uint64_t number); /* size, mode, owner, time */

#endif
