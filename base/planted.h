/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bugs on purpose, to prove that the tests see them (tests/planted-bugs).
 *
 * In every build but one planted() is false at compile time, and nothing of it is left. In a build with the meson
 * option planted_bugs the environment variable BDFS_PLANTED_BUG names the one that is active; such a build says so in
 * --version, is refused for buildtype release, and must never hold data.
 *
 * Each is one step left out of, or put wrongly into, the order that docs/durability.md rests on.
 *
 * Context: any thread.
 */
#ifndef BASE_PLANTED_H
#define BASE_PLANTED_H

#include <stdbool.h>

enum base_bug {
	BUG_NONE,
	BUG_NO_DATA_SYNC,         /* a commit does not sync the pvs first */
	BUG_COPY_AFTER_SYNC,      /* a commit copies the leaves after the sync of the pvs instead of before */
	BUG_REUSE_AT_ONCE,        /* a freed chunk can be handed out at once: none of the three waits */
	BUG_REUSE_STALE_COMMIT,   /* ... after any commit, also one whose copy was taken before the free */
	BUG_REUSE_NO_EPOCH,       /* ... without waiting for the requests that may still be in it */
	BUG_REUSE_BEFORE_DISCARD, /* ... before its discard has been made */
	BUG_REUSE_NO_COPY,        /* ... and discarded before a copy of the metadata knows of it */
	BUG_FOLD_NO_COPY,         /* a fold begins before a copy of the metadata knows the layer as nameless */
	BUG_BITS_AT_PLAN,         /* the map changes when a write is planned instead of when it has completed */
	BUG_ANSWER_BEFORE_COMMIT, /* a flush is answered before its sync or commit */
	BUG_FLUSH_MID_SYNC,       /* a flush is answered at once while the sync that covers it is under way */
	BUG_NO_RESTART_RECORD,    /* a map change leaves no record in the restart log */
	BUG_NO_LABEL_FLOOR,       /* commits don't record which label the pvs have at least */
	BUG_RESIZE_NO_SYNC,       /* a larger size is made durable before the zeros that stand in its way */
	BUG_COPY_NO_SYNC,         /* a copy of the metadata counts at once, not when its header is synced */
	BUG_COPY_NOT_AT_OPEN,     /* an opening takes no copy of the metadata */
	BUG_FORGET_OPENS,         /* a daemon that takes a mount over does not look which files are open */
	BUG_SNAPSHOT_NO_GATE,     /* a snapshot does not wait for the writes in flight */
	BUG_RMW_SHARED,           /* read-modify-writes of one block go on side by side */
	BUG_VIEW_STALE,           /* a view is used although a fold has moved what it says */
	BUG_VIEW_JOINED,          /* ... although it is the view of another layer by now */
	BUG_NO_KEEP,              /* what was read for a request is not kept for it */
	BUGS
};

#ifdef BDFS_PLANTED_BUGS
bool planted(enum base_bug bug);
#else
static inline bool planted(enum base_bug bug)
{
	(void)bug;
	return false;
}
#endif

#endif
