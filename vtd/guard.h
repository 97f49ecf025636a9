/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard around memory that a front end shares with us.
 *
 * The file behind such memory is the front end's: it can be cut short while it is
 * mapped here, or its host page can go bad. The next access is a SIGBUS. For a
 * range that is guarded, the handler puts anonymous memory in the whole
 * range's place, sets its flag, and lets the access be repeated: it then meets
 * zeros, and the session that the range belongs to ends as soon as it looks at its
 * flag. Nothing jumps, so whatever code made the access holds no lock for ever.
 *
 * Context: vtd_guard_add and _remove: CTL. No thread uses the range any more when it is removed.
 */
#ifndef VTD_GUARD_H
#define VTD_GUARD_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/types.h"

struct vtd_guard;

/* start and bytes as they were mapped; *broken is set by the handler, any thread. Return: 0, -ENOMEM. */
MUST_CHECK int vtd_guard_add(void *start, size_t bytes, _Atomic bool *broken, struct vtd_guard **ret);
void vtd_guard_remove(struct vtd_guard *guard);

#endif
