/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The work in the background as others see it: folds, layers that are being freed,
 * trims. What there is has numbers from one counter, in the order in which it was
 * asked for; a list is walked by number, so it may change meanwhile.
 *
 * Only folds can be cancelled: nothing is lost by it, as they can be ended anywhere
 * and begin again at the next open, or when meta_jobs_resume() is called.
 *
 * Failure modes: -ENOENT for a job that has ended, -EINVAL for one that can't be
 * cancelled.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "meta/fold.h"

const char *meta_job_kind_to_text(enum meta_job_kind kind)
{
	static const char *const texts[] = { "fold", "free", "trim" };

	return texts[kind];
}

static bool next_clear(struct meta_pool *pool, uint64_t after, struct meta_job_info *ret)
{
	bool found = false;

	for (struct clear_job *job = pool->jobs; job; job = job->next) {
		if (job->id <= after || (found && job->id > ret->id))
			continue;
		*ret = (struct meta_job_info){ .id = job->id,
					       .kind = job->disk ? META_JOB_TRIM : META_JOB_FREE,
					       .layer = job->store->layer_id,
					       .leaves_done = job->leaves_done };
		if (job->disk)
			strcpy(ret->disk_name, job->disk->record.name);
		found = true;
	}
	return found;
}

bool meta_job_next(struct meta_pool *pool, uint64_t after, struct meta_job_info *ret)
{
	pthread_mutex_lock(&pool->catalog_lock);
	pthread_mutex_lock(&pool->jobs_lock);
	bool found = next_clear(pool, after, ret);
	for (struct fold_job *job = pool->folds; job; job = job->next) {
		if (job->info.id <= after || (found && job->info.id > ret->id))
			continue;
		*ret = job->info;
		found = true;
	}
	pthread_mutex_unlock(&pool->jobs_lock);
	pthread_mutex_unlock(&pool->catalog_lock);
	return found;
}

int meta_job_cancel(struct meta_pool *pool, uint64_t id, struct base_error *err)
{
	struct meta_job_info info;
	bool found = false;

	pthread_mutex_lock(&pool->jobs_lock);
	for (struct fold_job *job = pool->folds; job && !found; job = job->next)
		found = job->cancelled = job->info.id == id;
	pthread_mutex_unlock(&pool->jobs_lock);
	base_park_wake(&pool->bg_park);
	if (found)
		return 0;
	if (id > 0 && meta_job_next(pool, id - 1, &info) && info.id == id)
		return base_error_set(err, -EINVAL, "job %" PRIu64 " frees space and can't be cancelled", id);
	return base_error_set(err, -ENOENT, "there is no job %" PRIu64 "; it may have ended", id);
}

void meta_jobs_resume(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->catalog_lock);
	for (struct meta_store *store = pool->stores; store; store = store->next) {
		bool at_work = false;
		pthread_mutex_lock(&pool->jobs_lock);
		for (struct fold_job *job = pool->folds; job && !at_work; job = job->next)
			at_work = job->lower == store && !job->cancelled;
		pthread_mutex_unlock(&pool->jobs_lock);
		store->fold_asked = at_work;
		fold_consider(store);
	}
	pthread_mutex_unlock(&pool->catalog_lock);
}

void meta_jobs_set_rate(struct meta_pool *pool, uint64_t chunks_per_second)
{
	atomic_store(&pool->fold_rate, chunks_per_second);
}
