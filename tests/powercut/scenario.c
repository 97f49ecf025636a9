/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scenarios, see scenario.h. Pools are small, so that freed chunks are soon handed out again; disks are small, so
 * that every sector of them can be judged after each cut.
 */
#include "tests/powercut/scenario.h"

#include <string.h>

const struct scenario scenarios[] = {
	/* Valid blocks and parts of them, again and again: read-modify-write, and flushes that need no commit. */
	{ .name = "overwrite", .pool_mib = 16, .disks = 2, .disk_kib = 1024, .threads = 8, .span_kib = 64,
	  .dsync_percent = 5, .write_us = 1500, .flush_us = 1500, .filled = true,
	  .weights = { [DO_PART] = 40, [DO_BLOCKS] = 20, [DO_READ] = 15, [DO_FLUSH] = 12 } },
	/* First writes into fresh chunks, many flushes, each a commit. */
	{ .name = "allocate", .pool_mib = 24, .disks = 3, .disk_kib = 4096, .threads = 8, .dsync_percent = 5,
	  .write_us = 2000, .flush_us = 2000,
	  .weights = { [DO_PART] = 15, [DO_BLOCKS] = 35, [DO_LARGE] = 8, [DO_READ] = 15, [DO_FLUSH] = 15,
		       [DO_RANGE] = 6 } },
	/* Blocks and chunks are given back and taken again, by disks that share a small pool. */
	{ .name = "reuse", .pool_mib = 8, .disks = 3, .disk_kib = 2048, .threads = 10, .span_kib = 1024,
	  .dsync_percent = 5, .write_us = 3000, .flush_us = 1500,
	  .weights = { [DO_PART] = 8, [DO_BLOCKS] = 30, [DO_LARGE] = 10, [DO_READ] = 18, [DO_FLUSH] = 16,
		       [DO_PUNCH] = 10, [DO_RANGE] = 12, [DO_ZERO] = 4 } },
	/* Blocks of chunks that stay: what a block held before it was punched must not show again. */
	{ .name = "rewrite", .pool_mib = 16, .disks = 3, .disk_kib = 1024, .threads = 24, .dsync_percent = 2,
	  .write_us = 6000, .flush_us = 3000, .filled = true,
	  .weights = { [DO_BLOCKS] = 50, [DO_READ] = 8, [DO_FLUSH] = 8, [DO_PUNCH] = 30, [DO_ZERO] = 5 } },
	/* Slow reads of chunks that go to others meanwhile. */
	{ .name = "readers", .pool_mib = 4, .disks = 2, .disk_kib = 1536, .threads = 14, .dsync_percent = 5,
	  .write_us = 500, .flush_us = 500, .read_us = 40000,
	  .weights = { [DO_LARGE] = 25, [DO_READ] = 35, [DO_FLUSH] = 8, [DO_RANGE] = 20 } },
	/* Truncation both ways, and writes past the end. */
	{ .name = "resize", .pool_mib = 16, .disks = 3, .disk_kib = 2048, .threads = 6, .dsync_percent = 5,
	  .write_us = 1500, .flush_us = 1500,
	  .weights = { [DO_PART] = 10, [DO_BLOCKS] = 30, [DO_LARGE] = 10, [DO_READ] = 15, [DO_FLUSH] = 10,
		       [DO_PUNCH] = 3, [DO_RESIZE] = 10, [DO_APPEND] = 12 } },
	/* Disks come and go, and their space goes to others. */
	{ .name = "create", .pool_mib = 12, .disks = 4, .disk_kib = 1024, .threads = 6, .dsync_percent = 5,
	  .write_us = 1000, .flush_us = 1000,
	  .weights = { [DO_BLOCKS] = 30, [DO_LARGE] = 15, [DO_READ] = 15, [DO_FLUSH] = 10, [DO_RECREATE] = 8 } },
	/* The pool's file grows, and other files are added, under load. */
	{ .name = "grow", .pool_mib = 8, .disks = 3, .disk_kib = 4096, .threads = 6, .dsync_percent = 5,
	  .write_us = 1500, .flush_us = 1500,
	  .weights = { [DO_BLOCKS] = 30, [DO_LARGE] = 25, [DO_READ] = 15, [DO_FLUSH] = 12, [DO_RANGE] = 8,
		       [DO_GROW] = 1 } },
	/* More is written than there is space: writes fail, and what is given back is fought for. */
	{ .name = "full", .pool_mib = 5, .disks = 4, .disk_kib = 4096, .threads = 8, .dsync_percent = 5,
	  .write_us = 1500, .flush_us = 1500,
	  .weights = { [DO_PART] = 5, [DO_BLOCKS] = 25, [DO_LARGE] = 25, [DO_READ] = 15, [DO_FLUSH] = 12,
		       [DO_PUNCH] = 4, [DO_RANGE] = 16, [DO_RECREATE] = 1 } },
	/* Snapshots are taken and removed under load, disks are rolled back to them. */
	{ .name = "snapshot", .pool_mib = 24, .disks = 3, .disk_kib = 1024, .threads = 8, .snaps = 10,
	  .dsync_percent = 5, .write_us = 1500, .flush_us = 1500,
	  .weights = { [DO_PART] = 15, [DO_BLOCKS] = 30, [DO_LARGE] = 4, [DO_READ] = 15, [DO_FLUSH] = 6,
		       [DO_PUNCH] = 8, [DO_RESIZE] = 1, [DO_SNAP] = 8, [DO_UNSNAP] = 4, [DO_READ_SNAP] = 3,
		       [DO_ROLLBACK] = 1 } },
	/* The same in a pool so small that folds don't wait for the next copy of the metadata, and what they free is
	 * taken at once. */
	{ .name = "fold", .pool_mib = 6, .disks = 2, .disk_kib = 1024, .threads = 6, .snaps = 6, .dsync_percent = 5,
	  .write_us = 700, .flush_us = 700,
	  .weights = { [DO_PART] = 15, [DO_BLOCKS] = 30, [DO_LARGE] = 4, [DO_READ] = 10, [DO_FLUSH] = 6,
		       [DO_PUNCH] = 8, [DO_SNAP] = 8, [DO_UNSNAP] = 8, [DO_READ_SNAP] = 2 } },
	/* Disks that are clones, and clones of clones: both sides are overwritten, and either goes first. */
	{ .name = "clone", .pool_mib = 24, .disks = 4, .disk_kib = 1024, .threads = 8, .snaps = 10,
	  .dsync_percent = 5, .write_us = 1000, .flush_us = 1000,
	  .weights = { [DO_PART] = 15, [DO_BLOCKS] = 30, [DO_LARGE] = 4, [DO_READ] = 15, [DO_FLUSH] = 6,
		       [DO_PUNCH] = 8, [DO_RESIZE] = 1, [DO_SNAP] = 6, [DO_UNSNAP] = 3, [DO_READ_SNAP] = 3,
		       [DO_CLONE] = 5 } },
	/* Streams become disks and snapshots, the second of two on the base of the first. */
	{ .name = "receive", .pool_mib = 32, .disks = 3, .disk_kib = 512, .threads = 6, .snaps = 8,
	  .dsync_percent = 5, .write_us = 700, .flush_us = 700,
	  .weights = { [DO_PART] = 15, [DO_BLOCKS] = 30, [DO_READ] = 10, [DO_FLUSH] = 6, [DO_PUNCH] = 8,
		       [DO_SNAP] = 8, [DO_UNSNAP] = 1, [DO_READ_SNAP] = 2, [DO_RECEIVE] = 4 } },
	/* Nobody flushes; the commits are the timer's. */
	{ .name = "timer", .pool_mib = 24, .disks = 3, .disk_kib = 4096, .threads = 4, .write_us = 2000,
	  .flush_us = 2000, .once = true, .weights = { [DO_BLOCKS] = 30, [DO_READ] = 5, [DO_PAUSE] = 20 } },
};
const unsigned scenario_count = ARRAY_LEN(scenarios);

const struct scenario *scenario_find(const char *name)
{
	for (unsigned i = 0; i < scenario_count; i++)
		if (strcmp(scenarios[i].name, name) == 0)
			return &scenarios[i];
	return NULL;
}
