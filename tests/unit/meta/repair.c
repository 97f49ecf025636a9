/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What repair does to a pool in which something was planted: it puts right what
 * follows from the leaves, and leaves alone what doesn't; a dry run lists the same
 * changes and makes none; cut off after any change it has done no harm, and the
 * next one ends it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "meta/repair.h"
#include "tests/unit/meta/check_rig.h"

static struct meta_repair_report report;
static unsigned changes_told, die_at;

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
}

TestSuite(meta_repair, .init = setup, .fini = rig_remove_dir, .timeout = 60);

static void note_change(enum meta_repair_kind kind, const char *text, void *ctx)
{
	if (++changes_told == die_at)
		_exit(0);
}

static int repair(bool dry_run)
{
	struct meta_repair_args args = { .dry_run = dry_run, .change = note_change };

	changes_told = 0;
	return meta_repair_dir(rig_dir, &args, &report, &rig_error);
}

static void expect_problems(uint64_t count)
{
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect_eq(rig_report.problems, count, "%d problems, expected %d", (int)rig_report.problems, (int)count);
}

/* The pool opens and closes; what was repaired is sound in use too. */
static void expect_usable(void)
{
	struct meta_pool *pool = rig_open(false);

	rig_write(pool, "b", 100, RIG_ALL);
	cr_assert_eq(meta_pool_commit(pool), 0);
	rig_close(pool);
	expect_problems(0);
}

/* `problems` findings of the planted, that go with `changes` changes of one kind. */
static void expect_repaired(uint64_t problems, enum meta_repair_kind kind, uint64_t changes)
{
	expect_problems(problems);
	cr_assert_eq(repair(true), 0, "%s", rig_error.text);
	cr_expect_eq(report.changes[kind], changes);
	expect_problems(problems);
	cr_assert_eq(repair(false), 0, "%s", rig_error.text);
	cr_expect_eq(report.changes[kind], changes);
	cr_expect_eq(report.total, changes);
	cr_expect_eq(report.before.problems, problems);
	cr_expect_eq(report.after.problems, 0);
	expect_problems(0);
	expect_usable();
}

static void expect_left_alone(uint64_t problems)
{
	expect_problems(problems);
	cr_assert_eq(repair(false), 0, "%s", rig_error.text);
	cr_expect_eq(report.total, 0);
	cr_expect_eq(changes_told, 0);
	cr_expect_eq(report.after.problems, problems);
	expect_problems(problems);
}

/* ---- what can be proven --------------------------------------------------------------------------- */

Test(meta_repair, a_sound_pool_is_left_as_it_is)
{
	struct meta_pool_record before = rig_pool(), after;

	expect_left_alone(0);
	after = rig_pool();
	cr_expect_eq(before.commit, after.commit);
	expect_usable();
}

Test(meta_repair, leaked_chunks_become_free)
{
	rig_set_space_bit(500, true);
	rig_set_space_bit(501, true);
	rig_set_space_bit(600, true);
	expect_repaired(3, META_REPAIR_SPACE, 3);
}

Test(meta_repair, an_owned_chunk_is_marked)
{
	meta_entry entries[LEAF_CHUNKS];

	rig_leaf(rig_disk("a").layer.store_id, 0, entries);
	rig_set_space_bit(meta_entry_chunk(entries[3]).n, false);
	expect_repaired(1, META_REPAIR_SPACE, 1);
}

Test(meta_repair, a_space_record_that_cant_be_read_is_drawn_from_the_leaves)
{
	rig_flip_bit(DB_SPACE, 0, false);
	expect_repaired(1, META_REPAIR_SPACE, 1);
}

Test(meta_repair, a_chunk_marked_where_no_pv_is_is_unmarked)
{
	rig_set_space_bit(RIG_CHUNKS + 100, true);
	expect_repaired(1, META_REPAIR_SPACE, 1);
}

Test(meta_repair, a_leaf_gets_its_bit)
{
	rig_set_index_bit(rig_disk("a").layer.store_id, 1, false);
	expect_repaired(1, META_REPAIR_INDEX, 1);
}

Test(meta_repair, a_bit_of_a_leaf_that_never_was_is_cleared)
{
	rig_set_index_bit(rig_disk("a").layer.store_id, 77, true);
	expect_repaired(1, META_REPAIR_INDEX, 1);
}

Test(meta_repair, wrong_counters_are_counted_again)
{
	struct rig_disk disk = rig_disk("b");

	disk.layer.chunks_owned += 3;
	disk.layer.blocks_valid -= 5;
	disk.layer.index_records = 9;
	rig_put_layer(disk.rec.head_layer, &disk.layer);
	expect_repaired(1, META_REPAIR_COUNTERS, 1);
}

Test(meta_repair, a_wrong_number_of_children_is_counted_again)
{
	struct rig_disk disk = rig_disk("c");

	disk.layer.children = 4;
	rig_put_layer(disk.rec.head_layer, &disk.layer);
	expect_repaired(1, META_REPAIR_CHILDREN, 1);
}

Test(meta_repair, leaks_and_low_counters_are_repaired_together)
{
	struct rig_disk disk = rig_disk("b");

	disk.layer.chunks_owned -= 1;
	rig_put_layer(disk.rec.head_layer, &disk.layer);
	rig_set_space_bit(700, true);
	expect_problems(2);
	cr_assert_eq(repair(false), 0, "%s", rig_error.text);
	cr_expect_eq(report.after.problems, 0);
	expect_usable();
}

/* ---- what can't -------------------------------------------------------------------------------------- */

Test(meta_repair, a_lost_leaf_is_not_made_a_hole_and_its_chunks_not_free)
{
	uint64_t store = rig_disk("b").layer.store_id;

	rig_del(DB_MAP, db_key_u64_u64(store, 0));
	/* Its bit; its five chunks; the counters. */
	expect_left_alone(1 + 5 + 1);
}

Test(meta_repair, a_leaf_lost_with_its_bit_is_still_missed_by_the_counters)
{
	uint64_t store = rig_disk("a").layer.store_id;

	rig_del(DB_MAP, db_key_u64_u64(store, 1));
	rig_set_index_bit(store, 1, false);
	expect_left_alone(1 + 1);
}

Test(meta_repair, the_chunks_of_a_damaged_leaf_stay_owned)
{
	rig_flip_bit(DB_MAP, 0, false);
	rig_set_space_bit(800, true);
	cr_assert_eq(repair(false), 0, "%s", rig_error.text);
	cr_expect_eq(report.total, 0);
}

Test(meta_repair, with_a_chunk_owned_twice_nothing_becomes_free)
{
	uint64_t store = rig_disk("b").layer.store_id;
	meta_entry entries[LEAF_CHUNKS];

	/* The entry was changed for another's: its own chunk looks leaked, and may be the only one with the data. */
	rig_leaf(store, 0, entries);
	entries[1] = entries[0];
	rig_put_leaf(store, 0, entries);
	expect_left_alone(2);
}

Test(meta_repair, a_damaged_index_record_stays)
{
	rig_flip_bit(DB_INDEX, 0, false);
	rig_set_space_bit(800, true);
	cr_assert_eq(repair(false), 0, "%s", rig_error.text);
	cr_expect_eq(report.total, 0);
}

/* ---- who may, and when --------------------------------------------------------------------------------- */

Test(meta_repair, a_pool_that_somebody_has_open_is_refused)
{
	struct meta_pool *pool = rig_open(false);

	/* Another process, as locks are of open files. */
	pid_t child = fork();
	if (child == 0)
		_exit(repair(false) == -EBUSY && repair(true) == -EBUSY ? 0 : 1);
	int status;
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect_eq(status, 0);
	rig_close(pool);
}

Test(meta_repair, a_pool_with_a_pv_missing_is_refused)
{
	char path[PATH_MAX];

	rig_set_space_bit(500, true);
	snprintf(path, sizeof(path), "%s/pv0", rig_dir);
	cr_assert_eq(unlink(path), 0);
	cr_expect_eq(repair(false), -ENXIO);
	cr_expect(strstr(rig_error.text, "pv0"), "%s", rig_error.text);
}

/* Chunks far apart are a change each, and many more than go into one transaction. */
static void plant_many(void)
{
	struct rig_disk disk = rig_disk("b");

	for (uint32_t chunk = 100; chunk < 900; chunk += 100)
		rig_set_space_bit(chunk, true);
	rig_set_index_bit(rig_disk("a").layer.store_id, 1, false);
	disk.layer.blocks_valid = 1;
	rig_put_layer(disk.rec.head_layer, &disk.layer);
}

Test(meta_repair, cut_off_after_any_change_the_next_one_ends_it)
{
	plant_many();
	cr_assert_eq(repair(true), 0);
	unsigned all = changes_told;
	cr_expect_eq(all, 10);
	for (unsigned at = 1; at <= all; at++) {
		rig_remove_dir();
		rig_make_dir(true);
		rig_make_pool(RIG_BYTES);
		plant_many();
		pid_t child = fork();
		if (child == 0) {
			die_at = at;
			_exit(repair(false) != 0);
		}
		int status;
		cr_assert_eq(waitpid(child, &status, 0), child);
		cr_assert_eq(status, 0);
		cr_assert_eq(rig_check_dir(), 0);
		cr_expect_leq(rig_report.problems, 10);
		cr_assert_eq(repair(false), 0, "%s", rig_error.text);
		cr_expect_eq(report.after.problems, 0, "cut off at change %u", at);
		expect_usable();
	}
}
