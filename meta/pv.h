/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Physical volumes as meta sees them: something with a label, that can be
 * locked, synced and discarded. Data I/O goes through iocore's engines on fd.
 *
 * The methods are a vtable so that the power-cut simulator can put a device in
 * memory underneath; meta_pv_real is the one that the product uses.
 *
 * Context: open, close, read, write: CTL (write also MW, for labels). sync: MW.
 * discard: BG. All may block. All return 0 or negative errno.
 */
#ifndef META_PV_H
#define META_PV_H

#include "base/error.h"
#include "base/types.h"

struct meta_pv_handle {
	int fd; /* of data I/O; carries the exclusive lock (flock, and O_EXCL on a block device). -1: a simulated pv
		 */
	void *priv; /* the vtable's */
	uint64_t size_bytes;
	bool is_file;
	bool direct;           /* O_DIRECT */
	uint32_t sector_bytes; /* offset and length of direct I/O are multiples of this */
	uint32_t memory_align; /* and so is its memory of this */
	uint64_t instance;     /* inode or diskseq with the device number: which thing this is, within one boot */
};

enum {
	META_PV_READ_ONLY = 1 << 0, /* shared lock */
	/* A regular file that is not there is made, create_bytes long and sparse; its name is stable then. */
	META_PV_CREATE = 1 << 1,
	/* Not a pv of a pool but a device or file that is passed on whole: a message calls it by its path alone, and a
	 * block device is claimed exclusively also when it is opened to be read. */
	META_PV_RAW = 1 << 2,
};

struct meta_pv_ops {
	/* Locks before it returns. -EBUSY: err names the pid that holds it. */
	int (*open)(void *ctx, const char *path, unsigned flags, uint64_t create_bytes, struct meta_pv_handle *ret,
		    struct base_error *err);
	void (*close)(void *ctx, struct meta_pv_handle *pv);
	/* bytes and offset are multiples of 4096. */
	int (*read)(void *ctx, struct meta_pv_handle *pv, void *buf, size_t bytes, uint64_t offset);
	int (*write)(void *ctx, struct meta_pv_handle *pv, const void *buf, size_t bytes, uint64_t offset);
	int (*sync)(void *ctx, struct meta_pv_handle *pv);
	/* Gives the range back to the file system or device. -EOPNOTSUPP: it can't; meta then stops asking. */
	int (*discard)(void *ctx, struct meta_pv_handle *pv, uint64_t offset, uint64_t bytes);
	/* Takes up a new size: extends a file to new_bytes, or (0) looks how large the device is now. Updates
	 * pv->size_bytes. */
	int (*resize)(void *ctx, struct meta_pv_handle *pv, uint64_t new_bytes);
	bool makes_files; /* META_PV_CREATE leaves a file behind, which is taken back when what it was for fails */
};

extern const struct meta_pv_ops meta_pv_real;

/*
 * Makes the name of a new file or directory stable, by a sync of the directory that it is in: a sync of the thing
 * itself promises its bytes and not that they can be found.
 */
MUST_CHECK int meta_pv_sync_name(const char *path);

/* Pid of a process that holds a flock on what path names, or 0. From /proc/locks. */
int meta_pv_holder_pid(const char *path);

#endif
