/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a chain to an answer, in three steps: decode, validate, execute.
 *
 *	decode    descriptors become pointers, those that the device reads and
 *	          those that it writes; the header is copied out
 *	validate  vtd/virtio_blk.c, on copies only
 *	execute   requests to the backing device; the status byte; the chain goes
 *	          back to the ring
 *
 * Data goes between the guest's memory and the device as it is; only the backing
 * device copies, where it has to. A READ or WRITE that is longer than the
 * backing device takes at once goes in slices, one after the other; a discard
 * range by range. A guest without a write cache (it did not negotiate FLUSH, or
 * switched the cache off) gets a flush after each write, before the answer.
 *
 * Failure modes: a chain that offends (no header, nowhere to put a status, a
 * buffer outside the guest's memory, writable before readable) ends the session.
 * A request that can't be done is answered with a status. Memory that was cut
 * short: -EFAULT from the device, or zeros and a flag (vtd/guard.h).
 */
#include <errno.h>
#include <string.h>

#include "vtd/internal.h"

static void go_on(struct vtd_io *req);

/* ---- decode ------------------------------------------------------------------------------- */

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EPROTO;
}

static int add_pieces(struct vtd_ring *ring, const struct vtd_desc *d, struct iovec *to, unsigned *count,
		      const char **ret_why)
{
	uint64_t addr = d->addr, left = d->len;

	while (left > 0) {
		uint64_t piece = left;
		void *at = vtd_memory_guest(&ring->vhost->memory, addr, &piece);

		if (!at)
			return refuse(ret_why, "a buffer outside the guest's memory");
		if (*count == CHAIN_IOVS_MAX)
			return refuse(ret_why, "a chain in too many pieces");
		to[(*count)++] = (struct iovec){ .iov_base = at, .iov_len = piece };
		addr += piece;
		left -= piece;
	}
	return 0;
}

static int map_chain(struct vtd_ring *ring, const char **ret_why)
{
	struct vtd_ring_work *work = ring->work;
	int rc = 0;

	work->out_count = work->in_count = 0;
	for (unsigned i = 0; i < work->chain.count && rc == 0; i++) {
		const struct vtd_desc *d = &work->chain.desc[i];

		if (d->is_write)
			rc = add_pieces(ring, d, work->in, &work->in_count, ret_why);
		else if (work->in_count > 0)
			rc = refuse(ret_why, "a buffer to read behind one to write");
		else
			rc = add_pieces(ring, d, work->out, &work->out_count, ret_why);
	}
	return rc;
}

static uint64_t bytes_of(const struct iovec *iov, unsigned count)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* Copies the first bytes out of *iov, once, and steps over them. The caller knows that so many are there. */
static void take_bytes(struct iovec **iov, unsigned *count, void *to, size_t bytes)
{
	while (bytes > 0) {
		struct iovec *first = *iov;
		size_t n = MIN(first->iov_len, bytes);

		vtd_copy_once(to, first->iov_base, n);
		to = (char *)to + n;
		bytes -= n;
		first->iov_base = (char *)first->iov_base + n;
		first->iov_len -= n;
		if (first->iov_len == 0) {
			(*iov)++;
			(*count)--;
		}
	}
}

/* ---- answers ------------------------------------------------------------------------------ */

static void mark_written(struct vtd_io *req)
{
	const struct vtd_vhost *vhost = req->ring->vhost;

	vtd_dirty_mark_host(&vhost->dirty, &vhost->memory, req->status, 1);
	for (unsigned i = 0; i < req->iov_count && vhost->dirty.is_on; i++)
		vtd_dirty_mark_host(&vhost->dirty, &vhost->memory, req->iov[i].iov_base, req->iov[i].iov_len);
}

static void count_answer(struct vtd_io *req, uint8_t status)
{
	struct vtd_ring_stats *stats = &req->ring->stats;

	if (status != VIRTIO_BLK_S_OK)
		vtd_count(&stats->errors, 1);
	if (req->blk.op == VTD_BLK_ERROR || req->blk.op == VTD_BLK_GET_ID)
		return;
	uint64_t us = (base_clock_ns() - req->begun_ns) / 1000;
	unsigned bucket = us == 0 ? 0 : 64 - (unsigned)__builtin_clzll(us);
	vtd_count(&stats->latency[MIN(bucket, VTD_LATENCY_BUCKETS - 1u)], 1);
}

/* written: bytes before the status. */
static void answer(struct vtd_io *req, uint8_t status, uint64_t written)
{
	if (req->blk.op == VTD_BLK_WRITE)
		req->iov_count = 0; /* of what was written into guest memory none is data */
	__atomic_store_n(req->status, status, __ATOMIC_RELAXED);
	mark_written(req);
	count_answer(req, status);
	vtd_ring_answered(req, (uint32_t)MIN(written + 1, (uint64_t)UINT32_MAX));
}

static void answer_result(struct vtd_io *req, int result)
{
	answer(req, vtd_blk_status(result), result == 0 && req->blk.op == VTD_BLK_READ ? req->blk.length : 0);
}

/* ---- execute ------------------------------------------------------------------------------ */

static void on_done(struct ioc_request *io, int result)
{
	struct vtd_io *req = container_of(io, struct vtd_io, io);

	if (result < 0) {
		/* Who has gone is told nothing: if it comes back with an inflight region the request is tried again,
		 * and a write that was held for space when the daemon had to end fails for no guest. */
		if (atomic_load_explicit(&req->ring->vhost->is_ending, memory_order_relaxed))
			vtd_ring_abandoned(req);
		else
			answer_result(req, result);
		return;
	}
	req->bytes_done += req->slice_bytes;
	go_on(req);
}

static void submit(struct vtd_io *req, enum ioc_op op, unsigned flags, uint64_t offset, uint64_t length,
		   unsigned segments)
{
	struct ioc_request *io = &req->io;

	io->op = op;
	io->flags = flags;
	io->bd = req->ring->vhost->bd;
	io->queue = req->ring->queue;
	io->offset = offset;
	io->length = length;
	io->segments = req->slice;
	io->segment_count = segments;
	io->done = on_done;
	req->slice_bytes = length;
	ioc_bd_submit(io);
}

/* How much of the data from byte `from` on fits into one request, in how many pieces. */
static uint64_t fit_slice(struct vtd_io *req, uint64_t from, unsigned *ret_count)
{
	uint64_t room = IOC_DATA_BYTES_MAX, bytes = 0;
	unsigned count = 0;

	for (unsigned i = 0; i < req->iov_count && count < IOC_SEGMENTS_MAX && room > 0; i++) {
		const struct iovec *iov = &req->iov[i];

		if (from >= iov->iov_len) {
			from -= iov->iov_len;
			continue;
		}
		uint64_t n = MIN(iov->iov_len - from, room);
		req->slice[count++] = (struct iovec){ .iov_base = (char *)iov->iov_base + from, .iov_len = n };
		from = 0;
		room -= n;
		bytes += n;
	}
	*ret_count = count;
	return bytes;
}

static unsigned cut_slice(struct vtd_io *req, unsigned count, uint64_t excess)
{
	while (excess > 0) {
		struct iovec *last = &req->slice[count - 1];
		uint64_t n = MIN((uint64_t)last->iov_len, excess);

		last->iov_len -= n;
		excess -= n;
		if (last->iov_len == 0)
			count--;
	}
	return count;
}

static void next_slice(struct vtd_io *req, enum ioc_op op)
{
	uint64_t offset = req->blk.offset + req->bytes_done;
	unsigned count;
	uint64_t bytes = fit_slice(req, req->bytes_done, &count);

	/* A sector is written by one request or not at all; whole blocks spare a read besides. */
	if (req->bytes_done + bytes < req->blk.length) {
		uint64_t excess = (offset + bytes) % BLOCK_BYTES;
		if (excess >= bytes)
			excess = (offset + bytes) % VTD_SECTOR_BYTES;
		if (excess >= bytes) {
			answer_result(req, -EIO); /* a sector in more pieces than a request may have */
			return;
		}
		count = cut_slice(req, count, excess);
		bytes -= excess;
	}
	submit(req, op, 0, offset, bytes, count);
}

static void next_range(struct vtd_io *req)
{
	const struct vtd_blk_range *range = &req->ranges[req->ranges_done++];

	submit(req, req->blk.op == VTD_BLK_DISCARD ? IOC_OP_DISCARD : IOC_OP_WRITE_ZEROES,
	       range->keep_space ? IOC_KEEP_SPACE : 0, range->offset, range->length, 0);
}

static bool is_more(const struct vtd_io *req)
{
	switch (req->blk.op) {
	case VTD_BLK_READ:
	case VTD_BLK_WRITE:
		return req->bytes_done < req->blk.length;
	case VTD_BLK_DISCARD:
	case VTD_BLK_WRITE_ZEROES:
		return req->ranges_done < req->blk.ranges;
	default:
		return false;
	}
}

/* After each part, and at first. */
static void go_on(struct vtd_io *req)
{
	const struct vtd_vhost *vhost = req->ring->vhost;

	if (is_more(req)) {
		/* Who has gone needs no answer, and who comes back wants it from the start. */
		if (atomic_load_explicit(&vhost->is_ending, memory_order_relaxed) && req->bytes_done > 0)
			vtd_ring_abandoned(req);
		else if (req->blk.op == VTD_BLK_READ || req->blk.op == VTD_BLK_WRITE)
			next_slice(req, req->blk.op == VTD_BLK_READ ? IOC_OP_READ : IOC_OP_WRITE);
		else
			next_range(req);
		return;
	}
	bool is_write = req->blk.op != VTD_BLK_READ && req->blk.op != VTD_BLK_FLUSH;
	if (is_write && !req->is_flushed && !atomic_load_explicit(&vhost->is_write_back, memory_order_relaxed)) {
		req->is_flushed = true;
		submit(req, IOC_OP_FLUSH, 0, 0, 0, 0);
		return;
	}
	answer_result(req, 0);
}

static void count_start(struct vtd_io *req)
{
	struct vtd_ring_stats *stats = &req->ring->stats;
	uint64_t range_bytes = 0;

	for (unsigned i = 0; i < req->blk.ranges; i++)
		range_bytes += req->ranges[i].length;
	switch (req->blk.op) {
	case VTD_BLK_READ:
		vtd_count(&stats->reads, 1);
		vtd_count(&stats->read_bytes, req->blk.length);
		break;
	case VTD_BLK_WRITE:
		vtd_count(&stats->writes, 1);
		vtd_count(&stats->write_bytes, req->blk.length);
		break;
	case VTD_BLK_FLUSH:
		vtd_count(&stats->flushes, 1);
		break;
	case VTD_BLK_DISCARD:
		vtd_count(&stats->discards, 1);
		vtd_count(&stats->discard_bytes, range_bytes);
		break;
	case VTD_BLK_WRITE_ZEROES:
		vtd_count(&stats->write_zeroes, 1);
		vtd_count(&stats->discard_bytes, range_bytes);
		break;
	default:
		vtd_count(&stats->others, 1);
	}
}

static void answer_id(struct vtd_io *req, const struct iovec *in, unsigned in_count)
{
	const struct vtd_vhost *vhost = req->ring->vhost;
	size_t done = 0;

	req->iov_count = 0;
	for (unsigned i = 0; i < in_count && done < VTD_VHOST_ID_BYTES; i++) {
		size_t n = MIN(in[i].iov_len, VTD_VHOST_ID_BYTES - done);

		memcpy(in[i].iov_base, vhost->id + done, n);
		vtd_dirty_mark_host(&vhost->dirty, &vhost->memory, in[i].iov_base, n);
		done += n;
	}
	answer(req, VIRTIO_BLK_S_OK, done);
}

static void begin(struct vtd_io *req, const struct iovec *data, unsigned count)
{
	if (count > IOVS_MAX) {
		answer(req, VIRTIO_BLK_S_IOERR, 0);
		return;
	}
	memcpy(req->iov, data, count * sizeof(*data));
	req->iov_count = count;
	if (req->blk.op == VTD_BLK_FLUSH)
		submit(req, IOC_OP_FLUSH, 0, 0, 0, 0);
	else
		go_on(req);
}

/* ---- validate ----------------------------------------------------------------------------- */

static struct vtd_blk_limits limits_of(const struct vtd_vhost *vhost)
{
	return (struct vtd_blk_limits){
		.size_bytes = round_down_to(atomic_load_explicit(&vhost->size_bytes, memory_order_relaxed),
					    vhost->logical_block_bytes),
		.logical_block_bytes = vhost->logical_block_bytes,
		.read_only = vhost->is_read_only,
		.has_discard = vhost->features >> VIRTIO_BLK_F_DISCARD & 1,
		.has_write_zeroes = vhost->features >> VIRTIO_BLK_F_WRITE_ZEROES & 1,
	};
}

static void validate(struct vtd_io *req, const uint8_t *header, struct iovec **out, unsigned *out_count,
		     uint64_t payload_bytes, uint64_t room_bytes)
{
	struct vtd_blk_limits limits = limits_of(req->ring->vhost);
	uint8_t payload[VTD_RANGES_MAX * sizeof(struct virtio_blk_discard_write_zeroes)];

	vtd_blk_parse(header, payload_bytes, room_bytes, &limits, &req->blk);
	if (req->blk.ranges == 0)
		return;
	take_bytes(out, out_count, payload, req->blk.ranges * sizeof(struct virtio_blk_discard_write_zeroes));
	vtd_blk_parse_ranges(payload, &limits, &req->blk, req->ranges);
}

int vtd_execute(struct vtd_io *req, const char **ret_why)
{
	struct vtd_ring_work *work = req->ring->work;
	uint8_t header[VTD_HEADER_BYTES];
	int rc = map_chain(req->ring, ret_why);

	if (rc < 0)
		return rc;
	struct iovec *out = work->out, *in = work->in;
	unsigned out_count = work->out_count, in_count = work->in_count;
	uint64_t out_bytes = bytes_of(out, out_count), in_bytes = bytes_of(in, in_count);
	if (out_bytes < sizeof(header))
		return refuse(ret_why, "a request without a whole header");
	if (in_bytes < 1)
		return refuse(ret_why, "a request without room for a status");

	take_bytes(&out, &out_count, header, sizeof(header));
	struct iovec *last = &in[in_count - 1];
	req->status = (uint8_t *)last->iov_base + --last->iov_len;
	if (last->iov_len == 0)
		in_count--;
	req->begun_ns = base_clock_ns();
	req->bytes_done = req->ranges_done = 0;
	req->iov_count = 0;
	req->is_flushed = false;
	validate(req, header, &out, &out_count, out_bytes - sizeof(header), in_bytes - 1);
	count_start(req);
	if (req->blk.op == VTD_BLK_ERROR)
		answer(req, req->blk.status, 0);
	else if (req->blk.op == VTD_BLK_GET_ID)
		answer_id(req, in, in_count);
	else if (req->blk.op == VTD_BLK_READ)
		begin(req, in, in_count);
	else
		begin(req, out, req->blk.op == VTD_BLK_WRITE ? out_count : 0);
	return 0;
}
