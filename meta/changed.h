/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which disks have changed since the last copy of the metadata: a list beside the copies on the first pv, so that
 * `bdfs import` can name what it can't bring back (docs/format.md, section 9).
 *
 * A disk is on the list from the commit on that changes its map or size first after a copy was begun; the list is
 * written before the sync of the pvs that this commit makes anyway, so it costs a write of 4 KiB now and then and no
 * sync. What changes the catalogue alone (disks made, removed, rolled back) is written behind its transaction, unsynced
 * like a label: a power cut may keep the last of those off the list, a kill may not.
 *
 * Context: MW, but for the format and what says otherwise. Private to meta/.
 */
#ifndef META_CHANGED_H
#define META_CHANGED_H

#include "base/error.h"
#include "base/types.h"

struct meta_pool;

#define META_CHANGED_BYTES 4096
#define META_CHANGED_AT 12288 /* of the first pv, behind the headers of the copies */
#define META_CHANGED_MAX 252

enum meta_changed_what {
	META_CHANGED_DATA, /* the map or the size; a snapshot was taken */
	META_CHANGED_MADE,
	META_CHANGED_GONE,
};

struct meta_changed_entry {
	uint64_t disk;   /* number, below 2^56 */
	uint8_t what;    /* enum meta_changed_what */
	uint64_t commit; /* the first one that changed it since a copy was begun: it is younger than that copy */
};

struct meta_changed {
	uint64_t unlisted_commit; /* disks that changed in this commit or before may be missing: there were too many */
	unsigned count;
	struct meta_changed_entry entries[META_CHANGED_MAX];
};

void meta_changed_encode(const struct meta_changed *changed, struct base_uuid pool, uint8_t buf[META_CHANGED_BYTES]);
/* Return: 0; -ENODATA: there is none, or it is of another pool; -EBADMSG: it is damaged. */
MUST_CHECK int meta_changed_decode(const uint8_t buf[META_CHANGED_BYTES], struct base_uuid pool,
				   struct meta_changed *ret);

/* Puts an entry in. known: the commit of the copy that counts (what is not younger goes first when there is no room).
 * True: the list is another than before. */
bool meta_changed_add(struct meta_changed *changed, const struct meta_changed_entry *entry, uint64_t known);

/* ---- in a pool -------------------------------------------------------------------------------------- */

struct changed_list {
	struct meta_changed changed;
	uint64_t copies[META_CHANGED_MAX]; /* how many copies had been begun when the entry was last looked at */
	bool dirty;                        /* not as it is on the pv */
};

/* At open for writing, before anything is committed: what is on the pv stays true. */
void changed_open(struct meta_pool *pool);
/* The disk changes in this commit. */
void changed_note(struct meta_pool *pool, uint64_t disk, enum meta_changed_what what, uint64_t commit);
/* Writes the list if it is another than on the pv. A write that fails is logged: nobody is told more than that. */
void changed_write(struct meta_pool *pool);

#endif
