/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a pool, shared by the files of meta/ only.
 *
 * Threads (docs/threads.md):
 *   Q    queue threads: find leaves, change entries, allocate
 *   LK   look-up threads: read leaves from LMDB
 *   MW   the metadata thread: flushes, commits, the catalogue; the only LMDB writer
 *   BG   the background thread: the way of a freed chunk after its commit, trims, freeing of dead layers, eviction
 *   CTL  everybody who may block
 *
 * Lock order, outermost first:
 *   pool.catalog_lock > store.lock > leaf.lock > pool.dirty_lock > space.lock > pool.jobs_lock
 * A thread that holds one of them takes no I/O, no LMDB call and no wait of any kind, but for MW's own
 * use of store.lock while it publishes presence bits.
 */
#ifndef META_INTERNAL_H
#define META_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/mailbox.h"
#include "base/park.h"
#include "meta/changed.h"
#include "meta/copy.h"
#include "meta/db.h"
#include "meta/epoch.h"
#include "meta/event.h"
#include "meta/io.h"
#include "meta/leaf.h"
#include "meta/pool.h"
#include "meta/pv.h"
#include "meta/records.h"
#include "meta/records_target.h"
#include "meta/restart.h"
#include "meta/space.h"

/* Commits start early at this many dirty leaves; allocating writes wait at twice as many. */
#define COMMIT_LEAVES 10000
/* Map changes that nobody flushes are committed within this time. */
#define COMMIT_INTERVAL_NS UINT64_C(1000000000)

/* ---- leaves and stores -------------------------------------------------------------------- */

/* What the cache of maps holds: a leaf, or a view. */
struct cache_item {
	struct cache_item *prev, *next; /* cache_lock of the pool: the clock */
	uint32_t bytes;                 /* const: what it counts */
	bool is_view;                   /* const */
	_Atomic bool referenced;        /* since the clock's hand passed */
	_Atomic int kept;               /* requests that must find it here; CACHE_GONE: it is out, for good */
};
#define CACHE_GONE (-1)

struct meta_leaf {
	_Atomic meta_entry entries[LEAF_CHUNKS]; /* loads: any thread in an epoch; stores: under lock */
	struct meta_store *store;                /* const */
	uint64_t number;                         /* const */
	pthread_mutex_t lock;
	/* lock: */
	bool dirty;      /* differs from what the last copy took; on the pool's dirty list */
	bool committing; /* its copy is on the way to LMDB */
	bool evicted;    /* no longer in the store; waits for the epoch */
	bool folding;    /* BG works on it: it can't be pinned, and is not evicted */
	uint32_t pins;   /* writers between planning and completion */
	/* dirty_lock: */
	struct meta_leaf *dirty_next;
	struct cache_item item;
};

/* A piece of a chunk of the disk: these blocks of it are in this chunk of the pool. */
struct view_piece {
	uint32_t chunk;
	uint16_t blocks;
};

/* What a layer and all below it show in one leaf; see view.c. Const, but for the item. */
struct meta_view {
	struct cache_item item;
	struct meta_store *store;
	uint64_t number;                 /* of the leaf */
	uint64_t moves;                  /* the bucket's count of moves that it was made at ... */
	uint64_t joins;                  /* ... and the store's of joins */
	uint16_t first[LEAF_CHUNKS + 1]; /* piece of each chunk */
	struct view_piece pieces[];
};

#define ROW_LEAVES 128
#define GROUP_ROWS (GROUP_LEAVES / ROW_LEAVES)

struct leaf_row {
	_Atomic(struct meta_leaf *) leaf[ROW_LEAVES];
};
struct view_row {
	_Atomic(struct meta_view *) view[ROW_LEAVES];
};

/* 64 GiB of disk: the index record in memory and the leaves that are in memory. */
struct leaf_group {
	_Atomic uint64_t present[GROUP_LEAVES / 64]; /* durable presence; MW sets, Q reads */
	_Atomic(struct leaf_row *) rows[GROUP_ROWS];
	_Atomic(struct view_row *) view_rows[GROUP_ROWS]; /* of a layer that others stand on */
};

/* Grows by replacement; the old one stays until the store goes, for readers that are still in it. */
struct group_dir {
	struct group_dir *older;
	uint64_t count;
	_Atomic(struct leaf_group *) groups[];
};

struct leaf_load {
	struct leaf_load *next; /* in the store, and then in the look-up queue by queue_next */
	struct leaf_load *queue_next;
	struct meta_store *store;
	uint64_t number;
	bool view; /* else the leaf */
	struct meta_wait *waiters;
};

/* A layer and its store. */
struct meta_store {
	struct meta_pool *pool;
	uint64_t id;          /* const */
	uint64_t layer_id;    /* MW */
	pthread_mutex_t lock; /* insertion and removal of leaves, groups; loads */
	/* Where a reader goes on. Changed under catalog_lock, overlap before parent; read in an epoch, parent before
	 * overlap. The parent is a reference, kept until the store itself is freed. */
	_Atomic(struct meta_store *) parent;
	_Atomic uint64_t overlap_bytes;
	_Atomic(struct group_dir *) dir;
	struct leaf_load *loads;                     /* lock: look-ups under way, one a leaf and one a view */
	_Atomic uint64_t kept;                       /* items of it that requests keep; grows under lock */
	struct meta_layer_record layer;              /* MW: as committed */
	struct meta_layer_record layer_next;         /* MW: within a commit, or a release */
	uint64_t release_serial;                     /* MW: of which release layer_next is ... */
	bool release_unnamed;                        /* ... and this: its name goes in it */
	bool index_loaded;                           /* lock */
	_Atomic uint64_t joins;                      /* folds that made it another layer's: earlier views are void */
	_Atomic uint64_t commits;                    /* that wrote leaves of it; MW, before their pins go */
	struct space_claim claim;                    /* space.lock */
	/* catalog_lock: its disk, its snapshot, its children, a job. */
	unsigned refs;
	struct meta_disk *head_of;      /* catalog_lock: the disk that writes into it */
	struct meta_snapshot *snapshot; /* catalog_lock: its name */
	uint64_t overlap_rises;         /* catalog_lock: how often a range was attached (snapshot_attach.c) */
	bool fold_asked;                /* catalog_lock: there is a job, or it was cancelled */
	bool unlinked;                  /* catalog_lock: no longer on the list; waits for the epoch */
	uint64_t retired_epoch;         /* catalog_lock */
	_Atomic uint64_t chunks_owned, blocks_valid; /* live */
	struct meta_store *next, **link;             /* catalog_lock: all stores in memory, and what points here */
};

/* ---- disks -------------------------------------------------------------------------------- */

struct meta_disk {
	struct meta_pool *pool;         /* const */
	uint64_t number;                /* const */
	_Atomic(struct meta_store *) store; /* the head's; changes under every stripe, by MW, under catalog_lock */
	struct meta_snapshot *snapshots;    /* catalog_lock: by name */
	unsigned snapshot_count;            /* catalog_lock */
	struct meta_disk_record record; /* catalog_lock; written by MW */
	_Atomic uint64_t size_bytes;
	_Atomic uint8_t kind;         /* enum meta_disk_kind; changes only under every stripe */
	_Atomic uint64_t changed_in;  /* number of the commit that has, or will have, its latest map change; grows */
	_Atomic uint64_t window;      /* reserved chunks: first << 32 | count */
	_Atomic uint32_t window_goal; /* chunks to reserve next time */
	_Atomic bool trimming;
	int trim_error; /* jobs_lock: why the trim was given up; the disk stays `trimming` until the pool is opened
			   again */
	_Atomic uint64_t hold_epoch; /* as the pool's */
	pthread_mutex_t size_lock; /* with the restart record of a growth */
	bool size_dirty;           /* dirty_lock */
	struct meta_disk *size_dirty_next;
	/* catalog_lock: */
	unsigned refs, opens;
	unsigned files;      /* open files of the mount, by descriptor */
	unsigned vtds;       /* that map it, those about to be made included */
	unsigned exclusive;  /* of these, the ones that are not shared: 0 or 1 */
	pid_t announced;     /* may open it once as a file of its mapping; 0 = none */
	bool removed;                              /* or about to be: not to be opened */
	struct base_msg free_msg;                  /* to BG, when the last reference of a removed disk goes */
	struct meta_disk *name_next, *number_next; /* hash chains */
	struct meta_wait *trim_waiters;            /* jobs_lock */
};

/* ---- snapshots ----------------------------------------------------------------------------- */

struct meta_snapshot {
	struct meta_pool *pool;             /* const */
	struct meta_disk *disk;             /* catalog_lock; a reference */
	struct base_uuid uuid;              /* const */
	struct meta_snapshot_record record; /* catalog_lock; written by MW */
	_Atomic(struct meta_store *) store; /* changes by MW, under catalog_lock */
	/* catalog_lock: */
	unsigned refs, opens;
	bool removed;
	struct meta_snapshot *next; /* of the disk */
	struct base_msg free_msg;   /* to BG, when the last reference of a removed one goes */
};

/* A disk has a new, empty head above the old one, in memory and in the restart log; the next commit makes it durable.
 */
struct head_switch {
	struct head_switch *next;
	struct meta_disk *disk; /* a reference */
	struct meta_store *old, *fresh;
	struct meta_snapshot *snapshot; /* that names the old one; NULL: nobody, it will be folded */
};

/* ---- calls to MW ---------------------------------------------------------------------------- */

/* Runs fn on MW inside a write transaction that is committed when it returns 0, and waits. fn must leave memory
 * alone; `applied` (may be NULL) changes it, still on MW, once the transaction is durable. */
struct mw_call {
	struct base_msg msg;
	struct meta_pool *pool;
	int (*fn)(struct mw_call *call, struct db_txn *txn);
	void (*applied)(struct mw_call *call); /* under catalog_lock */
	void (*undone)(struct mw_call *call);  /* the transaction failed after fn had returned 0; may be NULL */
	bool no_room;                          /* the metadata's file system had none for the transaction */
	bool may_use_reserve; /* makes no more metadata, or little, and fn may run twice: tried again on the reserve
			       */
	struct meta_pool_record
		*record; /* for fn: the pool record that the transaction will write (next_id, pv_count ...) */
	void *arg;
	struct base_error *err;
	int result;
	uint64_t deferred_until; /* number of attempts at a commit */
	bool ended;
	struct base_park done;                  /* mw_call_wait's */
	void (*finished)(struct mw_call *call); /* asynchronous callers; NULL: wake `done` */
};

/* ---- what runs in the background ---------------------------------------------------------- */

/* Entries of `store` at or above from_byte are freed, in leaf order; a commit; then the mark or the layer goes in a
 * transaction. */
struct clear_job {
	struct clear_job *next;
	uint64_t id, leaves_done;
	struct meta_store *store; /* a reference */
	struct meta_disk *disk;   /* a trim, with a reference; NULL: a dead layer */
	uint64_t from_byte;
	uint64_t cursor; /* next leaf */
	enum { CLEAR_RUNNING, CLEAR_WAITING, CLEAR_DONE } state;
	int result;
	struct meta_wait commit; /* CLEAR_WAITING, first for the commit ... */
	struct mw_call call;     /* ... then for the last transaction */
	struct base_msg done;    /* back on BG */
};

/* ---- commit ------------------------------------------------------------------------------- */

struct leaf_copy {
	struct meta_leaf *leaf;
	struct meta_store *store;
	uint64_t number;
	bool present_before, present_after;
	meta_entry entries[LEAF_CHUNKS];
};

struct size_copy {
	struct meta_disk *disk;
	uint64_t size_bytes;
};

struct chunk_vec {
	uint32_t *chunks;
	size_t count, room;
};

struct commit_work { /* MW; kept between commits so that a steady load allocates nothing */
	struct leaf_copy *leaves;
	size_t leaf_count, leaf_room;
	struct size_copy *sizes;
	size_t size_count, size_room;
	struct chunk_vec freed, taken; /* derived from old and new leaves */
	size_t cleared, set; /* how far freed and taken were applied to space.owned, should the transaction fail */
	uint32_t *groups;    /* space records that are touched */
	size_t group_room;
};

/* ---- the pool ----------------------------------------------------------------------------- */

struct pool_pv {
	uint64_t number;
	struct meta_pv_record record; /* catalog_lock */
	struct meta_pv_handle handle;
	_Atomic bool unsynced; /* written since the last sync began */
	_Atomic bool no_discard;
	_Atomic uint64_t full_told_ns;
};

#define POOL_PVS_MAX 64

struct pool_range { /* of chunk numbers; sorted; grows only under every reader's nose: see meta_io_locate */
	uint32_t first_chunk, chunks;
	uint64_t first_byte;
	uint32_t pv;
};
struct range_table {
	struct range_table *older;
	unsigned count;
	struct pool_range ranges[];
};

#define DISK_HASH 4096
/* Leaves 512 GiB apart share one: more than a fold passes in the time that a view is of use. */
#define MOVE_BUCKETS 65536

/* An adapter or a VTD; which, its table says. */
struct target {
	char name[META_DEVICE_NAME_BYTES_MAX + 1]; /* const */
	union {
		struct meta_adapter_record adapter;
		struct meta_vtd_record vtd;
	};
};
struct target_table {
	struct target **items; /* in order of name */
	size_t count, room;
};

struct event_ring {
	pthread_mutex_t lock;
	pthread_cond_t more;
	uint64_t last; /* lock: number of the last event */
	struct meta_event events[META_EVENTS_KEPT];
};

#define RATE_SLOTS 640
struct rate_slot {
	uint64_t when_ns, used_chunks;
};
struct rate {
	pthread_mutex_t lock;
	uint64_t count; /* lock: slots ever written */
	struct rate_slot slots[RATE_SLOTS];
};

struct meta_reserve { /* MW, but for is_short */
	bool is_open, whole, none;
	int fd;
	uint64_t bytes;
	uint64_t retry_at_ns;
	_Atomic bool is_short;
};

struct meta_pool {
	char dir[4096]; /* const */
	const struct meta_pv_ops *pv_ops;
	void *pv_ctx;
	bool read_only, no_threads; /* const */
	struct db_env *env;
	struct restart_log *log; /* NULL when read-only */
	struct meta_epochs epochs;
	unsigned ctl_participant;       /* const */
	pthread_mutex_t ctl_epoch_lock; /* held by the CTL thread that is in an epoch; taken before all others */
	struct space space;
	_Atomic(struct range_table *) ranges; /* replaced, never changed; old ones stay until close */
	struct pool_pv pvs[POOL_PVS_MAX];
	_Atomic unsigned pv_count;

	pthread_mutex_t catalog_lock;
	struct meta_pool_record record; /* catalog_lock; MW writes */
	struct meta_disk *by_name[DISK_HASH], *by_number[DISK_HASH];
	uint64_t disk_count;
	struct meta_disk **sorted; /* by name; made anew when sorted_valid is false */
	size_t sorted_count, sorted_room;
	bool sorted_valid;
	struct meta_store *stores;
	struct meta_store *retired_stores; /* catalog_lock: by next; BG frees them */
	pthread_cond_t closed_cond; /* the opens of a disk or snapshot went to 0, or a file of a disk was closed */
	struct target_table adapters, vtds; /* catalog_lock; MW writes */

	/* Failure: sticky. */
	_Atomic bool failing;
	_Atomic int failed_code; /* negative errno, 0 = none */
	char failed_why[160];    /* set once, before failed_code */

	/* Syncs: one at a time, and its failure is told before the next. */
	pthread_mutex_t sync_lock;
	_Atomic bool syncing; /* sync_lock: flags of pvs were cleared, and their sync has not ended */

	/* MW. */
	struct base_mailbox mw_box;
	struct base_park mw_park;
	pthread_t mw_thread;
	_Atomic bool mw_stop;
	struct meta_wait *flushes;        /* MW: of struct meta_flush; arrived, not begun */
	struct meta_wait *commit_waiters; /* MW: wait for the next commit */
	struct meta_wait *space_waiters;  /* MW: need space */
	_Atomic uint64_t held_writes, held_bytes; /* MW writes */
	_Atomic uint64_t hold_epoch;              /* a hold that was begun in an earlier one is over */
	_Atomic bool hold_stopped;
	uint64_t hold_began_ns;      /* MW */
	bool alert_free, alert_over; /* MW */
	bool alert_due;              /* MW: something changed that alarms depend on */
	struct meta_reserve reserve;
	struct rate rate;
	struct event_ring events;
	struct head_switch *switches;     /* MW: not durable yet */
	uint64_t release_serial;          /* MW */
	uint64_t commit_attempts;         /* MW */
	struct meta_switch *switch_waiters; /* MW: who asked for them */
	_Atomic bool commit_forced;
	_Atomic uint64_t commit_open;    /* number that the next copy will have */
	_Atomic uint64_t commit_durable; /* number of the last durable commit */
	_Atomic uint64_t dirty_since_ns; /* 0 = nothing dirty */
	uint64_t retry_at_ns;            /* MW: after ENOSPC from the metadata's file system */
	uint64_t label_written;          /* MW: commit number that the labels got last */
	struct commit_work work;
	_Atomic uint64_t commits, commit_ns_last, commit_ns_max;

	/* Dirty. */
	pthread_mutex_t dirty_lock;
	struct meta_leaf *dirty_leaves;
	struct meta_disk *dirty_sizes;
	_Atomic uint64_t dirty_count;

	/* Moves of entries between two stores: both leaves are copied before or after one. Taken before leaf locks. */
	pthread_mutex_t move_lock;
	/* Grows whenever entries move from one store to another; by leaf number. See layer.c and view.c. */
	_Atomic uint64_t move_counts[MOVE_BUCKETS];
	_Atomic uint64_t moved_leaves;

	/* Leaf cache. */
	pthread_mutex_t cache_lock;
	struct cache_item cache_clock;            /* cache_lock: sentinel of the ring */
	struct cache_item cache_replaced;         /* cache_lock: of the ring of views that others took the place of */
	_Atomic uint64_t cached_leaves, cached_views;
	_Atomic uint64_t cached_bytes;            /* of both */
	_Atomic uint64_t cache_tables;            /* bytes of groups and rows */
	uint64_t cache_limit_bytes;               /* const */
	_Atomic bool evicting;                    /* BG knows that there are too many */
	_Atomic uint64_t evictions, lookups, misses;

	/* Look-up threads. */
	pthread_mutex_t lookup_lock;
	pthread_cond_t lookup_cond;
	struct leaf_load *lookup_head, **lookup_tail;
	pthread_t lookup_threads[8];
	unsigned lookup_count;
	bool lookup_stop;
	unsigned lookup_participant; /* const; of the first one, or of who steps in their place */

	/* BG. */
	struct base_mailbox bg_box;
	struct base_park bg_park;
	pthread_t bg_thread;
	_Atomic bool bg_stop;
	pthread_mutex_t jobs_lock;
	struct clear_job *jobs;
	struct fold_job *folds;         /* jobs_lock: in order; the first one runs */
	struct meta_wait *fold_waiters; /* jobs_lock: for the leaf that BG holds */
	bool fold_holds;                /* jobs_lock */
	uint64_t last_job_id;           /* jobs_lock */
	_Atomic uint64_t fold_rate;
	struct meta_fold_totals folded; /* jobs_lock */
	uint64_t rediscard_at; /* BG: chunk number from which free space is still to be discarded again; UINT32_MAX +
				  1 = none */
	struct cache_item *retired; /* BG: evicted items, by next */
	uint64_t retired_epoch;
	struct db_txn *bg_slot; /* BG: its read transaction */
	struct meta_copy copy;  /* of the metadata, on the first pv */
	struct changed_list changed; /* MW: which disks have changed since */
};

/* pool.c */
/* CTL threads that walk maps: one at a time, for as long as a few leaves take. */
uint64_t pool_epoch_enter(struct meta_pool *pool);
/* CTL; blocks. Return: 0; why the trim was given up: the disk stays `trimming`, there is nothing to wait for. */
MUST_CHECK int pool_wait_trimmed(struct meta_disk *disk, struct base_error *err);
void pool_epoch_leave(struct meta_pool *pool, uint64_t epoch);
void pool_fail(struct meta_pool *pool, int code, const char *why);
int pool_failed_code(struct meta_pool *pool);
int pool_write_labels(struct meta_pool *pool, uint64_t commit);
struct range_table *pool_ranges_new(struct meta_pool *pool, unsigned more); /* empty, with room for `more` than now */
void pool_ranges_fill(struct meta_pool *pool, struct range_table *table);
void pool_pv_path(struct meta_pool *pool, const struct meta_pv_record *rec, char *buf, size_t bytes);
/* pool_create.c: a path as a pv record has it, into buf of META_PV_PATH_BYTES_MAX. */
int pool_store_path(const char *dir, const char *path, char *buf, struct base_error *err);
void pool_publish_ranges(struct meta_pool *pool, struct range_table *table);

/* sync.c. A sync that fails has marked the restart log and failed the pool when these return; -EIO in a pool that has
 * failed before. */
MUST_CHECK int pool_sync_pvs(struct meta_pool *pool); /* MW: those that were written since their last sync began */
MUST_CHECK int pool_sync_pv(struct meta_pool *pool, unsigned pv); /* MW or BG: this one, whatever was written */
/* The disk has a map change that the commit with the number of now, or a younger one, makes durable. Any thread. */
void disk_note_change(struct meta_disk *disk);

/* map.c */
struct meta_store *store_new(struct meta_pool *pool, uint64_t layer_id, const struct meta_layer_record *layer);
void store_free(struct meta_store *store);
struct leaf_group *store_group(struct meta_store *store, uint64_t group_number); /* NULL when not in memory */
struct leaf_group *store_group_make(struct meta_store *store,
				    uint64_t group_number); /* store.lock; NULL: no memory */
bool store_leaf_is_present(struct meta_store *store, uint64_t leaf_number);
void store_set_present(struct meta_store *store, uint64_t leaf_number, bool present); /* store.lock */
int store_load_index(struct meta_store *store, struct base_error *err);               /* CTL; reads LMDB */
struct meta_leaf *store_install(struct meta_store *store, uint64_t leaf_number,
				const meta_entry *entries); /* store.lock; NULL: no memory */
void leaf_mark_dirty(struct meta_leaf *leaf);               /* leaf.lock */
void leaf_set_logged(struct meta_disk *disk, struct meta_leaf *leaf, unsigned index,
		     meta_entry entry); /* leaf.lock */
void leaf_account(struct meta_store *store, meta_entry before, meta_entry after);
void pool_note_dirty(struct meta_pool *pool);
struct leaf_row *store_row(struct leaf_group *group, uint64_t leaf_number); /* NULL: nothing of it is in memory */

/* cache.c */
void cache_init(struct meta_pool *pool, uint64_t limit_bytes);
void cache_insert(struct meta_pool *pool, struct cache_item *item); /* store.lock */
/* Others have taken its place: nobody finds it any more. In an epoch. */
void cache_replace(struct meta_pool *pool, struct cache_item *item);
/* The store goes, and nobody can reach it any more. */
void cache_discard(struct meta_pool *pool, struct cache_item *item);
void cache_discard_replaced(struct meta_store *store);
bool cache_keep(struct meta_store *store, struct cache_item *item); /* store.lock; false: it is gone */
uint64_t cache_evict(struct meta_pool *pool, uint64_t now_ns);      /* BG; returns when to come again, 0: never */
void cache_done(struct meta_pool *pool);                            /* at close: what was evicted */

/* view.c */
/* In an epoch. NULL: there is none, or not of that count of moves. */
struct meta_view *view_find(struct meta_store *store, uint64_t leaf_number, uint64_t moves);
void view_take(const struct meta_view *view, unsigned index, uint16_t left, uint32_t sources[CHUNK_BLOCKS]);
/* Reads what is needed, in an epoch; blocks. *ret is not in the store yet. Return: 0, negative errno. */
int view_make(struct meta_store *store, uint64_t leaf_number, struct db_txn **slot, struct meta_view **ret);
/* store.lock, in an epoch. Puts it into its place. False: no memory, it is freed. */
bool view_install(struct meta_view *view);
bool view_unlink(struct meta_view *view); /* BG: as part of an eviction */
void view_row_free(struct meta_pool *pool, struct view_row *row);

/* lookup.c */
int leaf_read(struct meta_store *store, uint64_t leaf_number, struct db_txn **slot, meta_entry *entries);
/* A leaf as it is now, past the cache: for who walks whole maps. CTL, outside an epoch. */
int leaf_copy_now(struct meta_store *store, uint64_t leaf_number, struct db_txn **slot, meta_entry *entries);
int store_load_leaf_now(struct meta_store *store, uint64_t leaf_number, struct db_txn **slot,
			struct meta_leaf **ret);                /* BG, CTL, replay: blocks */
/* What is missing, now: CTL, in an epoch; it is kept, see meta_keep_end. Return: 0, also when it went again before it
 * could be kept; negative errno. */
int map_load_now(const struct meta_missing *missing, struct db_txn **slot, struct cache_item **ret_kept);
bool lookup_step(struct meta_pool *pool, struct db_txn **slot); /* one look-up; false: none waiting */
int lookup_start(struct meta_pool *pool, unsigned threads);
void lookup_stop(struct meta_pool *pool);

/* commit.c */
int commit_run(struct meta_pool *pool);
/* MW: the bits of a group as they are in memory. */
int commit_put_space_group(struct meta_pool *pool, struct db_txn *txn, uint64_t group);

/* mw.c */
uint64_t mw_step(struct meta_pool *pool, uint64_t now_ns); /* returns the next deadline, 0 = none */
int mw_start(struct meta_pool *pool);
void mw_stop(struct meta_pool *pool);
int mw_call_wait(struct meta_pool *pool, struct mw_call *call);
void mw_call_post(struct meta_pool *pool, struct mw_call *call);
void wait_post(struct meta_wait *wait, int result);
void wait_post_all(struct meta_wait **list, int result);

bool pool_is_dirty(struct meta_pool *pool);
uint64_t pool_commit_leaves(const struct meta_pool *pool); /* as many dirty ones start a commit */

/* event.c; any thread */
void events_init(struct event_ring *ring);
void event_tell(struct meta_pool *pool, enum meta_event_kind kind, const char *subject, uint64_t value,
		uint64_t limit);
void event_hold(struct meta_pool *pool, struct meta_disk *disk, bool begins); /* MW */

/* alert.c */
void alert_turn(struct meta_pool *pool, uint64_t now_ns);             /* MW */
void alert_rate(struct meta_pool *pool, struct meta_pool_info *info); /* any thread; info has free_chunks */
void pool_space_figures(struct meta_pool *pool, struct meta_pool_info *ret);

/* reserve.c; MW, but for reserve_is_short */
void reserve_open(struct meta_pool *pool);
void reserve_close(struct meta_pool *pool);
bool reserve_is_short(const struct meta_pool *pool);
bool reserve_spend(struct meta_pool *pool); /* there was no room; true: there is more now, try again */
void reserve_look(struct meta_pool *pool);  /* after a commit */
uint64_t reserve_turn(struct meta_pool *pool, uint64_t now_ns); /* returns when to come again */

/* space_wait.c; MW */
bool space_wait_has_new(struct meta_pool *pool); /* somebody waits and is not held */
uint64_t space_wait_turn(struct meta_pool *pool,
			 uint64_t now_ns); /* returns when to come again, 0 = when something changes */
void space_wait_fail(struct meta_pool *pool, int result);
/* Has the background bring what is being freed as soon as it can. Any thread. */
void space_hasten(struct meta_pool *pool);

/* background.c */
uint64_t bg_step(struct meta_pool *pool, uint64_t now_ns);
int bg_start(struct meta_pool *pool);
void bg_stop(struct meta_pool *pool);
/* Under catalog_lock. Takes references of its own. */
int bg_add_clear(struct meta_pool *pool, struct meta_store *store, struct meta_disk *disk, uint64_t from_byte);
bool bg_no_batches(struct meta_pool *pool);
bool bg_drain_step(struct meta_pool *pool); /* at close, when BG has stopped; false: it can't go on */
bool bg_is_idle(struct meta_pool *pool);    /* nothing freed is on its way, no job */

/* catalog.c */
int catalog_load(struct meta_pool *pool, struct base_error *err);
void catalog_claim_all(struct meta_pool *pool);                  /* at open, after the replay */
uint64_t catalog_goal_chunks(uint8_t kind, uint64_t size_bytes); /* what a disk is promised in all */
int catalog_start_jobs(struct meta_pool *pool, struct base_error *err);
void catalog_free(struct meta_pool *pool);
/* For catalog_change.c; those that touch the tables: under catalog_lock. */
struct meta_disk *catalog_disk_new(struct meta_pool *pool, uint64_t number, const struct meta_disk_record *rec,
				   struct meta_store *store);
void catalog_disk_unmake(struct meta_disk *disk); /* never inserted */
void catalog_disk_drop(struct meta_disk *disk);   /* the same; its store stays */
int catalog_check_spec(const struct meta_disk_spec *spec, struct base_error *err); /* name, size, blocks */
void catalog_fill_record(const struct meta_disk_spec *spec, struct meta_disk_record *rec);
void catalog_insert(struct meta_disk *disk);
void catalog_unlink(struct meta_disk *disk);
bool catalog_is_linked(struct meta_disk *disk);
void catalog_rename(struct meta_disk *disk, const char *new_name);
struct meta_store *catalog_store_by_id(struct meta_pool *pool, uint64_t store_id);
/* catalog_change.c */
/* meta_disk_create, of one disk, and with the snapshot (which may be NULL) as the parent of its head. */
int catalog_create(struct meta_pool *pool, const struct meta_disk_spec *specs, size_t count, uint64_t *ret_numbers,
		   struct meta_snapshot *from, struct base_error *err);
void disk_forget_size(struct meta_disk *disk);
int catalog_put_pool(struct meta_pool *pool, struct db_txn *txn, const struct meta_pool_record *rec);
int catalog_put_layer(struct db_txn *txn, uint64_t id, const struct meta_layer_record *rec);
int catalog_put_disk(struct db_txn *txn, uint64_t number, const struct meta_disk_record *rec);
struct meta_disk *catalog_disk_by_number(struct meta_pool *pool, uint64_t number);
void catalog_recall_windows(struct meta_pool *pool);
void disk_window_return(struct meta_disk *disk);
void disk_free(struct meta_disk *disk); /* BG, or at close */

/* layer.c */
/* The blocks of the chunk of the disk that lie below that byte. */
uint16_t layer_blocks_below(uint64_t chunk_of_disk, uint64_t limit_bytes);
void store_link(struct meta_store *store);                             /* catalog_lock; one reference */
void store_put_locked(struct meta_store *store);                       /* catalog_lock */
void store_put(struct meta_store *store);
void store_set_parent(struct meta_store *store, struct meta_store *parent, uint64_t overlap_bytes); /* catalog_lock */
uint64_t layers_free_retired(struct meta_pool *pool, uint64_t now_ns); /* BG; 0: none left, else when to come again */
/* CTL; of the store in the slot and all below it. */
int layers_load_index(struct meta_pool *pool, _Atomic(struct meta_store *) *slot, struct base_error *err);
uint16_t store_mask_below(struct meta_store *store, uint64_t chunk_of_disk); /* blocks that the parent may show */
/*
 * MW. One layer has lost its disk or its name. What then has neither name nor child is dead, and so up the chain.
 * Twice the same steps: with a transaction they write records and leave memory alone (what they have written so far
 * is in layers_draft(), since layers_release_begin()); without one (NULL) they change memory, under catalog_lock,
 * and start the jobs.
 */
void layers_release_begin(struct meta_pool *pool);
struct meta_layer_record *layers_draft(struct meta_store *store);
int layers_release(struct meta_pool *pool, struct db_txn *txn, struct meta_store *store);
/* The same of a layer that has lost a child, which went on without it. */
int layers_release_child(struct meta_pool *pool, struct db_txn *txn, struct meta_store *store);

/* fold.c */
void fold_consider(struct meta_store *store); /* catalog_lock: starts a fold if the layer has become a candidate */
void fold_free(struct meta_pool *pool);       /* at close */
uint64_t fold_step(struct meta_pool *pool, uint64_t now_ns, struct db_txn **slot); /* BG */
bool fold_needs_copy(struct meta_pool *pool); /* BG: the next one waits for a copy of the metadata */

/* snapshot.c */
int snapshots_load_one(struct meta_pool *pool, const struct db_key *key, const struct db_value *value,
		       struct base_error *err);
struct meta_snapshot *snapshot_new(struct meta_disk *disk, struct base_uuid uuid,
				   const struct meta_snapshot_record *rec, struct meta_store *store); /* catalog_lock */
/* Becomes one of another disk. catalog_lock. */
void snapshot_move(struct meta_snapshot *snapshot, struct meta_disk *to);
void snapshot_unlink(struct meta_snapshot *snapshot); /* catalog_lock; its own reference goes */
struct meta_snapshot *snapshot_find(struct meta_disk *disk, const char *name); /* catalog_lock */
struct meta_snapshot *snapshot_with_uuid(struct meta_pool *pool, struct base_uuid uuid); /* catalog_lock */
void snapshot_set_name(struct meta_snapshot *snapshot, const char *name);      /* catalog_lock */
void snapshots_free(struct meta_disk *disk);                                   /* at close */
int snapshot_put_record(struct db_txn *txn, const struct meta_snapshot *snapshot);

/* snapshot_change.c */
/* The disk's head and names let go of their layers: as layers_release(), and the snapshots' records. */
int disk_release_layers(struct meta_disk *disk, struct db_txn *txn);

/* snapshot_take.c */
int switches_write(struct meta_pool *pool, struct db_txn *txn);   /* within a commit */
void switches_committed(struct meta_pool *pool, int rc);          /* after each attempt at a commit */
/* Return: 0; 1: it says nothing new, or is not ours; -ENOMEM. */
int switch_replay(struct meta_pool *pool, const struct restart_record *rec);

/* targets.c; those that touch the tables: under catalog_lock, or on MW where they only look. */
struct meta_vtd_info;
int targets_load(struct meta_pool *pool, struct db_txn *txn, struct base_error *err);
void targets_free(struct meta_pool *pool);
struct target *target_new(const char *name);
struct target *target_find(const struct target_table *table, const char *name);
int target_reserve(struct target_table *table); /* for one more */
void target_insert(struct target_table *table, struct target *target);
void target_drop(struct target_table *table, struct target *target);
void target_fill_vtd(const struct target *target, struct meta_vtd_info *ret);
struct meta_disk *target_disk(struct meta_pool *pool, const struct meta_vtd_record *rec); /* takes catalog_lock */
void target_claim(struct meta_disk *disk, const struct meta_vtd_record *rec);
void target_unclaim(struct meta_disk *disk, const struct meta_vtd_record *rec);
/* "VTD vtscsi0 on vhost0": one that maps the disk. buf stays as it is when none does. */
void targets_describe_holder(struct meta_pool *pool, uint64_t disk, char *buf, size_t room);
/* Return: 0; -EBUSY with err: a VTD maps the snapshot. */
MUST_CHECK int targets_refuse_mapped(const struct meta_snapshot *snapshot, struct base_error *err);

#endif
