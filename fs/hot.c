/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of an open disk or snapshot that are answered on the queue
 * threads. (A snapshot's backing device refuses what would change it.)
 *
 * A request pins its disk in the open table, becomes one request to the backing
 * device (two, where ZERO_RANGE makes the file longer), and is answered from
 * that one's done function. Nothing blocks and nothing is allocated.
 *
 *	READ       cut at the end of the disk: a shorter answer is how FUSE says "end of file"
 *	WRITE      grows the disk like a file; O_DSYNC becomes FUA, as no FSYNC follows on direct files
 *	FSYNC      flush
 *	FALLOCATE  0, KEEP_SIZE: allocate;  PUNCH_HOLE: discard;  ZERO_RANGE: write zeroes, keep the space
 *	LSEEK      SEEK_DATA, SEEK_HOLE
 *	RELEASE    one descriptor less in the open table
 *	INTERRUPT  "unknown": the kernel stops sending them. A disk request cancelled half way is of no use
 *
 * With KEEP_SIZE a range is cut at the end of the disk: beyond it a disk has no chunks to keep.
 *
 * Failure modes: a handle that is not open: EBADF. An error of the backing
 * device goes through the table in result.c and fails this request only.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "fs/internal.h"
#include "iocore/snapshot.h"

static void unpin(struct fs_slot *slot)
{
	struct fs_queue *q = slot->q;

	if (slot->open)
		fs_open_unpin(&q->fs->opens, q->number, slot->open);
	slot->open = NULL;
}

/* The end of every operation whose answer has no body: result may be 0. */
static void finish(struct fs_slot *slot, int result)
{
	unpin(slot);
	fs_reply_error(slot, result);
}

static void answer(struct fs_slot *slot, void *body, size_t bytes)
{
	unpin(slot);
	fs_reply_body(slot, body, bytes);
}

static void mark_modified(struct fs_slot *slot)
{
	fs_open_mark_modified(slot->open, fs_now_s());
}

static void submit(struct fs_slot *slot, enum ioc_op op, unsigned flags, uint64_t offset, uint64_t length,
		   void (*done)(struct ioc_request *req, int result))
{
	struct ioc_request *req = &slot->io_request;

	req->op = op;
	req->flags = flags;
	req->offset = offset;
	req->length = length;
	req->segments = &slot->segment;
	req->segment_count = 0;
	req->done = done;
	ioc_bd_submit(req);
}

static void submit_data(struct fs_slot *slot, enum ioc_op op, unsigned flags, uint64_t length,
			void (*done)(struct ioc_request *req, int result))
{
	struct ioc_request *req = &slot->io_request;

	slot->segment = (struct iovec){ .iov_base = slot->data, .iov_len = length };
	req->op = op;
	req->flags = flags;
	req->offset = slot->request.offset;
	req->length = length;
	req->segments = &slot->segment;
	req->segment_count = 1;
	req->done = done;
	ioc_bd_submit(req);
}

static void on_done(struct ioc_request *req, int result)
{
	finish(req->ctx, result);
}

static void on_changed(struct ioc_request *req, int result)
{
	struct fs_slot *slot = req->ctx;

	mark_modified(slot);
	finish(slot, result);
}

/* ---- READ and WRITE ----------------------------------------------------------------------- */

static void on_read(struct ioc_request *req, int result)
{
	struct fs_slot *slot = req->ctx;

	if (result < 0)
		finish(slot, result);
	else
		answer(slot, slot->data, req->length);
}

/* How much of the request lies within the disk. */
static uint64_t length_within(const struct fs_slot *slot)
{
	uint64_t size = ioc_bd_size(slot->io_request.bd);

	return slot->request.offset < size ? MIN(slot->request.length, size - slot->request.offset) : 0;
}

static void start_read(struct fs_slot *slot)
{
	uint64_t length = length_within(slot);

	if (length == 0)
		answer(slot, NULL, 0);
	else
		submit_data(slot, IOC_OP_READ, 0, length, on_read);
}

static void answer_write(struct fs_slot *slot)
{
	slot->body.write = (struct fuse_write_out){ .size = (uint32_t)slot->request.length };
	answer(slot, &slot->body.write, sizeof(slot->body.write));
}

static void on_written(struct ioc_request *req, int result)
{
	struct fs_slot *slot = req->ctx;

	if (result < 0) {
		finish(slot, result);
		return;
	}
	mark_modified(slot);
	answer_write(slot);
}

static void start_write(struct fs_slot *slot)
{
	const struct fs_request *request = &slot->request;
	uint64_t length = request->length;
	unsigned flags = request->is_sync ? IOC_FUA : 0;

	if (slot->q->fs->read_only) {
		finish(slot, -EROFS);
		return;
	}
	/* Pages of a mapping that come late must not bring back the length of a disk that was made shorter. */
	if (request->is_write_back)
		length = length_within(slot);
	else
		flags |= IOC_GROW;
	if (length == 0)
		answer_write(slot);
	else if (request->offset + length > DISK_BYTES_MAX)
		finish(slot, -EFBIG);
	else
		submit_data(slot, IOC_OP_WRITE, flags, length, on_written);
}

/* ---- FALLOCATE ---------------------------------------------------------------------------- */

static void on_grown(struct ioc_request *req, int result)
{
	struct fs_slot *slot = req->ctx;

	if (result < 0)
		finish(slot, result);
	else
		submit(slot, IOC_OP_WRITE_ZEROES, IOC_KEEP_SPACE, slot->request.offset, slot->request.length,
		       on_changed);
}

/* On the part of the range that is within the disk. */
static void submit_within(struct fs_slot *slot, enum ioc_op op, unsigned flags)
{
	uint64_t within = length_within(slot);

	if (within == 0)
		finish(slot, 0);
	else
		submit(slot, op, flags, slot->request.offset, within, on_changed);
}

static void zero_range(struct fs_slot *slot)
{
	const struct fs_request *request = &slot->request;

	if (length_within(slot) == request->length)
		submit_within(slot, IOC_OP_WRITE_ZEROES, IOC_KEEP_SPACE);
	else
		submit(slot, IOC_OP_ALLOCATE, IOC_GROW, request->offset, request->length, on_grown);
}

static int check_fallocate(const struct fs_slot *slot)
{
	const struct fs_request *request = &slot->request;

	if (slot->q->fs->read_only)
		return -EROFS;
	if (request->length == 0)
		return -EINVAL;
	if (!(request->mode & FALLOC_FL_KEEP_SIZE) && request->offset + request->length > DISK_BYTES_MAX)
		return -EFBIG;
	return 0;
}

static void start_fallocate(struct fs_slot *slot)
{
	const struct fs_request *request = &slot->request;
	int rc = check_fallocate(slot);

	if (rc < 0) {
		finish(slot, rc);
		return;
	}
	switch (request->mode) {
	case 0:
		submit(slot, IOC_OP_ALLOCATE, IOC_GROW, request->offset, request->length, on_changed);
		break;
	case FALLOC_FL_KEEP_SIZE:
		submit_within(slot, IOC_OP_ALLOCATE, 0);
		break;
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
		submit_within(slot, IOC_OP_DISCARD, 0);
		break;
	case FALLOC_FL_ZERO_RANGE:
		zero_range(slot);
		break;
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		submit_within(slot, IOC_OP_WRITE_ZEROES, IOC_KEEP_SPACE);
		break;
	default:
		finish(slot, -EOPNOTSUPP);
	}
}

/* ---- LSEEK -------------------------------------------------------------------------------- */

static void on_found(struct ioc_request *req, int result)
{
	struct fs_slot *slot = req->ctx;

	if (result < 0) {
		finish(slot, result);
		return;
	}
	slot->body.lseek = (struct fuse_lseek_out){ .offset = req->result_offset };
	answer(slot, &slot->body.lseek, sizeof(slot->body.lseek));
}

static void start_lseek(struct fs_slot *slot)
{
	uint64_t size = ioc_bd_size(slot->io_request.bd), offset = slot->request.offset;

	if (slot->request.whence != SEEK_DATA && slot->request.whence != SEEK_HOLE)
		finish(slot, -EINVAL);
	else if (offset >= size)
		finish(slot, -ENXIO);
	else
		submit(slot, slot->request.whence == SEEK_DATA ? IOC_OP_SEEK_DATA : IOC_OP_SEEK_HOLE, 0, offset,
		       size - offset, on_found);
}

static void release(struct fs_slot *slot)
{
	fs_reply_error(slot, fs_release(slot->q->fs, slot->request.fh));
}

/* ------------------------------------------------------------------------------------------- */

static bool pin(struct fs_slot *slot)
{
	struct fs_queue *q = slot->q;
	struct ioc_bd *bd;

	slot->open =
		fs_open_pin(&q->fs->opens, &q->cache, q->number, fs_handle_number(slot->request.fh), &bd);
	if (!slot->open)
		return false;
	slot->io_request.bd = bd;
	slot->io_request.queue = q->queue;
	slot->io_request.ctx = slot;
	return true;
}

static void start_on_disk(struct fs_slot *slot)
{
	if (!pin(slot)) {
		fs_reply_error(slot, -EBADF);
		return;
	}
	if (slot->request.op == FS_OP_READ)
		start_read(slot);
	else if (slot->request.op == FS_OP_WRITE)
		start_write(slot);
	else if (slot->request.op == FS_OP_FSYNC)
		submit(slot, IOC_OP_FLUSH, 0, 0, 0, on_done);
	else if (slot->request.op == FS_OP_FALLOCATE)
		start_fallocate(slot);
	else
		start_lseek(slot);
}

void fs_hot_handle(struct fs_slot *slot)
{
	switch (slot->request.op) {
	case FS_OP_RELEASE:
		release(slot);
		break;
	case FS_OP_INTERRUPT:
		fs_reply_unknown(slot);
		break;
	case FS_OP_FORGET:
		fs_slot_put(slot);
		break;
	default:
		start_on_disk(slot);
	}
}
