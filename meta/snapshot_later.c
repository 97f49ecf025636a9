/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of meta/snapshot.h that is still to come.
 *
 * It owns nothing. No pool of this version has a snapshot yet (the catalogue
 * refuses layers with a parent), so the look-ups find none and the lists are
 * empty; what would make one or needs one answers -ENOTSUP. The functions move
 * from here to their own files as they are made, and this file goes.
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
