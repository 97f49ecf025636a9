/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OWN: what layers below show of a range becomes the disk's own. Contents don't change.
 *
 * A slice is at most 16 chunks, at the gate exclusively, as the first write to
 * each of these places after a snapshot: look where the blocks are that the head
 * says nothing of; allocate; read them; write them to the same places of the
 * head's chunks; then the map. Who writes there meanwhile waits for one slice.
 *
 * Blocks that read as zero are left alone: without a parent they read as zero too.
 * A mark that a block is zero goes where no parent shows any more (the overlap
 * lies below it).
 *
 * Ranges without a leaf in any layer are skipped.
 *
 * Failure modes: -ENOSPC at once, also where the pool's policy is to hold writes:
 * nobody's write waits for this one. An I/O error abandons the chunks of the slice.
 * What was done stays done.
 */
#include <errno.h>

#include "iocore/internal.h"

#define SLICE_CHUNKS 16
#define SLICES_A_TURN 4

static void own_slice(struct ioc_request *req);

static uint64_t chunk_of(const struct ioc_request *req, unsigned i)
{
	return req->thin.slice_offset / CHUNK_BYTES + i;
}

/* The blocks of entry i that the head has to get, by where they are, and marks that hide nothing. */
static uint16_t wanted(const struct ioc_request *req, unsigned i)
{
	uint16_t blocks = 0;

	for (unsigned b = 0; b < CHUNK_BLOCKS; b++)
		blocks |= (uint16_t)((req->thin.sources[i][b] != 0) << b);
	return blocks;
}

static uint16_t needless(const struct ioc_request *req, unsigned i)
{
	uint16_t below = meta_store_below(req->thin.store, chunk_of(req, i));

	return meta_entry_zero(req->thin.entries[i]) & (uint16_t)~below;
}

static void after_wait(struct ioc_request *req)
{
	if (req->thin.wait.result < 0)
		thin_fail(req, req->thin.wait.result);
	else
		own_slice(req);
}

/* ---- the plan ------------------------------------------------------------------------------- */

/* The end of the run of wanted blocks from b on that are in one chunk. */
static unsigned run_end(const uint32_t sources[CHUNK_BLOCKS], unsigned b)
{
	unsigned end = b + 1;

	while (end < CHUNK_BLOCKS && sources[end] == sources[b])
		end++;
	return end;
}

static void add_step(struct plan *plan, enum plan_kind kind, unsigned i, unsigned b, unsigned end, uint32_t chunk)
{
	struct plan_step *last = plan->count ? &plan->steps[plan->count - 1] : NULL;
	struct plan_step step = { .kind = kind,
				  .data_offset = i * CHUNK_BYTES + b * BLOCK_BYTES,
				  .bytes = (end - b) * BLOCK_BYTES,
				  .chunk = { chunk },
				  .in_chunk = b * (uint32_t)BLOCK_BYTES };

	if (last && last->data_offset + last->bytes == step.data_offset &&
	    (uint64_t)last->chunk.n * CHUNK_BYTES + last->in_chunk + last->bytes ==
		    (uint64_t)chunk * CHUNK_BYTES + step.in_chunk)
		last->bytes += step.bytes;
	else
		plan->steps[plan->count++] = step;
}

static void make_plan(struct ioc_request *req, enum plan_kind kind)
{
	req->thin.plan.count = 0;
	for (unsigned i = 0; i < req->thin.chunks; i++) {
		const uint32_t *sources = req->thin.sources[i];
		for (unsigned b = 0, end; b < CHUNK_BLOCKS; b = end) {
			end = run_end(sources, b);
			uint32_t own = meta_entry_chunk(req->thin.entries[i]).n;
			if (sources[b] != 0)
				add_step(&req->thin.plan, kind, i, b, end, kind == PLAN_READ ? sources[b] : own);
		}
	}
}

static unsigned count_runs(const uint32_t sources[CHUNK_BLOCKS])
{
	unsigned runs = 0;

	for (unsigned b = 0; b < CHUNK_BLOCKS; b = run_end(sources, b))
		runs += sources[b] != 0;
	return runs;
}

/* Where the wanted blocks are. A slice ends before what has no room in one plan. False: a leaf is being loaded. */
static bool look(struct ioc_request *req)
{
	struct meta_missing missing;
	unsigned runs = 0, i;

	thin_read_entries(req);
	req->thin.changes = 0;
	for (i = 0; i < req->thin.chunks; i++) {
		meta_entry entry = req->thin.entries[i];
		uint16_t left = meta_store_below(req->thin.store, chunk_of(req, i)) &
				(uint16_t) ~(meta_entry_valid(entry) | meta_entry_zero(entry));
		for (unsigned b = 0; b < CHUNK_BLOCKS; b++)
			req->thin.sources[i][b] = 0;
		if (left && meta_map_resolve(req->thin.store, chunk_of(req, i), left, req->thin.sources[i],
					     &missing) != 0) {
			thin_load(req, &missing, after_wait);
			return false;
		}
		runs += count_runs(req->thin.sources[i]);
		if (runs > PLAN_STEPS_MAX)
			break;
		if (wanted(req, i) || needless(req, i))
			req->thin.changes |= UINT64_C(1) << i;
	}
	req->thin.chunks = i;
	req->thin.slice_bytes = i * CHUNK_BYTES;
	return true;
}

static uint64_t entries_wanted(const struct ioc_request *req)
{
	uint64_t which = 0;

	for (unsigned i = 0; i < req->thin.chunks; i++)
		if (wanted(req, i))
			which |= UINT64_C(1) << i;
	return which;
}

/* ---- one slice ------------------------------------------------------------------------------ */

static void slice_done(struct ioc_request *req)
{
	uint64_t end = req->thin.slice_offset + req->thin.slice_bytes;

	req->thin.cursor = MAX(end, req->offset) - req->offset;
	thin_end_slice(req);
	if (++req->thin.slices % SLICES_A_TURN == 0)
		thin_yield(req, own_slice);
	else
		own_slice(req);
}

static void apply(struct ioc_request *req)
{
	struct meta_disk *disk = thin_of(req)->disk;

	for (uint64_t left = req->thin.changes; left; left &= left - 1) {
		unsigned index, i = (unsigned)__builtin_ctzll(left);
		struct meta_leaf *leaf = thin_leaf_of(req, i, &index);
		uint16_t add = wanted(req, i), unmark = needless(req, i);
		if (add) {
			meta_change_add(disk, leaf, index, meta_entry_chunk(req->thin.entries[i]), add);
			req->thin.reserved--;
		}
		if (unmark) {
			meta_change_unmark(disk, leaf, index, unmark);
			req->thin.reserved--;
		}
	}
	req->thin.allocated = 0;
	slice_done(req);
}

static void written(struct ioc_request *req)
{
	if (req->thin.error == 0) {
		apply(req);
		return;
	}
	for (uint64_t left = req->thin.allocated; left; left &= left - 1)
		meta_chunk_abandon(thin_of(req)->disk, meta_entry_chunk(req->thin.entries[__builtin_ctzll(left)]));
	req->thin.allocated = 0;
	thin_fail(req, req->thin.error);
}

static void read_done(struct ioc_request *req)
{
	if (req->thin.error < 0) {
		thin_fail(req, req->thin.error); /* no write was submitted yet */
		return;
	}
	make_plan(req, PLAN_WRITE);
	thin_start_io(req, written);
}

static void bounced(struct ioc_request *req)
{
	make_plan(req, PLAN_READ);
	thin_start_io(req, read_done);
}

static void entered(struct ioc_request *req)
{
	if (!thin_same_head(req)) {
		thin_end_slice(req);
		own_slice(req);
		return;
	}
	if (!look(req))
		return;
	uint64_t which = entries_wanted(req), both = 0;
	for (unsigned i = 0; i < req->thin.chunks; i++)
		both += (which >> i & 1) && needless(req, i);
	if (!thin_reserve(req, (unsigned)both, after_wait) || !thin_allocate(req, which, after_wait))
		return;
	req->thin.bounce_offset = req->thin.slice_offset;
	if (which == 0)
		apply(req);
	else if (bounce_get(req, req->thin.slice_bytes, bounced))
		bounced(req);
}

static void own_slice(struct ioc_request *req)
{
	int rc = meta_io_writable(req->queue->meta);

	if (rc < 0) {
		thin_fail(req, rc);
		return;
	}
	thin_pin_epoch(req);
	/* Nothing shows behind the end: the overlap is no larger than the size. */
	if (!meta_store_is_layered(req->thin.store) || req->thin.cursor >= req->thin.length || !thin_skip_holes(req)) {
		thin_end_slice(req);
		queue_finish(req, 0);
		return;
	}
	uint64_t first = (req->offset + req->thin.cursor) / CHUNK_BYTES;
	uint64_t end = (req->offset + req->thin.length + CHUNK_BYTES - 1) / CHUNK_BYTES;
	req->thin.slice_offset = first * CHUNK_BYTES;
	req->thin.chunks = (unsigned)(MIN(end, round_down_to(first, SLICE_CHUNKS) + SLICE_CHUNKS) - first);
	req->thin.slice_bytes = req->thin.chunks * CHUNK_BYTES;
	if (!thin_pin_leaves(req, after_wait))
		return;
	if (thin_enter(req, gate_stripes_of(first, req->thin.chunks), true, entered))
		entered(req);
}

void thin_own(struct ioc_request *req)
{
	if (req->offset > INT64_MAX - req->length) {
		queue_finish(req, -EINVAL);
		return;
	}
	req->thin.slices = 0;
	own_slice(req);
}
