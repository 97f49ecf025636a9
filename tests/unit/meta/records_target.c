/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adapters and VTDs as bytes: they stay what they are, what is out of range is no
 * record, and LUNs have VIOS's shape.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "meta/records_target.h"
#include "tests/unit/random.h"

/* Put together from docs/format.md 4.8 and 4.9, not by our encoders. */
/* clang-format off */
static const uint8_t golden_adapter[] = {
	0x01, 0x02, 0x05, 0x00, '/', 'r', 'u', 'n', '/', 0x03, 0x00, 'w', 'e', 'b',
	0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
};
static const uint8_t golden_vtd[] = {
	0x01, 0x06, 0x00, 'v', 'h', 'o', 's', 't', '0', 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x82,
	0x00, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, 0x00, 0x00, 0x01, 0x00,
	0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
};
static const uint8_t golden_raw[] = {
	0x01, 0x04, 0x00, 'l', 'i', 'o', '0', 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x81,
	0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00,
	'/', 'd', 'e', 'v', '/', 's', 'd', 'b', 0x06, 0x00, 's', 'e', 'r', ' ', 'X', '1', 0x00, 0x01,
	0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
};
static const uint8_t golden_snapshot[] = {
	0x01, 0x04, 0x00, 'l', 'o', 'o', 'p', 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x81,
	0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 36, 0x00,
	'0', '0', '1', '1', '2', '2', '3', '3', '-', '4', '4', '5', '5', '-', '4', '6', '7', '7', '-',
	'8', '8', '9', '9', '-', 'a', 'a', 'b', 'b', 'c', 'c', 'd', 'd', 'e', 'e', 'f', 'f', 0x01, 0x01,
	0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
};
/* clang-format on */

static int recode_adapter(const uint8_t *b, size_t n, uint8_t *out, size_t *out_n)
{
	struct meta_adapter_record rec;
	int rc = meta_adapter_decode(b, n, &rec);

	*out_n = rc == 0 ? meta_adapter_encode(&rec, out) : 0;
	return rc;
}

static int recode_vtd(const uint8_t *b, size_t n, uint8_t *out, size_t *out_n)
{
	struct meta_vtd_record rec;
	int rc = meta_vtd_decode(b, n, &rec);

	*out_n = rc == 0 ? meta_vtd_encode(&rec, out) : 0;
	return rc;
}

static const struct kind {
	const char *name;
	const uint8_t *golden;
	size_t bytes;
	int (*recode)(const uint8_t *b, size_t n, uint8_t *out, size_t *out_n);
} kinds[] = {
	{ "adapter", golden_adapter, sizeof(golden_adapter), recode_adapter },
	{ "vtd", golden_vtd, sizeof(golden_vtd), recode_vtd },
	{ "vtd of a device", golden_raw, sizeof(golden_raw), recode_vtd },
	{ "vtd of a snapshot", golden_snapshot, sizeof(golden_snapshot), recode_vtd },
};

Test(meta_records_target, golden_bytes_decode_to_their_fields)
{
	struct meta_adapter_record adapter;
	struct meta_vtd_record vtd;

	cr_assert_eq(meta_adapter_decode(golden_adapter, sizeof(golden_adapter), &adapter), 0);
	cr_expect_eq(adapter.transport, META_TRANSPORT_LIO);
	cr_expect_str_eq(adapter.physloc, "/run/");
	cr_expect_str_eq(adapter.client, "web");
	cr_expect_eq(adapter.created_s, 0x1112131415161718);
	cr_assert_eq(meta_vtd_decode(golden_vtd, sizeof(golden_vtd), &vtd), 0);
	cr_expect_str_eq(vtd.adapter, "vhost0");
	cr_expect_eq(vtd.lun, 0x8200000000000000);
	cr_expect_eq(vtd.disk, 0x2122232425262728);
	cr_expect(vtd.read_only && !vtd.shared);
	cr_assert_eq(meta_vtd_decode(golden_raw, sizeof(golden_raw), &vtd), 0);
	cr_expect_eq(vtd.backing, META_BACKING_DEVICE);
	cr_expect_str_eq(vtd.path, "/dev/sdb");
	cr_expect_str_eq(vtd.identity, "ser X1");
	cr_expect(!vtd.read_only && vtd.shared);
}

Test(meta_records_target, what_is_decoded_is_encoded_to_the_same_bytes_and_nothing_else_is_a_record)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		uint8_t in[DB_VALUE_BYTES_MAX] = { 0 }, out[DB_VALUE_BYTES_MAX];
		size_t n;

		memcpy(in, kinds[i].golden, kinds[i].bytes);
		cr_assert_eq(kinds[i].recode(in, kinds[i].bytes, out, &n), 0, "%s", kinds[i].name);
		cr_expect(n == kinds[i].bytes && memcmp(in, out, n) == 0, "%s", kinds[i].name);
		for (size_t cut = 0; cut < kinds[i].bytes; cut++)
			cr_expect_eq(kinds[i].recode(in, cut, out, &n), -EBADMSG, "%s at %zu", kinds[i].name, cut);
		cr_expect_eq(kinds[i].recode(in, kinds[i].bytes + 1, out, &n), -EBADMSG, "%s", kinds[i].name);
		in[0] = 2;
		cr_expect_eq(kinds[i].recode(in, kinds[i].bytes, out, &n), -EBADMSG, "%s", kinds[i].name);
	}
}

static const struct patch {
	const char *why;
	unsigned kind; /* index into kinds */
	size_t at;
	uint8_t byte;
} patches[] = {
	{ "unknown transport", 0, 1, 3 },
	{ "a line break in the location", 0, 5, '\n' },
	{ "a line break in the client", 0, 12, '\n' },
	{ "a slash in the adapter's name", 1, 4, '/' },
	{ "an adapter's name that starts with a dot", 1, 3, '.' },
	{ "an adapter's name with a colon", 1, 4, ':' },
	{ "a LUN of another addressing", 1, 16, 0x41 },
	{ "a LUN with bits below", 1, 10, 1 },
	{ "LUN 0", 1, 16, 0x80 },
	{ "a device without a path", 1, 17, 1 },
	{ "unknown backing", 2, 15, 3 },
	{ "a path of a disk", 2, 15, 0 },
	{ "a relative path", 2, 26, 'x' },
	{ "a line break in the path", 2, 28, '\n' },
	{ "a number beside a path", 2, 16, 1 },
	{ "a line break in the identity", 2, 38, '\n' },
	{ "a device without an identity", 2, 34, 0 },
	{ "read-only neither 0 nor 1", 1, 28, 2 },
	{ "shared neither 0 nor 1", 1, 29, 2 },
};

Test(meta_records_target, decode_refuses_each_field_out_of_its_range)
{
	for (size_t i = 0; i < ARRAY_LEN(patches); i++) {
		const struct kind *kind = &kinds[patches[i].kind];
		uint8_t in[DB_VALUE_BYTES_MAX], out[DB_VALUE_BYTES_MAX];
		size_t n;

		memcpy(in, kind->golden, kind->bytes);
		cr_assert_neq(in[patches[i].at], patches[i].byte, "%s changes nothing", patches[i].why);
		in[patches[i].at] = patches[i].byte;
		cr_expect_eq(kind->recode(in, kind->bytes, out, &n), -EBADMSG, "%s", patches[i].why);
	}
}

Test(meta_records_target, a_snapshot_is_named_by_its_uuid_and_mapped_read_only_and_shared_or_not_at_all)
{
	const size_t read_only = sizeof(golden_snapshot) - 10, text = 28;
	uint8_t bytes[sizeof(golden_snapshot)];
	struct meta_vtd_record vtd;

	cr_assert_eq(meta_vtd_decode(golden_snapshot, sizeof(golden_snapshot), &vtd), 0);
	cr_expect_eq(vtd.backing, META_BACKING_SNAPSHOT);
	cr_expect_str_eq(vtd.identity, "00112233-4455-4677-8899-aabbccddeeff");
	cr_expect(vtd.read_only && vtd.shared && vtd.disk == 0 && vtd.path[0] == '\0');
	static const struct {
		size_t at;
		uint8_t value;
	} bad[] = { { read_only, 0 }, { read_only + 1, 0 }, { text, 'x' }, { text + 35, 'F' }, { 16, 1 }, { 15, 4 } };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		memcpy(bytes, golden_snapshot, sizeof(bytes));
		bytes[bad[i].at] = bad[i].value;
		cr_expect_eq(meta_vtd_decode(bytes, sizeof(bytes), &vtd), -EBADMSG, "byte %zu", bad[i].at);
	}
}

Test(meta_records_target, what_is_accepted_of_damaged_bytes_is_stable)
{
	uint64_t seed = test_seed(), state = seed;

	for (int round = 0; round < 50000; round++) {
		const struct kind *kind = &kinds[test_random_below(&state, ARRAY_LEN(kinds))];
		uint8_t in[DB_VALUE_BYTES_MAX], out[DB_VALUE_BYTES_MAX];
		size_t n;

		memcpy(in, kind->golden, kind->bytes);
		in[test_random_below(&state, kind->bytes)] = (uint8_t)test_random(&state);
		if (kind->recode(in, kind->bytes, out, &n) == 0)
			cr_assert(n == kind->bytes && memcmp(in, out, n) == 0, "%s, seed %llu", kind->name,
				  (unsigned long long)seed);
	}
}

Test(meta_records_target, the_largest_records_fit)
{
	struct meta_adapter_record adapter = { .transport = META_TRANSPORT_LIO };
	struct meta_vtd_record vtd = { .lun = meta_lun_of_index(1), .backing = META_BACKING_FILE }, vtd_back;
	uint8_t buf[DB_VALUE_BYTES_MAX];

	memset(adapter.physloc, 'p', META_PHYSLOC_BYTES_MAX);
	memset(adapter.client, 'c', META_CLIENT_BYTES_MAX);
	cr_assert_eq(meta_adapter_decode(buf, meta_adapter_encode(&adapter, buf), &adapter), 0);
	memset(vtd.adapter, 'a', META_DEVICE_NAME_BYTES_MAX);
	memset(vtd.path, '/', META_BACKING_PATH_BYTES_MAX);
	memset(vtd.identity, 'i', META_IDENTITY_BYTES_MAX);
	cr_assert_eq(meta_vtd_decode(buf, meta_vtd_encode(&vtd, buf), &vtd_back), 0);
	cr_expect_str_eq(vtd_back.path, vtd.path);
	cr_expect_str_eq(vtd_back.identity, vtd.identity);
}

Test(meta_records_target, luns_count_as_vios_counts_and_none_comes_twice)
{
	cr_expect_eq(meta_lun_of_index(1), 0x8100000000000000);
	cr_expect_eq(meta_lun_of_index(2), 0x8200000000000000);
	cr_expect_eq(meta_lun_of_index(63), 0xbf00000000000000);
	cr_expect_eq(meta_lun_of_index(64), 0x8001000000000000);
	for (uint32_t i = 1; i < META_LUN_COUNT; i++)
		cr_assert_eq(meta_lun_to_index(meta_lun_of_index(i)), i);
	cr_expect_eq(meta_lun_to_index(0), 0);
	cr_expect_eq(meta_lun_to_index(UINT64_MAX), 0);
	cr_expect_eq(meta_lun_to_index(0x0001000000000000), 0);
}

Test(meta_records_target, names_of_devices_are_safe_in_paths_and_lists)
{
	char longest[META_DEVICE_NAME_BYTES_MAX + 2] = { 0 };
	struct base_error err = { 0 };

	memset(longest, 'x', META_DEVICE_NAME_BYTES_MAX);
	cr_expect_eq(meta_device_name_check("vhost0", &err), 0);
	cr_expect_eq(meta_device_name_check("Web_1.root-a", &err), 0);
	cr_expect_eq(meta_device_name_check(longest, &err), 0);
	longest[META_DEVICE_NAME_BYTES_MAX] = 'x';
	cr_expect_eq(meta_device_name_check(longest, &err), -ENAMETOOLONG);
	static const char *const bad[] = { "", ".", "..", "-x", "_x", "a/b", "a b", "a:b", "a\nb", "\xc3\xa4" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(meta_device_name_check(bad[i], &err), -EINVAL, "%s", bad[i]);
}
