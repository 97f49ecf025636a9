/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What snapshots need of the I/O side: taking them under the gates of open
 * disks, reading them, cloning by attaching, inflating clones.
 *
 * Context: CTL. All of it may block.
 */
#ifndef IOCORE_SNAPSHOT_H
#define IOCORE_SNAPSHOT_H

#include "iocore/pool.h"
#include "meta/snapshot.h"

#define IOC_SNAPSHOT_GROUP_MAX 64

struct ioc_snapshot_spec {
	struct meta_disk *disk; /* open or not; a disk is in a group once */
	const char *name;       /* of the snapshot; unique within its disk */
	/* All zero: a new one. `bdfs receive` gives the sender's, by which the next incremental stream finds its
	 * base; one that the pool has already: -EEXIST. */
	struct base_uuid uuid;
};

struct ioc_snapshot_timing {
	uint64_t pause_ns; /* how long new writes were held back */
	uint64_t total_ns;
};

/*
 * Takes a snapshot of each disk of the group at one instant: every write that had completed before the call is in,
 * none that is submitted after its return; what is in flight meanwhile is in or not, but if a write is in, so is
 * each that had completed, on any disk of the group, before it was submitted.
 *
 * The disks are synced and committed without stopping anyone; then writes and discards of all of them are held
 * back, those in flight are waited for, the heads are switched, and writes go on. That is the pause. Then all is
 * made durable, and the call returns. Reads are never held back.
 *
 * Up to IOC_SNAPSHOT_GROUP_MAX disks. ret_timing may be NULL.
 * Return: 0: all of them are there, durably. -EEXIST (a name is taken), -EINVAL / -ENAMETOOLONG (a name, or a
 * disk twice), -ENOENT (a disk was removed), -EROFS, -EIO (pool failed), -ENOSPC (the metadata's file system is
 * full), -ENOMEM: there is no new snapshot.
 */
MUST_CHECK int ioc_snapshot_create(struct ioc_pool *pool, const struct ioc_snapshot_spec *specs, size_t count,
				   struct ioc_snapshot_timing *ret_timing, struct base_error *err);

/*
 * The snapshot as a backing device that can only be read: READ, SEEK_DATA, SEEK_HOLE, FLUSH; everything else is
 * -EROFS. Counts as an open of the snapshot until ioc_snapshot_close.
 * Return: 0; -ENOENT, -EBADMSG, -EIO, -ENOMEM.
 */
MUST_CHECK int ioc_snapshot_open(struct ioc_pool *pool, struct meta_snapshot *snapshot, struct ioc_bd **ret,
				 struct base_error *err);
void ioc_snapshot_close(struct ioc_bd *bd); /* any thread; no request of this opener is in flight */

/* Bytes of a bd, of whichever kind; any thread. */
uint64_t ioc_bd_size(struct ioc_bd *bd);

enum { IOC_NOT_ATTACHED = 1 };
/*
 * What copying [offset, offset + length) of a snapshot to the same place of an open disk can be, when the disk
 * is empty enough: the snapshot's layer becomes the parent of the disk's head, with the end of the range as
 * overlap; further ranges raise it. A snapshot's size as the range's end counts as the end of its last block.
 * The disk must already be long enough.
 * Durability: durable when it returns 0.
 * Return: 0; IOC_NOT_ATTACHED: the conditions don't hold (data or a parent in the way, unaligned): copy the bytes;
 * -EROFS, -EIO, -ENOSPC, -ENOENT.
 */
MUST_CHECK int ioc_snapshot_attach(struct ioc_pool *pool, struct meta_snapshot *snapshot, struct ioc_bd *target,
				   uint64_t offset, uint64_t length, struct base_error *err);

/*
 * Makes an open disk independent of its parent by copying what it shows of it, while it is in use. progress (may
 * be NULL) is called now and then with bytes of the disk; when it returns false the copying ends: what was copied
 * stays, the disk is as it was, and another call goes on.
 * Return: 0: it has no parent now, durably; -ECANCELED; -ENOSPC (the pool is full); -EIO ...
 */
MUST_CHECK int ioc_disk_inflate(struct ioc_pool *pool, struct ioc_bd *bd,
				bool (*progress)(uint64_t done_bytes, uint64_t total_bytes, void *ctx), void *ctx,
				struct base_error *err);

#endif
