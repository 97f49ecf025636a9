/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser of virtio-blk requests, and the configuration space.
 *
 * What a guest may do wrong within a well-formed chain (a sector past the end, a
 * length that is no multiple of the block, an unknown type) is answered with a
 * status, as a disk does; it ends nothing.
 *
 * All arithmetic is on sectors below 2^55 once a range has been compared with
 * the size, so bytes fit into 64 bits; nothing is multiplied before that.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "vtd/virtio_blk.h"

static void fail(struct vtd_blk_request *ret, uint8_t status)
{
	ret->op = VTD_BLK_ERROR;
	ret->status = status;
}

/* Within the disk, and in whole logical blocks. */
static bool is_range(const struct vtd_blk_limits *limits, uint64_t sector, uint64_t sectors)
{
	uint64_t end = limits->size_bytes / VTD_SECTOR_BYTES, unit = limits->logical_block_bytes / VTD_SECTOR_BYTES;

	return sectors <= end && sector <= end - sectors && sector % unit == 0 && sectors % unit == 0;
}

static void parse_data(uint64_t sector, uint64_t length, enum vtd_blk_op op, const struct vtd_blk_limits *limits,
		       struct vtd_blk_request *ret)
{
	if (length == 0 || length % VTD_SECTOR_BYTES != 0 || !is_range(limits, sector, length / VTD_SECTOR_BYTES) ||
	    (op == VTD_BLK_WRITE && limits->read_only)) {
		fail(ret, VIRTIO_BLK_S_IOERR);
		return;
	}
	ret->op = op;
	ret->offset = sector * VTD_SECTOR_BYTES;
	ret->length = length;
}

static void parse_range_count(uint64_t bytes, enum vtd_blk_op op, const struct vtd_blk_limits *limits,
			      struct vtd_blk_request *ret)
{
	uint64_t count = bytes / sizeof(struct virtio_blk_discard_write_zeroes);

	if (!(op == VTD_BLK_DISCARD ? limits->has_discard : limits->has_write_zeroes)) {
		fail(ret, VIRTIO_BLK_S_UNSUPP);
	} else if (limits->read_only || count == 0 || count > VTD_RANGES_MAX ||
		   bytes % sizeof(struct virtio_blk_discard_write_zeroes) != 0) {
		fail(ret, VIRTIO_BLK_S_IOERR);
	} else {
		ret->op = op;
		ret->ranges = (unsigned)count;
	}
}

void vtd_blk_parse(const uint8_t header[VTD_HEADER_BYTES], uint64_t payload_bytes, uint64_t room_bytes,
		   const struct vtd_blk_limits *limits, struct vtd_blk_request *ret)
{
	struct virtio_blk_outhdr h;

	static_assert(sizeof(h) == VTD_HEADER_BYTES, "a header is 16 bytes");
	memcpy(&h, header, sizeof(h));
	*ret = (struct vtd_blk_request){ 0 };
	switch (le32toh(h.type)) {
	case VIRTIO_BLK_T_IN:
		if (payload_bytes > 0)
			fail(ret, VIRTIO_BLK_S_IOERR);
		else
			parse_data(le64toh(h.sector), room_bytes, VTD_BLK_READ, limits, ret);
		break;
	case VIRTIO_BLK_T_OUT:
		parse_data(le64toh(h.sector), payload_bytes, VTD_BLK_WRITE, limits, ret);
		break;
	case VIRTIO_BLK_T_FLUSH:
		ret->op = VTD_BLK_FLUSH;
		break;
	case VIRTIO_BLK_T_GET_ID:
		ret->op = VTD_BLK_GET_ID;
		ret->length = room_bytes;
		break;
	case VIRTIO_BLK_T_DISCARD:
		parse_range_count(payload_bytes, VTD_BLK_DISCARD, limits, ret);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		parse_range_count(payload_bytes, VTD_BLK_WRITE_ZEROES, limits, ret);
		break;
	default:
		fail(ret, VIRTIO_BLK_S_UNSUPP);
	}
}

void vtd_blk_parse_ranges(const uint8_t *payload, const struct vtd_blk_limits *limits,
			  struct vtd_blk_request *request, struct vtd_blk_range ret[VTD_RANGES_MAX])
{
	uint32_t known = request->op == VTD_BLK_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;

	for (unsigned i = 0; i < request->ranges; i++) {
		struct virtio_blk_discard_write_zeroes d;

		memcpy(&d, payload + i * sizeof(d), sizeof(d));
		uint64_t sector = le64toh(d.sector), sectors = le32toh(d.num_sectors);
		if (le32toh(d.flags) & ~known) {
			fail(request, VIRTIO_BLK_S_UNSUPP);
			return;
		}
		if (sectors == 0 || sectors > VTD_RANGE_SECTORS_MAX || !is_range(limits, sector, sectors)) {
			fail(request, VIRTIO_BLK_S_IOERR);
			return;
		}
		ret[i] = (struct vtd_blk_range){ .offset = sector * VTD_SECTOR_BYTES,
						 .length = sectors * VTD_SECTOR_BYTES,
						 .keep_space =
							 request->op == VTD_BLK_WRITE_ZEROES &&
							 !(le32toh(d.flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) };
	}
}

uint8_t vtd_blk_status(int result)
{
	if (result >= 0)
		return VIRTIO_BLK_S_OK;
	return result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

void vtd_blk_config(const struct vtd_blk_config_args *args, struct virtio_blk_config *ret)
{
	uint32_t block = args->logical_block_bytes;

	*ret = (struct virtio_blk_config){
		.capacity = htole64(round_down_to(args->size_bytes, block) / VTD_SECTOR_BYTES),
		.seg_max = htole32(VTD_SEG_MAX),
		.blk_size = htole32(block),
		/* Blocks of 4 KiB are what we write without reading; chunks of 64 KiB are what we allocate. */
		.physical_block_exp = (uint8_t)__builtin_ctz((unsigned)(BLOCK_BYTES / block)),
		.min_io_size = htole16((uint16_t)(BLOCK_BYTES / block)),
		.opt_io_size = htole32((uint32_t)(CHUNK_BYTES / block)),
		.wce = args->is_write_back,
		.num_queues = htole16((uint16_t)args->queues),
		.max_discard_sectors = htole32((uint32_t)VTD_RANGE_SECTORS_MAX),
		.max_discard_seg = htole32(VTD_RANGES_MAX),
		.discard_sector_alignment = htole32(CHUNK_BYTES / VTD_SECTOR_BYTES),
		.max_write_zeroes_sectors = htole32((uint32_t)VTD_RANGE_SECTORS_MAX),
		.max_write_zeroes_seg = htole32(VTD_RANGES_MAX),
		.write_zeroes_may_unmap = 1,
	};
}
