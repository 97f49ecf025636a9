/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adapters, VTDs and the rule of holders: names and LUNs are unique, a disk has one
 * holder unless all say shared, every refusal names who stands against it and changes
 * nothing, and all of it is there after a restart.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/uuid.h"
#include "meta/snapshot.h"
#include "meta/targets.h"
#include "tests/unit/meta/check_rig.h"

#define MS UINT64_C(1000000)

static struct meta_pool *pool;
static struct base_error err;

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
	pool = rig_open(true);
}

static void teardown(void)
{
	rig_close(pool);
	rig_remove_dir();
}

TestSuite(meta_targets, .init = setup, .fini = teardown, .timeout = 60);

static void reopen(void)
{
	rig_close(pool);
	cr_expect_eq(rig_check_dir(), 0);
	cr_expect(rig_found_nothing());
	pool = rig_open(true);
}

static struct meta_disk *disk_named(const char *name)
{
	struct meta_disk *disk = meta_disk_get_by_name(pool, name);

	cr_assert_not_null(disk);
	return disk;
}

static struct meta_vtd_spec spec_of(const char *disk, const char *adapter, bool shared)
{
	static const struct meta_adapter_record loop = { .transport = META_TRANSPORT_LOOP };
	struct meta_disk *found = disk_named(disk);
	struct meta_vtd_spec spec = { .record = { .disk = meta_disk_number(found), .shared = shared },
				      .adapter = &loop };

	snprintf(spec.record.adapter, sizeof(spec.record.adapter), "%s", adapter);
	meta_disk_put(found);
	return spec;
}

static int map(const char *disk, const char *adapter, bool shared, struct meta_vtd_info *ret)
{
	struct meta_vtd_spec spec = spec_of(disk, adapter, shared);

	return meta_vtd_create(pool, &spec, ret, &err);
}

static unsigned count_vtds(void)
{
	struct meta_vtd_info vtd = { 0 };
	unsigned n = 0;

	while (meta_vtd_next(pool, vtd.name, &vtd))
		n++;
	return n;
}

static bool says(const char *words)
{
	bool found = strstr(err.text, words) != NULL;

	if (!found)
		fprintf(stderr, "'%s' is not in: %s\n", words, err.text);
	return found;
}

Test(meta_targets, names_and_luns_are_the_lowest_free_and_come_back_after_a_restart)
{
	struct meta_vtd_info a, b, c;
	struct meta_adapter_info adapter;

	cr_assert_eq(map("a", "vhost0", false, &a), 0, "%s", err.text);
	cr_assert_eq(map("b", "vhost0", false, &b), 0);
	cr_expect_str_eq(a.name, "vtscsi0");
	cr_expect_str_eq(b.name, "vtscsi1");
	cr_expect_eq(a.record.lun, 0x8100000000000000);
	cr_expect_eq(b.record.lun, 0x8200000000000000);
	cr_assert_eq(meta_vtd_remove(pool, "vtscsi0", &err), 0);
	cr_assert_eq(map("c", "vhost0", false, &c), 0);
	cr_expect_str_eq(c.name, "vtscsi0");
	cr_expect_eq(c.record.lun, 0x8100000000000000);
	reopen();
	cr_expect_eq(count_vtds(), 2);
	cr_assert_eq(meta_vtd_get(pool, "vtscsi0", &a, &err), 0);
	cr_expect_eq(memcmp(&a.record, &c.record, sizeof(a.record)), 0);
	cr_assert_eq(meta_adapter_get(pool, "vhost0", &adapter, &err), 0);
	cr_expect_eq(adapter.vtds, 2);
	cr_expect_eq(map("c", "vhost1", false, &a), -EBUSY, "a mapping must hold its disk after a restart too");
}

Test(meta_targets, a_disk_is_mapped_twice_only_if_both_say_shared)
{
	struct meta_vtd_info vtd, other;

	cr_assert_eq(map("a", "vhost0", false, &vtd), 0);
	for (int shared = 0; shared < 2; shared++) {
		cr_expect_eq(map("a", "vhost1", shared, &other), -EBUSY);
		cr_expect(says("VTD vtscsi0 on vhost0"));
	}
	cr_expect_eq(count_vtds(), 1);
	cr_assert_eq(meta_vtd_set_shared(pool, "vtscsi0", true, 0, &err), 0);
	cr_expect_eq(map("a", "vhost1", false, &other), -EBUSY);
	cr_expect(says("--shared"));
	cr_assert_eq(map("a", "vhost1", true, &other), 0);
	cr_expect_eq(meta_vtd_set_shared(pool, "vtscsi0", false, 0, &err), -EBUSY);
	cr_expect(says("VTD vtscsi1 on vhost1"));
	reopen();
	cr_assert_eq(meta_vtd_remove(pool, other.name, &err), 0);
	cr_expect_eq(meta_vtd_set_shared(pool, "vtscsi0", false, 0, &err), 0);
	cr_expect_eq(map("a", "vhost1", true, &other), -EBUSY);
}

Test(meta_targets, a_disk_is_open_as_a_file_or_mapped_unless_shared)
{
	struct meta_disk *disk = disk_named("a");
	struct meta_vtd_info vtd;

	cr_assert_eq(meta_disk_open_file(disk, 100), 0);
	cr_expect_eq(map("a", "vhost0", false, &vtd), -EBUSY);
	cr_expect(says("as a file"));
	cr_expect_eq(meta_adapter_get(pool, "vhost0", &(struct meta_adapter_info){ 0 }, NULL), -ENOENT,
		     "what was refused left its adapter behind");
	cr_assert_eq(map("a", "vhost0", true, &vtd), 0);
	cr_assert_eq(meta_disk_open_file(disk, 100), 0);
	cr_expect_eq(meta_vtd_set_shared(pool, vtd.name, false, 1, &err), -EBUSY);
	cr_expect_eq(meta_disk_wait_files(disk, 1, 10 * MS), -EBUSY);
	meta_disk_close_file(disk);
	cr_expect_eq(meta_disk_wait_files(disk, 1, 10 * MS), 0);
	meta_disk_close_file(disk);
	cr_assert_eq(meta_vtd_set_shared(pool, vtd.name, false, 0, &err), 0);
	cr_expect_eq(meta_disk_open_file(disk, 100), -EBUSY);
	cr_assert_eq(meta_vtd_remove(pool, vtd.name, &err), 0);
	cr_assert_eq(meta_disk_open_file(disk, 100), 0);
	meta_disk_close_file(disk);
	meta_disk_put(disk);
}

Test(meta_targets, an_announced_process_opens_a_mapped_disk_once)
{
	struct meta_disk *disk = disk_named("a");
	struct meta_vtd_info vtd;

	cr_assert_eq(map("a", "loop0", false, &vtd), 0);
	meta_disk_announce(disk, 4711);
	cr_expect_eq(meta_disk_open_file(disk, 4712), -EBUSY);
	cr_expect_eq(meta_disk_open_file(disk, 4711), 0);
	cr_expect_eq(meta_disk_open_file(disk, 4711), -EBUSY);
	meta_disk_announce(disk, 4711);
	meta_disk_announce(disk, 0);
	cr_expect_eq(meta_disk_open_file(disk, 4711), -EBUSY);
	cr_expect_eq(meta_disk_open_file(disk, 0), -EBUSY, "a pid that the kernel could not tell is nobody's");
	cr_expect_eq(meta_disk_files(disk), 1);
	meta_disk_close_file(disk);
	meta_disk_put(disk);
}

Test(meta_targets, a_mapped_disk_is_not_removed_and_an_adapter_with_vtds_is_not_either)
{
	struct meta_disk *disk = disk_named("a");
	struct meta_vtd_info vtd;

	cr_assert_eq(map("a", "vhost0", true, &vtd), 0);
	cr_expect_eq(meta_disk_remove(disk, &err), -EBUSY);
	cr_expect(says("VTD vtscsi0 on vhost0"));
	cr_expect_eq(meta_adapter_remove(pool, "vhost0", &err), -EBUSY);
	cr_expect(says("VTD vtscsi0"));
	cr_assert_eq(meta_vtd_remove(pool, vtd.name, &err), 0);
	cr_expect_eq(meta_vtd_remove(pool, vtd.name, &err), -ENOENT);
	cr_expect_eq(meta_adapter_remove(pool, "vhost0", &err), 0);
	cr_expect_eq(meta_disk_remove(disk, &err), 0, "%s", err.text);
	cr_expect_eq(map("b", "vhost0", false, &vtd), 0);
	meta_disk_put(disk);
}

Test(meta_targets, names_are_one_for_adapters_and_vtds)
{
	struct meta_adapter_record rec = { .transport = META_TRANSPORT_VHOST_USER, .physloc = "/run/x/vhost0" };
	struct meta_vtd_spec spec = spec_of("a", "vhost0", false);
	struct meta_vtd_info vtd;

	cr_assert_eq(meta_adapter_create(pool, "vhost0", &rec, &err), 0);
	cr_expect_eq(meta_adapter_create(pool, "vhost0", &rec, &err), -EEXIST);
	cr_expect_eq(meta_adapter_create(pool, "vhost1", &rec, &err), -EEXIST, "two adapters in one place");
	cr_expect(says("vhost0"));
	strcpy(spec.name, "vhost0");
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), -EEXIST);
	strcpy(spec.name, "root");
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), 0);
	cr_expect_eq(meta_adapter_create(pool, "root", &(struct meta_adapter_record){ 0 }, &err), -EEXIST);
	spec = spec_of("b", "vhost0", false);
	spec.record.lun = vtd.record.lun;
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), -EEXIST);
	spec = spec_of("b", "vhost9", false);
	spec.adapter = NULL;
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), -ENOENT);
	spec.record.disk = 999999;
	spec.adapter = &rec;
	strcpy(spec.record.adapter, "vhost0");
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), -ENOENT);
	cr_expect_eq(count_vtds(), 1);
}

Test(meta_targets, a_raw_device_is_mapped_twice_only_if_shared)
{
	struct meta_vtd_spec spec = spec_of("a", "vhost0", false);
	struct meta_vtd_info vtd;

	spec.record.disk = 0;
	spec.record.backing = META_BACKING_DEVICE;
	strcpy(spec.record.path, "/dev/sdb");
	strcpy(spec.record.identity, "serial 1");
	cr_assert_eq(meta_vtd_create(pool, &spec, &vtd, &err), 0);
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), -EBUSY);
	cr_expect(says("/dev/sdb"));
	strcpy(spec.record.path, "/dev/disk/by-id/1"); /* the same by another name */
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), -EBUSY);
	cr_expect(says("vtscsi0"));
	strcpy(spec.record.path, "/dev/sdc");
	strcpy(spec.record.identity, "serial 2");
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), 0);
	reopen();
	cr_expect_eq(count_vtds(), 2);
}

Test(meta_targets, a_clients_label_is_kept)
{
	struct meta_adapter_info adapter;
	char longer[META_CLIENT_BYTES_MAX + 2] = { 0 };

	cr_assert_eq(meta_adapter_create(pool, "vhost0", &(struct meta_adapter_record){ 0 }, &err), 0);
	cr_assert_eq(meta_adapter_set_client(pool, "vhost0", "web 1", &err), 0);
	cr_expect_eq(meta_adapter_set_client(pool, "vhost0", "two\nlines", &err), -EINVAL);
	memset(longer, 'x', META_CLIENT_BYTES_MAX + 1);
	cr_expect_eq(meta_adapter_set_client(pool, "vhost0", longer, &err), -EINVAL);
	cr_expect_eq(meta_adapter_set_client(pool, "vhost1", "x", &err), -ENOENT);
	reopen();
	cr_assert_eq(meta_adapter_get(pool, "vhost0", &adapter, &err), 0);
	cr_expect_str_eq(adapter.record.client, "web 1");
}

Test(meta_targets, listing_is_in_order_of_number_and_goes_on_after_changes)
{
	struct meta_vtd_info vtd = { 0 };
	struct meta_adapter_info adapter = { 0 };
	char name[16];

	for (unsigned i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		rig_create(pool, name, MIB);
		cr_assert_eq(map(name, i % 2 ? "vhost10" : "vhost9", false, &vtd), 0);
	}
	vtd.name[0] = '\0';
	for (unsigned i = 0; i < 12; i++) {
		snprintf(name, sizeof(name), "vtscsi%u", i);
		cr_assert(meta_vtd_next(pool, vtd.name, &vtd));
		cr_expect_str_eq(vtd.name, name);
		if (i == 6)
			cr_assert_eq(meta_vtd_remove(pool, name, &err), 0);
	}
	cr_expect_not(meta_vtd_next(pool, vtd.name, &vtd));
	cr_assert(meta_adapter_next(pool, "", &adapter));
	cr_expect_str_eq(adapter.name, "vhost9");
	cr_assert(meta_adapter_next(pool, adapter.name, &adapter));
	cr_expect_str_eq(adapter.name, "vhost10");
	cr_expect_eq(adapter.vtds, 6);
}

Test(meta_targets, every_lun_can_be_used_and_no_more)
{
	struct meta_vtd_spec spec = spec_of("a", "vhost0", true);
	struct meta_vtd_info vtd;

	/* The last one by number, then all below it, from the top of what a transaction each can do in a test. */
	spec.record.lun = meta_lun_of_index(META_LUN_COUNT - 1);
	cr_assert_eq(meta_vtd_create(pool, &spec, &vtd, &err), 0);
	spec.record.lun = 0;
	for (unsigned i = 1; i <= 70; i++) {
		cr_assert_eq(meta_vtd_create(pool, &spec, &vtd, &err), 0);
		cr_expect_eq(meta_lun_to_index(vtd.record.lun), i);
	}
}

Test(meta_targets, a_damaged_record_does_not_hide_its_neighbours)
{
	struct meta_vtd_info vtd;

	cr_assert_eq(map("a", "vhost0", false, &vtd), 0);
	cr_assert_eq(map("b", "vhost0", false, &vtd), 0);
	rig_close(pool);
	cr_assert(rig_flip_bit(DB_VTD, 0, false));
	pool = rig_open(true);
	cr_expect_eq(count_vtds(), 1);
	cr_assert(meta_vtd_next(pool, "", &vtd));
	cr_expect_str_eq(vtd.name, "vtscsi1");
}

/* ---- check -------------------------------------------------------------------------------- */

static void plant_vtd(const char *name, const struct meta_vtd_record *rec)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];

	rig_put(DB_VTD, db_key_bytes(name, strlen(name)), buf, meta_vtd_encode(rec, buf));
}

static void expect_only(enum meta_check_kind kind)
{
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_only(kind, 1));
}

Test(meta_targets, check_finds_a_vtd_that_hangs_in_the_air_and_one_too_many)
{
	struct meta_vtd_info vtd;

	cr_assert_eq(map("a", "vhost0", false, &vtd), 0);
	rig_close(pool);
	struct meta_vtd_record rec = vtd.record;
	strcpy(rec.adapter, "vhost7");
	plant_vtd("vtscsi0", &rec);
	expect_only(META_CHECK_VTD_WITHOUT_ADAPTER);
	rec = vtd.record;
	rec.disk = 999999;
	plant_vtd("vtscsi0", &rec);
	expect_only(META_CHECK_VTD_WITHOUT_BD);
	plant_vtd("vtscsi0", &vtd.record);
	rec = vtd.record;
	rec.disk = rig_disk("b").number;
	plant_vtd("vtscsi1", &rec);
	expect_only(META_CHECK_VTD_TWICE);
	rec = vtd.record;
	rec.lun = meta_lun_of_index(2);
	rec.shared = true;
	plant_vtd("vtscsi1", &rec);
	expect_only(META_CHECK_VTD_TWICE);
	rec.disk = 0;
	rec.backing = META_BACKING_DEVICE;
	strcpy(rec.path, "/dev/sdb");
	strcpy(rec.identity, "serial 1");
	plant_vtd("vtscsi1", &rec);
	cr_assert_eq(rig_check_dir(), 0);
	cr_expect(rig_found_nothing());
	rec.lun = meta_lun_of_index(3);
	rec.shared = false;
	strcpy(rec.path, "/dev/sdc"); /* by another name */
	plant_vtd("vtscsi2", &rec);
	expect_only(META_CHECK_VTD_TWICE);
	rig_del(DB_VTD, db_key_bytes("vtscsi2", 7));
	rig_del(DB_VTD, db_key_bytes("vtscsi1", 7));
	cr_assert_eq(rig_check_dir(), 0);
	cr_expect(rig_found_nothing());
	pool = rig_open(true);
}

/* ---- snapshots ---------------------------------------------------------------------------- */

static struct meta_snapshot *snapshot_named(const char *disk_name, const char *name)
{
	struct meta_disk *disk = disk_named(disk_name);
	struct meta_snapshot *snapshot = meta_snapshot_get_by_name(disk, name);

	meta_disk_put(disk);
	cr_assert_not_null(snapshot);
	return snapshot;
}

static struct meta_vtd_spec spec_of_snapshot(struct meta_snapshot *snapshot, const char *adapter)
{
	struct meta_vtd_spec spec = spec_of("a", adapter, true);
	struct meta_snapshot_info info;
	char uuid[BASE_UUID_TEXT_BYTES];

	meta_snapshot_info(snapshot, &info);
	spec.record.disk = 0;
	spec.record.backing = META_BACKING_SNAPSHOT;
	spec.record.read_only = true;
	strcpy(spec.record.identity, base_uuid_to_text(info.uuid, uuid));
	return spec;
}

Test(meta_targets, a_mapped_snapshot_keeps_its_place_and_its_vtds_through_renames_and_restarts)
{
	struct meta_disk *disk;
	struct meta_snapshot *snapshot;
	struct meta_snapshot_info info;
	struct meta_vtd_info vtd;

	rig_snapshot(pool, "a", "s");
	rig_snapshot(pool, "a", "t");
	snapshot = snapshot_named("a", "s");
	struct meta_vtd_spec spec = spec_of_snapshot(snapshot, "vhost0");
	cr_assert_eq(meta_vtd_create(pool, &spec, &vtd, &err), 0, "%s", err.text);
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), 0, "readers are in nobody's way");
	cr_expect_eq(map("a", "vhost0", false, &vtd), 0, "the head is another thing");
	cr_expect_eq(meta_vtd_remove(pool, vtd.name, &err), 0);
	cr_expect_eq(meta_vtd_set_shared(pool, "vtscsi0", false, 0, &err), -EINVAL);
	spec.record.read_only = false;
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), -EINVAL);
	cr_expect_eq(meta_snapshot_rename(snapshot, "u", &err), 0);
	meta_snapshot_put(snapshot);
	disk = disk_named("a");
	cr_expect_eq(meta_disk_rename(disk, "z", &err), 0);
	meta_disk_put(disk);

	reopen();
	snapshot = snapshot_named("z", "u");
	meta_snapshot_info(snapshot, &info);
	cr_expect(meta_vtd_next_of_snapshot(pool, info.uuid, "", &vtd));
	cr_expect_str_eq(vtd.name, "vtscsi0");
	cr_expect(meta_vtd_next_of_snapshot(pool, info.uuid, "vtscsi0", &vtd));
	cr_expect_not(meta_vtd_next_of_snapshot(pool, info.uuid, "vtscsi1", &vtd));
	disk = disk_named("z");
	cr_expect_eq(meta_snapshot_remove(snapshot, &err), -EBUSY);
	cr_expect(says("vtscsi0 on vhost0"));
	cr_expect_eq(meta_disk_rollback(disk, snapshot, &err), -EBUSY);
	cr_expect(says("vtscsi0 on vhost0"));
	cr_expect_eq(meta_disk_remove_with_snapshots(disk, &err), -EBUSY);
	cr_expect(says("vtscsi0 on vhost0"));

	struct meta_snapshot *other = snapshot_named("z", "t");
	cr_expect_eq(meta_snapshot_remove(other, &err), 0, "one that is not mapped goes, and its layer is folded");
	meta_snapshot_put(other);
	cr_assert_eq(meta_vtd_remove(pool, "vtscsi0", &err), 0);
	cr_expect_eq(meta_snapshot_remove(snapshot, &err), -EBUSY, "one of two is left");
	cr_assert_eq(meta_vtd_remove(pool, "vtscsi1", &err), 0);
	spec.record.read_only = true;
	cr_expect_eq(meta_snapshot_remove(snapshot, &err), 0, "%s", err.text);
	cr_expect_eq(meta_vtd_create(pool, &spec, &vtd, &err), -ENOENT);
	meta_snapshot_put(snapshot);
	meta_disk_put(disk);
	reopen();
}

Test(meta_targets, check_finds_a_vtd_whose_snapshot_is_not_there)
{
	struct meta_snapshot *snapshot;
	struct meta_vtd_info vtd;

	rig_snapshot(pool, "a", "s");
	snapshot = snapshot_named("a", "s");
	struct meta_vtd_spec spec = spec_of_snapshot(snapshot, "vhost0");
	cr_assert_eq(meta_vtd_create(pool, &spec, &vtd, &err), 0, "%s", err.text);
	meta_snapshot_put(snapshot);
	reopen();
	rig_close(pool);
	strcpy(vtd.record.identity, "00112233-4455-4677-8899-aabbccddeeff");
	plant_vtd("vtscsi0", &vtd.record);
	expect_only(META_CHECK_VTD_WITHOUT_BD);
	pool = rig_open(true);
}
