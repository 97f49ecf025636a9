/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool as the rooms above see it: open, close, the catalogue of disks, space.
 *
 * Context: CTL for everything that says nothing else; these calls may block on
 * the metadata thread (MW) and on the disk, so a queue thread never makes them.
 * Lookups of the catalogue take a short lock and may be made from any thread.
 *
 * Durability: when a call that changes the catalogue returns 0, the change is on
 * stable storage; after a crash it happened whole or not at all.
 */
#ifndef META_POOL_H
#define META_POOL_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/mailbox.h"
#include "base/types.h"
#include "meta/records.h"

struct meta_pool;
struct meta_disk;
struct meta_pv_ops; /* meta/pv.h */

/* ---- making, opening, closing ------------------------------------------------------------- */

struct meta_pv_spec {
	const char *path;    /* a block device, or a regular file that is created when it is not there */
	uint64_t size_bytes; /* of a file to create or to extend; 0 = what is there */
	bool force;          /* take over a pv that carries another pool's label */
};

struct meta_pool_create_args {
	const char *dir; /* exists and is empty, or is created (mode 0700) */
	const char *name;
	uint32_t owner_uid;
	const struct meta_pv_spec *pvs;
	unsigned pv_count;                /* at least 1 */
	const struct meta_pv_ops *pv_ops; /* NULL = real files and devices */
	void *pv_ctx;
};

/*
 * Return: 0; -EEXIST (a pool is there, or a pv has a label: err names whose), -EBUSY (err names the
 * holder's pid), -ENOSPC / -EINVAL (a pv too small: at least 4 MiB), -EACCES, other negative errno.
 * On failure nothing that the call made is left behind.
 */
MUST_CHECK int meta_pool_create(const struct meta_pool_create_args *args, struct base_error *err);

/* What a leaf (8 MiB of a disk) takes in memory, malloc's share included. */
#define META_LEAF_MEMORY_BYTES 1152
/* As many as 2 TiB have: 288 MiB. */
#define META_CACHE_LEAVES 262144

struct meta_pool_open_args {
	const char *dir;
	bool read_only;          /* no replay, no commit; for check and dump of a pool that nobody has open */
	bool no_threads;         /* the simulator and unit tests drive the threads' step functions themselves */
	bool no_copy;            /* keep no copy of the metadata on the first pv, and take back the one that is there */
	unsigned lookup_threads; /* 0 = 2 */
	uint64_t leaf_cache_leaves; /* the maps take memory for so many leaves at most; 0 = META_CACHE_LEAVES */
	const struct meta_pv_ops *pv_ops; /* NULL = real files and devices */
	void *pv_ctx;
};

/*
 * Opens LMDB (so: call after the fork), locks the pvs, replays the restart log of a daemon that died,
 * syncs and commits; only then returns.
 * Return: 0; -EBUSY (err names the holder's pid), -ESTALE (a pv or the metadata is of another pool or
 * another day), -ENOENT / -ENXIO (a pv is missing), -EBADMSG (a damaged record: run `bdfs check`), -EIO ...
 */
MUST_CHECK int meta_pool_open(const struct meta_pool_open_args *args, struct meta_pool **ret, struct base_error *err);

/* Commits what is dirty, waits for freed space to be discarded, marks the pool clean. The pool is gone in every case.
 */
int meta_pool_close(struct meta_pool *pool, struct base_error *err);

/* Who has the pool in dir open: its pid, or 0. From /proc/locks, so within this pid namespace. */
int meta_pool_holder_pid(const char *dir);

/* ---- what it is --------------------------------------------------------------------------- */

/* What folds have done since the open. */
struct meta_fold_totals {
	uint64_t folds, leaves, chunks_moved, blocks_copied, chunks_freed;
};

struct meta_pool_info {
	struct base_uuid uuid;
	char name[NAME_BYTES_MAX + 1];
	uint64_t total_chunks;
	uint64_t free_chunks;     /* can be handed out now or once a commit has made it safe; windows count as free */
	uint64_t reserved_chunks; /* promised to thick disks and not written yet; nobody else's, so not in free_chunks
				   */
	uint64_t pending_chunks; /* freed, and not yet safe to hand out (a subset of free_chunks) */
	uint64_t virtual_bytes;  /* sum of the disks' sizes */
	uint64_t disks;
	uint64_t pvs;
	uint64_t commits; /* since open */
	uint64_t commit_ns_last, commit_ns_max;
	uint64_t dirty_leaves, cached_leaves, cached_views;
	/* The map in memory. misses: requests that had to wait for a leaf; lookups: leaves that were read for them. */
	uint64_t cache_bytes, cache_limit_bytes, cache_misses, cache_lookups, cache_evictions;
	struct meta_fold_totals folded;
	uint64_t meta_used_bytes; /* of LMDB */
	/* The copy of the metadata on the first pv. */
	bool copy_is_there;
	uint64_t copy_commit, copy_made_s, copy_bytes;  /* of the last one */
	uint64_t copies, copy_ns_last, copy_ns_max;     /* since open */
	uint64_t copy_bytes_written, copy_room_bytes;   /* since open; the largest there can be */
	int copy_failure; /* of the last attempt, 0 or negative errno; -EFBIG: larger than copy_room_bytes */
	uint64_t metadata_commit;                       /* transactions so far: those above copy_commit it lacks */
	uint64_t bad_records;
	uint64_t fill_bytes_per_s; /* over the last ten minutes; 0: it does not fill */
	uint64_t full_in_s;        /* at that rate; UINT64_MAX: it does not fill */
	uint64_t held_writes, held_bytes;
	uint8_t full_policy; /* enum meta_full_policy */
	uint32_t hold_limit_s;
	uint8_t free_threshold_percent;
	uint16_t overcommit_threshold_percent;
	bool metadata_short; /* the metadata's file system has little room */
	bool failed;     /* sticky: a sync or commit failed; reads go on, writes are refused */
	int failed_code; /* negative errno */
	char failed_why[160];
};
void meta_pool_info(struct meta_pool *pool, struct meta_pool_info *ret); /* any thread */

/*
 * Before space is reserved: commits, since a promise counts on nothing that a power cut could bring back; and, while
 * so much can't be promised and something is being freed, waits for that, 5 s at most. What can be had then is for the
 * reservation itself to say. Return: 0, or why there was no commit.
 */
MUST_CHECK int meta_pool_await_space(struct meta_pool *pool, uint64_t bytes, struct base_error *err);

/* What `alert` and `chsp -policy` set, durable when it returns. Return: 0, -EROFS, -ENOSPC, other negative errno. */
enum {
	META_SET_FULL_POLICY = 1,
	META_SET_HOLD_LIMIT = 2,
	META_SET_FREE_THRESHOLD = 4,
	META_SET_OVERCOMMIT_THRESHOLD = 8
};
struct meta_pool_settings {
	unsigned which;
	uint8_t full_policy;
	uint32_t hold_limit_s;
	uint8_t free_threshold_percent;        /* 0 to 100; 0 = none */
	uint16_t overcommit_threshold_percent; /* 0 = none */
};
MUST_CHECK int meta_pool_set(struct meta_pool *pool, const struct meta_pool_settings *settings,
			     struct base_error *err);

struct meta_pv_info {
	uint64_t number;
	struct base_uuid uuid;
	char path[META_PV_PATH_BYTES_MAX]; /* absolute */
	uint64_t size_bytes;
	uint64_t total_chunks, free_chunks;
	bool is_file, direct;  /* direct: opened O_DIRECT; else buffered, which is reported */
	uint32_t sector_bytes; /* smallest write the pv takes without a read */
};
/* Calls fn for each pv, in order of number. */
void meta_pool_each_pv(struct meta_pool *pool, void (*fn)(const struct meta_pv_info *pv, void *ctx), void *ctx);

/* Fills cells[0..count) with the share (0..255) of owned chunks in each of count equal parts of the pool. */
void meta_pool_occupancy(struct meta_pool *pool, uint8_t *cells, unsigned count);

/* Adds a pv. Return: as meta_pool_create. */
MUST_CHECK int meta_pool_add_pv(struct meta_pool *pool, const struct meta_pv_spec *spec, struct base_error *err);
/* A file pv is extended to new_size_bytes; a device is taken at the size that it has now (new_size_bytes 0). -EINVAL
 * when it would shrink. */
MUST_CHECK int meta_pool_grow_pv(struct meta_pool *pool, uint64_t pv_number, uint64_t new_size_bytes,
				 struct base_error *err);

/* Commits now and waits. Return: 0, negative errno (the pool is failed then, but for -ENOSPC). */
MUST_CHECK int meta_pool_commit(struct meta_pool *pool);

/* ---- the catalogue of disks --------------------------------------------------------------- */

struct meta_disk_spec {
	char name[NAME_BYTES_MAX + 1];
	uint64_t size_bytes;
	uint32_t logical_block_bytes; /* 0 = 512 */
	uint8_t kind;                 /* META_DISK_THIN or META_DISK_THICK; logical volumes: meta/volume.h */
	uint32_t mode, uid, gid;      /* mode 0 = 0600 */
	char labels[256];
};

struct meta_disk_info {
	uint64_t number;
	struct meta_disk_record record;
	uint64_t size_bytes;      /* now: growing writes are here before they are in the record */
	uint64_t allocated_bytes; /* chunks owned x 64 KiB, live */
	uint64_t valid_bytes;     /* blocks valid x 4 KiB, live */
	unsigned opens;
};

/* Creates count disks in one transaction: all or none. ret_numbers (may be NULL) gets their numbers.
 * Return: 0; -EEXIST (err names it), -EINVAL / -ENAMETOOLONG (name, size), -EFBIG (size over DISK_BYTES_MAX),
 * -ENOSPC (no room for the metadata, or for what thick disks are promised), -EROFS (pool failed). */
MUST_CHECK int meta_disk_create(struct meta_pool *pool, const struct meta_disk_spec *specs, size_t count,
				uint64_t *ret_numbers, struct base_error *err);

/* Any thread. The pointer stays valid while the disk is in the catalogue and, with an open taken, until the matching
 * put. Return the disk or NULL. Both take a reference that meta_disk_put gives back. */
struct meta_disk *meta_disk_get_by_name(struct meta_pool *pool, const char *name);
struct meta_disk *meta_disk_get_by_number(struct meta_pool *pool, uint64_t number);
struct meta_disk *meta_disk_get_by_uuid(struct meta_pool *pool, struct base_uuid uuid);
void meta_disk_put(struct meta_disk *disk);

void meta_disk_info(struct meta_disk *disk, struct meta_disk_info *ret); /* any thread */
uint64_t meta_disk_number(const struct meta_disk *disk);                 /* any thread */
uint64_t meta_disk_size(const struct meta_disk *disk);                   /* any thread, atomic */
uint8_t meta_disk_kind(const struct meta_disk *disk);                    /* any thread, atomic */

/*
 * Listing in order of name: the first disk whose name is > after ("" to start). Any thread; stable
 * against changes in between. Returns a referenced disk or NULL at the end.
 */
struct meta_disk *meta_disk_next(struct meta_pool *pool, const char *after);

/* Opens: what deletion, shrinking by others and mapping are refused by. who: a short text for messages ("a file in
 * the mount"). Return: 0; -ENOENT when it is being removed. */
MUST_CHECK int meta_disk_open(struct meta_disk *disk, struct base_error *err);
void meta_disk_close(struct meta_disk *disk);
unsigned meta_disk_opens(const struct meta_disk *disk);
/* Waits until nobody has the disk open, at most timeout_ns. Returns 0 or -EBUSY. For unlink: a RELEASE may still be
 * on its way. */
MUST_CHECK int meta_disk_wait_closed(struct meta_disk *disk, uint64_t timeout_ns);

/* Takes the disk out of the catalogue; its space comes back in the background, across restarts.
 * Return: 0; -EBUSY (open), -ENOENT (gone already). */
MUST_CHECK int meta_disk_remove(struct meta_disk *disk, struct base_error *err);
/* Return: 0; -EEXIST, -EINVAL, -ENAMETOOLONG. */
MUST_CHECK int meta_disk_rename(struct meta_disk *disk, const char *new_name, struct base_error *err);

enum { META_ATTR_MODE = 1, META_ATTR_OWNER = 2, META_ATTR_LABELS = 4, META_ATTR_MODIFIED = 8 };
struct meta_disk_attr {
	uint32_t mode, uid, gid; /* uid or gid UINT32_MAX = leave */
	uint64_t modified_s;
	char labels[256];
};
MUST_CHECK int meta_disk_set_attr(struct meta_disk *disk, unsigned which, const struct meta_disk_attr *attr,
				  struct base_error *err);

#endif
