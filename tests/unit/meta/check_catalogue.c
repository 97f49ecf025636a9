/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check finds in the catalogue of a pool that nobody uses: disks, layers and the tree that they make, snapshots.
 * Of each kind, planted by writing records, exactly that and nothing else.
 */
#include <string.h>

#include "tests/unit/meta/check_expect.h"

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
}

TestSuite(meta_check_catalogue, .init = setup, .fini = rig_remove_dir, .timeout = 60);

Test(meta_check_catalogue, finds_two_disks_of_one_name)
{
	struct rig_disk b = rig_disk("b");

	strcpy(b.rec.name, "a");
	rig_put_disk(&b);
	expect_only(META_CHECK_NAME_TWICE, 1);
}

Test(meta_check_catalogue, finds_two_disks_of_one_uuid)
{
	struct rig_disk a = rig_disk("a"), b = rig_disk("b");

	b.rec.uuid = a.rec.uuid;
	rig_put_disk(&b);
	expect_only(META_CHECK_UUID_TWICE, 1);
}

Test(meta_check_catalogue, finds_two_layers_with_one_store)
{
	struct rig_disk a = rig_disk("a"), c = rig_disk("c");

	c.layer.store_id = a.layer.store_id;
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_STORE_TWICE, 1);
}

Test(meta_check_catalogue, finds_a_disk_without_its_layer)
{
	rig_del(DB_LAYER, db_key_u64(rig_disk("c").rec.head_layer));
	expect_only(META_CHECK_DISK_WITHOUT_LAYER, 1);
}

Test(meta_check_catalogue, finds_a_disk_whose_layer_is_being_freed)
{
	struct rig_disk c = rig_disk("c");

	c.layer.state = META_LAYER_DEAD;
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_DISK_LAYER, 1);
}

Test(meta_check_catalogue, finds_a_disk_whose_layer_is_anothers)
{
	struct rig_disk a = rig_disk("a"), c = rig_disk("c");

	c.layer.owner_disk = a.number;
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_DISK_LAYER, 1);
}

static void put_snapshot(const struct meta_snapshot_record *rec)
{
	uint8_t buf[DB_VALUE_BYTES_MAX], uuid[UUID_BYTES] = { 1, 2, 3 };

	rig_put(DB_SNAPSHOT, db_key_bytes(uuid, sizeof(uuid)), buf, meta_snapshot_encode(rec, buf));
}

/* More of them in check_snapshots.c. */
Test(meta_check_catalogue, finds_a_snapshot_without_its_layer_or_its_disk)
{
	struct meta_layer_record layer = { .store_id = rig_new_id() };
	struct meta_snapshot_record rec = { .disk = rig_disk("a").number, .name = "old", .layer = rig_new_id() };

	put_snapshot(&rec);
	expect_only(META_CHECK_SNAPSHOT, 1);
	rig_put_layer(rec.layer, &layer);
	expect_nothing();
	rec.disk = rig_new_id();
	put_snapshot(&rec);
	expect_only(META_CHECK_SNAPSHOT, 1);
}

Test(meta_check_catalogue, finds_a_layer_that_nobody_refers_to)
{
	struct meta_layer_record layer = { .store_id = rig_new_id() };
	uint64_t id = rig_new_id();

	rig_put_layer(id, &layer);
	expect_only(META_CHECK_LAYER_ORPHAN, 1);
	layer.owner_disk = rig_new_id(); /* nor does a disk that is not there */
	rig_put_layer(id, &layer);
	expect_only(META_CHECK_LAYER_ORPHAN, 1);
	layer.owner_disk = 0;
	layer.state = META_LAYER_DEAD;
	rig_put_layer(id, &layer);
	expect_nothing();
}

Test(meta_check_catalogue, finds_a_layer_whose_parent_is_not_there)
{
	struct rig_disk c = rig_disk("c");

	c.layer.parent = rig_new_id();
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_LAYER_PARENT, 1);
}

Test(meta_check_catalogue, finds_a_ring_of_parents_once)
{
	struct rig_disk b = rig_disk("b"), c = rig_disk("c"), a = rig_disk("a");

	b.layer.parent = c.rec.head_layer;
	c.layer.parent = b.rec.head_layer;
	a.layer.parent = b.rec.head_layer; /* leads into the ring and is not of it */
	b.layer.children = 2;
	c.layer.children = 1;
	rig_put_layer(a.rec.head_layer, &a.layer);
	rig_put_layer(b.rec.head_layer, &b.layer);
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_LAYER_PARENT, 1);
}

Test(meta_check_catalogue, finds_a_wrong_number_of_children)
{
	struct rig_disk b = rig_disk("b"), c = rig_disk("c");

	c.layer.parent = b.rec.head_layer;
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_LAYER_CHILDREN, 1);
	b.layer.children = 1;
	rig_put_layer(b.rec.head_layer, &b.layer);
	expect_nothing();
}

Test(meta_check_catalogue, finds_each_wrong_counter_of_a_layer)
{
	for (unsigned i = 0; i < 4; i++) {
		struct rig_disk disk = rig_disk(i < 3 ? "a" : "c");
		struct meta_layer_record wrong = disk.layer;
		wrong.chunks_owned += i == 0 || i == 3;
		wrong.blocks_valid += i == 1;
		wrong.index_records -= i == 2;
		rig_put_layer(disk.rec.head_layer, &wrong);
		expect_only(META_CHECK_LAYER_COUNTERS, 1);
		cr_expect_eq(rig_report.findings[0].place.layer, disk.rec.head_layer);
		rig_put_layer(disk.rec.head_layer, &disk.layer);
	}
}
