/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of check, shared by the files check*.c only.
 *
 *   check.c            the two ways in, the order of the passes
 *   check_report.c     findings, progress, scans in short transactions
 *   check_set.c        sets of chunks
 *   check_pages.c      the pages of LMDB's file
 *   check_pool.c       the pool record, the pvs, their labels
 *   check_layers.c     layers
 *   check_snapshots.c  snapshots
 *   check_disks.c      disks
 *   check_targets.c    adapters and VTDs
 *   check_map.c        index and leaves, one pass
 *   check_space.c      the space bitmap by itself
 *   check_owners.c     what the space bitmap and the maps disagree on
 *   check_promises.c   what thick disks are promised
 *   check_walk.c       leaves in key order
 *   check_live.c       questions that only the metadata thread can answer while the pool is in use
 *   check_recount.c    one of them: the counters of a layer
 *   check_end.c        another: what lies beyond the end of a disk
 *   check_repair.c     what follows from a finding and can be put right (meta/repair.h)
 *
 * Context: struct check belongs to the thread that runs the check; while it waits in check_live_run() the metadata
 * thread uses it, and nobody else does.
 */
#ifndef META_CHECK_INTERNAL_H
#define META_CHECK_INTERNAL_H

#include "meta/check.h"
#include "meta/internal.h"

/*
 * Records read in one transaction at most.
 * How often suspects are looked for again before the metadata thread is asked.
 */
#define CHECK_SLICE_RECORDS 512
#define CHECK_HUNTS 3

/* ---- sets of chunks ------------------------------------------------------------------------ */

/* In groups as the space records have them, each made when its first chunk comes. */
#define CHECK_GROUPS ((UINT64_C(1) << 32) / SPACE_GROUP_CHUNKS)
#define CHECK_GROUP_BYTES (SPACE_GROUP_CHUNKS / 8)

struct chunk_set {
	uint8_t *groups[CHECK_GROUPS]; /* bit n of a group: byte n / 8, bit n % 8, as in a space record */
};

struct chunk_set *chunk_set_new(void); /* NULL: no memory */
void chunk_set_free(struct chunk_set *set);
/* The group's bits, all clear when it is new; NULL: no memory. */
uint8_t *chunk_set_group(struct chunk_set *set, uint64_t group);
/* 1: it was in before; 0; -ENOMEM. */
MUST_CHECK int chunk_set_add(struct chunk_set *set, uint32_t chunk);
bool chunk_set_has(const struct chunk_set *set, uint32_t chunk);
void chunk_set_remove(struct chunk_set *set, uint32_t chunk);
/* set becomes what is in it and in `other`, or (with !in) what is in it and not in `other`. */
void chunk_set_keep(struct chunk_set *set, const struct chunk_set *other, bool in);
uint64_t chunk_set_count(const struct chunk_set *set);
/* The first chunk at or after `from` (which may be 2^32), or UINT64_MAX. */
uint64_t chunk_set_next(const struct chunk_set *set, uint64_t from);

/* ---- what is known of the catalogue --------------------------------------------------------- */

struct known_layer {
	uint64_t id;
	struct meta_layer_record rec;          /* as it was when it was scanned */
	bool bad;                              /* its record can't be used */
	bool walked;                           /* the map pass has met its store */
	bool map_unknown;                      /* a leaf of its store can't be used */
	bool is_head;                          /* of disk rec.owner_disk, ... */
	uint64_t size_bytes, trim_above_bytes; /* ... which is so long */
	bool has_disk;                         /* some disk says that this is its head */
	uint32_t children, snapshots;          /* found */
	uint8_t colour;                        /* of the search for rings */
};

struct known_range { /* sorted by first_chunk */
	uint64_t first, end;
	uint64_t pv;
};

struct known_pvs {
	bool unknown;               /* a record can't be used, so the ranges are not all there are */
	bool present[POOL_PVS_MAX]; /* the record can be used */
	struct meta_pv_record records[POOL_PVS_MAX];
	struct known_range ranges[POOL_PVS_MAX * META_PV_RANGES_MAX];
	unsigned range_count;
};

/* An entry that seems to lie beyond the end of its disk. */
struct end_suspect {
	uint64_t disk, leaf;
};

/* ---- check_walk.c: leaves in key order ---------------------------------------------------------- */

struct leaf_walk {
	struct db_key key; /* of the last record; empty: begin */
	uint64_t store;    /* only this one; 0 = all */
};
struct walked_leaf {
	uint64_t store, number;
	bool bad; /* it can't be used, entries are not set */
	meta_entry entries[LEAF_CHUNKS];
};
/* Return: 0; DB_NOT_FOUND at the end; -EIO. Steps over keys that are no leaf's: the map pass reports those. */
MUST_CHECK int leaf_walk_next(struct leaf_walk *walk, struct db_txn *txn, struct walked_leaf *ret);

/* ---- a check --------------------------------------------------------------------------------- */

struct check {
	const struct meta_check_args *args;
	struct meta_check_report *report;
	struct base_error *err;
	struct db_env *env;
	struct meta_pool *pool;        /* NULL: a directory */
	bool live;                     /* the pool is in use: records change under the check */
	unsigned slice_records, hunts; /* const: CHECK_SLICE_RECORDS, CHECK_HUNTS; a test may want other steps */

	/* Transactions. */
	struct db_txn *slot;              /* of the calling thread */
	struct db_txn *mw_slot;           /* of the metadata thread */
	atomic_uint_fast64_t done, total; /* records */
	uint64_t told_ns;

	/* The catalogue. */
	bool pool_known;
	struct meta_pool_record pool_record;
	struct known_pvs *pvs;
	const char *dir;                             /* without an open pool */
	unsigned pv_flags;                           /* const: how its pvs are opened; META_PV_READ_ONLY: to look */
	const char *way_out;                         /* const: what to do if somebody has the pool */
	struct meta_pv_handle handles[POOL_PVS_MAX]; /* of dir's pvs, where opened[] */
	bool opened[POOL_PVS_MAX];
	struct known_layer *layers; /* by id */
	struct known_layer **by_store;
	size_t layer_count, layer_room;
	bool layers_unknown; /* a record can't be used, so a store may be its */
	bool snapshots_unknown;

	/* Chunks. */
	struct chunk_set *owned;  /* by an entry that the map pass has seen */
	struct chunk_set *space;  /* what the space records said when the check began */
	struct chunk_set *leaked; /* in space, not in owned: so far */
	struct chunk_set *twice;  /* seen in two entries: so far */
	bool maps_unknown;        /* a map record can't be used: what it owns is not known */

	/* What thick disks are promised and don't own. */
	uint64_t promised_chunks;

	/* Questions for the metadata thread. */
	uint64_t *recounts; /* layer ids */
	size_t recount_count, recount_room;
	struct end_suspect *ends;
	size_t end_count, end_room;
};

/* ---- check.c ------------------------------------------------------------------------------------ */

struct check *check_new(const struct meta_check_args *args, struct base_error *err); /* NULL: no memory */
void check_free(struct check *check);
/* Of a directory's pool: locks the pvs. Return: 0; -EBUSY with err; other negative errno with err. */
MUST_CHECK int check_lock_dir(struct check *check, const char *dir);
MUST_CHECK int check_run_passes(struct check *check);

/* ---- check_report.c --------------------------------------------------------------------------- */

/* A place begins with nothing in it and is then given what is known: the later initializer is meant to win. */
#pragma GCC diagnostic ignored "-Woverride-init"
#define CHECK_PLACE(...)                                                                                             \
	(&(const struct meta_check_place){ .database = META_CHECK_NONE,                                              \
					   .pv = META_CHECK_NONE,                                                    \
					   .disk = META_CHECK_NONE,                                                  \
					   .layer = META_CHECK_NONE,                                                 \
					   .store = META_CHECK_NONE,                                                 \
					   .leaf = META_CHECK_NONE,                                                  \
					   .entry = META_CHECK_NONE,                                                 \
					   .chunk = META_CHECK_NONE,                                                 \
					   .page = META_CHECK_NONE,                                                  \
					   __VA_ARGS__ })

void check_found(struct check *check, enum meta_check_kind kind, const struct meta_check_place *place,
		 const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* A record that can't be used: why is META_CHECK_BAD_CHECKSUM or META_CHECK_BAD_CONTENT. */
void check_found_bad(struct check *check, enum meta_check_kind why, enum db_kind kind, const struct db_key *key);
/* Between slices, on the calling thread: progress, and (tick) whether to go on. Return: 0; -ECANCELED with err. */
void check_tell(struct check *check);
MUST_CHECK int check_tick(struct check *check);
bool check_is_cancelled(const struct check *check);
/* A transaction of the calling thread. Return: 0; negative errno with err. */
MUST_CHECK int check_begin(struct check *check, struct db_txn **ret);
int check_no_memory(struct check *check);
int check_cant_read(struct check *check, enum db_kind kind, int rc);
/*
 * Calls fn with each record of a database, slice_records a transaction, and txn that transaction, for look-ups
 * at the same moment. value is NULL when the checksum is wrong; that has been reported then.
 * fn returns 0, or a negative errno, which ends it. Return: 0; negative errno with err.
 */
typedef int check_record_fn(struct check *check, struct db_txn *txn, const struct db_key *key,
			    const struct db_value *value, void *arg);
MUST_CHECK int check_each(struct check *check, enum db_kind kind, check_record_fn *fn, void *arg);
/* Makes room for one more element of an array. Return: 0, -ENOMEM. */
MUST_CHECK int check_room(void **array, size_t *room, size_t count, size_t element_bytes);

/* ---- check_pages.c ----------------------------------------------------------------------------- */

enum { CHECK_ENOUGH = 1 }; /* the report is done: what is left can't be looked at */

/* A pass. Return: 0; CHECK_ENOUGH; negative errno with err. */
MUST_CHECK int check_pages(struct check *check);
/* Why dir's metadata could not be opened, `why` with err: CHECK_ENOUGH if its pages are the cause, else why. */
MUST_CHECK int check_pages_refused(struct check *check, const char *dir, int why);

/* ---- check_pool.c ------------------------------------------------------------------------------ */

MUST_CHECK int check_pool_and_pvs(struct check *check);
MUST_CHECK int check_labels(struct check *check);
/* A directory's pvs. Return: 0, also when one can't be opened (check_labels reports that); -EBUSY with err. */
MUST_CHECK int check_open_pvs(struct check *check, const char *dir);
void check_close_pvs(struct check *check);
/* Whether some pv has the chunk. true also when that can't be told. When it seems not: looks again in txn. */
bool check_in_range(struct check *check, struct db_txn *txn, uint32_t chunk);
/* Whether all of [first, first + count) lie in one range. */
bool check_all_in_range(const struct check *check, uint64_t first, uint64_t count);
/* Whether the pool has given out the id. true also when that can't be told. */
bool check_is_issued(struct check *check, struct db_txn *txn, uint64_t id);

/* ---- check_layers.c, check_snapshots.c, check_disks.c -------------------------------------------- */

/* Return: 0, DB_NOT_FOUND, -EBADMSG (wrong checksum or no record), other negative errno. */
MUST_CHECK int check_get_layer(struct db_txn *txn, uint64_t id, struct meta_layer_record *ret);
MUST_CHECK int check_get_disk(struct db_txn *txn, uint64_t number, struct meta_disk_record *ret);

MUST_CHECK int check_layers(struct check *check);
MUST_CHECK int check_snapshots(struct check *check); /* before check_layer_tree */
MUST_CHECK int check_layer_tree(struct check *check);
struct known_layer *check_layer_by_id(const struct check *check, uint64_t id);
struct known_layer *check_layer_by_store(const struct check *check, uint64_t store);
MUST_CHECK int check_disks(struct check *check);

/* ---- check_targets.c --------------------------------------------------------------------------- */

MUST_CHECK int check_targets(struct check *check);

/* ---- check_map.c -------------------------------------------------------------------------------- */

MUST_CHECK int check_map(struct check *check);
/* What an entry of the disk has beyond its end and not covered by the mark: valid blocks. */
uint16_t check_beyond_end(meta_entry entry, uint64_t chunk_of_disk, uint64_t size_bytes, uint64_t trim_above_bytes);
void check_found_beyond_end(struct check *check, uint64_t disk, uint64_t store, uint64_t chunk_of_disk,
			    uint64_t size_bytes);

/* ---- check_space.c ------------------------------------------------------------------------------- */

MUST_CHECK int check_space(struct check *check);
/* Reads a space record. Return: 0, all clear when there is none; negative errno. */
MUST_CHECK int check_get_space(struct db_txn *txn, uint64_t group, struct meta_space_record *ret);

/* ---- check_owners.c ------------------------------------------------------------------------------- */

/* After check_map(): who owns what is marked as owned, or is owned twice. */
MUST_CHECK int check_owners(struct check *check);

/* ---- check_promises.c ------------------------------------------------------------------------------ */

void check_note_promise(struct check *check, const struct meta_disk_record *disk,
			const struct meta_layer_record *layer);
/* After all that may find something wrong with a chunk. */
MUST_CHECK int check_promises(struct check *check);

/* ---- check_live.c -------------------------------------------------------------------------------- */

enum { CHECK_MORE = 1 };

/* What the metadata thread does in one turn. */
struct check_turn {
	struct check *check;
	struct db_txn *txn;
	const struct commit_work
		*committed; /* of the commit that became durable since the turn before; NULL: none did */
	uint64_t began_ns;
	unsigned records;
};
typedef int check_step_fn(struct check_turn *turn, void *arg);
/*
 * Runs step until it returns 0 or a negative errno; while it returns CHECK_MORE it is called again. On a pool in use
 * that is on the metadata thread, with at most one commit between two calls; else on this thread, without any.
 * Return: what the last step returned; -ECANCELED; negative errno with err.
 */
MUST_CHECK int check_live_run(struct check *check, check_step_fn *step, void *arg);
/* Counts one record of the turn; true: the turn has lasted long enough. */
bool check_turn_is_over(struct check_turn *turn);

/* ---- check_recount.c, check_end.c ------------------------------------------------------------------ */

void check_found_counters(struct check *check, uint64_t layer_id, const struct meta_layer_record *rec,
			  uint64_t chunks, uint64_t blocks, uint64_t index_records);
MUST_CHECK int check_recounts(struct check *check);
MUST_CHECK int check_ends(struct check *check);

#endif
