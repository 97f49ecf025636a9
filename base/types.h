/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The units that everything in bdfs is counted in.
 *
 * Numbers that must not be mixed are one-member structs, so that handing a
 * virtual chunk to something that wants a physical one does not compile.
 *
 * Context: any thread; constants and inline arithmetic only.
 */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)
#define PIB (UINT64_C(1) << 50)

/* Unit of allocation. */
#define CHUNK_BYTES (64 * KIB)
#define CHUNK_SHIFT 16
/* Unit of validity, so the unit of copy-on-write. */
#define BLOCK_BYTES (4 * KIB)
#define BLOCK_SHIFT 12
#define CHUNK_BLOCKS 16
/* A leaf is the map record of 128 consecutive chunks: 8 MiB of disk. */
#define LEAF_CHUNKS 128
#define LEAF_SHIFT 7
#define LEAF_BYTES (LEAF_CHUNKS * CHUNK_BYTES)
/* An index record has one presence bit for each of 8,192 leaves: 64 GiB of disk. */
#define GROUP_LEAVES 8192
#define GROUP_SHIFT 13
/* A space record has one bit for each of 8,192 physical chunks: 512 MiB of pool. */
#define SPACE_GROUP_CHUNKS 8192

/* Largest disk: 4 PiB. The leaf directory of an open disk costs 8 bytes for
 * each 64 GiB of it, so this bounds that directory to 512 KiB. */
#define DISK_BYTES_MAX (4 * PIB)
/* A name is what a file name may be, up to 127 bytes (the limit that VIOS has for an LU). */
#define NAME_BYTES_MAX 127
#define UUID_BYTES 16

/* A chunk of a disk (virtual) and a chunk of the pool (physical; 0 = none). */
struct vchunk {
	uint64_t n;
};
struct pchunk {
	uint32_t n;
};

struct base_uuid {
	uint8_t b[UUID_BYTES];
};

static inline uint64_t round_down_to(uint64_t value, uint64_t unit)
{
	return value - value % unit;
}

/* The caller bounds value: sizes are at most DISK_BYTES_MAX, far from wrapping. */
static inline uint64_t round_up_to(uint64_t value, uint64_t unit)
{
	return round_down_to(value + unit - 1, unit);
}

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#endif
