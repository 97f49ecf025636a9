/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on ranges: discard, write zeroes, allocate.
 *
 * All three change entries and move no data, but for the ragged ends: a part of
 * a valid block is zeroed by reading, clearing and writing that block. Blocks
 * that are covered whole lose their valid bit, which makes them read as zero.
 *
 *   DISCARD, WRITE_ZEROES            a chunk without a valid block left is freed
 *   WRITE_ZEROES with IOC_KEEP_SPACE chunks stay, and are allocated where there are none
 *   ALLOCATE                         chunks are allocated where there are none; nothing else changes
 *
 * A range of any length is done in slices of 32 chunks, each at the gate,
 * exclusively. Discards skip what has no leaf: a discard of 64 TiB of nothing
 * takes microseconds. After a number of slices the request goes to the end of its
 * queue's line. A long range is not atomic.
 *
 * ALLOCATE with IOC_GROW makes the disk longer when it has its space, at the end.
 *
 * Above a snapshot what is cleared is marked as zero, and a ragged end in a block
 * that a layer below shows copies that one block into the head, which can need
 * space: a discard of whole blocks never does.
 *
 * Failure modes: as for writes; the slices that were done stay done.
 */
#include <assert.h>
#include <errno.h>

#include "iocore/internal.h"

#define SLICE_CHUNKS 32
#define SLICES_A_TURN 64

static void range_slice(struct ioc_request *req);

/* A logical volume keeps all its space: its discards zero. */
static bool frees(struct ioc_request *req)
{
	if (meta_disk_kind(thin_of(req)->disk) == META_DISK_LV)
		return false;
	return req->op == IOC_OP_DISCARD || (req->op == IOC_OP_WRITE_ZEROES && !(req->flags & IOC_KEEP_SPACE));
}

/* What becomes of entry i: the blocks to clear; whether it needs a chunk; whether its chunk goes when no valid block
 * is left. */
static void effect(struct ioc_request *req, unsigned i, uint16_t *ret_clear, bool *ret_needs_chunk)
{
	struct plan_slice slice = {
		.offset = req->thin.slice_offset, .bytes = req->thin.slice_bytes, .entries = req->thin.entries
	};
	meta_entry entry = req->thin.entries[i];
	uint16_t covered = plan_covered(&slice, i);

	*ret_needs_chunk = !frees(req) && meta_entry_chunk(entry).n == 0;
	*ret_clear = 0;
	if (req->op == IOC_OP_ALLOCATE)
		return;
	uint16_t below = meta_store_below(req->thin.store, req->thin.slice_offset / CHUNK_BYTES + i);
	if ((meta_entry_valid(entry) & covered) || (covered & below & (uint16_t)~meta_entry_zero(entry)) ||
	    (frees(req) && meta_entry_chunk(entry).n != 0 && covered == UINT16_MAX))
		*ret_clear = covered;
}

static unsigned edge_entry(const struct ioc_request *req, const struct thin_edge *edge)
{
	return (unsigned)(edge->offset / CHUNK_BYTES - req->thin.slice_offset / CHUNK_BYTES);
}

/* An edge in a block that a layer below shows: the head gets the block. */
static bool is_copied_up(const struct thin_edge *edge)
{
	return edge->bytes != 0 && edge->from.n != 0 && edge->from.n != edge->to.n;
}

static uint64_t copied_up_entries(const struct ioc_request *req)
{
	uint64_t which = 0;

	for (unsigned i = 0; i < ARRAY_LEN(req->thin.edges); i++)
		if (is_copied_up(&req->thin.edges[i]))
			which |= UINT64_C(1) << edge_entry(req, &req->thin.edges[i]);
	return which;
}

/* The edges have been found. */
static void look(struct ioc_request *req)
{
	uint16_t clear;
	bool needs_chunk;

	thin_read_entries(req);
	req->thin.changes = copied_up_entries(req);
	for (unsigned i = 0; i < req->thin.chunks; i++) {
		effect(req, i, &clear, &needs_chunk);
		if (clear || needs_chunk)
			req->thin.changes |= UINT64_C(1) << i;
	}
}

/* The parts of blocks at the two ends of the slice; inner slices have none. */
static void find_edges(struct ioc_request *req)
{
	uint64_t from = req->thin.slice_offset, to = from + req->thin.slice_bytes;
	uint64_t first_whole = round_up_to(from, BLOCK_BYTES), last_whole = round_down_to(to, BLOCK_BYTES);

	req->thin.edges[0] = (struct thin_edge){ .offset = from };
	req->thin.edges[1] = (struct thin_edge){ .offset = last_whole };
	if (req->op == IOC_OP_ALLOCATE)
		return;
	if (first_whole > from)
		req->thin.edges[0].bytes = (uint32_t)(MIN(first_whole, to) - from);
	if (last_whole < to && last_whole >= first_whole)
		req->thin.edges[1].bytes = (uint32_t)(to - last_whole);
}

static void after_wait(struct ioc_request *req)
{
	if (req->thin.wait.result < 0)
		thin_fail(req, req->thin.wait.result);
	else
		range_slice(req);
}

/* ---- the end ------------------------------------------------------------------------------ */

static void grow_zeroed(struct ioc_request *req)
{
	if (req->thin.error < 0) {
		thin_fail(req, req->thin.error);
		return;
	}
	meta_change_grow(thin_of(req)->disk, req->offset + req->length);
	req->thin.reserved--;
	thin_end_slice(req);
	thin_finish_write(req);
}

static void grow_entered(struct ioc_request *req)
{
	struct meta_disk *disk = thin_of(req)->disk;
	uint64_t end = req->offset + req->length;

	if (!thin_same_head(req)) {
		thin_end_slice(req);
		range_slice(req);
		return;
	}
	if (end <= meta_disk_size(disk)) {
		thin_end_slice(req);
		thin_finish_write(req);
		return;
	}
	if (meta_is_trimming(disk)) { /* a shrink was quicker */
		thin_end_slice(req);
		meta_wait_trimmed(disk, thin_wait(req, after_wait));
		return;
	}
	if (!thin_load_end(req, after_wait)) /* evicted while we waited at the gate */
		return;
	if (!thin_claim(req, end, after_wait))
		return;
	if (!meta_change_reserve(req->queue->meta, 1)) {
		thin_end_slice(req);
		meta_wait_commit(req->queue->meta, thin_wait(req, after_wait));
		return;
	}
	req->thin.reserved = 1;
	thin_zero_tail(req, grow_zeroed);
}

static void finish(struct ioc_request *req)
{
	bool grows = req->op == IOC_OP_ALLOCATE && (req->flags & IOC_GROW) &&
		     req->offset + req->length > meta_disk_size(thin_of(req)->disk);

	if (!grows) {
		thin_end_slice(req);
		if (req->thin.range_next) {
			req->thin.wait.result = 0;
			req->thin.range_next(req);
		} else {
			thin_finish_write(req);
		}
	} else if (thin_load_end(req, after_wait) && thin_enter(req, UINT64_MAX, true, grow_entered)) {
		grow_entered(req);
	}
}

/* ---- one slice ---------------------------------------------------------------------------- */

static void slice_done(struct ioc_request *req)
{
	req->thin.cursor = req->thin.slice_offset + req->thin.slice_bytes - req->offset;
	thin_end_slice(req);
	if (++req->thin.slices % SLICES_A_TURN == 0)
		thin_yield(req, range_slice);
	else
		range_slice(req);
}

static uint16_t copied_up_blocks(const struct ioc_request *req, unsigned entry)
{
	uint16_t blocks = 0;

	for (unsigned i = 0; i < ARRAY_LEN(req->thin.edges); i++)
		if (is_copied_up(&req->thin.edges[i]) && edge_entry(req, &req->thin.edges[i]) == entry)
			blocks |= (uint16_t)(1u << (req->thin.edges[i].offset % CHUNK_BYTES / BLOCK_BYTES));
	return blocks;
}

/* An edge may have been written into a new chunk. */
static void abandon(struct ioc_request *req)
{
	for (uint64_t left = req->thin.allocated; left; left &= left - 1)
		meta_chunk_abandon(thin_of(req)->disk, meta_entry_chunk(req->thin.entries[__builtin_ctzll(left)]));
	req->thin.allocated = 0;
}

static void apply(struct ioc_request *req)
{
	struct meta_disk *disk = thin_of(req)->disk;
	uint16_t clear;
	bool needs_chunk;

	if (req->thin.error < 0) {
		abandon(req);
		thin_fail(req, req->thin.error);
		return;
	}
	for (uint64_t left = req->thin.changes; left; left &= left - 1) {
		unsigned index, i = (unsigned)__builtin_ctzll(left);
		struct meta_leaf *leaf = thin_leaf_of(req, i, &index);
		uint16_t copied = copied_up_blocks(req, i);
		effect(req, i, &clear, &needs_chunk);
		if (copied || (req->thin.allocated >> i & 1)) {
			meta_change_add(disk, leaf, index, meta_entry_chunk(req->thin.entries[i]), copied);
			req->thin.reserved--;
		}
		if (clear) {
			meta_change_remove(disk, leaf, index, clear, frees(req));
			req->thin.reserved--;
		}
	}
	req->thin.allocated = 0;
	slice_done(req);
}

/* Nothing is past the end of a disk; what an ALLOCATE that grows the disk asks for there is its own. */
static void clip(struct ioc_request *req)
{
	uint64_t size = meta_disk_size(thin_of(req)->disk);

	if (req->op == IOC_OP_ALLOCATE && (req->flags & IOC_GROW))
		return;
	req->thin.length = req->offset >= size ? 0 : MIN(req->thin.length, size - req->offset);
}

static void entered(struct ioc_request *req)
{
	uint64_t length = req->thin.length;

	clip(req);
	if (req->thin.length != length) { /* a shrink was quicker; its trim must not find new chunks */
		thin_end_slice(req);
		range_slice(req);
		return;
	}
	if (!thin_same_head(req)) {
		thin_end_slice(req);
		range_slice(req);
		return;
	}
	find_edges(req);
	if (!thin_find_edges(req, true, after_wait))
		return;
	look(req);
	/* Above other layers an entry may change twice: an edge is added to it, the rest removed. */
	unsigned twice = (unsigned)__builtin_popcountll(req->thin.changes);
	uint64_t allocate = frees(req) ? copied_up_entries(req) : req->thin.changes;
	if (!thin_reserve(req, meta_store_is_layered(req->thin.store) ? twice : 0, after_wait) ||
	    !thin_allocate(req, allocate, after_wait))
		return;
	for (unsigned i = 0; i < ARRAY_LEN(req->thin.edges); i++) {
		struct thin_edge *edge = &req->thin.edges[i];
		if (is_copied_up(edge))
			edge->to = meta_entry_chunk(req->thin.entries[edge_entry(req, edge)]);
	}
	thin_zero_edges(req, apply);
}

static void range_slice(struct ioc_request *req)
{
	int rc = meta_io_writable(req->queue->meta);

	if (rc < 0) {
		thin_fail(req, rc);
		return;
	}
	thin_pin_epoch(req);
	if (req->thin.cursor >= req->thin.length || (frees(req) && !thin_skip_holes(req))) {
		finish(req);
		return;
	}
	uint64_t from = req->offset + req->thin.cursor, end = req->offset + req->thin.length;
	/* Slices end on their boundary, so that only the first and the last have ragged ends and none leaves its
	 * leaf. */
	req->thin.slice_offset = from;
	req->thin.slice_bytes =
		MIN(end, round_down_to(from, SLICE_CHUNKS * CHUNK_BYTES) + SLICE_CHUNKS * CHUNK_BYTES) - from;
	req->thin.chunks = (unsigned)((from + req->thin.slice_bytes - 1) / CHUNK_BYTES - from / CHUNK_BYTES + 1);
	if (!thin_pin_leaves(req, after_wait))
		return;
	if (thin_enter(req, gate_stripes_of(from / CHUNK_BYTES, req->thin.chunks), true, entered))
		entered(req);
}

static void trim_waited(struct ioc_request *req)
{
	if (req->thin.wait.result < 0)
		queue_finish(req, req->thin.wait.result);
	else
		thin_range(req);
}

void thin_range(struct ioc_request *req)
{
	struct meta_disk *disk = thin_of(req)->disk;
	bool grows = req->op == IOC_OP_ALLOCATE && (req->flags & IOC_GROW);

	if (req->offset > INT64_MAX - req->length) {
		queue_finish(req, -EINVAL);
		return;
	}
	if (grows && req->offset + req->length > DISK_BYTES_MAX) {
		queue_finish(req, -EFBIG);
		return;
	}
	if (grows && meta_disk_kind(disk) == META_DISK_LV && !(req->flags & IOC_EXTEND) &&
	    req->offset + req->length > meta_disk_size(disk)) {
		queue_finish(req, -ENOSPC);
		return;
	}
	if (grows && meta_is_trimming(disk)) {
		meta_wait_trimmed(disk, thin_wait(req, trim_waited));
		return;
	}
	count(&req->queue->counters.discards, 1);
	clip(req);
	req->thin.slices = 0;
	range_slice(req);
}
