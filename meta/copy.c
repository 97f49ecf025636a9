/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping a copy of the metadata on the first pv, see copy.h for what it is for.
 *
 * Taking one: all records of one moment become a stream in memory; it is written
 * to the slot that doesn't count, synced; then that slot's header, synced. From
 * the first sync to the second the other slot counts, whole as it is.
 *
 * Which frees does a copy cover? All whose commit was durable when it was begun. A
 * batch is given the number of the next copy when BG first looks at it, which is
 * after its commit; when that copy, or a later one, is durable, the batch may go
 * on. As BG takes the copies itself, nothing comes in between.
 *
 * When: after commits, at most every 3 seconds, and never more than a twentieth of
 * BG's time; when the pool is getting full more often, and at once when somebody
 * waits for space; at close, as the very last thing. At an open, unless the last
 * copy is of just this metadata: chunks that the metadata calls free may be owned
 * in an older copy, and nobody keeps a list of those over a restart.
 *
 * Giving up: metadata that has no room in a slot is not copied. Then the copy that
 * there is has to go before anything else may, so a header that says "none" is
 * written and synced; after that nothing waits for copies. The same is done when a
 * copy can't be taken (a damaged record, a file system below the pv that is full)
 * and somebody needs the space that waits for it; until then the old copy stays.
 *
 * Failure modes: a sync that fails fails the pool, like every sync of a pv. A
 * device that takes neither the copy nor the header that takes it back: space that
 * was freed stays out of use, and it is said.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/planted.h"
#include "meta/copy.h"
#include "meta/internal.h"
#include "meta/save.h"

#define INTERVAL_NS UINT64_C(3000000000)
#define SHARE_OF_TIME 20
#define SHARE_WHEN_SHORT 4
/* After a failure; after metadata was too large. */
#define RETRY_NS UINT64_C(10000000000)
#define TOO_LARGE_NS UINT64_C(600000000000)
#define NEVER UINT64_MAX

/* ---- writing ------------------------------------------------------------------------------------ */

struct buffer {
	uint8_t *bytes; /* aligned for direct I/O */
	uint64_t count, room, limit;
};

static int grow(struct buffer *buffer, uint64_t want)
{
	uint64_t room = MIN(MAX(round_up_to(want, BLOCK_BYTES), buffer->room * 2), buffer->limit);
	void *grown = NULL;

	if (posix_memalign(&grown, BLOCK_BYTES, room) != 0)
		return -ENOMEM;
	if (buffer->count > 0)
		memcpy(grown, buffer->bytes, buffer->count);
	free(buffer->bytes);
	buffer->bytes = grown;
	buffer->room = room;
	return 0;
}

static int append(void *ctx, const void *bytes, size_t count)
{
	struct buffer *buffer = ctx;
	uint64_t want = buffer->count + count;

	if (want > buffer->limit)
		return -EFBIG;
	int rc = want > buffer->room ? grow(buffer, MAX(want, 64 * KIB)) : 0;
	if (rc < 0)
		return rc;
	memcpy(buffer->bytes + buffer->count, bytes, count);
	buffer->count = want;
	return 0;
}

static struct meta_pv_handle *first_pv(struct meta_pool *pool)
{
	return &pool->pvs[0].handle;
}

static int write_stream(struct meta_pool *pool, struct buffer *buffer)
{
	uint64_t bytes = round_up_to(buffer->count, BLOCK_BYTES);
	uint64_t at = meta_copy_stream_at(pool->copy.slot, pool->copy.first_data_byte);

	assert(bytes <= buffer->room);
	memset(buffer->bytes + buffer->count, 0, bytes - buffer->count);
	return pool->pv_ops->write(pool->pv_ctx, first_pv(pool), buffer->bytes, bytes, at);
}

/* Into the slot that doesn't count, which counts then. Not synced. */
static int write_header(struct meta_pool *pool, struct meta_copy_header *header)
{
	uint8_t buf[META_COPY_HEADER_BYTES];
	struct meta_copy *copy = &pool->copy;

	header->pool = copy->pool;
	header->sequence = copy->sequence + 1;
	meta_copy_header_encode(header, buf);
	int rc = pool->pv_ops->write(pool->pv_ctx, first_pv(pool), buf, sizeof(buf), meta_copy_header_at(copy->slot));
	if (rc < 0)
		return rc;
	copy->sequence++;
	copy->slot = (copy->slot + 1) % META_COPY_SLOTS;
	return 0;
}

/* The stream is in the buffer. */
static int write_copy(struct meta_pool *pool, struct buffer *buffer, struct meta_copy_header *header)
{
	int rc = write_stream(pool, buffer);

	if (rc == 0)
		rc = pool_sync_pv(pool, 0);
	if (rc == 0)
		rc = write_header(pool, header);
	/* From here on it may be there, if the power fails now. */
	pool->copy.exists |= rc == 0;
	if (rc == 0 && !planted(BUG_COPY_NO_SYNC))
		rc = pool_sync_pv(pool, 0);
	return rc;
}

static int save(struct meta_pool *pool, struct buffer *buffer, bool closed, struct meta_copy_header *ret)
{
	struct meta_stream_out out = { .write = append, .ctx = buffer };
	struct meta_pool_record rec = { 0 };
	int rc = meta_save_exceeds(pool->env, &pool->bg_slot, buffer->limit)
			 ? -EFBIG
			 : meta_save_env(pool->env, &pool->bg_slot, &out, &rec);

	*ret = (struct meta_copy_header){ .state = META_COPY_THERE,
					  .closed = closed,
					  .stream_bytes = buffer->count,
					  .commit = rec.commit,
					  .made_s = base_clock_wall_s(),
					  .chain = out.chain };
	return rc;
}

static void note_figures(struct meta_copy *copy, const struct meta_copy_header *header, uint64_t took_ns)
{
	atomic_fetch_add(&copy->copies, 1);
	atomic_fetch_add(&copy->bytes_total, round_up_to(header->stream_bytes, BLOCK_BYTES) + META_COPY_HEADER_BYTES);
	atomic_store(&copy->bytes_last, header->stream_bytes);
	atomic_store(&copy->ns_last, took_ns);
	atomic_store(&copy->ns_max, MAX(took_ns, atomic_load(&copy->ns_max)));
	atomic_store(&copy->commit_last, header->commit);
	atomic_store(&copy->made_s, header->made_s);
	atomic_store(&copy->is_there, true);
}

static void say_why_not(struct meta_pool *pool, int rc)
{
	if (pool->copy.said_why)
		return;
	pool->copy.said_why = true;
	if (rc == -EFBIG)
		log_info("pool %s: its metadata is larger than the %" PRIu64
			 " KiB that pv %s has for a copy: none is kept there, so `bdfs import` can't bring the "
			 "pool back; keep dumps (`bdfs dump -stream`)",
			 pool->record.name, meta_copy_room_bytes(pool->copy.first_data_byte) / KIB,
			 pool->pvs[0].record.path);
	else
		log_warning("pool %s: no copy of the metadata could be taken: %s; freed space waits for one",
			    pool->record.name,
			    rc == -EBADMSG ? "a record is damaged (run `bdfs check`)" : strerror(-rc));
}

static uint64_t pause_after(int rc, uint64_t took_ns)
{
	if (rc == -EFBIG)
		return TOO_LARGE_NS;
	return rc < 0 ? RETRY_NS : MAX(INTERVAL_NS, took_ns * SHARE_OF_TIME);
}

int copy_take(struct meta_pool *pool, bool closed)
{
	struct meta_copy *copy = &pool->copy;
	struct buffer buffer = { .limit = meta_copy_room_bytes(copy->first_data_byte) };
	uint64_t began = base_clock_ns(), number = ++copy->started;
	struct meta_copy_header header;
	int rc = pool_failed_code(pool);

	atomic_fetch_add(&copy->begun, 1);
	if (rc == 0)
		rc = save(pool, &buffer, closed, &header);
	if (rc == 0)
		rc = write_copy(pool, &buffer, &header);
	free(buffer.bytes);
	copy->ended_ns = base_clock_ns();
	uint64_t took = copy->ended_ns - began;
	copy->next_at_ns = copy->ended_ns + pause_after(rc, took);
	atomic_store(&copy->failure, rc);
	if (rc == 0) {
		copy->durable = number;
		copy->commit = header.commit;
		copy->said_why = false;
		note_figures(copy, &header, took);
	} else {
		say_why_not(pool, rc);
	}
	return rc;
}

int copy_give_up(struct meta_pool *pool)
{
	struct meta_copy_header none = { .state = META_COPY_NONE, .made_s = base_clock_wall_s() };
	struct meta_copy *copy = &pool->copy;

	if (!copy->exists)
		return 0;
	int rc = pool_failed_code(pool);
	if (rc == 0)
		rc = write_header(pool, &none);
	if (rc == 0)
		rc = pool_sync_pv(pool, 0);
	if (rc < 0) {
		log_error("pool %s: the copy of the metadata can't be taken back: %s; freed space stays out of use",
			  pool->record.name, strerror(-rc));
		return rc;
	}
	log_info("pool %s: the copy of the metadata on pv %s was given up", pool->record.name,
		 pool->pvs[0].record.path);
	copy->exists = false;
	copy->commit = NEVER;
	atomic_store(&copy->is_there, false);
	return 0;
}

/* ---- when --------------------------------------------------------------------------------------- */

static bool space_is_short(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->space.lock);
	bool is_short = pool->space.total - pool->space.busy_count < pool->space.total / 8;
	pthread_mutex_unlock(&pool->space.lock);
	return is_short;
}

/* A wait that is left out to see who notices must not be made up for by this one. */
static bool planted_reuse(void)
{
	return planted(BUG_REUSE_NO_COPY) || planted(BUG_REUSE_STALE_COMMIT) || planted(BUG_REUSE_NO_EPOCH) ||
	       planted(BUG_REUSE_BEFORE_DISCARD);
}

bool copy_covers(struct meta_pool *pool, struct free_batch *batch)
{
	struct meta_copy *copy = &pool->copy;

	/* All that wait are durable, so one copy begun from now on covers them all. */
	if (batch->copy_needed == 0)
		space_batches_need_copy(&pool->space, copy->started + 1);
	return planted_reuse() || !copy->exists || copy->durable >= batch->copy_needed;
}

uint64_t copy_commit_now(struct meta_pool *pool)
{
	pthread_mutex_lock(&pool->catalog_lock);
	uint64_t commit = pool->record.commit;
	pthread_mutex_unlock(&pool->catalog_lock);
	return commit;
}

bool copy_knows(struct meta_pool *pool, uint64_t commit)
{
	struct meta_copy *copy = &pool->copy;

	return !copy->exists || (copy->commit != NEVER && copy->commit >= commit);
}

/* Someone needs what waits for a copy, or there will never be one. */
static void after_failure(struct meta_pool *pool, int rc, bool wanted)
{
	if (pool->copy.exists && (rc == -EFBIG || wanted))
		(void)copy_give_up(pool);
}

uint64_t copy_step(struct meta_pool *pool, uint64_t now_ns)
{
	struct meta_copy *copy = &pool->copy;
	struct free_batch *batch = space_oldest_batch(&pool->space);
	bool waiting = (batch && !copy_covers(pool, batch)) || fold_needs_copy(pool);
	bool wanted = atomic_exchange(&copy->wanted, false) && waiting;

	if (copy->off || pool_failed_code(pool) < 0 || (!waiting && copy_commit_now(pool) == copy->commit))
		return 0;
	uint64_t due = copy->next_at_ns;
	if (waiting && !copy->said_why && space_is_short(pool))
		due = MIN(due, copy->ended_ns + atomic_load(&copy->ns_last) * SHARE_WHEN_SHORT);
	if (now_ns < due && !wanted)
		return due;
	int rc = copy_take(pool, false);
	if (rc < 0)
		after_failure(pool, rc, wanted);
	return now_ns;
}

/* ---- open ---------------------------------------------------------------------------------------- */

static int begin(struct meta_pool *pool, const struct meta_copy_found *found)
{
	struct meta_copy *copy = &pool->copy;
	bool newest_is_copy = found->newest >= 0 && found->header[found->newest].state == META_COPY_THERE;

	copy->exists = newest_is_copy || found->damaged;
	copy->commit = NEVER;
	if (found->newest < 0)
		return 0;
	copy->sequence = found->header[found->newest].sequence;
	/* Over the damaged one, if one is: the other is the newest that is known. */
	copy->slot = (unsigned)(found->newest + 1) % META_COPY_SLOTS;
	if (newest_is_copy) {
		atomic_store(&copy->is_there, true);
		atomic_store(&copy->commit_last, found->header[found->newest].commit);
		atomic_store(&copy->bytes_last, found->header[found->newest].stream_bytes);
		atomic_store(&copy->made_s, found->header[found->newest].made_s);
	}
	return 0;
}

int copy_open(struct meta_pool *pool, uint64_t found_commit, bool was_clean, struct base_error *err)
{
	struct meta_copy *copy = &pool->copy;
	struct meta_copy_found found;

	copy->pool = pool->record.uuid;
	copy->first_data_byte = pool->pvs[0].record.ranges[0].first_byte;
	int rc = meta_copy_find(pool->pv_ops, pool->pv_ctx, first_pv(pool), pool->record.uuid, &found);
	if (rc == 0)
		rc = begin(pool, &found);
	if (rc < 0)
		return base_error_set_errno(err, rc, "can't read the copy of the metadata on pv %s",
					    pool->pvs[0].record.path);
	const struct meta_copy_header *newest = copy->exists && !found.damaged ? &found.header[found.newest] : NULL;
	if (copy->off) {
		rc = copy_give_up(pool);
	} else if (newest && was_clean && newest->closed && newest->commit == found_commit) {
		copy->commit = found_commit;
		/* The label of this opening, written by the first commit: from now on an import is told that more was
		 * done than the copy has. */
		rc = pool_sync_pv(pool, 0);
	} else if (planted(BUG_COPY_NOT_AT_OPEN)) {
		copy->next_at_ns = base_clock_ns() + INTERVAL_NS;
	} else if (copy_take(pool, false) < 0) {
		rc = pool_failed_code(pool);
		if (rc == 0)
			rc = copy_give_up(pool);
	}
	return rc < 0 ? base_error_set_errno(err, rc, "the copy of the metadata on pv %s can't be written",
					     pool->pvs[0].record.path)
		      : 0;
}
