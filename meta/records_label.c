/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of a pv's label: what stands in the first 4,096 bytes of each
 * physical volume (docs/format.md).
 *
 * A label says whose the device is (pool, pv, number) and how young its data
 * is (commit), so that a foreign device, a swapped one, and metadata of another
 * day are noticed before anything is written. Unlike a record of LMDB it has
 * fixed offsets and its checksum in itself, in the last 8 bytes of the first
 * sector, over all that stands before; the rest of the 4,096 bytes is zero.
 *
 * The magic alone decides whether a device is one of ours: without it the
 * answer is META_LABEL_NONE and the device may be somebody else's. With it,
 * everything has to be right, reserved bytes included, or it is a damaged
 * label (-EBADMSG), never "not ours": mksp must not overwrite a pv because one
 * bit of it went bad.
 */
#include <assert.h>
#include <errno.h>

#include "base/checksum.h"
#include "meta/records.h"
#include "meta/wire.h"

/* All that is not zero stands in the first 512 bytes: a label is rewritten in place after each commit, and a power cut
 * may tear it between any two sectors. */
#define CHECKSUM_AT (512 - 8)
#define CHECKSUM_END 512

static const char magic[8] = "BDFSPV1";

static bool label_is_sound(const struct meta_label *label)
{
	return label->first_data_byte >= META_LABEL_BYTES && label->first_data_byte % CHUNK_BYTES == 0;
}

void meta_label_encode(const struct meta_label *label, uint8_t buf[META_LABEL_BYTES])
{
	struct wire_out out = wire_out_init(buf, META_LABEL_BYTES);

	assert(label_is_sound(label));
	memset(buf, 0, META_LABEL_BYTES);
	wire_put_bytes(&out, magic, sizeof(magic));
	wire_put_u32(&out, META_FORMAT_VERSION);
	wire_put_u32(&out, 0); /* reserved: aligns what follows */
	wire_put_bytes(&out, label->pool.b, UUID_BYTES);
	wire_put_bytes(&out, label->pv.b, UUID_BYTES);
	wire_put_u64(&out, label->pv_number);
	wire_put_u64(&out, label->first_data_byte);
	wire_put_u64(&out, label->commit);
	out.at = buf + CHECKSUM_AT;
	wire_put_u64(&out, base_checksum(buf, CHECKSUM_AT));
}

static bool all_zero(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

int meta_label_decode(const uint8_t buf[META_LABEL_BYTES], struct meta_label *ret)
{
	struct wire_in in = wire_in_init(buf, CHECKSUM_AT);
	struct wire_in tail = wire_in_init(buf + CHECKSUM_AT, 8);
	struct meta_label label;
	char found[sizeof(magic)];

	wire_get_bytes(&in, found, sizeof(found));
	if (memcmp(found, magic, sizeof(magic)) != 0)
		return META_LABEL_NONE;
	if (wire_get_u64(&tail) != base_checksum(buf, CHECKSUM_AT))
		return -EBADMSG;
	if (wire_get_u32(&in) != META_FORMAT_VERSION || wire_get_u32(&in) != 0)
		return -EBADMSG;
	wire_get_bytes(&in, label.pool.b, UUID_BYTES);
	wire_get_bytes(&in, label.pv.b, UUID_BYTES);
	label.pv_number = wire_get_u64(&in);
	label.first_data_byte = wire_get_u64(&in);
	label.commit = wire_get_u64(&in);
	if (!all_zero(in.at, in.left) || !all_zero(buf + CHECKSUM_END, META_LABEL_BYTES - CHECKSUM_END))
		return -EBADMSG;
	if (!label_is_sound(&label))
		return -EBADMSG;
	*ret = label;
	return 0;
}
