/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device engine: the asynchronous operations of one queue thread.
 *
 * An engine belongs to one thread, its owner: only wake() may be called from
 * another. It takes struct ioc_io, carries them out and calls their done
 * function from run(), on the owner. Every front end waits in the same place:
 * reads of /dev/fuse, replies, eventfds of virtqueues and I/O of the pv are all
 * operations of one engine, so one system call both submits and waits.
 *
 * Engines: "uring" (one io_uring, single issuer and deferred task-run where the
 * kernel has them), "threads" (a pool of threads with preadv2/pwritev2, for
 * hosts that forbid io_uring) and, for measuring software cost, "null" (device
 * data I/O completes at once without touching the pv; anything else goes to the
 * engine below). Over each of them lies a wrapper that injects faults, where
 * args ask for it. Choice: ioc_engine_open by name, or NULL to probe.
 *
 * What an engine promises:
 *   - done runs exactly once for every submitted io, never inside submit();
 *   - a READ or WRITE is carried on after a short result, EINTR or EAGAIN until
 *     it is whole, fails, or (READ) meets end of file: the result is then the
 *     byte count so far. A failure is reported as such, whatever went before;
 *   - READ_ONCE reports the first result that is not EAGAIN or EINTR, REPLY the
 *     first that is not EINTR, SYNC the first (a sync is never tried again);
 *   - no more than args.depth of READ, WRITE and SYNC are in flight, the others
 *     wait in order of submission; READ_ONCE and REPLY are not counted, as a
 *     stream may stay armed for ever;
 *   - completion order is free, and a SYNC covers only what had completed
 *     before it was submitted.
 *
 * What it expects:
 *   - a done function may submit and wake, but not run() or close();
 *   - descriptors of streams are O_NONBLOCK (a reader that came too late must
 *     not block), those of pvs are not;
 *   - SIGXFSZ is ignored in the process: a WRITE beyond RLIMIT_FSIZE then ends
 *     with -EFBIG instead of killing it.
 */
#ifndef IOCORE_ENGINE_H
#define IOCORE_ENGINE_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/types.h"

enum ioc_io_kind {
	IOC_IO_READ,      /* preadv at offset, of a pv */
	IOC_IO_WRITE,     /* pwritev at offset, of a pv */
	IOC_IO_READ_ONCE, /* readv of a stream (the FUSE device, an eventfd); waits until there is something */
	IOC_IO_REPLY,     /* writev to a stream that never blocks (the FUSE device) */
	IOC_IO_SYNC,      /* fdatasync */
};

struct ioc_io {
	/* Set by the caller, constant until done, as is the memory that iov points to. For READ and WRITE
	 * the engine may change iov, iov_count and the iovecs (it steps over what is done), so they
	 * are set anew before each submit; a WRITE's data is left alone. */
	enum ioc_io_kind kind;
	int fd;
	struct iovec *iov;
	unsigned iov_count;
	uint64_t offset; /* bytes; READ and WRITE only */
	/* REPLY only: a run() need not return for its done alone, but calls it when there is something else too. For
	 * who waits for something else anyway: a reply ends at once, and would cost a run() of its own each time. */
	bool may_be_late;
	/* result: bytes, or negative errno. Context: the owner, from run(). */
	void (*done)(struct ioc_io *io, int64_t result);
	void *ctx; /* the caller's */

	/* The engine's, from submit until done; need not be set. */
	uint64_t bytes_done;
	int64_t result;
	struct ioc_io *next;
	void *engine_private;
	_Atomic int cancel; /* 0: not asked for; 1: asked for; 2: on its way */
};

struct ioc_engine;

struct ioc_engine_ops {
	const char *name;
	/* Never fails and never blocks; what can't be started is reported through done from run(). */
	void (*submit)(struct ioc_engine *engine, struct ioc_io *io);
	/*
	 * Hands over what was submitted, waits up to timeout_ns (-1 = for ever, 0 = not at all) for
	 * a completion or a wake, runs the done functions of all that is there. May return early with
	 * nothing done (a signal, a wake already seen, a part of an io). Never waits after a done function ran: the
	 * owner may have given itself work by it. Returns how many ran, or a negative errno when the engine is broken.
	 */
	int (*run)(struct ioc_engine *engine, int64_t timeout_ns);
	/*
	 * Ends a READ_ONCE that was submitted and is not done: its done function runs soon, from run(), with -ECANCELED
	 * or with what it had read by then. Never fails and never blocks. Context: the owner.
	 */
	void (*cancel)(struct ioc_engine *engine, struct ioc_io *io);
	/*
	 * Makes the run() under way, or the next one, return; what the caller wrote before is seen after that
	 * return. Any thread, async-signal-safe. Many wakes may count as one; no system call unless the owner sleeps.
	 */
	void (*wake)(struct ioc_engine *engine);
	/*
	 * Called with nothing in flight but READ_ONCE operations on descriptors that do not become ready: cancels
	 * them without calling done. After it no memory of the caller is held. Descriptors are not either, except
	 * that the kernel may end a request that a worker of io_uring carried out some milliseconds after its
	 * completion: who locks descriptors with flock has to unlock them, not only to close them.
	 * Context: the owner, blocks.
	 */
	void (*close)(struct ioc_engine *engine);
};

/* First member of every engine. */
struct ioc_engine {
	const struct ioc_engine_ops *ops;
};

/* Copied by the open. */
struct ioc_engine_args {
	unsigned depth; /* READ, WRITE and SYNC in flight at most, 1 or more; the engine queues what is beyond */
	/* Descriptors of the pvs, for registration and for "null" to know what is data; may be none. Each stays
	 * open, and the same file, until close(). */
	const int *data_fds;
	unsigned data_fd_count;
	/* "threads" only; 0 = default (4), never more than the depth. Streams get threads of their own, one for
	 * each READ_ONCE in flight. */
	unsigned worker_threads;
	struct base_fault *fault; /* NULL, or rules by which device operations go wrong; outlives the engine */
};

/*
 * name: "uring", "threads", "null" (null over the probed one), or NULL: uring where it works, else threads.
 * ret_why (may be NULL): when threads were taken because uring can't work here (name NULL or "null"), a static
 * text saying why (for the log and `status`), else NULL.
 * Context: the thread that will own the engine.
 * Return: 0; with err: -EINVAL unknown name or a depth of 0; -ENOSYS / -EPERM / -ENOMEM when "uring" can't work
 * here; -EMFILE, -ENFILE, -ENOMEM, -EAGAIN when descriptors, memory or threads are short.
 */
MUST_CHECK int ioc_engine_open(const char *name, const struct ioc_engine_args *args, struct ioc_engine **ret,
			       const char **ret_why, struct base_error *err);

/* Comma-separated names for --help. */
const char *ioc_engine_names(void);

#endif
