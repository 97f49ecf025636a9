/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The size of a thin disk: resizing, and what growing needs.
 *
 * A resize takes every stripe exclusively, so no write, discard or other change
 * of the disk is in flight, and keeps them until the metadata thread has made the
 * new size durable (MW waits for no request, so holding the gate meanwhile holds
 * up this disk's writers and nobody else).
 *
 * Shrinking frees nothing here: it sets a mark, and the background frees what is
 * above. Until that has ended the disk can't grow again, or old data would come
 * back; a resize waits for it.
 *
 * The block that the end of a disk lies in may hold bytes past the end, after a
 * shrink. So growing, here or by a write, zeroes that part first, and meta/ makes
 * that durable before a larger size is.
 *
 * Above a snapshot the block that a new, lower end lies in may be one that a layer
 * below shows. Nobody could zero its tail there later, so it is first made the
 * head's own, as by a discard of its tail, and that is committed before the
 * resize lowers the overlap below it.
 *
 * Failure modes: -EFBIG over the largest size; an I/O error while the tail is
 * zeroed leaves the size as it was.
 */
#include <errno.h>

#include "iocore/internal.h"

bool thin_load_end(struct ioc_request *req, void (*again)(struct ioc_request *req))
{
	struct meta_store *store = req->thin.store;
	uint64_t number = meta_disk_size(thin_of(req)->disk) / LEAF_BYTES;
	struct meta_leaf *leaf;

	if (req->thin.end_leaf)
		meta_leaf_unpin(req->thin.end_leaf);
	req->thin.end_leaf = NULL;
	int rc = meta_map_find(store, number, &leaf);
	if (rc == 0)
		rc = meta_map_pin(store, number, &leaf);
	if (rc == 0)
		req->thin.end_leaf = leaf;
	if (rc == 0 || rc == META_HOLE)
		return true;
	if (rc == META_MISS) {
		thin_load_leaf(req, number, again);
		return false;
	}
	thin_end_slice(req);
	struct meta_wait *wait = thin_wait(req, again);
	if (rc == META_BUSY) {
		meta_wait_fold(req->queue->meta, wait);
	} else {
		wait->result = rc;
		thin_yield(req, again);
	}
	return false;
}

void thin_zero_tail(struct ioc_request *req, void (*next)(struct ioc_request *req))
{
	uint64_t size = meta_disk_size(thin_of(req)->disk), block_end = round_up_to(size, BLOCK_BYTES);

	req->thin.edges[0] = (struct thin_edge){ .offset = size, .bytes = (uint32_t)(block_end - size) };
	req->thin.edges[1].bytes = 0;
	/* What a layer below shows of this block ends in zeros: a snapshot's tail is zeroed when it is taken. The leaf
	 * is in memory (thin_load_end), so nothing is waited for. */
	if (thin_find_edges(req, false, next))
		thin_zero_edges(req, next);
}

static void resize_begin(struct ioc_request *req);

static void after_wait(struct ioc_request *req)
{
	if (req->thin.wait.result < 0)
		thin_fail(req, req->thin.wait.result);
	else
		resize_begin(req);
}

static void resized(struct ioc_request *req)
{
	int result = req->thin.resize.wait.result;

	thin_end_slice(req);
	queue_finish(req, result);
}

/* -1: none, it is about the size. */
static int kind_asked(const struct ioc_request *req)
{
	if (req->flags & IOC_MAKE_THIN)
		return META_DISK_THIN;
	return req->flags & IOC_MAKE_THICK ? META_DISK_THICK : -1;
}

static void to_meta(struct ioc_request *req)
{
	struct meta_disk *disk = thin_of(req)->disk;

	if (req->thin.error < 0) {
		thin_fail(req, req->thin.error);
		return;
	}
	(void)thin_wait(req, resized);
	req->thin.resize.disk = disk;
	req->thin.resize.size_bytes = req->offset;
	req->thin.resize.kind = kind_asked(req);
	meta_resize_submit(&req->thin.resize);
}

/* The operation is a resize again. */
static void copied_up(struct ioc_request *req)
{
	int result = req->thin.wait.result;

	req->op = IOC_OP_RESIZE;
	req->offset = req->thin.resize_bytes;
	req->length = req->thin.length = 0;
	req->thin.range_next = NULL;
	req->thin.cursor = 0;
	if (result < 0)
		thin_fail(req, result);
	else
		resize_begin(req);
}

static void copy_up(struct ioc_request *req)
{
	uint64_t end = req->offset;

	thin_end_slice(req);
	req->thin.resize_bytes = end;
	req->thin.range_next = copied_up;
	req->op = IOC_OP_WRITE_ZEROES;
	req->flags = 0;
	req->length = req->thin.length = round_up_to(end, BLOCK_BYTES) - end;
	req->thin.cursor = 0;
	thin_range(req);
}

/* 1: it is; 0; META_MISS: all was given back. */
static int shows_from_below(struct ioc_request *req, uint64_t byte)
{
	unsigned block = (unsigned)(byte % CHUNK_BYTES / BLOCK_BYTES);
	uint32_t sources[CHUNK_BLOCKS];
	struct meta_missing missing;
	struct meta_leaf *leaf;

	if (meta_map_resolve(req->thin.store, byte / CHUNK_BYTES, (uint16_t)(1u << block), sources, &missing) != 0) {
		thin_load(req, &missing, after_wait);
		return META_MISS;
	}
	if (sources[block] == 0)
		return 0;
	if (meta_map_find(req->thin.store, byte / LEAF_BYTES, &leaf) != 0)
		return 1;
	meta_entry entry = meta_leaf_entry(leaf, (unsigned)(byte / CHUNK_BYTES % LEAF_CHUNKS));
	return !(meta_entry_valid(entry) >> block & 1);
}

static void committed(struct ioc_request *req)
{
	req->thin.error = req->thin.wait.result;
	to_meta(req);
}

/* What stands in the head near the new end is made durable before the layers below are cut off. */
static void shrink_layered(struct ioc_request *req)
{
	int below = req->offset % BLOCK_BYTES != 0 ? shows_from_below(req, req->offset) : 0;

	if (below == META_MISS)
		return;
	if (below)
		copy_up(req);
	else /* holding the gate, as for the resize itself: MW waits for no request */
		meta_wait_commit(req->queue->meta, thin_wait(req, committed));
}

static void entered(struct ioc_request *req)
{
	struct meta_disk *disk = thin_of(req)->disk;

	if (!thin_same_head(req)) {
		thin_end_slice(req);
		resize_begin(req);
		return;
	}
	if (meta_is_trimming(disk)) { /* another resize was quicker */
		thin_end_slice(req);
		meta_wait_trimmed(disk, thin_wait(req, after_wait));
		return;
	}
	if (kind_asked(req) < 0 ? req->offset == meta_disk_size(disk) : kind_asked(req) == meta_disk_kind(disk)) {
		thin_end_slice(req);
		queue_finish(req, 0);
		return;
	}
	if (!thin_load_end(req, after_wait)) /* evicted while we waited at the gate */
		return;
	req->thin.error = 0;
	if (kind_asked(req) < 0 && req->offset > meta_disk_size(disk))
		thin_zero_tail(req, to_meta);
	else if (kind_asked(req) < 0 && meta_store_is_layered(req->thin.store))
		shrink_layered(req);
	else
		to_meta(req);
}

static void resize_begin(struct ioc_request *req)
{
	struct meta_disk *disk = thin_of(req)->disk;

	if (meta_is_trimming(disk)) {
		meta_wait_trimmed(disk, thin_wait(req, after_wait));
		return;
	}
	thin_pin_epoch(req);
	if (!thin_load_end(req, after_wait))
		return;
	if (thin_enter(req, UINT64_MAX, true, entered))
		entered(req);
}

void thin_resize(struct ioc_request *req)
{
	int rc = meta_io_writable(req->queue->meta);

	if (rc < 0)
		queue_finish(req, rc);
	else if (meta_disk_kind(thin_of(req)->disk) == META_DISK_LV)
		queue_finish(req, -EPERM);
	else if (req->offset > DISK_BYTES_MAX)
		queue_finish(req, -EFBIG);
	else
		resize_begin(req);
}
