/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Corners of snapshots that need a hand on the steps of MW and BG: what is seen between two of them, what ends a wait,
 * and what a removal may use.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "iocore/pool.h"
#include "iocore/snapshot.h"
#include "meta/io.h"
#include "meta/snapshot.h"
#include "tests/unit/meta/check_rig.h"

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
}

TestSuite(meta_snapshots, .init = setup, .fini = rig_remove_dir, .timeout = 60);

/* ---- without threads ------------------------------------------------------------------------------- */

static void wake_nobody(void *ctx)
{
}

static void run_nothing(struct base_msg *msg)
{
}

struct taking {
	struct base_mailbox box;
	struct meta_switch_spec spec;
	struct meta_switch change;
};

static void take_begin(struct meta_pool *pool, const char *disk, const char *name, struct taking *ret)
{
	base_mailbox_init(&ret->box, wake_nobody, NULL);
	ret->spec = (struct meta_switch_spec){ .disk = meta_disk_get_by_name(pool, disk), .name = name };
	cr_assert_not_null(ret->spec.disk);
	ret->change = (struct meta_switch){ .specs = &ret->spec,
					    .count = 1,
					    .err = &rig_error,
					    .switched = { .box = &ret->box, .msg.run = run_nothing },
					    .durable = { .box = &ret->box, .result = 1, .msg.run = run_nothing } };
	meta_switch_submit(pool, &ret->change);
}

static void take_end(struct meta_pool *pool, struct taking *taking)
{
	mw_step(pool, base_clock_ns());
	cr_assert_eq(taking->change.switched.result, 0, "%s", rig_error.text);
	cr_assert_eq(taking->change.durable.result, 0, "%s", rig_error.text);
	base_mailbox_run(&taking->box);
	meta_disk_put(taking->spec.disk);
}

static void take(struct meta_pool *pool, const char *disk, const char *name)
{
	struct taking taking;

	take_begin(pool, disk, name, &taking);
	take_end(pool, &taking);
}

static struct meta_snapshot *find(struct meta_pool *pool, const char *disk, const char *name)
{
	struct meta_disk *found = meta_disk_get_by_name(pool, disk);
	struct meta_snapshot *snapshot = meta_snapshot_get_by_name(found, name);

	meta_disk_put(found);
	return snapshot;
}

static void remove_snapshot(struct meta_pool *pool, const char *disk, const char *name)
{
	struct meta_snapshot *snapshot = find(pool, disk, name);

	cr_assert_not_null(snapshot);
	cr_assert_eq(meta_snapshot_remove(snapshot, &rig_error), 0, "%s", rig_error.text);
	meta_snapshot_put(snapshot);
}

static void step_background(struct meta_pool *pool)
{
	atomic_store(&pool->copy.wanted, true);
	bg_step(pool, base_clock_ns());
}

static bool has_layer(struct meta_pool *pool, uint64_t layer)
{
	struct meta_snapshot *snapshot = meta_snapshot_get_by_layer(pool, layer);

	if (snapshot)
		meta_snapshot_put(snapshot);
	return snapshot;
}

Test(meta_snapshots, one_is_found_by_its_layer_at_every_step_of_a_fold_into_the_store_below)
{
	struct meta_pool *pool = rig_open(false);
	struct meta_snapshot_info info;
	struct meta_snapshot *second;

	take(pool, "a", "first");
	rig_write(pool, "a", 3, RIG_ALL); /* less than what the first one has, so it goes down */
	take(pool, "a", "second");
	second = find(pool, "a", "second");
	meta_snapshot_info(second, &info);
	struct meta_store *before = meta_io_snapshot_store(second);
	remove_snapshot(pool, "a", "first");
	for (unsigned i = 0; i < 200 && !bg_is_idle(pool); i++) {
		step_background(pool);
		cr_assert(has_layer(pool, info.layer), "step %u, after BG", i);
		mw_step(pool, base_clock_ns());
		cr_assert(has_layer(pool, info.layer), "step %u, after MW", i);
	}
	cr_expect(bg_is_idle(pool), "the fold has not ended");
	cr_expect_neq(meta_io_snapshot_store(second), before, "it went up: that is another case");
	meta_snapshot_put(second);
	rig_close(pool);
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_nothing());
}

/* Without room its name would go again, and with the name what keeps the layer there for who has it open. */
Test(meta_snapshots, one_is_not_opened_before_it_is_durable)
{
	struct meta_pool *pool = rig_open(false);
	struct taking taking;

	rig_write(pool, "b", 100, RIG_ALL);
	take_begin(pool, "b", "now", &taking);
	base_mailbox_run(&pool->mw_box); /* the switch, and not yet its commit */
	struct meta_snapshot *snapshot = find(pool, "b", "now");
	cr_assert_not_null(snapshot);
	cr_expect_eq(meta_snapshot_open(snapshot, &rig_error), -ENOENT);
	take_end(pool, &taking);
	cr_assert_eq(meta_snapshot_open(snapshot, &rig_error), 0, "%s", rig_error.text);
	meta_snapshot_close(snapshot);
	meta_snapshot_put(snapshot);
	rig_close(pool);
}

/* After a commit that could not switch the restart log: what was freed goes with the next one, which nobody else may
 * ever ask for. */
Test(meta_snapshots, a_commit_that_could_not_switch_the_log_is_followed_by_another)
{
	struct meta_pool *pool = rig_open(false);
	struct base_mailbox box;
	struct meta_wait wait = { .box = &box, .msg.run = run_nothing };

	base_mailbox_init(&box, wake_nobody, NULL);
	cr_assert(restart_switch(pool->log), "as by a commit that found no room then");
	rig_discard(pool, "b", 1);
	meta_wait_commit(pool, &wait);
	uint64_t now = base_clock_ns(), again = mw_step(pool, now);
	cr_assert_eq(wait.result, 0);
	cr_expect_null(space_oldest_batch(&pool->space));
	cr_expect(again != 0 && again <= now, "the metadata thread sleeps");
	mw_step(pool, now);
	cr_expect_not_null(space_oldest_batch(&pool->space), "what was freed is not on its way");
	base_mailbox_run(&box);
	rig_close(pool);
}

/* ---- a trim that was given up ----------------------------------------------------------------------- */

static struct meta_pool *meta;
static struct ioc_pool *ioc;

static void open_both(void)
{
	struct ioc_pool_args args = { .engine = "threads", .queues = 1 };

	meta = rig_open(true);
	rig_require(ioc_pool_open(meta, &args, &ioc, &rig_error) == 0, "starting the queues");
}

static void close_both(void)
{
	ioc_pool_close(ioc);
	rig_close(meta);
}

static void resize(const char *name, uint64_t bytes)
{
	struct meta_disk *disk = meta_disk_get_by_name(meta, name);
	struct ioc_request req = { .op = IOC_OP_RESIZE, .offset = bytes };

	cr_assert_eq(ioc_disk_open(ioc, disk, &req.bd, &rig_error), 0, "%s", rig_error.text);
	cr_assert_eq(ioc_bd_call(ioc, &req), 0);
	ioc_disk_close(req.bd);
	meta_disk_put(disk);
}

static void rig_take(const char *name, const char *snapshot)
{
	struct ioc_snapshot_spec spec = { .disk = meta_disk_get_by_name(meta, name), .name = snapshot };

	cr_assert_eq(ioc_snapshot_create(ioc, &spec, 1, NULL, &rig_error), 0, "%s", rig_error.text);
	meta_disk_put(spec.disk);
}

/* Disk a with a snapshot and, above that, a leaf that can't be read behind the end that a shrink gives it. */
static void damage_leaf_behind_the_end(void)
{
	open_both();
	rig_take("a", "base");
	close_both();
	meta = rig_open(false);
	rig_write(meta, "a", 5000 * LEAF_CHUNKS, RIG_ALL);
	rig_require(meta_pool_commit(meta) == 0, "a commit");
	rig_close(meta);
	rig_require(rig_flip_bit(DB_MAP, 4, false), "a fifth leaf"); /* three of a, one of b; the head's is the last */
	open_both();
	resize("a", MIB);
}

Test(meta_snapshots, a_rollback_does_not_wait_for_a_trim_that_was_given_up)
{
	damage_leaf_behind_the_end();
	struct meta_disk *disk = meta_disk_get_by_name(meta, "a");
	struct meta_snapshot *base = find(meta, "a", "base");

	cr_expect_lt(meta_disk_rollback(disk, base, &rig_error), 0);
	cr_expect(strstr(rig_error.text, "made shorter"), "%s", rig_error.text);
	meta_snapshot_put(base);
	meta_disk_put(disk);
	close_both();
}

Test(meta_snapshots, nor_does_a_disk_that_takes_over_another)
{
	struct meta_disk_spec spec = { .name = "from" };

	damage_leaf_behind_the_end();
	struct meta_disk *disk = meta_disk_get_by_name(meta, "a");
	struct meta_snapshot *base = find(meta, "a", "base");
	cr_assert_eq(meta_snapshot_clone(base, &spec, NULL, &rig_error), 0, "%s", rig_error.text);
	struct meta_disk *from = meta_disk_get_by_name(meta, "from");
	cr_expect_lt(meta_disk_take_over(disk, from, &rig_error), 0);
	cr_expect(strstr(rig_error.text, "made shorter"), "%s", rig_error.text);
	meta_disk_put(from);
	meta_snapshot_put(base);
	meta_disk_put(disk);
	close_both();
}
