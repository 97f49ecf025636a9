/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's FUSE protocol as this folder uses it: <linux/fuse.h>, plus what
 * the header of an older distribution does not have yet. A bit that the running
 * kernel does not offer is never sent, so a new constant on an old kernel is
 * harmless.
 *
 * Context: any thread; constants only.
 */
#ifndef FS_PROTO_H
#define FS_PROTO_H

#include <assert.h>
#include <linux/fuse.h>

#include "base/types.h"

/* Linux 6.2, protocol 7.38: synchronous direct writes of one file need not queue for its inode lock. */
#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif
/* Linux 6.6, protocol 7.39: MAP_SHARED of a file that was opened with FOPEN_DIRECT_IO. */
#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif
/* Linux 6.9, protocol 7.40: what was read and not answered is sent once more when asked for. */
#ifndef FUSE_HAS_RESEND
#define FUSE_HAS_RESEND (1ULL << 39)
#endif
#define FS_NOTIFY_RESEND 7 /* an enumerator, so its absence can't be seen here */

/* Bytes of one READ or WRITE at most: what 256 pages are, the most that the kernel allows unless told otherwise. */
#define FS_DATA_BYTES_MAX MIB
/* What stands before the payload of a WRITE. */
#define FS_WRITE_HEADER_BYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
/* The device refuses to be read into less than the largest WRITE. */
#define FS_MESSAGE_BYTES_MAX (FS_WRITE_HEADER_BYTES + FS_DATA_BYTES_MAX)

/* The layout is the kernel's promise; these are the parts that our arithmetic rests on. */
static_assert(sizeof(struct fuse_in_header) == 40, "request header");
static_assert(sizeof(struct fuse_out_header) == 16, "reply header");
static_assert(sizeof(struct fuse_write_in) == 40, "WRITE body");
static_assert(sizeof(struct fuse_read_in) == 40, "READ body");
static_assert(sizeof(struct fuse_init_out) == 64, "INIT reply");
static_assert(sizeof(struct fuse_open_out) == 16, "OPEN reply");
static_assert(sizeof(struct fuse_entry_out) == 128, "LOOKUP reply");

#endif
