/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of a raw backing device: each is one operation of the queue's engine.
 *
 * Happy path: check the range, point an iovec array at the caller's segments (the engine changes it), submit. What
 * is not aligned in memory as direct I/O wants it goes through a bounce buffer; its place on the device is aligned
 * always, as the front end asks in whole logical blocks. FUA is a flush behind the write, before the answer.
 * DISCARD and WRITE_ZEROES block in the kernel, so they go to the device's own thread (raw_range.c).
 *
 * A flush is an fdatasync: the device's cache, and of a file its sizes and extents too. The engine's promise is ours: a
 * sync covers what completed before it was submitted.
 *
 * Failure modes: an I/O error is the guest's answer and nothing more happens. A failed flush is remembered
 * (has_failed): the kernel tells of lost writes once, so a later flush that succeeds proves nothing, and neither
 * does a write behind it. Reads go on. A file that was cut short: -EIO.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "iocore/raw_internal.h"

/* ---- data --------------------------------------------------------------------------------- */

static void copy_bounce(struct ioc_request *req, bool out)
{
	char *at = req->thin.bounce->memory;

	for (unsigned i = 0; i < req->segment_count; i++) {
		const struct iovec *segment = &req->segments[i];

		if (out)
			memcpy(segment->iov_base, at, segment->iov_len);
		else
			memcpy(at, segment->iov_base, segment->iov_len);
		at += segment->iov_len;
	}
}

/* ---- flush -------------------------------------------------------------------------------- */

static void finish(struct ioc_request *req, int result)
{
	bounce_put(req);
	queue_finish(req, result);
}

static void on_synced(struct ioc_io *io, int64_t result)
{
	struct ioc_request *req = container_of(io, struct thin_io, io)->req;
	struct raw_disk *raw = raw_of(req);

	if (result < 0 && !atomic_exchange(&raw->has_failed, true))
		log_error("%s: a flush failed: %s; what was written since the last one may be lost, so there are no "
			  "more writes until it is unmapped and mapped again, or the pool is mounted anew",
			  raw->path, strerror((int)-result));
	finish(req, result < 0 ? (int)result : 0);
}

static void start_io(struct ioc_request *req, enum ioc_io_kind kind, unsigned iov_count,
		     void (*done)(struct ioc_io *io, int64_t result))
{
	struct thin_io *tio = &req->thin.ios[0];

	tio->req = req;
	tio->io = (struct ioc_io){ .kind = kind,
				   .fd = raw_of(req)->handle.fd,
				   .iov = req->thin.iovs,
				   .iov_count = iov_count,
				   .offset = req->offset,
				   .done = done };
	req->queue->engine->ops->submit(req->queue->engine, &tio->io);
}

static void flush(struct ioc_request *req)
{
	struct raw_disk *raw = raw_of(req);

	count(&req->queue->counters.flushes, 1);
	if (raw->is_read_only)
		queue_finish(req, 0); /* nothing was ever written */
	else if (atomic_load_explicit(&raw->has_failed, memory_order_relaxed))
		queue_finish(req, -EIO);
	else
		start_io(req, IOC_IO_SYNC, 0, on_synced);
}

/* ---- read and write ----------------------------------------------------------------------- */

static void on_read(struct ioc_io *io, int64_t result)
{
	struct ioc_request *req = container_of(io, struct thin_io, io)->req;

	if (result >= 0 && (uint64_t)result == req->length && req->thin.bounce)
		copy_bounce(req, true);
	finish(req, result < 0 ? (int)result : (uint64_t)result != req->length ? -EIO : 0);
}

static void on_written(struct ioc_io *io, int64_t result)
{
	struct ioc_request *req = container_of(io, struct thin_io, io)->req;

	if (result < 0 || (uint64_t)result != req->length)
		finish(req, result < 0 ? (int)result : -EIO);
	else if (req->flags & IOC_FUA)
		start_io(req, IOC_IO_SYNC, 0, on_synced);
	else
		finish(req, 0);
}

static void start_data(struct ioc_request *req)
{
	bool is_write = req->op == IOC_OP_WRITE;
	unsigned iov_count = 1;

	if (req->thin.bounce) {
		req->thin.iovs[0] = (struct iovec){ .iov_base = req->thin.bounce->memory, .iov_len = req->length };
		if (is_write)
			copy_bounce(req, false);
	} else {
		iov_count = req->segment_count;
		memcpy(req->thin.iovs, req->segments, iov_count * sizeof(*req->thin.iovs));
	}
	start_io(req, is_write ? IOC_IO_WRITE : IOC_IO_READ, iov_count, is_write ? on_written : on_read);
}

static void data(struct ioc_request *req)
{
	const struct meta_pv_handle *handle = &raw_of(req)->handle;

	assert(req->length <= IOC_DATA_BYTES_MAX && req->segment_count <= ARRAY_LEN(req->thin.iovs));
	count(req->op == IOC_OP_WRITE ? &req->queue->counters.writes : &req->queue->counters.reads, 1);
	count(req->op == IOC_OP_WRITE ? &req->queue->counters.write_bytes : &req->queue->counters.read_bytes,
	      req->length);
	if (!handle->direct || thin_is_aligned(req, handle->sector_bytes, handle->memory_align) ||
	    bounce_get(req, req->length, start_data))
		start_data(req);
}

/* ---- submit ------------------------------------------------------------------------------- */

static bool changes(const struct ioc_request *req)
{
	return req->op == IOC_OP_WRITE || req->op == IOC_OP_DISCARD || req->op == IOC_OP_WRITE_ZEROES;
}

/* Return: 0; the error that the request ends with. */
static int check(const struct ioc_request *req)
{
	const struct raw_disk *raw = raw_of(req);
	const struct meta_pv_handle *handle = &raw->handle;

	if (changes(req) && raw->is_read_only)
		return -EROFS;
	if (changes(req) && atomic_load_explicit(&raw->has_failed, memory_order_relaxed))
		return -EIO;
	if (req->offset > handle->size_bytes || req->length > handle->size_bytes - req->offset)
		return -EINVAL;
	return (req->offset | req->length) % handle->sector_bytes == 0 ? 0 : -EINVAL;
}

/* It is all data. */
static void seek(struct ioc_request *req)
{
	uint64_t size = raw_of(req)->handle.size_bytes;

	req->result_offset = req->op == IOC_OP_SEEK_DATA ? req->offset : size;
	queue_finish(req, req->offset < size ? 0 : -ENXIO);
}

static void checked(struct ioc_request *req, void (*start)(struct ioc_request *req))
{
	int rc = check(req);

	if (rc < 0 || req->length == 0)
		queue_finish(req, rc);
	else
		start(req);
}

static void raw_submit(struct ioc_bd *bd, struct ioc_request *req)
{
	(void)bd;
	req->thin.bounce = NULL;
	switch (req->op) {
	case IOC_OP_READ:
	case IOC_OP_WRITE:
		return checked(req, data);
	case IOC_OP_DISCARD:
	case IOC_OP_WRITE_ZEROES:
		return checked(req, raw_range_submit);
	case IOC_OP_FLUSH:
		return flush(req);
	case IOC_OP_SEEK_DATA:
	case IOC_OP_SEEK_HOLE:
		return seek(req);
	case IOC_OP_ALLOCATE:
	case IOC_OP_OWN:
	case IOC_OP_RESIZE:
		break;
	}
	queue_finish(req, -EOPNOTSUPP);
}

const struct ioc_bd_ops raw_ops = { .kind = "raw", .submit = raw_submit };
