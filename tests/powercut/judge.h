/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the pool of a recording may hold, from the writer's marks, and the judgement on a pool that a cut has left.
 *
 * The clock is the position in the recording. A mark of a submission lies before the operation, one of a completion
 * behind it, so what the marks say about order holds for the operations too.
 *
 * Held after a cut: the metadata is clean without a repair; every disk that was made is there and every deleted one
 * is not; its size is the durable one or a later one; every sector holds its durable version or a later one, never
 * another disk's bytes, another sector's, or old ones; a pool that grew is as large.
 *
 * Of a snapshot (judge_snaps.c): one that was answered is there; those of one command all or none; it holds what the
 * disk showed at one instant between the call and its answer, and never anything else later. A rollback, a clone and
 * a receive have happened whole or not at all.
 *
 * Held by a live read: every sector holds what had completed before the read was submitted, or later.
 */
#ifndef TESTS_POWERCUT_JUDGE_H
#define TESTS_POWERCUT_JUDGE_H

#include "tests/model/oracle.h"
#include "tests/powercut/cutpool.h"

#define JUDGE_DISKS_MAX 512
#define JUDGE_SNAPS_MAX 128
#define JUDGE_SECTORS_MAX (8 * MIB / 512)
#define JUDGE_OPS_MAX 256

struct judge_size {
	uint64_t bytes, submitted, completed, durable, op;
	bool resize; /* else a write that may have made the disk longer */
};

/* What becomes of all of a disk at once: a rollback, or an incremental stream. */
struct judge_next {
	uint32_t *versions; /* NULL: nothing is under way */
	uint64_t bytes;
	uint32_t snap; /* comes with it; 0: none */
};

struct judge_disk {
	bool used;
	uint32_t id;
	struct oracle oracle;
	uint64_t created, deleting; /* positions; 0: not yet */
	struct judge_size *sizes;
	unsigned size_count, size_room;
	struct judge_next next;
};

struct judge_snap {
	uint32_t number, disk; /* number 0: none */
	uint64_t began, ended; /* when it was asked for, and answered; ended 0: not yet */
	bool removing;
	enum { SNAP_TAKEN, SNAP_RECEIVED } kind;
	uint64_t bytes;
	struct oracle oracle; /* the disk's when it was answered; .all NULL: not needed, or not yet */
	uint32_t *shadow;     /* what it holds; NULL: it was not read yet */
	uint64_t newest;      /* of the writes that it holds the last to be submitted */
};

struct judge_op {
	uint64_t op, submitted;
};

struct judge {
	struct judge_disk disks[JUDGE_DISKS_MAX];
	struct judge_snap snaps[JUDGE_SNAPS_MAX];
	struct judge_op ops[JUDGE_OPS_MAX]; /* under way */
	uint64_t chunks;                    /* that the pool has at least */
	uint64_t reads, read_sectors;       /* judged while they were live */
	char why[512];                      /* what is wrong */
};

/* Takes one mark. False: judge.why says what is wrong. */
bool judge_mark(struct judge *judge, const struct mark *mark, size_t bytes, uint64_t now);

/* Looks at what the cut has left. False: judge.why says what is wrong. Play in a child. jobs_too: looks again when
 * the background has ended its work. */
bool judge_cut(struct judge *judge, struct cutpool *pool, bool closed_first, bool jobs_too, uint64_t *ret_sectors);

/* Takes over what the pool holds now as the only possibility: the start of a recording. False: judge.why. */
bool judge_settle(struct judge *judge, struct cutpool *pool, int result_fd); /* in a child; the result goes to fd */
void judge_load(struct judge *judge, int result_fd);

/* ---- between judge.c and judge_snaps.c ---------------------------------------------------- */

typedef bool (*judge_sector_fn)(struct judge *judge, uint32_t disk, uint64_t sector, const char *buf, void *ctx);

__attribute__((format(printf, 2, 3))) bool judge_wrong(struct judge *judge, const char *fmt, ...);
struct judge_disk *judge_disk_find(struct judge *judge, uint32_t id);
/* A disk with this content; it was not there before `now`. */
struct judge_disk *judge_disk_add_as(struct judge *judge, uint32_t id, const uint32_t *versions, uint64_t bytes,
				     uint64_t now);
void judge_disk_become(struct judge_disk *disk, const uint32_t *versions, uint64_t bytes, uint64_t now);
void judge_disk_drop(struct judge_disk *disk);
/* Number in the name of a disk or snapshot; 0: not one of the writer's. */
uint32_t judge_id_of(const char *name, char letter);
bool judge_each_sector(struct judge *judge, struct cutpool *pool, struct ioc_bd *bd, const char *name, uint32_t disk,
		       uint64_t bytes, judge_sector_fn fn, void *ctx);

/* Marks of snapshots. */
bool snaps_submitted(struct judge *judge, const struct mark *mark, uint64_t now);
bool snaps_completed(struct judge *judge, const struct mark *mark, uint64_t began, uint64_t now);
void snaps_failed(struct judge *judge, const struct mark *mark);
void snaps_of_disk_gone(struct judge *judge, uint32_t disk);

/* After a cut. */
bool snaps_judge(struct judge *judge, struct cutpool *pool, uint64_t *ret_sectors);
bool snap_is_there(struct cutpool *pool, uint32_t disk, uint32_t number);

/* Of the start of a recording: one that is there, with what it holds. */
void snap_settled(struct judge *judge, uint32_t disk, uint32_t number, uint64_t bytes, uint32_t *owned_versions);


#endif
