/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engine "threads": blocking system calls on threads of its own, for hosts
 * that forbid io_uring.
 *
 * Two kinds of threads. Workers, a fixed number that is never above the depth,
 * take READ, WRITE and SYNC from one queue, first in, first out, and carry each
 * to its end before the next: what is in flight is what the workers hold. A
 * stream thread serves one READ_ONCE: it reads, and while there is nothing
 * polls the descriptor together with the stop descriptor; then it waits for
 * the next READ_ONCE. There are as many as were ever armed at once (a few for each
 * queue thread); none ends before close(). REPLY needs no thread: the stream
 * never blocks, so submit() writes, and run() reports.
 *
 * An io's way: submitted (owner) -> run() hands all of them over under one
 * lock -> a thread takes it -> finished (lock) -> run() takes all of them and
 * calls done. A thread that finishes something rings the owner's bell, which
 * is a system call only when the owner sleeps.
 *
 * Failure modes: a stream thread that can't be started makes its READ_ONCE
 * end with -ENOMEM (not -EAGAIN, which a caller might take for "read again").
 * The threads block all signals: those are for the threads of the daemon that
 * expect them.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "iocore/engine_internal.h"

#define WORKERS_DEFAULT 4
/* They call the kernel and little else; a stack is locked in memory with the rest of the daemon. */
#define STACK_BYTES (256 * KIB)

struct stream_thread {
	struct stream_thread *next;
	pthread_t thread;
};

struct threads_engine {
	struct ioc_engine engine;
	struct ioc_bell bell;
	/* const after open */
	int stop_fd; /* eventfd, readable from close() on */
	int cancel_fd; /* eventfd, readable while a READ_ONCE that is to be cancelled has not ended */
	unsigned worker_count;
	pthread_t *workers;
	/* owner */
	struct ioc_io_list submitted_device;
	struct ioc_io_list submitted_streams;
	struct ioc_io_list ended; /* without a thread */
	struct stream_thread *stream_threads;
	unsigned stream_thread_count;
	unsigned streams_armed; /* READ_ONCE submitted and not done */
	unsigned device_out;
	unsigned cancels; /* asked for and not done */
	/* lock */
	pthread_mutex_t lock;
	pthread_cond_t has_device;
	pthread_cond_t has_stream;
	struct ioc_io_list device_queue;
	struct ioc_io_list stream_queue;
	struct ioc_io_list finished;
	unsigned idle_workers;
	bool is_stopping;
};

static struct threads_engine *to_threads(struct ioc_engine *engine)
{
	return container_of(engine, struct threads_engine, engine);
}

static int64_t result_of(ssize_t rc)
{
	return rc < 0 ? -errno : rc;
}

static void transfer(struct ioc_io *io)
{
	int64_t result;

	do {
		int count = (int)MIN(io->iov_count, (unsigned)IOV_MAX);
		off_t offset = (off_t)(io->offset + io->bytes_done);

		if (io->kind == IOC_IO_READ)
			result = result_of(preadv2(io->fd, io->iov, count, offset, 0));
		else
			result = result_of(pwritev2(io->fd, io->iov, count, offset, 0));
	} while (!ioc_io_step(io, result));
}

static void carry_out(struct ioc_io *io)
{
	if (io->kind == IOC_IO_SYNC)
		io->result = result_of(fdatasync(io->fd));
	else
		transfer(io);
}

static void finish(struct threads_engine *t, struct ioc_io *io)
{
	pthread_mutex_lock(&t->lock);
	ioc_io_list_push(&t->finished, io);
	pthread_mutex_unlock(&t->lock);
	ioc_bell_ring(&t->bell);
}

/* The next io of a queue, waiting for one; NULL when the engine stops. */
static struct ioc_io *take_device(struct threads_engine *t)
{
	struct ioc_io *io = NULL;

	pthread_mutex_lock(&t->lock);
	t->idle_workers++;
	while (!t->is_stopping && !(io = ioc_io_list_pop(&t->device_queue)))
		pthread_cond_wait(&t->has_device, &t->lock);
	t->idle_workers--;
	pthread_mutex_unlock(&t->lock);
	return io;
}

static struct ioc_io *take_stream(struct threads_engine *t)
{
	struct ioc_io *io = NULL;

	pthread_mutex_lock(&t->lock);
	while (!t->is_stopping && !(io = ioc_io_list_pop(&t->stream_queue)))
		pthread_cond_wait(&t->has_stream, &t->lock);
	pthread_mutex_unlock(&t->lock);
	return io;
}

static void *worker_main(void *arg)
{
	struct threads_engine *t = arg;
	struct ioc_io *io;

	while ((io = take_device(t))) {
		carry_out(io);
		finish(t, io);
	}
	return NULL;
}

/* Return: false when the engine stops, with nothing read. */
static bool read_once(const struct threads_engine *t, struct ioc_io *io)
{
	struct pollfd fds[] = { { .fd = io->fd, .events = POLLIN },
				{ .fd = t->stop_fd, .events = POLLIN },
				{ .fd = t->cancel_fd, .events = POLLIN } };

	for (;;) {
		if (atomic_load(&io->cancel)) {
			io->result = -ECANCELED;
			return true;
		}
		io->result = result_of(readv(io->fd, io->iov, (int)MIN(io->iov_count, (unsigned)IOV_MAX)));
		if (io->result != -EAGAIN && io->result != -EINTR)
			return true;
		/* A failed poll leaves revents as they were, so they are cleared; then it is tried again. */
		fds[1].revents = 0;
		(void)poll(fds, ARRAY_LEN(fds), -1);
		if (fds[1].revents)
			return false;
	}
}

static void *stream_main(void *arg)
{
	struct threads_engine *t = arg;
	struct ioc_io *io;

	while ((io = take_stream(t)) && read_once(t, io))
		finish(t, io);
	return NULL;
}

/* Return: 0 or a negative errno. */
static int start_thread(pthread_t *ret, void *(*main)(void *), const char *name, struct threads_engine *t)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int rc;

	rc = pthread_attr_init(&attr);
	if (rc != 0)
		return -rc;
	rc = pthread_attr_setstacksize(&attr, MAX(STACK_BYTES, (size_t)PTHREAD_STACK_MIN));
	if (rc == 0) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited by the new thread */
		rc = pthread_create(ret, &attr, main, t);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	pthread_attr_destroy(&attr);
	if (rc == 0)
		pthread_setname_np(*ret, name);
	return -rc;
}

static int add_stream_thread(struct threads_engine *t)
{
	struct stream_thread *stream = malloc(sizeof(*stream));
	int rc;

	if (!stream)
		return -ENOMEM;
	rc = start_thread(&stream->thread, stream_main, "bdfs-stream", t);
	if (rc < 0) {
		free(stream);
		return rc;
	}
	stream->next = t->stream_threads;
	t->stream_threads = stream;
	t->stream_thread_count++;
	return 0;
}

static void submit_stream(struct threads_engine *t, struct ioc_io *io)
{
	t->streams_armed++;
	if (t->streams_armed > t->stream_thread_count && add_stream_thread(t) < 0) {
		io->result = -ENOMEM;
		ioc_io_list_push(&t->ended, io);
		return;
	}
	ioc_io_list_push(&t->submitted_streams, io);
}

static void reply(struct threads_engine *t, struct ioc_io *io)
{
	do {
		io->result = result_of(writev(io->fd, io->iov, (int)MIN(io->iov_count, (unsigned)IOV_MAX)));
	} while (io->result == -EINTR);
	ioc_io_list_push(&t->ended, io);
}

static void threads_submit(struct ioc_engine *engine, struct ioc_io *io)
{
	struct threads_engine *t = to_threads(engine);

	io->bytes_done = 0;
	atomic_store(&io->cancel, 0);
	if (io->kind == IOC_IO_REPLY) {
		reply(t, io);
	} else if (io->kind == IOC_IO_READ_ONCE) {
		submit_stream(t, io);
	} else {
		t->device_out++;
		ioc_io_list_push(&t->submitted_device, io);
	}
}

/* Under one lock for all: a thread that is woken would only meet the owner at it. */
static void hand_over(struct threads_engine *t)
{
	unsigned wanted = 0;

	if (!t->submitted_device.first && !t->submitted_streams.first)
		return;
	for (struct ioc_io *io = t->submitted_device.first; io && wanted < t->worker_count; io = io->next)
		wanted++;
	pthread_mutex_lock(&t->lock);
	ioc_io_list_join(&t->device_queue, &t->submitted_device);
	/* A worker that is not idle looks at the queue before it sleeps. */
	for (unsigned i = MIN(wanted, t->idle_workers); i > 0; i--)
		pthread_cond_signal(&t->has_device);
	if (t->submitted_streams.first)
		pthread_cond_broadcast(&t->has_stream);
	ioc_io_list_join(&t->stream_queue, &t->submitted_streams);
	pthread_mutex_unlock(&t->lock);
}

/*
 * All stream threads wake and look whether it is theirs. Until the owner has seen the end of the last one they find
 * the descriptor readable and go round; that is short, as is a cancellation.
 */
static void threads_cancel(struct ioc_engine *engine, struct ioc_io *io)
{
	struct threads_engine *t = to_threads(engine);
	const uint64_t one = 1;

	assert(io->kind == IOC_IO_READ_ONCE);
	if (atomic_exchange(&io->cancel, 1))
		return;
	t->cancels++;
	(void)!write(t->cancel_fd, &one, sizeof(one)); /* can't fail: the counter is far from full */
}

static void end_stream(struct threads_engine *t, struct ioc_io *io)
{
	uint64_t count;

	t->streams_armed--;
	if (atomic_load(&io->cancel) && --t->cancels == 0)
		(void)!read(t->cancel_fd, &count, sizeof(count));
}

/* All that has ended so far; what done functions bring is for the next run(). */
static int run_ended(struct threads_engine *t)
{
	struct ioc_io_list now = t->ended;
	struct ioc_io *io;
	int ran = 0;

	t->ended.first = NULL;
	pthread_mutex_lock(&t->lock);
	ioc_io_list_join(&now, &t->finished);
	pthread_mutex_unlock(&t->lock);
	while ((io = ioc_io_list_pop(&now))) {
		if (io->kind == IOC_IO_READ_ONCE)
			end_stream(t, io);
		else if (ioc_io_is_device(io))
			t->device_out--;
		io->done(io, io->result);
		ran++;
	}
	return ran;
}

static int wait_for_bell(struct threads_engine *t, int64_t timeout_ns)
{
	struct timespec timeout = { .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };
	struct pollfd bell = { .fd = t->bell.fd, .events = POLLIN };
	uint64_t count;
	int rc;

	rc = ppoll(&bell, 1, timeout_ns < 0 ? NULL : &timeout, NULL);
	if (rc < 0 && errno != EINTR)
		return -errno;
	/* It is non-blocking: nobody else reads it, so after a poll there is something. */
	if (rc > 0)
		(void)!read(t->bell.fd, &count, sizeof(count));
	return 0;
}

static int threads_run(struct ioc_engine *engine, int64_t timeout_ns)
{
	struct threads_engine *t = to_threads(engine);
	int ran, rc = 0;

	hand_over(t);
	ran = run_ended(t);
	/* After that look a thread that finishes something rings, and then the owner may not sleep. */
	if (ran == 0 && timeout_ns != 0 && ioc_bell_may_sleep(&t->bell))
		rc = wait_for_bell(t, timeout_ns);
	ioc_bell_awake(&t->bell);
	if (ran == 0)
		ran = run_ended(t);
	return rc < 0 ? rc : ran;
}

static void threads_wake(struct ioc_engine *engine)
{
	ioc_bell_ring(&to_threads(engine)->bell);
}

static void stop_threads(struct threads_engine *t)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&t->lock);
	t->is_stopping = true;
	pthread_cond_broadcast(&t->has_device);
	pthread_cond_broadcast(&t->has_stream);
	pthread_mutex_unlock(&t->lock);
	(void)!write(t->stop_fd, &one, sizeof(one)); /* never read, so it stays readable for all; can't fail from 0 */
	for (unsigned i = 0; i < t->worker_count; i++)
		pthread_join(t->workers[i], NULL);
	while (t->stream_threads) {
		struct stream_thread *stream = t->stream_threads;

		t->stream_threads = stream->next;
		pthread_join(stream->thread, NULL);
		free(stream);
	}
}

static void free_engine(struct threads_engine *t)
{
	stop_threads(t);
	pthread_cond_destroy(&t->has_stream);
	pthread_cond_destroy(&t->has_device);
	pthread_mutex_destroy(&t->lock);
	close(t->stop_fd);
	close(t->cancel_fd);
	ioc_bell_close(&t->bell);
	free(t->workers);
	free(t);
}

static void threads_close(struct ioc_engine *engine)
{
	struct threads_engine *t = to_threads(engine);

	assert(t->device_out == 0);
	free_engine(t);
}

static const struct ioc_engine_ops threads_ops = {
	.name = "threads",
	.submit = threads_submit,
	.run = threads_run,
	.cancel = threads_cancel,
	.wake = threads_wake,
	.close = threads_close,
};

/* The engine without its workers. */
static int make_engine(unsigned workers, struct threads_engine **ret)
{
	struct threads_engine *t = calloc(1, sizeof(*t));
	int rc = -ENOMEM;

	if (!t)
		return rc;
	t->engine.ops = &threads_ops;
	t->workers = calloc(workers, sizeof(*t->workers));
	if (!t->workers)
		goto free_memory;
	rc = ioc_bell_open(&t->bell);
	if (rc < 0)
		goto free_memory;
	t->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (t->stop_fd < 0) {
		rc = -errno;
		goto close_bell;
	}
	t->cancel_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (t->cancel_fd < 0) {
		rc = -errno;
		goto close_stop;
	}
	/* With default attributes none of these can fail. */
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->has_device, NULL);
	pthread_cond_init(&t->has_stream, NULL);
	*ret = t;
	return 0;

close_stop:
	close(t->stop_fd);
close_bell:
	ioc_bell_close(&t->bell);
free_memory:
	free(t->workers);
	free(t);
	return rc;
}

int ioc_threads_open(const struct ioc_engine_args *args, struct ioc_engine **ret, struct base_error *err)
{
	unsigned workers = MIN(args->worker_threads ? args->worker_threads : WORKERS_DEFAULT, args->depth);
	struct threads_engine *t = NULL;
	int rc;

	rc = make_engine(workers, &t);
	if (rc < 0)
		return base_error_set_errno(err, rc, "engine threads: can't set up");
	while (t->worker_count < workers) {
		rc = start_thread(&t->workers[t->worker_count], worker_main, "bdfs-io", t);
		if (rc < 0) {
			base_error_set_errno(err, rc, "engine threads: can't start I/O thread %u of %u",
					     t->worker_count + 1, workers);
			free_engine(t);
			return rc;
		}
		t->worker_count++;
	}
	*ret = &t->engine;
	return 0;
}
