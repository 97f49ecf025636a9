/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings and guest memory: the input is the guest's memory (rings, tables, headers) and its inflight region. All that
 * can be taken is taken, mapped, parsed and completed, and some of it is changed in between.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vtd/virtio_blk.h"
#include "vtd/vring.h"

#define RAM_BYTES 4096u
#define REGION_BYTES 1024u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const struct vtd_memory *memory, const struct vtd_chain *chain)
{
	struct vtd_blk_limits limits = {
		.size_bytes = GIB, .logical_block_bytes = 512, .has_discard = true, .has_write_zeroes = true
	};
	struct vtd_blk_range ranges[VTD_RANGES_MAX];
	struct vtd_blk_request request;
	uint8_t header[VTD_HEADER_BYTES] = { 0 }, payload[VTD_RANGES_MAX * 16] = { 0 };
	uint64_t out = 0, in = 0;

	for (unsigned i = 0; i < chain->count; i++) {
		uint64_t length = chain->desc[i].len;
		uint8_t *p = length ? vtd_memory_guest(memory, chain->desc[i].addr, &length) : NULL;
		if (!p)
			continue;
		assert(length <= chain->desc[i].len);
		if (chain->desc[i].is_write) {
			in += length;
			p[0] = p[length - 1] = 1;
			continue;
		}
		out += length;
		memcpy(header, p, MIN(length, sizeof(header)));
		memcpy(payload, p, MIN(length, sizeof(payload)));
	}
	vtd_blk_parse(header, out, in, &limits, &request);
	assert(request.op != VTD_BLK_READ || request.offset + request.length <= limits.size_bytes);
	assert(request.ranges <= VTD_RANGES_MAX);
	if (request.ranges)
		vtd_blk_parse_ranges(payload, &limits, &request, ranges);
	for (unsigned i = 0; i < request.ranges && request.op != VTD_BLK_ERROR; i++)
		assert(ranges[i].offset + ranges[i].length <= limits.size_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vtd_vring v;
	static struct vtd_chain chain;
	/* From the heap, of the exact size, so that a byte too far is seen. */
	uint8_t *ram = aligned_alloc(64, RAM_BYTES), *region = aligned_alloc(64, REGION_BYTES);
	struct vtd_memory memory = { .count = 2 };
	uint8_t how = size ? data[0] : 0;
	struct vtd_vring_args a = { .packed = how & 1,
				    .event_idx = how & 2,
				    .indirect = how & 4,
				    .num = 16,
				    .base = how & 8 ? 0x80008000u : 0,
				    .descriptor = ram,
				    .available = ram + 1024,
				    .used = ram + 2048,
				    .inflight = how & 16 ? region : NULL,
				    .memory = &memory };

	memset(ram, 0, RAM_BYTES);
	memset(region, 0, REGION_BYTES);
	memory.slots[0] = (struct vtd_slot){ .guest_addr = 0, .size = RAM_BYTES / 2, .mapping.host = ram };
	memory.slots[1] = (struct vtd_slot){ .guest_addr = RAM_BYTES / 2,
					     .size = RAM_BYTES / 2,
					     .mapping.host = ram + RAM_BYTES / 2 };
	if (size > 1) {
		size_t n = MIN(size - 1, (size_t)RAM_BYTES);
		memcpy(ram, data + 1, n);
		memcpy(region, data + 1 + n, MIN(size - 1 - n, (size_t)REGION_BYTES));
	}
	vtd_vring_open(&v, &a);
	for (unsigned i = 0; i < 64 && vtd_vring_take(&v, &chain) == 1; i++) {
		assert(chain.count <= VTD_CHAIN_MAX);
		parse(&memory, &chain);
		if (how & 32)
			ram[(i * 67 + size) % RAM_BYTES] ^= (uint8_t)(i + how);
		if (how & 64 && i % 3 == 0)
			continue; /* stays in flight */
		vtd_vring_complete(&v, &chain.token, 1);
		vtd_vring_publish(&v);
		(void)vtd_vring_wants_call(&v);
	}
	(void)vtd_vring_expect_kicks(&v);
	(void)vtd_vring_base(&v);
	free(ram);
	free(region);
	return 0;
}
