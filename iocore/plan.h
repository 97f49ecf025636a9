/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The planner: a pure function of a request and the map it meets to a list of steps.
 *
 * A slice is the part of a request that is planned at once: at most
 * PLAN_CHUNKS_MAX chunks. The planner sees the entries of those chunks and says
 * what to do with which bytes. Physically adjacent chunks become one step.
 *
 * Context: any thread, pure: no device, no lock, no memory.
 */
#ifndef IOCORE_PLAN_H
#define IOCORE_PLAN_H

#include "base/types.h"
#include "meta/leaf.h"

/* 2 MiB at any alignment touches 33 chunks. */
#define PLAN_CHUNKS_MAX 33
/* Steps of one plan; a read of a very torn-up range is planned in several turns. */
#define PLAN_STEPS_MAX 34

enum plan_kind {
	PLAN_ZERO, /* fill the data with zeros: nothing is mapped there */
	PLAN_READ,
	PLAN_WRITE,
};

struct plan_step {
	enum plan_kind kind;
	uint64_t data_offset; /* bytes from the start of the slice */
	uint64_t bytes;
	struct pchunk chunk; /* READ, WRITE: where the run starts: this chunk ... */
	uint32_t in_chunk;   /* ... and this byte in it; it goes on into the following chunks */
};

struct plan {
	unsigned count;
	uint64_t bytes; /* of the slice that the steps cover; less than the slice when there was no room for more */
	struct plan_step steps[PLAN_STEPS_MAX];
};

/* The slice [offset, offset + bytes) of a disk; entries[0] is the chunk that offset lies in, and so on for each chunk
 * it touches. */
struct plan_slice {
	uint64_t offset;
	uint64_t bytes; /* > 0 */
	const meta_entry *entries;
	/* Reads only. Where each block of each chunk is, 0 = it reads as zero; NULL: where the entries say. */
	const uint32_t (*sources)[CHUNK_BLOCKS];
};

static inline unsigned plan_slice_chunks(const struct plan_slice *slice)
{
	return (unsigned)((slice->offset + slice->bytes - 1) / CHUNK_BYTES - slice->offset / CHUNK_BYTES + 1);
}

/* The blocks of chunk i of the slice that the slice touches, and those that it covers whole. */
uint16_t plan_touched(const struct plan_slice *slice, unsigned i);
uint16_t plan_covered(const struct plan_slice *slice, unsigned i);

/* How to read the slice. */
void plan_read(const struct plan_slice *slice, struct plan *ret);

/* What a write of the slice needs before it can be planned. */
struct plan_needs {
	bool exclusive;   /* allocation or read-modify-write: the stripes are entered exclusively */
	unsigned chunks;  /* to allocate */
	unsigned changes; /* entries that will change */
	/* Read-modify-write at block granularity: the write is extended to whole blocks at that end, the block's
	 * present content (zeros where it is not valid) read first. */
	bool head, tail;
};
/* sector_bytes: what the pv can write without reading. */
void plan_write_needs(const struct plan_slice *slice, uint32_t sector_bytes, struct plan_needs *ret);

/* How to write the slice: every entry it touches has a chunk by now. */
void plan_write(const struct plan_slice *slice, struct plan *ret);

#endif
