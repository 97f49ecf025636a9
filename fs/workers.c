/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker threads behind one list of jobs.
 *
 * The happy path: post appends and wakes one thread; a thread takes the first
 * job and runs it without the lock.
 *
 * The threads carry PR_SET_IO_FLUSHER where the process may set it: memory that
 * a handler allocates must not wait for the writing back of a filesystem that
 * lives on one of our own disks.
 *
 * Failure modes: a thread that can't be made ends those that were and the
 * start fails. Stopping runs all that was posted before, so that every request
 * gets its answer.
 */
#include <sys/prctl.h>

#include "base/park.h"
#include "fs/workers.h"

/* Linux 5.6; the header of Debian 12 has it, older ones may not. */
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

static struct fs_job *take_first(struct fs_workers *workers)
{
	struct fs_job *job = workers->first;

	if (job) {
		workers->first = job->next;
		if (!workers->first)
			workers->last = &workers->first;
	}
	return job;
}

static struct fs_job *wait_for_job(struct fs_workers *workers)
{
	struct fs_job *job;

	pthread_mutex_lock(&workers->lock);
	while (!(job = take_first(workers)) && !workers->is_ending)
		pthread_cond_wait(&workers->posted, &workers->lock);
	pthread_mutex_unlock(&workers->lock);
	return job;
}

static void *work(void *arg)
{
	struct fs_workers *workers = arg;
	struct fs_job *job;

	/* Needs CAP_SYS_RESOURCE; a mount without it serves no loop devices of root's either. */
	(void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	while ((job = wait_for_job(workers)))
		job->run(job);
	return NULL;
}

int fs_workers_start(struct fs_workers *workers, const char *name, unsigned count)
{
	int rc = 0;

	*workers = (struct fs_workers){ .last = &workers->first };
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->posted, NULL);
	while (rc == 0 && workers->count < MIN(count, FS_WORKERS_MAX)) {
		rc = base_thread_start(&workers->threads[workers->count], name, work, workers);
		workers->count += rc == 0;
	}
	if (rc < 0)
		fs_workers_stop(workers);
	return rc;
}

void fs_workers_post(struct fs_workers *workers, struct fs_job *job)
{
	job->next = NULL;
	pthread_mutex_lock(&workers->lock);
	*workers->last = job;
	workers->last = &job->next;
	pthread_mutex_unlock(&workers->lock);
	pthread_cond_signal(&workers->posted);
}

void fs_workers_stop(struct fs_workers *workers)
{
	pthread_mutex_lock(&workers->lock);
	workers->is_ending = true;
	pthread_mutex_unlock(&workers->lock);
	pthread_cond_broadcast(&workers->posted);
	for (unsigned i = 0; i < workers->count; i++)
		pthread_join(workers->threads[i], NULL);
	workers->count = 0;
	pthread_cond_destroy(&workers->posted);
	pthread_mutex_destroy(&workers->lock);
}
