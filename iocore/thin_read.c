/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a thin disk.
 *
 * A read takes no part in the gate: it pins the epoch, looks at the entries once
 * and reads what they say. A chunk that is freed meanwhile is not handed out
 * before the epoch has drained, so the worst that a racing write, discard or
 * resize can do is to decide whether the old or the new content is read.
 *
 * Of a disk above a snapshot, or of a snapshot, each block is looked for through
 * the layers (meta_map_resolve); what is found is read in the same way.
 *
 * Bytes past the end of the disk read as zero, whatever their block holds.
 *
 * Happy path: find leaf, plan, one device read per run of chunks, answer.
 * Failure modes: a leaf that can't be read; an I/O error.
 */
#include <assert.h>
#include <errno.h>

#include "iocore/internal.h"

static void read_slice(struct ioc_request *req);

static void slice_done(struct ioc_request *req)
{
	if (req->thin.error < 0) {
		thin_fail(req, req->thin.error);
		return;
	}
	if (req->thin.bounce)
		thin_copy_out(req);
	req->thin.cursor = MIN(req->thin.slice_offset + req->thin.slice_bytes - req->offset, req->thin.length);
	thin_end_slice(req);
	if (req->thin.cursor < req->length)
		read_slice(req);
	else
		queue_finish(req, 0);
}

static void start(struct ioc_request *req)
{
	struct plan_slice slice = { .offset = req->thin.slice_offset,
				    .bytes = req->thin.slice_bytes,
				    .entries = req->thin.entries,
				    .sources = req->thin.layered ? req->thin.sources : NULL };

	plan_read(&slice, &req->thin.plan);
	req->thin.slice_bytes = req->thin.plan.bytes;
	thin_start_io(req, slice_done);
}

static void loaded(struct ioc_request *req)
{
	if (req->thin.wait.result < 0)
		thin_fail(req, req->thin.wait.result);
	else
		read_slice(req);
}

static bool look_through(struct ioc_request *req)
{
	uint64_t chunk = req->thin.slice_offset / CHUNK_BYTES;
	struct meta_missing missing;

	for (unsigned i = 0; i < req->thin.chunks; i++) {
		if (meta_map_resolve(req->thin.store, chunk + i, UINT16_MAX, req->thin.sources[i], &missing) == 0)
			continue;
		thin_load(req, &missing, loaded);
		return false;
	}
	return true;
}

/* False: a leaf is not in memory and is being loaded. */
static bool look_up(struct ioc_request *req)
{
	struct meta_store *store = req->thin.store;
	uint64_t chunk = req->thin.slice_offset / CHUNK_BYTES, number = UINT64_MAX;
	struct meta_leaf *leaf = NULL;

	req->thin.chunks = (unsigned)((req->thin.slice_offset + req->thin.slice_bytes - 1) / CHUNK_BYTES - chunk + 1);
	req->thin.layered = meta_store_is_layered(store);
	if (req->thin.layered)
		return look_through(req);
	for (unsigned i = 0; i < req->thin.chunks; i++) {
		if ((chunk + i) / LEAF_CHUNKS != number) {
			number = (chunk + i) / LEAF_CHUNKS;
			int rc = meta_map_find(store, number, &leaf);
			if (rc == META_MISS) {
				thin_load_leaf(req, number, loaded);
				return false;
			}
			if (rc == META_HOLE)
				leaf = NULL;
		}
		req->thin.entries[i] = leaf ? meta_leaf_entry(leaf, (unsigned)((chunk + i) % LEAF_CHUNKS)) : 0;
	}
	return true;
}

/* What is past the end of the disk is a slice without entries. */
static void read_past_end(struct ioc_request *req)
{
	req->thin.slice_offset = req->offset + req->thin.cursor;
	req->thin.slice_bytes = req->length - req->thin.cursor;
	req->thin.length = req->length;
	req->thin.plan.count = 1;
	req->thin.plan.steps[0] = (struct plan_step){ .kind = PLAN_ZERO, .bytes = req->thin.slice_bytes };
	thin_start_io(req, slice_done);
}

static void read_slice(struct ioc_request *req)
{
	uint64_t offset = req->offset + req->thin.cursor, size = thin_size(thin_of(req));
	uint32_t sector, memory;

	if (offset >= size) {
		read_past_end(req);
		return;
	}
	req->thin.length = MIN(req->length, size - req->offset);
	req->thin.slice_offset = offset;
	req->thin.slice_bytes = req->thin.length - req->thin.cursor;
	thin_alignment(req->queue->meta, &sector, &memory);
	bool direct = req->thin.length % sector == 0 && thin_is_aligned(req, sector, memory);
	if (!direct) {
		req->thin.bounce_offset = round_down_to(offset, sector);
		req->thin.slice_offset = req->thin.bounce_offset;
		req->thin.slice_bytes = round_up_to(offset + req->thin.slice_bytes, sector) - req->thin.slice_offset;
	}
	thin_pin_epoch(req);
	if (!look_up(req))
		return;
	if (direct || req->thin.bounce || bounce_get(req, req->thin.slice_bytes, start))
		start(req);
}

void thin_read(struct ioc_request *req)
{
	count(&req->queue->counters.reads, 1);
	count(&req->queue->counters.read_bytes, req->length);
	if (req->length == 0)
		queue_finish(req, 0);
	else if (req->length > IOC_DATA_BYTES_MAX || req->offset > INT64_MAX - req->length)
		queue_finish(req, -EINVAL);
	else
		read_slice(req);
}
