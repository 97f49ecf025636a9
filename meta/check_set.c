/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of chunks: one bit a chunk, in groups of 8,192 that are made when their
 * first chunk comes.
 *
 * A pool of 10 TiB has 20,000 groups, 20 MiB a set; one of 256 TiB, the most
 * there can be, 512 MiB. The table of groups has its full size from the start
 * (4 MiB of address space, of which only the touched pages become memory), so
 * that a set takes any chunk number without asking how large the pool is: the
 * record that would say so may be the one that is damaged.
 *
 * A group has the layout of a space record, so that one is copied into the
 * other. The bits are counted and combined byte by byte: even a full pass over
 * 20 MiB is nothing against the reading of the records.
 *
 * Failure mode: no memory for a group: chunk_set_add and chunk_set_group say so.
 */
#include <errno.h>
#include <stdlib.h>

#include "meta/check_internal.h"

struct chunk_set *chunk_set_new(void)
{
	return calloc(1, sizeof(struct chunk_set));
}

void chunk_set_free(struct chunk_set *set)
{
	for (uint64_t g = 0; set && g < CHECK_GROUPS; g++)
		free(set->groups[g]);
	free(set);
}

uint8_t *chunk_set_group(struct chunk_set *set, uint64_t group)
{
	if (!set->groups[group])
		set->groups[group] = calloc(1, CHECK_GROUP_BYTES);
	return set->groups[group];
}

int chunk_set_add(struct chunk_set *set, uint32_t chunk)
{
	uint8_t *bits = chunk_set_group(set, chunk / SPACE_GROUP_CHUNKS);
	unsigned n = chunk % SPACE_GROUP_CHUNKS;

	if (!bits)
		return -ENOMEM;
	int was = bits[n / 8] >> (n % 8) & 1;
	bits[n / 8] |= (uint8_t)(1u << (n % 8));
	return was;
}

bool chunk_set_has(const struct chunk_set *set, uint32_t chunk)
{
	const uint8_t *bits = set->groups[chunk / SPACE_GROUP_CHUNKS];
	unsigned n = chunk % SPACE_GROUP_CHUNKS;

	return bits && (bits[n / 8] >> (n % 8) & 1);
}

void chunk_set_remove(struct chunk_set *set, uint32_t chunk)
{
	uint8_t *bits = set->groups[chunk / SPACE_GROUP_CHUNKS];
	unsigned n = chunk % SPACE_GROUP_CHUNKS;

	if (bits)
		bits[n / 8] &= (uint8_t) ~(1u << (n % 8));
}

void chunk_set_keep(struct chunk_set *set, const struct chunk_set *other, bool in)
{
	for (uint64_t g = 0; g < CHECK_GROUPS; g++) {
		uint8_t *bits = set->groups[g];
		const uint8_t *others = other->groups[g];
		for (unsigned i = 0; bits && i < CHECK_GROUP_BYTES; i++) {
			uint8_t mask = others ? others[i] : 0;
			bits[i] &= in ? mask : (uint8_t)~mask;
		}
	}
}

uint64_t chunk_set_count(const struct chunk_set *set)
{
	uint64_t count = 0;

	for (uint64_t g = 0; g < CHECK_GROUPS; g++)
		for (unsigned i = 0; set->groups[g] && i < CHECK_GROUP_BYTES; i++)
			count += (uint64_t)__builtin_popcount(set->groups[g][i]);
	return count;
}

/* The first bit at or after n of a group, or SPACE_GROUP_CHUNKS. */
static unsigned next_bit(const uint8_t *bits, unsigned n)
{
	while (n < SPACE_GROUP_CHUNKS) {
		unsigned rest = bits[n / 8] >> (n % 8);
		if (rest)
			return n + (unsigned)__builtin_ctz(rest);
		n = (n / 8 + 1) * 8;
	}
	return n;
}

uint64_t chunk_set_next(const struct chunk_set *set, uint64_t from)
{
	for (uint64_t g = from / SPACE_GROUP_CHUNKS; g < CHECK_GROUPS; g++) {
		unsigned first = g == from / SPACE_GROUP_CHUNKS ? (unsigned)(from % SPACE_GROUP_CHUNKS) : 0;
		unsigned n = set->groups[g] ? next_bit(set->groups[g], first) : SPACE_GROUP_CHUNKS;
		if (n < SPACE_GROUP_CHUNKS)
			return g * SPACE_GROUP_CHUNKS + n;
	}
	return UINT64_MAX;
}
