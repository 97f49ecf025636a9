/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See cutpool.h. The pvs are served from the state's memory by a vtable of pv
 * methods and an engine that completes at once; a pv's descriptor is the number
 * of its file, and no system call ever sees it. LMDB wants a real file: the
 * directory lies in memory.
 *
 * Failure modes: a pv that the cut has not left is not found (-ENOENT), as after
 * a real one.
 */
#include "tests/powercut/cutpool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "iocore/internal.h"
#include "meta/internal.h"
#include "meta/pool.h"

#define JOB_STEPS_MAX 100000

struct memory_engine {
	struct ioc_engine base;
	struct cutpool *pool;
	struct ioc_io *ended, **ended_tail;
};

struct cutpool {
	struct state *state;
	char dir[256];
	struct meta_pool *meta;
	struct ioc_pool *ioc;
	struct memory_engine engine;
};

static const char *const metadata_names[] = { "data.mdb", "lock.mdb", "restart" };

/* ---- as pvs ------------------------------------------------------------------------------- */

static struct file *file_of(struct cutpool *pool, int number)
{
	return &pool->state->files[number];
}

static int pv_open(void *ctx, const char *path, unsigned flags, uint64_t create_bytes, struct meta_pv_handle *ret,
		   struct base_error *err)
{
	struct cutpool *pool = ctx;
	const char *last = strrchr(path, '/');
	char name[512];

	snprintf(name, sizeof(name), "pool%s", last ? last : "/");
	struct file *file = state_find(pool->state, name);
	if (!file)
		return base_error_set(err, -ENOENT, "pv %s is not there after the cut", path);
	*ret = (struct meta_pv_handle){ .fd = (int)(file - pool->state->files),
					.size_bytes = file->size,
					.is_file = true,
					.direct = true,
					.sector_bytes = 512,
					.memory_align = 1,
					.instance = 42 };
	return 0;
}

static void pv_close(void *ctx, struct meta_pv_handle *pv)
{
}

static int pv_read(void *ctx, struct meta_pv_handle *pv, void *buf, size_t bytes, uint64_t offset)
{
	struct file *file = file_of(ctx, pv->fd);

	if (offset > file->size || bytes > file->size - offset)
		return -EIO;
	memcpy(buf, file->data + offset, bytes);
	return 0;
}

static int pv_write(void *ctx, struct meta_pv_handle *pv, const void *buf, size_t bytes, uint64_t offset)
{
	file_put(file_of(ctx, pv->fd), offset, buf, bytes);
	return 0;
}

static int pv_sync(void *ctx, struct meta_pv_handle *pv)
{
	return 0;
}

static int pv_discard(void *ctx, struct meta_pv_handle *pv, uint64_t offset, uint64_t bytes)
{
	file_put(file_of(ctx, pv->fd), offset, NULL, bytes);
	return 0;
}

static int pv_resize(void *ctx, struct meta_pv_handle *pv, uint64_t new_bytes)
{
	return -EOPNOTSUPP;
}

static const struct meta_pv_ops memory_pv_ops = {
	.open = pv_open,
	.close = pv_close,
	.read = pv_read,
	.write = pv_write,
	.sync = pv_sync,
	.discard = pv_discard,
	.resize = pv_resize,
};

/* ---- as an engine ------------------------------------------------------------------------- */

static int64_t transfer(struct file *file, const struct ioc_io *io)
{
	uint64_t at = io->offset;

	for (unsigned i = 0; i < io->iov_count; at += io->iov[i++].iov_len) {
		if (io->kind == IOC_IO_WRITE)
			file_put(file, at, io->iov[i].iov_base, io->iov[i].iov_len);
		else if (at > file->size || io->iov[i].iov_len > file->size - at)
			return -EIO;
		else
			memcpy(io->iov[i].iov_base, file->data + at, io->iov[i].iov_len);
	}
	return (int64_t)(at - io->offset);
}

static void memory_submit(struct ioc_engine *base, struct ioc_io *io)
{
	struct memory_engine *engine = container_of(base, struct memory_engine, base);

	io->result = transfer(file_of(engine->pool, io->fd), io);
	io->next = NULL;
	*engine->ended_tail = io;
	engine->ended_tail = &io->next;
}

static int memory_run(struct ioc_engine *base, int64_t timeout_ns)
{
	struct memory_engine *engine = container_of(base, struct memory_engine, base);
	int ran = 0;

	while (engine->ended) {
		struct ioc_io *io = engine->ended;
		engine->ended = io->next;
		if (!engine->ended)
			engine->ended_tail = &engine->ended;
		io->done(io, io->result);
		ran++;
	}
	return ran;
}

static void memory_wake(struct ioc_engine *engine)
{
}

static void memory_close(struct ioc_engine *engine)
{
}

static const struct ioc_engine_ops memory_engine_ops = {
	.name = "memory", .submit = memory_submit, .run = memory_run, .wake = memory_wake, .close = memory_close
};

static void wake_nobody(void *ctx)
{
}

static void open_queue(struct cutpool *pool)
{
	struct ioc_pool *ioc = calloc(1, sizeof(*ioc));

	ioc->queues = calloc(1, sizeof(*ioc->queues));
	ioc->meta = pool->meta;
	ioc->queue_count = 1;
	pthread_mutex_init(&ioc->lock, NULL);
	if (queue_init(&ioc->queues[0], ioc, pool->meta, 0) < 0)
		abort();
	base_mailbox_init(&ioc->queues[0].box, wake_nobody, NULL);
	pool->engine.base.ops = &memory_engine_ops;
	pool->engine.pool = pool;
	pool->engine.ended_tail = &pool->engine.ended;
	ioc->queues[0].engine = &pool->engine.base;
	pool->ioc = ioc;
}

/* ---- the pool ----------------------------------------------------------------------------- */

struct cutpool *cutpool_new(struct state *state, const char *dir, bool with_restart)
{
	struct cutpool *pool = calloc(1, sizeof(*pool));
	char name[64], path[512];

	if (!pool)
		abort();
	pool->state = state;
	snprintf(pool->dir, sizeof(pool->dir), "%s", dir);
	for (unsigned i = 0; i < (with_restart ? 3 : 2); i++) {
		snprintf(name, sizeof(name), "pool/%s", metadata_names[i]);
		snprintf(path, sizeof(path), "%s/%s", dir, metadata_names[i]);
		struct file *file = state_find(state, name);
		if (file && file_write_out(file, path) < 0)
			abort();
	}
	return pool;
}

void cutpool_clean(const char *dir)
{
	char path[512];

	for (unsigned i = 0; i < ARRAY_LEN(metadata_names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, metadata_names[i]);
		unlink(path);
	}
}

int cutpool_check_closed(struct cutpool *pool, struct meta_check_report *ret, struct base_error *err)
{
	struct meta_check_args args = { .pv_ops = &memory_pv_ops, .pv_ctx = pool };

	return meta_check_dir(pool->dir, &args, ret, err);
}

int cutpool_open(struct cutpool *pool, struct base_error *err)
{
	struct meta_pool_open_args args = {
		.dir = pool->dir, .no_threads = true, .pv_ops = &memory_pv_ops, .pv_ctx = pool
	};
	int rc = meta_pool_open(&args, &pool->meta, err);

	if (rc == 0)
		open_queue(pool);
	return rc;
}

int cutpool_check(struct cutpool *pool, struct meta_check_report *ret, struct base_error *err)
{
	struct meta_check_args args = { .pool = pool->meta };

	return meta_check(&args, ret, err);
}

struct meta_pool *cutpool_meta(struct cutpool *pool)
{
	return pool->meta;
}

int cutpool_disk_open(struct cutpool *pool, struct meta_disk *disk, struct ioc_bd **ret, struct base_error *err)
{
	return ioc_disk_open(pool->ioc, disk, ret, err);
}

int cutpool_snapshot_open(struct cutpool *pool, struct meta_snapshot *snapshot, struct ioc_bd **ret,
			  struct base_error *err)
{
	return ioc_snapshot_open(pool->ioc, snapshot, ret, err);
}

bool cutpool_finish_jobs(struct cutpool *pool)
{
	struct db_txn *slot = NULL;

	for (unsigned i = 0; i < JOB_STEPS_MAX && !bg_is_idle(pool->meta); i++) {
		pool->meta->copy.next_at_ns = 0; /* as if the time had passed */
		bg_step(pool->meta, base_clock_ns());
		mw_step(pool->meta, base_clock_ns() + 2 * COMMIT_INTERVAL_NS);
		lookup_step(pool->meta, &slot);
		queue_turn(&pool->ioc->queues[0], 0);
	}
	db_read_free(slot);
	return bg_is_idle(pool->meta);
}

static void call_done(struct ioc_request *req, int result)
{
	*(int *)req->ctx = result;
}

int cutpool_read(struct cutpool *pool, struct ioc_bd *disk, uint64_t offset, uint64_t bytes, void *buf)
{
	static struct ioc_request req;
	struct iovec iov = { buf, bytes };
	struct db_txn *slot = NULL;
	int result = 1;

	req = (struct ioc_request){ .op = IOC_OP_READ,
				    .bd = disk,
				    .queue = &pool->ioc->queues[0],
				    .offset = offset,
				    .length = bytes,
				    .segments = &iov,
				    .segment_count = 1,
				    .done = call_done,
				    .ctx = &result };
	ioc_bd_submit(&req);
	while (result == 1) {
		queue_turn(&pool->ioc->queues[0], 0);
		lookup_step(pool->meta, &slot);
	}
	db_read_free(slot);
	return result;
}
