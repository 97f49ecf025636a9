/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw backing devices: a whole block device, or a file outside the pool, passed on as it is: VIOS's dedicated disk.
 *
 * No format is looked for or guessed: every byte is the guest's. What is served is the thing, not its name: when it
 * is mapped its identity is taken, and later something else under that name is refused.
 *
 * Who has it: a block device is claimed exclusively (O_EXCL), so nobody can mount it or make it a part of anything
 * while it is open here; a file is locked (flock and an OFD lock on all of it, which QEMU's locks collide with). One
 * thing is opened once, by however many names and mappings: those that share it share the bd.
 *
 * How it differs from a disk of the pool, for who submits requests: offset and length are multiples of the logical
 * block; a discarded range reads as zero only from a file; ALLOCATE and RESIZE are -EOPNOTSUPP; it is all data.
 * After a failed flush writes and flushes fail until it is opened anew: what the device has lost nobody can tell.
 *
 * Context: CTL; all may block, on a device that does not answer for as long as it does not.
 */
#ifndef IOCORE_RAW_H
#define IOCORE_RAW_H

#include <sys/types.h>

#include "base/error.h"
#include "iocore/bd.h"
#include "meta/records_target.h"

struct ioc_pool;

/* ---- what is at a path -------------------------------------------------------------------- */

struct ioc_raw_look {
	bool is_file;
	dev_t device; /* the block device; of a file, the one that its file system says it is on */
	ino_t inode;  /* of the file; 0 for a block device */
	/*
	 * "wwid naa.6000...", "serial ...", "dm ...", of a partition with " part N at SECTOR" behind it, "loop FILE at
	 * BYTE", or, where the kernel knows nothing that lasts, "name sdb". Of a file "file" and its handle, which is
	 * the inode and its generation.
	 */
	char identity[META_IDENTITY_BYTES_MAX + 1];
};

/*
 * Looks without opening it. mountpoint: of the pool, or NULL: what lies there, or on a device that lies there, is
 * refused, as we would wait for ourselves.
 * Return: 0; -EINVAL (neither file nor block device; ours), -ENOENT and others of the path, with err.
 */
MUST_CHECK int ioc_raw_look(const char *path, const char *mountpoint, struct ioc_raw_look *ret,
			    struct base_error *err);

/*
 * Whether it is free to be mapped: looks for mounts, swap, device-mapper and md above it, a loop device on a file,
 * and the label of a pool. What can be seen is named; what can't be, the open finds.
 * *ret_format: a static text when it begins as an image of some format ("qcow2"): it is served as raw bytes all the
 * same; else NULL.
 * Return: 0; -EBUSY with err; -EIO and others of reading it.
 */
MUST_CHECK int ioc_raw_check_free(const char *path, const struct ioc_raw_look *look, const char **ret_format,
				  struct base_error *err);

/* ---- opening ------------------------------------------------------------------------------ */

struct ioc_raw_info {
	uint64_t size_bytes;
	uint32_t logical_block_bytes; /* what offset and length of requests are multiples of */
	bool is_file;
	bool is_direct;    /* past the page cache */
	bool is_read_only; /* the device or file itself: writes are -EROFS */
};

/*
 * identity: what it has to be. Opened read-only if it can't be written; whoever wants less refuses writes himself.
 * Return: 0; -ENODEV (err says what is there instead), -EBUSY (err names who holds it), -ENOENT, -EINVAL, -EACCES,
 * -ENOMEM, -EAGAIN.
 */
MUST_CHECK int ioc_raw_open(struct ioc_pool *pool, const char *path, const char *identity, const char *mountpoint,
			    struct ioc_bd **ret, struct base_error *err);
/* No request of this opener is in flight. */
void ioc_raw_close(struct ioc_bd *bd);
void ioc_raw_info(const struct ioc_bd *bd, struct ioc_raw_info *ret); /* any thread */
bool ioc_raw_has_failed(const struct ioc_bd *bd); /* a flush has failed; any thread */

#endif
