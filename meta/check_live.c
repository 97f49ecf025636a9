/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: turns on the metadata thread (MW) of a pool that is in use.
 *
 * Some questions have no answer that fits into one short transaction: does any
 * of ten million leaves own this chunk; how many chunks do the million leaves of
 * this store own. On MW they have one, because MW is the one that changes maps
 * and bitmaps, and knows what it changed.
 *
 * A walk is cut into turns. A turn is a message in MW's mailbox; it works for
 * two milliseconds at most and, when there is more to do, posts itself again. MW
 * runs its mailbox and then makes at most one commit before it runs the mailbox
 * again, and a message that is posted while the mailbox is run waits for the
 * next time. So between two turns of a walk there is at most one commit, and
 * what it changed still stands in pool->work: the copies of the leaves and the
 * chunks freed and taken. The walk takes note of that, and goes on as if nothing
 * had changed behind it. Flushes and commits wait two milliseconds more while
 * such a walk is under way, and the pool's other threads not at all.
 *
 * What a walk depends on, then: that only commit_run() changes the map, index
 * and space databases; that it leaves its lists in pool->work; and that MW makes
 * one commit a step.
 *
 * The thread that runs the check waits, tells the progress, and passes a
 * cancellation on. On a pool that nobody uses it takes the turns itself.
 *
 * Failure modes: a dead environment or a failed step ends the walk; a failed
 * pool makes no more commits, and the walk simply finds nothing changed.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "meta/check_internal.h"

#define TURN_NS UINT64_C(2000000)
#define WAKE_NS UINT64_C(100000000)

struct live_run {
	struct check *check;
	check_step_fn *step;
	void *arg;
	/* MW: */
	struct base_msg msg;
	bool begun;
	uint64_t durable;
	/* lock: */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool over;
	int result;
};

bool check_turn_is_over(struct check_turn *turn)
{
	if (turn->records >= turn->check->slice_records)
		return true;
	/* The clock is asked for now and then: a leaf takes some microseconds. */
	if (turn->records % 16 == 15 && base_clock_ns() - turn->began_ns > TURN_NS)
		return true;
	turn->records++;
	return false;
}

static int take_turn(struct check *check, struct db_txn **slot, const struct commit_work *committed,
		     check_step_fn *step, void *arg)
{
	struct check_turn turn = { .check = check, .committed = committed, .began_ns = base_clock_ns() };
	int rc = db_read_begin(check->env, slot);

	if (rc < 0)
		return base_error_set_errno(check->err, rc, "can't read the metadata");
	turn.txn = *slot;
	rc = step(&turn, arg);
	db_read_end(*slot);
	return rc;
}

/* ---- on MW ------------------------------------------------------------------------------------- */

static void end_run(struct live_run *run, int result)
{
	pthread_mutex_lock(&run->lock);
	run->result = result;
	run->over = true;
	pthread_cond_signal(&run->cond);
	pthread_mutex_unlock(&run->lock); /* the last touch: run may be gone from here on */
}

static void run_turn(struct base_msg *msg)
{
	struct live_run *run = container_of(msg, struct live_run, msg);
	struct check *check = run->check;
	uint64_t durable = atomic_load(&check->pool->commit_durable);
	bool committed = run->begun && durable != run->durable;

	run->begun = true;
	run->durable = durable;
	if (check_is_cancelled(check)) {
		end_run(run, base_error_set(check->err, -ECANCELED, "the check was cancelled"));
		return;
	}
	int rc = take_turn(check, &check->mw_slot, committed ? &check->pool->work : NULL, run->step, run->arg);
	if (rc == CHECK_MORE)
		base_mailbox_post(&check->pool->mw_box, &run->msg);
	else
		end_run(run, rc);
}

/* ---- the thread that runs the check ---------------------------------------------------------------- */

static bool is_over(struct live_run *run)
{
	uint64_t until_ns = base_clock_ns() + WAKE_NS;
	struct timespec until = { .tv_sec = (time_t)(until_ns / 1000000000),
				  .tv_nsec = (long)(until_ns % 1000000000) };
	int rc = 0;

	pthread_mutex_lock(&run->lock);
	while (!run->over && rc == 0 && !run->check->pool->no_threads)
		rc = pthread_cond_timedwait(&run->cond, &run->lock, &until);
	bool over = run->over;
	pthread_mutex_unlock(&run->lock);
	return over;
}

static void init_run(struct live_run *run)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&run->cond, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&run->lock, NULL);
	run->msg.run = run_turn;
}

static int run_on_mw(struct check *check, check_step_fn *step, void *arg)
{
	struct live_run run = { .check = check, .step = step, .arg = arg };

	init_run(&run);
	base_mailbox_post(&check->pool->mw_box, &run.msg);
	do {
		if (check->pool->no_threads)
			base_mailbox_run(&check->pool->mw_box);
		else
			check_tell(check); /* a cancellation ends the turns, and those end this loop */
	} while (!is_over(&run));
	pthread_mutex_destroy(&run.lock);
	pthread_cond_destroy(&run.cond);
	return run.result;
}

static int run_here(struct check *check, check_step_fn *step, void *arg)
{
	int rc = CHECK_MORE;

	while (rc == CHECK_MORE) {
		rc = take_turn(check, &check->slot, NULL, step, arg);
		if (rc == CHECK_MORE && check_tick(check) < 0)
			rc = -ECANCELED;
	}
	return rc;
}

int check_live_run(struct check *check, check_step_fn *step, void *arg)
{
	int rc = check->live ? run_on_mw(check, step, arg) : run_here(check, step, arg);

	return rc == 0 && check_is_cancelled(check) ? check_tick(check) : rc;
}
