/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SEEK_DATA and SEEK_HOLE: data is a valid block, at block granularity.
 *
 * The index makes it cheap: leaves that are neither in memory nor present are
 * skipped without being read, so a seek through a sparse disk of 64 TiB reads
 * only what is there.
 *
 * Failure modes: -ENXIO at or past the end, or when no data follows; a leaf that
 * can't be read.
 */
#include <errno.h>

#include "iocore/internal.h"

static void seek_on(struct ioc_request *req);

static void loaded(struct ioc_request *req)
{
	if (req->thin.wait.result < 0)
		queue_finish(req, req->thin.wait.result);
	else
		seek_on(req);
}

static void found(struct ioc_request *req, uint64_t offset, uint64_t size)
{
	thin_end_slice(req);
	if (offset < size) {
		req->result_offset = MAX(offset, req->offset);
		queue_finish(req, 0);
	} else if (req->op == IOC_OP_SEEK_HOLE) {
		req->result_offset = size;
		queue_finish(req, 0);
	} else {
		queue_finish(req, -ENXIO);
	}
}

/* The first block of the leaf at or after `block` (counted in the leaf) that is data or not, as wanted; LEAF_CHUNKS *
 * CHUNK_BLOCKS: none. */
static unsigned scan_leaf(struct meta_leaf *leaf, unsigned block, bool want_data)
{
	for (; block < LEAF_CHUNKS * CHUNK_BLOCKS; block++) {
		uint16_t valid = meta_entry_valid(meta_leaf_entry(leaf, block / CHUNK_BLOCKS));
		if (((valid >> (block % CHUNK_BLOCKS)) & 1) == want_data)
			break;
	}
	return block;
}

static void seek_on(struct ioc_request *req)
{
	struct meta_store *store = thin_of(req)->store;
	uint64_t size = meta_disk_size(thin_of(req)->disk);
	bool want_data = req->op == IOC_OP_SEEK_DATA;
	struct meta_leaf *leaf;

	thin_pin_epoch(req);
	for (;;) {
		uint64_t at = req->offset + req->thin.cursor, number = at / LEAF_BYTES;
		uint64_t next = meta_map_next_leaf(store, number);
		if (at >= size || (want_data && (next == UINT64_MAX || next * LEAF_BYTES >= size)))
			return found(req, size, size);
		if (next != number) { /* a hole up to there */
			if (!want_data)
				return found(req, at, size);
			req->thin.cursor = next * LEAF_BYTES - req->offset;
			continue;
		}
		int rc = meta_map_find(store, number, &leaf);
		if (rc == META_MISS) {
			thin_end_slice(req);
			meta_map_load(store, number, thin_wait(req, loaded));
			return;
		}
		unsigned block = (unsigned)(at % LEAF_BYTES / BLOCK_BYTES);
		unsigned hit = rc == 0     ? scan_leaf(leaf, block, want_data)
			       : want_data ? LEAF_CHUNKS * CHUNK_BLOCKS
					   : block;
		if (hit < LEAF_CHUNKS * CHUNK_BLOCKS)
			return found(req, number * LEAF_BYTES + hit * BLOCK_BYTES, size);
		req->thin.cursor = (number + 1) * LEAF_BYTES - req->offset;
	}
}

void thin_seek(struct ioc_request *req)
{
	if (req->offset >= meta_disk_size(thin_of(req)->disk))
		queue_finish(req, -ENXIO);
	else
		seek_on(req);
}
