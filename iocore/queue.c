/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A queue thread: one engine, one mailbox, one loop.
 *
 * A turn: run the messages, let the engine run completions (waiting only when
 * there is nothing else to do), then answer what has ended. Answers are kept in
 * a list until then, so that done() never runs inside a submit, however quickly
 * a request ends.
 *
 * Failure modes: an engine that can't be opened ends ioc_pool_open with its
 * reason; one that breaks later ends the process: its requests can't be answered.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/park.h"
#include "iocore/internal.h"

#ifndef PR_SET_IO_FLUSHER /* Linux 5.6 */
#define PR_SET_IO_FLUSHER 57
#endif

int queue_init(struct ioc_queue *queue, struct ioc_pool *pool, struct meta_pool *meta, unsigned number)
{
	queue->pool = pool;
	queue->meta = meta;
	queue->number = number;
	queue->done_tail = &queue->done;
	queue->epoch_participant = meta_epoch_join(meta_io_epochs(meta));
	return bounce_pool_init(&queue->bounces);
}

void queue_done(struct ioc_queue *queue)
{
	bounce_pool_done(&queue->bounces);
}

void queue_finish(struct ioc_request *req, int result)
{
	struct ioc_queue *queue = req->queue;

	if (result < 0)
		count(&queue->counters.errors, 1);
	req->thin.error = result;
	req->thin.list_next = NULL;
	*queue->done_tail = req;
	queue->done_tail = &req->thin.list_next;
}

static void answer(struct ioc_queue *queue)
{
	while (queue->done) {
		struct ioc_request *req = queue->done;
		queue->done = req->thin.list_next;
		if (!queue->done)
			queue->done_tail = &queue->done;
		req->done(req, req->thin.error);
	}
}

int queue_turn(struct ioc_queue *queue, int64_t timeout_ns)
{
	base_mailbox_run(&queue->box);
	answer(queue);
	if (queue->done || !base_mailbox_is_empty(&queue->box))
		timeout_ns = 0;
	int rc = queue->engine->ops->run(queue->engine, timeout_ns);
	answer(queue);
	return rc;
}

/* ---- the thread --------------------------------------------------------------------------- */

static void wake_engine(void *ctx)
{
	struct ioc_queue *queue = ctx;

	queue->engine->ops->wake(queue->engine);
}

static int open_engine(struct ioc_queue *queue)
{
	int fds[64];
	unsigned count_fds = MIN(meta_io_pv_count(queue->meta), (unsigned)ARRAY_LEN(fds));

	for (unsigned i = 0; i < count_fds; i++)
		fds[i] = meta_io_pv(queue->meta, i)->fd;
	struct ioc_engine_args args = { .depth = queue->pool->args.depth,
					.data_fds = fds,
					.data_fd_count = count_fds,
					.fault = queue->pool->args.fault };
	return ioc_engine_open(queue->pool->args.engine, &args, &queue->engine, &queue->why, &queue->start_error);
}

static void *queue_main(void *arg)
{
	struct ioc_queue *queue = arg;

	/* A daemon below a file system that is being written back must not wait for that write-back when it needs
	 * memory. Needs CAP_SYS_RESOURCE; without it things work, with that risk. */
	(void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	base_memory_lock_stack();
	int rc = open_engine(queue);
	if (rc == 0)
		base_mailbox_init(&queue->box, wake_engine, queue);
	atomic_store(&queue->started, rc < 0 ? rc : 1);
	if (rc < 0)
		return NULL;
	while (!atomic_load(&queue->stop)) {
		rc = queue_turn(queue, -1);
		if (rc < 0) {
			log_error("queue %u: the engine broke: %s; nothing more can be answered, giving up",
				  queue->number, strerror(-rc));
			abort();
		}
	}
	queue_turn(queue, 0);
	/* The engine must outlive all calls that wake it. */
	base_mailbox_wait_for_producers(&queue->box);
	while (!atomic_load(&queue->may_close))
		sched_yield(); /* queue_stop is about to say so */
	queue->engine->ops->close(queue->engine);
	return NULL;
}

static int queue_start(struct ioc_queue *queue, struct base_error *err)
{
	char name[16] = "bdfs-queue-";
	size_t end = strlen(name);

	name[end] = (char)('0' + queue->number % 10);
	int rc = base_thread_start(&queue->thread, name, queue_main, queue);
	if (rc < 0)
		return base_error_set_errno(err, rc, "can't start a queue thread");
	while (atomic_load(&queue->started) == 0)
		sched_yield(); /* at start only: opening an engine takes well under a millisecond */
	rc = atomic_load(&queue->started);
	if (rc < 0) {
		pthread_join(queue->thread, NULL);
		if (err)
			*err = queue->start_error;
		return rc;
	}
	return 0;
}

static void queue_stop(struct ioc_queue *queue)
{
	atomic_store(&queue->stop, true);
	queue->engine->ops->wake(queue->engine);
	atomic_store(&queue->may_close, true);
	pthread_join(queue->thread, NULL);
}

/* ---- the pool's queues -------------------------------------------------------------------- */

void ioc_pool_close(struct ioc_pool *pool)
{
	for (unsigned i = 0; i < pool->queue_count; i++) {
		queue_stop(&pool->queues[i]);
		queue_done(&pool->queues[i]);
	}
	assert(!pool->disks && !pool->raws);
	pthread_mutex_destroy(&pool->lock);
	pthread_mutex_destroy(&pool->raw_lock);
	free(pool->queues);
	free(pool);
}

static unsigned default_queues(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	return cores < 1 ? 1 : cores > 8 ? 8 : (unsigned)cores;
}

int ioc_pool_open(struct meta_pool *meta, const struct ioc_pool_args *args, struct ioc_pool **ret,
		  struct base_error *err)
{
	struct ioc_pool *pool = calloc(1, sizeof(*pool));
	unsigned queues = args->queues ? args->queues : default_queues();

	if (queues > IOC_QUEUES_MAX) {
		free(pool);
		return base_error_set(err, -EINVAL, "%u queues: there can be %d at most", queues, IOC_QUEUES_MAX);
	}
	if (pool)
		pool->queues = calloc(queues, sizeof(*pool->queues));
	if (!pool || !pool->queues) {
		free(pool);
		return base_error_set_errno(err, -ENOMEM, "queues");
	}
	pool->meta = meta;
	pool->args = *args;
	if (pool->args.depth == 0)
		pool->args.depth = 256;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_mutex_init(&pool->raw_lock, NULL);
	int rc = 0;
	for (unsigned i = 0; i < queues && rc == 0; i++) {
		rc = queue_init(&pool->queues[i], pool, meta, i);
		if (rc < 0) {
			base_error_set_errno(err, rc, "queues");
			break;
		}
		rc = queue_start(&pool->queues[i], err);
		if (rc < 0)
			queue_done(&pool->queues[i]);
		else
			pool->queue_count++;
	}
	if (rc < 0) {
		ioc_pool_close(pool);
		return rc;
	}
	*ret = pool;
	return 0;
}

struct meta_pool *ioc_pool_meta(struct ioc_pool *pool)
{
	return pool->meta;
}

const char *ioc_pool_engine_name(const struct ioc_pool *pool)
{
	return pool->queues[0].engine->ops->name;
}

const char *ioc_pool_engine_why(const struct ioc_pool *pool)
{
	return pool->queues[0].why;
}

unsigned ioc_pool_queue_count(const struct ioc_pool *pool)
{
	return pool->queue_count;
}

struct ioc_queue *ioc_pool_queue(struct ioc_pool *pool, unsigned i)
{
	return &pool->queues[i];
}

void ioc_queue_post(struct ioc_queue *queue, struct base_msg *msg)
{
	base_mailbox_post(&queue->box, msg);
}

void ioc_queue_post_own(struct ioc_queue *queue, struct base_msg *msg)
{
	base_mailbox_post_own(&queue->box, msg);
}

struct ioc_engine *ioc_queue_engine(struct ioc_queue *queue)
{
	return queue->engine;
}

unsigned ioc_queue_number(const struct ioc_queue *queue)
{
	return queue->number;
}

void ioc_pool_counters(struct ioc_pool *pool, struct ioc_counters *ret)
{
	*ret = (struct ioc_counters){ 0 };
	for (unsigned i = 0; i < pool->queue_count; i++) {
		struct queue_counters *c = &pool->queues[i].counters;
		ret->reads += atomic_load(&c->reads);
		ret->writes += atomic_load(&c->writes);
		ret->flushes += atomic_load(&c->flushes);
		ret->discards += atomic_load(&c->discards);
		ret->read_bytes += atomic_load(&c->read_bytes);
		ret->write_bytes += atomic_load(&c->write_bytes);
		ret->rmw += atomic_load(&c->rmw);
		ret->allocations += atomic_load(&c->allocations);
		ret->errors += atomic_load(&c->errors);
	}
}
