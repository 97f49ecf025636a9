/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Syncs of the pvs: which flushes have nothing left to do, and that no sync counts after one that failed.
 *
 * The pv is a real file; its sync is ours: it can fail, and it looks at the pool while it is under way.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/unit/meta/check_rig.h"

static struct meta_pv_ops ops;
static struct meta_pool *pool;
static struct meta_disk *disk;
static unsigned syncs;
static int sync_result;
static bool was_done_meanwhile;

static int our_sync(void *ctx, struct meta_pv_handle *pv)
{
	syncs++;
	was_done_meanwhile = disk && meta_flush_is_done(disk);
	return sync_result < 0 ? sync_result : meta_pv_real.sync(ctx, pv);
}

static void setup(void)
{
	struct meta_pool_open_args args = { .dir = rig_dir, .no_threads = true, .pv_ops = &ops };

	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
	ops = meta_pv_real;
	ops.sync = our_sync;
	rig_require(meta_pool_open(&args, &pool, &rig_error) == 0, "opening the pool");
	disk = meta_disk_get_by_name(pool, "b");
	rig_require(pool_sync_pvs(pool) == 0, "a sync");
	syncs = 0;
}

static void finish(void)
{
	meta_disk_put(disk);
	disk = NULL;
	sync_result = 0;
	(void)!meta_pool_close(pool, &rig_error);
	rig_remove_dir();
}

TestSuite(meta_sync, .init = setup, .fini = finish, .timeout = 60);

Test(meta_sync, a_flush_of_what_is_stable_has_nothing_to_do)
{
	cr_expect(meta_flush_is_done(disk));
	meta_io_note_write(pool, 0);
	cr_expect(!meta_flush_is_done(disk));
	cr_expect_eq(pool_sync_pvs(pool), 0);
	cr_expect(meta_flush_is_done(disk));
	cr_expect_eq(pool_sync_pvs(pool), 0);
	cr_expect_eq(syncs, 1, "a pv that was not written since is not synced");
}

Test(meta_sync, a_flush_is_not_done_while_the_sync_that_covers_it_is_under_way)
{
	meta_io_note_write(pool, 0);
	cr_expect_eq(pool_sync_pvs(pool), 0);
	cr_expect_eq(syncs, 1);
	cr_expect_not(was_done_meanwhile);
}

Test(meta_sync, a_flush_of_a_changed_map_is_not_done_before_its_commit)
{
	rig_write(pool, "b", 100, RIG_ALL);
	cr_expect_eq(pool_sync_pvs(pool), 0);
	cr_expect_not(meta_flush_is_done(disk));
	cr_expect_eq(commit_run(pool), 0);
	cr_expect_eq(pool_sync_pvs(pool), 0); /* of the labels that the commit wrote */
	cr_expect(meta_flush_is_done(disk));
}

/* A thread may be interrupted between asking for the number and noting it, while another notes a younger one. */
Test(meta_sync, the_commit_that_a_flush_waits_for_never_goes_back)
{
	uint64_t now = atomic_load(&pool->commit_open);

	atomic_store(&pool->commit_open, now + 1);
	disk_note_change(disk);
	atomic_store(&pool->commit_open, now);
	disk_note_change(disk);
	cr_expect_eq(atomic_load(&disk->changed_in), now + 1);
	atomic_store(&pool->commit_open, now + 1);
}

/* The kernel tells one of those who sync a pv that it could not. */
Test(meta_sync, after_a_failed_sync_of_somebody_else_no_sync_succeeds)
{
	meta_io_note_write(pool, 0);
	sync_result = -EIO;
	cr_expect_eq(pool_sync_pv(pool, 0), -EIO); /* of a copy of the metadata */
	sync_result = 0;
	cr_expect_eq(pool_sync_pvs(pool), -EIO);
	cr_expect_eq(pool_sync_pvs(pool), -EIO, "also with nothing left to sync");
	cr_expect_eq(pool_sync_pv(pool, 0), -EIO);
	cr_expect_eq(syncs, 1, "a sync is never tried again");
	cr_expect(restart_is_marked_failed(pool->log));
	cr_expect_not(meta_flush_is_done(disk));
}

Test(meta_sync, no_flush_is_done_after_a_failed_sync)
{
	meta_io_note_write(pool, 0);
	sync_result = -EIO;
	cr_expect_eq(pool_sync_pvs(pool), -EIO);
	cr_expect_not(meta_flush_is_done(disk));
	cr_expect_lt(pool_failed_code(pool), 0);
}
