/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engine "uring": one io_uring for all that a queue thread waits for. The one
 * file that includes <liburing.h>.
 *
 * submit() only fills a submission entry (SQE); run() hands over all of them
 * and waits in the same system call, then takes what is in the completion
 * queue. The ring is single issuer with deferred task-run where the kernel has
 * it (6.1): completions then appear only inside an enter that asks for events,
 * which is why run() asks even when it does not wait, unless the ring's flags
 * say that there is nothing to be had. Older kernels get the flags they know,
 * dropped one at a time.
 *
 * user_data is the io's address; its low bits say what the entry was for:
 *	OP      the io's own operation
 *	POLL    the wait for readability after a READ_ONCE met EAGAIN
 *	BELL    the read of the bell's eventfd, kept armed (no io)
 *	CANCEL  a cancellation (no io)
 *
 * Where an io is:
 *	device_queue   READ, WRITE, SYNC beyond the depth, or without an SQE
 *	stream_queue   READ_ONCE, REPLY without an SQE
 *	in the kernel  counted by entries_out; device ios by device_out too;
 *	               READ_ONCE are on the armed list, for close() to cancel
 *
 * Happy path: submit -> SQE -> run: enter -> completion -> ioc_io_step says
 * ended -> done. A short result goes round again.
 *
 * Failure modes: a full submission queue is handed over in the middle of
 * submit(); if the kernel takes nothing (no memory) the io is queued and run()
 * tries again without sleeping. The completion queue holds four times the
 * submission queue, and the kernel keeps what does not fit (NODROP).
 * Registered descriptors are an optimisation: without them plain ones are used.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "iocore/engine_internal.h"

enum { TAG_OP, TAG_POLL, TAG_BELL, TAG_CANCEL, TAG_MASK = 3 };

/* Room for one depth of device I/O and as much of streams before submit() has to enter the kernel. */
#define SQ_ENTRIES_MIN 64
#define SQ_ENTRIES_MAX 4096
#define CQ_ENTRIES_PER_SQ_ENTRY 4
/* Kernel threads for what can't be done without blocking (fdatasync, tmpfs); the default is in the hundreds. */
#define WORKERS_MAX 16
/* An SQE's length has 32 bits, and the kernel moves less than 2 GiB at once: more is carried on. */
#define LEN_BYTES_MAX (UINT32_C(1) << 30)
/* "At the current position", as readv and writev do. */
#define STREAM_OFFSET UINT64_MAX
/* The kernel interrupts nobody for a completion, but says in the ring's flags that there is one to be fetched. */
#define COOPERATIVE (IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG)
/* EXT_ARG (5.11) is the youngest of what the rest of this file takes for granted. */
#define FEATURES_NEEDED (IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE)

struct uring {
	struct ioc_engine engine;
	struct ioc_bell bell;
	/* const after open */
	unsigned depth;
	unsigned fixed_count; /* fixed_fds[i] is registered as number i */
	bool tells_work; /* the ring's flags say when there is something that only an enter brings */
	int *fixed_fds;
	/* owner */
	struct io_uring ring;
	unsigned device_out;
	unsigned entries_out;
	unsigned late_replies; /* prepared since the last enter, and no reason to return from it */
	struct ioc_io_list device_queue;
	struct ioc_io_list stream_queue;
	struct ioc_io *armed; /* doubly linked by next and engine_private (the previous one) */
	bool bell_armed;
	bool has_cancels; /* some of the armed, or of the stream queue, are to be cancelled */
	uint64_t bell_count; /* the kernel writes it; of no interest */
};

static struct uring *to_uring(struct ioc_engine *engine)
{
	return container_of(engine, struct uring, engine);
}

/* An SQE, after handing over the others if there is none; NULL when the kernel takes none just now. */
static struct io_uring_sqe *get_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (!sqe) {
		/* The result does not matter: if the trouble lasts, run() meets it too and reports it. */
		(void)io_uring_submit(&u->ring);
		sqe = io_uring_get_sqe(&u->ring);
	}
	if (sqe)
		u->entries_out++;
	return sqe;
}

static void set_user_data(struct io_uring_sqe *sqe, const struct ioc_io *io, unsigned tag)
{
	io_uring_sqe_set_data64(sqe, (uintptr_t)io | tag);
}

static void armed_add(struct uring *u, struct ioc_io *io)
{
	io->next = u->armed;
	io->engine_private = NULL;
	if (u->armed)
		u->armed->engine_private = io;
	u->armed = io;
}

static void armed_remove(struct uring *u, struct ioc_io *io)
{
	struct ioc_io *previous = io->engine_private;

	if (io->next)
		io->next->engine_private = previous;
	if (previous)
		previous->next = io->next;
	else
		u->armed = io->next;
}

/* Pools have few pvs, so a scan beats a table. */
static void use_fixed_fd(const struct uring *u, struct io_uring_sqe *sqe)
{
	for (unsigned i = 0; i < u->fixed_count; i++) {
		if (u->fixed_fds[i] == sqe->fd) {
			sqe->fd = (int)i;
			sqe->flags |= IOSQE_FIXED_FILE;
			return;
		}
	}
}

/* One iovec goes as READ or WRITE, which spares the kernel the import of a vector. */
static void prepare_transfer(struct io_uring_sqe *sqe, const struct ioc_io *io, bool is_read, uint64_t offset)
{
	if (io->iov_count == 1) {
		unsigned len = (unsigned)MIN(io->iov->iov_len, LEN_BYTES_MAX);

		if (is_read)
			io_uring_prep_read(sqe, io->fd, io->iov->iov_base, len, offset);
		else
			io_uring_prep_write(sqe, io->fd, io->iov->iov_base, len, offset);
		return;
	}
	if (is_read)
		io_uring_prep_readv(sqe, io->fd, io->iov, MIN(io->iov_count, IOV_MAX), offset);
	else
		io_uring_prep_writev(sqe, io->fd, io->iov, MIN(io->iov_count, IOV_MAX), offset);
}

static void prepare(const struct uring *u, struct io_uring_sqe *sqe, const struct ioc_io *io)
{
	switch (io->kind) {
	case IOC_IO_READ:
	case IOC_IO_WRITE:
		prepare_transfer(sqe, io, io->kind == IOC_IO_READ, io->offset + io->bytes_done);
		break;
	case IOC_IO_READ_ONCE:
	case IOC_IO_REPLY:
		prepare_transfer(sqe, io, io->kind == IOC_IO_READ_ONCE, STREAM_OFFSET);
		break;
	case IOC_IO_SYNC:
		io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
		break;
	}
	if (ioc_io_is_device(io))
		use_fixed_fd(u, sqe);
}

/* Return: false when there is no SQE for it. */
static bool start(struct uring *u, struct ioc_io *io)
{
	struct io_uring_sqe *sqe = get_sqe(u);

	if (!sqe)
		return false;
	prepare(u, sqe, io);
	set_user_data(sqe, io, TAG_OP);
	if (ioc_io_is_device(io))
		u->device_out++;
	else if (io->kind == IOC_IO_READ_ONCE)
		armed_add(u, io);
	else
		u->late_replies += io->may_be_late;
	return true;
}

static void start_or_queue(struct uring *u, struct ioc_io *io)
{
	if (ioc_io_is_device(io)) {
		if (u->device_queue.first || u->device_out >= u->depth || !start(u, io))
			ioc_io_list_push(&u->device_queue, io);
	} else if (u->stream_queue.first || !start(u, io)) {
		ioc_io_list_push(&u->stream_queue, io);
	}
}

static void uring_submit(struct ioc_engine *engine, struct ioc_io *io)
{
	io->bytes_done = 0;
	atomic_store_explicit(&io->cancel, 0, memory_order_relaxed);
	start_or_queue(to_uring(engine), io);
}

/*
 * io_uring waits for readability by itself, so a READ_ONCE meets EAGAIN only where the kernel gives that
 * up: a vectored read before 6.x, or a wake-up that others were quicker to use for the 128th time. Reading
 * again at once could then go round without sleeping; a poll first can't.
 */
static void start_poll(struct uring *u, struct ioc_io *io)
{
	struct io_uring_sqe *sqe = get_sqe(u);

	if (!sqe) {
		ioc_io_list_push(&u->stream_queue, io);
		return;
	}
	io_uring_prep_poll_add(sqe, io->fd, POLLIN);
	set_user_data(sqe, io, TAG_POLL);
	armed_add(u, io);
}

static void arm_bell(struct uring *u)
{
	struct io_uring_sqe *sqe = get_sqe(u);

	if (!sqe)
		return;
	io_uring_prep_read(sqe, u->bell.fd, &u->bell_count, sizeof(u->bell_count), 0);
	set_user_data(sqe, NULL, TAG_BELL);
	u->bell_armed = true;
}

static bool cancel(struct uring *u, const struct ioc_io *io, unsigned tag)
{
	struct io_uring_sqe *sqe = get_sqe(u);

	if (!sqe)
		return false;
	io_uring_prep_cancel64(sqe, (uintptr_t)io | tag, 0);
	set_user_data(sqe, NULL, TAG_CANCEL);
	return true;
}

/* Return: false when some are left for want of an SQE. */
static bool cancel_asked(struct uring *u)
{
	bool all = !u->stream_queue.first;

	for (struct ioc_io *io = u->armed; io; io = io->next) {
		if (atomic_load_explicit(&io->cancel, memory_order_relaxed) != 1)
			continue;
		/* It is in one of two states; the other cancellation finds nothing. Sent twice if only the first got
		 * an SQE: that finds nothing either. */
		if (cancel(u, io, TAG_OP) && cancel(u, io, TAG_POLL))
			atomic_store_explicit(&io->cancel, 2, memory_order_relaxed);
		else
			all = false;
	}
	u->has_cancels = !all;
	return all;
}

/* Return: false when something is left for want of an SQE. Waiting for the depth is no such want. */
static bool start_queued(struct uring *u)
{
	struct ioc_io *io;

	if (!u->bell_armed)
		arm_bell(u);
	while ((io = u->stream_queue.first)) {
		struct ioc_io *next = io->next;

		if (!start(u, io))
			return false;
		u->stream_queue.first = next;
	}
	while ((io = u->device_queue.first) && u->device_out < u->depth) {
		struct ioc_io *next = io->next;

		if (!start(u, io))
			return false;
		u->device_queue.first = next;
	}
	if (u->has_cancels && !cancel_asked(u))
		return false;
	return u->bell_armed;
}

static int wait_for_completion(struct uring *u, int64_t timeout_ns)
{
	struct __kernel_timespec timeout = { .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };
	struct io_uring_cqe *cqe;

	return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1 + u->late_replies,
						timeout_ns < 0 ? NULL : &timeout, NULL);
}

/* Whether an enter would do anything but wait. */
static bool needs_enter(struct uring *u)
{
	unsigned flags = __atomic_load_n(u->ring.sq.kflags, __ATOMIC_RELAXED);

	return !u->tells_work || io_uring_sq_ready(&u->ring) > 0 ||
	       (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/* The one system call of run(); none where there is nothing to hand over, to fetch or to wait for. */
static int enter(struct uring *u, int64_t timeout_ns)
{
	int rc = 0;

	if (timeout_ns != 0 && ioc_bell_may_sleep(&u->bell))
		rc = wait_for_completion(u, timeout_ns);
	else if (needs_enter(u))
		rc = io_uring_submit_and_get_events(&u->ring);
	u->late_replies = 0;
	ioc_bell_awake(&u->bell);
	/* EAGAIN: no memory for requests just now; EBUSY: the completion queue has to be emptied first. */
	if (rc == -ETIME || rc == -EINTR || rc == -EAGAIN || rc == -EBUSY)
		return 0;
	return MIN(rc, 0);
}

/* Return: true when the io has ended, with its result set; else it is under way again. */
static bool stream_step(struct uring *u, struct ioc_io *io, unsigned tag, int result)
{
	bool again = result == -EINTR || (tag == TAG_POLL && result >= 0);

	if (io->kind == IOC_IO_READ_ONCE) {
		armed_remove(u, io);
		if (atomic_load_explicit(&io->cancel, memory_order_relaxed) != 0 && (again || result == -EAGAIN)) {
			io->result = -ECANCELED;
			return true;
		}
		if (result == -EAGAIN) {
			start_poll(u, io);
			return false;
		}
	}
	if (again) {
		start_or_queue(u, io);
		return false;
	}
	io->result = result;
	return true;
}

static bool device_step(struct uring *u, struct ioc_io *io, int result)
{
	u->device_out--;
	if (io->kind == IOC_IO_SYNC) {
		io->result = result;
		return true;
	}
	if (ioc_io_step(io, result))
		return true;
	start_or_queue(u, io);
	return false;
}

/* Return: how many done functions ran, 0 or 1. */
static int complete(struct uring *u, uint64_t user_data, int result)
{
	struct ioc_io *io = (struct ioc_io *)(uintptr_t)(user_data & ~(uint64_t)TAG_MASK);
	unsigned tag = user_data & TAG_MASK;
	bool has_ended;

	u->entries_out--;
	if (!io) {
		if (tag == TAG_BELL)
			u->bell_armed = false; /* start_queued arms it again, so that rearming shares an enter */
		return 0;
	}
	has_ended = ioc_io_is_device(io) ? device_step(u, io, result) : stream_step(u, io, tag, result);
	if (has_ended)
		io->done(io, io->result);
	return has_ended;
}

/* Takes one completion; false when there is none. It is given back before done runs, which may enter the kernel. */
static bool take_completion(struct uring *u, uint64_t *ret_user_data, int *ret_result)
{
	struct io_uring_cqe *cqe;

	if (io_uring_peek_cqe(&u->ring, &cqe) != 0)
		return false;
	*ret_user_data = cqe->user_data;
	*ret_result = cqe->res;
	io_uring_cqe_seen(&u->ring, cqe);
	return true;
}

static int uring_run(struct ioc_engine *engine, int64_t timeout_ns)
{
	struct uring *u = to_uring(engine);
	uint64_t user_data;
	int result, ran = 0, rc;

	/* With something left that no completion would start, there must be a next run() soon. */
	rc = enter(u, start_queued(u) ? timeout_ns : 0);
	if (rc < 0)
		return rc;
	/* What is there now, not what done functions bring: the owner has other work too. */
	for (unsigned left = io_uring_cq_ready(&u->ring); left > 0; left--) {
		if (!take_completion(u, &user_data, &result))
			break;
		ran += complete(u, user_data, result);
	}
	return ran;
}

static void uring_wake(struct ioc_engine *engine)
{
	ioc_bell_ring(&to_uring(engine)->bell);
}

static void uring_cancel(struct ioc_engine *engine, struct ioc_io *io)
{
	assert(io->kind == IOC_IO_READ_ONCE);
	atomic_store_explicit(&io->cancel, 1, memory_order_relaxed);
	to_uring(engine)->has_cancels = true;
}

/*
 * The kernel cancels what is left when a ring goes, but later and on another thread; the callers' buffers
 * and descriptors have to be free of it when close() returns.
 */
static void cancel_all(struct uring *u)
{
	uint64_t user_data;
	int result;

	for (struct ioc_io *io = u->armed; io; io = io->next) {
		/* It is in one of the two states; the other cancellation finds nothing. */
		if (!cancel(u, io, TAG_OP) || !cancel(u, io, TAG_POLL))
			return;
	}
	if (u->bell_armed && !cancel(u, NULL, TAG_BELL))
		return;
	while (u->entries_out > 0) {
		int rc = io_uring_submit_and_wait(&u->ring, 1);

		if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
			return;
		while (take_completion(u, &user_data, &result))
			u->entries_out--;
	}
}

static void close_ring(struct uring *u)
{
	/* A ring is taken apart some time after its descriptor is closed, and until then it would hold the pvs:
	 * the next open of the pool could find them busy. */
	if (u->fixed_count > 0)
		io_uring_unregister_files(&u->ring);
	io_uring_queue_exit(&u->ring);
}

static void uring_close(struct ioc_engine *engine)
{
	struct uring *u = to_uring(engine);

	assert(u->device_out == 0 && !u->device_queue.first);
	cancel_all(u);
	close_ring(u);
	ioc_bell_close(&u->bell);
	free(u->fixed_fds);
	free(u);
}

static const struct ioc_engine_ops uring_ops = {
	.name = "uring",
	.submit = uring_submit,
	.run = uring_run,
	.cancel = uring_cancel,
	.wake = uring_wake,
	.close = uring_close,
};

static unsigned sq_entries_for(unsigned depth)
{
	unsigned entries = SQ_ENTRIES_MIN;

	while (entries < SQ_ENTRIES_MAX && entries / 2 < depth)
		entries *= 2;
	return entries;
}

static int init_ring(struct uring *u)
{
	/* Best first; each step gives up the flag that the older kernels lack. */
	static const unsigned flags_by_age[] = {
		COOPERATIVE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, /* 6.1 */
		COOPERATIVE | IORING_SETUP_SINGLE_ISSUER,			       /* 6.0 */
		COOPERATIVE,							       /* 5.19 */
		IORING_SETUP_SUBMIT_ALL,					       /* 5.18 */
		0,
	};
	unsigned entries = sq_entries_for(u->depth);
	int rc = -EINVAL;

	for (size_t i = 0; i < ARRAY_LEN(flags_by_age) && rc == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = flags_by_age[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
			.cq_entries = entries * CQ_ENTRIES_PER_SQ_ENTRY,
		};

		rc = io_uring_queue_init_params(entries, &u->ring, &params);
	}
	if (rc < 0)
		return rc;
	if ((u->ring.features & FEATURES_NEEDED) != FEATURES_NEEDED) {
		io_uring_queue_exit(&u->ring);
		return -EINVAL;
	}
	u->tells_work = u->ring.flags & IORING_SETUP_TASKRUN_FLAG;
	/* A forked child that outlives us (the probe of the mount waits for an answer) would keep the ring by its
	 * mappings, closed as its descriptors may be; and the ring has the pvs registered, so their lock. */
	io_uring_ring_dontfork(&u->ring);
	return 0;
}

/* All of these are optimisations or limits; the engine is right without them. */
static void tune_ring(struct uring *u, const struct ioc_engine_args *args)
{
	unsigned workers_max[2] = { WORKERS_MAX, WORKERS_MAX }; /* for files and block devices; for the rest */

	(void)io_uring_register_iowq_max_workers(&u->ring, workers_max);
	(void)io_uring_register_ring_fd(&u->ring);
	if (args->data_fd_count > 0 && io_uring_register_files(&u->ring, args->data_fds, args->data_fd_count) == 0) {
		memcpy(u->fixed_fds, args->data_fds, args->data_fd_count * sizeof(*u->fixed_fds));
		u->fixed_count = args->data_fd_count;
	}
}

static int refuse(int code, const char **ret_why, struct base_error *err)
{
	switch (code) {
	case -EPERM:
	case -EACCES:
		*ret_why =
		    "io_uring is forbidden here (sysctl kernel.io_uring_disabled, or a container's seccomp filter)";
		code = -EPERM;
		break;
	case -ENOSYS:
		*ret_why = "the kernel has no io_uring, or a filter hides it";
		break;
	case -EINVAL:
		*ret_why = "the kernel's io_uring is too old (Linux 5.11 is needed)";
		code = -ENOSYS;
		break;
	case -ENOMEM:
		*ret_why = "no memory for io_uring (kernels before 5.12 count it as locked memory, see RLIMIT_MEMLOCK)";
		break;
	default:
		return base_error_set_errno(err, code, "engine uring: can't set up a ring");
	}
	return base_error_set(err, code, "engine uring: %s; use engine threads or let the host choose", *ret_why);
}

/* A filter may let a ring be made and forbid its use: that has to come out here, not in the first run(). */
static int first_enter(struct uring *u)
{
	int rc;

	arm_bell(u);
	rc = io_uring_submit(&u->ring);
	return rc == -EAGAIN || rc == -EINTR ? 0 : MIN(rc, 0);
}

static int open_ring(struct uring *u, const struct ioc_engine_args *args)
{
	int rc = init_ring(u);

	if (rc < 0)
		return rc;
	tune_ring(u, args);
	rc = first_enter(u);
	if (rc < 0)
		close_ring(u);
	return rc;
}

int ioc_uring_open(const struct ioc_engine_args *args, struct ioc_engine **ret, const char **ret_why,
		   struct base_error *err)
{
	struct uring *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return base_error_set_errno(err, -ENOMEM, "engine uring");
	u->engine.ops = &uring_ops;
	u->depth = args->depth;
	u->fixed_fds = calloc(MAX(args->data_fd_count, 1u), sizeof(*u->fixed_fds));
	if (!u->fixed_fds) {
		rc = base_error_set_errno(err, -ENOMEM, "engine uring");
		goto free_engine;
	}
	rc = ioc_bell_open(&u->bell);
	if (rc < 0) {
		base_error_set_errno(err, rc, "engine uring: can't make an eventfd");
		goto free_engine;
	}
	rc = open_ring(u, args);
	if (rc < 0) {
		rc = refuse(rc, ret_why, err);
		goto close_bell;
	}
	*ret = &u->engine;
	return 0;

close_bell:
	ioc_bell_close(&u->bell);
free_engine:
	free(u->fixed_fds);
	free(u);
	return rc;
}
