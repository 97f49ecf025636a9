/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The waist of the hourglass: requests to a backing device (bd).
 *
 * FUSE, vhost, loop helpers and the tests make requests; thin disks and raw
 * devices (and later images, RBD) carry them out. A request is embedded in the front
 * end's own request. It is the caller's until ioc_bd_submit() returns, iocore's
 * from then until done, and done runs exactly once, on the request's queue
 * thread, never inside ioc_bd_submit().
 *
 * Order: requests in flight together that overlap may land in either order per
 * sector; one submitted after another completed always wins. A flush covers
 * what completed before it was submitted.
 *
 * Context: Q (the thread of req->queue), unless a function says otherwise.
 */
#ifndef IOCORE_BD_H
#define IOCORE_BD_H

#include <sys/uio.h>

#include "base/error.h"
#include "base/types.h"
#include "iocore/thin_request.h"

struct ioc_queue;
struct ioc_bd;
struct ioc_request;

enum ioc_op {
	IOC_OP_READ,    /* bytes past the end of the disk read as zero */
	IOC_OP_WRITE,   /* -EINVAL past the end, unless IOC_GROW; durable when answered with IOC_FUA */
	IOC_OP_FLUSH,   /* everything completed before this was submitted is on stable storage */
	IOC_OP_DISCARD, /* the range reads as zero afterwards; whole chunks give their space back. Any size: runs in
			   slices, not atomic */
	IOC_OP_WRITE_ZEROES, /* the range reads as zero; with IOC_KEEP_SPACE its chunks stay, or become, allocated */
	IOC_OP_ALLOCATE,     /* every chunk of the range gets its space; contents unchanged */
	IOC_OP_RESIZE, /* offset = new size in bytes. Shrinking frees, durable when answered; needs all writes of the
			  disk to pass first. -EPERM for a logical volume */
	IOC_OP_SEEK_DATA, /* result_offset = first byte >= offset with data, or -ENXIO */
	IOC_OP_OWN, /* what layers below show of the range becomes the disk's own; contents unchanged. -ENOSPC at once
		       where there is no space, whatever the pool's policy */
	IOC_OP_SEEK_HOLE, /* result_offset = first byte >= offset in a hole; the end of the disk is one */
};

enum {
	IOC_FUA = 1 << 0,
	IOC_GROW = 1 << 1, /* WRITE, ALLOCATE: may make the disk longer, as a write past the end of a file does */
	IOC_KEEP_SPACE = 1 << 2, /* WRITE_ZEROES */
	IOC_EXTEND =
		1 << 3, /* ALLOCATE with IOC_GROW: also a logical volume; else that has its size from verbs only */
	IOC_MAKE_THIN =
		1 << 4, /* RESIZE: the size stays (offset is ignored), the disk's space is no longer reserved ... */
	IOC_MAKE_THICK = 1 << 5, /* ... or is from now on; -ENOSPC when there is not enough */
};

/* Bytes of one READ or WRITE at most; the front end splits what is longer. Other operations: any length. */
#define IOC_DATA_BYTES_MAX (2 * MIB)

struct ioc_request {
	/* The caller's, constant until done. */
	enum ioc_op op;
	unsigned flags;
	struct ioc_bd *bd;
	struct ioc_queue *queue;      /* that of the calling thread */
	uint64_t offset;              /* bytes, any alignment */
	uint64_t length;              /* bytes; READ and WRITE: the sum of the segments */
	const struct iovec *segments; /* memory of the data; any alignment, page-aligned is fastest */
	unsigned segment_count;
	/* result: 0 or negative errno (-EIO: also when the pool has failed, -ENOSPC, -EINVAL, -EFBIG, -ENXIO, -EROFS:
	 * opened read-only, -EBADMSG: a damaged map record) */
	void (*done)(struct ioc_request *req, int result);
	void *ctx;

	/* The answer of the SEEK operations. */
	uint64_t result_offset;

	struct thin_request thin; /* iocore's, from submit until done */
};

struct ioc_bd_ops {
	const char *kind; /* "thin" */
	void (*submit)(struct ioc_bd *bd, struct ioc_request *req);
};

/* First member of every backing device. */
struct ioc_bd {
	const struct ioc_bd_ops *ops;
};

static inline void ioc_bd_submit(struct ioc_request *req)
{
	req->bd->ops->submit(req->bd, req);
}

#endif
