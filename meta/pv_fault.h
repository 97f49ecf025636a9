/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real pvs with faults by rule: syncs, discards, and the reads and writes of
 * labels. Data I/O has its own wrapper in iocore, by the same rules.
 *
 * Context: as meta/pv.h. A delay makes the caller wait, as a slow device would.
 */
#ifndef META_PV_FAULT_H
#define META_PV_FAULT_H

#include "base/fault.h"
#include "meta/pv.h"

/* The ctx of meta_pv_fault. fault is the caller's and outlives the pool. */
struct meta_pv_fault_ctx {
	struct base_fault *fault;
	unsigned opened; /* pvs that are open; a pool opens them in order of number. The callers': one at a time */
};

extern const struct meta_pv_ops meta_pv_fault;

#endif
