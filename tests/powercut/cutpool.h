/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool that a cut has left, opened by the project's own libraries on the files of a state: the pvs are the
 * state's memory, the metadata is written to a directory. One thread; the caller runs the steps of the others.
 *
 * Everything that the opening writes stays in the caller's copy of the state: play in a child.
 */
#ifndef TESTS_POWERCUT_CUTPOOL_H
#define TESTS_POWERCUT_CUTPOOL_H

#include "base/error.h"
#include "iocore/bd.h"
#include "meta/check.h"
#include "tests/powercut/state.h"

struct cutpool;
struct meta_snapshot;

/* dir: an empty directory. with_restart: the restart log lies there too, as the cut left it. */
struct cutpool *cutpool_new(struct state *state, const char *dir, bool with_restart);
/* check of the directory that nobody has open. Returns 0 or an error with err. */
int cutpool_check_closed(struct cutpool *pool, struct meta_check_report *ret, struct base_error *err);
int cutpool_open(struct cutpool *pool, struct base_error *err);
int cutpool_check(struct cutpool *pool, struct meta_check_report *ret, struct base_error *err);
struct meta_pool *cutpool_meta(struct cutpool *pool);

/* A disk of the pool that was opened. */
int cutpool_disk_open(struct cutpool *pool, struct meta_disk *disk, struct ioc_bd **ret, struct base_error *err);
/* Ended by ioc_snapshot_close. */
int cutpool_snapshot_open(struct cutpool *pool, struct meta_snapshot *snapshot, struct ioc_bd **ret,
			  struct base_error *err);
int cutpool_read(struct cutpool *pool, struct ioc_bd *disk, uint64_t offset, uint64_t bytes, void *buf);
/* Lets the background end what it has to do: folds, frees, trims. False: it does not end. */
bool cutpool_finish_jobs(struct cutpool *pool);
/* Leaves no file in the directory. */
void cutpool_clean(const char *dir);

#endif
