/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a thin disk.
 *
 * A slice of a write goes: pin epoch and leaves; say what it needs; enter the
 * gate (shared for overwrites and for whole blocks of chunks that are there,
 * exclusive for allocation and read-modify-write); look at the entries again, now
 * that nobody can change them against us; reserve log slots; allocate; where the
 * ends are ragged, read the blocks they lie in and merge; write; and only when
 * every write has completed, change the map, leaf by leaf. Then the answer.
 *
 * A write past the end (IOC_GROW) takes all stripes exclusively. What lies
 * between the old end and the write, in the old end's block, is zeroed first: a
 * shrink may have left bytes there. The new size goes with the last slice.
 *
 * A write of part of a block that is not valid yet writes that whole block: the
 * rest of it is what a layer below has there, or zero. Nothing else is copied or
 * zeroed, so a 4 KiB write into a fresh chunk, or after a snapshot, writes 4 KiB.
 *
 * Failure modes: -ENOSPC when space was called back, a commit made, and there is
 * still none; an I/O error leaves the map as it was: chunks that were allocated
 * for it are abandoned, blocks that were overwritten hold old or new content.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/planted.h"
#include "iocore/internal.h"

static void write_slice(struct ioc_request *req);
static void entered(struct ioc_request *req);
static void after_wait(struct ioc_request *req);

/* ---- after the device --------------------------------------------------------------------- */

static uint64_t slice_end(const struct ioc_request *req)
{
	return req->thin.slice_offset + req->thin.slice_bytes;
}

static void change_map(struct ioc_request *req)
{
	struct plan_slice slice = {
		.offset = req->thin.slice_offset, .bytes = req->thin.slice_bytes, .entries = req->thin.entries
	};
	struct meta_disk *disk = thin_of(req)->disk;

	/* The size first: a commit in between must not find data past the end. A longer disk without its data reads
	 * zeros. */
	uint64_t end = MIN(slice_end(req), req->offset + req->length);
	if (req->thin.grows && end > meta_disk_size(disk)) {
		meta_change_grow(disk, end);
		req->thin.reserved--;
	}
	for (uint64_t left = req->thin.changes; left; left &= left - 1) {
		unsigned index, i = (unsigned)__builtin_ctzll(left);
		struct meta_leaf *leaf = thin_leaf_of(req, i, &index);
		meta_change_add(disk, leaf, index, meta_entry_chunk(req->thin.entries[i]), plan_touched(&slice, i));
		req->thin.reserved--;
	}
	req->thin.allocated = 0;
}

static void abandon(struct ioc_request *req)
{
	for (uint64_t left = req->thin.allocated; left; left &= left - 1)
		meta_chunk_abandon(thin_of(req)->disk, meta_entry_chunk(req->thin.entries[__builtin_ctzll(left)]));
	req->thin.allocated = 0;
}

/* A pv without room (a sparse file on a full host) is a full pool to the writer: it may be held. */
static void written_failed(struct ioc_request *req)
{
	if (req->thin.error != -ENOSPC) {
		thin_fail(req, req->thin.error);
		return;
	}
	thin_wait_space(req, after_wait)->pv_full = true;
	meta_wait_space(thin_of(req)->disk, &req->thin.wait);
}

static void written(struct ioc_request *req)
{
	if (req->thin.error < 0) {
		abandon(req);
		written_failed(req);
		return;
	}
	if (!planted(BUG_BITS_AT_PLAN))
		change_map(req);
	req->thin.cursor = MIN(slice_end(req) - req->offset, req->length);
	thin_end_slice(req);
	if (req->thin.cursor < req->length)
		write_slice(req);
	else
		thin_finish_write(req);
}

/* ---- to the device ------------------------------------------------------------------------ */

static void start(struct ioc_request *req)
{
	struct plan_slice slice = {
		.offset = req->thin.slice_offset, .bytes = req->thin.slice_bytes, .entries = req->thin.entries
	};

	plan_write(&slice, &req->thin.plan);
	assert(req->thin.plan.bytes == req->thin.slice_bytes); /* one step a chunk at most */
	if (planted(BUG_BITS_AT_PLAN))
		change_map(req);
	thin_start_io(req, written);
}

static void merge(struct ioc_request *req)
{
	if (req->thin.error < 0) {
		written(req);
		return;
	}
	thin_copy_in(req);
	start(req);
}

/* Fills the block of one ragged end: from where it is now, the head's chunk or one of a layer below, else zeros. */
static void fill_block(struct ioc_request *req, uint64_t block_byte, struct pchunk below)
{
	unsigned i = (unsigned)(block_byte / CHUNK_BYTES - req->thin.slice_offset / CHUNK_BYTES);
	unsigned block = (unsigned)(block_byte % CHUNK_BYTES / BLOCK_BYTES);
	meta_entry entry = req->thin.entries[i];
	char *memory = req->thin.bounce->memory + (block_byte - req->thin.bounce_offset);

	assert(block_byte >= req->thin.bounce_offset);
	struct pchunk from = meta_entry_valid(entry) >> block & 1 ? meta_entry_chunk(entry) : below;

	if (from.n != 0)
		thin_start_block(req, IOC_IO_READ, from, block * (uint32_t)BLOCK_BYTES, memory);
	else
		memset(memory, 0, BLOCK_BYTES);
}

/* The bounce buffer is there, the slice is extended to whole blocks at its ragged ends. */
static void bounced(struct ioc_request *req)
{
	bool head = req->thin.needs.head, tail = req->thin.needs.tail;
	uint64_t first = req->thin.slice_offset, last = slice_end(req) - BLOCK_BYTES;

	if (head || tail)
		count(&req->queue->counters.rmw, 1);
	thin_io_begin(req, merge);
	if (head)
		fill_block(req, first, req->thin.ragged[0]);
	if (tail && !(head && last == first))
		fill_block(req, last, req->thin.ragged[1]);
	thin_io_end(req);
}

static void to_device(struct ioc_request *req)
{
	uint32_t sector, memory;

	if (req->thin.error < 0) { /* zeroing what lies before a write past the end failed */
		thin_fail(req, req->thin.error);
		return;
	}
	thin_alignment(req->queue->meta, &sector, &memory);
	if (!req->thin.needs.head && !req->thin.needs.tail && thin_is_aligned(req, sector, memory)) {
		start(req);
		return;
	}
	uint64_t end = slice_end(req);
	if (req->thin.needs.head)
		req->thin.slice_offset = round_down_to(req->thin.slice_offset, BLOCK_BYTES);
	if (req->thin.needs.tail) {
		end = round_up_to(end, BLOCK_BYTES);
		/* All of that block, also where the write begins in it, on a sector. */
		req->thin.slice_offset = MIN(req->thin.slice_offset, end - BLOCK_BYTES);
	}
	req->thin.slice_bytes = end - req->thin.slice_offset;
	req->thin.bounce_offset = req->thin.slice_offset;
	if (bounce_get(req, req->thin.slice_bytes, bounced))
		bounced(req);
}

/* ---- at the gate -------------------------------------------------------------------------- */

static void look(struct ioc_request *req)
{
	struct plan_slice slice = {
		.offset = req->thin.slice_offset, .bytes = req->thin.slice_bytes, .entries = req->thin.entries
	};
	uint32_t sector, memory;

	thin_alignment(req->queue->meta, &sector, &memory);
	thin_read_entries(req);
	plan_write_needs(&slice, sector, &req->thin.needs);
	req->thin.changes = 0;
	for (unsigned i = 0; i < req->thin.chunks; i++)
		if (plan_touched(&slice, i) & ~meta_entry_valid(req->thin.entries[i]))
			req->thin.changes |= UINT64_C(1) << i;
}

static bool needs_exclusive(const struct ioc_request *req)
{
	if (planted(BUG_RMW_SHARED) && req->thin.changes == 0)
		return false;
	return req->thin.needs.exclusive;
}

static bool resolve_block(struct ioc_request *req, uint64_t byte, struct pchunk *ret,
			  void (*again)(struct ioc_request *req))
{
	unsigned block = (unsigned)(byte % CHUNK_BYTES / BLOCK_BYTES);
	uint32_t sources[CHUNK_BLOCKS];
	struct meta_missing missing;

	if (meta_map_resolve(req->thin.store, byte / CHUNK_BYTES, (uint16_t)(1u << block), sources, &missing) != 0) {
		thin_load(req, &missing, again);
		return false;
	}
	ret->n = sources[block];
	return true;
}

/* Where the rest of the blocks at ragged ends is to come from. False: a leaf is being loaded, all was given back. */
static bool look_below(struct ioc_request *req, void (*again)(struct ioc_request *req))
{
	req->thin.ragged[0] = req->thin.ragged[1] = (struct pchunk){ 0 };
	if (!meta_store_is_layered(req->thin.store))
		return true;
	if (req->thin.needs.head && !resolve_block(req, req->thin.slice_offset, &req->thin.ragged[0], again))
		return false;
	return !req->thin.needs.tail || resolve_block(req, slice_end(req) - 1, &req->thin.ragged[1], again);
}

static void after_wait(struct ioc_request *req)
{
	if (req->thin.wait.result < 0)
		thin_fail(req, req->thin.wait.result);
	else
		write_slice(req);
}

/* Between the old end and the write, within the old end's block. */
static void gap_before(struct ioc_request *req, struct thin_edge *ret)
{
	uint64_t size = meta_disk_size(thin_of(req)->disk), block_end = round_up_to(size, BLOCK_BYTES);

	*ret = (struct thin_edge){ .offset = size };
	if (req->offset > size && block_end > size)
		ret->bytes = (uint32_t)(MIN(block_end, req->offset) - size);
}

/* Every stripe is held, in the mode that the slice needs: nothing of what is looked at now can change against us. */
static void entered(struct ioc_request *req)
{
	struct meta_disk *disk = thin_of(req)->disk;

	look(req);
	/* While we waited at the gate a discard may have made an allocation of what was an overwrite, or a shrink may
	 * have moved the end of the disk before us or begun a trim: plan anew, with what is known now. */
	bool too_weak = needs_exclusive(req) && !req->thin.gate.exclusive;
	bool end_moved = slice_end(req) > meta_disk_size(disk) && (!req->thin.grows || meta_is_trimming(disk));
	if (too_weak || end_moved || !thin_same_head(req)) {
		thin_end_slice(req);
		req->thin.force_exclusive |= too_weak;
		write_slice(req);
		return;
	}
	if (!look_below(req, after_wait))
		return;
	/* Again here: the end may have moved into another leaf, or its leaf may have been evicted, while we waited.
	 */
	if (req->thin.grows && !thin_load_end(req, after_wait))
		return;
	if (req->thin.grows && !thin_claim(req, slice_end(req), after_wait))
		return;
	if (!thin_reserve(req, req->thin.grows ? 1 : 0, after_wait) ||
	    !thin_allocate(req, req->thin.changes, after_wait))
		return;
	req->thin.error = 0;
	req->thin.edges[1].bytes = 0;
	if (req->thin.grows && req->thin.cursor == 0)
		gap_before(req, &req->thin.edges[0]);
	else
		req->thin.edges[0].bytes = 0;
	if (req->thin.edges[0].bytes && !thin_find_edges(req, false, after_wait))
		return;
	if (req->thin.edges[0].bytes)
		thin_zero_edges(req, to_device);
	else
		to_device(req);
}

/* False: not now (a trim or a load is waited for), or not at all. */
static bool may_grow(struct ioc_request *req)
{
	struct thin_disk *thin = thin_of(req);

	if (!(req->flags & IOC_GROW)) {
		thin_fail(req, -EINVAL);
		return false;
	}
	if (meta_disk_kind(thin->disk) == META_DISK_LV) { /* as with a device: its size is no matter of writing */
		thin_fail(req, -ENOSPC);
		return false;
	}
	if (req->offset + req->length > DISK_BYTES_MAX) {
		thin_fail(req, -EFBIG);
		return false;
	}
	if (meta_is_trimming(thin->disk)) {
		thin_end_slice(req);
		meta_wait_trimmed(thin->disk, thin_wait(req, after_wait));
		return false;
	}
	/* The block of the old end, since what lies behind the end in it is zeroed. */
	return thin_load_end(req, after_wait);
}

static void write_slice(struct ioc_request *req)
{
	struct meta_pool *meta = req->queue->meta;
	uint64_t size = meta_disk_size(thin_of(req)->disk);
	int rc = meta_io_writable(meta);

	if (rc < 0) {
		thin_fail(req, rc);
		return;
	}
	req->thin.slice_offset = req->offset + req->thin.cursor;
	req->thin.slice_bytes = req->length - req->thin.cursor;
	req->thin.chunks = (unsigned)((slice_end(req) - 1) / CHUNK_BYTES - req->thin.slice_offset / CHUNK_BYTES + 1);
	thin_pin_epoch(req);
	req->thin.grows = slice_end(req) > size;
	if (req->thin.grows && !may_grow(req))
		return;
	if (!thin_pin_leaves(req, after_wait))
		return;
	look(req);
	if (!look_below(req, after_wait))
		return;
	uint64_t stripes = req->thin.grows ? UINT64_MAX
					   : gate_stripes_of(req->thin.slice_offset / CHUNK_BYTES, req->thin.chunks);
	bool exclusive = req->thin.grows || req->thin.force_exclusive || needs_exclusive(req);
	if (thin_enter(req, stripes, exclusive, entered))
		entered(req);
}

void thin_write(struct ioc_request *req)
{
	count(&req->queue->counters.writes, 1);
	count(&req->queue->counters.write_bytes, req->length);
	if (req->length == 0)
		queue_finish(req, 0);
	else if (req->length > IOC_DATA_BYTES_MAX || req->offset > INT64_MAX - req->length)
		queue_finish(req, -EINVAL);
	else
		write_slice(req);
}
