/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check finds in index, maps and space of a pool that nobody uses. Of each kind, planted by writing records,
 * exactly that and nothing else.
 */
#include <stdio.h>
#include <string.h>

#include "tests/unit/meta/check_expect.h"

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
}

TestSuite(meta_check_map, .init = setup, .fini = rig_remove_dir, .timeout = 60);

/* ---- index and map -------------------------------------------------------------------------------------- */

Test(meta_check_map, finds_a_store_without_a_layer)
{
	meta_entry entries[LEAF_CHUNKS] = { [3] = meta_entry_make((struct pchunk){ 0 }, 0, 1) };
	uint64_t store = rig_new_id();
	struct meta_index_record rec = { .present = { 1 } };
	uint8_t buf[DB_VALUE_BYTES_MAX];

	rig_put_leaf(store, 0, entries);
	rig_put(DB_INDEX, db_key_u64_u64(store, 0), buf, meta_index_encode(&rec, buf));
	expect_only(META_CHECK_STORE_ORPHAN, 1);
	cr_expect_eq(rig_report.findings[0].place.store, store);
}

Test(meta_check_map, finds_index_bits_without_a_leaf)
{
	static const uint64_t leaves[] = { 2, 77, 8191, 8192, 8196, 8198, 16383 };
	struct rig_disk a = rig_disk("a");

	for (size_t i = 0; i < ARRAY_LEN(leaves); i++) {
		rig_set_index_bit(a.layer.store_id, leaves[i], true);
		expect_only(META_CHECK_INDEX_WITHOUT_LEAF, i + 1);
		cr_expect_eq(rig_report.findings[i].place.leaf, leaves[i]);
	}
}

Test(meta_check_map, finds_an_index_record_without_any_leaf)
{
	struct meta_index_record rec = { .present = { [9] = 0x10 } };
	struct rig_disk c = rig_disk("c");
	uint8_t buf[DB_VALUE_BYTES_MAX];

	rig_put(DB_INDEX, db_key_u64_u64(c.layer.store_id, 1), buf, meta_index_encode(&rec, buf));
	c.layer.index_records = 1;
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_INDEX_WITHOUT_LEAF, 1);
	cr_expect_eq(rig_report.findings[0].place.leaf, 8192 + 9 * 8 + 4);
}

Test(meta_check_map, finds_a_leaf_without_its_index_bit)
{
	struct rig_disk a = rig_disk("a");

	rig_set_index_bit(a.layer.store_id, 1, false);
	expect_only(META_CHECK_LEAF_WITHOUT_INDEX, 1);
	cr_expect_eq(rig_report.findings[0].place.leaf, 1);
}

Test(meta_check_map, finds_leaves_without_an_index_record)
{
	struct rig_disk a = rig_disk("a");

	rig_del(DB_INDEX, db_key_u64_u64(a.layer.store_id, 1));
	a.layer.index_records--;
	rig_put_layer(a.rec.head_layer, &a.layer);
	expect_only(META_CHECK_LEAF_WITHOUT_INDEX, 1);
	cr_expect_eq(rig_report.findings[0].place.leaf, 8197);
}

Test(meta_check_map, finds_zero_bits_in_a_layer_without_a_parent)
{
	struct rig_disk a = rig_disk("a");
	meta_entry entries[LEAF_CHUNKS];

	rig_leaf(a.layer.store_id, 1, entries);
	entries[2] |= (meta_entry)0x00f0 << 48;
	rig_put_leaf(a.layer.store_id, 1, entries);
	expect_only(META_CHECK_ENTRY_UNSOUND, 1);
	cr_expect_eq(rig_report.findings[0].place.entry, LEAF_CHUNKS + 2);
}

Test(meta_check_map, finds_data_beyond_the_end_of_a_disk_that_no_mark_covers)
{
	struct rig_disk b = rig_disk("b");

	/* Entries 0 to 4 have 8 blocks each. */
	b.rec.size_bytes = 2 * CHUNK_BYTES + 7 * BLOCK_BYTES + 1;
	rig_put_disk(&b);
	expect_only(META_CHECK_ENTRY_BEYOND_END, 2);
	b.rec.size_bytes -= 1;
	rig_put_disk(&b);
	expect_only(META_CHECK_ENTRY_BEYOND_END, 3);
	b.rec.trim_above_bytes = 2 * CHUNK_BYTES + 7 * BLOCK_BYTES;
	rig_put_disk(&b);
	expect_nothing();
	b.rec.trim_above_bytes = 3 * CHUNK_BYTES;
	rig_put_disk(&b);
	expect_only(META_CHECK_ENTRY_BEYOND_END, 1);
}

Test(meta_check_map, finds_nothing_in_space_that_is_reserved_beyond_the_end)
{
	struct meta_pool *pool = rig_open(false);

	rig_write(pool, "c", 100, 0); /* an ALLOCATE that was to grow the disk reserves first */
	cr_assert_eq(meta_pool_commit(pool), 0);
	rig_close(pool);
	struct rig_disk c = rig_disk("c");
	c.rec.size_bytes = 0;
	rig_put_disk(&c);
	expect_nothing();
}

/* ---- chunks ---------------------------------------------------------------------------------------------- */

Test(meta_check_map, finds_a_chunk_that_no_pv_has)
{
	static const uint32_t wrong[] = { RIG_CHUNKS + 1, 5000000, UINT32_MAX };
	struct rig_disk a = rig_disk("a");
	meta_entry entries[LEAF_CHUNKS];

	rig_leaf(a.layer.store_id, 1, entries);
	rig_set_space_bit(meta_entry_chunk(entries[2]).n, false);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		entries[2] = meta_entry_make((struct pchunk){ wrong[i] }, 0x000f, 0);
		rig_put_leaf(a.layer.store_id, 1, entries);
		expect_only(META_CHECK_CHUNK_OUT_OF_RANGE, 1);
		cr_expect_eq(rig_report.findings[0].place.chunk, wrong[i]);
	}
}

Test(meta_check_map, finds_a_chunk_that_two_disks_own_and_names_both)
{
	struct rig_disk a = rig_disk("a"), b = rig_disk("b");
	meta_entry of_a[LEAF_CHUNKS], of_b[LEAF_CHUNKS];
	char text[META_CHECK_TEXT_BYTES];

	rig_leaf(a.layer.store_id, 1, of_a);
	rig_leaf(b.layer.store_id, 0, of_b);
	rig_set_space_bit(meta_entry_chunk(of_a[2]).n, false);
	of_a[2] = meta_entry_make(meta_entry_chunk(of_b[4]), 0x000f, 0);
	rig_put_leaf(a.layer.store_id, 1, of_a);
	expect_only(META_CHECK_CHUNK_TWICE, 1);
	cr_expect_eq(rig_report.findings[0].place.chunk, meta_entry_chunk(of_b[4]).n);
	snprintf(text, sizeof(text), "entry 130 of store %d and by entry 4 of store %d", (int)a.layer.store_id,
		 (int)b.layer.store_id);
	cr_expect_not_null(strstr(rig_report.findings[0].text, text), "%s", rig_report.findings[0].text);
}

Test(meta_check_map, finds_a_chunk_that_one_leaf_owns_twice)
{
	struct rig_disk b = rig_disk("b");
	meta_entry entries[LEAF_CHUNKS];

	rig_leaf(b.layer.store_id, 0, entries);
	rig_set_space_bit(meta_entry_chunk(entries[4]).n, false);
	entries[4] = entries[0];
	rig_put_leaf(b.layer.store_id, 0, entries);
	expect_only(META_CHECK_CHUNK_TWICE, 1);
}

Test(meta_check_map, finds_an_owned_chunk_that_the_bitmap_calls_free)
{
	struct rig_disk b = rig_disk("b");
	meta_entry entries[LEAF_CHUNKS];

	rig_leaf(b.layer.store_id, 0, entries);
	rig_set_space_bit(meta_entry_chunk(entries[1]).n, false);
	expect_only(META_CHECK_CHUNK_NOT_IN_SPACE, 1);
	cr_expect_eq(rig_report.findings[0].place.chunk, meta_entry_chunk(entries[1]).n);
}

Test(meta_check_map, finds_owned_chunks_where_the_space_record_is_missing)
{
	rig_del(DB_SPACE, db_key_u64(0));
	expect_only(META_CHECK_CHUNK_NOT_IN_SPACE, 17);
}

Test(meta_check_map, finds_a_chunk_that_is_marked_and_has_no_owner)
{
	rig_set_space_bit(1, true); /* is owned: no change */
	rig_set_space_bit(RIG_CHUNKS, true);
	expect_only(META_CHECK_SPACE_LEAKED, 1);
	cr_expect_eq(rig_report.findings[0].place.chunk, RIG_CHUNKS);
}

Test(meta_check_map, finds_marks_of_chunks_that_no_pv_has)
{
	rig_set_space_bit(0, true);
	rig_set_space_bit(RIG_CHUNKS + 1, true);
	expect_only(META_CHECK_SPACE_OUT_OF_RANGE, 2);
}

Test(meta_check_map, thick_disks_are_not_promised_more_than_there_is)
{
	struct meta_pool *pool = rig_open(false);

	rig_create(pool, "thick", 4 * MIB);
	rig_close(pool);
	struct rig_disk thick = rig_disk("thick");
	thick.rec.kind = META_DISK_THICK;
	rig_put_disk(&thick);
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_nothing());
	thick.rec.size_bytes = 2 * RIG_BYTES;
	rig_put_disk(&thick);
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_only(META_CHECK_PROMISE, 1));
}
