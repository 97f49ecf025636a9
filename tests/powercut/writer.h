/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the writer share: writer.c (options, threads, data, disks) and writer_snaps.c (snapshots).
 *
 * Locks, in this order: those of disks, lower slots first; snaps.lock. Who only uses the data of a disk holds its lock
 * shared; who changes whether and which disk it is, how long it is, or all of its content has it alone. Snapshots are
 * read under snaps.lock shared, everything else about them alone, so that one command runs at a time.
 */
#ifndef TESTS_POWERCUT_WRITER_H
#define TESTS_POWERCUT_WRITER_H

#include <pthread.h>
#include <stdatomic.h>

#include "tests/powercut/recording.h"
#include "tests/powercut/scenario.h"
#include "tests/powercut/state.h"

#define SECTOR 512
#define DISKS_MAX 16
#define SNAPS_MAX 32

struct disk {
	pthread_rwlock_t lock; /* whether and which disk it is, and how long */
	uint32_t id;
	int fd, dsync_fd;
	uint64_t sectors;
	_Atomic uint64_t next_block; /* `once`: what is written next */
};

struct snap {
	uint32_t disk, number; /* number 0: none */
	uint64_t sectors;
	uint32_t *versions; /* what it was read to hold; NULL: not read yet */
};

struct writer {
	const struct scenario *scenario;
	const char *dir, *grow, *bdfs;
	uint64_t seed, seconds, round;
	int marks_fd;
	struct disk disks[DISKS_MAX];
	_Atomic uint32_t next_version, next_disk;
	_Atomic uint64_t next_op, grown, commands;
	_Atomic bool stop;
	_Atomic int status;
	struct {
		pthread_rwlock_t lock;
		struct snap all[SNAPS_MAX];
		uint32_t next;
	} snaps;
};
extern struct writer w;

struct thread {
	pthread_t thread;
	uint64_t random, ops;
	char *buf; /* page-aligned, MARK_SECTORS_MAX sectors */
	struct mark *mark;
};

static inline uint64_t below(struct thread *t, uint64_t n)
{
	return random_next(&t->random) % n;
}

/* Ends the writer with 1; errno says why. */
void writer_fail(const char *what);

/* A mark without anything, in t->mark. */
void mark_new(struct thread *t);
/* Submitted. */
void mark_begin(struct thread *t, enum mark_kind kind, const struct disk *disk);
/* Completed, or failed with errno; ENOSPC is an answer. */
void mark_end(struct thread *t, bool ok, const char *what);
/* The mark as it is, in this phase. */
void mark_put(struct thread *t, enum mark_phase phase);

/* Of a sector that should be this one, whichever disk's; MARK_BAD_SECTOR: no stamp of this sector. */
uint32_t version_in(uint64_t sector, const char *buf);

/* The caller has the disk to itself. */
bool disk_open(struct disk *disk, uint32_t id, int flags);
void disk_close(struct disk *disk);
uint32_t disk_new_id(void);

/* writer_snaps.c. What is asked for is not done when there is nothing to do it with. */
void snaps_find(void); /* those that a cut has left */
/* With its snapshots. False: it is still there, or the writer ends. */
bool disk_delete(struct thread *t, struct disk *disk);
void snap_take(struct thread *t);                        /* takes the locks of disks itself */
void snap_remove(struct thread *t);
void snap_read(struct thread *t);
void snap_roll_back(struct thread *t, struct disk *disk); /* these have the disk to themselves */
void snap_clone(struct thread *t, struct disk *disk);
void snap_receive(struct thread *t, struct disk *disk);

#endif
