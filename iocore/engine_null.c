/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engine "null": what the software costs when the device costs nothing.
 *
 * A wrapper over another engine, which it owns. READ, WRITE and SYNC of a data
 * descriptor never reach the pv: they wait in a list until run() calls their
 * done functions with the full length (a READ leaves its buffer as it was).
 * All else goes to the engine below, whose run() does the waiting.
 *
 * run(): the list, then the engine below, then the list again. The first pass
 * is for what was submitted between two runs; what that leads to (replies) is
 * handed over by the run() below at once. The last pass is for what the done
 * functions below submitted (a request was read, its I/O was planned), so that
 * the answer goes out with the next enter and not one later. With the list
 * or its first pass not empty the engine below is not allowed to sleep.
 *
 * Each pass takes what is there when it begins: a done function that submits
 * the next io, as a benchmark does, is called again by the next run() and not
 * in an endless loop of this one.
 *
 * Failure modes: those of the engine below.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "iocore/engine_internal.h"

struct null_engine {
	struct ioc_engine engine;
	/* const after open */
	struct ioc_engine *below;
	unsigned data_fd_count;
	int *data_fds;
	/* owner */
	struct ioc_io_list list;
};

static struct null_engine *to_null(struct ioc_engine *engine)
{
	return container_of(engine, struct null_engine, engine);
}

static bool is_ours(const struct null_engine *null, const struct ioc_io *io)
{
	if (!ioc_io_is_device(io))
		return false;
	for (unsigned i = 0; i < null->data_fd_count; i++) {
		if (null->data_fds[i] == io->fd)
			return true;
	}
	return false;
}

static void null_submit(struct ioc_engine *engine, struct ioc_io *io)
{
	struct null_engine *null = to_null(engine);

	if (is_ours(null, io))
		ioc_io_list_push(&null->list, io);
	else
		null->below->ops->submit(null->below, io);
}

static int64_t full_result(const struct ioc_io *io)
{
	int64_t bytes = 0;

	if (io->kind == IOC_IO_SYNC)
		return 0;
	for (unsigned i = 0; i < io->iov_count; i++)
		bytes += (int64_t)io->iov[i].iov_len;
	return bytes;
}

static int run_list(struct null_engine *null)
{
	struct ioc_io_list now = null->list;
	struct ioc_io *io;
	int ran = 0;

	null->list.first = NULL;
	while ((io = ioc_io_list_pop(&now))) {
		io->done(io, full_result(io));
		ran++;
	}
	return ran;
}

static int null_run(struct ioc_engine *engine, int64_t timeout_ns)
{
	struct null_engine *null = to_null(engine);
	int ran, rc;

	ran = run_list(null);
	if (ran > 0 || null->list.first)
		timeout_ns = 0;
	rc = null->below->ops->run(null->below, timeout_ns);
	if (rc < 0)
		return rc;
	return ran + rc + run_list(null);
}

static void null_cancel(struct ioc_engine *engine, struct ioc_io *io)
{
	struct ioc_engine *below = to_null(engine)->below;

	below->ops->cancel(below, io);
}

static void null_wake(struct ioc_engine *engine)
{
	struct ioc_engine *below = to_null(engine)->below;

	below->ops->wake(below);
}

static void null_close(struct ioc_engine *engine)
{
	struct null_engine *null = to_null(engine);

	assert(!null->list.first);
	null->below->ops->close(null->below);
	free(null->data_fds);
	free(null);
}

static const struct ioc_engine_ops null_ops = {
	.name = "null",
	.submit = null_submit,
	.run = null_run,
	.cancel = null_cancel,
	.wake = null_wake,
	.close = null_close,
};

int ioc_null_open(const struct ioc_engine_args *args, struct ioc_engine *below, struct ioc_engine **ret,
		  struct base_error *err)
{
	struct null_engine *null = calloc(1, sizeof(*null));
	int *data_fds = calloc(MAX(args->data_fd_count, 1u), sizeof(*data_fds));

	if (!null || !data_fds) {
		free(null);
		free(data_fds);
		return base_error_set_errno(err, -ENOMEM, "engine null");
	}
	if (args->data_fd_count > 0)
		memcpy(data_fds, args->data_fds, args->data_fd_count * sizeof(*data_fds));
	null->engine.ops = &null_ops;
	null->below = below;
	null->data_fds = data_fds;
	null->data_fd_count = args->data_fd_count;
	*ret = &null->engine;
	return 0;
}
