/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of virtio-blk requests: what goes through is within the disk; what does not gets the right status. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "vtd/virtio_blk.h"

static const struct vtd_blk_limits disk = {
	.size_bytes = MIB, .logical_block_bytes = 512, .has_discard = true, .has_write_zeroes = true
};

static struct vtd_blk_request parse(const struct vtd_blk_limits *limits, uint32_t type, uint64_t sector,
				    uint64_t payload, uint64_t room)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	struct vtd_blk_request request;
	uint8_t bytes[VTD_HEADER_BYTES];

	memcpy(bytes, &header, sizeof(bytes));
	vtd_blk_parse(bytes, payload, room, limits, &request);
	return request;
}

static bool fails(struct vtd_blk_request r, uint8_t status)
{
	return r.op == VTD_BLK_ERROR && r.status == status;
}

Test(vtd_virtio_blk, reads_and_writes_up_to_the_end)
{
	struct vtd_blk_request r = parse(&disk, VIRTIO_BLK_T_IN, 2047, 0, 512);

	cr_assert(r.op == VTD_BLK_READ && r.offset == MIB - 512 && r.length == 512);
	r = parse(&disk, VIRTIO_BLK_T_OUT, 0, MIB, 0);
	cr_assert(r.op == VTD_BLK_WRITE && r.offset == 0 && r.length == MIB);
}

Test(vtd_virtio_blk, nothing_past_the_end_however_it_is_written)
{
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_IN, 2048, 0, 512), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_IN, 2047, 0, 1024), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_OUT, UINT64_MAX, 512, 0), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_OUT, UINT64_MAX / 512, 1024, 0), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, 512, 0), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_IN, 0, 0, UINT64_MAX - 511), VIRTIO_BLK_S_IOERR));
}

Test(vtd_virtio_blk, lengths_are_whole_blocks)
{
	struct vtd_blk_limits large = disk;

	large.logical_block_bytes = 4096;
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_IN, 0, 0, 0), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_IN, 0, 0, 511), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&large, VIRTIO_BLK_T_IN, 0, 0, 512), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&large, VIRTIO_BLK_T_IN, 1, 0, 4096), VIRTIO_BLK_S_IOERR));
	cr_assert_eq(parse(&large, VIRTIO_BLK_T_IN, 8, 0, 4096).op, VTD_BLK_READ);
}

Test(vtd_virtio_blk, read_only_disk_is_not_written)
{
	struct vtd_blk_limits ro = disk;

	ro.read_only = true;
	cr_assert(fails(parse(&ro, VIRTIO_BLK_T_OUT, 0, 512, 0), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&ro, VIRTIO_BLK_T_DISCARD, 0, 16, 0), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&ro, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0), VIRTIO_BLK_S_IOERR));
	cr_assert_eq(parse(&ro, VIRTIO_BLK_T_FLUSH, 0, 0, 0).op, VTD_BLK_FLUSH);
}

Test(vtd_virtio_blk, unknown_and_not_negotiated_are_unsupported)
{
	struct vtd_blk_limits plain = disk;

	plain.has_discard = plain.has_write_zeroes = false;
	for (uint32_t type = 14; type < 5000; type++)
		cr_assert(fails(parse(&disk, type, 0, 512, 0), VIRTIO_BLK_S_UNSUPP));
	cr_assert(fails(parse(&plain, VIRTIO_BLK_T_DISCARD, 0, 16, 0), VIRTIO_BLK_S_UNSUPP));
	cr_assert(fails(parse(&plain, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, 0), VIRTIO_BLK_S_UNSUPP));
}

static struct vtd_blk_request ranges(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags,
				     struct vtd_blk_range ret[VTD_RANGES_MAX])
{
	struct virtio_blk_discard_write_zeroes d = { sector, sectors, flags };
	struct vtd_blk_request r = parse(&disk, type, 0, sizeof(d), 0);

	vtd_blk_parse_ranges((uint8_t *)&d, &disk, &r, ret);
	return r;
}

Test(vtd_virtio_blk, ranges_are_within_the_disk_and_their_flags_known)
{
	struct vtd_blk_range range[VTD_RANGES_MAX];
	struct vtd_blk_request r = ranges(VIRTIO_BLK_T_DISCARD, 8, 2040, 0, range);

	cr_assert(r.op == VTD_BLK_DISCARD && range[0].offset == 4096 && range[0].length == MIB - 4096);
	cr_assert(fails(ranges(VIRTIO_BLK_T_DISCARD, 8, 2041, 0, range), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(ranges(VIRTIO_BLK_T_DISCARD, UINT64_MAX, 8, 0, range), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(ranges(VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0, range), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(ranges(VIRTIO_BLK_T_DISCARD, 0, 0, 0, range), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(ranges(VIRTIO_BLK_T_DISCARD, 0, 8, 1, range), VIRTIO_BLK_S_UNSUPP));
	r = ranges(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0, range);
	cr_assert(r.op == VTD_BLK_WRITE_ZEROES && range[0].keep_space);
	r = ranges(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 1, range);
	cr_assert(r.op == VTD_BLK_WRITE_ZEROES && !range[0].keep_space);
	cr_assert(fails(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 2, range), VIRTIO_BLK_S_UNSUPP));
}

Test(vtd_virtio_blk, number_of_ranges_is_bounded)
{
	cr_assert_eq(parse(&disk, VIRTIO_BLK_T_DISCARD, 0, 16 * VTD_RANGES_MAX, 0).ranges, (unsigned)VTD_RANGES_MAX);
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_DISCARD, 0, 16 * (VTD_RANGES_MAX + 1), 0), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_DISCARD, 0, UINT64_MAX / 16 * 16, 0), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_DISCARD, 0, 17, 0), VIRTIO_BLK_S_IOERR));
	cr_assert(fails(parse(&disk, VIRTIO_BLK_T_DISCARD, 0, 0, 0), VIRTIO_BLK_S_IOERR));
}

Test(vtd_virtio_blk, results_become_statuses)
{
	cr_assert_eq(vtd_blk_status(0), VIRTIO_BLK_S_OK);
	cr_assert_eq(vtd_blk_status(-EOPNOTSUPP), VIRTIO_BLK_S_UNSUPP);
	cr_assert_eq(vtd_blk_status(-EIO), VIRTIO_BLK_S_IOERR);
	cr_assert_eq(vtd_blk_status(-ENOSPC), VIRTIO_BLK_S_IOERR);
}

Test(vtd_virtio_blk, capacity_is_in_sectors_and_whole_blocks)
{
	struct vtd_blk_config_args args = { .size_bytes = MIB + 1000, .logical_block_bytes = 4096, .queues = 3 };
	struct virtio_blk_config config;

	vtd_blk_config(&args, &config);
	cr_assert_eq(config.capacity, MIB / 512);
	cr_assert_eq(config.blk_size, 4096u);
	cr_assert_eq(config.physical_block_exp, 0);
	cr_assert_eq(config.num_queues, 3);
	args.logical_block_bytes = 512;
	vtd_blk_config(&args, &config);
	cr_assert_eq(config.physical_block_exp, 3);
	cr_assert_eq(config.capacity, (MIB + 512) / 512);
}
