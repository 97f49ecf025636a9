/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check says of a pool that nobody uses: nothing of a sound one, and what is
 * wrong with the pool record and the pvs. Planted by writing records.
 *
 * The catalogue is in check_catalogue.c, maps and chunks in check_map.c, records
 * that are damaged in check_bad.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/meta/check_expect.h"

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
}

TestSuite(meta_check, .init = setup, .fini = rig_remove_dir, .timeout = 60);

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
