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

struct meta_snapshot *meta_snapshot_get_by_name(struct meta_disk *disk, const char *name)
{
	return NULL;
}

struct meta_snapshot *meta_snapshot_get_by_uuid(struct meta_pool *pool, struct base_uuid uuid)
{
	return NULL;
}

struct meta_snapshot *meta_snapshot_get_by_layer(struct meta_pool *pool, uint64_t layer)
{
	return NULL;
}

struct meta_snapshot *meta_snapshot_next(struct meta_disk *disk, const char *after)
{
	return NULL;
}

unsigned meta_snapshot_count(struct meta_disk *disk)
{
	return 0;
}

bool meta_job_next(struct meta_pool *pool, uint64_t after, struct meta_job_info *ret)
{
	return false;
}

int meta_diff_begin(struct meta_pool *pool, const struct meta_diff_side *older, const struct meta_diff_side *newer,
		    struct meta_diff **ret, struct base_error *err)
{
	return later(err);
}

int meta_diff_next(struct meta_diff *diff, struct meta_extent *ret)
{
	return 1;
}

void meta_diff_end(struct meta_diff *diff)
{
}

/* No snapshot is ever handed out, so these are not reached. */

void meta_snapshot_put(struct meta_snapshot *snapshot)
{
}

void meta_snapshot_info(struct meta_snapshot *snapshot, struct meta_snapshot_info *ret)
{
	*ret = (struct meta_snapshot_info){ 0 };
}

int meta_snapshot_open(struct meta_snapshot *snapshot, struct base_error *err)
{
	return later(err);
}

void meta_snapshot_close(struct meta_snapshot *snapshot)
{
}

int meta_snapshot_wait_closed(struct meta_snapshot *snapshot, uint64_t timeout_ns)
{
	return 0;
}

int meta_snapshot_clone(struct meta_snapshot *snapshot, const struct meta_disk_spec *spec, uint64_t *ret_number,
			struct base_error *err)
{
	return later(err);
}

int meta_snapshot_rename(struct meta_snapshot *snapshot, const char *new_name, struct base_error *err)
{
	return later(err);
}

int meta_snapshot_remove(struct meta_snapshot *snapshot, struct base_error *err)
{
	return later(err);
}

int meta_disk_rollback(struct meta_disk *disk, struct meta_snapshot *snapshot, struct base_error *err)
{
	return later(err);
}

int meta_disk_remove_with_snapshots(struct meta_disk *disk, struct base_error *err)
{
	return meta_disk_remove(disk, err);
}

const char *meta_job_kind_to_text(enum meta_job_kind kind)
{
	static const char *const texts[] = { "fold", "free", "trim" };

	return texts[kind];
}

int meta_job_cancel(struct meta_pool *pool, uint64_t id, struct base_error *err)
{
	return later(err);
}

void meta_jobs_resume(struct meta_pool *pool)
{
}

void meta_jobs_set_rate(struct meta_pool *pool, uint64_t chunks_per_second)
{
}

int meta_snapshot_space(struct meta_snapshot *snapshot, struct meta_space_use *ret, struct base_error *err)
{
	return later(err);
}

int meta_disk_space(struct meta_disk *disk, struct meta_space_use *ret, struct base_error *err)
{
	return later(err);
}

uint64_t meta_snapshot_owned_bytes(struct meta_snapshot *snapshot)
{
	return 0;
}

void meta_pool_space(struct meta_pool *pool, struct meta_pool_space *ret)
{
	struct meta_pool_info info;

	meta_pool_info(pool, &info);
	*ret = (struct meta_pool_space){ .disks_bytes = (info.total_chunks - info.free_chunks) * CHUNK_BYTES };
}
