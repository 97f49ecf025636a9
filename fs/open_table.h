/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which disks and snapshots are open through the mount, and by how many
 * descriptors.
 *
 * A file handle is the disk's number, or the number of the snapshot's layer,
 * which no disk has. A queue thread pins the entry of a disk
 * for the time of a request; the backing device goes back to iocore with the
 * last RELEASE, or with the last pin if requests are still on their way then.
 * The time of the last write is kept here until it has been recorded, some
 * time after the last close.
 *
 * Context: as each function says. Functions that give a bd back call close_bd
 * with no lock held.
 */
#ifndef FS_OPEN_TABLE_H
#define FS_OPEN_TABLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/error.h"
#include "base/types.h"

struct ioc_bd;
struct meta_disk;

/* Requests in flight of one queue; on a cache line of its own, as only that queue writes it. */
struct fs_pins {
	_Alignas(64) _Atomic uint32_t count;
};

struct fs_open {
	_Atomic uint64_t number;     /* the disk; 0 = the entry is free. Written under the lock */
	_Atomic(struct ioc_bd *) bd; /* NULL = closed or closing. Written under the lock */
	struct meta_disk *disk;      /* const while bd is set; NULL: a snapshot */
	struct ioc_bd *closing;      /* lock; the last RELEASE has come, requests are in flight */
	unsigned opens;              /* lock */
	unsigned leaving;            /* lock; opens that are being given back to iocore just now */
	/* Time of the last change of data that the disk's record does not have yet; 0 = none. Any thread. */
	_Atomic uint64_t modified_s;
	bool is_unrecorded;              /* lock; on the list of those */
	uint64_t record_at_ns;           /* lock; when it is on the list: not before this time */
	struct fs_open *unrecorded_next; /* lock */
	struct fs_open *next;            /* lock; of its bucket, or of the free list */
	struct fs_open *next_made;       /* const */
	struct fs_pins pins[];           /* one for each queue */
};

#define FS_OPEN_CACHE_ENTRIES 64
#define FS_OPEN_BUCKETS 1024

/* Where a queue thread looks first. Entries are never freed before the table is, so what it has may be outdated
 * but not dangling. Owner: one queue thread; all zero to start. */
struct fs_open_cache {
	struct fs_open *entries[FS_OPEN_CACHE_ENTRIES];
};

struct fs_open_table {
	pthread_mutex_t lock;
	pthread_cond_t changed;                    /* an open count went down, or a recording has ended */
	pthread_cond_t to_record;                  /* there is something new to record, or recording is to end */
	unsigned queues;                           /* const */
	void (*close_bd)(struct ioc_bd *bd);       /* const */
	void (*close_snapshot)(struct ioc_bd *bd); /* const after the first open */
	unsigned waiters;                          /* lock; for changed */
	struct fs_open *free;                      /* lock */
	struct fs_open *made;                      /* lock; all there are */
	struct fs_open *unrecorded_first, **unrecorded_last; /* lock; oldest first */
	struct fs_open *recording;                           /* lock; taken from the list, in the recorder's hands */
	bool is_ending;                                      /* lock */
	struct fs_open *buckets[FS_OPEN_BUCKETS];            /* lock */
};

/* Return: 0 or -ENOMEM. Context: CTL. */
MUST_CHECK int fs_open_table_init(struct fs_open_table *table, unsigned queues, void (*close_bd)(struct ioc_bd *bd));

/*
 * Closes what is still open (the kernel sends no RELEASE once the mount is gone) and frees all. keep_modified is
 * called before the close for each such disk with a time not yet recorded. Context: CTL; nothing is pinned, and
 * the recorder has ended.
 */
void fs_open_table_done(struct fs_open_table *table,
			void (*keep_modified)(struct meta_disk *disk, uint64_t modified_s, void *ctx), void *ctx);

/*
 * One more descriptor: takes over one open of bd, that of the caller. Every open of one disk has the same bd. disk
 * NULL: it is a snapshot, and is given back by close_snapshot.
 * Context: any thread. Return: 0; -ENOMEM: the open is still the caller's.
 */
MUST_CHECK int fs_open_add(struct fs_open_table *table, uint64_t number, struct ioc_bd *bd, struct meta_disk *disk);

/* One descriptor less. Context: any thread. Return: 0; -EBADF: the disk is not open. */
MUST_CHECK int fs_open_release(struct fs_open_table *table, uint64_t number);

/* Context: Q number queue, owner of cache. Return: the entry with its bd in ret_bd, or NULL: the disk is not open. */
struct fs_open *fs_open_pin(struct fs_open_table *table, struct fs_open_cache *cache, unsigned queue, uint64_t number,
			    struct ioc_bd **ret_bd);
void fs_open_unpin(struct fs_open_table *table, unsigned queue, struct fs_open *open);

/* Notes that data of the disk has changed now. Context: the thread that has it pinned. */
void fs_open_mark_modified(struct fs_open *open, uint64_t now_s);

/* As fs_open_mark_modified, if the disk is open. Context: any thread. */
void fs_open_note_modified(struct fs_open_table *table, uint64_t number, uint64_t now_s);
/* The noted time of change, 0 when there is none. Context: any thread. */
uint64_t fs_open_modified(struct fs_open_table *table, uint64_t number);
/* Forgets the noted time: somebody sets another one next, or the disk is gone. Context: any thread; waits while the
 * time is just being recorded. */
void fs_open_clear_modified(struct fs_open_table *table, uint64_t number);

/*
 * The recorder's: takes the oldest noted time of a disk that has been closed for FS_RECORD_DELAY_NS, or any once
 * fs_open_end_recording() was called. Blocks until there is one. After it has been recorded, fs_open_recorded() must
 * follow. Context: one thread. Return: false when recording is to end and nothing is left.
 */
bool fs_open_next_to_record(struct fs_open_table *table, uint64_t *ret_number, uint64_t *ret_modified_s);
void fs_open_recorded(struct fs_open_table *table, uint64_t modified_s);
/* Context: CTL. No more releases come. */
void fs_open_end_recording(struct fs_open_table *table);

/* A file that is written, closed, and written or removed soon after costs one recording, or none. */
#define FS_RECORD_DELAY_NS (2 * UINT64_C(1000000000))

/* Descriptors of the disk. Context: any thread. */
unsigned fs_open_count(struct fs_open_table *table, uint64_t number);

/*
 * Waits until at most allowed descriptors of the disk are open, at most timeout_ns. Context: any thread that
 * RELEASE does not need. Return: 0 or -EBUSY.
 */
MUST_CHECK int fs_open_wait(struct fs_open_table *table, uint64_t number, unsigned allowed, uint64_t timeout_ns);

#endif
