/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults of data I/O: a wrapper over another engine, which it owns.
 *
 * Each READ, WRITE and SYNC is put before the rules (base/fault.h) when it is
 * submitted. What they leave alone goes below as it is. What they hit:
 *
 *   delay     waits in a list until its time has come, then the rest of the
 *             verdict
 *   error     ends in the next run(), the device sees nothing
 *   drop      the same, with success
 *   torn      the first half is written by the engine below, then the error
 *   short     READ: the first half is read, and that is the result, as at the
 *             end of a file that was cut off. WRITE: both halves are written one
 *             after the other, which nobody may notice, but a kill in between can
 *
 * A half is a whole number of sectors of 4,096 bytes, or of 512 in what is
 * shorter; what has only one sector is not split: a torn one then writes nothing,
 * a short READ ends at once, a short WRITE is whole.
 *
 * An io that is hit gets a `struct hit`, from malloc: who rehearses pays for it.
 *
 * Failure modes: no memory for a hit: the io ends with -ENOMEM. Those of the
 * engine below.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/park.h"
#include "iocore/engine_internal.h"

struct fault_engine {
	struct ioc_engine engine;
	struct ioc_engine_ops ops; /* ours, with a name of its own; const after open */
	char name[32];
	struct ioc_engine *below;
	struct base_fault *fault;
	/* owner */
	struct hit *delayed; /* soonest first */
	struct hit *ended, **ended_tail;
	int inner_done; /* done functions of ours that the engine below has run, and has counted */
};

struct hit {
	struct hit *next;
	struct fault_engine *engine;
	struct ioc_io *outer; /* the caller's */
	struct base_fault_verdict verdict;
	uint64_t due_ns;
	int64_t result;
	/* What goes to the engine below, a half at a time. */
	struct ioc_io half;
	struct iovec *iov; /* room for as many as outer has */
	uint64_t bytes, first_bytes;
};

static struct fault_engine *to_fault(struct ioc_engine *engine)
{
	return container_of(engine, struct fault_engine, engine);
}

static uint64_t bytes_of(const struct ioc_io *io)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < io->iov_count; i++)
		bytes += io->iov[i].iov_len;
	return bytes;
}

/* ---- ends --------------------------------------------------------------------------------- */

static void end(struct hit *hit, int64_t result)
{
	struct fault_engine *f = hit->engine;

	hit->result = result;
	hit->next = NULL;
	*f->ended_tail = hit;
	f->ended_tail = &hit->next;
}

static void hit_free(struct hit *hit)
{
	free(hit->iov);
	free(hit);
}

/* Those that are there now: what done functions bring is for the next run. */
static int run_ended(struct fault_engine *f)
{
	struct hit *hit = f->ended;
	int ran = 0;

	f->ended = NULL;
	f->ended_tail = &f->ended;
	for (; hit; ran++) {
		struct hit *next = hit->next;
		struct ioc_io *io = hit->outer;
		int64_t result = hit->result;

		hit_free(hit);
		io->done(io, result);
		hit = next;
	}
	return ran;
}

/* ---- halves ------------------------------------------------------------------------------- */

/* The iovecs of [from, from + bytes) of outer. */
static void cut_iov(struct hit *hit, uint64_t from, uint64_t bytes)
{
	const struct ioc_io *outer = hit->outer;

	hit->half.iov_count = 0;
	for (unsigned i = 0; i < outer->iov_count && bytes > 0; i++) {
		uint64_t skip = MIN(from, outer->iov[i].iov_len), take = MIN(bytes, outer->iov[i].iov_len - skip);

		from -= skip;
		bytes -= take;
		if (take > 0)
			hit->iov[hit->half.iov_count++] =
				(struct iovec){ (char *)outer->iov[i].iov_base + skip, take };
	}
}

static void submit_half(struct hit *hit, uint64_t from, uint64_t bytes,
			void (*done)(struct ioc_io *io, int64_t result))
{
	struct fault_engine *f = hit->engine;

	hit->half = (struct ioc_io){ .kind = hit->outer->kind,
				     .fd = hit->outer->fd,
				     .iov = hit->iov,
				     .offset = hit->outer->offset + from,
				     .done = done,
				     .ctx = hit };
	cut_iov(hit, from, bytes);
	f->below->ops->submit(f->below, &hit->half);
}

static void second_done(struct ioc_io *io, int64_t result)
{
	struct hit *hit = io->ctx;

	hit->engine->inner_done++;
	end(hit, result < 0 ? result : (int64_t)hit->first_bytes + result);
}

static void first_done(struct ioc_io *io, int64_t result)
{
	struct hit *hit = io->ctx;

	hit->engine->inner_done++;
	if (hit->verdict.kind == BASE_FAULT_TORN)
		end(hit, hit->verdict.error);
	else if (result != (int64_t)hit->first_bytes || io->kind == IOC_IO_READ)
		end(hit, result);
	else
		submit_half(hit, hit->first_bytes, hit->bytes - hit->first_bytes, second_done);
}

static void start_halves(struct hit *hit)
{
	bool is_short_write = hit->verdict.kind == BASE_FAULT_SHORT && hit->outer->kind == IOC_IO_WRITE;

	hit->bytes = bytes_of(hit->outer);
	hit->first_bytes = round_down_to(hit->bytes / 2, hit->bytes >= 2 * BLOCK_BYTES ? BLOCK_BYTES : 512);
	hit->iov = calloc(MAX(hit->outer->iov_count, 1u), sizeof(*hit->iov));
	if (!hit->iov)
		end(hit, -ENOMEM);
	else if (hit->first_bytes > 0)
		submit_half(hit, 0, hit->first_bytes, first_done);
	else if (is_short_write)
		submit_half(hit, 0, hit->bytes, second_done);
	else
		end(hit, hit->verdict.kind == BASE_FAULT_TORN ? hit->verdict.error : 0);
}

/* ---- the verdict -------------------------------------------------------------------------- */

static void whole_done(struct ioc_io *io, int64_t result)
{
	struct hit *hit = io->ctx;

	hit->engine->inner_done++;
	end(hit, result);
}

/* As it is, only later: the io is the caller's own, so that its length and iovecs stay what they are. */
static void pass_on(struct hit *hit)
{
	struct fault_engine *f = hit->engine;

	hit->half = (struct ioc_io){ .kind = hit->outer->kind,
				     .fd = hit->outer->fd,
				     .iov = hit->outer->iov,
				     .iov_count = hit->outer->iov_count,
				     .offset = hit->outer->offset,
				     .done = whole_done,
				     .ctx = hit };
	f->below->ops->submit(f->below, &hit->half);
}

static void carry_out(struct hit *hit)
{
	switch (hit->verdict.kind) {
	case BASE_FAULT_NONE:
		pass_on(hit);
		break;
	case BASE_FAULT_ERROR:
		end(hit, hit->verdict.error);
		break;
	case BASE_FAULT_DROP:
		end(hit, hit->outer->kind == IOC_IO_SYNC ? 0 : (int64_t)bytes_of(hit->outer));
		break;
	case BASE_FAULT_TORN:
	case BASE_FAULT_SHORT:
		start_halves(hit);
		break;
	}
}

static void delay(struct hit *hit)
{
	struct hit **at = &hit->engine->delayed;

	hit->due_ns = base_clock_ns() + hit->verdict.delay_ns;
	while (*at && (*at)->due_ns <= hit->due_ns)
		at = &(*at)->next;
	hit->next = *at;
	*at = hit;
}

static enum base_fault_op op_of(const struct ioc_io *io)
{
	return io->kind == IOC_IO_READ    ? BASE_FAULT_READ
	       : io->kind == IOC_IO_WRITE ? BASE_FAULT_WRITE
					  : BASE_FAULT_SYNC;
}

static void fault_submit(struct ioc_engine *engine, struct ioc_io *io)
{
	struct fault_engine *f = to_fault(engine);
	struct base_fault_verdict verdict = { .kind = BASE_FAULT_NONE };

	if (ioc_io_is_device(io))
		verdict = base_fault_judge(f->fault, op_of(io), io->fd, io->kind == IOC_IO_SYNC ? 0 : io->offset,
					   io->kind == IOC_IO_SYNC ? 0 : bytes_of(io));
	if (verdict.kind == BASE_FAULT_NONE && verdict.delay_ns == 0) {
		f->below->ops->submit(f->below, io);
		return;
	}
	struct hit *hit = calloc(1, sizeof(*hit));
	if (!hit) {
		f->below->ops->submit(f->below, io); /* a fault less */
		return;
	}
	hit->engine = f;
	hit->outer = io;
	hit->verdict = verdict;
	if (verdict.delay_ns > 0)
		delay(hit);
	else
		carry_out(hit);
}

/* ---- run ---------------------------------------------------------------------------------- */

static void start_due(struct fault_engine *f)
{
	uint64_t now_ns = f->delayed ? base_clock_ns() : 0;

	while (f->delayed && f->delayed->due_ns <= now_ns) {
		struct hit *hit = f->delayed;

		f->delayed = hit->next;
		carry_out(hit);
	}
}

/* Not longer than to the next delayed one, and not at all when something has ended. */
static int64_t bound_timeout(const struct fault_engine *f, int64_t timeout_ns)
{
	if (f->ended)
		return 0;
	if (!f->delayed)
		return timeout_ns;
	uint64_t now_ns = base_clock_ns();
	int64_t left_ns = f->delayed->due_ns > now_ns ? (int64_t)(f->delayed->due_ns - now_ns) : 0;
	return timeout_ns < 0 ? left_ns : MIN(timeout_ns, left_ns);
}

static int fault_run(struct ioc_engine *engine, int64_t timeout_ns)
{
	struct fault_engine *f = to_fault(engine);
	int ran, rc;

	f->inner_done = 0;
	start_due(f);
	ran = run_ended(f);
	rc = f->below->ops->run(f->below, ran > 0 ? 0 : bound_timeout(f, timeout_ns));
	if (rc < 0)
		return rc;
	start_due(f);
	ran += rc - f->inner_done;
	return ran + run_ended(f);
}

/* Streams are none of ours. */
static void fault_cancel(struct ioc_engine *engine, struct ioc_io *io)
{
	struct ioc_engine *below = to_fault(engine)->below;

	below->ops->cancel(below, io);
}

static void fault_wake(struct ioc_engine *engine)
{
	struct ioc_engine *below = to_fault(engine)->below;

	below->ops->wake(below);
}

static void fault_close(struct ioc_engine *engine)
{
	struct fault_engine *f = to_fault(engine);

	assert(!f->delayed && !f->ended);
	f->below->ops->close(f->below);
	free(f);
}

int ioc_fault_open(struct base_fault *fault, struct ioc_engine *below, struct ioc_engine **ret,
		   struct base_error *err)
{
	struct fault_engine *f = calloc(1, sizeof(*f));

	if (!f)
		return base_error_set_errno(err, -ENOMEM, "engine fault");
	snprintf(f->name, sizeof(f->name), "fault+%s", below->ops->name);
	f->ops = (struct ioc_engine_ops){ .name = f->name,
					  .submit = fault_submit,
					  .run = fault_run,
					  .cancel = fault_cancel,
					  .wake = fault_wake,
					  .close = fault_close };
	f->engine.ops = &f->ops;
	f->below = below;
	f->fault = fault;
	f->ended_tail = &f->ended;
	*ret = &f->engine;
	return 0;
}
