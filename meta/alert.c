/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Alarms of space, and how fast it goes. On MW, after every commit and every
 * change of the catalogue: nothing else changes what is judged here, so an idle
 * pool costs nothing.
 *
 * Two levels, each with a threshold of its own (0 = not watched):
 *
 *   threshold    the share of the pool that is free, in percent, is below it
 *   overcommit   the disks' sizes exceed the pool's by more than it, in percent of the pool
 *
 * Each is a state. It is told once when it begins and once when it ends; a pool
 * that is opened in such a state tells it once.
 *
 * The rate: how many chunks were in use at the start of each of the last
 * RATE_SLOTS seconds in which something changed. Between two entries nothing
 * changed, so what was in use RATE_WINDOW_NS ago is what the last entry before
 * that says.
 */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/park.h"
#include "meta/event.h"
#include "meta/internal.h"

#define RATE_WINDOW_NS (600 * UINT64_C(1000000000))
#define RATE_STEP_NS UINT64_C(1000000000)

static uint64_t percent_free(const struct meta_pool_info *info)
{
	return info->total_chunks ? info->free_chunks * 100 / info->total_chunks : 100;
}

static uint64_t percent_over(const struct meta_pool_info *info)
{
	uint64_t total = info->total_chunks * CHUNK_BYTES;

	return total && info->virtual_bytes > total
		       ? (uint64_t)((__uint128_t)(info->virtual_bytes - total) * 100 / total)
		       : 0;
}

static void set_level(struct meta_pool *pool, bool *level, bool on, enum meta_event_kind raised, uint64_t value,
		      uint64_t limit)
{
	if (*level == on)
		return;
	*level = on;
	event_tell(pool, on ? raised : raised + 1, pool->record.name, value, limit);
	if (raised == META_EVENT_THRESHOLD_RAISED)
		log_warning("pool %s: %" PRIu64 " %% are free, %s the threshold of %" PRIu64 " %%", pool->record.name,
			    value, on ? "below" : "no longer below", limit);
	else
		log_warning("pool %s: over-committed by %" PRIu64 " %%, %s the threshold of %" PRIu64 " %%",
			    pool->record.name, value, on ? "above" : "no longer above", limit);
}

static void judge_levels(struct meta_pool *pool)
{
	const struct meta_pool_record *rec = &pool->record;
	struct meta_pool_info info = { 0 };

	if (!rec->free_threshold_percent && !rec->overcommit_threshold_percent && !pool->alert_free &&
	    !pool->alert_over)
		return;
	pool_space_figures(pool, &info);
	bool low = info.free_chunks * 100 < info.total_chunks * rec->free_threshold_percent;
	bool over = rec->overcommit_threshold_percent && percent_over(&info) > rec->overcommit_threshold_percent;
	set_level(pool, &pool->alert_free, low, META_EVENT_THRESHOLD_RAISED, percent_free(&info),
		  rec->free_threshold_percent);
	set_level(pool, &pool->alert_over, over, META_EVENT_OVERCOMMIT_RAISED, percent_over(&info),
		  rec->overcommit_threshold_percent);
}

/* ---- the rate ----------------------------------------------------------------------------- */

static void note_use(struct meta_pool *pool, uint64_t now_ns)
{
	struct rate *rate = &pool->rate;
	uint64_t used = atomic_load(&pool->space.mapped);

	pthread_mutex_lock(&rate->lock);
	struct rate_slot *last = &rate->slots[(rate->count + RATE_SLOTS - 1) % RATE_SLOTS];
	if (rate->count == 0 || now_ns >= last->when_ns + RATE_STEP_NS)
		rate->slots[rate->count++ % RATE_SLOTS] = (struct rate_slot){ now_ns, used };
	pthread_mutex_unlock(&rate->lock);
}

/* The slot that says what was in use at `then`, or the oldest there is. */
static const struct rate_slot *slot_at(const struct rate *rate, uint64_t then_ns)
{
	uint64_t oldest = rate->count > RATE_SLOTS ? rate->count - RATE_SLOTS : 0;
	const struct rate_slot *found = &rate->slots[oldest % RATE_SLOTS];

	for (uint64_t i = oldest; i < rate->count && rate->slots[i % RATE_SLOTS].when_ns <= then_ns; i++)
		found = &rate->slots[i % RATE_SLOTS];
	return found;
}

void alert_rate(struct meta_pool *pool, struct meta_pool_info *info)
{
	uint64_t now_ns = base_clock_ns(), used = atomic_load(&pool->space.mapped);
	struct rate *rate = &pool->rate;

	pthread_mutex_lock(&rate->lock);
	if (rate->count > 0) {
		uint64_t then_ns = now_ns > RATE_WINDOW_NS ? now_ns - RATE_WINDOW_NS : 0;
		const struct rate_slot *slot = slot_at(rate, then_ns);
		uint64_t span_ns = MAX(now_ns - MAX(slot->when_ns, then_ns), RATE_STEP_NS);
		if (used > slot->used_chunks)
			info->fill_bytes_per_s = (uint64_t)((__uint128_t)(used - slot->used_chunks) * CHUNK_BYTES *
							    UINT64_C(1000000000) / span_ns);
	}
	pthread_mutex_unlock(&rate->lock);
	info->full_in_s = UINT64_MAX;
	if (info->fill_bytes_per_s)
		info->full_in_s = info->free_chunks * CHUNK_BYTES / info->fill_bytes_per_s;
}

void alert_turn(struct meta_pool *pool, uint64_t now_ns)
{
	note_use(pool, now_ns);
	judge_levels(pool);
}

/* ---- settings ----------------------------------------------------------------------------- */

static int settings_fn(struct mw_call *call, struct db_txn *txn)
{
	const struct meta_pool_settings *settings = call->arg;

	(void)txn; /* the pool record is written with every call */
	if (settings->which & META_SET_FULL_POLICY)
		call->record->full_policy = settings->full_policy;
	if (settings->which & META_SET_HOLD_LIMIT)
		call->record->hold_limit_s = settings->hold_limit_s;
	if (settings->which & META_SET_FREE_THRESHOLD)
		call->record->free_threshold_percent = settings->free_threshold_percent;
	if (settings->which & META_SET_OVERCOMMIT_THRESHOLD)
		call->record->overcommit_threshold_percent = settings->overcommit_threshold_percent;
	return 0;
}

int meta_pool_set(struct meta_pool *pool, const struct meta_pool_settings *settings, struct base_error *err)
{
	struct mw_call call = {
		.fn = settings_fn, .arg = (void *)(uintptr_t)settings, .err = err, .may_use_reserve = true
	};

	return mw_call_wait(pool, &call);
}
