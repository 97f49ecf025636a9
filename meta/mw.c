/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata thread (MW): the only LMDB writer.
 *
 * It gets messages: flushes, requests for a commit or for space, catalogue
 * calls. A step runs the mailbox and then does at most one of: a commit (which
 * syncs too, and so serves every flush that arrived before it began), or a plain
 * sync for flushes of disks whose map has not changed. Catalogue calls run as
 * they come, each in a transaction of its own.
 *
 * When is a commit due: somebody waits for one; a flush waits whose disk has
 * map changes that are not durable; 10,000 leaves are dirty; the restart log is
 * half full; or something has been dirty for a second. An idle pool has no
 * deadline, so an idle daemon sleeps.
 *
 * MW never waits for a request: whoever waits is a message that is posted when
 * the time has come.
 *
 * Who finds no space waits with MW too: space_wait.c. Whether the metadata's file
 * system has room, and which alarms are on, is looked at after each change:
 * reserve.c, alert.c.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/planted.h"
#include "meta/internal.h"

/* After ENOSPC from the metadata's file system the commit is tried again at this interval. */
#define RETRY_INTERVAL_NS UINT64_C(200000000)

void wait_post(struct meta_wait *wait, int result)
{
	wait->result = result;
	base_mailbox_post(wait->box, &wait->msg);
}

void wait_post_all(struct meta_wait **list, int result)
{
	struct meta_wait *wait = *list;

	*list = NULL;
	while (wait) {
		struct meta_wait *next = wait->next; /* the waiter may be gone once it is posted */
		wait_post(wait, result);
		wait = next;
	}
}

/* ---- messages ----------------------------------------------------------------------------- */

static void push_wait(struct meta_wait **list, struct base_msg *to_meta)
{
	struct meta_wait *wait = container_of(to_meta, struct meta_wait, to_meta);

	wait->next = *list;
	*list = wait;
}

static void run_flush(struct base_msg *to_meta)
{
	push_wait(&container_of(to_meta, struct meta_wait, to_meta)->pool->flushes, to_meta);
}

static void run_commit_wait(struct base_msg *to_meta)
{
	push_wait(&container_of(to_meta, struct meta_wait, to_meta)->pool->commit_waiters, to_meta);
}

static void to_mw(struct meta_pool *pool, struct meta_wait *wait, void (*run)(struct base_msg *to_meta))
{
	wait->pool = pool;
	wait->to_meta.run = run;
	base_mailbox_post(&pool->mw_box, &wait->to_meta);
}

void meta_flush_submit(struct meta_flush *flush)
{
	to_mw(flush->disk->pool, &flush->wait, run_flush);
}

void meta_wait_commit(struct meta_pool *pool, struct meta_wait *wait)
{
	to_mw(pool, wait, run_commit_wait);
}

/* ---- catalogue calls ---------------------------------------------------------------------- */

static int call_in_txn(struct mw_call *call)
{
	struct meta_pool *pool = call->pool;
	struct meta_pool_record rec = pool->record;
	struct db_txn *txn;

	int rc = pool_failed_code(pool);
	if (rc < 0)
		return base_error_set(call->err, -EROFS,
				      "the pool has failed (%s): no changes until it is opened again",
				      pool->failed_why);
	rc = db_write_begin(pool->env, &txn);
	if (rc < 0)
		return base_error_set_errno(call->err, rc, "can't begin a metadata transaction");
	call->record = &rec;
	rc = call->fn(call, txn);
	rec.commit++;
	if (rc == 0)
		rc = catalog_put_pool(pool, txn, &rec);
	if (rc != 0) {
		db_write_abort(txn);
		return rc;
	}
	rc = db_write_commit(txn);
	if (rc < 0 && call->undone)
		call->undone(call);
	call->no_room = rc == -ENOSPC;
	if (rc == -ENOMEM)
		return base_error_set_errno(call->err, rc, "no memory for a metadata commit");
	if (rc == -ENOSPC)
		return base_error_set_errno(call->err, rc, "the file system that holds the metadata (%s) is full",
					    pool->dir);
	if (rc < 0) {
		pool_fail(pool, rc, "a metadata commit failed");
		return base_error_set_errno(call->err, rc, "the metadata commit failed");
	}
	pthread_mutex_lock(&pool->catalog_lock);
	pool->record = rec;
	if (call->applied)
		call->applied(call);
	pthread_mutex_unlock(&pool->catalog_lock);
	changed_write(pool);
	base_park_wake(&pool->bg_park); /* a copy of the metadata may be due */
	return 0;
}

static void run_call(struct base_msg *msg)
{
	struct mw_call *call = container_of(msg, struct mw_call, msg);
	struct meta_pool *pool = call->pool;

	/* Heads that are not durable yet come first: the commit is made before the mailbox is run again. */
	if (pool->switches && pool_failed_code(pool) == 0) {
		if (call->deferred_until == 0)
			call->deferred_until = pool->commit_attempts + 1;
		if (pool->commit_attempts < call->deferred_until) {
			base_mailbox_post(&pool->mw_box, &call->msg);
			return;
		}
	}
	if (pool->switches && pool_failed_code(pool) == 0)
		call->result = base_error_set(call->err, -ENOSPC,
					      "the file system that holds the metadata (%s) is full", pool->dir);
	else
		call->result = call_in_txn(call);
	if (call->no_room && call->may_use_reserve && reserve_spend(call->pool))
		call->result = call_in_txn(call);
	else if (call->no_room)
		reserve_look(pool);
	pool->alert_due = true;
	if (call->finished) {
		call->finished(call);
		return;
	}
	call->ended = true;
	base_park_wake(&call->done);
}

void mw_call_post(struct meta_pool *pool, struct mw_call *call)
{
	call->pool = pool;
	call->msg.run = run_call;
	base_mailbox_post(&pool->mw_box, &call->msg);
}

int mw_call_wait(struct meta_pool *pool, struct mw_call *call)
{
	if (pool->read_only)
		return base_error_set(call->err, -EROFS, "the pool is open read-only");
	call->finished = NULL;
	call->deferred_until = 0;
	call->ended = false;
	base_park_init(&call->done);
	mw_call_post(pool, call);
	if (pool->no_threads)
		base_mailbox_run(&pool->mw_box);
	while (pool->no_threads && !call->ended)
		mw_step(pool, base_clock_ns());
	base_park_wait(&call->done, 0);
	base_park_done(&call->done);
	return call->result;
}

/* ---- the step ----------------------------------------------------------------------------- */

/* While the metadata's file system is nearly full: as many leaves are changed in a commit at most, or a little more,
 * since each may copy a page before an older copy is free. */
#define COMMIT_LEAVES_SHORT 128
/* More than that make a commit longer than its syncs take. */
#define VERY_DIRTY_LEAVES 1000

uint64_t pool_commit_leaves(const struct meta_pool *pool)
{
	return reserve_is_short(pool) ? COMMIT_LEAVES_SHORT : COMMIT_LEAVES;
}

bool meta_io_is_very_dirty(const struct meta_pool *pool)
{
	return atomic_load(&pool->dirty_count) >= VERY_DIRTY_LEAVES || restart_percent_used(pool->log) >= 25;
}

bool pool_is_dirty(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->dirty_lock);
	bool dirty = pool->dirty_leaves || pool->dirty_sizes;
	pthread_mutex_unlock(&pool->dirty_lock);
	return dirty;
}

/* Freed chunks can sit in the open batch without a dirty leaf: those of failed writes. */
static bool frees_wait_for_commit(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->space.lock);
	bool waiting = pool->space.open->count > 0;
	pthread_mutex_unlock(&pool->space.lock);
	return waiting;
}

static bool a_flush_needs_a_commit(struct meta_pool *pool)
{
	uint64_t durable = atomic_load(&pool->commit_durable);

	for (struct meta_wait *wait = pool->flushes; wait; wait = wait->next)
		if (atomic_load(&container_of(wait, struct meta_flush, wait)->disk->changed_in) > durable)
			return true;
	return false;
}

static bool timer_is_due(struct meta_pool *pool, uint64_t now_ns)
{
	uint64_t since = atomic_load(&pool->dirty_since_ns);

	return since != 0 && now_ns >= since + COMMIT_INTERVAL_NS;
}

static bool commit_is_due(struct meta_pool *pool, uint64_t now_ns)
{
	return pool->commit_waiters || atomic_load(&pool->commit_forced) || a_flush_needs_a_commit(pool) ||
	       atomic_load(&pool->dirty_count) >= pool_commit_leaves(pool) || restart_percent_used(pool->log) >= 50 ||
	       timer_is_due(pool, now_ns) || (pool->space_waiters && frees_wait_for_commit(pool)) ||
	       (space_wait_has_new(pool) && pool_is_dirty(pool));
}

/* Answers everybody, since nothing will be written any more. */
static void answer_failed(struct meta_pool *pool)
{
	wait_post_all(&pool->flushes, -EIO);
	wait_post_all(&pool->commit_waiters, -EIO);
	space_wait_fail(pool, -EIO);
}

static void do_commit(struct meta_pool *pool, uint64_t now_ns)
{
	struct meta_wait *flushes = pool->flushes, *waiters = pool->commit_waiters;

	pool->flushes = pool->commit_waiters = NULL;
	atomic_store(&pool->commit_forced, false);
	pool->retry_at_ns = 0;
	if (planted(BUG_ANSWER_BEFORE_COMMIT))
		wait_post_all(&flushes, 0);
	int rc = commit_run(pool);
	if (rc == -ENOSPC && reserve_spend(pool))
		rc = commit_run(pool);
	reserve_look(pool);
	pool->alert_due = true;
	if (rc == -ENOSPC || rc == -ENOMEM) {
		log_warning("metadata commit put off: %s; trying again", strerror(-rc));
		pool->retry_at_ns = now_ns + RETRY_INTERVAL_NS;
		if (pool->switches)
			atomic_store(&pool->commit_forced, true);
	}
	wait_post_all(&flushes, rc);
	wait_post_all(&waiters, rc);
}

static void do_sync(struct meta_pool *pool)
{
	struct meta_wait *flushes = pool->flushes;

	pool->flushes = NULL;
	if (planted(BUG_ANSWER_BEFORE_COMMIT))
		wait_post_all(&flushes, 0);
	int rc = pool_sync_pvs(pool);
	wait_post_all(&flushes, rc < 0 ? -EIO : 0);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	if (a == 0 || b == 0)
		return a ? a : b;
	return MIN(a, b);
}

static void nothing_to_commit(struct meta_pool *pool)
{
	atomic_store(&pool->dirty_since_ns, 0);
	atomic_store(&pool->commit_forced, false);
}

uint64_t mw_step(struct meta_pool *pool, uint64_t now_ns)
{
	base_mailbox_run(&pool->mw_box);
	if (pool_failed_code(pool) < 0) {
		answer_failed(pool);
		return 0;
	}
	if (space_wait_has_new(pool))
		catalog_recall_windows(pool);
	if (commit_is_due(pool, now_ns) && now_ns >= pool->retry_at_ns) {
		if (pool_is_dirty(pool) || frees_wait_for_commit(pool) || pool->commit_waiters || pool->flushes ||
		    pool->switches)
			do_commit(pool, now_ns);
		else
			nothing_to_commit(pool);
	} else if (pool->flushes && !a_flush_needs_a_commit(pool)) {
		do_sync(pool);
	}
	uint64_t again = reserve_turn(pool, now_ns);
	again = earlier(again, space_wait_turn(pool, now_ns));
	if (pool->alert_due)
		alert_turn(pool, now_ns);
	pool->alert_due = false;
	if (pool_failed_code(pool) < 0)
		answer_failed(pool);
	if (pool->retry_at_ns > now_ns)
		return earlier(again, pool->retry_at_ns);
	if (atomic_load(&pool->commit_forced)) /* by this step's own commit: one more is needed */
		return now_ns;
	uint64_t since = atomic_load(&pool->dirty_since_ns);
	return earlier(again, earlier(since ? since + COMMIT_INTERVAL_NS : 0, pool->retry_at_ns));
}

/* ---- the thread --------------------------------------------------------------------------- */

static void *mw_main(void *arg)
{
	struct meta_pool *pool = arg;

	while (!atomic_load(&pool->mw_stop) || !base_mailbox_is_empty(&pool->mw_box)) {
		uint64_t now = base_clock_ns();
		uint64_t deadline = mw_step(pool, now);
		if (!base_mailbox_is_empty(&pool->mw_box))
			continue;
		base_park_wait(&pool->mw_park, deadline ? MAX(deadline, now + 1000) : 0);
	}
	return NULL;
}

int mw_start(struct meta_pool *pool)
{
	return base_thread_start(&pool->mw_thread, "bdfs-meta", mw_main, pool);
}

void mw_stop(struct meta_pool *pool)
{
	atomic_store(&pool->mw_stop, true);
	base_park_wake(&pool->mw_park);
	pthread_join(pool->mw_thread, NULL);
}
