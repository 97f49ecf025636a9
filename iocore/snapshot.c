/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots as backing devices that can only be read.
 *
 * One is a thin disk without a disk: the same requests, reads only, through the
 * snapshot's layer and those below. It has a gate that nobody enters. Its size is
 * that of the moment when it was taken; what was written beyond that end in the
 * last block is zeros (snapshot_take.c).
 *
 * Failure modes: as for opening and reading disks.
 */
#include <errno.h>

#include "iocore/internal.h"

int ioc_snapshot_open(struct ioc_pool *pool, struct meta_snapshot *snapshot, struct ioc_bd **ret,
		      struct base_error *err)
{
	int rc = meta_snapshot_open(snapshot, err);

	if (rc < 0)
		return rc;
	*ret = thin_open(pool, NULL, snapshot);
	if (!*ret) {
		meta_snapshot_close(snapshot);
		return base_error_set_errno(err, -ENOMEM, "opening a snapshot");
	}
	return 0;
}

void ioc_snapshot_close(struct ioc_bd *bd)
{
	struct meta_snapshot *snapshot = container_of(bd, struct thin_disk, bd)->snapshot;

	thin_close(bd);
	meta_snapshot_close(snapshot);
}

uint64_t ioc_bd_size(struct ioc_bd *bd)
{
	return thin_size(container_of(bd, struct thin_disk, bd));
}
