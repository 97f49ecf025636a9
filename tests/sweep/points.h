/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points of failure: every allocation, system call, LMDB call and device I/O
 * that the code under test makes while they are armed, counted, one of them made
 * to fail.
 *
 * The linker leads the project's own calls here (--wrap, see meson.build). In a
 * build without sanitizers the system calls and allocations that LMDB itself
 * makes come here too: this program's functions stand before the C library's.
 *
 * What is allocated, mapped and opened by the project is kept in a list, so that
 * a leak is found in every build.
 */
#ifndef TESTS_SWEEP_POINTS_H
#define TESTS_SWEEP_POINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum points_mode {
	POINTS_ONCE,          /* point n fails with EIO (allocations: ENOMEM), the next ones don't */
	POINTS_FOR_GOOD,      /* and all that follow */
	POINTS_ONCE_NO_SPACE, /* the same with ENOSPC; no allocation fails */
	POINTS_FOR_GOOD_NO_SPACE,
	POINTS_AFTER, /* what makes something durable is done, and then says EIO */
	POINTS_MODES
};

/* Names what the mode can't fail as it never comes up: see points_names(). */
struct points_result {
	uint64_t count;   /* points while armed */
	bool hit;         /* point n was reached */
	char what[40];    /* the call that failed first */
	bool sync_failed; /* a data sync, or a metadata commit that may not be taken for "no room", was made to fail
			   */
};

/* fail_at: 1 is the first; 0: only count. */
void points_arm(enum points_mode mode, uint64_t fail_at);
struct points_result points_disarm(void);

enum points_class { POINT_MEMORY, POINT_SYSTEM, POINT_SYNC, POINT_DEVICE };
/* For calls that are made here and not by the linker. Return: true when it is to fail, with *ret_error (positive). */
bool points_fail(const char *what, enum points_class class, int *ret_error);

/* Live allocations, mappings and descriptors of the project; prints those that are there when `print` is set. */
size_t points_live(bool print);

#endif
