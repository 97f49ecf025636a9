/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thin disks: what all operations share, and opening and closing them.
 *
 * A request is a small machine whose states are functions. Each station either
 * calls the next one or parks the request with the next station's address and
 * returns; whoever it waits for posts a message that goes on there. The stations
 * of a write: pin epoch and leaves -> needs -> gate -> log slots -> chunks ->
 * bounce buffer -> block reads -> device writes -> map changes -> answer.
 *
 * The rule of waiting: a request that must wait for a look-up, a commit, space or
 * back-pressure first gives back all that it holds (thin_end_slice) and is then
 * planned anew. What was looked up for it is kept in memory from one look-up to the
 * next, or a small cache could drop it each time; that holds up nobody. It waits
 * holding something else only for the gate (in stripe order), a
 * bounce buffer and its own device I/O, none of which depends on another request
 * that waits for anything else.
 *
 * Failure modes: an error ends the request; what was allocated and may have been
 * written goes the long way of a freed chunk; completed slices of a long request
 * stay done.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "iocore/internal.h"

/* ---- waiting ------------------------------------------------------------------------------ */

static void run_next(struct ioc_request *req)
{
	void (*next)(struct ioc_request *req) = req->thin.next;

	next(req);
}

static void let_go(struct ioc_request *req)
{
	while (req->thin.kept_count > 0)
		meta_keep_end(req->thin.kept[--req->thin.kept_count]);
}

/* What the wait has brought is this request's until the end of its slice. */
static void take_kept(struct ioc_request *req)
{
	struct cache_item *kept = req->thin.wait.kept;

	if (!kept)
		return;
	req->thin.wait.kept = NULL;
	if (req->thin.kept_count == THIN_KEPT_MAX) /* folds were at work there again and again */
		let_go(req);
	req->thin.kept[req->thin.kept_count++] = kept;
}

static void run_waited(struct base_msg *msg)
{
	struct ioc_request *req = container_of(msg, struct ioc_request, thin.wait.msg);

	take_kept(req);
	run_next(req);
}

static void run_entered(struct base_msg *msg)
{
	run_next(container_of(msg, struct ioc_request, thin.gate.msg));
}

static void run_yielded(struct base_msg *msg)
{
	run_next(container_of(msg, struct ioc_request, thin.msg));
}

struct meta_wait *thin_wait(struct ioc_request *req, void (*next)(struct ioc_request *req))
{
	req->thin.next = next;
	req->thin.wait = (struct meta_wait){ .box = &req->queue->box, .msg.run = run_waited };
	return &req->thin.wait;
}

static void run_waited_for_space(struct base_msg *msg)
{
	struct ioc_request *req = container_of(msg, struct ioc_request, thin.wait.msg);

	req->queue->space_waits--;
	req->thin.held_since_ns = req->thin.wait.held_since_ns;
	run_next(req);
}

struct meta_wait *thin_wait_space(struct ioc_request *req, void (*again)(struct ioc_request *req))
{
	thin_end_slice(req);
	struct meta_wait *wait = thin_wait(req, again);
	wait->msg.run = run_waited_for_space;
	wait->held_since_ns = req->thin.held_since_ns;
	wait->bytes = req->op == IOC_OP_WRITE ? req->length : 0;
	wait->may_hold = req->op != IOC_OP_OWN && req->queue->space_waits < IOC_SPACE_WAITS_MAX;
	req->queue->space_waits++;
	return wait;
}

void thin_yield(struct ioc_request *req, void (*next)(struct ioc_request *req))
{
	req->thin.next = next;
	req->thin.msg.run = run_yielded;
	base_mailbox_post_own(&req->queue->box, &req->thin.msg);
}

bool thin_enter(struct ioc_request *req, uint64_t stripes, bool exclusive, void (*next)(struct ioc_request *req))
{
	req->thin.next = next;
	req->thin.gate = (struct gate_entry){
		.stripes = stripes, .exclusive = exclusive, .box = &req->queue->box, .msg.run = run_entered
	};
	return gate_enter(&thin_of(req)->gate, &req->thin.gate);
}

/* ---- holding and giving back -------------------------------------------------------------- */

void thin_pin_epoch(struct ioc_request *req)
{
	if (req->thin.epoch != 0)
		return;
	req->thin.epoch = meta_epoch_enter(meta_io_epochs(req->queue->meta), req->queue->epoch_participant);
	req->thin.store = thin_store(thin_of(req));
}

bool thin_same_head(struct ioc_request *req)
{
	return req->thin.store == thin_store(thin_of(req));
}

static void unpin_leaves(struct ioc_request *req)
{
	if (req->thin.end_leaf)
		meta_leaf_unpin(req->thin.end_leaf);
	req->thin.end_leaf = NULL;
	while (req->thin.leaf_count > 0)
		meta_leaf_unpin(req->thin.leaves[--req->thin.leaf_count]);
}

/* Chunks that no device write was submitted into. */
static void unallocate(struct ioc_request *req)
{
	for (uint64_t left = req->thin.allocated; left; left &= left - 1)
		meta_chunk_unalloc(thin_of(req)->disk, meta_entry_chunk(req->thin.entries[__builtin_ctzll(left)]));
	req->thin.allocated = 0;
}

static void give_back(struct ioc_request *req)
{
	unallocate(req);
	if (req->thin.reserved)
		meta_change_unreserve(req->queue->meta, req->thin.reserved);
	req->thin.reserved = 0;
	if (req->thin.claimed)
		meta_claim_fit(thin_of(req)->disk);
	req->thin.claimed = false;
	bounce_put(req);
	unpin_leaves(req);
	if (req->thin.gate.held)
		gate_leave(&req->thin.gate);
	if (req->thin.epoch)
		meta_epoch_leave(meta_io_epochs(req->queue->meta), req->queue->epoch_participant, req->thin.epoch);
	req->thin.epoch = 0;
}

void thin_end_slice(struct ioc_request *req)
{
	give_back(req);
	let_go(req);
}

void thin_fail(struct ioc_request *req, int error)
{
	void (*next)(struct ioc_request *req) = req->thin.range_next;

	thin_end_slice(req);
	req->thin.range_next = NULL;
	req->thin.wait.result = error;
	if (next) /* a part of another operation, which has something to put right */
		next(req);
	else
		queue_finish(req, error);
}

/* ---- leaves and entries ------------------------------------------------------------------- */

void thin_load(struct ioc_request *req, const struct meta_missing *missing, void (*again)(struct ioc_request *req))
{
	/* Before the epoch is left, which keeps the store alive; `again` is a message to this thread. */
	meta_map_load(missing, thin_wait(req, again));
	give_back(req);
}

void thin_load_leaf(struct ioc_request *req, uint64_t leaf_number, void (*again)(struct ioc_request *req))
{
	struct meta_missing missing = { .store = req->thin.store, .leaf_number = leaf_number };

	thin_load(req, &missing, again);
}

bool thin_pin_leaves(struct ioc_request *req, void (*again)(struct ioc_request *req))
{
	struct meta_store *store = req->thin.store;
	uint64_t first = req->thin.slice_offset / LEAF_BYTES;
	uint64_t last = (req->thin.slice_offset + req->thin.slice_bytes - 1) / LEAF_BYTES;

	assert(last - first < ARRAY_LEN(req->thin.leaves));
	for (uint64_t number = first; number <= last; number++) {
		int rc = meta_map_pin(store, number, &req->thin.leaves[number - first]);
		if (rc == META_MISS) {
			thin_load_leaf(req, number, again);
			return false;
		}
		if (rc == META_BUSY) {
			thin_end_slice(req);
			meta_wait_fold(req->queue->meta, thin_wait(req, again));
			return false;
		}
		if (rc < 0) {
			thin_fail(req, rc);
			return false;
		}
		req->thin.leaf_count++;
	}
	return true;
}

bool thin_skip_holes(struct ioc_request *req)
{
	uint64_t at = req->offset + req->thin.cursor;
	uint64_t number = meta_map_next_visible(req->thin.store, at / LEAF_BYTES);

	if (number == UINT64_MAX || number * LEAF_BYTES >= req->offset + req->thin.length)
		return false;
	if (number > at / LEAF_BYTES)
		req->thin.cursor = number * LEAF_BYTES - req->offset;
	return true;
}

struct meta_leaf *thin_leaf_of(struct ioc_request *req, unsigned i, unsigned *ret_index)
{
	uint64_t chunk = req->thin.slice_offset / CHUNK_BYTES + i;

	*ret_index = (unsigned)(chunk % LEAF_CHUNKS);
	return req->thin.leaves[chunk / LEAF_CHUNKS - req->thin.slice_offset / LEAF_BYTES];
}

void thin_read_entries(struct ioc_request *req)
{
	unsigned index;

	for (unsigned i = 0; i < req->thin.chunks; i++) {
		struct meta_leaf *leaf = thin_leaf_of(req, i, &index);
		req->thin.entries[i] = meta_leaf_entry(leaf, index);
	}
}

/* ---- log slots and chunks ----------------------------------------------------------------- */

/* What frees may always: it makes less metadata in the end. */
static bool makes_metadata(const struct ioc_request *req)
{
	return req->op == IOC_OP_WRITE || req->op == IOC_OP_ALLOCATE || req->op == IOC_OP_OWN ||
	       (req->op == IOC_OP_WRITE_ZEROES && (req->flags & IOC_KEEP_SPACE));
}

bool thin_reserve(struct ioc_request *req, unsigned extra, void (*again)(struct ioc_request *req))
{
	struct meta_pool *meta = req->queue->meta;
	unsigned slots = (unsigned)__builtin_popcountll(req->thin.changes) + extra;

	if (slots == 0)
		return true;
	if (meta_is_short(meta) && makes_metadata(req)) {
		thin_wait_space(req, again)->needs_metadata = true;
		meta_wait_space(thin_of(req)->disk, &req->thin.wait);
		return false;
	}
	if (!meta_change_is_throttled(meta) && meta_change_reserve(meta, slots)) {
		req->thin.reserved = slots;
		return true;
	}
	thin_end_slice(req);
	meta_wait_commit(meta, thin_wait(req, again));
	return false;
}

static unsigned count_missing(const struct ioc_request *req, uint64_t which)
{
	unsigned missing = 0;

	for (unsigned i = 0; i < req->thin.chunks; i++)
		missing += (which >> i & 1) && meta_entry_chunk(req->thin.entries[i]).n == 0;
	return missing;
}

bool thin_allocate(struct ioc_request *req, uint64_t which, void (*again)(struct ioc_request *req))
{
	struct meta_disk *disk = thin_of(req)->disk;
	unsigned missing = count_missing(req, which), left = missing, got = 0;
	struct pchunk first;

	for (unsigned i = 0; left > 0; i++) {
		if (!(which >> i & 1) || meta_entry_chunk(req->thin.entries[i]).n != 0)
			continue;
		if (got == 0)
			got = meta_chunk_alloc(disk, left, &first);
		if (got == 0) {
			thin_wait_space(req, again)->chunks = missing;
			meta_wait_space(disk, &req->thin.wait);
			return false;
		}
		req->thin.entries[i] = meta_entry_make(first, 0, meta_entry_zero(req->thin.entries[i]));
		req->thin.allocated |= UINT64_C(1) << i;
		first.n++;
		got--;
		left--;
	}
	assert(got == 0);
	count(&req->queue->counters.allocations, missing);
	return true;
}

bool thin_claim(struct ioc_request *req, uint64_t size_bytes, void (*again)(struct ioc_request *req))
{
	struct meta_disk *disk = thin_of(req)->disk;

	if (meta_disk_kind(disk) == META_DISK_THIN)
		return true;
	req->thin.claimed = true;
	if (meta_claim_for(disk, size_bytes))
		return true;
	thin_wait_space(req, again)->claim_bytes = size_bytes;
	meta_wait_space(disk, &req->thin.wait);
	return false;
}

/* ---- flush, and the end of a write -------------------------------------------------------- */

static void flushed(struct ioc_request *req)
{
	queue_finish(req, req->thin.flush.wait.result);
}

static void start_flush(struct ioc_request *req)
{
	struct thin_disk *thin = thin_of(req);

	(void)thin_wait(req, flushed);
	req->thin.flush.disk = thin->disk;
	meta_flush_submit(&req->thin.flush);
}

void thin_flush(struct ioc_request *req)
{
	int rc = meta_io_writable(req->queue->meta);

	count(&req->queue->counters.flushes, 1);
	if (rc == -EROFS)
		queue_finish(req, 0); /* nothing was ever written */
	else if (rc < 0)
		queue_finish(req, rc);
	else if (meta_flush_is_done(thin_of(req)->disk))
		queue_finish(req, 0);
	else
		start_flush(req);
}

void thin_finish_write(struct ioc_request *req)
{
	if (req->flags & IOC_FUA)
		start_flush(req);
	else
		queue_finish(req, 0);
}

/* ---- submit ------------------------------------------------------------------------------- */

static bool only_reads(enum ioc_op op)
{
	return op == IOC_OP_READ || op == IOC_OP_SEEK_DATA || op == IOC_OP_SEEK_HOLE;
}

static void thin_submit(struct ioc_bd *bd, struct ioc_request *req)
{
	bool frozen = thin_of(req)->snapshot != NULL;

	(void)bd;
	/* Only what has to be: the I/O arrays are filled as they are used. */
	req->thin.epoch = 0;
	req->thin.cursor = 0;
	req->thin.length = req->length;
	req->thin.leaf_count = 0;
	req->thin.kept_count = 0;
	req->thin.end_leaf = NULL;
	req->thin.range_next = NULL;
	req->thin.allocated = 0;
	req->thin.reserved = 0;
	req->thin.bounce = NULL;
	req->thin.gate.held = 0;
	req->thin.force_exclusive = false;
	req->thin.grows = false;
	req->thin.claimed = false;
	req->thin.held_since_ns = 0;
	req->thin.wait.result = 0;
	req->thin.error = 0;
	if (frozen && !only_reads(req->op)) {
		queue_finish(req, req->op == IOC_OP_FLUSH ? 0 : -EROFS);
		return;
	}
	switch (req->op) {
	case IOC_OP_READ:
		return thin_read(req);
	case IOC_OP_WRITE:
		return thin_write(req);
	case IOC_OP_FLUSH:
		return thin_flush(req);
	case IOC_OP_DISCARD:
	case IOC_OP_WRITE_ZEROES:
	case IOC_OP_ALLOCATE:
		return thin_range(req);
	case IOC_OP_RESIZE:
		return thin_resize(req);
	case IOC_OP_OWN:
		return thin_own(req);
	case IOC_OP_SEEK_DATA:
	case IOC_OP_SEEK_HOLE:
		return thin_seek(req);
	}
	queue_finish(req, -EOPNOTSUPP);
}

const struct ioc_bd_ops thin_ops = { .kind = "thin", .submit = thin_submit };

/* ---- open, close -------------------------------------------------------------------------- */

static struct thin_disk *find_open(struct ioc_pool *pool, struct meta_disk *disk, struct meta_snapshot *snapshot)
{
	struct thin_disk *thin = pool->disks;

	while (thin && (thin->disk != disk || thin->snapshot != snapshot))
		thin = thin->next;
	return thin;
}

static struct thin_disk *thin_new(struct ioc_pool *pool, struct meta_disk *disk, struct meta_snapshot *snapshot)
{
	struct thin_disk *thin = calloc(1, sizeof(*thin));

	if (!thin)
		return NULL;
	thin->bd.ops = &thin_ops;
	thin->pool = pool;
	thin->meta = pool->meta;
	thin->disk = disk;
	thin->snapshot = snapshot;
	if (snapshot) {
		struct meta_snapshot_info info;
		meta_snapshot_info(snapshot, &info);
		thin->frozen_bytes = info.size_bytes;
	}
	gate_init(&thin->gate);
	thin->next = pool->disks;
	pool->disks = thin;
	return thin;
}

int ioc_disk_open(struct ioc_pool *pool, struct meta_disk *disk, struct ioc_bd **ret, struct base_error *err)
{
	int rc = meta_disk_open(disk, err);

	if (rc < 0)
		return rc;
	*ret = thin_open(pool, disk, NULL);
	if (*ret)
		return 0;
	meta_disk_close(disk);
	return base_error_set_errno(err, -ENOMEM, "opening a disk");
}

void ioc_disk_close(struct ioc_bd *bd)
{
	struct meta_disk *disk = ioc_disk_meta(bd);

	thin_close(bd);
	meta_disk_close(disk);
}

struct ioc_bd *thin_open(struct ioc_pool *pool, struct meta_disk *disk, struct meta_snapshot *snapshot)
{
	pthread_mutex_lock(&pool->lock);
	struct thin_disk *thin = find_open(pool, disk, snapshot);
	if (!thin)
		thin = thin_new(pool, disk, snapshot);
	if (thin)
		thin->opens++;
	pthread_mutex_unlock(&pool->lock);
	return thin ? &thin->bd : NULL;
}

void thin_close(struct ioc_bd *bd)
{
	struct thin_disk *thin = container_of(bd, struct thin_disk, bd), **at;
	struct ioc_pool *pool = thin->pool;

	pthread_mutex_lock(&pool->lock);
	bool last = --thin->opens == 0;
	for (at = &pool->disks; last && *at != thin;)
		at = &(*at)->next;
	if (last)
		*at = thin->next;
	pthread_mutex_unlock(&pool->lock);
	if (last) {
		gate_done(&thin->gate);
		free(thin);
	}
}

struct meta_disk *ioc_disk_meta(struct ioc_bd *bd)
{
	return container_of(bd, struct thin_disk, bd)->disk;
}

/* ---- calls from CTL ----------------------------------------------------------------------- */

struct call {
	struct base_msg msg;
	struct ioc_request *req;
	struct base_park park;
	int result;
};

static void run_call(struct base_msg *msg)
{
	ioc_bd_submit(container_of(msg, struct call, msg)->req);
}

static void call_done(struct ioc_request *req, int result)
{
	struct call *call = req->ctx;

	call->result = result;
	base_park_wake(&call->park);
}

int ioc_bd_call(struct ioc_pool *pool, struct ioc_request *req)
{
	struct call call = { .req = req, .msg.run = run_call };

	base_park_init(&call.park);
	req->queue = &pool->queues[atomic_fetch_add(&pool->next_queue, 1) % pool->queue_count];
	req->done = call_done;
	req->ctx = &call;
	ioc_queue_post(req->queue, &call.msg);
	base_park_wait(&call.park, 0);
	base_park_done(&call.park);
	return call.result;
}
