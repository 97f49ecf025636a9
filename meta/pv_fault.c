/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults over real pvs, see pv_fault.h.
 *
 * A label is one sector, so a torn write of it writes nothing; a short read of
 * it is -EIO, which is what a file that ends there gives. A dropped sync is a
 * device that lies: nothing is made durable and nobody is told, as long as the
 * power stays on.
 *
 * Opening and growing are not faulted: they go wrong by themselves often enough
 * (a missing file, a full host).
 *
 * Failure modes: those of the rules, then those of meta/pv.c.
 */
#include "meta/pv_fault.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

static struct base_fault_verdict judge(void *ctx, enum base_fault_op op, const struct meta_pv_handle *pv,
				       uint64_t offset, uint64_t bytes)
{
	struct meta_pv_fault_ctx *c = ctx;
	struct base_fault_verdict verdict = base_fault_judge(c->fault, op, pv->fd, offset, bytes);
	struct timespec left = { .tv_sec = (time_t)(verdict.delay_ns / 1000000000),
				 .tv_nsec = (long)(verdict.delay_ns % 1000000000) };

	while (verdict.delay_ns > 0 && nanosleep(&left, &left) != 0 && errno == EINTR)
		;
	return verdict;
}

static int fault_open(void *ctx, const char *path, unsigned flags, uint64_t create_bytes, struct meta_pv_handle *ret,
		      struct base_error *err)
{
	struct meta_pv_fault_ctx *c = ctx;
	int rc = meta_pv_real.open(NULL, path, flags, create_bytes, ret, err);

	if (rc == 0)
		base_fault_name_device(c->fault, ret->fd, c->opened++);
	return rc;
}

static void fault_close(void *ctx, struct meta_pv_handle *pv)
{
	struct meta_pv_fault_ctx *c = ctx;

	if (pv->fd >= 0) {
		base_fault_name_device(c->fault, pv->fd, UINT_MAX);
		c->opened--;
	}
	meta_pv_real.close(NULL, pv);
}

static int fault_read(void *ctx, struct meta_pv_handle *pv, void *buf, size_t bytes, uint64_t offset)
{
	struct base_fault_verdict verdict = judge(ctx, BASE_FAULT_READ, pv, offset, bytes);

	if (verdict.kind == BASE_FAULT_SHORT)
		return -EIO;
	if (verdict.kind != BASE_FAULT_NONE)
		return verdict.error;
	return meta_pv_real.read(NULL, pv, buf, bytes, offset);
}

static int fault_write(void *ctx, struct meta_pv_handle *pv, const void *buf, size_t bytes, uint64_t offset)
{
	struct base_fault_verdict verdict = judge(ctx, BASE_FAULT_WRITE, pv, offset, bytes);

	if (verdict.kind != BASE_FAULT_NONE && verdict.kind != BASE_FAULT_SHORT)
		return verdict.error; /* 0 of a drop */
	return meta_pv_real.write(NULL, pv, buf, bytes, offset);
}

static int fault_sync(void *ctx, struct meta_pv_handle *pv)
{
	struct base_fault_verdict verdict = judge(ctx, BASE_FAULT_SYNC, pv, 0, 0);

	return verdict.kind != BASE_FAULT_NONE ? verdict.error : meta_pv_real.sync(NULL, pv);
}

static int fault_discard(void *ctx, struct meta_pv_handle *pv, uint64_t offset, uint64_t bytes)
{
	struct base_fault_verdict verdict = judge(ctx, BASE_FAULT_DISCARD, pv, offset, bytes);

	return verdict.kind != BASE_FAULT_NONE ? verdict.error : meta_pv_real.discard(NULL, pv, offset, bytes);
}

static int fault_resize(void *ctx, struct meta_pv_handle *pv, uint64_t new_bytes)
{
	return meta_pv_real.resize(NULL, pv, new_bytes);
}

const struct meta_pv_ops meta_pv_fault = {
	.open = fault_open,
	.close = fault_close,
	.read = fault_read,
	.write = fault_write,
	.sync = fault_sync,
	.discard = fault_discard,
	.resize = fault_resize,
	.makes_files = true,
};
