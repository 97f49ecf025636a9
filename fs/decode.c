/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding the requests of the hot path.
 *
 * A request is a 40-byte header, a body whose size the opcode decides, and for
 * a WRITE the payload. The header's own length must be what was read: the
 * device hands over one whole request at a time. A body may be longer than we
 * know it (later protocols append), never shorter.
 *
 * Everything is copied out before it is looked at, so alignment does not matter
 * and nothing is read twice. Offsets and lengths are bounded here, once:
 * offset + length never wraps behind this file.
 *
 * Happy path: header, opcode to operation, the operation's body, its bounds.
 *
 * Failure modes: less than a header, or a length that is not what was read:
 * -EBADMSG, the request can't be answered. A body that is too short or a field
 * out of bounds: FS_DECODE_BAD_BODY, it is answered with an error. Both would
 * be a bug of the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/decode.h"
#include "fs/proto.h"

struct body {
	const uint8_t *bytes;
	size_t count;
};

/* Copies a body struct out; false when there are fewer bytes. */
static bool take(const struct body *body, void *ret, size_t bytes)
{
	if (body->count < bytes)
		return false;
	memcpy(ret, body->bytes, bytes);
	return true;
}

/* The kernel's file offsets are signed. */
static bool is_range(uint64_t offset, uint64_t length)
{
	return offset <= INT64_MAX && length <= INT64_MAX - offset;
}

static bool decode_read(const struct body *body, struct fs_request *ret)
{
	struct fuse_read_in in;

	if (!take(body, &in, sizeof(in)))
		return false;
	ret->fh = in.fh;
	ret->offset = in.offset;
	ret->length = in.size;
	return in.size <= FS_DATA_BYTES_MAX && is_range(in.offset, in.size);
}

static bool decode_write(const struct body *body, struct fs_request *ret)
{
	struct fuse_write_in in;

	if (!take(body, &in, sizeof(in)) || in.size > body->count - sizeof(in))
		return false;
	ret->fh = in.fh;
	ret->offset = in.offset;
	ret->length = in.size;
	/* O_SYNC has O_DSYNC's bit. The open file's flags are here also for RWF_DSYNC, and for a file opened
	 * FOPEN_DIRECT_IO they are the only sign: the kernel sends no FSYNC after such a write. */
	ret->is_sync = in.flags & O_DSYNC;
	ret->is_write_back = in.write_flags & FUSE_WRITE_CACHE;
	ret->data = body->bytes + sizeof(in);
	return in.size <= FS_DATA_BYTES_MAX && is_range(in.offset, in.size);
}

static bool decode_fsync(const struct body *body, struct fs_request *ret)
{
	struct fuse_fsync_in in;

	if (!take(body, &in, sizeof(in)))
		return false;
	ret->fh = in.fh;
	return true;
}

static bool decode_fallocate(const struct body *body, struct fs_request *ret)
{
	struct fuse_fallocate_in in;

	if (!take(body, &in, sizeof(in)))
		return false;
	ret->fh = in.fh;
	ret->offset = in.offset;
	ret->length = in.length;
	ret->mode = in.mode;
	return is_range(in.offset, in.length);
}

static bool decode_lseek(const struct body *body, struct fs_request *ret)
{
	struct fuse_lseek_in in;

	if (!take(body, &in, sizeof(in)))
		return false;
	ret->fh = in.fh;
	ret->offset = in.offset;
	ret->whence = in.whence;
	return is_range(in.offset, 0);
}

static bool decode_release(const struct body *body, struct fs_request *ret)
{
	struct fuse_release_in in;

	if (!take(body, &in, sizeof(in)))
		return false;
	ret->fh = in.fh;
	return true;
}

static enum fs_op op_of(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_READ:
		return FS_OP_READ;
	case FUSE_WRITE:
		return FS_OP_WRITE;
	case FUSE_FSYNC:
		return FS_OP_FSYNC;
	case FUSE_FALLOCATE:
		return FS_OP_FALLOCATE;
	case FUSE_LSEEK:
		return FS_OP_LSEEK;
	case FUSE_RELEASE:
		return FS_OP_RELEASE;
	case FUSE_INTERRUPT:
		return FS_OP_INTERRUPT;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		return FS_OP_FORGET;
	default:
		return FS_OP_OTHER;
	}
}

static bool decode_body(const struct body *body, struct fs_request *ret)
{
	switch (ret->op) {
	case FS_OP_READ:
		return decode_read(body, ret);
	case FS_OP_WRITE:
		return decode_write(body, ret);
	case FS_OP_FSYNC:
		return decode_fsync(body, ret);
	case FS_OP_FALLOCATE:
		return decode_fallocate(body, ret);
	case FS_OP_LSEEK:
		return decode_lseek(body, ret);
	case FS_OP_RELEASE:
		return decode_release(body, ret);
	case FS_OP_INTERRUPT:
	case FS_OP_FORGET:
	case FS_OP_OTHER:
		return true;
	}
	return false;
}

int fs_decode(const void *bytes, size_t count, struct fs_request *ret)
{
	struct fuse_in_header header;
	struct body body = { .bytes = bytes, .count = count };

	if (!take(&body, &header, sizeof(header)) || header.len != count)
		return -EBADMSG;
	body.bytes += sizeof(header);
	body.count -= sizeof(header);
	*ret = (struct fs_request){ .op = op_of(header.opcode), .unique = header.unique, .node = header.nodeid,
				     .client = (pid_t)header.pid };
	return decode_body(&body, ret) ? 0 : FS_DECODE_BAD_BODY;
}
