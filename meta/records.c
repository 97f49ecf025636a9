/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codecs of the pool's records: structs to bytes and back (docs/format.md).
 *
 * Each kind has three functions: a rule (`..._is_sound`) that says what a
 * single record of the kind may hold, an encoder that asserts the rule, and a
 * decoder that answers -EBADMSG where it does not hold. One rule for both
 * directions means that what we write is what we accept, and the fuzz targets
 * hold us to it: decode(encode(decode(x))) == decode(x).
 *
 * What a rule can't say, because it takes a second record to see it (a parent
 * that exists, counters that add up, chunks owned twice), is left to check.
 * Counters are not bounded here on purpose: they are recounted by check, and a
 * wrong statistic must not make a disk unreadable.
 *
 * An encoding is the version byte and then the fields in the order of the
 * struct, without padding. Decoders read all fields, ask wire_end() whether
 * exactly they were there, then ask the rule; *ret is written only on success.
 *
 * The label of a pv is not a record of LMDB: see records_label.c.
 */
#include <assert.h>
#include <errno.h>

#include "meta/records.h"
#include "meta/wire.h"

_Static_assert(META_PV_PATH_BYTES_MAX <= UINT16_MAX, "a string's length is 16 bits");

static struct wire_out begin(uint8_t buf[DB_VALUE_BYTES_MAX])
{
	struct wire_out out = wire_out_init(buf, DB_VALUE_BYTES_MAX);

	wire_put_u8(&out, META_FORMAT_VERSION);
	return out;
}

static struct wire_in open_record(const uint8_t *b, size_t n)
{
	struct wire_in in = wire_in_init(b, n);

	if (wire_get_u8(&in) != META_FORMAT_VERSION)
		in.bad = true;
	return in;
}

static void put_uuid(struct wire_out *out, struct base_uuid uuid)
{
	wire_put_bytes(out, uuid.b, UUID_BYTES);
}

static struct base_uuid get_uuid(struct wire_in *in)
{
	struct base_uuid uuid;

	wire_get_bytes(in, uuid.b, UUID_BYTES);
	return uuid;
}

/* 0, or -EINVAL / -ENAMETOOLONG. Looks at no more than room bytes, so it may be asked about a field of a record. */
static int name_rule(const char *name, size_t room)
{
	size_t length = strnlen(name, room);

	if (length > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (length == 0 || memchr(name, '/', length))
		return -EINVAL;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	return 0;
}

static bool name_is_sound(const char name[NAME_BYTES_MAX + 1])
{
	return name_rule(name, NAME_BYTES_MAX + 1) == 0;
}

int meta_name_check(const char *name, struct base_error *err)
{
	switch (name_rule(name, NAME_BYTES_MAX + 1)) {
	case 0:
		return 0;
	case -ENAMETOOLONG:
		return base_error_set(err, -ENAMETOOLONG,
				      "the name '%.40s...' is too long: a name has at most %d bytes", name,
				      NAME_BYTES_MAX);
	}
	if (name[0] == '\0')
		return base_error_set(err, -EINVAL, "the name is empty: a name has 1 to %d bytes", NAME_BYTES_MAX);
	return base_error_set(err, -EINVAL, "'%s' can't be a name: it must work as a file name, so no '/', '.' or '..'",
			      name);
}

static bool pool_is_sound(const struct meta_pool_record *rec)
{
	return name_is_sound(rec->name) && rec->label_floor <= rec->commit && rec->next_id > 0 && rec->clean <= 1 &&
	       rec->full_policy <= 1 && rec->free_threshold_percent <= 100;
}

size_t meta_pool_encode(const struct meta_pool_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX])
{
	struct wire_out out = begin(buf);

	assert(pool_is_sound(rec));
	put_uuid(&out, rec->uuid);
	wire_put_string(&out, rec->name);
	wire_put_u64(&out, rec->created_s);
	wire_put_u64(&out, rec->commit);
	wire_put_u64(&out, rec->label_floor);
	wire_put_u64(&out, rec->generation);
	wire_put_u64(&out, rec->next_id);
	wire_put_u32(&out, rec->pv_count);
	wire_put_u8(&out, rec->clean);
	wire_put_u8(&out, rec->full_policy);
	wire_put_u32(&out, rec->hold_limit_s);
	wire_put_u8(&out, rec->free_threshold_percent);
	wire_put_u16(&out, rec->overcommit_threshold_percent);
	wire_put_u32(&out, rec->owner_uid);
	return wire_length(&out);
}

int meta_pool_decode(const uint8_t *b, size_t n, struct meta_pool_record *ret)
{
	struct wire_in in = open_record(b, n);
	struct meta_pool_record rec = { 0 };

	rec.uuid = get_uuid(&in);
	wire_get_string(&in, rec.name, sizeof(rec.name));
	rec.created_s = wire_get_u64(&in);
	rec.commit = wire_get_u64(&in);
	rec.label_floor = wire_get_u64(&in);
	rec.generation = wire_get_u64(&in);
	rec.next_id = wire_get_u64(&in);
	rec.pv_count = wire_get_u32(&in);
	rec.clean = wire_get_u8(&in);
	rec.full_policy = wire_get_u8(&in);
	rec.hold_limit_s = wire_get_u32(&in);
	rec.free_threshold_percent = wire_get_u8(&in);
	rec.overcommit_threshold_percent = wire_get_u16(&in);
	rec.owner_uid = wire_get_u32(&in);
	if (!wire_end(&in) || !pool_is_sound(&rec))
		return -EBADMSG;
	*ret = rec;
	return 0;
}

static bool pv_range_is_sound(const struct meta_pv_record *rec, const struct meta_pv_range *range)
{
	if (range->first_chunk == 0 || range->chunks == 0)
		return false;
	if ((uint64_t)range->first_chunk + range->chunks > UINT64_C(1) << 32)
		return false;
	if (range->first_byte < META_PV_FIRST_DATA_BYTE || range->first_byte % CHUNK_BYTES != 0)
		return false;
	return range->first_byte <= rec->size_bytes &&
	       range->chunks * CHUNK_BYTES <= rec->size_bytes - range->first_byte;
}

/* Each range is right in itself and lies after the one before it, in chunks and in bytes. */
static bool pv_ranges_are_sound(const struct meta_pv_record *rec)
{
	for (uint32_t i = 0; i < rec->range_count; i++) {
		const struct meta_pv_range *range = &rec->ranges[i];
		const struct meta_pv_range *before = range - 1;

		if (!pv_range_is_sound(rec, range))
			return false;
		if (i == 0)
			continue;
		if (range->first_chunk < (uint64_t)before->first_chunk + before->chunks ||
		    range->first_byte < before->first_byte + before->chunks * CHUNK_BYTES)
			return false;
	}
	return true;
}

static bool pv_is_sound(const struct meta_pv_record *rec)
{
	size_t length = strnlen(rec->path, sizeof(rec->path));

	return length > 0 && length < sizeof(rec->path) && rec->is_file <= 1 && rec->range_count > 0 &&
	       rec->range_count <= META_PV_RANGES_MAX && pv_ranges_are_sound(rec);
}

size_t meta_pv_encode(const struct meta_pv_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX])
{
	struct wire_out out = begin(buf);

	assert(pv_is_sound(rec));
	put_uuid(&out, rec->uuid);
	wire_put_string(&out, rec->path);
	wire_put_u64(&out, rec->size_bytes);
	wire_put_u8(&out, rec->is_file);
	wire_put_u32(&out, rec->range_count);
	for (uint32_t i = 0; i < rec->range_count; i++) {
		wire_put_u32(&out, rec->ranges[i].first_chunk);
		wire_put_u32(&out, rec->ranges[i].chunks);
		wire_put_u64(&out, rec->ranges[i].first_byte);
	}
	return wire_length(&out);
}

int meta_pv_decode(const uint8_t *b, size_t n, struct meta_pv_record *ret)
{
	struct wire_in in = open_record(b, n);
	struct meta_pv_record rec = { 0 };

	rec.uuid = get_uuid(&in);
	wire_get_string(&in, rec.path, sizeof(rec.path));
	rec.size_bytes = wire_get_u64(&in);
	rec.is_file = wire_get_u8(&in);
	rec.range_count = wire_get_u32(&in);
	if (rec.range_count > META_PV_RANGES_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < rec.range_count; i++) {
		rec.ranges[i].first_chunk = wire_get_u32(&in);
		rec.ranges[i].chunks = wire_get_u32(&in);
		rec.ranges[i].first_byte = wire_get_u64(&in);
	}
	if (!wire_end(&in) || !pv_is_sound(&rec))
		return -EBADMSG;
	*ret = rec;
	return 0;
}

const char *meta_disk_kind_to_text(uint8_t kind)
{
	switch (kind) {
	case META_DISK_THIN:
		return "thin";
	case META_DISK_THICK:
		return "thick";
	case META_DISK_LV:
		return "lv";
	}
	return "unknown";
}

static bool disk_is_sound(const struct meta_disk_record *rec)
{
	if (!name_is_sound(rec->name) || strnlen(rec->labels, sizeof(rec->labels)) == sizeof(rec->labels))
		return false;
	if (rec->logical_block_bytes != 512 && rec->logical_block_bytes != 4096)
		return false;
	if (rec->size_bytes > DISK_BYTES_MAX)
		return false;
	if (rec->trim_above_bytes > DISK_BYTES_MAX && rec->trim_above_bytes != UINT64_MAX)
		return false;
	return rec->kind <= META_DISK_LV && rec->head_layer != 0 && rec->mode <= 07777;
}

size_t meta_disk_encode(const struct meta_disk_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX])
{
	struct wire_out out = begin(buf);

	assert(disk_is_sound(rec));
	put_uuid(&out, rec->uuid);
	wire_put_string(&out, rec->name);
	wire_put_u64(&out, rec->size_bytes);
	wire_put_u32(&out, rec->logical_block_bytes);
	wire_put_u8(&out, rec->kind);
	wire_put_u64(&out, rec->head_layer);
	wire_put_u64(&out, rec->created_s);
	wire_put_u64(&out, rec->modified_s);
	wire_put_u64(&out, rec->trim_above_bytes);
	wire_put_u64(&out, rec->resize_count);
	wire_put_u32(&out, rec->mode);
	wire_put_u32(&out, rec->uid);
	wire_put_u32(&out, rec->gid);
	wire_put_string(&out, rec->labels);
	return wire_length(&out);
}

int meta_disk_decode(const uint8_t *b, size_t n, struct meta_disk_record *ret)
{
	struct wire_in in = open_record(b, n);
	struct meta_disk_record rec = { 0 };

	rec.uuid = get_uuid(&in);
	wire_get_string(&in, rec.name, sizeof(rec.name));
	rec.size_bytes = wire_get_u64(&in);
	rec.logical_block_bytes = wire_get_u32(&in);
	rec.kind = wire_get_u8(&in);
	rec.head_layer = wire_get_u64(&in);
	rec.created_s = wire_get_u64(&in);
	rec.modified_s = wire_get_u64(&in);
	rec.trim_above_bytes = wire_get_u64(&in);
	rec.resize_count = wire_get_u64(&in);
	rec.mode = wire_get_u32(&in);
	rec.uid = wire_get_u32(&in);
	rec.gid = wire_get_u32(&in);
	wire_get_string(&in, rec.labels, sizeof(rec.labels));
	if (!wire_end(&in) || !disk_is_sound(&rec))
		return -EBADMSG;
	*ret = rec;
	return 0;
}

static bool layer_is_sound(const struct meta_layer_record *rec)
{
	if (rec->overlap_bytes > DISK_BYTES_MAX || rec->overlap_bytes % BLOCK_BYTES != 0)
		return false;
	if (rec->parent == 0 && rec->overlap_bytes != 0)
		return false;
	return rec->store_id != 0 && rec->fold_cursor <= DISK_BYTES_MAX / LEAF_BYTES && rec->state <= META_LAYER_DEAD;
}

size_t meta_layer_encode(const struct meta_layer_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX])
{
	struct wire_out out = begin(buf);

	assert(layer_is_sound(rec));
	wire_put_u64(&out, rec->store_id);
	wire_put_u64(&out, rec->parent);
	wire_put_u64(&out, rec->overlap_bytes);
	wire_put_u32(&out, rec->children);
	wire_put_u64(&out, rec->owner_disk);
	wire_put_u64(&out, rec->fold_cursor);
	wire_put_u8(&out, rec->state);
	wire_put_u64(&out, rec->index_records);
	wire_put_u64(&out, rec->chunks_owned);
	wire_put_u64(&out, rec->blocks_valid);
	return wire_length(&out);
}

int meta_layer_decode(const uint8_t *b, size_t n, struct meta_layer_record *ret)
{
	struct wire_in in = open_record(b, n);
	struct meta_layer_record rec = { 0 };

	rec.store_id = wire_get_u64(&in);
	rec.parent = wire_get_u64(&in);
	rec.overlap_bytes = wire_get_u64(&in);
	rec.children = wire_get_u32(&in);
	rec.owner_disk = wire_get_u64(&in);
	rec.fold_cursor = wire_get_u64(&in);
	rec.state = wire_get_u8(&in);
	rec.index_records = wire_get_u64(&in);
	rec.chunks_owned = wire_get_u64(&in);
	rec.blocks_valid = wire_get_u64(&in);
	if (!wire_end(&in) || !layer_is_sound(&rec))
		return -EBADMSG;
	*ret = rec;
	return 0;
}

static bool snapshot_is_sound(const struct meta_snapshot_record *rec)
{
	return name_is_sound(rec->name) && rec->disk != 0 && rec->layer != 0 && rec->size_bytes <= DISK_BYTES_MAX;
}

size_t meta_snapshot_encode(const struct meta_snapshot_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX])
{
	struct wire_out out = begin(buf);

	assert(snapshot_is_sound(rec));
	wire_put_u64(&out, rec->disk);
	wire_put_string(&out, rec->name);
	wire_put_u64(&out, rec->layer);
	wire_put_u64(&out, rec->size_bytes);
	wire_put_u64(&out, rec->created_s);
	return wire_length(&out);
}

int meta_snapshot_decode(const uint8_t *b, size_t n, struct meta_snapshot_record *ret)
{
	struct wire_in in = open_record(b, n);
	struct meta_snapshot_record rec = { 0 };

	rec.disk = wire_get_u64(&in);
	wire_get_string(&in, rec.name, sizeof(rec.name));
	rec.layer = wire_get_u64(&in);
	rec.size_bytes = wire_get_u64(&in);
	rec.created_s = wire_get_u64(&in);
	if (!wire_end(&in) || !snapshot_is_sound(&rec))
		return -EBADMSG;
	*ret = rec;
	return 0;
}

/* Index and space records are a version byte and a bitmap: any bit pattern is one. */
static size_t encode_bitmap(const uint8_t *bits, size_t bytes, uint8_t buf[DB_VALUE_BYTES_MAX])
{
	struct wire_out out = begin(buf);

	wire_put_bytes(&out, bits, bytes);
	return wire_length(&out);
}

static int decode_bitmap(const uint8_t *b, size_t n, uint8_t *ret, size_t bytes)
{
	struct wire_in in = open_record(b, n);

	if (in.bad || in.left != bytes)
		return -EBADMSG;
	wire_get_bytes(&in, ret, bytes);
	return 0;
}

size_t meta_index_encode(const struct meta_index_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX])
{
	return encode_bitmap(rec->present, sizeof(rec->present), buf);
}

int meta_index_decode(const uint8_t *b, size_t n, struct meta_index_record *ret)
{
	return decode_bitmap(b, n, ret->present, sizeof(ret->present));
}

size_t meta_space_encode(const struct meta_space_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX])
{
	return encode_bitmap(rec->owned, sizeof(rec->owned), buf);
}

int meta_space_decode(const uint8_t *b, size_t n, struct meta_space_record *ret)
{
	return decode_bitmap(b, n, ret->owned, sizeof(ret->owned));
}
