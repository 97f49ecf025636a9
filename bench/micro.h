/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a micro-benchmark is: a piece of the data path that is called in a loop,
 * and a check that the loop did what it should have.
 *
 * Context: main() of bench/micro, one thread. Not part of the product.
 */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

#include "base/types.h"

struct micro_case {
	const char *name;
	const char *what; /* one call of it, in a few words */
	/* Makes what run needs. Return: 0 with *ret_ctx, or a negative errno. NULL: run needs nothing. */
	int (*setup)(void **ret_ctx);
	/* Does it `calls` times. Return: whether every result was right, as far as that can be told afterwards. */
	bool (*run)(void *ctx, uint64_t calls);
	void (*done)(void *ctx); /* frees what setup made; NULL: nothing to free */
	/* run() also plays the kernel or the guest; of the instructions only those inside rig_turn() or
	 * micro_vring_batch() are the product's. */
	bool plays_peer;
};

/* One group for each part of the data path, in the file of that name. */
extern const struct micro_case micro_base_cases[], micro_meta_cases[], micro_map_cases[], micro_plan_cases[],
	micro_vring_cases[], micro_fuse_cases[], micro_vhost_cases[];
extern const size_t micro_base_case_count, micro_meta_case_count, micro_map_case_count, micro_plan_case_count,
	micro_vring_case_count, micro_fuse_case_count, micro_vhost_case_count;

/* Makes the compiler believe that *memory is read and changed here, so that no call is moved out of its loop. */
static inline void micro_touch(void *memory)
{
	__asm__ volatile("" : : "r"(memory) : "memory");
}

#endif
