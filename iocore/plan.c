/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The planner, see plan.h.
 *
 * Both plans walk the slice block by block and let add() join what continues
 * the step before: same kind and, for I/O, the next byte on the pool. Chunk
 * numbers that follow each other are neighbours on one pv (meta numbers them with
 * gaps between pvs), so "the next byte" needs no more than chunk and offset.
 *
 * What makes a write exclusive:
 *   - a chunk that is not there yet (allocation);
 *   - a part of a block whose rest has to come from somewhere: the block is not
 *     valid (its rest reads as zero), or the part is not whole sectors.
 * Everything else is shared: overwriting valid blocks, and whole blocks of a
 * chunk that is there (their valid bits are set when they are written).
 *
 * Failure modes: none; too torn up for one plan means ret->bytes < slice->bytes.
 */
#include "iocore/plan.h"

/* Bytes of the slice in chunk i: [*ret_from, *ret_to) within the chunk. */
static void part_in_chunk(const struct plan_slice *slice, unsigned i, uint32_t *ret_from, uint32_t *ret_to)
{
	uint64_t chunk_byte = (slice->offset / CHUNK_BYTES + i) * CHUNK_BYTES, end = slice->offset + slice->bytes;

	*ret_from = (uint32_t)(MAX(slice->offset, chunk_byte) - chunk_byte);
	*ret_to = (uint32_t)(MIN(end, chunk_byte + CHUNK_BYTES) - chunk_byte);
}

uint16_t plan_touched(const struct plan_slice *slice, unsigned i)
{
	uint32_t from, to;

	part_in_chunk(slice, i, &from, &to);
	unsigned first = from / BLOCK_BYTES, last = (to - 1) / BLOCK_BYTES;
	return meta_block_mask(first, last - first + 1);
}

uint16_t plan_covered(const struct plan_slice *slice, unsigned i)
{
	uint32_t from, to;

	part_in_chunk(slice, i, &from, &to);
	unsigned first = (unsigned)(round_up_to(from, BLOCK_BYTES) / BLOCK_BYTES), end = to / BLOCK_BYTES;
	return end > first ? meta_block_mask(first, end - first) : 0;
}

static bool continues(const struct plan_step *last, const struct plan_step *step)
{
	if (last->kind != step->kind)
		return false;
	if (step->kind == PLAN_ZERO)
		return true;
	return (uint64_t)last->chunk.n * CHUNK_BYTES + last->in_chunk + last->bytes ==
	       (uint64_t)step->chunk.n * CHUNK_BYTES + step->in_chunk;
}

/* False when there is no room for it. */
static bool add(struct plan *plan, const struct plan_step *step)
{
	struct plan_step *last = plan->count ? &plan->steps[plan->count - 1] : NULL;

	if (last && continues(last, step))
		last->bytes += step->bytes;
	else if (plan->count == PLAN_STEPS_MAX)
		return false;
	else
		plan->steps[plan->count++] = *step;
	plan->bytes += step->bytes;
	return true;
}

/* Adds [from, to) of a chunk, whose blocks are all in one chunk of the pool, or (0) nowhere. */
static bool add_run(struct plan *plan, enum plan_kind kind, struct pchunk chunk, uint32_t from, uint32_t to)
{
	struct plan_step step = { .kind = kind, .data_offset = plan->bytes, .bytes = to - from };

	if (kind != PLAN_ZERO) {
		step.chunk = chunk;
		step.in_chunk = from;
	}
	return add(plan, &step);
}

/* Where the block is, 0 = it reads as zero; returns the end of the run of blocks that are there too. */
static unsigned find_run(const struct plan_slice *slice, unsigned i, unsigned block, struct pchunk *ret)
{
	const uint32_t *sources = slice->sources ? slice->sources[i] : NULL;
	unsigned valid = meta_entry_valid(slice->entries[i]), next = block + 1;

	if (!sources) {
		bool here = valid >> block & 1;
		unsigned others = (here ? (uint16_t)~valid : valid) >> block;
		*ret = here ? meta_entry_chunk(slice->entries[i]) : (struct pchunk){ 0 };
		return others ? block + (unsigned)__builtin_ctz(others) : CHUNK_BLOCKS;
	}
	while (next < CHUNK_BLOCKS && sources[next] == sources[block])
		next++;
	*ret = (struct pchunk){ sources[block] };
	return next;
}

static bool read_chunk(const struct plan_slice *slice, unsigned i, struct plan *plan)
{
	struct pchunk source;
	uint32_t from, to;

	part_in_chunk(slice, i, &from, &to);
	while (from < to) {
		unsigned next = find_run(slice, i, from / BLOCK_BYTES, &source);
		uint32_t end = MIN(to, next * (uint32_t)BLOCK_BYTES);
		if (!add_run(plan, source.n ? PLAN_READ : PLAN_ZERO, source, from, end))
			return false;
		from = end;
	}
	return true;
}

void plan_read(const struct plan_slice *slice, struct plan *ret)
{
	unsigned chunks = plan_slice_chunks(slice);

	ret->count = 0;
	ret->bytes = 0;
	for (unsigned i = 0; i < chunks; i++)
		if (!read_chunk(slice, i, ret))
			return;
}

static bool end_needs_block(uint64_t byte, meta_entry entry, uint32_t sector_bytes)
{
	if (byte % BLOCK_BYTES == 0)
		return false;
	bool valid = meta_entry_valid(entry) >> (byte % CHUNK_BYTES / BLOCK_BYTES) & 1;
	return !valid || byte % sector_bytes != 0;
}

void plan_write_needs(const struct plan_slice *slice, uint32_t sector_bytes, struct plan_needs *ret)
{
	unsigned chunks = plan_slice_chunks(slice);

	*ret = (struct plan_needs){
		.head = end_needs_block(slice->offset, slice->entries[0], sector_bytes),
		.tail = end_needs_block(slice->offset + slice->bytes, slice->entries[chunks - 1], sector_bytes),
	};
	for (unsigned i = 0; i < chunks; i++) {
		meta_entry entry = slice->entries[i];
		if (meta_entry_chunk(entry).n == 0)
			ret->chunks++;
		if (plan_touched(slice, i) & ~meta_entry_valid(entry))
			ret->changes++;
	}
	ret->exclusive = ret->chunks > 0 || ret->head || ret->tail;
}

void plan_write(const struct plan_slice *slice, struct plan *ret)
{
	unsigned chunks = plan_slice_chunks(slice);
	uint32_t from, to;

	ret->count = 0;
	ret->bytes = 0;
	for (unsigned i = 0; i < chunks; i++) {
		part_in_chunk(slice, i, &from, &to);
		if (!add_run(ret, PLAN_WRITE, meta_entry_chunk(slice->entries[i]), from, to))
			return;
	}
}
