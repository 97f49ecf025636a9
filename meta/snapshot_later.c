/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of meta/snapshot.h that is still to come.
 *
 * It owns nothing. How much of a disk's or a snapshot's space is its own and
 * how much is shared is not counted yet; who asks is told so, and lists leave it
 * out. With the counting this file goes.
 *
 * Failure modes: -ENOTSUP, with a text.
 */
#include <errno.h>

#include "meta/snapshot.h"

static int later(struct base_error *err)
{
	return base_error_set(err, -ENOTSUP, "this version can't do that with snapshots yet");
}

int meta_snapshot_space(struct meta_snapshot *snapshot, struct meta_space_use *ret, struct base_error *err)
{
	return later(err);
}

int meta_disk_space(struct meta_disk *disk, struct meta_space_use *ret, struct base_error *err)
{
	return later(err);
}
