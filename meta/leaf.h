/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A leaf: the map entries of 128 consecutive chunks (8 MiB of disk), and its codec.
 *
 * An entry is one 64-bit word, so that a reader sees a whole one with a plain
 * atomic load:
 *
 *   bits  0..31  physical chunk, 0 = none
 *   bits 32..47  valid: block b is in this chunk
 *   bits 48..63  zero:  block b reads as zero here
 *
 * Neither bit: look in the parent layer, within the overlap; at the bottom,
 * zero. valid & zero is always 0. An entry may have zero bits and no chunk, and
 * a chunk without valid bits (reserved space). Layers without a parent store no
 * zero bits.
 *
 * On disk a leaf is the shorter of two encodings (docs/format.md):
 *   raw   the 128 words, little-endian
 *   runs  a list of (first index, count, entry): `count` entries with equal
 *         masks, whose chunk numbers go up by 1 where there is a chunk
 * Decoding is a pure function over bytes: it checks everything and never
 * trusts a length.
 *
 * Context: any thread, pure.
 */
#ifndef META_LEAF_H
#define META_LEAF_H

#include "base/error.h"
#include "base/types.h"

typedef uint64_t meta_entry;

static inline struct pchunk meta_entry_chunk(meta_entry e)
{
	return (struct pchunk){ (uint32_t)e };
}
static inline uint16_t meta_entry_valid(meta_entry e)
{
	return (uint16_t)(e >> 32);
}
static inline uint16_t meta_entry_zero(meta_entry e)
{
	return (uint16_t)(e >> 48);
}
static inline meta_entry meta_entry_make(struct pchunk chunk, uint16_t valid, uint16_t zero)
{
	return (meta_entry)chunk.n | (meta_entry)valid << 32 | (meta_entry)zero << 48;
}

/* A valid bit without a chunk, or a block both valid and zero, is not an entry. */
static inline bool meta_entry_is_sound(meta_entry e)
{
	return (meta_entry_valid(e) & meta_entry_zero(e)) == 0 &&
	       (meta_entry_valid(e) == 0 || meta_entry_chunk(e).n != 0);
}

/* The mask of blocks [first, first + count); count 0..16. */
static inline uint16_t meta_block_mask(unsigned first, unsigned count)
{
	return (uint16_t)(((UINT32_C(1) << count) - 1) << first);
}

/* Largest encoding: one kind byte and 128 words. Below LMDB's in-page limit for values. */
#define META_LEAF_ENCODED_BYTES_MAX (1 + 8 * LEAF_CHUNKS)

/*
 * Encodes entries, all of them sound (asserted), into buf. Returns its length,
 * 0 when every entry is 0: an empty leaf has no record.
 */
size_t meta_leaf_encode(const meta_entry entries[LEAF_CHUNKS], uint8_t buf[META_LEAF_ENCODED_BYTES_MAX]);

/*
 * Decodes what meta_leaf_encode made.
 * Return: 0; -EBADMSG when bytes are not a leaf (unknown kind, a run that
 * overlaps, is out of order or leaves the leaf, an unsound entry, no entry at
 * all, trailing bytes). entries is untouched unless 0 is returned.
 */
MUST_CHECK int meta_leaf_decode(const uint8_t *bytes, size_t length, meta_entry entries[LEAF_CHUNKS]);

#endif
