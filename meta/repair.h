/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repair: puts right what check found and what can be proven.
 *
 * Only records that are derived from others are written: bits of the space bitmap and of the index, counters of layers.
 * What they should be follows from the leaves, if these are all there; meta/check_repair.c says when that is certain. A
 * disk, a layer, a leaf is never changed, and nothing is guessed: what can't be proven is left as it is, and stays a
 * finding.
 *
 * Context: CTL. Blocks; some minutes for ten million leaves.
 * Durability: changes are made in transactions of some hundred records each. Every record is right by itself, so that a
 * repair that was cut off has done less, and the next one does the rest.
 */
#ifndef META_REPAIR_H
#define META_REPAIR_H

#include "meta/check.h"

enum meta_repair_kind {
	META_REPAIR_INDEX,    /* presence bits set or cleared */
	META_REPAIR_SPACE,    /* chunks marked as owned or as free */
	META_REPAIR_COUNTERS, /* layers whose counters were written */
	META_REPAIR_CHILDREN, /* layers whose number of children was written */
	META_REPAIR_KINDS
};
/* A word for programs: "space". */
const char *meta_repair_kind_to_text(enum meta_repair_kind kind);

struct meta_repair_args {
	struct meta_check_args check; /* pool is ignored; progress and cancel are for the checks before and after */
	bool dry_run;                 /* change nothing, and say what would be changed */
	/* Each change, before it is made. */
	void (*change)(enum meta_repair_kind kind, const char *text, void *ctx);
	void *change_ctx;
};

struct meta_repair_report {
	struct meta_check_report before, after; /* after a dry run: the same twice */
	uint64_t changes[META_REPAIR_KINDS];
	uint64_t total; /* the sum of changes[] */
};

/*
 * Checks the pool in dir, repairs, and checks again. Nobody else has the pool meanwhile: its pvs are locked,
 * exclusively unless it is a dry run.
 * Return: 0; -EBUSY: somebody has the pool open (err names the pid); -ENXIO: a pv can't be opened, so nothing keeps
 * others out; -ENOSPC: no room in the metadata's file system; as meta_check_dir. *ret is set only when 0 is returned.
 */
MUST_CHECK int meta_repair_dir(const char *dir, const struct meta_repair_args *args, struct meta_repair_report *ret,
			       struct base_error *err);

#endif
