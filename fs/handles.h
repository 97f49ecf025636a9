/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptors that are open through the mount, where a daemon that comes
 * after a dead one finds them.
 *
 * They lie in memory that the supervisor holds together with the descriptor of
 * the FUSE device (cmd/supervisor.c), so they live exactly as long as the mount can
 * be taken over. A mount without a supervisor has none: every function takes NULL then.
 *
 * Context: any thread, but for what the functions say.
 */
#ifndef FS_HANDLES_H
#define FS_HANDLES_H

#include "base/error.h"
#include "base/types.h"

/* A file handle: the number (of a disk, or of a snapshot's layer), and the row of the table above it. */
#define FS_HANDLE_NUMBER_BITS 48
#define FS_HANDLES_MAX 65535

static inline uint64_t fs_handle_number(uint64_t fh)
{
	return fh & ((UINT64_C(1) << FS_HANDLE_NUMBER_BITS) - 1);
}

/* The bit of a request's number that says: this one was sent before, to a reader that may have carried it out. */
#define FS_UNIQUE_RESENT (UINT64_C(1) << 63)

struct fs_handles;

/* A descriptor with an empty table, for fs_handles_map(). Return: it; negative errno. */
MUST_CHECK int fs_handles_make(void);
/* Return: 0; -EBADMSG: fd is no such table, or of another version; -ENOMEM. fd stays the caller's. Context: CTL. */
MUST_CHECK int fs_handles_map(int fd, struct fs_handles **ret);
void fs_handles_unmap(struct fs_handles *handles);

/* The INIT that the mount began with. bytes at most FS_HANDLES_INIT_BYTES_MAX. Context: CTL, before others. */
#define FS_HANDLES_INIT_BYTES_MAX 256
void fs_handles_keep_init(struct fs_handles *handles, const void *message, size_t bytes);
/* Return: bytes; 0: none was kept, the mount never came to life. */
size_t fs_handles_init(const struct fs_handles *handles, void *buf);

/* One more descriptor, opened by request `unique`. Return: 0 with *ret_fh; -ENFILE: FS_HANDLES_MAX are open. */
MUST_CHECK int fs_handles_add(struct fs_handles *handles, uint64_t unique, uint64_t number, uint64_t *ret_fh);
/* Whether a request that was sent again has opened its descriptor of `number` already. */
MUST_CHECK bool fs_handles_find(struct fs_handles *handles, uint64_t unique, uint64_t number, uint64_t *ret_fh);
/* One less. Return: false: it is gone already (a resent RELEASE), and is not to be counted again. */
bool fs_handles_remove(struct fs_handles *handles, uint64_t fh);

/* Calls fn for each; one for which it returns negative is dropped. Context: CTL, before others. */
void fs_handles_each(struct fs_handles *handles, int (*fn)(void *ctx, uint64_t number), void *ctx);

#endif
