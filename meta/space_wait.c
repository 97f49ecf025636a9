/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits for space, and for how long. All of it runs on MW.
 *
 * A request that finds no chunk (or a thick disk that can't be promised its
 * growth, or a write that needs metadata where that is short) gives back all it
 * has and waits here. As long as something that was freed is still on its way
 * (dirty, in a batch, in a background job) a commit is made and it waits for the
 * background. When nothing is on its way the pool's policy decides:
 *
 *   error   -ENOSPC at once
 *   hold    it stays, *held*, until there is what it asks for, or its time is up
 *
 * A held request has nothing of the pool: no chunk, no epoch, no stripe, no log
 * slot. So reads, overwrites, discards and deletes go on, on its own disk too,
 * and each of them, like a pv that is added or grows, may free what it waits
 * for. What it does have is its front end's memory, and so holds are bounded:
 * HELD_MAX requests, HELD_BYTES_MAX bytes, and what the front end says
 * (may_hold). Who comes beyond that gets -ENOSPC.
 *
 * The clock of a request runs from the first time it is held, however often it
 * is woken and finds that another was quicker.
 *
 * States of a waiter:   waiting -> held -> answered
 *                              \-----------^
 *
 * Who ends a hold early: a change of the policy, meta_hold_end (umount, a reset
 * device), meta_hold_stop (the pool is about to be closed), a failed pool.
 * Waiters are answered in the order in which they came.
 *
 * A pv that says ENOSPC itself (a sparse file on a full host) sends no message
 * when it has room again. Writes that met that are tried again every second.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "meta/internal.h"

#define HELD_MAX 512
#define HELD_BYTES_MAX (256 * MIB)
/* A full pv is asked again after this time, and space that was granted and not taken up is granted anew. */
#define PV_RETRY_NS UINT64_C(1000000000)
#define REGRANT_NS UINT64_C(10000000)

void space_hasten(struct meta_pool *pool)
{
	/* What is coming may wait for a copy of the metadata. */
	atomic_store(&pool->copy.wanted, true);
	base_park_wake(&pool->bg_park);
}

/* ---- arriving ----------------------------------------------------------------------------- */

static void run_space_wait(struct base_msg *to_meta)
{
	struct meta_wait *wait = container_of(to_meta, struct meta_wait, to_meta);
	struct meta_wait **at = &wait->pool->space_waiters;

	while (*at)
		at = &(*at)->next;
	wait->next = NULL;
	wait->held = false;
	wait->retry_at_ns = 0;
	*at = wait;
}

void meta_wait_space(struct meta_disk *disk, struct meta_wait *wait)
{
	struct meta_pool *pool = disk->pool;

	wait->pool = pool;
	wait->disk = disk;
	wait->hold_epoch = atomic_load(&pool->hold_epoch) + atomic_load(&disk->hold_epoch);
	wait->to_meta.run = run_space_wait;
	base_mailbox_post(&pool->mw_box, &wait->to_meta);
}

void meta_hold_end(struct meta_pool *pool, struct meta_disk *disk)
{
	atomic_fetch_add(disk ? &disk->hold_epoch : &pool->hold_epoch, 1);
	base_park_wake(&pool->mw_park);
}

void meta_hold_stop(struct meta_pool *pool)
{
	atomic_store(&pool->hold_stopped, true);
	base_park_wake(&pool->mw_park);
}

/* ---- before a promise --------------------------------------------------------------------- */

#define AWAIT_NS (5 * UINT64_C(1000000000))
#define AWAIT_STEP_NS UINT64_C(10000000)

int meta_pool_await_space(struct meta_pool *pool, uint64_t bytes, struct base_error *err)
{
	uint64_t until_ns = base_clock_ns() + AWAIT_NS, chunks = bytes / CHUNK_BYTES + (bytes % CHUNK_BYTES != 0);
	struct space_claim probe = { 0 };

	for (;;) {
		catalog_recall_windows(pool);
		int rc = meta_pool_commit(pool);
		if (rc < 0)
			return base_error_set_errno(err, rc, "no commit before space could be reserved");
		if (pool->no_threads || space_claim_fits(&pool->space, &probe, chunks) || bg_is_idle(pool) ||
		    base_clock_ns() >= until_ns)
			return 0;
		space_hasten(pool);
		meta_event_wait(pool, UINT64_MAX, AWAIT_STEP_NS); /* never comes: a pause */
	}
}

/* ---- what is there, and what is coming ---------------------------------------------------- */

bool space_wait_has_new(struct meta_pool *pool)
{
	for (struct meta_wait *wait = pool->space_waiters; wait; wait = wait->next)
		if (!wait->held)
			return true;
	return false;
}

static bool something_is_coming(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->space.lock);
	bool coming = pool->space.open->count > 0 || pool->space.returning > 0;
	pthread_mutex_unlock(&pool->space.lock);
	return coming || !bg_is_idle(pool);
}

/* granted: what others were told to take in this turn and have not taken yet. */
static bool has_what_it_needs(struct meta_wait *wait, uint64_t granted)
{
	struct space *space = &wait->pool->space;

	if (wait->needs_metadata && reserve_is_short(wait->pool))
		return false;
	if (wait->claim_bytes)
		return space_claim_fits(space, &meta_io_store(wait->disk)->claim,
					catalog_goal_chunks(atomic_load(&wait->disk->kind), wait->claim_bytes) +
						granted);
	return wait->chunks == 0 || space_available(space, &meta_io_store(wait->disk)->claim) >= wait->chunks + granted;
}

/* ---- holding ------------------------------------------------------------------------------ */

static uint64_t hold_limit_ns(const struct meta_pool *pool)
{
	uint64_t limit_s = pool->record.hold_limit_s ? pool->record.hold_limit_s : META_HOLD_LIMIT_DEFAULT_S;

	return limit_s * UINT64_C(1000000000);
}

static bool may_be_held(struct meta_pool *pool, struct meta_wait *wait, uint64_t now_ns)
{
	if (pool->record.full_policy != META_FULL_HOLD || !wait->may_hold || atomic_load(&pool->hold_stopped) ||
	    wait->hold_epoch != atomic_load(&pool->hold_epoch) + atomic_load(&wait->disk->hold_epoch))
		return false;
	if (wait->held_since_ns && now_ns >= wait->held_since_ns + hold_limit_ns(pool))
		return false;
	return wait->held || (atomic_load(&pool->held_writes) < HELD_MAX &&
			      atomic_load(&pool->held_bytes) + wait->bytes <= HELD_BYTES_MAX);
}

static void begin_hold(struct meta_pool *pool, struct meta_wait *wait, uint64_t now_ns)
{
	if (wait->held)
		return;
	wait->held = true;
	if (!wait->held_since_ns)
		wait->held_since_ns = now_ns;
	atomic_fetch_add(&pool->held_bytes, wait->bytes);
	if (atomic_fetch_add(&pool->held_writes, 1) == 0)
		event_hold(pool, wait->disk, true);
}

/* wait may be gone when this returns. */
static void answer(struct meta_pool *pool, struct meta_wait *wait, int result)
{
	if (wait->held) {
		atomic_fetch_sub(&pool->held_writes, 1);
		atomic_fetch_sub(&pool->held_bytes, wait->bytes);
	}
	wait->held = false;
	wait_post(wait, result);
}

static bool wants_retry(struct meta_wait *wait, uint64_t now_ns)
{
	if (!wait->pv_full)
		return false;
	if (!wait->retry_at_ns)
		wait->retry_at_ns = now_ns + PV_RETRY_NS;
	return now_ns >= wait->retry_at_ns;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	if (a == 0 || b == 0)
		return a ? a : b;
	return MIN(a, b);
}

struct turn {
	struct meta_pool *pool;
	uint64_t now_ns, granted, again_ns;
	bool coming;
};

/* True: answered. */
static bool judge(struct turn *turn, struct meta_wait *wait)
{
	bool goes = wait->pv_full ? wants_retry(wait, turn->now_ns) : has_what_it_needs(wait, turn->granted);

	if (goes) {
		turn->granted += wait->chunks;
		answer(turn->pool, wait, 0);
		return true;
	}
	if (!wait->pv_full && !wait->held && (turn->coming || turn->granted))
		return false;
	if (!may_be_held(turn->pool, wait, turn->now_ns)) {
		answer(turn->pool, wait, -ENOSPC);
		return true;
	}
	begin_hold(turn->pool, wait, turn->now_ns);
	turn->again_ns = earlier(turn->again_ns, wait->held_since_ns + hold_limit_ns(turn->pool));
	turn->again_ns = earlier(turn->again_ns, wait->retry_at_ns);
	return false;
}

uint64_t space_wait_turn(struct meta_pool *pool, uint64_t now_ns)
{
	struct turn turn = { .pool = pool, .now_ns = now_ns };
	bool was_holding = atomic_load(&pool->held_writes) > 0;

	if (!pool->space_waiters)
		return 0;
	turn.coming = pool_is_dirty(pool) || something_is_coming(pool);
	for (struct meta_wait **at = &pool->space_waiters; *at;) {
		struct meta_wait *wait = *at, *next = wait->next; /* the waiter may be gone once it is answered */
		if (judge(&turn, wait))
			*at = next;
		else
			at = &wait->next;
	}
	if (was_holding && atomic_load(&pool->held_writes) == 0)
		event_hold(pool, NULL, false);
	if (pool->space_waiters && turn.coming)
		space_hasten(pool);
	if (pool->space_waiters && turn.granted)
		turn.again_ns = earlier(turn.again_ns, now_ns + REGRANT_NS);
	return turn.again_ns;
}

void space_wait_fail(struct meta_pool *pool, int result)
{
	bool was_holding = atomic_load(&pool->held_writes) > 0;

	while (pool->space_waiters) {
		struct meta_wait *wait = pool->space_waiters;
		pool->space_waiters = wait->next;
		answer(pool, wait, result);
	}
	if (was_holding)
		event_hold(pool, NULL, false);
}
