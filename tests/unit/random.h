/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random numbers for tests that can be run again: the seed comes from
 * BDFS_TEST_SEED or the clock, and every assertion that depends on it prints it.
 */
#ifndef TESTS_UNIT_RANDOM_H
#define TESTS_UNIT_RANDOM_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t test_seed(void)
{
	const char *given = getenv("BDFS_TEST_SEED");
	struct timespec now;

	if (given)
		return strtoull(given, NULL, 0);
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* A 64-bit mix of a counter: equidistributed, and any state is a good one. */
static inline uint64_t test_random(uint64_t *state)
{
	uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static inline uint64_t test_random_below(uint64_t *state, uint64_t bound)
{
	return test_random(state) % bound;
}

#endif
