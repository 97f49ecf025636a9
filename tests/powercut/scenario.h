/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scenarios: what the writer does to the disks of a mount while recordfs records. One more is one more line in
 * scenario.c; an operation that the writer does not have yet is one more function in writer.c, or in
 * writer_snaps.c when it is about snapshots.
 */
#ifndef TESTS_POWERCUT_SCENARIO_H
#define TESTS_POWERCUT_SCENARIO_H

#include "base/types.h"

enum action {
	DO_PART,   /* writes a part of a block: 1 to 7 sectors */
	DO_BLOCKS, /* writes 1 to 8 blocks */
	DO_LARGE,  /* writes 64 to 512 KiB */
	DO_READ,
	DO_FLUSH,
	DO_PUNCH,    /* a few blocks */
	DO_RANGE,    /* punches 64 KiB to 1 MiB */
	DO_ZERO,     /* zeroes blocks, keeps the space */
	DO_RESIZE,   /* truncates to a random size */
	DO_APPEND,   /* writes past the end */
	DO_RECREATE, /* deletes the disk and makes another */
	DO_GROW,     /* runs the command that adds to the pool */
	DO_PAUSE,    /* nothing for some milliseconds */
	DO_SNAP,     /* takes a snapshot of one disk, or of two at one instant */
	DO_UNSNAP,
	DO_READ_SNAP,
	DO_ROLLBACK,
	DO_CLONE,    /* deletes the disk and makes a clone of another's snapshot in its place */
	DO_RECEIVE,  /* sends two snapshots of another disk, removes them, and receives them in the disk's place */
	ACTIONS
};

struct scenario {
	const char *name;
	unsigned pool_mib, disks, disk_kib, threads;
	unsigned snaps; /* at most so many snapshots at once */
	unsigned span_kib;                    /* most of the work is in so much of each disk; 0 = all of it */
	unsigned dsync_percent;               /* of the writes: with O_DSYNC */
	unsigned write_us, flush_us, read_us; /* what recordfs takes for each at most */
	bool filled;                          /* the disks are written and flushed before the recording is judged */
	bool once; /* each block is written once, nothing is flushed; then the timer's commit is waited for */
	unsigned weights[ACTIONS];
};

extern const struct scenario scenarios[];
extern const unsigned scenario_count;

const struct scenario *scenario_find(const char *name);

#endif
