/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's state, shared by model.c (ends, recovery), requests.c and snaps.c (snapshots, clones). */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include <setjmp.h>

#include "iocore/internal.h"
#include "meta/internal.h"
#include "tests/model/lineage.h"
#include "tests/model/oracle.h"
#include "tests/model/sim_device.h"

#define DISKS_MAX 64
#define SLOTS 24
#define SNAPS_MAX 500
#define SECTOR 512
#define IO_SECTORS_MAX 1280

enum ending { END_CUT, END_KILL, END_NONE };

struct size_version {
	uint64_t bytes, submitted, completed, durable, op;
	bool resize; /* else a write that may have made the disk longer */
};

struct disk {
	struct oracle oracle;
	uint32_t id; /* of what is stamped on its sectors: a clone has that of its origin */
	uint32_t number; /* in its name */
	char name[32];
	struct meta_disk *meta;
	struct ioc_bd *bd;
	struct size_version sizes[64];
	unsigned size_count;
	unsigned flying;
	bool resizing;
	bool taking; /* a snapshot of it is being taken */
};

/* A snapshot, and what is known of it. */
struct snap {
	bool used;
	unsigned disk; /* index */
	uint32_t number; /* in its name */
	char name[32];
	uint64_t began, ended; /* when it was asked for, and when it was there; ORACLE_NEVER: not yet */
	unsigned take;         /* of one group */
	const uint32_t *shadow; /* version of each sector; NULL: not read yet; the lineage's */
	uint64_t sectors;
	struct meta_snapshot *meta;
	struct ioc_bd *bd;
	unsigned flying;
};

struct slot {
	struct ioc_request req;
	struct iovec iov[3];
	struct sim *sim;
	struct disk *disk;
	struct snap *snap; /* a read of it; else NULL */
	bool busy;
	uint64_t op, submitted, first, count;
	uint32_t version;
	char *buf;
};

/* How large a case is. */
struct scale {
	unsigned disks, snaps;
	uint64_t disk_sectors; /* largest size of a disk */
	uint64_t cache_leaves;
	unsigned rarely; /* one of so many of the steps that take, clone, remove ... is made */
	bool receives;   /* disks are taken over, too (receive.c) */
	unsigned deep;   /* layers that the first disk begins with; then snapshots are mostly removed: folds; 0: none */
};

/* What `bdfs receive` does, under way: a hidden clone of a snapshot, which a disk takes over in the end. */
struct receiving {
	enum { RECEIVE_NONE, RECEIVE_WRITING, RECEIVE_TAKING_OVER } state;
	unsigned disk;         /* index: which takes over */
	struct disk hidden;    /* number, name, bd */
	struct snap *snap;     /* that is to be */
	uint32_t *expected;    /* version of each sector of hidden, and so of the snapshot */
};

struct sim {
	struct scale scale;
	uint64_t seed, state, now, ops, events, stop_at;
	const char *again;     /* an option of the run, for who is to repeat it */
	const char *stop_what; /* NULL: at that event, whatever it is; else at the next one of this kind */
	enum ending ending;
	bool verbose, stopping;
	jmp_buf gone;
	char dir[2][64];
	unsigned where;
	uint64_t copy_every; /* background steps */
	struct sim_device device;
	struct sim_engine engine;
	struct meta_pool *pool;
	struct ioc_pool *ioc;
	struct disk disks[DISKS_MAX];
	struct slot slots[SLOTS];
	struct snap snaps[SNAPS_MAX];
	struct snapshot_take take;
	struct ioc_snapshot_spec take_specs[DISKS_MAX];
	struct base_mailbox ctl_box;
	struct receiving receiving;
	bool taking;
	unsigned next_snap, next_take;
	struct {
		int stage; /* clones.c; 0: none */
		unsigned disk;
		struct meta_inflate seen;
		struct ioc_request req;
	} inflating;
	uint64_t snaps_taken, snaps_removed, clones, rollbacks, received, moved;
	uint64_t attached, inflated, space_rows, space_gains;
	uint32_t next_version, next_disk_id;
	uint64_t done_ops, enospc, checked_sectors, copied_sectors;
	struct base_uuid pool_uuid;
	struct lineage lineage;
};

/* model.c */
uint64_t below(struct sim *sim, uint64_t n);
void sim_fail(struct sim *sim, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
void must(struct sim *sim, int rc, const struct base_error *err, const char *what);
void read_now(struct sim *sim, struct ioc_bd *bd, const char *name, uint64_t first, uint64_t count, char *buf);
void open_disk(struct sim *sim, struct disk *disk);
void do_step(struct sim *sim); /* one of everything that goes on by itself */
void replace_disk(struct sim *sim, struct disk *disk); /* unless it is in use */

/* requests.c */
static inline uint64_t size_sectors(const struct disk *disk)
{
	return meta_disk_size(disk->meta) / SECTOR;
}
void requests_submit(struct sim *sim); /* one, if there is room: whatever the dice say */

/* snaps.c */
void snaps_take(struct sim *sim); /* begins to */
void snaps_step(struct sim *sim); /* takes, clones, rolls back, removes: whatever the dice say */
void snaps_read(struct sim *sim, struct slot *slot, struct snap *snap);
void snaps_judge_read(struct slot *slot);
struct snap *snaps_pick(struct sim *sim); /* one that has been read; NULL: none */
void snaps_remove(struct sim *sim, struct snap *snap); /* unless it is being read */
void snaps_recover(struct sim *sim);      /* after the disks are open, and before they are settled */
void snaps_print_layers(struct meta_store *store, uint64_t sector); /* of a failure: where a sector might come from */
void snaps_check_all(struct sim *sim);
void snaps_close_all(struct sim *sim);
void snaps_forget(struct sim *sim, unsigned disk);    /* they went with their disk */
uint64_t snaps_horizon(struct sim *sim, uint64_t horizon); /* versions younger than this may still be asked for */
struct snap *snaps_free_one(struct sim *sim);              /* NULL: none */
void snaps_open(struct sim *sim, struct snap *snap);
void snaps_read_all(struct sim *sim, struct snap *snap); /* for the first time, or once more */
bool snaps_disk_is_idle(struct sim *sim, unsigned disk);
/* The disk's oracle anew: the shadow is all there is. */
void snaps_begin_with(struct sim *sim, struct disk *disk, uint32_t id, const struct snap *snap);

/* receive.c */
void receive_step(struct sim *sim, struct snap *base); /* base's disk takes over a clone of base */
void receive_recover(struct sim *sim);                 /* after an end in the middle of it; the disks are open */

/* clones.c */
void clones_step(struct sim *sim); /* attaches, or begins to inflate: whatever the dice say */
bool clones_turn(struct sim *sim); /* goes on with inflating; true: it is not over */
bool clones_hold(const struct sim *sim, unsigned disk); /* it is being inflated */
void clones_forget(struct sim *sim); /* after an end */
void clones_check_space(struct sim *sim); /* when nothing is in flight */

#endif
