/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of disks that have changed since the copy of the metadata: its block, what is put off it, and what an
 * import says by it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "meta/import.h"
#include "meta/snapshot.h"
#include "tests/unit/meta/check_rig.h"

static const struct base_uuid pool_uuid = { .b = { 1, 2, 3 } };

static struct meta_changed some(void)
{
	return (struct meta_changed){ .unlisted_commit = 3,
				      .count = 2,
				      .entries = { { 7, META_CHANGED_DATA, 12 }, { 1000, META_CHANGED_GONE, 13 } } };
}

Test(meta_changed, the_block_has_one_encoding)
{
	uint8_t buf[META_CHANGED_BYTES];
	struct meta_changed list = some(), back;

	meta_changed_encode(&list, pool_uuid, buf);
	cr_assert_eq(meta_changed_decode(buf, pool_uuid, &back), 0);
	cr_expect_eq(back.count, 2);
	cr_expect_eq(back.unlisted_commit, 3);
	cr_expect_eq(back.entries[1].disk, 1000);
	cr_expect_eq(back.entries[1].what, META_CHANGED_GONE);
	for (unsigned bit = 64; bit < META_CHANGED_BYTES * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		cr_assert_eq(meta_changed_decode(buf, pool_uuid, &back), -EBADMSG, "bit %u", bit);
		buf[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	cr_expect_eq(meta_changed_decode(buf, (struct base_uuid){ .b = { 9 } }, &back), -ENODATA);
	memset(buf, 0, sizeof(buf));
	cr_expect_eq(meta_changed_decode(buf, pool_uuid, &back), -ENODATA);
}

Test(meta_changed, a_full_list_forgets_what_the_copy_knows_and_says_when_it_forgets_more)
{
	static struct meta_changed list;
	struct meta_changed_entry entry = { .what = META_CHANGED_DATA };

	for (unsigned i = 0; i < META_CHANGED_MAX; i++) {
		entry.disk = entry.commit = i + 1;
		cr_assert(meta_changed_add(&list, &entry, 0));
	}
	entry.disk = 5000;
	entry.commit = 300;
	meta_changed_add(&list, &entry, 1); /* in the place of commit 1, which the copy has */
	cr_expect_eq(list.count, META_CHANGED_MAX);
	cr_expect_eq(list.unlisted_commit, 0);
	entry.disk = 5001;
	meta_changed_add(&list, &entry, 1);
	cr_expect_eq(list.unlisted_commit, 2);
}

Test(meta_changed, a_disk_that_was_made_or_removed_since_stays_so)
{
	struct meta_changed list = { 0 };

	meta_changed_add(&list, &(struct meta_changed_entry){ 5, META_CHANGED_MADE, 10 }, 9);
	cr_expect(meta_changed_add(&list, &(struct meta_changed_entry){ 5, META_CHANGED_DATA, 11 }, 9));
	cr_expect_eq(list.entries[0].what, META_CHANGED_MADE);
	meta_changed_add(&list, &(struct meta_changed_entry){ 5, META_CHANGED_DATA, 14 }, 12);
	cr_expect_eq(list.entries[0].what, META_CHANGED_DATA); /* a copy has it now */
	meta_changed_add(&list, &(struct meta_changed_entry){ 5, META_CHANGED_GONE, 15 }, 12);
	cr_expect_eq(list.entries[0].what, META_CHANGED_GONE);
	cr_expect_eq(list.count, 1);
}

/* ---- by an import --------------------------------------------------------------------------------- */

static char pv_path[PATH_MAX];
static struct meta_import_report report;

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
	snprintf(pv_path, sizeof(pv_path), "%s/pv0", rig_dir);
}

static void remove_dir(void)
{
	free(report.names);
	rig_remove_dir();
}

TestSuite(meta_changed_import, .init = setup, .fini = remove_dir, .timeout = 60);

/* The process is gone without closing the pool, and the directory with it. */
static void lose(void)
{
	static const char *const names[] = { "data.mdb", "lock.mdb", "restart" };
	char path[PATH_MAX];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", rig_dir, names[i]);
		unlink(path);
	}
}

static void import(void)
{
	struct meta_restore_pv pv = { 0 };
	struct meta_restore_args args = { .dir = rig_dir, .pvs = &pv, .pv_count = 1 };

	cr_assert_eq(meta_restore_open_pv(&meta_pv_real, NULL, pv_path, &pv, &rig_error), 0, "%s", rig_error.text);
	cr_assert_eq(meta_import(&args, &report, &rig_error), 0, "%s", rig_error.text);
	meta_pv_real.close(NULL, &pv.handle);
	cr_assert(report.changed_known);
}

static const char *name_of(enum meta_changed_what what)
{
	const char *found = NULL;

	for (unsigned i = 0; i < report.changed.count; i++) {
		if (report.changed.entries[i].what != what)
			continue;
		cr_expect_null(found, "two of %d", (int)what);
		found = report.names[i];
	}
	return found ? found : "nobody";
}

/* In a child, which dies with the pool open. */
static void crash_after(void (*fn)(struct meta_pool *pool))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct meta_pool *pool = rig_open(false);
		pool->copy.next_at_ns = UINT64_MAX;
		fn(pool);
		_exit(0);
	}
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0);
	lose();
	import();
}

static void write_to_b(struct meta_pool *pool)
{
	rig_write(pool, "b", 100, RIG_ALL);
	rig_require(meta_pool_commit(pool) == 0, "a commit");
}

Test(meta_changed_import, names_the_disk_that_was_written_and_no_other)
{
	crash_after(write_to_b);
	cr_expect_str_eq(name_of(META_CHANGED_DATA), "b");
	cr_expect_str_eq(name_of(META_CHANGED_MADE), "nobody");
	cr_expect_str_eq(name_of(META_CHANGED_GONE), "nobody");
}

static void make_and_remove(struct meta_pool *pool)
{
	struct meta_disk *c = meta_disk_get_by_name(pool, "c");

	rig_create(pool, "late", MIB);
	rig_write(pool, "late", 0, RIG_ALL);
	rig_require(meta_pool_commit(pool) == 0, "a commit");
	rig_require(meta_disk_remove(c, &rig_error) == 0, "removing a disk");
}

Test(meta_changed_import, tells_what_was_made_and_names_what_was_removed_since)
{
	crash_after(make_and_remove);
	cr_expect_str_eq(name_of(META_CHANGED_DATA), "nobody");
	cr_expect_str_eq(name_of(META_CHANGED_MADE), ""); /* nobody knows how it was called */
	cr_expect_str_eq(name_of(META_CHANGED_GONE), "c");
}

static void take_a_snapshot(struct meta_pool *pool)
{
	rig_snapshot(pool, "a", "s");
}

Test(meta_changed_import, names_the_disk_whose_snapshot_is_lost)
{
	crash_after(take_a_snapshot);
	cr_expect_str_eq(name_of(META_CHANGED_DATA), "a");
}

/* b changes, a copy is taken, c changes: b is in the copy as it is. */
static void with_a_copy_between(struct meta_pool *pool)
{
	write_to_b(pool);
	rig_require(copy_take(pool, false) == 0, "a copy");
	rig_write(pool, "c", 0, RIG_ALL);
	rig_require(meta_pool_commit(pool) == 0, "a commit");
}

Test(meta_changed_import, names_nobody_whom_the_copy_has_as_he_is)
{
	crash_after(with_a_copy_between);
	cr_expect_str_eq(name_of(META_CHANGED_DATA), "c");
}

/* b again, behind the copy: what the list said of it before was of a commit that the copy has. */
static void on_both_sides_of_a_copy(struct meta_pool *pool)
{
	write_to_b(pool);
	rig_require(copy_take(pool, false) == 0, "a copy");
	rig_write(pool, "b", 101, RIG_ALL);
	rig_require(meta_pool_commit(pool) == 0, "a commit");
}

Test(meta_changed_import, names_who_changed_before_the_copy_and_after_it)
{
	crash_after(on_both_sides_of_a_copy);
	cr_expect_str_eq(name_of(META_CHANGED_DATA), "b");
}

/* No leaf changes by it. */
static void attach_c_to_a_snapshot_of_b(struct meta_pool *pool)
{
	struct meta_disk *b = meta_disk_get_by_name(pool, "b"), *c = meta_disk_get_by_name(pool, "c");

	rig_snapshot(pool, "b", "s");
	rig_require(copy_take(pool, false) == 0, "a copy");
	struct meta_snapshot *snapshot = meta_snapshot_get_by_name(b, "s");
	rig_require(meta_disk_attach(c, snapshot, 0, CHUNK_BYTES, &rig_error) == 0, "attaching");
}

Test(meta_changed_import, names_the_disk_that_was_attached_to_a_snapshot_since)
{
	crash_after(attach_c_to_a_snapshot_of_b);
	cr_expect_str_eq(name_of(META_CHANGED_DATA), "c");
}
