/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leaf codec: the bytes on disk stay what they are, every leaf comes back
 * as it was, and nothing unsound is ever decoded.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "meta/leaf.h"
#include "tests/unit/random.h"

static uint8_t buf[META_LEAF_ENCODED_BYTES_MAX];

static meta_entry entry(uint32_t chunk, uint16_t valid, uint16_t zero)
{
	return meta_entry_make((struct pchunk){ chunk }, valid, zero);
}

/* clang-format off */
/* Entries 2..4 are chunks 0x01020304.. with blocks 0 and 15 valid and block 1 zero; entry 127 has zero bits only. */
static const uint8_t golden_runs[] = {
	0x12,
	0x02, 0x03, 0x04, 0x03, 0x02, 0x01, 0x01, 0x80, 0x02, 0x00,
	0x7f, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff,
};
/* clang-format on */

Test(meta_leaf, runs_are_these_bytes)
{
	meta_entry leaf[LEAF_CHUNKS] = { [2] = entry(0x01020304, 0x8001, 0x0002),
					 [3] = entry(0x01020305, 0x8001, 0x0002),
					 [4] = entry(0x01020306, 0x8001, 0x0002),
					 [127] = entry(0, 0, 0xffff) };
	meta_entry back[LEAF_CHUNKS];

	cr_assert_eq(meta_leaf_encode(leaf, buf), sizeof(golden_runs));
	cr_expect_eq(memcmp(buf, golden_runs, sizeof(golden_runs)), 0);
	cr_assert_eq(meta_leaf_decode(golden_runs, sizeof(golden_runs), back), 0);
	cr_expect_eq(memcmp(leaf, back, sizeof(leaf)), 0);
}

Test(meta_leaf, raw_is_a_kind_byte_and_little_endian_words)
{
	meta_entry leaf[LEAF_CHUNKS], back[LEAF_CHUNKS];
	uint8_t golden[META_LEAF_ENCODED_BYTES_MAX] = { 0x11 };

	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		uint8_t *word = golden + 1 + 8 * i;

		leaf[i] = entry(0x0a0b0c00 + 2 * i, 0x1234, 0x8001);
		memcpy(word, (uint8_t[8]){ (uint8_t)(2 * i), 0x0c, 0x0b, 0x0a, 0x34, 0x12, 0x01, 0x80 }, 8);
	}
	cr_assert_eq(meta_leaf_encode(leaf, buf), sizeof(golden));
	cr_expect_eq(memcmp(buf, golden, sizeof(golden)), 0);
	cr_assert_eq(meta_leaf_decode(golden, sizeof(golden), back), 0);
	cr_expect_eq(memcmp(leaf, back, sizeof(leaf)), 0);
}

Test(meta_leaf, an_empty_leaf_has_no_record)
{
	meta_entry leaf[LEAF_CHUNKS] = { 0 };

	cr_expect_eq(meta_leaf_encode(leaf, buf), 0);
}

Test(meta_leaf, a_disk_written_in_order_costs_one_run)
{
	meta_entry leaf[LEAF_CHUNKS];

	for (unsigned i = 0; i < LEAF_CHUNKS; i++)
		leaf[i] = entry(1000 + i, 0xffff, 0);
	cr_expect_eq(meta_leaf_encode(leaf, buf), 11);
	for (unsigned i = 0; i < LEAF_CHUNKS; i++)
		leaf[i] = entry(0, 0, 0xffff);
	cr_expect_eq(meta_leaf_encode(leaf, buf), 11);
}

/* n runs of one entry each: every other entry while there is room, then neighbours that don't continue each other. */
static void fill_with_runs(meta_entry leaf[LEAF_CHUNKS], unsigned n)
{
	memset(leaf, 0, LEAF_CHUNKS * sizeof(leaf[0]));
	for (unsigned i = 0; i < n; i++)
		leaf[i] = entry(10 + 3 * i, 1, 0);
}

Test(meta_leaf, takes_the_shorter_encoding_on_both_sides_of_the_border)
{
	meta_entry leaf[LEAF_CHUNKS], back[LEAF_CHUNKS];

	for (unsigned n = 1; n <= LEAF_CHUNKS; n++) {
		size_t length;

		fill_with_runs(leaf, n);
		length = meta_leaf_encode(leaf, buf);
		cr_assert_eq(length, n <= 102 ? 1 + 10 * n : 1025, "%u runs took %zu bytes", n, length);
		cr_assert_eq(meta_leaf_decode(buf, length, back), 0);
		cr_assert_eq(memcmp(leaf, back, sizeof(leaf)), 0);
	}
}

Test(meta_leaf, entries_that_name_one_chunk_twice_are_no_run)
{
	meta_entry leaf[LEAF_CHUNKS] = { entry(7, 1, 0), entry(7, 1, 0) };

	cr_expect_eq(meta_leaf_encode(leaf, buf), 21);
}

Test(meta_leaf, the_last_chunk_number_ends_a_run)
{
	meta_entry leaf[LEAF_CHUNKS] = { entry(UINT32_MAX - 1, 1, 0), entry(UINT32_MAX, 1, 0), entry(0, 0, 1) };
	meta_entry back[LEAF_CHUNKS];
	size_t length = meta_leaf_encode(leaf, buf);

	cr_expect_eq(length, 21);
	cr_assert_eq(meta_leaf_decode(buf, length, back), 0);
	cr_expect_eq(memcmp(leaf, back, sizeof(leaf)), 0);
}

/* Any kind of leaf that a disk may come to: holes, runs, single blocks, zero bits, reserved chunks. */
static void random_leaf(uint64_t *state, meta_entry leaf[LEAF_CHUNKS])
{
	uint64_t holes = test_random_below(state, 101);
	uint64_t breaks = test_random_below(state, 101);
	meta_entry last = 0;

	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		if (test_random_below(state, 100) < holes) {
			leaf[i] = 0;
			continue;
		}
		if (last == 0 || test_random_below(state, 100) < breaks || (uint32_t)last == UINT32_MAX) {
			uint16_t valid = (uint16_t)test_random(state);
			uint16_t zero = (uint16_t)(test_random(state) & ~valid);
			uint32_t chunk = (uint32_t)test_random(state) | 1;

			last = test_random_below(state, 8) == 0 ? entry(0, 0, zero) : entry(chunk, valid, zero);
		} else {
			last += (uint32_t)last != 0;
		}
		leaf[i] = last;
	}
}

Test(meta_leaf, every_leaf_comes_back_as_it_was)
{
	uint64_t seed = test_seed(), state = seed;

	for (int round = 0; round < 20000; round++) {
		meta_entry leaf[LEAF_CHUNKS], back[LEAF_CHUNKS];
		size_t length;

		random_leaf(&state, leaf);
		length = meta_leaf_encode(leaf, buf);
		cr_assert_leq(length, sizeof(buf));
		if (length == 0)
			continue;
		cr_assert_eq(meta_leaf_decode(buf, length, back), 0, "seed %llu", (unsigned long long)seed);
		cr_assert_eq(memcmp(leaf, back, sizeof(leaf)), 0, "seed %llu", (unsigned long long)seed);
	}
}

/* Whatever the bytes: refused and untouched, or sound and stable. */
static bool decodes_soundly(const uint8_t *bytes, size_t length, const char *what, uint64_t seed)
{
	meta_entry leaf[LEAF_CHUNKS], back[LEAF_CHUNKS];
	meta_entry any = 0;
	int rc;

	memset(leaf, 0xa5, sizeof(leaf));
	rc = meta_leaf_decode(bytes, length, leaf);
	if (rc != 0) {
		cr_assert_eq(rc, -EBADMSG);
		for (unsigned i = 0; i < LEAF_CHUNKS; i++)
			cr_assert_eq(leaf[i], UINT64_C(0xa5a5a5a5a5a5a5a5), "%s wrote before refusing", what);
		return false;
	}
	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		cr_assert(meta_entry_is_sound(leaf[i]), "%s, seed %llu", what, (unsigned long long)seed);
		any |= leaf[i];
	}
	cr_assert_neq(any, 0, "%s, seed %llu", what, (unsigned long long)seed);
	cr_assert_eq(meta_leaf_decode(buf, meta_leaf_encode(leaf, buf), back), 0);
	cr_assert_eq(memcmp(leaf, back, sizeof(leaf)), 0, "%s, seed %llu", what, (unsigned long long)seed);
	return true;
}

Test(meta_leaf, decode_refuses_every_truncation_but_whole_runs)
{
	uint64_t seed = test_seed(), state = seed;

	for (int round = 0; round < 300; round++) {
		meta_entry leaf[LEAF_CHUNKS];
		uint8_t bytes[META_LEAF_ENCODED_BYTES_MAX];
		size_t length;

		random_leaf(&state, leaf);
		length = meta_leaf_encode(leaf, bytes);
		for (size_t cut = 0; cut < length; cut++) {
			bool ok = decodes_soundly(bytes, cut, "a truncation", seed);
			bool whole_runs = bytes[0] == 0x12 && cut > 1 && (cut - 1) % 10 == 0;

			cr_assert_eq(ok, whole_runs, "seed %llu: cut at %zu", (unsigned long long)seed, cut);
		}
	}
}

Test(meta_leaf, decode_refuses_trailing_bytes)
{
	uint8_t bytes[META_LEAF_ENCODED_BYTES_MAX + 16] = { 0 };
	meta_entry leaf[LEAF_CHUNKS];

	for (unsigned more = 1; more <= 16; more++) {
		memcpy(bytes, golden_runs, sizeof(golden_runs));
		cr_expect_eq(meta_leaf_decode(bytes, sizeof(golden_runs) + more, leaf), -EBADMSG);
	}
	fill_with_runs(leaf, LEAF_CHUNKS);
	cr_assert_eq(meta_leaf_encode(leaf, bytes), META_LEAF_ENCODED_BYTES_MAX);
	for (unsigned more = 1; more <= 16; more++)
		cr_expect_eq(meta_leaf_decode(bytes, META_LEAF_ENCODED_BYTES_MAX + more, leaf), -EBADMSG);
}

Test(meta_leaf, random_bytes_never_decode_to_an_unsound_leaf)
{
	uint64_t seed = test_seed(), state = seed;
	unsigned accepted = 0;

	for (int round = 0; round < 200000; round++) {
		uint8_t bytes[64];
		size_t length = test_random_below(&state, sizeof(bytes) + 1);

		for (size_t i = 0; i < length; i++)
			bytes[i] = (uint8_t)test_random(&state);
		/* Most go past the first checks, or the test would only test those. */
		if (length > 0 && round % 8 != 0)
			bytes[0] = 0x12;
		if (length > 11 && round % 4 != 0) {
			length = 1 + (length - 1) / 10 * 10;
			for (size_t at = 1; at + 10 <= length; at += 10) {
				bytes[at] = (uint8_t)(at * 2);
				bytes[at + 1] &= 15;
				bytes[at + 8] = bytes[at + 9] = 0;
			}
		}
		accepted += decodes_soundly(bytes, length, "random bytes", seed);
	}
	cr_expect_gt(accepted, 1000, "seed %llu: only %u were accepted", (unsigned long long)seed, accepted);
}

Test(meta_leaf, damaged_raw_leaves_never_decode_to_an_unsound_leaf)
{
	uint64_t seed = test_seed(), state = seed;
	unsigned refused = 0;

	for (int round = 0; round < 20000; round++) {
		meta_entry leaf[LEAF_CHUNKS];
		uint8_t bytes[META_LEAF_ENCODED_BYTES_MAX];
		size_t length;

		fill_with_runs(leaf, LEAF_CHUNKS);
		length = meta_leaf_encode(leaf, bytes);
		bytes[test_random_below(&state, length)] = (uint8_t)test_random(&state);
		refused += !decodes_soundly(bytes, length, "a damaged leaf", seed);
	}
	cr_expect_gt(refused, 1000, "seed %llu", (unsigned long long)seed);
}

/* clang-format off */
struct wrong {
	const char *why;
	uint8_t bytes[24];
	size_t length;
};

static const struct wrong wrong[] = {
	{ "nothing at all", { 0 }, 0 },
	{ "unknown kind", { 0x10, 0, 1, 1 }, 11 },
	{ "another version", { 0x22, 0, 1, 1 }, 11 },
	{ "a kind and no runs", { 0x12 }, 1 },
	{ "an empty run", { 0x12, 0, 0, 5 }, 11 },
	{ "a run that starts after the leaf", { 0x12, 128, 1, 5 }, 11 },
	{ "a run that leaves the leaf", { 0x12, 127, 2, 5 }, 11 },
	{ "a run whose end wraps", { 0x12, 1, 255, 5 }, 11 },
	{ "a run of nothing", { 0x12, 0, 1 }, 11 },
	{ "valid blocks without a chunk", { 0x12, 0, 1, 0, 0, 0, 0, 1, 0 }, 11 },
	{ "a block both valid and zero", { 0x12, 0, 1, 5, 0, 0, 0, 1, 0, 1, 0 }, 11 },
	{ "chunk numbers that wrap", { 0x12, 0, 2, 0xff, 0xff, 0xff, 0xff, 1 }, 11 },
	{ "runs that overlap", { 0x12, 0, 2, 5, 0, 0, 0, 1, 0, 0, 0, 1, 1, 9, 0, 0, 0, 1 }, 21 },
	{ "runs out of order", { 0x12, 5, 1, 5, 0, 0, 0, 1, 0, 0, 0, 1, 1, 9, 0, 0, 0, 1 }, 21 },
};
/* clang-format on */

Test(meta_leaf, decode_refuses_each_broken_rule)
{
	meta_entry leaf[LEAF_CHUNKS];
	static const uint8_t raw_empty[META_LEAF_ENCODED_BYTES_MAX] = { 0x11 };

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		cr_expect_eq(meta_leaf_decode(wrong[i].bytes, wrong[i].length, leaf), -EBADMSG, "%s", wrong[i].why);
	cr_expect_eq(meta_leaf_decode(raw_empty, sizeof(raw_empty), leaf), -EBADMSG);
}

Test(meta_leaf, block_masks_cover_what_they_say)
{
	cr_expect_eq(meta_block_mask(0, 0), 0);
	cr_expect_eq(meta_block_mask(0, 16), 0xffff);
	cr_expect_eq(meta_block_mask(15, 1), 0x8000);
	cr_expect_eq(meta_block_mask(4, 3), 0x0070);
	cr_expect_eq(meta_block_mask(8, 8), 0xff00);
}
