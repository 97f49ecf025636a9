/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record codecs: the bytes of each kind stay what they are, what a single
 * record can be checked for is checked, and truncated or longer bytes are no
 * record.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/checksum.h"
#include "meta/records.h"
#include "tests/unit/meta/golden.h"
#include "tests/unit/random.h"

static struct base_uuid uuid_from(uint8_t first)
{
	struct base_uuid uuid;

	for (unsigned i = 0; i < UUID_BYTES; i++)
		uuid.b[i] = (uint8_t)(first + i);
	return uuid;
}

static struct meta_pool_record a_pool(void)
{
	return (struct meta_pool_record){
		.uuid = uuid_from(0x10),
		.name = "vms",
		.created_s = 0x1112131415161718,
		.commit = 0x2122232425262728,
		.label_floor = 0x2122232425262727,
		.generation = 0x3132333435363738,
		.next_id = 0x4142434445464748,
		.pv_count = 0x51525354,
		.clean = 1,
		.full_policy = 1,
		.hold_limit_s = 0x61626364,
		.free_threshold_percent = 35,
		.overcommit_threshold_percent = 0x7172,
		.owner_uid = 0x81828384,
	};
}

static struct meta_pv_record a_pv(void)
{
	return (struct meta_pv_record){
		.uuid = uuid_from(0x20),
		.path = "/pv/a",
		.size_bytes = GIB,
		.is_file = 1,
		.range_count = 2,
		.ranges = { { 1, 0x1000, MIB }, { 0x2001, 0x100, 512 * MIB } },
	};
}

static struct meta_disk_record a_disk(void)
{
	return (struct meta_disk_record){
		.uuid = uuid_from(0x30),
		.name = "web1",
		.size_bytes = 0x0001020304050600,
		.logical_block_bytes = 4096,
		.kind = META_DISK_THICK,
		.head_layer = 0x1112131415161718,
		.created_s = 0x2122232425262728,
		.modified_s = 0x3132333435363738,
		.trim_above_bytes = 0x0001112131415161,
		.resize_count = 0x5152535455565758,
		.mode = 0640,
		.uid = 0x61626364,
		.gid = 0x71727374,
		.labels = "tier=gold",
	};
}

static struct meta_layer_record a_layer(void)
{
	return (struct meta_layer_record){
		.store_id = 0x1112131415161718,
		.parent = 0x2122232425262728,
		.overlap_bytes = 0x0001020304050000,
		.children = 0x31323334,
		.owner_disk = 0x4142434445464748,
		.fold_cursor = 0x01020304,
		.state = META_LAYER_DEAD,
		.index_records = 0x5152535455565758,
		.chunks_owned = 0x6162636465666768,
		.blocks_valid = 0x7172737475767778,
	};
}

static struct meta_snapshot_record a_snapshot(void)
{
	return (struct meta_snapshot_record){
		.disk = 0x1112131415161718,
		.name = "before",
		.layer = 0x2122232425262728,
		.size_bytes = 0x0001020304050600,
		.created_s = 0x3132333435363738,
	};
}

static uint8_t golden_index[1 + GROUP_LEAVES / 8];
static uint8_t golden_space[1 + SPACE_GROUP_CHUNKS / 8];

static void fill_bitmap(uint8_t *golden, uint8_t *bits)
{
	golden[0] = 1;
	for (unsigned i = 0; i < 1024; i++)
		golden[1 + i] = bits[i] = (uint8_t)(i * 3 + i / 256);
}

/* Decodes bytes and encodes the outcome: what the decoder understood is what the encoder wrote. */
#define RECODE(kind)                                                                                                   \
	static int recode_##kind(const uint8_t *b, size_t n, uint8_t *out, size_t *out_n)                              \
	{                                                                                                              \
		struct meta_##kind##_record rec;                                                                       \
		int rc = meta_##kind##_decode(b, n, &rec);                                                             \
		*out_n = rc == 0 ? meta_##kind##_encode(&rec, out) : 0;                                                \
		return rc;                                                                                             \
	}
RECODE(pool)
RECODE(pv)
RECODE(disk)
RECODE(layer)
RECODE(snapshot)
RECODE(index)
RECODE(space)

struct kind {
	const char *name;
	const uint8_t *golden;
	size_t bytes;
	int (*recode)(const uint8_t *b, size_t n, uint8_t *out, size_t *out_n);
};

static const struct kind kinds[] = {
	{ "pool", golden_pool, sizeof(golden_pool), recode_pool },
	{ "pv", golden_pv, sizeof(golden_pv), recode_pv },
	{ "disk", golden_disk, sizeof(golden_disk), recode_disk },
	{ "layer", golden_layer, sizeof(golden_layer), recode_layer },
	{ "snapshot", golden_snapshot, sizeof(golden_snapshot), recode_snapshot },
	{ "index", golden_index, sizeof(golden_index), recode_index },
	{ "space", golden_space, sizeof(golden_space), recode_space },
};

#define EXPECT_ENCODES(kind, rec)                                                                                      \
	do {                                                                                                           \
		cr_assert_eq(meta_##kind##_encode(&(rec), buf), sizeof(golden_##kind), #kind);                         \
		cr_expect_eq(memcmp(buf, golden_##kind, sizeof(golden_##kind)), 0, #kind);                             \
	} while (0)

Test(meta_records, every_kind_encodes_to_its_golden_bytes)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct meta_pool_record pool = a_pool();
	struct meta_pv_record pv = a_pv();
	struct meta_disk_record disk = a_disk();
	struct meta_layer_record layer = a_layer();
	struct meta_snapshot_record snapshot = a_snapshot();
	struct meta_index_record index;
	struct meta_space_record space;

	fill_bitmap(golden_index, index.present);
	fill_bitmap(golden_space, space.owned);
	EXPECT_ENCODES(pool, pool);
	EXPECT_ENCODES(pv, pv);
	EXPECT_ENCODES(disk, disk);
	EXPECT_ENCODES(layer, layer);
	EXPECT_ENCODES(snapshot, snapshot);
	EXPECT_ENCODES(index, index);
	EXPECT_ENCODES(space, space);
}

static void fill_golden_bitmaps(void)
{
	uint8_t bits[1024];

	fill_bitmap(golden_index, bits);
	fill_bitmap(golden_space, bits);
}

Test(meta_records, every_kind_decodes_its_golden_bytes, .init = fill_golden_bitmaps)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		uint8_t out[DB_VALUE_BYTES_MAX];
		size_t n;

		cr_assert_eq(kinds[i].recode(kinds[i].golden, kinds[i].bytes, out, &n), 0, "%s", kinds[i].name);
		cr_assert_eq(n, kinds[i].bytes, "%s", kinds[i].name);
		cr_expect_eq(memcmp(out, kinds[i].golden, n), 0, "%s", kinds[i].name);
	}
}

Test(meta_records, decode_refuses_every_truncation_and_trailing_bytes, .init = fill_golden_bitmaps)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		const struct kind *kind = &kinds[i];
		uint8_t in[DB_VALUE_BYTES_MAX + 8] = { 0 }, out[DB_VALUE_BYTES_MAX];
		size_t n;

		memcpy(in, kind->golden, kind->bytes);
		for (size_t cut = 0; cut < kind->bytes; cut++)
			cr_expect_eq(kind->recode(in, cut, out, &n), -EBADMSG, "%s cut at %zu", kind->name, cut);
		for (size_t more = 1; more <= 8; more++)
			cr_expect_eq(kind->recode(in, kind->bytes + more, out, &n), -EBADMSG, "%s", kind->name);
	}
}

Test(meta_records, decode_refuses_other_versions, .init = fill_golden_bitmaps)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		uint8_t in[DB_VALUE_BYTES_MAX], out[DB_VALUE_BYTES_MAX];
		size_t n;

		memcpy(in, kinds[i].golden, kinds[i].bytes);
		for (unsigned version = 0; version < 256; version++) {
			in[0] = (uint8_t)version;
			cr_expect_eq(kinds[i].recode(in, kinds[i].bytes, out, &n), version == 1 ? 0 : -EBADMSG,
				     "%s version %u", kinds[i].name, version);
		}
	}
}

/* One field of a golden record made wrong: `count` bytes at `at` become `bytes`. */
struct patch {
	const char *why;
	unsigned kind; /* index into kinds */
	size_t at;
	uint8_t count;
	uint8_t bytes[8];
};

enum { POOL, PV, DISK, LAYER, SNAPSHOT };

#define FF8                                                                                                            \
	{                                                                                                              \
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff                                                         \
	}

/* Offsets as in the tables of docs/format.md, for these golden records (name lengths 3, 5, 4 and 6). */
static const struct patch patches[] = {
	{ "pool: name with a slash", POOL, 19, 1, "/" },
	{ "pool: name with a NUL", POOL, 20, 1, { 0 } },
	{ "pool: name longer than the record", POOL, 17, 2, { 0x7f, 0 } },
	{ "pool: name longer than a name", POOL, 17, 2, { 0x80, 0 } },
	{ "pool: label floor above the commit", POOL, 38, 8, { 0x29, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21 } },
	{ "pool: id counter at 0", POOL, 54, 8, { 0 } },
	{ "pool: clean neither 0 nor 1", POOL, 66, 1, { 2 } },
	{ "pool: unknown full policy", POOL, 67, 1, { 2 } },
	{ "pool: threshold above 100 percent", POOL, 72, 1, { 101 } },
	{ "pv: path with a NUL", PV, 20, 1, { 0 } },
	{ "pv: file neither 0 nor 1", PV, 32, 1, { 2 } },
	{ "pv: no range", PV, 33, 4, { 0 } },
	{ "pv: fewer ranges than bytes", PV, 33, 4, { 1 } },
	{ "pv: more ranges than there may be", PV, 33, 4, { 65 } },
	{ "pv: range at chunk 0", PV, 37, 4, { 0 } },
	{ "pv: range without chunks", PV, 41, 4, { 0 } },
	{ "pv: range inside the label", PV, 45, 8, { 0 } },
	{ "pv: range not on a chunk boundary", PV, 45, 8, { 0, 0x10, 0x10 } },
	{ "pv: range past the end of the pv", PV, 57, 4, { 0x01, 0x20 } },
	{ "pv: range that starts past the end of the pv", PV, 61, 8, { 0, 0, 0, 0x80 } },
	{ "pv: range whose chunk numbers wrap", PV, 53, 4, { 0x01, 0xff, 0xff, 0xff } },
	{ "pv: ranges whose chunks overlap", PV, 53, 4, { 0x00, 0x10, 0, 0 } },
	{ "pv: ranges whose bytes overlap", PV, 61, 8, { 0, 0, 0, 0x10 } },
	{ "disk: empty name", DISK, 17, 2, { 0 } },
	{ "disk: too large", DISK, 23, 8, { 1, 0, 0, 0, 0, 0, 0x10, 0 } },
	{ "disk: block size", DISK, 31, 4, { 0, 4 } },
	{ "disk: unknown kind", DISK, 35, 1, { 3 } },
	{ "disk: no head layer", DISK, 36, 8, { 0 } },
	{ "disk: trim mark past the largest disk", DISK, 60, 8, { 1, 0, 0, 0, 0, 0, 0x10, 0 } },
	{ "disk: mode with more than permissions", DISK, 76, 4, { 0, 0x10 } },
	{ "disk: labels with a NUL", DISK, 90, 1, { 0 } },
	{ "layer: no store", LAYER, 1, 8, { 0 } },
	{ "layer: overlap without a parent", LAYER, 9, 8, { 0 } },
	{ "layer: overlap inside a block", LAYER, 17, 8, { 0, 2 } },
	{ "layer: overlap past the largest disk", LAYER, 17, 8, { 0, 0x10, 0, 0, 0, 0, 0x10 } },
	{ "layer: fold cursor past the largest disk", LAYER, 37, 8, { 1, 0, 0, 0x20 } },
	{ "layer: unknown state", LAYER, 45, 1, { 2 } },
	{ "snapshot: no disk", SNAPSHOT, 1, 8, { 0 } },
	{ "snapshot: name is .", SNAPSHOT, 9, 3, { 1, 0, '.' } },
	{ "snapshot: no layer", SNAPSHOT, 17, 8, { 0 } },
	{ "snapshot: too large", SNAPSHOT, 25, 8, FF8 },
};

Test(meta_records, decode_refuses_each_field_out_of_its_range)
{
	for (size_t i = 0; i < ARRAY_LEN(patches); i++) {
		const struct patch *patch = &patches[i];
		const struct kind *kind = &kinds[patch->kind];
		uint8_t in[DB_VALUE_BYTES_MAX], out[DB_VALUE_BYTES_MAX];
		size_t n;

		memcpy(in, kind->golden, kind->bytes);
		cr_assert_leq(patch->at + patch->count, kind->bytes, "%s", patch->why);
		memcpy(in + patch->at, patch->bytes, patch->count);
		cr_assert_neq(memcmp(in, kind->golden, kind->bytes), 0, "%s changes nothing", patch->why);
		cr_expect_eq(kind->recode(in, kind->bytes, out, &n), -EBADMSG, "%s", patch->why);
	}
}

/* The same places with values at the edge of what is allowed, or the patches above might miss their fields. */
static const struct patch edges[] = {
	{ "pool: label floor at the commit", POOL, 38, 8, { 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21 } },
	{ "pool: id counter at 1", POOL, 54, 8, { 1 } },
	{ "pool: not clean", POOL, 66, 1, { 0 } },
	{ "pool: policy error", POOL, 67, 1, { 0 } },
	{ "pool: threshold at 100 percent", POOL, 72, 1, { 100 } },
	{ "pv: a device", PV, 32, 1, { 0 } },
	{ "pv: range up to the end of the pv", PV, 57, 4, { 0x00, 0x20 } },
	{ "pv: ranges whose chunks touch", PV, 53, 4, { 0x01, 0x10, 0, 0 } },
	{ "pv: ranges whose bytes touch", PV, 61, 8, { 0, 0, 0x10, 0x10 } },
	{ "disk: the largest", DISK, 23, 8, { 0, 0, 0, 0, 0, 0, 0x10, 0 } },
	{ "disk: empty", DISK, 23, 8, { 0 } },
	{ "disk: block size", DISK, 31, 4, { 0, 2 } },
	{ "disk: last kind", DISK, 35, 1, { 2 } },
	{ "disk: no trim mark", DISK, 60, 8, FF8 },
	{ "disk: all permissions", DISK, 76, 4, { 0xff, 0x0f } },
	{ "layer: the largest overlap", LAYER, 17, 8, { 0, 0, 0, 0, 0, 0, 0x10 } },
	{ "layer: the last fold cursor", LAYER, 37, 8, { 0, 0, 0, 0x20 } },
	{ "layer: live", LAYER, 45, 1, { 0 } },
	{ "snapshot: the largest", SNAPSHOT, 25, 8, { 0, 0, 0, 0, 0, 0, 0x10 } },
};

Test(meta_records, decode_takes_each_field_at_its_edge)
{
	for (size_t i = 0; i < ARRAY_LEN(edges); i++) {
		const struct kind *kind = &kinds[edges[i].kind];
		uint8_t in[DB_VALUE_BYTES_MAX], out[DB_VALUE_BYTES_MAX];
		size_t n;

		memcpy(in, kind->golden, kind->bytes);
		memcpy(in + edges[i].at, edges[i].bytes, edges[i].count);
		cr_expect_eq(kind->recode(in, kind->bytes, out, &n), 0, "%s", edges[i].why);
		cr_expect(n == kind->bytes && memcmp(in, out, n) == 0, "%s", edges[i].why);
	}
}

Test(meta_records, what_is_accepted_of_damaged_bytes_is_stable, .init = fill_golden_bitmaps)
{
	uint64_t seed = test_seed(), state = seed;

	for (int round = 0; round < 100000; round++) {
		const struct kind *kind = &kinds[test_random_below(&state, ARRAY_LEN(kinds))];
		uint8_t in[DB_VALUE_BYTES_MAX], out[DB_VALUE_BYTES_MAX];
		size_t n;

		memcpy(in, kind->golden, kind->bytes);
		for (uint64_t hits = 1 + test_random_below(&state, 3); hits > 0; hits--)
			in[test_random_below(&state, kind->bytes)] = (uint8_t)test_random(&state);
		if (kind->recode(in, kind->bytes, out, &n) != 0)
			continue;
		cr_assert_eq(n, kind->bytes, "%s, seed %llu", kind->name, (unsigned long long)seed);
		cr_assert_eq(memcmp(in, out, n), 0, "%s, seed %llu", kind->name, (unsigned long long)seed);
	}
}

Test(meta_records, the_largest_record_of_each_kind_fits)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct meta_pv_record pv = a_pv(), pv_back;
	struct meta_disk_record disk = a_disk(), disk_back;

	memset(pv.path, 'p', sizeof(pv.path) - 1);
	pv.size_bytes = PIB;
	pv.range_count = META_PV_RANGES_MAX;
	for (uint32_t i = 0; i < META_PV_RANGES_MAX; i++)
		pv.ranges[i] = (struct meta_pv_range){ 1 + i, 1, MIB + i * CHUNK_BYTES };
	cr_assert_eq(meta_pv_decode(buf, meta_pv_encode(&pv, buf), &pv_back), 0);
	cr_expect_str_eq(pv_back.path, pv.path);
	cr_expect_eq(memcmp(pv.ranges, pv_back.ranges, sizeof(pv.ranges)), 0);

	memset(disk.name, 'n', NAME_BYTES_MAX);
	memset(disk.labels, 'l', sizeof(disk.labels) - 1);
	cr_assert_eq(meta_disk_decode(buf, meta_disk_encode(&disk, buf), &disk_back), 0);
	cr_expect_str_eq(disk_back.name, disk.name);
	cr_expect_str_eq(disk_back.labels, disk.labels);
}

Test(meta_records, a_name_may_have_127_bytes_and_not_128)
{
	for (size_t n = NAME_BYTES_MAX; n <= NAME_BYTES_MAX + 1; n++) {
		uint8_t in[DB_VALUE_BYTES_MAX] = { 1, 1, [9] = (uint8_t)n, 0 };
		struct meta_snapshot_record rec;

		memset(in + 11, 'n', n);
		in[11 + n] = 1; /* the layer */
		cr_expect_eq(meta_snapshot_decode(in, 35 + n, &rec), n == NAME_BYTES_MAX ? 0 : -EBADMSG);
	}
}

Test(meta_records, a_field_out_of_its_bound_is_never_encoded, .signal = SIGABRT)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct meta_disk_record disk = a_disk();

	disk.logical_block_bytes = 1024;
	meta_disk_encode(&disk, buf);
}

Test(meta_records, kinds_of_disks_have_names)
{
	cr_expect_str_eq(meta_disk_kind_to_text(META_DISK_THIN), "thin");
	cr_expect_str_eq(meta_disk_kind_to_text(META_DISK_THICK), "thick");
	cr_expect_str_eq(meta_disk_kind_to_text(META_DISK_LV), "lv");
	cr_expect_str_eq(meta_disk_kind_to_text(3), "unknown");
}

Test(meta_records, names_are_what_a_file_name_may_be)
{
	char longest[NAME_BYTES_MAX + 1] = { 0 }, longer[NAME_BYTES_MAX + 2] = { 0 };
	struct base_error err = { 0 };

	memset(longest, 'x', NAME_BYTES_MAX);
	memset(longer, 'x', NAME_BYTES_MAX + 1);
	cr_expect_eq(meta_name_check("web1", &err), 0);
	cr_expect_eq(meta_name_check("...", &err), 0);
	cr_expect_eq(meta_name_check(".hidden", &err), 0);
	cr_expect_eq(meta_name_check("mit Umlaut \xc3\xa4", &err), 0);
	cr_expect_eq(meta_name_check(longest, &err), 0);
	cr_expect_eq(meta_name_check(longer, &err), -ENAMETOOLONG);
	cr_expect(strstr(err.text, "127"), "%s", err.text);
	cr_expect_eq(meta_name_check("", &err), -EINVAL);
	cr_expect_eq(meta_name_check(".", &err), -EINVAL);
	cr_expect_eq(meta_name_check("..", &err), -EINVAL);
	cr_expect_eq(meta_name_check("a/b", &err), -EINVAL);
	cr_expect(strstr(err.text, "a/b"), "%s", err.text);
	cr_expect_eq(meta_name_check("/", NULL), -EINVAL);
}

/* --- the label --- */

#define LABEL_CHECKSUM_AT 504

static struct meta_label a_label(void)
{
	return (struct meta_label){
		.pool = uuid_from(0x40),
		.pv = uuid_from(0x60),
		.pv_number = 0x1112131415161718,
		.first_data_byte = 0x0000222324250000,
		.commit = 0x3132333435363738,
	};
}

static void golden_label(uint8_t buf[META_LABEL_BYTES])
{
	memset(buf, 0, META_LABEL_BYTES);
	memcpy(buf, golden_label_head, sizeof(golden_label_head));
	memcpy(buf + 504, golden_label_checksum, 8);
}

/* Puts a right checksum behind what was changed, so that the rules behind the checksum are what is tested. */
static void seal_label(uint8_t buf[META_LABEL_BYTES])
{
	uint64_t sum = base_checksum(buf, 504);

	for (unsigned i = 0; i < 8; i++)
		buf[504 + i] = (uint8_t)(sum >> 8 * i);
}

Test(meta_label, is_these_bytes)
{
	uint8_t golden[META_LABEL_BYTES], buf[META_LABEL_BYTES];
	struct meta_label label = a_label(), back;

	golden_label(golden);
	memset(buf, 0xee, sizeof(buf));
	meta_label_encode(&label, buf);
	cr_expect_eq(memcmp(buf, golden, sizeof(buf)), 0);
	cr_assert_eq(meta_label_decode(golden, &back), 0);
	cr_expect_eq(memcmp(&back, &label, sizeof(label)), 0);
}

Test(meta_label, every_flipped_bit_is_noticed)
{
	uint8_t buf[META_LABEL_BYTES];
	struct meta_label label;

	golden_label(buf);
	for (unsigned bit = 0; bit < 8 * META_LABEL_BYTES; bit++) {
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert_eq(meta_label_decode(buf, &label), bit < 64 ? META_LABEL_NONE : -EBADMSG, "bit %u", bit);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	cr_expect_eq(meta_label_decode(buf, &label), 0);
}

Test(meta_label, a_device_without_the_magic_is_not_ours)
{
	uint8_t buf[META_LABEL_BYTES] = { 0 };
	struct meta_label label;

	cr_expect_eq(meta_label_decode(buf, &label), META_LABEL_NONE);
	memset(buf, 0xff, sizeof(buf));
	cr_expect_eq(meta_label_decode(buf, &label), META_LABEL_NONE);
}

Test(meta_label, decode_refuses_each_broken_rule_behind_a_right_checksum)
{
	static const struct patch broken[] = {
		{ "version 0", 0, 8, 4, { 0 } },
		{ "version 2", 0, 8, 4, { 2 } },
		{ "reserved word in use", 0, 12, 4, { 1 } },
		{ "data inside the label", 0, 56, 8, { 0 } },
		{ "data not on a chunk boundary", 0, 56, 8, { 0, 0x10, 0x10 } },
		{ "first reserved byte in use", 0, 72, 1, { 1 } },
		{ "last reserved byte in use", 0, 503, 1, { 1 } },
		{ "first byte behind the checksum in use", 0, 512, 1, { 1 } },
		{ "last byte in use", 0, 4095, 1, { 1 } },
	};
	uint8_t buf[META_LABEL_BYTES];
	struct meta_label label;

	for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
		golden_label(buf);
		memcpy(buf + broken[i].at, broken[i].bytes, broken[i].count);
		seal_label(buf);
		cr_expect_eq(meta_label_decode(buf, &label), -EBADMSG, "%s", broken[i].why);
	}
	golden_label(buf);
	buf[48] ^= 1; /* the pv number has no rule */
	seal_label(buf);
	cr_expect_eq(meta_label_decode(buf, &label), 0);
}
