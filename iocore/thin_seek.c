/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SEEK_DATA and SEEK_HOLE: data is a valid block, of whichever layer, at block granularity.
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
		thin_fail(req, req->thin.wait.result);
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
 * CHUNK_BLOCKS: none. META_MISS: *ret_missing must be read first. */
static int scan_leaf(struct ioc_request *req, uint64_t leaf_number, unsigned block, bool want_data, unsigned *ret_block,
		     struct meta_missing *ret_missing)
{
	uint32_t sources[CHUNK_BLOCKS];

	for (; block < LEAF_CHUNKS * CHUNK_BLOCKS; block = block / CHUNK_BLOCKS * CHUNK_BLOCKS + CHUNK_BLOCKS) {
		int rc = meta_map_resolve(req->thin.store, leaf_number * LEAF_CHUNKS + block / CHUNK_BLOCKS,
					  UINT16_MAX, sources, ret_missing);
		if (rc != 0)
			return rc;
		for (unsigned b = block % CHUNK_BLOCKS; b < CHUNK_BLOCKS; b++) {
			if ((sources[b] != 0) != want_data)
				continue;
			*ret_block = block / CHUNK_BLOCKS * CHUNK_BLOCKS + b;
			return 0;
		}
	}
	*ret_block = LEAF_CHUNKS * CHUNK_BLOCKS;
	return 0;
}

static void seek_on(struct ioc_request *req)
{
	uint64_t size = thin_size(thin_of(req));
	bool want_data = req->op == IOC_OP_SEEK_DATA;
	struct meta_missing missing;
	unsigned hit;

	thin_pin_epoch(req);
	for (;;) {
		uint64_t at = req->offset + req->thin.cursor, number = at / LEAF_BYTES;
		uint64_t next = meta_map_next_visible(req->thin.store, number);
		if (at >= size || (want_data && (next == UINT64_MAX || next * LEAF_BYTES >= size)))
			return found(req, size, size);
		if (next != number) { /* a hole up to there */
			if (!want_data)
				return found(req, at, size);
			req->thin.cursor = next * LEAF_BYTES - req->offset;
			continue;
		}
		if (scan_leaf(req, number, (unsigned)(at % LEAF_BYTES / BLOCK_BYTES), want_data, &hit, &missing) != 0) {
			thin_load(req, &missing, loaded);
			return;
		}
		if (hit < LEAF_CHUNKS * CHUNK_BLOCKS)
			return found(req, number * LEAF_BYTES + hit * BLOCK_BYTES, size);
		req->thin.cursor = (number + 1) * LEAF_BYTES - req->offset;
	}
}

void thin_seek(struct ioc_request *req)
{
	if (req->offset >= thin_size(thin_of(req)))
		queue_finish(req, -ENXIO);
	else
		seek_on(req);
}
