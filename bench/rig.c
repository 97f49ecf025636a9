/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rig: a real pool, a queue that the benchmark turns by hand, and an engine
 * that is all streams.
 *
 * The engine: a READ_ONCE stays armed until there is a message, which is copied
 * into its memory; a REPLY ends, with its full length, in the run() after its
 * submission, so replies share a turn with the next message as they share a
 * system call in the product. What the kernel does in between costs nothing here.
 *
 * Failure modes: whatever can't be made is told on stderr with the words of who
 * could not make it. A message for which no read is armed waits for one.
 */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "bench/rig.h"
#include "meta/db.h"

uint64_t __wrap_base_clock_ns(void);

/* In place of base_clock_ns: what depends on time goes the same way in every run. */
uint64_t __wrap_base_clock_ns(void)
{
	static _Atomic uint64_t now = 1000000000;

	return atomic_fetch_add_explicit(&now, 500, memory_order_relaxed);
}

struct db_env;
int __real_db_open(const char *dir, enum db_open_mode mode, uint64_t map_bytes, struct db_env **ret,
		   struct base_error *err);
int __wrap_db_open(const char *dir, enum db_open_mode mode, uint64_t map_bytes, struct db_env **ret,
		   struct base_error *err);

/* In place of db_open: the address space that callgrind leaves to a program is too small for the usual map. */
int __wrap_db_open(const char *dir, enum db_open_mode mode, uint64_t map_bytes, struct db_env **ret,
		   struct base_error *err)
{
	return __real_db_open(dir, mode, 256 * MIB, ret, err);
}

/* ---- the engine of the streams ------------------------------------------------------------ */

static struct rig *rig_of(struct ioc_engine *engine)
{
	return container_of(engine, struct rig, streams);
}

static void streams_submit(struct ioc_engine *engine, struct ioc_io *io)
{
	struct rig *rig = rig_of(engine);

	ioc_io_list_push(io->kind == IOC_IO_READ_ONCE ? &rig->armed : &rig->replies, io);
}

static size_t bytes_of(const struct ioc_io *io)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < io->iov_count; i++)
		bytes += io->iov[i].iov_len;
	return bytes;
}

static int end_replies(struct rig *rig)
{
	struct ioc_io_list now = rig->replies;
	struct ioc_io *io;
	int ran = 0;

	rig->replies.first = NULL;
	for (; (io = ioc_io_list_pop(&now)); ran++) {
		size_t bytes = bytes_of(io);

		rig->replied += bytes == rig->reply_bytes;
		io->done(io, (int64_t)bytes);
	}
	return ran;
}

static int streams_run(struct ioc_engine *engine, int64_t timeout_ns)
{
	struct rig *rig = rig_of(engine);
	int ran = end_replies(rig);

	if (rig->message && rig->armed.first) {
		struct ioc_io *io = ioc_io_list_pop(&rig->armed);

		memcpy(io->iov->iov_base, rig->message, rig->message_bytes);
		rig->message = NULL;
		io->done(io, (int64_t)rig->read_bytes);
		ran++;
	}
	return ran;
}

static void streams_cancel(struct ioc_engine *engine, struct ioc_io *io)
{
	struct rig *rig = rig_of(engine);
	struct ioc_io_list kept = { 0 };
	struct ioc_io *each;

	while ((each = ioc_io_list_pop(&rig->armed)))
		if (each != io)
			ioc_io_list_push(&kept, each);
	rig->armed = kept;
	io->done(io, -ECANCELED);
}

static void streams_wake(struct ioc_engine *engine)
{
}

static void streams_close(struct ioc_engine *engine)
{
}

static const struct ioc_engine_ops streams_ops = {
	.name = "streams",
	.submit = streams_submit,
	.run = streams_run,
	.cancel = streams_cancel,
	.wake = streams_wake,
	.close = streams_close,
};

/* ---- pool and disk ------------------------------------------------------------------------ */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	return remove(path);
}

void rig_close(struct rig *rig)
{
	struct base_error err;

	if (rig->bd)
		ioc_disk_close(rig->bd);
	if (rig->queue.engine) {
		rig->queue.engine->ops->close(rig->queue.engine);
		queue_done(&rig->queue);
		pthread_mutex_destroy(&rig->ioc.lock);
	}
	if (rig->disk_is_open)
		meta_disk_close(rig->disk);
	if (rig->disk)
		meta_disk_put(rig->disk);
	if (rig->meta && meta_pool_close(rig->meta, &err) < 0)
		fprintf(stderr, "micro: %s\n", err.text);
	nftw(rig->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(rig);
}

static int make_pool(struct rig *rig, uint64_t pv_bytes, struct base_error *err)
{
	char pv_path[sizeof(rig->dir) + sizeof("/pv0")];
	struct meta_pv_spec pv = { .path = pv_path, .size_bytes = pv_bytes };
	struct meta_pool_create_args create = { .dir = rig->dir, .name = "micro", .pvs = &pv, .pv_count = 1 };
	struct meta_pool_open_args open = { .dir = rig->dir };
	int rc;

	snprintf(pv_path, sizeof(pv_path), "%s/pv0", rig->dir);
	rc = meta_pool_create(&create, err);
	return rc < 0 ? rc : meta_pool_open(&open, &rig->meta, err);
}

static int make_disk(struct rig *rig, uint64_t disk_bytes, struct base_error *err)
{
	struct meta_disk_spec spec = { .name = "disk", .size_bytes = disk_bytes };
	int rc = meta_disk_create(rig->meta, &spec, 1, NULL, err);

	if (rc < 0)
		return rc;
	rig->disk = meta_disk_get_by_name(rig->meta, spec.name);
	rc = meta_disk_open(rig->disk, err);
	if (rc < 0)
		return rc;
	rig->disk_is_open = true;
	rig->store = meta_io_store(rig->disk);
	return 0;
}

static int tell(int rc, const struct base_error *err)
{
	fprintf(stderr, "micro: %s\n", err->text);
	return rc;
}

int rig_open(uint64_t pv_bytes, uint64_t disk_bytes, struct rig **ret)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct base_error err;

	if (!rig)
		return -ENOMEM;
	/* In memory where there is any: what is measured does not sync. */
	strcpy(rig->dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/bdfs-micro-XXXXXX" : "/tmp/bdfs-micro-XXXXXX");
	if (!mkdtemp(rig->dir)) {
		int code = -errno;

		free(rig);
		return code;
	}
	int rc = make_pool(rig, pv_bytes, &err);
	if (rc == 0)
		rc = make_disk(rig, disk_bytes, &err);
	if (rc < 0) {
		rig_close(rig);
		return tell(rc, &err);
	}
	*ret = rig;
	return 0;
}

/* ---- the queue ---------------------------------------------------------------------------- */

static void no_wake(void *ctx)
{
}

int rig_open_queue(struct rig *rig)
{
	int fd = meta_io_pv(rig->meta, 0)->fd;
	struct ioc_engine_args args = { .depth = 256, .data_fds = &fd, .data_fd_count = 1 };
	struct base_error err;

	rig->streams.ops = &streams_ops;
	rig->ioc.meta = rig->meta;
	rig->ioc.queues = &rig->queue;
	rig->ioc.queue_count = 1;
	pthread_mutex_init(&rig->ioc.lock, NULL);
	int rc = queue_init(&rig->queue, &rig->ioc, rig->meta, 0);
	if (rc < 0)
		return rc;
	base_mailbox_init(&rig->queue.box, no_wake, NULL);
	rc = ioc_null_open(&args, &rig->streams, &rig->queue.engine, &err);
	if (rc == 0)
		rc = ioc_disk_open(&rig->ioc, rig->disk, &rig->bd, &err);
	return rc < 0 ? tell(rc, &err) : 0;
}

void rig_turn(struct rig *rig, const void *message, size_t bytes, size_t read_bytes)
{
	rig->message = message;
	rig->message_bytes = bytes;
	rig->read_bytes = read_bytes;
	(void)queue_turn(&rig->queue, 0);
}

struct call {
	void (*fn)(void *arg);
	void *arg;
	_Atomic bool has_ended;
};

static void *run_call(void *arg)
{
	struct call *call = arg;

	call->fn(call->arg);
	atomic_store(&call->has_ended, true);
	return NULL;
}

void rig_call(struct rig *rig, void (*fn)(void *arg), void *arg)
{
	struct call call = { .fn = fn, .arg = arg };
	pthread_t thread;

	if (base_thread_start(&thread, "rig-call", run_call, &call) < 0)
		abort(); /* no thread to be had: there is nothing to measure here */
	while (!atomic_load(&call.has_ended)) {
		(void)queue_turn(&rig->queue, 0);
		sched_yield();
	}
	pthread_join(thread, NULL);
}
