/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check makes of records that are damaged: of each kind, with a flipped
 * bit, with a right checksum over nonsense, and under a key that none has. Each
 * is one finding, and nothing that hangs on it is guessed at. Most such pools
 * can't be opened.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/meta/check_rig.h"

static void setup(void)
{
	uint8_t uuid[UUID_BYTES] = { 9 }, buf[DB_VALUE_BYTES_MAX];

	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
	/* Of the kinds that the rig's pool has no records of, one each. */
	struct rig_disk a = rig_disk("a");
	struct meta_layer_record frozen = { .store_id = rig_new_id() };
	struct meta_snapshot_record snapshot = { .disk = a.number, .name = "old", .layer = rig_new_id() };
	rig_put_layer(snapshot.layer, &frozen);
	rig_put(DB_SNAPSHOT, db_key_bytes(uuid, sizeof(uuid)), buf, meta_snapshot_encode(&snapshot, buf));
	struct meta_adapter_record adapter = { .transport = META_TRANSPORT_LOOP };
	struct meta_vtd_record vtd = { .adapter = "vhost0", .lun = meta_lun_of_index(1), .disk = a.number };
	rig_put(DB_ADAPTER, db_key_bytes("vhost0", 6), buf, meta_adapter_encode(&adapter, buf));
	rig_put(DB_VTD, db_key_bytes("vtd0", 4), buf, meta_vtd_encode(&vtd, buf));
}

TestSuite(meta_check_bad, .init = setup, .fini = rig_remove_dir, .timeout = 60);

static void expect_bad(enum meta_check_kind what, enum db_kind kind)
{
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_only(what, 1), "database %s", db_kind_to_text(kind));
	cr_expect_eq(rig_report.findings[0].place.database, kind);
	for (int other = 0; other < DB_KINDS; other++) {
		cr_expect_eq(rig_report.bad_checksum[other], what == META_CHECK_BAD_CHECKSUM && other == (int)kind);
		cr_expect_eq(rig_report.bad_content[other], what == META_CHECK_BAD_CONTENT && other == (int)kind);
	}
}

static void expect_sound(void)
{
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_nothing());
	cr_expect_eq(rig_report.not_judged, 0);
}

Test(meta_check_bad, a_flipped_bit_in_any_record_is_found_and_is_all_that_is_found)
{
	unsigned tried = 0;

	expect_sound();
	for (int kind = 0; kind < DB_KINDS; kind++) {
		for (unsigned n = 0; rig_flip_bit((enum db_kind)kind, n, n % 2); n++, tried++) {
			expect_bad(META_CHECK_BAD_CHECKSUM, (enum db_kind)kind);
			cr_assert(rig_flip_bit((enum db_kind)kind, n, n % 2)); /* back */
		}
	}
	expect_sound();
	cr_expect_eq(tried, 20);
}

struct planted {
	enum db_kind kind;
	struct db_key key;
};

static unsigned list_records(struct planted *ret)
{
	struct rig_disk a = rig_disk("a"), b = rig_disk("b");
	uint8_t uuid[UUID_BYTES] = { 9 };
	struct planted all[] = {
		{ DB_POOL, db_key_bytes("pool", 4) },
		{ DB_PV, db_key_u64(0) },
		{ DB_DISK, db_key_u64(a.number) },
		{ DB_DISK, db_key_u64(b.number) },
		{ DB_LAYER, db_key_u64(a.rec.head_layer) },
		{ DB_SNAPSHOT, db_key_bytes(uuid, sizeof(uuid)) },
		{ DB_INDEX, db_key_u64_u64(a.layer.store_id, 1) },
		{ DB_MAP, db_key_u64_u64(a.layer.store_id, 0) },
		{ DB_MAP, db_key_u64_u64(b.layer.store_id, 0) },
		{ DB_SPACE, db_key_u64(0) },
		{ DB_ADAPTER, db_key_bytes("vhost0", 6) },
		{ DB_VTD, db_key_bytes("vtd0", 4) },
	};

	memcpy(ret, all, sizeof(all));
	return ARRAY_LEN(all);
}

Test(meta_check_bad, a_record_that_no_encoder_writes_is_found_and_is_all_that_is_found)
{
	struct planted records[16];
	struct db_value value;
	unsigned count = list_records(records);

	for (unsigned i = 0; i < count; i++) {
		rig_get(records[i].kind, records[i].key, &value);
		rig_put(records[i].kind, records[i].key, "\x7fnonsense", 9);
		expect_bad(META_CHECK_BAD_CONTENT, records[i].kind);
		rig_put(records[i].kind, records[i].key, value.b, value.bytes);
	}
	expect_sound();
}

Test(meta_check_bad, a_record_under_a_key_that_none_has_is_found)
{
	static const enum db_kind kinds[] = { DB_POOL,     DB_PV,    DB_DISK, DB_LAYER,   DB_SNAPSHOT,
					      DB_INDEX,    DB_MAP,   DB_SPACE, DB_ADAPTER, DB_VTD };
	/* Before, between and after the right ones. */
	struct db_key keys[] = { db_key_bytes("\0", 1), db_key_bytes("\0\0\0\0\0\0\0\3\1", 9),
				 db_key_bytes("~~~", 3) };

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		for (size_t j = 0; j < ARRAY_LEN(keys); j++) {
			rig_put(kinds[i], keys[j], "?", 1);
			expect_bad(META_CHECK_BAD_CONTENT, kinds[i]);
			rig_del(kinds[i], keys[j]);
		}
	}
	expect_sound();
}

Test(meta_check_bad, places_past_the_largest_disk_and_the_largest_pool_are_found)
{
	struct rig_disk a = rig_disk("a");
	struct planted wrong[] = {
		{ DB_MAP, db_key_u64_u64(a.layer.store_id, DISK_BYTES_MAX / LEAF_BYTES) },
		{ DB_MAP, db_key_u64_u64(a.layer.store_id, UINT64_MAX) },
		{ DB_MAP, db_key_u64_u64(0, 0) },
		{ DB_INDEX, db_key_u64_u64(a.layer.store_id, DISK_BYTES_MAX / LEAF_BYTES / GROUP_LEAVES) },
		{ DB_INDEX, db_key_u64_u64(UINT64_MAX, UINT64_MAX) },
		{ DB_SPACE, db_key_u64((UINT64_C(1) << 32) / SPACE_GROUP_CHUNKS) },
		{ DB_PV, db_key_u64(64) },
		{ DB_LAYER, db_key_u64(0) },
		{ DB_DISK, db_key_u64(0) },
	};
	struct db_value value;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		rig_get(DB_MAP, db_key_u64_u64(a.layer.store_id, 0), &value);
		rig_put(wrong[i].kind, wrong[i].key, value.b, value.bytes);
		expect_bad(META_CHECK_BAD_CONTENT, wrong[i].kind);
		rig_del(wrong[i].kind, wrong[i].key);
	}
	expect_sound();
}

Test(meta_check_bad, what_a_damaged_leaf_may_own_is_not_called_leaked)
{
	struct rig_disk a = rig_disk("a");

	rig_put(DB_MAP, db_key_u64_u64(a.layer.store_id, 0), "?", 1);
	rig_set_space_bit(700, true);
	expect_bad(META_CHECK_BAD_CONTENT, DB_MAP);
	cr_expect_geq(rig_report.not_judged, 11, "its 10 chunks, and the one that is leaked");
}

Test(meta_check_bad, what_has_nothing_to_do_with_the_damage_is_still_found)
{
	struct rig_disk a = rig_disk("a"), b = rig_disk("b");

	rig_put(DB_MAP, db_key_u64_u64(a.layer.store_id, 0), "?", 1);
	rig_put(DB_LAYER, db_key_u64(a.rec.head_layer), "?", 1);
	b.layer.chunks_owned++;
	rig_put_layer(b.rec.head_layer, &b.layer);
	rig_set_space_bit(0, true);
	rig_set_index_bit(b.layer.store_id, 5, true);
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect_eq(rig_report.found[META_CHECK_BAD_CONTENT], 2);
	cr_expect_eq(rig_report.found[META_CHECK_LAYER_COUNTERS], 1);
	cr_expect_eq(rig_report.found[META_CHECK_SPACE_OUT_OF_RANGE], 1);
	cr_expect_eq(rig_report.found[META_CHECK_INDEX_WITHOUT_LEAF], 1);
	cr_expect_eq(rig_report.problems, 5);
}
