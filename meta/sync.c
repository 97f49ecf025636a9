/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Syncs of the pvs: what makes data stable.
 *
 * A pv is synced only when it was written since its last sync began: the flag
 * `unsynced` is cleared before the sync starts, and set by a queue thread when a
 * device write completes, before that write is answered. So a flag that is clear
 * says that a sync which covers all completed writes has begun, and, with no sync
 * under way (`syncing`), that it has ended. That is what lets a queue thread
 * answer a flush at once which has nothing left to do: one after another flush of
 * the same disk, one whose data went with somebody else's sync, one of a guest
 * that flushes twice.
 *
 * Syncs come from MW (commits, flushes, sizes) and BG (copies of the metadata).
 * They take turns by sync_lock. A failed sync is reported by the kernel to one of
 * those who wait for it, and a later one that succeeds proves nothing; so the pool
 * is failed before the lock is given back, and who gets the lock then is told.
 *
 * Failure modes: a sync that fails marks the restart log, since what its records
 * point to may be gone, then fails the pool, for ever.
 */
#include <errno.h>

#include "base/planted.h"
#include "meta/internal.h"

void meta_io_note_write(struct meta_pool *pool, unsigned pv)
{
	if (!atomic_load_explicit(&pool->pvs[pv].unsynced, memory_order_relaxed))
		atomic_store(&pool->pvs[pv].unsynced, true);
}

void disk_note_change(struct meta_disk *disk)
{
	uint64_t number = atomic_load(&disk->pool->commit_open), latest = atomic_load(&disk->changed_in);

	/* Never back: whoever was interrupted between the two would hide the change of another thread, which a younger
	 * commit has, from the flush that has to wait for that commit. */
	while (latest < number && !atomic_compare_exchange_weak(&disk->changed_in, &latest, number))
		;
}

bool meta_flush_is_done(struct meta_disk *disk)
{
	struct meta_pool *pool = disk->pool;
	unsigned pvs = atomic_load(&pool->pv_count);

	if (atomic_load(&disk->changed_in) > atomic_load(&pool->commit_durable))
		return false;
	for (unsigned i = 0; i < pvs; i++)
		if (atomic_load(&pool->pvs[i].unsynced))
			return false;
	/* After the flags: the sync that has cleared one is seen as under way, or has ended. */
	return planted(BUG_FLUSH_MID_SYNC) || !atomic_load(&pool->syncing);
}

static void fail(struct meta_pool *pool, int code)
{
	if (pool->log)
		restart_mark_failed(pool->log);
	else
		restart_void(pool->dir); /* the log that this opening has replayed */
	pool_fail(pool, code, "a pv could not be synced");
}

/* sync_lock is held. */
static int sync_locked(struct meta_pool *pool, unsigned pv)
{
	if (pool_failed_code(pool) < 0)
		return -EIO;
	int rc = pool->pv_ops->sync(pool->pv_ctx, &pool->pvs[pv].handle);
	if (rc < 0)
		fail(pool, rc);
	return rc;
}

int pool_sync_pv(struct meta_pool *pool, unsigned pv)
{
	pthread_mutex_lock(&pool->sync_lock);
	int rc = sync_locked(pool, pv);
	pthread_mutex_unlock(&pool->sync_lock);
	return rc;
}

int pool_sync_pvs(struct meta_pool *pool)
{
	unsigned pvs = atomic_load(&pool->pv_count);
	int rc = 0;

	pthread_mutex_lock(&pool->sync_lock);
	atomic_store(&pool->syncing, true);
	/* The floor that the next transaction records is what the labels hold once this sync is done. */
	for (unsigned i = 0; i < pvs && rc == 0; i++)
		if (atomic_exchange(&pool->pvs[i].unsynced, false))
			rc = sync_locked(pool, i);
	if (rc == 0 && pool_failed_code(pool) < 0)
		rc = -EIO; /* the one before failed, and so told nobody else: nothing is known to be stable */
	/* One that has failed stays under way: its flags are clear and say nothing. */
	if (rc == 0)
		atomic_store(&pool->syncing, false);
	pthread_mutex_unlock(&pool->sync_lock);
	return rc;
}
