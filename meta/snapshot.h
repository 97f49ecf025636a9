/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, clones, and what runs in the background because of them.
 *
 * A snapshot is a name for a frozen layer of a disk. A clone is a disk whose
 * head layer has a snapshot's layer as its parent. A layer that has lost its
 * name goes on serving its children; with none it is freed, with one it is
 * folded together with that child, in the background (docs/adr/0011).
 *
 * Taking a snapshot and attaching a parent need the gates of open disks, so they
 * are in iocore/snapshot.h.
 *
 * Context: CTL for everything that says nothing else; such calls may block on
 * the metadata thread. "Any thread" takes a short lock and does not block.
 *
 * Durability: when a call that changes something returns 0 the change is on
 * stable storage; after a crash it happened whole or not at all. Errors beside
 * those listed: -EROFS (pool failed or read-only), -ENOSPC (the file system of the
 * metadata is full; nothing changed), -ENOMEM.
 */
#ifndef META_SNAPSHOT_H
#define META_SNAPSHOT_H

#include "base/error.h"
#include "base/types.h"
#include "meta/pool.h"

struct meta_snapshot;

/* ---- finding and listing; any thread ------------------------------------------------------ */

/* Each takes a reference that meta_snapshot_put gives back. NULL: there is none. */
struct meta_snapshot *meta_snapshot_get_by_name(struct meta_disk *disk, const char *name);
struct meta_snapshot *meta_snapshot_get_by_uuid(struct meta_pool *pool, struct base_uuid uuid);
/* The snapshot's own layer: from it the mount makes inode numbers, as it is never used again. */
struct meta_snapshot *meta_snapshot_get_by_layer(struct meta_pool *pool, uint64_t layer);
void meta_snapshot_put(struct meta_snapshot *snapshot);

/*
 * Listing in order of name within a disk: the first snapshot of the disk whose name is > after ("" to start).
 * Stable against changes in between, as meta_disk_next. For a pool: over meta_disk_next, and this for each.
 */
struct meta_snapshot *meta_snapshot_next(struct meta_disk *disk, const char *after);
unsigned meta_snapshot_count(struct meta_disk *disk);

struct meta_snapshot_info {
	struct base_uuid uuid;
	char name[NAME_BYTES_MAX + 1];
	uint64_t disk; /* number */
	char disk_name[NAME_BYTES_MAX + 1];
	uint64_t layer;
	uint64_t size_bytes; /* of the disk when it was taken */
	uint64_t created_s;
	unsigned children; /* layers that stand on it: the next snapshot's or the head's, and clones */
	unsigned opens;
};
void meta_snapshot_info(struct meta_snapshot *snapshot, struct meta_snapshot_info *ret);

/* Opens: what removal is refused by (-EBUSY). Return: 0; -ENOENT (removed meanwhile), -EBADMSG, -EIO. CTL. */
MUST_CHECK int meta_snapshot_open(struct meta_snapshot *snapshot, struct base_error *err);
void meta_snapshot_close(struct meta_snapshot *snapshot);
/* Waits until nobody has it open, at most timeout_ns. Returns 0 or -EBUSY. */
MUST_CHECK int meta_snapshot_wait_closed(struct meta_snapshot *snapshot, uint64_t timeout_ns);

/* ---- changing ----------------------------------------------------------------------------- */

/*
 * A new disk with the snapshot's content: one transaction, no data is copied. spec as for meta_disk_create;
 * size_bytes 0 or the snapshot's size (-EINVAL else; resize it afterwards). ret_number may be NULL.
 * Return: 0; -EEXIST, -EINVAL / -ENAMETOOLONG (name), -ENOENT (the snapshot was removed meanwhile).
 */
MUST_CHECK int meta_snapshot_clone(struct meta_snapshot *snapshot, const struct meta_disk_spec *spec,
				   uint64_t *ret_number, struct base_error *err);

/* Return: 0; -EEXIST (the disk has one of that name), -EINVAL / -ENAMETOOLONG, -ENOENT. */
MUST_CHECK int meta_snapshot_rename(struct meta_snapshot *snapshot, const char *new_name, struct base_error *err);

/*
 * Takes the name away. What only this snapshot had is freed in the background; see meta_job_next.
 * Return: 0; -EBUSY (open or mapped), -ENOENT.
 */
MUST_CHECK int meta_snapshot_remove(struct meta_snapshot *snapshot, struct base_error *err);

/*
 * The disk gets the content and size that it had when the snapshot was taken; what was written since is freed in
 * the background. Other snapshots of the disk stay, later ones too.
 * Return: 0; -EBUSY (the disk is open or mapped, or the snapshot is mapped),
 * -EINVAL (not a snapshot of this disk), -ENOENT.
 */
MUST_CHECK int meta_disk_rollback(struct meta_disk *disk, struct meta_snapshot *snapshot, struct base_error *err);

/*
 * The disk gets head and snapshots of `from`, whose head stands on a snapshot of the disk, directly or through
 * snapshots of its own; `from` is gone then. What `bdfs receive` does at the end of an incremental stream. What was
 * written to the disk since is freed in the background. One transaction.
 * Return: 0; -EBUSY (one of the two is open), -EEXIST (both have a snapshot of one name), -EINVAL (from stands on no
 * snapshot of the disk), -ENOENT.
 */
MUST_CHECK int meta_disk_take_over(struct meta_disk *disk, struct meta_disk *from, struct base_error *err);

enum { META_NOT_ATTACHED = 1 };
/*
 * What copying [offset, end_bytes) of a snapshot to the same place of a disk can be: its layer becomes the parent of
 * the disk's head, with the end of the range as overlap; a further range raises that. The caller has both open and
 * holds every stripe of the disk.
 * Return: 0: the range shows, durably; META_NOT_ATTACHED: something stands against it, copy the bytes; -ENOENT.
 */
MUST_CHECK int meta_disk_attach(struct meta_disk *disk, struct meta_snapshot *snapshot, uint64_t offset,
				uint64_t end_bytes, struct base_error *err);

/*
 * Letting go of what a disk stands on. Between begin and cut all that shows through is copied (IOC_OP_OWN of all of
 * the disk); between cut and detach the same again clears what has no sense any more. The disk is open all the time.
 * Return: 0; META_INFLATED: there is nothing below it; META_INFLATE_AGAIN: it got another head, or more shows through
 * than at begin: begin again. Durable when it returns 0.
 */
enum { META_INFLATE_AGAIN = 1, META_INFLATED = 2 };
struct meta_inflate {
	uint64_t head_layer, overlap_rises; /* as they were */
};
MUST_CHECK int meta_inflate_begin(struct meta_disk *disk, struct meta_inflate *ret);
/* The first leaf at or after from_leaf that any of its layers has; UINT64_MAX: none. */
uint64_t meta_inflate_next(struct meta_disk *disk, uint64_t from_leaf);
MUST_CHECK int meta_inflate_cut(struct meta_disk *disk, const struct meta_inflate *seen, struct base_error *err);
MUST_CHECK int meta_inflate_detach(struct meta_disk *disk, const struct meta_inflate *seen, struct base_error *err);

/* meta_disk_remove() refuses a disk that has snapshots (-EBUSY, err names some); this one takes them along, in the
 * same transaction. Clones of them stay. Return: as meta_disk_remove; -EBUSY also when a snapshot is open. */
MUST_CHECK int meta_disk_remove_with_snapshots(struct meta_disk *disk, struct base_error *err);

/* ---- jobs: any thread, but for the cancelling ---------------------------------------------- */

enum meta_job_kind {
	META_JOB_FOLD, /* a layer without a name and the one child that it has become one */
	META_JOB_FREE, /* a layer that nobody needs is freed */
	META_JOB_TRIM, /* what lies behind the end of a disk that was shrunk is freed */
};
const char *meta_job_kind_to_text(enum meta_job_kind kind); /* "fold", "free", "trim" */

struct meta_job_info {
	uint64_t id; /* stable while the pool is open */
	enum meta_job_kind kind;
	char disk_name[NAME_BYTES_MAX + 1]; /* whose layer, "" when nobody's any more */
	uint64_t layer;
	uint64_t leaves_done, leaves_total; /* total: as far as known at the start */
	uint64_t chunks_moved, blocks_copied, chunks_freed;
	bool waiting; /* for its turn: one fold runs at a time */
};
/* The first job whose id is > after (0 to start). False: there is none. */
bool meta_job_next(struct meta_pool *pool, uint64_t after, struct meta_job_info *ret);
/*
 * Stops a fold where it stands; all content stays as it is, what is done stays done. It goes on when the pool is
 * opened again or with meta_jobs_resume(). Return: 0; -ENOENT; -EINVAL (freeing can't be cancelled).
 */
MUST_CHECK int meta_job_cancel(struct meta_pool *pool, uint64_t id, struct base_error *err);
void meta_jobs_resume(struct meta_pool *pool);
/* Chunks that folds move or free in a second at most; 0 = as fast as it goes, which is the default. */
void meta_jobs_set_rate(struct meta_pool *pool, uint64_t chunks_per_second);

/* ---- differences -------------------------------------------------------------------------- */

enum meta_extent_kind { META_EXTENT_DATA, META_EXTENT_ZERO };
struct meta_extent {
	uint64_t offset, bytes; /* multiples of BLOCK_BYTES, but for the end of the newer side */
	enum meta_extent_kind kind; /* how it reads in the newer side; ZERO only where nothing is mapped */
};

struct meta_diff;
struct meta_diff_side { /* one of the two */
	struct meta_snapshot *snapshot;
	struct meta_disk *disk; /* its present content; what is written meanwhile may or may not be seen */
};
/*
 * What differs between two sides, from the metadata alone: every block that may read otherwise is in an extent,
 * in ascending order; a block that was written with the same bytes is too. Without `older` (both NULL): all data
 * of `newer`. The two need not be of one disk; with nothing in common all data of both differs. Beyond the end of
 * the older side it counts as zeros.
 * Both sides must be open (meta_snapshot_open, meta_disk_open) until meta_diff_end.
 */
MUST_CHECK int meta_diff_begin(struct meta_pool *pool, const struct meta_diff_side *older,
			       const struct meta_diff_side *newer, struct meta_diff **ret, struct base_error *err);
/* Return: 0 with *ret; 1 at the end; -EBADMSG, -EIO: the map can't be read. Neighbours of one kind may come as
 * several extents, none longer than 64 GiB. */
MUST_CHECK int meta_diff_next(struct meta_diff *diff, struct meta_extent *ret);
void meta_diff_end(struct meta_diff *diff); /* NULL is fine */

/* ---- space -------------------------------------------------------------------------------- */

/*
 * Whole chunks, in bytes. Every chunk in use is owned by one layer, and each layer is a disk's (its head), a
 * snapshot's, or has no name: the sum of `owned` over all three is what the pool has in use. The others overlap by
 * nature: a chunk that two disks see is in the referenced bytes of both.
 */
struct meta_space_use {
	uint64_t owned_bytes;      /* chunks of its own layer */
	uint64_t referenced_bytes; /* chunks of which a reader meets a block, and those reserved in its own layer. Of
				      a layer without a name: its chunks that anybody sees */
	uint64_t shared_bytes;     /* of the referenced: another disk or snapshot sees them too */
	uint64_t exclusive_bytes;  /* of the referenced: nobody else does */
	/* What its removal would give back, by freeing and folding; of a disk: with all its snapshots kept. May be
	 * more than exclusive (a fold makes one of two chunks that overlap), or less (what others keep alive without
	 * seeing it). Chunks without a written block in a frozen layer may not come. 0 without a name. */
	uint64_t reclaimable_bytes;
};
/*
 * These walk the maps of all layers that stand on the same lowest one, unless there is one only: time and I/O in
 * proportion to what is mapped there. They hold nobody up. Right when nothing changes meanwhile and no job runs.
 * Return: 0; -ENOENT (it was removed), -EBADMSG, -EIO, -ENOMEM. CTL.
 */
MUST_CHECK int meta_snapshot_space(struct meta_snapshot *snapshot, struct meta_space_use *ret,
				   struct base_error *err);
MUST_CHECK int meta_disk_space(struct meta_disk *disk, struct meta_space_use *ret, struct base_error *err);

enum meta_space_kind { META_SPACE_DISK, META_SPACE_SNAPSHOT, META_SPACE_UNNAMED };
struct meta_space_row {
	enum meta_space_kind kind;
	uint64_t layer;
	char disk_name[NAME_BYTES_MAX + 1]; /* the disk, or the snapshot's; else "" */
	char name[NAME_BYTES_MAX + 1];      /* the snapshot's; else "" */
	uint64_t virtual_bytes;             /* size; 0 without a name */
	struct meta_space_use use;
};
struct meta_space_report {
	struct meta_space_row *rows; /* disks in order of name, each followed by its snapshots; then the nameless */
	size_t count;
	uint64_t allocated_bytes; /* of the pool, at the moment of the owned_bytes */
};
/* All layers of a pool, each family walked once. Return: as above; *ret is to be given back only after 0. CTL. */
MUST_CHECK int meta_space_report(struct meta_pool *pool, struct meta_space_report *ret, struct base_error *err);
void meta_space_report_done(struct meta_space_report *report);

/* From the counter alone. Any thread. */
uint64_t meta_snapshot_owned_bytes(struct meta_snapshot *snapshot);

#endif
