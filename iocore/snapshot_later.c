/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of iocore/snapshot.h that is still to come: it owns nothing and
 * answers -ENOTSUP. The functions move from here to their own files as they are
 * made, and this file goes.
 *
 * Failure modes: -ENOTSUP, with a text.
 */
#include <errno.h>

#include "iocore/internal.h"
#include "iocore/snapshot.h"

static int later(struct base_error *err)
{
	return base_error_set(err, -ENOTSUP, "this version can't do that with snapshots yet");
}

int ioc_snapshot_attach(struct ioc_pool *pool, struct meta_snapshot *snapshot, struct ioc_bd *target, uint64_t offset,
			uint64_t length, struct base_error *err)
{
	return IOC_NOT_ATTACHED;
}

int ioc_disk_inflate(struct ioc_pool *pool, struct ioc_bd *bd,
		     bool (*progress)(uint64_t done_bytes, uint64_t total_bytes, void *ctx), void *ctx,
		     struct base_error *err)
{
	return later(err);
}
