/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the copies of the metadata lie on a pv, and their headers (docs/format.md, section 9).
 *
 * Two headers at fixed places, two areas for streams behind them, all of it before
 * the first data byte. A header is one sector's worth of bytes, so a write of it
 * that is cut off leaves the old or the new one. The one with the higher sequence
 * counts; one that says "none" takes the copy back.
 *
 * Why a damaged header spoils both: it may be the younger one, and what the other
 * one's copy has of freed chunks may be other disks' by now.
 *
 * A header of another pool is that of an earlier use of the pv, and none.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/uuid.h"
#include "meta/copy.h"
#include "meta/pv.h"
#include "meta/records.h"
#include "meta/wire.h"

#define COPY_VERSION 1
#define CHECKSUM_AT 504
#define STREAMS_AT (64 * KIB)
/* Pools below this have their copies in the first MiB of the pv, as it is. */
#define LARGE_BYTES GIB

static const uint8_t magic[8] = "BDFSCPY";

uint64_t meta_copy_header_at(unsigned slot)
{
	return META_LABEL_BYTES + (uint64_t)slot * META_COPY_HEADER_BYTES;
}

uint64_t meta_copy_room_bytes(uint64_t first_data_byte)
{
	if (first_data_byte < META_PV_FIRST_DATA_BYTE)
		return 0;
	return round_down_to((first_data_byte - STREAMS_AT) / META_COPY_SLOTS, BLOCK_BYTES);
}

uint64_t meta_copy_stream_at(unsigned slot, uint64_t first_data_byte)
{
	return STREAMS_AT + slot * meta_copy_room_bytes(first_data_byte);
}

/* A leaf of a disk written in order takes some 60 bytes for 8 MiB, of one written at random 1,100: a thousandth of
 * the pool is room for nearly all that there are. */
uint64_t meta_copy_first_data_byte(uint64_t pv_bytes, uint64_t pool_bytes)
{
	if (pv_bytes < LARGE_BYTES)
		return META_PV_FIRST_DATA_BYTE;
	return STREAMS_AT + META_COPY_SLOTS * MIN(round_up_to(pool_bytes / 1024, CHUNK_BYTES), META_COPY_BYTES_MAX);
}

void meta_copy_header_encode(const struct meta_copy_header *header, uint8_t buf[META_COPY_HEADER_BYTES])
{
	struct wire_out out = wire_out_init(buf, META_COPY_HEADER_BYTES);

	memset(buf, 0, META_COPY_HEADER_BYTES);
	wire_put_bytes(&out, magic, sizeof(magic));
	wire_put_u32(&out, COPY_VERSION);
	wire_put_u8(&out, header->state);
	wire_put_u8(&out, header->closed);
	wire_put_u16(&out, 0);
	wire_put_bytes(&out, header->pool.b, UUID_BYTES);
	wire_put_u64(&out, header->sequence);
	wire_put_u64(&out, header->stream_bytes);
	wire_put_u64(&out, header->commit);
	wire_put_u64(&out, header->made_s);
	wire_put_u64(&out, header->chain);
	out.at = buf + CHECKSUM_AT;
	wire_put_u64(&out, base_checksum(buf, CHECKSUM_AT));
}

static bool is_sound(const struct meta_copy_header *header)
{
	return header->state <= META_COPY_THERE && header->closed <= 1 && header->stream_bytes <= META_COPY_BYTES_MAX;
}

int meta_copy_header_decode(const uint8_t buf[META_COPY_HEADER_BYTES], struct meta_copy_header *ret)
{
	struct wire_in in = wire_in_init(buf, META_COPY_HEADER_BYTES);
	uint8_t got[sizeof(magic)], again[META_COPY_HEADER_BYTES];
	struct meta_copy_header header = { 0 };

	wire_get_bytes(&in, got, sizeof(got));
	if (memcmp(got, magic, sizeof(magic)) != 0)
		return META_COPY_NO_HEADER;
	if (wire_get_u32(&in) != COPY_VERSION)
		return -EBADMSG;
	header.state = wire_get_u8(&in);
	header.closed = wire_get_u8(&in);
	wire_get_u16(&in);
	wire_get_bytes(&in, header.pool.b, UUID_BYTES);
	header.sequence = wire_get_u64(&in);
	header.stream_bytes = wire_get_u64(&in);
	header.commit = wire_get_u64(&in);
	header.made_s = wire_get_u64(&in);
	header.chain = wire_get_u64(&in);
	if (!is_sound(&header))
		return -EBADMSG;
	/* One encoding: reserved bytes, the checksum and the zeros behind it are looked at in one go. */
	meta_copy_header_encode(&header, again);
	if (memcmp(buf, again, sizeof(again)) != 0)
		return -EBADMSG;
	*ret = header;
	return 0;
}

int meta_copy_format(const struct meta_pv_ops *ops, void *ctx, struct meta_pv_handle *pv, struct base_uuid pool)
{
	struct meta_copy_header header = { .pool = pool, .sequence = 1, .state = META_COPY_NONE };
	uint8_t buf[META_COPY_HEADER_BYTES];
	int rc = 0;

	for (unsigned slot = 0; slot < META_COPY_SLOTS && rc == 0; slot++) {
		meta_copy_header_encode(&header, buf);
		header.sequence++;
		rc = ops->write(ctx, pv, buf, sizeof(buf), meta_copy_header_at(slot));
	}
	return rc;
}

int meta_copy_find(const struct meta_pv_ops *ops, void *ctx, struct meta_pv_handle *pv, struct base_uuid pool,
		   struct meta_copy_found *ret)
{
	uint8_t buf[META_COPY_HEADER_BYTES];

	*ret = (struct meta_copy_found){ .newest = -1 };
	for (unsigned slot = 0; slot < META_COPY_SLOTS; slot++) {
		int rc = ops->read(ctx, pv, buf, sizeof(buf), meta_copy_header_at(slot));
		if (rc < 0)
			return rc;
		rc = meta_copy_header_decode(buf, &ret->header[slot]);
		ret->damaged |= rc < 0;
		ret->valid[slot] = rc == 0 && base_uuid_equal(ret->header[slot].pool, pool);
		if (ret->valid[slot] &&
		    (ret->newest < 0 || ret->header[slot].sequence > ret->header[ret->newest].sequence))
			ret->newest = (int)slot;
	}
	return 0;
}
