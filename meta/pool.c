/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pool is while it is open: failure, chunk addresses, labels, figures.
 *
 * A failed pool is sticky: the first failure is kept and logged, reads go on,
 * every write and every change of the catalogue is refused until it is opened
 * again.
 *
 * Chunk numbers are pool-wide. A range maps a run of them to bytes of one pv;
 * between two ranges the numbering leaves a gap, so chunks with successive
 * numbers are always neighbours on one pv and an I/O over a run of chunks needs
 * to be located once. The table is replaced, never changed, when a pv comes or
 * grows; a queue thread takes one atomic load of it.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/uuid.h"
#include "meta/internal.h"

/* ---- failure ------------------------------------------------------------------------------ */

void pool_fail(struct meta_pool *pool, int code, const char *why)
{
	/* MW, or a look-up that met a dead environment: whoever is first says why. */
	if (atomic_exchange(&pool->failing, true))
		return;
	snprintf(pool->failed_why, sizeof(pool->failed_why), "%s: %s", why, strerror(-code));
	atomic_store(&pool->failed_code, code);
	event_tell(pool, META_EVENT_POOL_FAILED, pool->failed_why, (uint64_t)-code, 0);
	log_error(
		"pool %s has FAILED (%s). Reads go on, writes are refused. "
		"Unmount it, look at the device, run `bdfs check`, mount it again.",
		pool->record.name, pool->failed_why);
}

int pool_failed_code(struct meta_pool *pool)
{
	return atomic_load(&pool->failed_code);
}

int meta_io_writable(struct meta_pool *pool)
{
	if (pool->read_only)
		return -EROFS;
	return pool_failed_code(pool) < 0 || db_is_sealed(pool->env) ? -EIO : 0;
}

/* ---- the epoch of CTL ---------------------------------------------------------------------- */

uint64_t pool_epoch_enter(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->ctl_epoch_lock);
	return meta_epoch_enter(&pool->epochs, pool->ctl_participant);
}

void pool_epoch_leave(struct meta_pool *pool, uint64_t epoch)
{
	meta_epoch_leave(&pool->epochs, pool->ctl_participant, epoch);
	pthread_mutex_unlock(&pool->ctl_epoch_lock);
}

/* ---- addresses ---------------------------------------------------------------------------- */

struct meta_epochs *meta_io_epochs(struct meta_pool *pool)
{
	return &pool->epochs;
}

unsigned meta_io_pv_count(struct meta_pool *pool)
{
	return atomic_load(&pool->pv_count);
}

struct meta_pv_handle *meta_io_pv(struct meta_pool *pool, unsigned pv)
{
	return &pool->pvs[pv].handle;
}

static int by_first_chunk(const void *pa, const void *pb)
{
	const struct pool_range *a = pa, *b = pb;

	return a->first_chunk < b->first_chunk ? -1 : a->first_chunk > b->first_chunk;
}

struct range_table *pool_ranges_new(struct meta_pool *pool, unsigned more)
{
	unsigned count = more, pvs = atomic_load(&pool->pv_count);
	struct range_table *table;

	for (unsigned i = 0; i < pvs; i++)
		count += pool->pvs[i].record.range_count;
	return calloc(1, sizeof(*table) + count * sizeof(table->ranges[0]));
}

void pool_ranges_fill(struct meta_pool *pool, struct range_table *table)
{
	unsigned pvs = atomic_load(&pool->pv_count);

	for (unsigned i = 0; i < pvs; i++) {
		for (unsigned r = 0; r < pool->pvs[i].record.range_count; r++) {
			struct meta_pv_range *range = &pool->pvs[i].record.ranges[r];
			table->ranges[table->count++] = (struct pool_range){ .first_chunk = range->first_chunk,
									     .chunks = range->chunks,
									     .first_byte = range->first_byte,
									     .pv = i };
		}
	}
	qsort(table->ranges, table->count, sizeof(table->ranges[0]), by_first_chunk);
}

bool meta_io_locate(struct meta_pool *pool, struct pchunk chunk, unsigned *ret_pv, uint64_t *ret_byte)
{
	const struct range_table *table = atomic_load_explicit(&pool->ranges, memory_order_acquire);

	for (unsigned i = 0; i < table->count; i++) {
		const struct pool_range *range = &table->ranges[i];
		if (chunk.n - range->first_chunk < range->chunks) { /* unsigned: below first_chunk wraps to large */
			*ret_pv = range->pv;
			*ret_byte = range->first_byte + (uint64_t)(chunk.n - range->first_chunk) * CHUNK_BYTES;
			return true;
		}
	}
	return false;
}

/* ---- errors of pvs, labels ---------------------------------------------------------------- */

/* How often it is told that a pv is full, while it is. */
#define PV_FULL_AGAIN_NS (60 * UINT64_C(1000000000))

void meta_io_note_pv_error(struct meta_pool *pool, unsigned pv, int code)
{
	uint64_t now_ns = base_clock_ns(), told_ns = atomic_load(&pool->pvs[pv].full_told_ns);

	if (code != -ENOSPC) {
		log_error("pv %s: I/O error: %s", pool->pvs[pv].record.path, strerror(-code));
		return;
	}
	if ((told_ns && now_ns < told_ns + PV_FULL_AGAIN_NS) ||
	    !atomic_compare_exchange_strong(&pool->pvs[pv].full_told_ns, &told_ns, now_ns))
		return;
	log_error("pv %s: the file system below it is full, though the pool has free space; make room there",
		  pool->pvs[pv].record.path);
	event_tell(pool, META_EVENT_PV_FULL, pool->pvs[pv].record.path, 0, 0);
}

int pool_write_labels(struct meta_pool *pool, uint64_t commit)
{
	unsigned pvs = atomic_load(&pool->pv_count);
	uint8_t buf[META_LABEL_BYTES];
	int rc = 0;

	for (unsigned i = 0; i < pvs && rc == 0; i++) {
		struct meta_label label = { .pool = pool->record.uuid,
					    .pv = pool->pvs[i].record.uuid,
					    .pv_number = pool->pvs[i].number,
					    .first_data_byte = pool->pvs[i].record.ranges[0].first_byte,
					    .commit = commit };
		meta_label_encode(&label, buf);
		rc = pool->pv_ops->write(pool->pv_ctx, &pool->pvs[i].handle, buf, sizeof(buf), 0);
		if (rc == 0)
			meta_io_note_write(pool, i);
	}
	return rc;
}

/* ---- chunks ------------------------------------------------------------------------------- */

/* A disk that goes on taking space gets windows of up to this many chunks (4 MiB). */
#define WINDOW_CHUNKS_MAX 64

static unsigned take_from_window(struct meta_disk *disk, unsigned want, struct pchunk *ret_first)
{
	uint64_t window = atomic_load(&disk->window);

	for (;;) {
		unsigned take = MIN(want, (uint32_t)window);
		if (take == 0)
			return 0;
		uint64_t first = window >> 32;
		if (atomic_compare_exchange_weak(&disk->window, &window,
						 (first + take) << 32 | ((uint32_t)window - take))) {
			ret_first->n = (uint32_t)first;
			return take;
		}
	}
}

unsigned meta_chunk_alloc(struct meta_disk *disk, unsigned want, struct pchunk *ret_first)
{
	struct space *space = &disk->pool->space;
	unsigned got = take_from_window(disk, want, ret_first);

	if (got)
		return got;
	unsigned goal = MIN(MAX(atomic_load(&disk->window_goal), want), WINDOW_CHUNKS_MAX);
	/* An empty window still knows where the disk's last chunk was: going on there keeps it in order. */
	uint32_t hint = (uint32_t)(atomic_load(&disk->window) >> 32);
	got = space_take(space, &meta_io_store(disk)->claim, MAX(goal, want), hint, ret_first);
	if (got == 0)
		return 0;
	atomic_store(&disk->window_goal, MIN(goal * 2, WINDOW_CHUNKS_MAX));
	unsigned keep = MIN(got, want);
	uint64_t rest = (uint64_t)(ret_first->n + keep) << 32 | (got - keep);
	uint64_t window = atomic_load(&disk->window);
	/* Another queue may have filled the window meanwhile: then ours goes back. */
	do {
		if ((uint32_t)window) {
			if (got > keep)
				space_untake(space, &meta_io_store(disk)->claim, ret_first->n + keep, got - keep);
			break;
		}
	} while (!atomic_compare_exchange_weak(&disk->window, &window, rest));
	return keep;
}

void meta_chunk_unalloc(struct meta_disk *disk, struct pchunk chunk)
{
	space_untake(&disk->pool->space, &meta_io_store(disk)->claim, chunk.n, 1);
}

void meta_chunk_abandon(struct meta_disk *disk, struct pchunk chunk)
{
	space_free(&disk->pool->space, &meta_io_store(disk)->claim, chunk.n);
	pool_note_dirty(disk->pool);
}

/* ---- figures ------------------------------------------------------------------------------ */

static void disk_figures(struct meta_pool *pool, struct meta_pool_info *ret)
{
	pthread_mutex_lock(&pool->catalog_lock);
	ret->uuid = pool->record.uuid;
	memcpy(ret->name, pool->record.name, sizeof(ret->name));
	ret->disks = pool->disk_count;
	ret->full_policy = pool->record.full_policy;
	ret->hold_limit_s = pool->record.hold_limit_s ? pool->record.hold_limit_s : META_HOLD_LIMIT_DEFAULT_S;
	ret->free_threshold_percent = pool->record.free_threshold_percent;
	ret->overcommit_threshold_percent = pool->record.overcommit_threshold_percent;
	ret->metadata_commit = pool->record.commit;
	for (size_t i = 0; i < DISK_HASH; i++)
		for (struct meta_disk *disk = pool->by_number[i]; disk; disk = disk->number_next)
			ret->virtual_bytes += atomic_load(&disk->size_bytes);
	pthread_mutex_unlock(&pool->catalog_lock);
}

void pool_space_figures(struct meta_pool *pool, struct meta_pool_info *ret)
{
	disk_figures(pool, ret);
	pthread_mutex_lock(&pool->space.lock);
	ret->total_chunks = pool->space.total;
	ret->reserved_chunks = pool->space.promised;
	pthread_mutex_unlock(&pool->space.lock);
	uint64_t mapped = atomic_load(&pool->space.mapped);
	ret->free_chunks = ret->total_chunks - MIN(mapped + ret->reserved_chunks, ret->total_chunks);
}

static void copy_figures(struct meta_pool *pool, struct meta_pool_info *ret)
{
	struct meta_copy *copy = &pool->copy;

	ret->copy_is_there = atomic_load(&copy->is_there);
	ret->copy_failure = atomic_load(&copy->failure);
	ret->copy_commit = atomic_load(&copy->commit_last);
	ret->copy_made_s = atomic_load(&copy->made_s);
	ret->copy_bytes = atomic_load(&copy->bytes_last);
	ret->copies = atomic_load(&copy->copies);
	ret->copy_ns_last = atomic_load(&copy->ns_last);
	ret->copy_ns_max = atomic_load(&copy->ns_max);
	ret->copy_bytes_written = atomic_load(&copy->bytes_total);
	ret->copy_room_bytes = meta_copy_room_bytes(pool->pvs[0].record.ranges[0].first_byte);
}

static void cache_figures(struct meta_pool *pool, struct meta_pool_info *ret)
{
	ret->cached_leaves = atomic_load(&pool->cached_leaves);
	ret->cached_views = atomic_load(&pool->cached_views);
	ret->cache_limit_bytes = pool->cache_limit_bytes;
	ret->cache_bytes = atomic_load(&pool->cached_bytes) + atomic_load(&pool->cache_tables);
	ret->cache_misses = atomic_load_explicit(&pool->misses, memory_order_relaxed);
	ret->cache_lookups = atomic_load_explicit(&pool->lookups, memory_order_relaxed);
	ret->cache_evictions = atomic_load_explicit(&pool->evictions, memory_order_relaxed);
}

void meta_pool_info(struct meta_pool *pool, struct meta_pool_info *ret)
{
	struct db_usage usage;

	*ret = (struct meta_pool_info){ 0 };
	pool_space_figures(pool, ret);
	alert_rate(pool, ret);
	ret->held_writes = atomic_load(&pool->held_writes);
	ret->held_bytes = atomic_load(&pool->held_bytes);
	ret->metadata_short = reserve_is_short(pool);
	ret->pending_chunks = atomic_load(&pool->space.pending);
	ret->pvs = meta_io_pv_count(pool);
	ret->commits = atomic_load(&pool->commits);
	ret->commit_ns_last = atomic_load(&pool->commit_ns_last);
	ret->commit_ns_max = atomic_load(&pool->commit_ns_max);
	ret->dirty_leaves = atomic_load(&pool->dirty_count);
	cache_figures(pool, ret);
	pthread_mutex_lock(&pool->jobs_lock);
	ret->folded = pool->folded;
	pthread_mutex_unlock(&pool->jobs_lock);
	if (db_usage(pool->env, &usage) == 0) {
		ret->meta_used_bytes = usage.used_bytes;
		ret->bad_records = usage.bad_records;
	}
	copy_figures(pool, ret);
	ret->failed_code = pool_failed_code(pool);
	ret->failed = ret->failed_code < 0;
	if (ret->failed)
		memcpy(ret->failed_why, pool->failed_why, sizeof(ret->failed_why));
}

static uint64_t count_free(struct meta_pool *pool, const struct meta_pv_record *rec)
{
	uint64_t free_chunks = 0;

	for (unsigned r = 0; r < rec->range_count; r++)
		free_chunks += rec->ranges[r].chunks -
			       space_count_owned(&pool->space, rec->ranges[r].first_chunk, rec->ranges[r].chunks);
	return free_chunks;
}

void meta_pool_each_pv(struct meta_pool *pool, void (*fn)(const struct meta_pv_info *pv, void *ctx), void *ctx)
{
	for (unsigned i = 0; i < meta_io_pv_count(pool); i++) {
		struct pool_pv *pv = &pool->pvs[i];
		struct meta_pv_info info = { .number = pv->number,
					     .uuid = pv->record.uuid,
					     .size_bytes = pv->record.size_bytes,
					     .is_file = pv->handle.is_file,
					     .direct = pv->handle.direct,
					     .sector_bytes = pv->handle.sector_bytes };
		pool_pv_path(pool, &pv->record, info.path, sizeof(info.path));
		for (unsigned r = 0; r < pv->record.range_count; r++)
			info.total_chunks += pv->record.ranges[r].chunks;
		info.free_chunks = count_free(pool, &pv->record);
		fn(&info, ctx);
	}
}

void pool_pv_path(struct meta_pool *pool, const struct meta_pv_record *rec, char *buf, size_t bytes)
{
	if (rec->path[0] == '/')
		snprintf(buf, bytes, "%s", rec->path);
	else
		snprintf(buf, bytes, "%s/%s", pool->dir, rec->path);
}

/* Owned chunks among [from, to) of the pool's chunks in order, ranges laid end to end. */
static uint64_t count_owned_between(struct meta_pool *pool, const struct range_table *table, uint64_t from,
				    uint64_t to)
{
	uint64_t base = 0, owned = 0;

	for (unsigned i = 0; i < table->count; base += table->ranges[i++].chunks) {
		uint64_t first = MAX(from, base), end = MIN(to, base + table->ranges[i].chunks);
		if (first < end)
			owned += space_count_owned(&pool->space,
						   table->ranges[i].first_chunk + (uint32_t)(first - base),
						   (uint32_t)(end - first));
	}
	return owned;
}

void meta_pool_occupancy(struct meta_pool *pool, uint8_t *cells, unsigned count)
{
	const struct range_table *table = atomic_load(&pool->ranges);
	uint64_t total = 0;

	for (unsigned i = 0; i < table->count; i++)
		total += table->ranges[i].chunks;
	for (unsigned i = 0; i < count; i++) {
		uint64_t from = i * total / count, to = (i + 1) * total / count;
		/* Rounded up: one owned chunk in a large cell still shows. */
		cells[i] = to > from ? (uint8_t)((count_owned_between(pool, table, from, to) * 255 + to - from - 1) /
						 (to - from))
				     : 0;
	}
}

static void run_wake(struct base_msg *msg)
{
	base_park_wake(container_of(msg, struct meta_wait, msg)->box->wake_ctx);
}

int meta_pool_commit(struct meta_pool *pool)
{
	struct base_park park;
	struct base_mailbox box;
	struct meta_wait wait = { .box = &box, .msg.run = run_wake };

	base_park_init(&park);
	base_mailbox_init(&box, base_park_wake_fn, &park);
	meta_wait_commit(pool, &wait);
	while (base_mailbox_run(&box) == 0) {
		if (pool->no_threads)
			mw_step(pool, base_clock_ns());
		else
			base_park_wait(&park, 0);
	}
	base_mailbox_wait_for_producers(&box);
	base_park_done(&park);
	return wait.result;
}

int pool_wait_trimmed(struct meta_disk *disk, struct base_error *err)
{
	struct base_park park;
	struct base_mailbox box;
	struct meta_wait wait = { .box = &box, .msg.run = run_wake };

	base_park_init(&park);
	base_mailbox_init(&box, base_park_wake_fn, &park);
	meta_wait_trimmed(disk, &wait);
	while (base_mailbox_run(&box) == 0)
		base_park_wait(&park, 0);
	base_mailbox_wait_for_producers(&box);
	base_park_done(&park);
	if (wait.result < 0)
		return base_error_set_errno(err, wait.result,
					    "disk %s was made shorter, and what lay behind its end could not be freed; "
					    "run `bdfs check`",
					    disk->record.name);
	return 0;
}
