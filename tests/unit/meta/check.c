/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check finds in a pool that nobody uses: of each kind, planted by writing
 * records, exactly that and nothing else; and nothing in a sound pool.
 *
 * Records that are damaged are in check_bad.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/meta/check_rig.h"

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
}

TestSuite(meta_check, .init = setup, .fini = rig_remove_dir, .timeout = 60);

static void expect_only(enum meta_check_kind kind, uint64_t count)
{
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_only(kind, count), "expected %d of %s and nothing else", (int)count,
		  meta_check_kind_to_text(kind));
	cr_expect_eq(rig_report.finding_count, count);
	for (uint64_t i = 0; i < rig_report.finding_count; i++)
		cr_expect_eq(rig_report.findings[i].kind, kind);
}

static void expect_nothing(void)
{
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_nothing());
}

/* ---- sound pools ------------------------------------------------------------------------------- */

Test(meta_check, finds_nothing_in_a_sound_pool_and_counts_what_is_there)
{
	expect_nothing();
	cr_expect_not(rig_report.unclean);
	cr_expect_eq(rig_report.not_judged, 0);
	cr_expect_eq(rig_report.pvs, 1);
	cr_expect_eq(rig_report.disks, 3);
	cr_expect_eq(rig_report.layers, 3);
	cr_expect_eq(rig_report.snapshots, 0);
	cr_expect_eq(rig_report.leaves, 4);
	cr_expect_eq(rig_report.chunks_owned, 17);
	cr_expect_eq(rig_report.records[DB_POOL], 1);
	cr_expect_eq(rig_report.records[DB_PV], 1);
	cr_expect_eq(rig_report.records[DB_DISK], 3);
	cr_expect_eq(rig_report.records[DB_LAYER], 3);
	cr_expect_eq(rig_report.records[DB_INDEX], 3);
	cr_expect_eq(rig_report.records[DB_MAP], 4);
	cr_expect_eq(rig_report.records[DB_SPACE], 1);
}

Test(meta_check, finds_nothing_where_leaves_take_many_transactions)
{
	struct meta_pool *pool = rig_open(false);

	/* 900 leaves, in all four groups of the disk, in runs and alone. */
	for (uint64_t i = 0; i < 900; i++)
		rig_write(pool, "a", (i < 600 ? 10 + i : i * 28) * LEAF_CHUNKS + 7, RIG_ALL);
	cr_assert_eq(meta_pool_commit(pool), 0);
	rig_close(pool);
	expect_nothing();
	cr_expect_eq(rig_report.leaves, 904);
	cr_expect_eq(rig_report.chunks_owned, 917);
}

Test(meta_check, works_on_a_pool_that_is_open_read_only)
{
	struct meta_pool_open_args args = { .dir = rig_dir, .read_only = true };
	struct meta_pool *pool;

	rig_set_space_bit(500, true);
	cr_assert_eq(meta_pool_open(&args, &pool, &rig_error), 0, "%s", rig_error.text);
	cr_assert_eq(rig_check(pool), 0, "%s", rig_error.text);
	cr_expect(rig_found_only(META_CHECK_SPACE_LEAKED, 1));
	rig_close(pool);
}

static void die_with_changes(void)
{
	struct meta_pool *pool = rig_open(false);

	rig_write(pool, "c", 0, RIG_ALL);
	_exit(meta_pool_commit(pool) == 0 ? 0 : 1);
}

Test(meta_check, says_that_a_pool_was_not_closed_in_order_and_finds_nothing_in_it)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		die_with_changes();
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	expect_nothing();
	cr_expect(rig_report.unclean);
}

Test(meta_check, refuses_a_directory_whose_pool_is_in_use)
{
	int ready[2], over[2], status;
	char byte;

	cr_assert(pipe(ready) == 0 && pipe(over) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct meta_pool *pool = rig_open(false);
		close(over[1]);
		bool told = write(ready[1], "x", 1) == 1 && read(over[0], &byte, 1) == 0;
		_exit(told && meta_pool_close(pool, NULL) == 0 ? 0 : 1);
	}
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	cr_expect_eq(rig_check_dir(), -EBUSY);
	char number[16];
	snprintf(number, sizeof(number), " %d", (int)pid);
	cr_expect_not_null(strstr(rig_error.text, number), "%s", rig_error.text);
	close(over[1]);
	close(over[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	expect_nothing();
}

Test(meta_check, says_when_there_is_no_metadata)
{
	struct meta_check_args args = { 0 };

	cr_expect_eq(meta_check_dir("/nonexistent/pool", &args, &rig_report, &rig_error), -ENOENT);
}

/* ---- cancel, progress, bounds -------------------------------------------------------------------- */

Test(meta_check, ends_when_it_is_cancelled)
{
	atomic_bool cancel = true;
	struct meta_check_args args = { .cancel = &cancel };

	rig_report.problems = 77;
	cr_expect_eq(meta_check_dir(rig_dir, &args, &rig_report, &rig_error), -ECANCELED);
	cr_expect_eq(rig_error.code, -ECANCELED);
	cr_expect_eq(rig_report.problems, 77, "a report is written only when the check ran to its end");
}

struct told {
	unsigned calls;
	uint64_t done, total;
	bool fell;
};

static void note_progress(uint64_t done, uint64_t total, void *ctx)
{
	struct told *told = ctx;

	told->calls++;
	told->fell |= done < told->done || done > total;
	told->done = done;
	told->total = total;
}

Test(meta_check, tells_how_far_it_is)
{
	struct told told = { 0 };
	struct meta_check_args args = { .progress = note_progress, .ctx = &told };

	cr_assert_eq(meta_check_dir(rig_dir, &args, &rig_report, &rig_error), 0);
	cr_expect_geq(told.calls, 1);
	cr_expect_not(told.fell);
	cr_expect_eq(told.total, 16);
}

Test(meta_check, counts_all_findings_and_describes_the_first)
{
	struct db_key key = db_key_u64(0);
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct meta_space_record rec;
	struct db_value value;

	rig_get(DB_SPACE, key, &value);
	cr_assert_eq(meta_space_decode(value.b, value.bytes, &rec), 0);
	memset(rec.owned + 50, 0xff, 50); /* chunks 400 to 799 */
	rig_put(DB_SPACE, key, buf, meta_space_encode(&rec, buf));
	cr_assert_eq(rig_check_dir(), 0);
	cr_expect_eq(rig_report.found[META_CHECK_SPACE_LEAKED], 400);
	cr_expect_eq(rig_report.problems, 400);
	cr_expect_eq(rig_report.finding_count, META_CHECK_FINDINGS_MAX);
	cr_expect_eq(rig_report.findings[0].place.chunk, 400);
	cr_expect_eq(rig_report.findings[99].place.chunk, 499);
}

Test(meta_check, has_a_word_for_each_kind)
{
	for (int i = 0; i < META_CHECK_KINDS; i++) {
		cr_assert_not_null(meta_check_kind_to_text((enum meta_check_kind)i), "kind %d", i);
		for (int j = 0; j < i; j++)
			cr_expect_str_neq(meta_check_kind_to_text((enum meta_check_kind)i),
					  meta_check_kind_to_text((enum meta_check_kind)j));
	}
}

/* ---- the pool and its pvs --------------------------------------------------------------------------- */

Test(meta_check, finds_a_missing_pool_record)
{
	rig_del(DB_POOL, db_key_bytes("pool", 4));
	expect_only(META_CHECK_POOL_RECORD, 1);
}

Test(meta_check, finds_ids_that_were_never_given_out)
{
	struct meta_pool_record rec = rig_pool();

	/* The last disk, its layer and its store. */
	rec.next_id -= 3;
	rig_put_pool(&rec);
	expect_only(META_CHECK_ID_UNISSUED, 3);
}

Test(meta_check, finds_a_missing_pv_record)
{
	struct meta_pool_record rec = rig_pool();

	rec.pv_count = 2;
	rig_put_pool(&rec);
	expect_only(META_CHECK_PV_RECORD, 1);
	cr_expect_eq(rig_report.findings[0].place.pv, 1);
}

Test(meta_check, finds_a_pv_record_too_many)
{
	struct meta_pool_record rec = rig_pool();

	rec.pv_count = 0;
	rig_put_pool(&rec);
	expect_only(META_CHECK_PV_RECORD, 1);
	cr_expect_eq(rig_report.findings[0].place.pv, 0);
}

static struct meta_pv_record get_pv(uint64_t number)
{
	struct meta_pv_record rec;
	struct db_value value;

	rig_get(DB_PV, db_key_u64(number), &value);
	cr_assert_eq(meta_pv_decode(value.b, value.bytes, &rec), 0);
	return rec;
}

static void put_pv(uint64_t number, const struct meta_pv_record *rec)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];

	rig_put(DB_PV, db_key_u64(number), buf, meta_pv_encode(rec, buf));
}

static void add_second_pv(void)
{
	struct meta_pool *pool = rig_open(false);
	char path[PATH_MAX];
	struct meta_pv_spec spec = { .path = path, .size_bytes = 8 * MIB };

	snprintf(path, sizeof(path), "%s/pv1", rig_dir);
	cr_assert_eq(meta_pool_add_pv(pool, &spec, &rig_error), 0, "%s", rig_error.text);
	rig_close(pool);
}

Test(meta_check, finds_nothing_in_a_pool_of_two_pvs)
{
	add_second_pv();
	expect_nothing();
	cr_expect_eq(rig_report.pvs, 2);
}

Test(meta_check, finds_pvs_whose_chunks_overlap)
{
	add_second_pv();
	struct meta_pv_record rec = get_pv(1);
	rec.ranges[0].first_chunk = RIG_CHUNKS; /* the last one of pv 0 */
	put_pv(1, &rec);
	expect_only(META_CHECK_PV_OVERLAP, 1);
}

Test(meta_check, finds_pvs_whose_numbers_have_no_gap)
{
	add_second_pv();
	struct meta_pv_record rec = get_pv(1);
	rec.ranges[0].first_chunk = RIG_CHUNKS + 1;
	put_pv(1, &rec);
	expect_only(META_CHECK_PV_OVERLAP, 1);
}

Test(meta_check, finds_a_pv_that_is_not_there)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/pv0", rig_dir);
	cr_assert_eq(unlink(path), 0);
	expect_only(META_CHECK_PV_FILE, 1);
}

Test(meta_check, finds_a_pv_that_was_cut_short)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/pv0", rig_dir);
	cr_assert_eq(truncate(path, 32 * MIB), 0);
	expect_only(META_CHECK_PV_FILE, 1);
}

static void transfer_label(struct meta_label *label, const void *raw, bool writing)
{
	uint8_t buf[META_LABEL_BYTES];
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/pv0", rig_dir);
	int fd = open(path, O_RDWR);
	cr_assert(fd >= 0);
	if (!writing) {
		cr_assert_eq(pread(fd, buf, sizeof(buf), 0), (ssize_t)sizeof(buf));
		cr_assert_eq(meta_label_decode(buf, label), 0);
	} else {
		if (label)
			meta_label_encode(label, buf);
		cr_assert_eq(pwrite(fd, label ? buf : raw, sizeof(buf), 0), (ssize_t)sizeof(buf));
	}
	close(fd);
}

Test(meta_check, finds_labels_that_are_not_the_pools)
{
	static const uint8_t zeros[META_LABEL_BYTES];
	struct meta_pool_record pool = rig_pool();
	struct meta_label right, wrong;

	transfer_label(&right, NULL, false);
	struct meta_label wrongs[] = { right, right, right, right, right };
	wrongs[0].pool.b[0] ^= 1;
	wrongs[1].pv.b[0] ^= 1;
	wrongs[2].pv_number = 1;
	wrongs[3].commit = pool.label_floor - 1;
	wrongs[4].commit = pool.commit + 1;
	for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
		wrong = wrongs[i];
		transfer_label(&wrong, NULL, true);
		expect_only(META_CHECK_PV_LABEL, 1);
	}
	transfer_label(NULL, zeros, true);
	expect_only(META_CHECK_PV_LABEL, 1);
	transfer_label(&right, NULL, true);
	expect_nothing();
}

Test(meta_check, finds_a_label_with_a_flipped_bit)
{
	uint8_t buf[META_LABEL_BYTES];
	struct meta_label label;

	transfer_label(&label, NULL, false);
	meta_label_encode(&label, buf);
	buf[40] ^= 4;
	transfer_label(NULL, buf, true);
	expect_only(META_CHECK_PV_LABEL, 1);
}

/* ---- the catalogue ------------------------------------------------------------------------------------ */

Test(meta_check, finds_two_disks_of_one_name)
{
	struct rig_disk b = rig_disk("b");

	strcpy(b.rec.name, "a");
	rig_put_disk(&b);
	expect_only(META_CHECK_NAME_TWICE, 1);
}

Test(meta_check, finds_two_disks_of_one_uuid)
{
	struct rig_disk a = rig_disk("a"), b = rig_disk("b");

	b.rec.uuid = a.rec.uuid;
	rig_put_disk(&b);
	expect_only(META_CHECK_UUID_TWICE, 1);
}

Test(meta_check, finds_two_layers_with_one_store)
{
	struct rig_disk a = rig_disk("a"), c = rig_disk("c");

	c.layer.store_id = a.layer.store_id;
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_STORE_TWICE, 1);
}

Test(meta_check, finds_a_disk_without_its_layer)
{
	rig_del(DB_LAYER, db_key_u64(rig_disk("c").rec.head_layer));
	expect_only(META_CHECK_DISK_WITHOUT_LAYER, 1);
}

Test(meta_check, finds_a_disk_whose_layer_is_being_freed)
{
	struct rig_disk c = rig_disk("c");

	c.layer.state = META_LAYER_DEAD;
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_DISK_LAYER, 1);
}

Test(meta_check, finds_a_disk_whose_layer_is_anothers)
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

Test(meta_check, finds_a_snapshot_without_its_layer_or_its_disk)
{
	struct rig_disk a = rig_disk("a");
	struct meta_snapshot_record rec = { .disk = a.number, .name = "old", .layer = a.rec.head_layer };

	put_snapshot(&rec);
	expect_nothing();
	rec.layer = rig_new_id();
	put_snapshot(&rec);
	expect_only(META_CHECK_SNAPSHOT, 1);
	rec.layer = a.rec.head_layer;
	rec.disk = rig_new_id();
	put_snapshot(&rec);
	expect_only(META_CHECK_SNAPSHOT, 1);
}

Test(meta_check, finds_a_layer_that_nobody_refers_to)
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

Test(meta_check, finds_a_layer_whose_parent_is_not_there)
{
	struct rig_disk c = rig_disk("c");

	c.layer.parent = rig_new_id();
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_LAYER_PARENT, 1);
}

Test(meta_check, finds_a_ring_of_parents_once)
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

Test(meta_check, finds_a_wrong_number_of_children)
{
	struct rig_disk b = rig_disk("b"), c = rig_disk("c");

	c.layer.parent = b.rec.head_layer;
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_LAYER_CHILDREN, 1);
	b.layer.children = 1;
	rig_put_layer(b.rec.head_layer, &b.layer);
	expect_nothing();
}

Test(meta_check, finds_each_wrong_counter_of_a_layer)
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

/* ---- index and map -------------------------------------------------------------------------------------- */

Test(meta_check, finds_a_store_without_a_layer)
{
	meta_entry entries[LEAF_CHUNKS] = { [3] = meta_entry_make((struct pchunk){ 0 }, 0, 1) };
	uint64_t store = rig_new_id();
	struct meta_index_record rec = { .present = { 1 } };
	uint8_t buf[DB_VALUE_BYTES_MAX];

	rig_put_leaf(store, 0, entries);
	rig_put(DB_INDEX, db_key_u64_u64(store, 0), buf, meta_index_encode(&rec, buf));
	expect_only(META_CHECK_STORE_ORPHAN, 1);
	cr_expect_eq(rig_report.findings[0].place.store, store);
}

Test(meta_check, finds_index_bits_without_a_leaf)
{
	static const uint64_t leaves[] = { 2, 77, 8191, 8192, 8196, 8198, 16383 };
	struct rig_disk a = rig_disk("a");

	for (size_t i = 0; i < ARRAY_LEN(leaves); i++) {
		rig_set_index_bit(a.layer.store_id, leaves[i], true);
		expect_only(META_CHECK_INDEX_WITHOUT_LEAF, i + 1);
		cr_expect_eq(rig_report.findings[i].place.leaf, leaves[i]);
	}
}

Test(meta_check, finds_an_index_record_without_any_leaf)
{
	struct meta_index_record rec = { .present = { [9] = 0x10 } };
	struct rig_disk c = rig_disk("c");
	uint8_t buf[DB_VALUE_BYTES_MAX];

	rig_put(DB_INDEX, db_key_u64_u64(c.layer.store_id, 1), buf, meta_index_encode(&rec, buf));
	c.layer.index_records = 1;
	rig_put_layer(c.rec.head_layer, &c.layer);
	expect_only(META_CHECK_INDEX_WITHOUT_LEAF, 1);
	cr_expect_eq(rig_report.findings[0].place.leaf, 8192 + 9 * 8 + 4);
}

Test(meta_check, finds_a_leaf_without_its_index_bit)
{
	struct rig_disk a = rig_disk("a");

	rig_set_index_bit(a.layer.store_id, 1, false);
	expect_only(META_CHECK_LEAF_WITHOUT_INDEX, 1);
	cr_expect_eq(rig_report.findings[0].place.leaf, 1);
}

Test(meta_check, finds_leaves_without_an_index_record)
{
	struct rig_disk a = rig_disk("a");

	rig_del(DB_INDEX, db_key_u64_u64(a.layer.store_id, 1));
	a.layer.index_records--;
	rig_put_layer(a.rec.head_layer, &a.layer);
	expect_only(META_CHECK_LEAF_WITHOUT_INDEX, 1);
	cr_expect_eq(rig_report.findings[0].place.leaf, 8197);
}

Test(meta_check, finds_zero_bits_in_a_layer_without_a_parent)
{
	struct rig_disk a = rig_disk("a");
	meta_entry entries[LEAF_CHUNKS];

	rig_leaf(a.layer.store_id, 1, entries);
	entries[2] |= (meta_entry)0x00f0 << 48;
	rig_put_leaf(a.layer.store_id, 1, entries);
	expect_only(META_CHECK_ENTRY_UNSOUND, 1);
	cr_expect_eq(rig_report.findings[0].place.entry, LEAF_CHUNKS + 2);
}

Test(meta_check, finds_data_beyond_the_end_of_a_disk_that_no_mark_covers)
{
	struct rig_disk b = rig_disk("b");

	/* Entries 0 to 4 have 8 blocks each. */
	b.rec.size_bytes = 2 * CHUNK_BYTES + 7 * BLOCK_BYTES + 1;
	rig_put_disk(&b);
	expect_only(META_CHECK_ENTRY_BEYOND_END, 2);
	b.rec.size_bytes -= 1;
	rig_put_disk(&b);
	expect_only(META_CHECK_ENTRY_BEYOND_END, 3);
	b.rec.trim_above_bytes = 2 * CHUNK_BYTES + 7 * BLOCK_BYTES;
	rig_put_disk(&b);
	expect_nothing();
	b.rec.trim_above_bytes = 3 * CHUNK_BYTES;
	rig_put_disk(&b);
	expect_only(META_CHECK_ENTRY_BEYOND_END, 1);
}

Test(meta_check, finds_nothing_in_space_that_is_reserved_beyond_the_end)
{
	struct meta_pool *pool = rig_open(false);

	rig_write(pool, "c", 100, 0); /* an ALLOCATE that was to grow the disk reserves first */
	cr_assert_eq(meta_pool_commit(pool), 0);
	rig_close(pool);
	struct rig_disk c = rig_disk("c");
	c.rec.size_bytes = 0;
	rig_put_disk(&c);
	expect_nothing();
}

/* ---- chunks ---------------------------------------------------------------------------------------------- */

Test(meta_check, finds_a_chunk_that_no_pv_has)
{
	static const uint32_t wrong[] = { RIG_CHUNKS + 1, 5000000, UINT32_MAX };
	struct rig_disk a = rig_disk("a");
	meta_entry entries[LEAF_CHUNKS];

	rig_leaf(a.layer.store_id, 1, entries);
	rig_set_space_bit(meta_entry_chunk(entries[2]).n, false);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		entries[2] = meta_entry_make((struct pchunk){ wrong[i] }, 0x000f, 0);
		rig_put_leaf(a.layer.store_id, 1, entries);
		expect_only(META_CHECK_CHUNK_OUT_OF_RANGE, 1);
		cr_expect_eq(rig_report.findings[0].place.chunk, wrong[i]);
	}
}

Test(meta_check, finds_a_chunk_that_two_disks_own_and_names_both)
{
	struct rig_disk a = rig_disk("a"), b = rig_disk("b");
	meta_entry of_a[LEAF_CHUNKS], of_b[LEAF_CHUNKS];
	char text[META_CHECK_TEXT_BYTES];

	rig_leaf(a.layer.store_id, 1, of_a);
	rig_leaf(b.layer.store_id, 0, of_b);
	rig_set_space_bit(meta_entry_chunk(of_a[2]).n, false);
	of_a[2] = meta_entry_make(meta_entry_chunk(of_b[4]), 0x000f, 0);
	rig_put_leaf(a.layer.store_id, 1, of_a);
	expect_only(META_CHECK_CHUNK_TWICE, 1);
	cr_expect_eq(rig_report.findings[0].place.chunk, meta_entry_chunk(of_b[4]).n);
	snprintf(text, sizeof(text), "entry 130 of store %d and by entry 4 of store %d", (int)a.layer.store_id,
		 (int)b.layer.store_id);
	cr_expect_not_null(strstr(rig_report.findings[0].text, text), "%s", rig_report.findings[0].text);
}

Test(meta_check, finds_a_chunk_that_one_leaf_owns_twice)
{
	struct rig_disk b = rig_disk("b");
	meta_entry entries[LEAF_CHUNKS];

	rig_leaf(b.layer.store_id, 0, entries);
	rig_set_space_bit(meta_entry_chunk(entries[4]).n, false);
	entries[4] = entries[0];
	rig_put_leaf(b.layer.store_id, 0, entries);
	expect_only(META_CHECK_CHUNK_TWICE, 1);
}

Test(meta_check, finds_an_owned_chunk_that_the_bitmap_calls_free)
{
	struct rig_disk b = rig_disk("b");
	meta_entry entries[LEAF_CHUNKS];

	rig_leaf(b.layer.store_id, 0, entries);
	rig_set_space_bit(meta_entry_chunk(entries[1]).n, false);
	expect_only(META_CHECK_CHUNK_NOT_IN_SPACE, 1);
	cr_expect_eq(rig_report.findings[0].place.chunk, meta_entry_chunk(entries[1]).n);
}

Test(meta_check, finds_owned_chunks_where_the_space_record_is_missing)
{
	rig_del(DB_SPACE, db_key_u64(0));
	expect_only(META_CHECK_CHUNK_NOT_IN_SPACE, 17);
}

Test(meta_check, finds_a_chunk_that_is_marked_and_has_no_owner)
{
	rig_set_space_bit(1, true); /* is owned: no change */
	rig_set_space_bit(RIG_CHUNKS, true);
	expect_only(META_CHECK_SPACE_LEAKED, 1);
	cr_expect_eq(rig_report.findings[0].place.chunk, RIG_CHUNKS);
}

Test(meta_check, finds_marks_of_chunks_that_no_pv_has)
{
	rig_set_space_bit(0, true);
	rig_set_space_bit(RIG_CHUNKS + 1, true);
	expect_only(META_CHECK_SPACE_OUT_OF_RANGE, 2);
}

Test(meta_check, thick_disks_are_not_promised_more_than_there_is)
{
	struct meta_pool *pool = rig_open(false);

	rig_create(pool, "thick", 4 * MIB);
	rig_close(pool);
	struct rig_disk thick = rig_disk("thick");
	thick.rec.kind = META_DISK_THICK;
	rig_put_disk(&thick);
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_nothing());
	thick.rec.size_bytes = 2 * RIG_BYTES;
	rig_put_disk(&thick);
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_only(META_CHECK_PROMISE, 1));
}
