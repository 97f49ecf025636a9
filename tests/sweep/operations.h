/* SPDX-License-Identifier: Apache-2.0 */
/* What is swept. Each begins with the pool of rig.h, open unless it says otherwise. */
#ifndef TESTS_SWEEP_OPERATIONS_H
#define TESTS_SWEEP_OPERATIONS_H

#include "tests/sweep/rig.h"

enum {
	OPERATION_CLOSED = 1 << 0,    /* the pool is not open */
	OPERATION_NO_POOL = 1 << 1,   /* there is no pool; run makes one. When it fails, none is left */
	OPERATION_OWN_SYNC = 1 << 3,  /* syncs something that is not yet the pool's */
	OPERATION_UNFLUSHED = 1 << 2, /* prepare leaves a pool whose restart log has changes to replay */
};

struct operation {
	const char *name;
	unsigned flags;
	void (*prepare)(struct rig *rig);       /* without faults; NULL = nothing */
	int (*run)(struct rig *rig);            /* with them. Return: its error */
	void (*judge)(struct rig *rig, int rc); /* without faults, on the open pool, now and after an opening; NULL */
};

extern const struct operation operations[];
extern const unsigned operation_count;

#endif
