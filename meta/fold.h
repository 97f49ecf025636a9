/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fold under way or asked for: shared by fold.c and fold_leaf.c, which do it, and jobs.c, which shows and cancels it.
 * Context: BG, unless a field says otherwise.
 */
#ifndef META_FOLD_H
#define META_FOLD_H

#include "meta/internal.h"
#include "meta/snapshot.h"

struct fold_job {
	struct fold_job *next;
	struct meta_store *lower, *upper; /* references; upper NULL: not begun */
	bool down;
	enum { FOLD_QUEUED, FOLD_CUT, FOLD_MOVE, FOLD_SWEEP, FOLD_COMMIT, FOLD_WAIT, FOLD_OVER } state;
	uint64_t known_in; /* the copy has to know of this commit; 0: not looked at yet */
	uint64_t cursor;
	struct meta_leaf *held[2]; /* upper, lower: `folding` is set */
	int result;
	bool cancelled; /* jobs_lock */
	uint64_t not_before_ns;
	struct meta_job_info info; /* jobs_lock */
	struct meta_wait commit;
	struct mw_call call;
	struct base_msg done;
};

/* fold_leaf.c */
enum { FOLD_AGAIN = 1 }; /* not now, but soon */
/* What the job's state wants done of leaf `number`. slot: BG's read transaction. Return: 0, FOLD_AGAIN, -errno. */
MUST_CHECK int fold_leaf(struct meta_pool *pool, struct fold_job *job, uint64_t number, struct db_txn **slot);
/* Nobody needs to wait for the leaf that the job holds, if it holds one. */
void fold_let_go(struct meta_pool *pool, struct fold_job *job);

#endif
