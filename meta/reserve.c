/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reserve of the metadata: space that is kept on its file system, so that it
 * never meets a full one unprepared.
 *
 * A file `reserve` in the pool's directory, allocated and never written. When a
 * transaction finds no room the file gives up its blocks, the transaction is
 * made again, and has room: what was dirty becomes durable, flushes succeed. The
 * metadata is then *short*, as it is when the file system has less left than a
 * margin although the reserve is whole:
 *
 *   - what would make more metadata waits for room, or fails (writes to new
 *     places, new disks);
 *   - what needs none, or makes it less, goes on: reads, overwrites, discards,
 *     removals, flushes. Commits are made in small portions, as each copies the
 *     pages that it changes before the old ones are free.
 *
 * Short ends when the file system has room for the reserve and twice the margin;
 * while it lasts that is looked at every RETRY_NS.
 *
 *   whole -> (room below the margin, or ENOSPC) -> short -> (room again) -> whole
 *
 * Failure modes: a file system that can't preallocate has no reserve: the margin
 * is all the warning there is, and a commit without room is tried until it has
 * some, as before (docs/durability.md).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "base/units.h"
#include "meta/event.h"
#include "meta/internal.h"

#define RESERVE_BYTES_MAX (32 * MIB)
#define RESERVE_BYTES_MIN MIB
/* Of what is free when the pool is opened, the reserve takes one part in so many; the margin is a part of that. */
#define SHARE_OF_FREE 16
#define SHARE_OF_RESERVE 4
#define RETRY_NS UINT64_C(500000000)

/* Bytes that this process could still take; UINT64_MAX when nobody knows. */
static uint64_t bytes_left(struct meta_pool *pool)
{
	struct statvfs st;

	if (statvfs(pool->dir, &st) < 0)
		return UINT64_MAX;
	return (uint64_t)(geteuid() == 0 ? st.f_bfree : st.f_bavail) * st.f_frsize;
}

static uint64_t margin(const struct meta_pool *pool)
{
	return pool->reserve.bytes / SHARE_OF_RESERVE;
}

static bool is_allocated(int fd, uint64_t bytes)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (uint64_t)st.st_size >= bytes && (uint64_t)st.st_blocks * 512 >= bytes;
}

/* True: the reserve is whole. */
static bool take(struct meta_pool *pool)
{
	struct meta_reserve *reserve = &pool->reserve;

	if (fallocate(reserve->fd, 0, 0, (off_t)reserve->bytes) == 0) {
		reserve->whole = true;
	} else if (errno == EOPNOTSUPP) {
		log_info("the file system of %s can't preallocate: no reserve for the metadata", pool->dir);
		reserve->none = true;
	} else {
		(void)ftruncate(reserve->fd, 0);
	}
	return reserve->whole || reserve->none;
}

static void set_short(struct meta_pool *pool, bool is_short, uint64_t left)
{
	char text[BASE_SIZE_TEXT_BYTES];

	if (atomic_exchange(&pool->reserve.is_short, is_short) == is_short)
		return;
	event_tell(pool, is_short ? META_EVENT_METADATA_LOW : META_EVENT_METADATA_OK, pool->dir, left, margin(pool));
	if (is_short)
		log_warning(
			"the file system that holds the metadata (%s) is nearly full (%s left): nothing that needs "
			"more metadata is done until there is room",
			pool->dir, base_size_to_text(left, text));
	else
		log_info("the file system that holds the metadata (%s) has room again", pool->dir);
}

void reserve_open(struct meta_pool *pool)
{
	struct meta_reserve *reserve = &pool->reserve;
	char path[4200];
	uint64_t left = bytes_left(pool);

	/* The simulator's metadata has no file system of its own that could fill. */
	if (pool->no_threads || pool->read_only || left == UINT64_MAX)
		return;
	snprintf(path, sizeof(path), "%s/reserve", pool->dir);
	reserve->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (reserve->fd < 0) {
		log_info("%s: %s: no reserve for the metadata", path, strerror(errno));
		return;
	}
	struct stat st;
	uint64_t have = fstat(reserve->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	uint64_t wanted = round_up_to((left + have) / SHARE_OF_FREE, 4096);
	/* One that is there already keeps its size, whatever else came meanwhile. */
	reserve->bytes = have ? have : MIN(MAX(wanted, RESERVE_BYTES_MIN), RESERVE_BYTES_MAX);
	reserve->is_open = true;
	if (is_allocated(reserve->fd, reserve->bytes))
		reserve->whole = true;
	else if (!take(pool))
		set_short(pool, true, left);
	reserve_look(pool);
}

void reserve_close(struct meta_pool *pool)
{
	if (pool->reserve.is_open)
		close(pool->reserve.fd);
}

bool reserve_is_short(const struct meta_pool *pool)
{
	return atomic_load_explicit(&pool->reserve.is_short, memory_order_relaxed);
}

bool meta_is_short(struct meta_pool *pool)
{
	return reserve_is_short(pool);
}

bool reserve_spend(struct meta_pool *pool)
{
	struct meta_reserve *reserve = &pool->reserve;
	bool had = reserve->is_open && reserve->whole && !reserve->none;

	if (!reserve->is_open)
		return false;
	reserve->retry_at_ns = base_clock_ns() + RETRY_NS;
	set_short(pool, true, bytes_left(pool));
	if (had && ftruncate(reserve->fd, 0) < 0)
		return false;
	reserve->whole = false;
	return had;
}

void reserve_look(struct meta_pool *pool)
{
	uint64_t left;

	if (!pool->reserve.is_open || reserve_is_short(pool))
		return;
	left = bytes_left(pool);
	if (left < margin(pool)) {
		pool->reserve.retry_at_ns = base_clock_ns() + RETRY_NS;
		set_short(pool, true, left);
	}
}

uint64_t reserve_turn(struct meta_pool *pool, uint64_t now_ns)
{
	struct meta_reserve *reserve = &pool->reserve;

	if (!reserve->is_open || !reserve_is_short(pool))
		return 0;
	if (now_ns < reserve->retry_at_ns)
		return reserve->retry_at_ns;
	uint64_t left = bytes_left(pool);
	bool whole = reserve->whole || reserve->none;
	if (left >= 2 * margin(pool) + (whole ? 0 : reserve->bytes) && (whole || take(pool))) {
		set_short(pool, false, left);
		return 0;
	}
	reserve->retry_at_ns = now_ns + RETRY_NS;
	return reserve->retry_at_ns;
}
