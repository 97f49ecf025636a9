/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engines share: a FIFO of ios, the rule by which a READ or WRITE is
 * carried on, and the bell that wakes an owner.
 *
 * Context: lists and ioc_io_step belong to whoever owns the io at that moment
 * (the owner thread, or the worker that carries it out). ioc_bell_ring: any
 * thread and signal handlers; the other bell functions: the owner.
 *
 * Engines come in two shapes: those that do I/O (uring, threads) and wrappers,
 * one for each concern, which take an open engine, own it from then on, and
 * pass on what is not theirs: "null", and the one that injects faults.
 */
#ifndef IOCORE_ENGINE_INTERNAL_H
#define IOCORE_ENGINE_INTERNAL_H

#include <stdatomic.h>

#include "iocore/engine.h"

/*
 * Opening each kind, with args whose depth is at least 1. ret_why: set (to a static text for `status`) only
 * when the open fails because this host has no io_uring for us; left alone otherwise.
 * Context: the owner. Return: 0 or a negative errno with err.
 */
MUST_CHECK int ioc_uring_open(const struct ioc_engine_args *args, struct ioc_engine **ret, const char **ret_why,
			      struct base_error *err);
MUST_CHECK int ioc_threads_open(const struct ioc_engine_args *args, struct ioc_engine **ret, struct base_error *err);
/* Takes below on success only. */
MUST_CHECK int ioc_null_open(const struct ioc_engine_args *args, struct ioc_engine *below, struct ioc_engine **ret,
			     struct base_error *err);

/* Takes below on success only. fault outlives the engine. */
MUST_CHECK int ioc_fault_open(struct base_fault *fault, struct ioc_engine *below, struct ioc_engine **ret,
			      struct base_error *err);

/* READ, WRITE and SYNC are bounded by the depth; streams are not, as one may stay armed for ever. */
static inline bool ioc_io_is_device(const struct ioc_io *io)
{
	return io->kind == IOC_IO_READ || io->kind == IOC_IO_WRITE || io->kind == IOC_IO_SYNC;
}

/*
 * Takes the result of one system call (or completion) of a READ or WRITE and steps the iovecs over it.
 * Return: true when the io has ended, with its result in io->result; false when it has to be
 * carried on at io->offset + io->bytes_done with what is left of io->iov.
 */
MUST_CHECK bool ioc_io_step(struct ioc_io *io, int64_t result);

struct ioc_io_list {
	struct ioc_io *first;
	struct ioc_io *last; /* meaningful when first is set */
};

void ioc_io_list_push(struct ioc_io_list *list, struct ioc_io *io);
/* NULL when empty. */
struct ioc_io *ioc_io_list_pop(struct ioc_io_list *list);
/* Moves all of from to the end of to. */
void ioc_io_list_join(struct ioc_io_list *to, struct ioc_io_list *from);

/*
 * The bell: an eventfd that is written only when the owner sleeps and nobody
 * else has rung yet, so waking a busy owner costs one atomic exchange.
 */
struct ioc_bell {
	_Atomic int state;
	int fd; /* eventfd, non-blocking, close-on-exec; const after open */
};

MUST_CHECK int ioc_bell_open(struct ioc_bell *bell);
void ioc_bell_close(struct ioc_bell *bell);
void ioc_bell_ring(struct ioc_bell *bell);
/*
 * Before the owner sleeps: false when the bell has rung since the last ioc_bell_awake, then it must not.
 * After true the owner waits for fd to be readable, among other things.
 */
MUST_CHECK bool ioc_bell_may_sleep(struct ioc_bell *bell);
/* At the end of each run(): what was posted before a ring up to here is seen by the owner after this. */
void ioc_bell_awake(struct ioc_bell *bell);

#endif
