/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to a pool that somebody should be told of: alarms, holds, a
 * failure, a full pv, disks that come and go.
 *
 * Events have successive numbers and lie in a ring of META_EVENTS_KEPT. Whoever
 * tells an event never waits and allocates nothing; a follower has a cursor of
 * his own and is told how many he has missed. What matters (not the coming and
 * going of disks) is a line in the log too.
 *
 * Context: any thread. meta_event_wait blocks.
 */
#ifndef META_EVENT_H
#define META_EVENT_H

#include "base/types.h"
#include "meta/pool.h"

#define META_EVENTS_KEPT 512

/* Each pair: the state began, the state ended. */
enum meta_event_kind {
	META_EVENT_THRESHOLD_RAISED, /* value: percent free, limit: the threshold */
	META_EVENT_THRESHOLD_CLEARED,
	META_EVENT_OVERCOMMIT_RAISED, /* value: percent over-committed, limit: the threshold */
	META_EVENT_OVERCOMMIT_CLEARED,
	META_EVENT_METADATA_LOW, /* value: bytes left on the file system of the metadata */
	META_EVENT_METADATA_OK,
	META_EVENT_HOLD_BEGIN,   /* subject: the disk whose write was first; limit: seconds */
	META_EVENT_HOLD_END,     /* value: milliseconds that it took */
	META_EVENT_PV_FULL,      /* subject: path of the pv */
	META_EVENT_POOL_FAILED,  /* subject: why */
	META_EVENT_POOL_GROWN,   /* value: bytes of the pool now */
	META_EVENT_DISK_CREATED, /* subject: the disk; value: its size in bytes */
	META_EVENT_DISK_REMOVED,
	META_EVENT_DISK_RENAMED, /* subject: the new name */
	META_EVENT_DISK_RESIZED, /* value: its size in bytes */
	META_EVENT_KINDS
};

struct meta_event {
	uint64_t number; /* from 1 on, since the pool was opened */
	uint64_t when_s; /* since the epoch */
	enum meta_event_kind kind;
	char subject[256]; /* NUL-terminated, may be cut short */
	uint64_t value, limit;
};

const char *meta_event_kind_to_text(enum meta_event_kind kind);
/* Whether it concerns the administrator, as against a protocol of what was done. */
bool meta_event_is_alarm(enum meta_event_kind kind);

/* The cursor of a follower who wants what comes from now on; 0 is one who wants what there still is. */
uint64_t meta_event_cursor(struct meta_pool *pool);
enum { META_EVENT_NONE = 1 };
/* Return: 0 with the next event and in *ret_lost how many were missed before it; META_EVENT_NONE. */
int meta_event_next(struct meta_pool *pool, uint64_t *cursor, struct meta_event *ret, uint64_t *ret_lost);
/* Until there is something at the cursor, at most timeout_ns. */
void meta_event_wait(struct meta_pool *pool, uint64_t cursor, uint64_t timeout_ns);

#endif
