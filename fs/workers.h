/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A few threads that carry out jobs which may block: the rarer file operations
 * (they wait for the metadata thread), and notifications to the kernel.
 *
 * Jobs of one pool of workers start in order of posting.
 */
#ifndef FS_WORKERS_H
#define FS_WORKERS_H

#include <pthread.h>

#include "base/error.h"
#include "base/types.h"

struct fs_job {
	struct fs_job *next; /* the workers', from post until run */
	/* Owns the job. Context: a worker. */
	void (*run)(struct fs_job *job);
};

#define FS_WORKERS_MAX 8

struct fs_workers {
	pthread_mutex_t lock;
	pthread_cond_t posted;
	struct fs_job *first, **last; /* lock */
	bool is_ending;               /* lock */
	unsigned count;               /* CTL */
	pthread_t threads[FS_WORKERS_MAX];
};

/* name: of the threads, at most 15 bytes. Return: 0 or negative errno (no thread is left then). Context: CTL. */
MUST_CHECK int fs_workers_start(struct fs_workers *workers, const char *name, unsigned count);

/* Any thread, never blocks for long. */
void fs_workers_post(struct fs_workers *workers, struct fs_job *job);

/* Runs what was posted, then ends the threads. Nobody posts any more. Context: CTL. */
void fs_workers_stop(struct fs_workers *workers);

#endif
