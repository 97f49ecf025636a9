/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check says of a pool with snapshots: nothing of a sound one, whatever shows through; and what is wrong with
 * snapshots, with layers that have a parent, and with chunks that two layers of a chain have.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "meta/snapshot.h"
#include "tests/unit/meta/check_expect.h"

/* b has the snapshots s1 and s2, and above each some chunks of its own, some zeros, some of both in one chunk. */
static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
	struct meta_pool *pool = rig_open(false);
	rig_snapshot(pool, "b", "s1");
	rig_write(pool, "b", 1, 0x0f0f);
	rig_discard(pool, "b", 2);
	rig_snapshot(pool, "b", "s2");
	rig_write(pool, "b", 0, RIG_ALL);
	rig_discard(pool, "b", 1);
	cr_assert_eq(meta_pool_commit(pool), 0);
	rig_close(pool);
}

TestSuite(meta_check_snapshots, .init = setup, .fini = rig_remove_dir, .timeout = 60);

/* ---- finding records -------------------------------------------------------------------------- */

struct found_snapshot {
	uint8_t uuid[UUID_BYTES];
	struct meta_snapshot_record rec;
	struct meta_layer_record layer;
};

static struct found_snapshot get_snapshot(const char *name)
{
	struct found_snapshot found = { 0 };
	struct db_key key = { 0 };
	struct db_value value;
	struct db_env *env;
	struct db_txn *txn = NULL;
	int rc;

	rig_require(db_open(rig_dir, DB_OPEN_READ_ONLY, 0, &env, &rig_error) == 0 && db_read_begin(env, &txn) == 0,
		    "reading the metadata");
	while ((rc = db_next(txn, DB_SNAPSHOT, &key, false, &value)) == 0 &&
	       meta_snapshot_decode(value.b, value.bytes, &found.rec) == 0 && strcmp(found.rec.name, name) != 0)
		;
	rig_require(rc == 0, "finding a snapshot");
	memcpy(found.uuid, key.b, UUID_BYTES);
	struct db_key of = db_key_u64(found.rec.layer);
	rig_require(db_get(txn, DB_LAYER, &of, &value) == 0 &&
			    meta_layer_decode(value.b, value.bytes, &found.layer) == 0,
		    "finding its layer");
	db_read_end(txn);
	db_read_free(txn);
	db_close(env);
	return found;
}

static void put_snapshot(const struct found_snapshot *snapshot)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];

	rig_put(DB_SNAPSHOT, db_key_bytes(snapshot->uuid, UUID_BYTES), buf, meta_snapshot_encode(&snapshot->rec, buf));
}

/* ---- sound ------------------------------------------------------------------------------------ */

Test(meta_check_snapshots, nothing_is_found_in_a_pool_whose_layers_show_through)
{
	expect_nothing();
	cr_expect_eq(rig_report.snapshots, 2);
	cr_expect_eq(rig_report.layers, 5);
	struct meta_pool *pool = rig_open(false);
	cr_assert_eq(rig_check(pool), 0);
	cr_expect(rig_found_nothing());
	rig_close(pool);
}

Test(meta_check_snapshots, nothing_is_found_when_folds_are_cut_off_anywhere)
{
	for (unsigned steps = 0; steps < 12; steps++) {
		struct meta_pool *pool = rig_open(false);
		struct meta_disk *disk = meta_disk_get_by_name(pool, "b");
		struct meta_snapshot *s1 = meta_snapshot_get_by_name(disk, "s1");
		if (s1) {
			cr_assert_eq(meta_snapshot_remove(s1, &rig_error), 0, "%s", rig_error.text);
			meta_snapshot_put(s1);
		}
		meta_disk_put(disk);
		for (unsigned i = 0; i < steps; i++) {
			pool->copy.next_at_ns = 0;
			bg_step(pool, base_clock_ns());
			mw_step(pool, base_clock_ns());
			cr_assert_eq(rig_check(pool), 0, "%s", rig_error.text);
			cr_expect(rig_found_nothing(), "live, after step %u", i);
		}
		rig_close(pool);
		expect_nothing();
	}
}

/* ---- snapshots -------------------------------------------------------------------------------- */

Test(meta_check_snapshots, finds_a_snapshot_of_a_layer_that_a_disk_writes_to)
{
	struct found_snapshot s1 = get_snapshot("s1");

	s1.layer.owner_disk = s1.rec.disk;
	rig_put_layer(s1.rec.layer, &s1.layer);
	expect_only(META_CHECK_SNAPSHOT, 1);
}

Test(meta_check_snapshots, finds_a_snapshot_whose_layer_is_being_freed_and_that_its_child_shows_through_it)
{
	struct found_snapshot s1 = get_snapshot("s1");

	s1.layer.state = META_LAYER_DEAD;
	rig_put_layer(s1.rec.layer, &s1.layer);
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect_eq(rig_report.found[META_CHECK_SNAPSHOT], 1);
	cr_expect_eq(rig_report.found[META_CHECK_LAYER_PARENT], 1);
	cr_expect_eq(rig_report.problems, 2);
}

Test(meta_check_snapshots, finds_two_of_one_name_but_not_of_two_disks)
{
	struct found_snapshot s2 = get_snapshot("s2");
	struct meta_pool *pool = rig_open(false);

	rig_snapshot(pool, "a", "s2");
	rig_close(pool);
	expect_nothing();
	strcpy(s2.rec.name, "s1");
	put_snapshot(&s2);
	expect_only(META_CHECK_SNAPSHOT, 1);
}

Test(meta_check_snapshots, finds_two_snapshots_of_one_layer)
{
	struct found_snapshot s1 = get_snapshot("s1");

	strcpy(s1.rec.name, "another");
	s1.uuid[0] ^= 1;
	put_snapshot(&s1);
	expect_only(META_CHECK_SNAPSHOT, 1);
}

/* ---- what layers of a chain have -------------------------------------------------------------- */

Test(meta_check_snapshots, finds_a_chunk_that_a_layer_and_its_parent_own)
{
	struct found_snapshot s1 = get_snapshot("s1"), s2 = get_snapshot("s2");
	meta_entry below[LEAF_CHUNKS], above[LEAF_CHUNKS];

	rig_leaf(s1.layer.store_id, 0, below);
	rig_leaf(s2.layer.store_id, 0, above);
	cr_assert_neq(meta_entry_chunk(above[1]).n, 0);
	uint32_t lost = meta_entry_chunk(above[1]).n;
	/* As a copy of a leaf into the child would have it. */
	above[1] = meta_entry_make(meta_entry_chunk(below[1]), meta_entry_valid(above[1]), meta_entry_zero(above[1]));
	rig_put_leaf(s2.layer.store_id, 0, above);
	rig_set_space_bit(lost, false);
	expect_only(META_CHECK_CHUNK_TWICE, 1);
}

Test(meta_check_snapshots, finds_zero_bits_that_a_fold_has_left_in_the_lowest_layer)
{
	struct found_snapshot s1 = get_snapshot("s1");
	meta_entry entries[LEAF_CHUNKS];

	rig_leaf(s1.layer.store_id, 0, entries);
	entries[3] = meta_entry_make(meta_entry_chunk(entries[3]), meta_entry_valid(entries[3]),
				     (uint16_t)~meta_entry_valid(entries[3]));
	rig_put_leaf(s1.layer.store_id, 0, entries);
	expect_only(META_CHECK_ENTRY_UNSOUND, 1);
}

Test(meta_check_snapshots, finds_a_leaf_of_a_snapshot_that_is_gone_before_it_reads_as_what_lies_below)
{
	struct found_snapshot s2 = get_snapshot("s2");

	rig_del(DB_MAP, db_key_u64_u64(s2.layer.store_id, 0));
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect_eq(rig_report.found[META_CHECK_INDEX_WITHOUT_LEAF], 1);
}

Test(meta_check_snapshots, finds_a_snapshots_child_that_was_not_counted)
{
	struct found_snapshot s1 = get_snapshot("s1");

	s1.layer.children = 0;
	rig_put_layer(s1.rec.layer, &s1.layer);
	expect_only(META_CHECK_LAYER_CHILDREN, 1);
}

/* ---- promises --------------------------------------------------------------------------------- */

Test(meta_check_snapshots, above_a_snapshot_a_thick_disk_is_promised_all_of_its_size_again)
{
	struct rig_disk b = rig_disk("b");

	/* In use: 11 + 1 by a, 5 + 1 + 1 by b's three layers; b's head owns 1. */
	cr_assert_eq(b.layer.chunks_owned, 1);
	b.rec.kind = META_DISK_THICK;
	b.rec.size_bytes = (RIG_CHUNKS - 19 + 1) * CHUNK_BYTES;
	rig_put_disk(&b);
	expect_nothing();
	b.rec.size_bytes += CHUNK_BYTES;
	rig_put_disk(&b);
	expect_only(META_CHECK_PROMISE, 1);
}
