/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The restart log: how the death of the daemon alone loses no completed write.
 *
 * A memory-mapped file `restart` in the pool's directory. It is never synced:
 * the kernel keeps its pages when the process dies, which is all it is for; a
 * power cut is the commit's business. It is tagged with the boot id, the pool's
 * generation and the instance of each pv, and ignored when any differs.
 *
 * Two segments of fixed-size slots. A record holds the whole new state of one
 * map entry (or one disk's new size), so replay is idempotent and only the last
 * record of an entry counts. A slot carries its segment's sequence number and a
 * checksum: a torn one is skipped and does not end the replay.
 *
 * A writer reserves slots before it starts device I/O (so that the append on
 * completion can't fail), appends under the lock of the leaf or disk that it
 * changes, changes the map, and says so with restart_append_end(). A commit
 * switches segments before it copies, then waits until every append of the old
 * segment has ended: what the old segment says is then in the map, so in the
 * copy. When the commit is durable it drops the old segment.
 *
 * Context: reserve, append: any thread. switch, drop: MW.
 */
#ifndef META_RESTART_H
#define META_RESTART_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/types.h"

#define RESTART_SLOTS 131072 /* a segment: 8 MiB. At most this many map changes between two commits */

enum restart_kind {
	RESTART_ENTRY = 1, /* the entry at `at` of store `id` is `value` */
	RESTART_SIZE = 2,  /* disk `id`, resized `at` times, is `value` bytes long */
	RESTART_HEAD = 3,  /* disk `id` has a new head above its old one: layer `at`, store `at` + 1, overlap `value` */
	RESTART_MOVE = 4,  /* the entry at `at` of store `id` is `value`, and that of store `from` is 0 */
};

struct restart_record {
	uint32_t kind;
	uint64_t id;    /* store id, or disk number */
	uint64_t at;    /* chunk of the disk, or the disk's resize count */
	uint64_t value; /* the entry, or the size in bytes */
	uint64_t from;  /* store id, of a move; else 0 */
};

/* What the log is tied to. */
struct restart_tag {
	struct base_uuid pool;
	struct base_uuid boot;
	uint64_t generation;
	uint64_t pv_instances; /* checksum over the instances of all pvs, in order */
};

struct restart_log;

/*
 * Replays what the file holds, if it is of this tag and not marked as failed, in order, through fn
 * (a non-zero return of fn ends it and is returned). Runs before restart_open.
 * ret_records: how many were replayed. ret_why: a static text when there was nothing to replay though the pool was
 * not clean.
 */
MUST_CHECK int restart_replay(const char *dir, const struct restart_tag *tag,
			      int (*fn)(const struct restart_record *rec, void *ctx), void *ctx,
			      uint64_t *ret_records, const char **ret_why);

/* Makes the log new and empty under this tag. Its space is allocated, so that a full file system can't hurt it later.
 */
MUST_CHECK int restart_open(const char *dir, const struct restart_tag *tag, struct restart_log **ret,
			    struct base_error *err);
void restart_close(struct restart_log *log);

/* Reserves n slots. False: no room before the next commit; give everything back, wait for it, come again. */
bool restart_reserve(struct restart_log *log, uint32_t n);
/* Gives n reserved slots back unused. */
void restart_unreserve(struct restart_log *log, uint32_t n);
/* Uses one reserved slot. Under the lock of what is changed. Returns a token for restart_append_end. */
unsigned restart_append(struct restart_log *log, const struct restart_record *rec);
/* The change is in the map and on the dirty list. Still under the lock. */
void restart_append_end(struct restart_log *log, unsigned token);

/* Share of the segment in use, 0..100; a commit is worth starting at 50. */
unsigned restart_percent_used(struct restart_log *log);

/*
 * Begins a new segment and waits for the appends of the old one. When the segment before that could not be
 * dropped yet (its commit failed for space), nothing is switched and only the appends are waited for.
 * Returns whether it switched.
 */
bool restart_switch(struct restart_log *log);
/* The commit that began with the last switch is durable. */
void restart_drop_old(struct restart_log *log);
/* A data sync failed: the next open does not replay this log, and says so. */
void restart_mark_failed(struct restart_log *log);
bool restart_is_marked_failed(struct restart_log *log);
/* The same for the log in dir, before one is opened: the sync at the end of its replay failed. */
void restart_void(const char *dir);

/* This boot's id, from /proc/sys/kernel/random/boot_id; all zero where there is none. Return: 0; negative errno: there
 * is one, and it can't be read. */
MUST_CHECK int restart_boot_id(struct base_uuid *ret);

#endif
