/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard around LMDB's map: a read error under a mapped file arrives as a
 * signal, and the guard turns it into a return value.
 *
 * Context: any thread; guards do not nest. Private to meta/db.c.
 */
#ifndef META_DB_GUARD_H
#define META_DB_GUARD_H

#include <limits.h>

#include "base/error.h"
#include "base/types.h"

/* Addresses [start, end) that a guard answers for. */
struct db_guard_range {
	uintptr_t start;
	uintptr_t end;
};

/* None of LMDB's codes nor of errno's. */
#define DB_GUARD_FAULT INT_MIN

/*
 * Calls fn(arg). SIGBUS or SIGSEGV with an address in *range, raised by this
 * thread meanwhile, leaves fn where it stands. With range == NULL, for opening,
 * when the map's place is not known yet: any SIGBUS that the kernel raises for
 * an access of this thread.
 *
 * fn's locks and memory stay as they were at the fault, so the caller must know
 * what may still be touched.
 *
 * Return: what fn returned; DB_GUARD_FAULT after a fault or db_guard_escape().
 */
MUST_CHECK int db_guard_run(const struct db_guard_range *range, int (*fn)(void *arg), void *arg);

/* Ends the guard of this thread as a fault would. Returns only when there is none. */
void db_guard_escape(void);

/*
 * Finds the mapping that address lies in and that starts at the first byte of its file.
 * Return: 0; -ENOENT there is none; negative errno of reading /proc/self/maps.
 */
MUST_CHECK int db_guard_find_mapping(const void *address, uint64_t map_bytes, struct db_guard_range *ret);

#endif
