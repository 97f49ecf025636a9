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
 * Failure modes: -EFBIG over the largest size; an I/O error while the tail is
 * zeroed leaves the size as it was.
 */
#include <errno.h>

#include "iocore/internal.h"

bool thin_load_end(struct ioc_request *req, void (*again)(struct ioc_request *req))
{
	struct thin_disk *thin = thin_of(req);
	uint64_t number = meta_disk_size(thin->disk) / LEAF_BYTES;
	struct meta_leaf *leaf;

	if (meta_map_find(thin->store, number, &leaf) != META_MISS)
		return true;
	thin_end_slice(req);
	meta_map_load(thin->store, number, thin_wait(req, again));
	return false;
}

void thin_zero_tail(struct ioc_request *req, void (*next)(struct ioc_request *req))
{
	uint64_t size = meta_disk_size(thin_of(req)->disk), block_end = round_up_to(size, BLOCK_BYTES);

	req->thin.edges[0] = (struct thin_edge){ .offset = size, .bytes = (uint32_t)(block_end - size) };
	req->thin.edges[1].bytes = 0;
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

static void entered(struct ioc_request *req)
{
	struct meta_disk *disk = thin_of(req)->disk;

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
