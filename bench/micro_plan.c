/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Micro-benchmarks of the planner: from a request and the entries it meets to
 * the steps that carry it out.
 *
 * The model: three requests on maps that are often met. 4 KiB within a chunk
 * whose blocks are all valid (read, and overwrite with the look at what it
 * needs); 1 MiB at a chunk's start, 16 chunks in a row on the pool (one step);
 * the same 1 MiB where every second block is a hole (as many steps as a plan
 * holds, so this is the dearest plan there is).
 *
 * Failure modes: a number of steps or bytes other than that is a wrong result.
 */
#include "bench/micro.h"
#include "iocore/plan.h"

#define SECTOR_BYTES 512
#define CHUNKS 16

static void fill_entries(meta_entry entries[CHUNKS], uint16_t valid)
{
	for (uint32_t i = 0; i < CHUNKS; i++)
		entries[i] = meta_entry_make((struct pchunk){ 100 + i }, valid, 0);
}

static bool run_reads(uint64_t calls, uint64_t offset, uint64_t bytes, uint16_t valid, unsigned steps)
{
	meta_entry entries[CHUNKS];
	struct plan_slice slice = { .offset = offset, .bytes = bytes, .entries = entries };
	struct plan plan;
	bool right = true;

	fill_entries(entries, valid);
	for (uint64_t i = 0; i < calls; i++) {
		micro_touch(&slice);
		micro_touch(entries);
		plan_read(&slice, &plan);
		right &= plan.count == steps;
	}
	return right;
}

static bool run_read_small(void *ctx, uint64_t calls)
{
	return run_reads(calls, 5 * BLOCK_BYTES, BLOCK_BYTES, 0xffff, 1);
}

static bool run_read_large(void *ctx, uint64_t calls)
{
	return run_reads(calls, 0, CHUNKS * CHUNK_BYTES, 0xffff, 1);
}

static bool run_read_torn(void *ctx, uint64_t calls)
{
	return run_reads(calls, 0, CHUNKS * CHUNK_BYTES, 0x5555, PLAN_STEPS_MAX);
}

static bool run_overwrite(void *ctx, uint64_t calls)
{
	meta_entry entries[CHUNKS];
	struct plan_slice slice = { .offset = 5 * BLOCK_BYTES, .bytes = BLOCK_BYTES, .entries = entries };
	struct plan_needs needs;
	struct plan plan;
	bool right = true;

	fill_entries(entries, 0xffff);
	for (uint64_t i = 0; i < calls; i++) {
		micro_touch(&slice);
		micro_touch(entries);
		plan_write_needs(&slice, SECTOR_BYTES, &needs);
		plan_write(&slice, &plan);
		right &= !needs.exclusive && needs.changes == 0 && plan.count == 1 && plan.bytes == BLOCK_BYTES;
	}
	return right;
}

const struct micro_case micro_plan_cases[] = {
	{ "plan-read-4k", "4 KiB of valid blocks: one step", NULL, run_read_small, NULL, false },
	{ "plan-read-1m", "1 MiB, 16 chunks in a row: one step", NULL, run_read_large, NULL, false },
	{ "plan-read-1m-torn", "1 MiB, every second block a hole: a full plan", NULL, run_read_torn, NULL, false },
	{ "plan-write-4k", "4 KiB overwrite: needs and plan", NULL, run_overwrite, NULL, false },
};
const size_t micro_plan_case_count = ARRAY_LEN(micro_plan_cases);
