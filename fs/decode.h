/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the bytes of a FUSE request to a struct: the requests that our own loop
 * answers. Pure functions over a span of bytes; nothing in it is trusted.
 *
 * Context: any thread.
 */
#ifndef FS_DECODE_H
#define FS_DECODE_H

#include <sys/types.h>

#include "base/error.h"
#include "base/types.h"

enum fs_op {
	FS_OP_READ,
	FS_OP_WRITE,
	FS_OP_FSYNC, /* fsync and fdatasync: a disk has no difference to make between them */
	FS_OP_FALLOCATE,
	FS_OP_LSEEK,
	FS_OP_RELEASE,
	FS_OP_INTERRUPT, /* answered "unknown", which stops the kernel from sending more */
	FS_OP_FORGET,    /* FORGET and BATCH_FORGET: the kernel waits for no answer */
	FS_OP_OTHER,     /* libfuse's */
};

struct fs_request {
	enum fs_op op;
	uint64_t unique; /* the request's number; a reply carries it */
	uint64_t node;
	pid_t client; /* thread that asks, in our namespace of processes; 0: not known */
	uint64_t fh;     /* READ, WRITE, FSYNC, FALLOCATE, LSEEK, RELEASE */
	uint64_t offset; /* READ, WRITE, FALLOCATE, LSEEK; at most INT64_MAX */
	uint64_t length; /* READ, WRITE: at most FS_DATA_BYTES_MAX; FALLOCATE: offset + length is at most INT64_MAX */
	bool is_sync;    /* WRITE: of an O_DSYNC or O_SYNC descriptor: durable when answered */
	bool is_write_back; /* WRITE: dirty pages of a shared mapping; such a write never makes a file longer */
	uint32_t mode;      /* FALLOCATE: FALLOC_FL_ */
	uint32_t whence;    /* LSEEK */
	const void *data;   /* WRITE: length bytes within the span */
};

enum { FS_DECODE_BAD_BODY = 1 };

/*
 * Return: 0; FS_DECODE_BAD_BODY: ret has op, unique and node, and the answer is an error;
 * -EBADMSG: not even a header, so there is nobody to answer.
 */
MUST_CHECK int fs_decode(const void *bytes, size_t count, struct fs_request *ret);

#endif
