/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target side of the catalogue: adapters, VTDs, and who may hold a disk.
 *
 * A VTD binds one backing device to one adapter; mappings exist only as these
 * records. What serves them is the business of vtd/: a record says what is meant to
 * be, whether or not anybody serves it now.
 *
 * A snapshot never changes, so any number of VTDs may map it, beside readers of its
 * file; each is read-only, and a snapshot that is mapped can't be removed.
 *
 * The rule of holders: a disk is either open as a file of the mount or mapped by one
 * VTD, not both and not by two, unless each VTD on it says `shared`. It is kept here,
 * under the lock of the catalogue, since files are opened by one room and mappings
 * made by another. It counts mappings, not what is being served, so a disk whose
 * guest is not started yet is safe from its file too.
 *
 * A loop or LIO VTD reaches its disk through a file of the mount: the process that
 * opens it is announced, by its pid, and may open the disk once.
 *
 * Context: CTL; looking up takes a short lock, changes wait for MW.
 * Durability: a change is on stable storage when the call returns 0.
 */
#ifndef META_TARGETS_H
#define META_TARGETS_H

#include <sys/types.h>

#include "meta/pool.h"
#include "meta/records_target.h"

/* ---- adapters ----------------------------------------------------------------------------- */

struct meta_adapter_info {
	char name[META_DEVICE_NAME_BYTES_MAX + 1];
	struct meta_adapter_record record;
	unsigned vtds;
};

/* The first adapter whose name is > after ("" to start), by length and then letters: vhost2 comes before vhost10.
 * Stable against changes in between. Return: false at the end. */
bool meta_adapter_next(struct meta_pool *pool, const char *after, struct meta_adapter_info *ret);
/* Return: 0; -ENOENT with err. */
MUST_CHECK int meta_adapter_get(struct meta_pool *pool, const char *name, struct meta_adapter_info *ret,
				struct base_error *err);
/* Return: 0; -EEXIST (an adapter or VTD of this name, or another adapter with this physloc), -EINVAL, -ENAMETOOLONG,
 * others of the catalogue. */
MUST_CHECK int meta_adapter_create(struct meta_pool *pool, const char *name, const struct meta_adapter_record *rec,
				   struct base_error *err);
/* Return: 0; -ENOENT; -EINVAL (too long, or with control characters). */
MUST_CHECK int meta_adapter_set_client(struct meta_pool *pool, const char *name, const char *client,
				       struct base_error *err);
/* Return: 0; -ENOENT; -EBUSY: it has VTDs, err names one. */
MUST_CHECK int meta_adapter_remove(struct meta_pool *pool, const char *name, struct base_error *err);

/* ---- VTDs --------------------------------------------------------------------------------- */

struct meta_vtd_info {
	char name[META_DEVICE_NAME_BYTES_MAX + 1];
	struct meta_vtd_record record;
};

struct meta_vtd_spec {
	char name[META_DEVICE_NAME_BYTES_MAX + 1]; /* "" = vtscsiN, N the lowest that is free */
	struct meta_vtd_record record; /* lun 0 = the adapter's lowest that is free; created_s is set here */
	const struct meta_adapter_record *adapter; /* NULL, or: make the adapter so, if it is not there, in the same
						      transaction */
};

/* As meta_adapter_next. */
bool meta_vtd_next(struct meta_pool *pool, const char *after, struct meta_vtd_info *ret);
/* As meta_vtd_next, those of one disk. */
bool meta_vtd_next_of_disk(struct meta_pool *pool, uint64_t disk, const char *after, struct meta_vtd_info *ret);
/* As meta_vtd_next, those of one snapshot. */
bool meta_vtd_next_of_snapshot(struct meta_pool *pool, struct base_uuid snapshot, const char *after,
			       struct meta_vtd_info *ret);
/* Return: 0; -ENOENT with err. */
MUST_CHECK int meta_vtd_get(struct meta_pool *pool, const char *name, struct meta_vtd_info *ret,
			    struct base_error *err);
/*
 * Maps. Return: 0; -EBUSY (mapped, or open as a file, and not both sides are shared: err names the holder); -EEXIST
 * (the name, the LUN); -ENOENT (the adapter, the disk or snapshot); -ENOSPC (no LUN is free); -EINVAL (a snapshot that
 * is not mapped read-only and shared too), -ENAMETOOLONG; others of the catalogue.
 */
MUST_CHECK int meta_vtd_create(struct meta_pool *pool, const struct meta_vtd_spec *spec, struct meta_vtd_info *ret,
			       struct base_error *err);
/* Return: 0; -ENOENT. What serves it was stopped before. */
MUST_CHECK int meta_vtd_remove(struct meta_pool *pool, const char *name, struct base_error *err);
/* own_files: files of the mount that the VTD itself has open (loop, LIO). Return: 0; -ENOENT; -EBUSY: no longer
 * shared is refused while there is a second holder; -EINVAL: nor ever for a snapshot. */
MUST_CHECK int meta_vtd_set_shared(struct meta_pool *pool, const char *name, bool shared, unsigned own_files,
				   struct base_error *err);

/* ---- files -------------------------------------------------------------------------------- */

/* A disk is opened as a file by process pid; beside meta_disk_open, not instead. Any thread; never blocks for long.
 * Return: 0; -EBUSY: it is mapped, not shared, and pid was not announced. */
MUST_CHECK int meta_disk_open_file(struct meta_disk *disk, pid_t pid);
void meta_disk_close_file(struct meta_disk *disk);
unsigned meta_disk_files(struct meta_disk *disk);
/* Waits until no more than `allowed` files are open, at most timeout_ns. Return: 0; -EBUSY. */
MUST_CHECK int meta_disk_wait_files(struct meta_disk *disk, unsigned allowed, uint64_t timeout_ns);
/* The next open by this process is the mapping's own. pid 0 withdraws the last one. */
#define META_PID_TAKEN_OVER (-1) /* nobody's: of an open that a daemon before this one has answered */
void meta_disk_announce(struct meta_disk *disk, pid_t pid);

#endif
