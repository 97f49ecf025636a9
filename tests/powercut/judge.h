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
 * Held by a live read: every sector holds what had completed before the read was submitted, or later.
 */
#ifndef TESTS_POWERCUT_JUDGE_H
#define TESTS_POWERCUT_JUDGE_H

#include "tests/model/oracle.h"
#include "tests/powercut/cutpool.h"

#define JUDGE_DISKS_MAX 512
#define JUDGE_SECTORS_MAX (8 * MIB / 512)
#define JUDGE_OPS_MAX 256

struct judge_size {
	uint64_t bytes, submitted, completed, durable, op;
	bool resize; /* else a write that may have made the disk longer */
};

struct judge_disk {
	bool used;
	uint32_t id;
	struct oracle oracle;
	uint64_t created, deleting; /* positions; 0: not yet */
	struct judge_size *sizes;
	unsigned size_count, size_room;
};

struct judge_op {
	uint64_t op, submitted;
};

struct judge {
	struct judge_disk disks[JUDGE_DISKS_MAX];
	struct judge_op ops[JUDGE_OPS_MAX]; /* under way */
	uint64_t chunks;                    /* that the pool has at least */
	uint64_t reads, read_sectors;       /* judged while they were live */
	char why[512];                      /* what is wrong */
};

/* Takes one mark. False: judge.why says what is wrong. */
bool judge_mark(struct judge *judge, const struct mark *mark, size_t bytes, uint64_t now);

/* Looks at what the cut has left. False: judge.why says what is wrong. Play in a child. */
bool judge_cut(struct judge *judge, struct cutpool *pool, bool closed_first, uint64_t *ret_sectors);

/* Takes over what the pool holds now as the only possibility: the start of a recording. False: judge.why. */
bool judge_settle(struct judge *judge, struct cutpool *pool, int result_fd); /* in a child; the result goes to fd */
void judge_load(struct judge *judge, int result_fd);

#endif
