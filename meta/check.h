/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: whether a pool's metadata says one and the same thing everywhere.
 *
 * Every page of LMDB's file; every record's checksum and content; every owned chunk in range and owned once; the space
 * bitmap equal to the set of owned chunks; the catalogue and the layer tree sound; the index equal to the leaves; the
 * counters of each layer right; the labels of the pvs those of this pool. check changes nothing and repairs nothing.
 *
 * It runs on a pool that is in use, on one that was opened read-only, and on a directory whose pool can't be opened
 * because a record is damaged. No transaction of it holds more than a few hundred records. On a pool in use nothing is
 * reported that a change during the check could explain; meta/check.c says why that holds.
 *
 * What can't be judged because a record that it depends on is damaged is not guessed at: it is counted as not_judged.
 *
 * Context: CTL. Blocks; minutes for ten million leaves. Any number may run at once.
 */
#ifndef META_CHECK_H
#define META_CHECK_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/types.h"
#include "meta/db.h"
#include "meta/pool.h"

enum meta_check_kind {
	META_CHECK_PAGE,               /* a page of LMDB's file; nothing else is looked at then */
	META_CHECK_BAD_CHECKSUM,       /* a record that is not what was written */
	META_CHECK_BAD_CONTENT,        /* a right checksum over what no record is, or under a key that none has */
	META_CHECK_POOL_RECORD,        /* the pool record is missing */
	META_CHECK_ID_UNISSUED,        /* a disk, layer or store id that the pool's counter has yet to give out */
	META_CHECK_PV_RECORD,          /* a pv record is missing, or there is one too many */
	META_CHECK_PV_OVERLAP,         /* two pvs claim the same chunk numbers, or numbers without a gap */
	META_CHECK_PV_FILE,            /* a pv can't be opened or read, or is too short */
	META_CHECK_PV_LABEL,           /* a pv's label is not that of this pv, this pool and this day */
	META_CHECK_NAME_TWICE,         /* two disks of one name */
	META_CHECK_UUID_TWICE,         /* two disks, or two pvs, of one UUID */
	META_CHECK_STORE_TWICE,        /* two layers with one store */
	META_CHECK_DISK_WITHOUT_LAYER, /* the head layer is not there */
	META_CHECK_DISK_LAYER,         /* the head layer is dead, or another disk's */
	META_CHECK_SNAPSHOT,           /* its disk or layer is not there, its layer is freed, written to or another's,
					  or its disk has two of one name */
	META_CHECK_VTD_WITHOUT_ADAPTER, /* the adapter of a VTD is not there */
	META_CHECK_VTD_WITHOUT_BD,     /* the disk of a VTD is not there */
	META_CHECK_VTD_TWICE,          /* two VTDs of one LUN, or of one disk or device and not both shared */
	META_CHECK_LAYER_ORPHAN,       /* a live layer that no disk, snapshot or layer refers to */
	META_CHECK_LAYER_PARENT,       /* the parent is not there or being freed, or the chain of parents is a ring */
	META_CHECK_LAYER_CHILDREN,     /* the number of children is wrong */
	META_CHECK_LAYER_COUNTERS,     /* chunks_owned, blocks_valid or index_records is wrong */
	META_CHECK_STORE_ORPHAN,       /* index or map records of a store that no layer has */
	META_CHECK_INDEX_WITHOUT_LEAF, /* a presence bit without its leaf */
	META_CHECK_LEAF_WITHOUT_INDEX, /* a leaf without its presence bit */
	META_CHECK_ENTRY_UNSOUND,      /* zero bits in a layer without a parent */
	META_CHECK_ENTRY_BEYOND_END,   /* valid blocks beyond the end of the disk that no trim mark covers */
	META_CHECK_CHUNK_OUT_OF_RANGE, /* an entry owns a chunk that no pv has */
	META_CHECK_CHUNK_TWICE,        /* a chunk that two entries own */
	META_CHECK_CHUNK_NOT_IN_SPACE, /* an owned chunk that the space bitmap calls free */
	META_CHECK_SPACE_LEAKED,       /* the space bitmap calls a chunk owned, and no entry owns it */
	META_CHECK_SPACE_OUT_OF_RANGE, /* the space bitmap calls a chunk owned that no pv has */
	META_CHECK_PROMISE,            /* thick disks are promised more than there is */
	META_CHECK_KINDS
};

/* A word for programs: "chunk-twice". */
const char *meta_check_kind_to_text(enum meta_check_kind kind);

/* In a place of a finding: does not apply. */
#define META_CHECK_NONE UINT64_MAX

/* Where a finding is. Each field is META_CHECK_NONE where it says nothing. */
struct meta_check_place {
	uint64_t database; /* enum db_kind */
	uint64_t pv, disk, layer, store;
	uint64_t leaf;     /* of the store */
	uint64_t entry;    /* chunk of the disk: leaf x 128 + index */
	uint64_t chunk;    /* of the pool */
	uint64_t page;     /* of data.mdb */
};

#define META_CHECK_TEXT_BYTES 256

struct meta_check_finding {
	enum meta_check_kind kind;
	struct meta_check_place place;
	char text[META_CHECK_TEXT_BYTES]; /* what is wrong, for people */
};

#define META_CHECK_FINDINGS_MAX 100

struct meta_check_report {
	/* What was read. */
	uint64_t records[DB_KINDS];
	uint64_t bad_checksum[DB_KINDS], bad_content[DB_KINDS];
	uint64_t pvs, disks, layers, snapshots;
	uint64_t leaves;
	uint64_t chunks_owned; /* entries that own a chunk of the pool */

	/* What is wrong. */
	uint64_t found[META_CHECK_KINDS];
	uint64_t problems; /* the sum of found[] */
	struct meta_check_finding findings[META_CHECK_FINDINGS_MAX]; /* the first ones */
	unsigned finding_count;

	/* What can't be told. */
	uint64_t not_judged; /* questions left open: a record was damaged, or the pool would not hold still */
	/*
	 * The pool was not closed in order, and nobody has it open: what was checked is its last commit. Opening it for
	 * writing replays the restart log, or starts from that commit.
	 */
	bool unclean;
	/* The copy of the metadata on the first pv, for import. That there is none is no problem, but worth knowing. */
	enum meta_check_copy { META_CHECK_COPY_UNKNOWN, META_CHECK_COPY_THERE, META_CHECK_COPY_NONE } copy;
	uint64_t copy_room_bytes; /* the largest that it could be; 0: not known */
};

struct meta_check_args {
	struct meta_pool *pool; /* meta_check: in use, or opened read-only. Open until the call returns */
	/* NULL, or called on the calling thread, at most every 100 ms; total may grow on the way. */
	void (*progress)(uint64_t done, uint64_t total, void *ctx);
	void *ctx;
	const atomic_bool *cancel; /* NULL, or ends the check soon after it becomes true */
	const struct meta_pv_ops *pv_ops; /* meta_check_dir: NULL = real files and devices */
	void *pv_ctx;
};

/*
 * Checks an open pool.
 * Return: 0: it ran to its end, *ret says what it found; -ECANCELED; -EIO (the metadata can't be read on); -ENOMEM ...
 * with err. *ret is set only when 0 is returned.
 */
MUST_CHECK int meta_check(const struct meta_check_args *args, struct meta_check_report *ret, struct base_error *err);

/*
 * Checks the pool in dir, which nobody has open, without opening it: so damaged records don't stand in the way. Locks
 * its pvs, shared, until it returns. args->pool is ignored.
 * Return: as meta_check; -EBUSY: somebody has the pool open (err names the pid); -ENOENT, -EBADMSG: no metadata there.
 */
MUST_CHECK int meta_check_dir(const char *dir, const struct meta_check_args *args, struct meta_check_report *ret,
			      struct base_error *err);

#endif
