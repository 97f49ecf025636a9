/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From plan to device: segments, bounce buffers, alignment, device I/O.
 *
 * The data of a slice is either the caller's segments or, when they are not
 * aligned as the pv wants it or are merged with what is there, one bounce buffer
 * that begins at bounce_offset of the disk.
 *
 * Failure modes: a chunk that no pv has (-EBADMSG: a damaged map); an I/O error;
 * a read that meets the end of the pv (-EIO: it was truncated under us).
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "iocore/internal.h"

void thin_alignment(struct meta_pool *meta, uint32_t *ret_sector, uint32_t *ret_memory)
{
	*ret_sector = 512;
	*ret_memory = 1;
	for (unsigned i = 0; i < meta_io_pv_count(meta); i++) {
		struct meta_pv_handle *pv = meta_io_pv(meta, i);
		*ret_sector = MAX(*ret_sector, pv->sector_bytes);
		*ret_memory = MAX(*ret_memory, pv->memory_align);
	}
}

bool thin_is_aligned(const struct ioc_request *req, uint32_t sector, uint32_t memory)
{
	if (req->offset % sector != 0)
		return false;
	for (unsigned i = 0; i < req->segment_count; i++)
		if ((uintptr_t)req->segments[i].iov_base % memory != 0 ||
		    req->segments[i].iov_len % MAX(sector, memory) != 0)
			return false;
	return true;
}

/* ---- the data of a request as segments ---------------------------------------------------- */

/* Calls fn for the pieces of [from, from + bytes) of the request's data (from: bytes from the request's start). */
static void each_piece(struct ioc_request *req, uint64_t from, uint64_t bytes,
		       void (*fn)(struct ioc_request *req, char *at, size_t n, void *ctx), void *ctx)
{
	for (unsigned i = 0; i < req->segment_count && bytes > 0; i++) {
		const struct iovec *seg = &req->segments[i];
		if (from >= seg->iov_len) {
			from -= seg->iov_len;
			continue;
		}
		size_t n = MIN(seg->iov_len - from, bytes);
		fn(req, (char *)seg->iov_base + from, n, ctx);
		bytes -= n;
		from = 0;
	}
}

static void piece_zero(struct ioc_request *req, char *at, size_t n, void *ctx)
{
	memset(at, 0, n);
}

static void piece_out(struct ioc_request *req, char *at, size_t n, void *ctx)
{
	char **bounce = ctx;

	memcpy(at, *bounce, n);
	*bounce += n;
}

static void piece_in(struct ioc_request *req, char *at, size_t n, void *ctx)
{
	char **bounce = ctx;

	memcpy(*bounce, at, n);
	*bounce += n;
}

static void piece_iov(struct ioc_request *req, char *at, size_t n, void *ctx)
{
	assert(req->thin.iovs_used < ARRAY_LEN(req->thin.iovs));
	req->thin.iovs[req->thin.iovs_used++] = (struct iovec){ at, n };
}

/* The part of the request that the slice was before it was extended to blocks or sectors. */
static void copy(struct ioc_request *req, void (*fn)(struct ioc_request *req, char *at, size_t n, void *ctx))
{
	uint64_t from = MAX(req->thin.slice_offset, req->offset);
	uint64_t to = MIN(req->thin.slice_offset + req->thin.slice_bytes, req->offset + req->thin.length);
	char *at = req->thin.bounce->memory + (from - req->thin.bounce_offset);

	each_piece(req, from - req->offset, to - from, fn, &at);
}

void thin_copy_out(struct ioc_request *req)
{
	copy(req, piece_out);
}

void thin_copy_in(struct ioc_request *req)
{
	copy(req, piece_in);
}

/* ---- device I/O --------------------------------------------------------------------------- */

static void io_ended(struct ioc_io *io, int64_t result)
{
	struct thin_io *tio = container_of(io, struct thin_io, io);
	struct ioc_request *req = tio->req;
	int error = 0;

	if (result < 0)
		error = (int)result;
	else if ((uint64_t)result != tio->bytes)
		error = -EIO;
	if (error) {
		meta_io_note_pv_error(req->queue->meta, tio->pv, error);
		req->thin.error = error;
	}
	if (io->kind == IOC_IO_WRITE)
		meta_io_note_write(req->queue->meta, tio->pv); /* also after an error: a part may have been written */
	thin_io_end(req);
}

void thin_io_begin(struct ioc_request *req, void (*io_done)(struct ioc_request *req))
{
	req->thin.io_done = io_done;
	req->thin.pending = 1; /* ours, so that nothing ends before all is submitted */
	req->thin.error = 0;
	req->thin.iovs_used = 0;
	req->thin.plan.count = 0;
}

void thin_io_end(struct ioc_request *req)
{
	if (--req->thin.pending == 0)
		req->thin.io_done(req);
}

static void submit_io(struct ioc_request *req, struct thin_io *tio, enum ioc_io_kind kind, struct pchunk chunk,
		      uint32_t in_chunk, uint64_t bytes, struct iovec *iov, unsigned iov_count)
{
	uint64_t byte;

	if (!meta_io_locate(req->queue->meta, chunk, &tio->pv, &byte)) {
		req->thin.error = -EBADMSG;
		return;
	}
	tio->req = req;
	tio->bytes = bytes;
	tio->io = (struct ioc_io){ .kind = kind,
				   .fd = meta_io_pv(req->queue->meta, tio->pv)->fd,
				   .iov = iov,
				   .iov_count = iov_count,
				   .offset = byte + in_chunk,
				   .done = io_ended };
	req->thin.pending++;
	req->queue->engine->ops->submit(req->queue->engine, &tio->io);
}

void thin_start_block(struct ioc_request *req, enum ioc_io_kind kind, struct pchunk chunk, uint32_t in_chunk,
		      char *memory)
{
	unsigned slot = req->thin.iovs_used++;

	req->thin.iovs[slot] = (struct iovec){ memory, BLOCK_BYTES };
	submit_io(req, &req->thin.ios[slot], kind, chunk, in_chunk, BLOCK_BYTES, &req->thin.iovs[slot], 1);
}

static void start_step(struct ioc_request *req, unsigned i)
{
	struct plan_step *step = &req->thin.plan.steps[i];
	uint64_t disk_byte = req->thin.slice_offset + step->data_offset;
	unsigned first_iov = req->thin.iovs_used;

	if (req->thin.bounce) {
		char *at = req->thin.bounce->memory + (disk_byte - req->thin.bounce_offset);
		if (step->kind == PLAN_ZERO)
			memset(at, 0, step->bytes);
		else
			piece_iov(req, at, step->bytes, NULL);
	} else {
		each_piece(req, disk_byte - req->offset, step->bytes,
			   step->kind == PLAN_ZERO ? piece_zero : piece_iov, NULL);
	}
	if (step->kind != PLAN_ZERO)
		submit_io(req, &req->thin.ios[i], step->kind == PLAN_READ ? IOC_IO_READ : IOC_IO_WRITE, step->chunk,
			  step->in_chunk, step->bytes, &req->thin.iovs[first_iov], req->thin.iovs_used - first_iov);
}

void thin_start_io(struct ioc_request *req, void (*io_done)(struct ioc_request *req))
{
	unsigned steps = req->thin.plan.count;

	thin_io_begin(req, io_done);
	req->thin.plan.count = steps;
	for (unsigned i = 0; i < steps; i++)
		start_step(req, i);
	thin_io_end(req);
}

/* ---- edges -------------------------------------------------------------------------------- */

bool thin_find_edges(struct ioc_request *req, bool copy_up, void (*again)(struct ioc_request *req))
{
	struct meta_store *store = req->thin.store;
	struct meta_missing missing;
	uint32_t sources[CHUNK_BLOCKS];
	struct meta_leaf *leaf;

	for (unsigned i = 0; i < ARRAY_LEN(req->thin.edges); i++) {
		struct thin_edge *edge = &req->thin.edges[i];
		uint64_t chunk = edge->offset / CHUNK_BYTES;
		unsigned block = (unsigned)(edge->offset % CHUNK_BYTES / BLOCK_BYTES);
		edge->from = edge->to = (struct pchunk){ 0 };
		if (edge->bytes == 0)
			continue;
		int rc = meta_map_find(store, edge->offset / LEAF_BYTES, &leaf);
		meta_entry entry = rc == 0 ? meta_leaf_entry(leaf, (unsigned)(chunk % LEAF_CHUNKS)) : 0;
		if (rc == META_MISS) {
			thin_load_leaf(req, edge->offset / LEAF_BYTES, again);
			return false;
		}
		if (!copy_up || (meta_entry_valid(entry) >> block & 1)) {
			if (meta_entry_valid(entry) >> block & 1)
				edge->from = edge->to = meta_entry_chunk(entry);
			continue;
		}
		if (meta_map_resolve(store, chunk, (uint16_t)(1u << block), sources, &missing) != 0) {
			thin_load(req, &missing, again);
			return false;
		}
		edge->from.n = sources[block];
		edge->to = meta_entry_chunk(entry);
	}
	return true;
}

static void edges_started(struct ioc_request *req, enum ioc_io_kind kind, void (*done)(struct ioc_request *req))
{
	thin_io_begin(req, done);
	for (unsigned i = 0; i < ARRAY_LEN(req->thin.edges); i++) {
		const struct thin_edge *edge = &req->thin.edges[i];
		if (edge->from.n != 0)
			thin_start_block(req, kind, kind == IOC_IO_READ ? edge->from : edge->to,
					 (uint32_t)round_down_to(edge->offset % CHUNK_BYTES, BLOCK_BYTES),
					 req->thin.bounce->memory + i * BLOCK_BYTES);
	}
	thin_io_end(req);
}

static void edges_written(struct ioc_request *req)
{
	bounce_put(req);
	req->thin.edge_next(req);
}

static void edges_read(struct ioc_request *req)
{
	if (req->thin.error < 0) {
		edges_written(req);
		return;
	}
	for (unsigned i = 0; i < ARRAY_LEN(req->thin.edges); i++) {
		const struct thin_edge *edge = &req->thin.edges[i];
		if (edge->from.n != 0)
			memset(req->thin.bounce->memory + i * BLOCK_BYTES + edge->offset % BLOCK_BYTES, 0,
			       edge->bytes);
	}
	edges_started(req, IOC_IO_WRITE, edges_written);
}

static void edges_bounced(struct ioc_request *req)
{
	count(&req->queue->counters.rmw, 1);
	edges_started(req, IOC_IO_READ, edges_read);
}

void thin_zero_edges(struct ioc_request *req, void (*next)(struct ioc_request *req))
{
	bool any = false;

	for (unsigned i = 0; i < ARRAY_LEN(req->thin.edges); i++)
		any |= req->thin.edges[i].from.n != 0;
	req->thin.error = 0;
	req->thin.edge_next = next;
	if (!any)
		next(req);
	else if (bounce_get(req, 2 * BLOCK_BYTES, edges_bounced))
		edges_bounced(req);
}
