/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See planted.h; compiled only with the meson option planted_bugs. The variable is read once, before main, so that
 * asking costs a comparison on the hot paths and needs no lock.
 *
 * Failure mode: a name that is none ends the program: a test that planted nothing would prove nothing.
 */
#include "base/planted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[BUGS] = {
	[BUG_NONE] = "none",
	[BUG_NO_DATA_SYNC] = "no-data-sync",
	[BUG_COPY_AFTER_SYNC] = "copy-after-sync",
	[BUG_REUSE_AT_ONCE] = "reuse-at-once",
	[BUG_REUSE_STALE_COMMIT] = "reuse-stale-commit",
	[BUG_REUSE_NO_EPOCH] = "reuse-no-epoch",
	[BUG_REUSE_BEFORE_DISCARD] = "reuse-before-discard",
	[BUG_REUSE_NO_COPY] = "reuse-no-copy",
	[BUG_FOLD_NO_COPY] = "fold-no-copy",
	[BUG_BITS_AT_PLAN] = "bits-at-plan",
	[BUG_ANSWER_BEFORE_COMMIT] = "answer-before-commit",
	[BUG_FLUSH_MID_SYNC] = "flush-mid-sync",
	[BUG_NO_RESTART_RECORD] = "no-restart-record",
	[BUG_NO_LABEL_FLOOR] = "no-label-floor",
	[BUG_RESIZE_NO_SYNC] = "resize-no-sync",
	[BUG_COPY_NO_SYNC] = "copy-no-sync",
	[BUG_COPY_NOT_AT_OPEN] = "copy-not-at-open",
	[BUG_FORGET_OPENS] = "forget-opens",
	[BUG_SNAPSHOT_NO_GATE] = "snapshot-no-gate",
	[BUG_RMW_SHARED] = "rmw-shared",
	[BUG_VIEW_STALE] = "view-stale",
	[BUG_VIEW_JOINED] = "view-joined",
	[BUG_NO_KEEP] = "no-keep",
};

static enum base_bug active; /* const once main runs */

__attribute__((constructor)) static void choose(void)
{
	const char *name = getenv("BDFS_PLANTED_BUG");

	if (!name || !name[0])
		return;
	for (unsigned i = 0; i < BUGS; i++)
		if (strcmp(names[i], name) == 0)
			active = (enum base_bug)i;
	if (strcmp(names[active], name) != 0) {
		fprintf(stderr, "BDFS_PLANTED_BUG: there is no %s\n", name);
		abort();
	}
}

bool planted(enum base_bug bug)
{
	return active == bug;
}
