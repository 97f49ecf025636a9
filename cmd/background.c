/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's own background jobs.
 *
 * A list in order of arrival and one thread. A job is
 *
 *   waiting -> running -> gone             (done, or cancelled)
 *                      -> failed -> gone   (forgotten, or begun again)
 *
 * The thread takes the first that waits, opens its disk, which keeps it from
 * being removed, and has iocore copy. Progress and the wish to cancel pass
 * through the job under the lock, which is never held during work.
 *
 * Stopping cancels the running job and drops those that wait. What was copied
 * stays copied, so nothing is lost but the wish.
 *
 * Failure modes: a disk that is removed before its turn ends its job; anything
 * else that fails is kept in the list with its words, since nobody else hears of
 * it. A full pool is the usual case.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/park.h"
#include "cmd/background.h"
#include "iocore/snapshot.h"

struct job {
	struct job *next;                /* lock */
	struct cmd_background_info info; /* lock */
	struct cmd_background *owner;    /* const */
	uint64_t rate_bytes;             /* const; 0 = none */
	bool is_running, is_cancelled;   /* lock */
};

struct cmd_background {
	struct meta_pool *meta;
	struct ioc_pool *ioc;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct job *jobs; /* lock; oldest first */
	uint64_t next_id; /* lock */
	bool is_ending;   /* lock */
};

static struct job **find(struct cmd_background *background, uint64_t id)
{
	struct job **link = &background->jobs;

	while (*link && (*link)->info.id != id)
		link = &(*link)->next;
	return link;
}

/* Under the lock. */
static void drop(struct cmd_background *background, struct job *job)
{
	*find(background, job->info.id) = job->next;
	free(job);
}

/* Under the lock, which is given up meanwhile. A leaf was copied, or some of it; being cancelled ends the pause. */
static void pause_after_leaf(struct job *job)
{
	uint64_t ns = LEAF_BYTES * UINT64_C(1000000000) / job->rate_bytes;
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	ns += (uint64_t)until.tv_nsec;
	until.tv_sec += (time_t)(ns / 1000000000);
	until.tv_nsec = (long)(ns % 1000000000);
	while (!job->is_cancelled && pthread_cond_timedwait(&job->owner->changed, &job->owner->lock, &until) == 0)
		continue;
}

static bool report(uint64_t done_bytes, uint64_t total_bytes, void *ctx)
{
	struct job *job = ctx;
	bool goes_on;

	pthread_mutex_lock(&job->owner->lock);
	job->info.done_bytes = done_bytes;
	job->info.total_bytes = total_bytes;
	if (job->rate_bytes)
		pause_after_leaf(job);
	goes_on = !job->is_cancelled;
	pthread_mutex_unlock(&job->owner->lock);
	return goes_on;
}

static int inflate(struct cmd_background *background, struct job *job, struct base_error *err)
{
	struct meta_disk *disk = meta_disk_get_by_number(background->meta, job->info.disk);
	struct ioc_bd *bd;
	int r;

	if (!disk)
		return 0;
	r = ioc_disk_open(background->ioc, disk, &bd, err);
	if (r == 0) {
		r = ioc_disk_inflate(background->ioc, bd, report, job, err);
		ioc_disk_close(bd);
	}
	meta_disk_put(disk);
	return r;
}

/* Under the lock. */
static struct job *next_waiting(struct cmd_background *background)
{
	struct job *job = background->jobs;

	while (job && !job->info.waiting)
		job = job->next;
	return job;
}

static void run(struct cmd_background *background, struct job *job)
{
	struct base_error err = { 0 };
	int r;

	job->info.waiting = false;
	job->is_running = true;
	pthread_mutex_unlock(&background->lock);
	r = inflate(background, job, &err);
	pthread_mutex_lock(&background->lock);
	job->is_running = false;
	if (r == 0 || job->is_cancelled) {
		drop(background, job);
		return;
	}
	log_warning("inflate of disk %llu: %s", (unsigned long long)job->info.disk, err.text);
	job->info.failed = r;
	snprintf(job->info.why, sizeof(job->info.why), "%.*s", (int)sizeof(job->info.why) - 1, err.text);
}

static void *work(void *arg)
{
	struct cmd_background *background = arg;

	pthread_mutex_lock(&background->lock);
	while (!background->is_ending) {
		struct job *job = next_waiting(background);

		if (job)
			run(background, job);
		else
			pthread_cond_wait(&background->changed, &background->lock);
	}
	pthread_mutex_unlock(&background->lock);
	return NULL;
}

int cmd_background_start(struct meta_pool *meta, struct ioc_pool *ioc, struct cmd_background **ret,
			 struct base_error *err)
{
	struct cmd_background *background = calloc(1, sizeof(*background));
	int r = -ENOMEM;

	if (background) {
		background->meta = meta;
		background->ioc = ioc;
		pthread_mutex_init(&background->lock, NULL);
		pthread_cond_init(&background->changed, NULL);
		r = base_thread_start(&background->thread, "bdfs-jobs", work, background);
	}
	if (r < 0) {
		free(background);
		return base_error_set_errno(err, r, "can't start the thread of background jobs");
	}
	*ret = background;
	return 0;
}

void cmd_background_stop(struct cmd_background *background)
{
	if (!background)
		return;
	pthread_mutex_lock(&background->lock);
	background->is_ending = true;
	for (struct job *job = background->jobs; job; job = job->next)
		job->is_cancelled = true;
	pthread_cond_signal(&background->changed);
	pthread_mutex_unlock(&background->lock);
	pthread_join(background->thread, NULL);
	while (background->jobs)
		drop(background, background->jobs);
	pthread_cond_destroy(&background->changed);
	pthread_mutex_destroy(&background->lock);
	free(background);
}

/* Under the lock. The last of a disk that has failed makes way. Return: 0; -EALREADY. */
static int make_way(struct cmd_background *background, uint64_t disk)
{
	struct job *job = background->jobs;

	while (job && job->info.disk != disk)
		job = job->next;
	if (job && !job->info.failed)
		return -EALREADY;
	if (job)
		drop(background, job);
	return 0;
}

int cmd_background_inflate(struct cmd_background *background, struct meta_disk *disk, uint64_t rate_bytes,
			   uint64_t *ret_id, struct base_error *err)
{
	struct job *job = calloc(1, sizeof(*job)), **link;
	int r;

	if (!job)
		return base_error_set(err, -ENOMEM, "out of memory for a job");
	pthread_mutex_lock(&background->lock);
	r = make_way(background, meta_disk_number(disk));
	if (r == 0) {
		job->owner = background;
		job->info.id = ++background->next_id;
		job->info.disk = meta_disk_number(disk);
		job->info.total_bytes = meta_disk_size(disk);
		job->info.waiting = true;
		job->rate_bytes = rate_bytes;
		*ret_id = job->info.id;
		for (link = &background->jobs; *link;)
			link = &(*link)->next;
		*link = job;
		pthread_cond_signal(&background->changed);
	}
	pthread_mutex_unlock(&background->lock);
	if (r < 0) {
		free(job);
		return base_error_set(err, r, "is being inflated already: `bdfs jobs` shows how far it is");
	}
	return 0;
}

bool cmd_background_next(struct cmd_background *background, uint64_t after, struct cmd_background_info *ret)
{
	struct job *job;

	pthread_mutex_lock(&background->lock);
	job = background->jobs;
	while (job && job->info.id <= after)
		job = job->next;
	if (job)
		*ret = job->info;
	pthread_mutex_unlock(&background->lock);
	return job;
}

int cmd_background_cancel(struct cmd_background *background, uint64_t id)
{
	struct job *job;

	pthread_mutex_lock(&background->lock);
	job = *find(background, id);
	if (job && job->is_running)
		job->is_cancelled = true;
	else if (job)
		drop(background, job);
	pthread_cond_signal(&background->changed);
	pthread_mutex_unlock(&background->lock);
	return job ? 0 : -ENOENT;
}
