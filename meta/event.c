/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring of events, see event.h.
 *
 * One mutex, held for a copy of some 300 bytes, so that a queue thread may tell
 * an event too. Numbers only grow: an event lies at its number modulo the size
 * of the ring, and a cursor that is further behind than that has lost what lies
 * between.
 *
 * Failure modes: none. A follower that is too slow loses the oldest and knows
 * how many; the teller never notices.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/park.h"
#include "meta/event.h"
#include "meta/internal.h"

static const struct {
	const char *text;
	bool alarm;
} kinds[META_EVENT_KINDS] = {
	[META_EVENT_THRESHOLD_RAISED] = { "threshold-raised", true },
	[META_EVENT_THRESHOLD_CLEARED] = { "threshold-cleared", true },
	[META_EVENT_OVERCOMMIT_RAISED] = { "overcommit-raised", true },
	[META_EVENT_OVERCOMMIT_CLEARED] = { "overcommit-cleared", true },
	[META_EVENT_METADATA_LOW] = { "metadata-low", true },
	[META_EVENT_METADATA_OK] = { "metadata-ok", true },
	[META_EVENT_HOLD_BEGIN] = { "hold-begin", true },
	[META_EVENT_HOLD_END] = { "hold-end", true },
	[META_EVENT_PV_FULL] = { "pv-full", true },
	[META_EVENT_POOL_FAILED] = { "pool-failed", true },
	[META_EVENT_POOL_GROWN] = { "pool-grown", false },
	[META_EVENT_DISK_CREATED] = { "disk-created", false },
	[META_EVENT_DISK_REMOVED] = { "disk-removed", false },
	[META_EVENT_DISK_RENAMED] = { "disk-renamed", false },
	[META_EVENT_DISK_RESIZED] = { "disk-resized", false },
};

const char *meta_event_kind_to_text(enum meta_event_kind kind)
{
	return kinds[kind].text;
}

bool meta_event_is_alarm(enum meta_event_kind kind)
{
	return kinds[kind].alarm;
}

void events_init(struct event_ring *ring)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&ring->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&ring->more, &attr);
	pthread_condattr_destroy(&attr);
}

void event_tell(struct meta_pool *pool, enum meta_event_kind kind, const char *subject, uint64_t value,
		uint64_t limit)
{
	struct event_ring *ring = &pool->events;

	pthread_mutex_lock(&ring->lock);
	struct meta_event *event = &ring->events[++ring->last % META_EVENTS_KEPT];
	*event = (struct meta_event){
		.number = ring->last, .when_s = base_clock_wall_s(), .kind = kind, .value = value, .limit = limit
	};
	snprintf(event->subject, sizeof(event->subject), "%s", subject ? subject : "");
	pthread_cond_broadcast(&ring->more);
	pthread_mutex_unlock(&ring->lock);
}

void event_hold(struct meta_pool *pool, struct meta_disk *disk, bool begins)
{
	uint64_t now_ns = base_clock_ns();

	if (begins) {
		pool->hold_began_ns = now_ns;
		log_warning(
			"pool %s is full: writes that need space are held, disk %s first; add space with chsp -add",
			pool->record.name, disk->record.name);
		event_tell(pool, META_EVENT_HOLD_BEGIN, disk->record.name, 0, pool->record.hold_limit_s);
		return;
	}
	uint64_t took_ms = (now_ns - pool->hold_began_ns) / 1000000;
	log_info("pool %s: no write is held any more, after %llu ms", pool->record.name, (unsigned long long)took_ms);
	event_tell(pool, META_EVENT_HOLD_END, NULL, took_ms, 0);
}

uint64_t meta_event_cursor(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->events.lock);
	uint64_t last = pool->events.last;
	pthread_mutex_unlock(&pool->events.lock);
	return last;
}

int meta_event_next(struct meta_pool *pool, uint64_t *cursor, struct meta_event *ret, uint64_t *ret_lost)
{
	struct event_ring *ring = &pool->events;
	int rc = META_EVENT_NONE;

	*ret_lost = 0;
	pthread_mutex_lock(&ring->lock);
	uint64_t oldest = ring->last >= META_EVENTS_KEPT ? ring->last - META_EVENTS_KEPT + 1 : 1;
	if (*cursor + 1 < oldest) {
		*ret_lost = oldest - 1 - *cursor;
		*cursor = oldest - 1;
	}
	if (*cursor < ring->last) {
		*ret = ring->events[++*cursor % META_EVENTS_KEPT];
		rc = 0;
	}
	pthread_mutex_unlock(&ring->lock);
	return rc;
}

void meta_event_wait(struct meta_pool *pool, uint64_t cursor, uint64_t timeout_ns)
{
	uint64_t until = base_clock_ns() + timeout_ns;
	struct timespec deadline = { .tv_sec = (time_t)(until / 1000000000), .tv_nsec = (long)(until % 1000000000) };
	int rc = 0;

	pthread_mutex_lock(&pool->events.lock);
	while (pool->events.last <= cursor && rc == 0)
		rc = pthread_cond_timedwait(&pool->events.more, &pool->events.lock, &deadline);
	pthread_mutex_unlock(&pool->events.lock);
}
