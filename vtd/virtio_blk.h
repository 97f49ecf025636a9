/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (virtio 1.2, 5.2): from the bytes of a request to a checked operation, and the configuration space.
 *
 * Pure: no guest memory, no device. The session copies out header and payload
 * and says how long the parts are; what comes back can be carried out as it is.
 *
 * Context: any thread.
 */
#ifndef VTD_VIRTIO_BLK_H
#define VTD_VIRTIO_BLK_H

#include <linux/virtio_blk.h>

#include "base/error.h"
#include "base/types.h"

#define VTD_SECTOR_BYTES 512
#define VTD_HEADER_BYTES 16
/* seg_max: with header and status a chain of 128. A request of more is refused, not an offence. */
#define VTD_SEG_MAX 126
/* Ranges in one discard or write zeroes. */
#define VTD_RANGES_MAX 32
/* A range's length at most: 1 GiB. */
#define VTD_RANGE_SECTORS_MAX (GIB / VTD_SECTOR_BYTES)

enum vtd_blk_op {
	VTD_BLK_READ,
	VTD_BLK_WRITE,
	VTD_BLK_FLUSH,
	VTD_BLK_DISCARD,
	VTD_BLK_WRITE_ZEROES,
	VTD_BLK_GET_ID,
	VTD_BLK_ERROR, /* nothing is carried out: status is the answer */
};

/* What requests are judged by. */
struct vtd_blk_limits {
	uint64_t size_bytes;
	uint32_t logical_block_bytes;
	bool read_only;
	bool has_discard, has_write_zeroes; /* negotiated */
};

struct vtd_blk_range {
	uint64_t offset, length; /* bytes */
	bool keep_space;         /* of write zeroes without the unmap flag */
};

struct vtd_blk_request {
	enum vtd_blk_op op;
	uint8_t status;          /* VTD_BLK_ERROR */
	uint64_t offset, length; /* bytes; READ, WRITE, GET_ID (length) */
	unsigned ranges;         /* DISCARD, WRITE_ZEROES */
};

/*
 * header: the first 16 bytes that the device may read. payload_bytes: what else it may read; room_bytes: what it may
 * write besides the status byte.
 * DISCARD and WRITE_ZEROES: the payload is still to be judged, by vtd_blk_parse_ranges().
 */
void vtd_blk_parse(const uint8_t header[VTD_HEADER_BYTES], uint64_t payload_bytes, uint64_t room_bytes,
		   const struct vtd_blk_limits *limits, struct vtd_blk_request *ret);

/* payload: request->ranges times 16 bytes. On a bad range request becomes VTD_BLK_ERROR. */
void vtd_blk_parse_ranges(const uint8_t *payload, const struct vtd_blk_limits *limits,
			  struct vtd_blk_request *request, struct vtd_blk_range ret[VTD_RANGES_MAX]);

/* The status byte for the result of an operation of a backing device. The only table of that kind. */
uint8_t vtd_blk_status(int result);

struct vtd_blk_config_args {
	uint64_t size_bytes;
	uint32_t logical_block_bytes;
	unsigned queues;
	bool is_write_back;
};
void vtd_blk_config(const struct vtd_blk_config_args *args, struct virtio_blk_config *ret);

#endif
