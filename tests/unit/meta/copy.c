/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy of the metadata on the first pv: its header's codec; freed chunks wait for it; import brings back from it
 * what was there and nothing that isn't, and takes no copy but the last.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "meta/import.h"
#include "tests/unit/meta/check_rig.h"

static char pv_path[PATH_MAX];
static struct meta_import_report report;

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
	snprintf(pv_path, sizeof(pv_path), "%s/pv0", rig_dir);
}

TestSuite(meta_copy, .init = setup, .fini = rig_remove_dir, .timeout = 60);

static void lose_metadata(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/data.mdb", rig_dir);
	cr_assert_eq(unlink(path), 0);
}

static int import(void)
{
	struct meta_restore_pv pv = { 0 };
	struct meta_restore_args args = { .dir = rig_dir, .pvs = &pv, .pv_count = 1 };
	int rc = meta_restore_open_pv(&meta_pv_real, NULL, pv_path, &pv, &rig_error);

	cr_assert_eq(rc, 0, "%s", rig_error.text);
	rc = meta_import(&args, &report, &rig_error);
	free(report.names);
	report.names = NULL;
	meta_pv_real.close(NULL, &pv.handle);
	return rc;
}

static void expect_sound(void)
{
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_nothing());
}

/* The bytes at `at` of the pv, xored. */
static void spoil(uint64_t at)
{
	int fd = open(pv_path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	cr_assert(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1);
	byte ^= 0x20;
	cr_assert(pwrite(fd, &byte, 1, (off_t)at) == 1 && close(fd) == 0);
}

static struct meta_copy_found find(void)
{
	struct meta_restore_pv pv = { 0 };
	struct meta_copy_found found;

	cr_assert_eq(meta_restore_open_pv(&meta_pv_real, NULL, pv_path, &pv, &rig_error), 0);
	cr_assert_eq(meta_copy_find(&meta_pv_real, NULL, &pv.handle, pv.label.pool, &found), 0);
	meta_pv_real.close(NULL, &pv.handle);
	return found;
}

/* The pool's process dies: nothing of what a close does is done. */
static void crash(struct meta_pool *pool)
{
	pool->copy.off = true;
	(void)!meta_pool_close(pool, &rig_error);
}

/* ---- the header ------------------------------------------------------------------------------------ */

Test(meta_copy, a_header_has_one_encoding)
{
	struct meta_copy_header header = { .sequence = 7,
					   .state = META_COPY_THERE,
					   .closed = 1,
					   .stream_bytes = 12345,
					   .commit = 99,
					   .made_s = 1700000000,
					   .chain = UINT64_C(0x123456789abcdef0) },
				got;
	uint8_t buf[META_COPY_HEADER_BYTES];

	header.pool.b[3] = 0x77;
	meta_copy_header_encode(&header, buf);
	cr_assert_eq(meta_copy_header_decode(buf, &got), 0);
	cr_expect_eq(got.sequence, 7);
	cr_expect_eq(got.stream_bytes, 12345);
	cr_expect_eq(got.chain, header.chain);
	cr_expect(got.closed && got.state == META_COPY_THERE);
	for (unsigned at = 0; at < sizeof(buf); at++) {
		buf[at] ^= 1;
		int rc = meta_copy_header_decode(buf, &got);
		cr_expect_eq(rc, at < 8 ? META_COPY_NO_HEADER : -EBADMSG, "byte %u", at);
		buf[at] ^= 1;
	}
}

Test(meta_copy, the_two_slots_lie_behind_the_headers_and_before_the_data)
{
	static const uint64_t pools[] = { 4 * MIB, GIB, 10 * GIB, 200 * GIB, 100 * TIB };

	for (unsigned i = 0; i < ARRAY_LEN(pools); i++) {
		uint64_t first = meta_copy_first_data_byte(pools[i], pools[i]), room = meta_copy_room_bytes(first);
		cr_expect_geq(first, META_PV_FIRST_DATA_BYTE);
		cr_expect_eq(first % CHUNK_BYTES, 0);
		cr_expect_leq(first, pools[i] / 2);
		cr_expect_geq(meta_copy_stream_at(0, first),
			      meta_copy_header_at(META_COPY_SLOTS - 1) + META_COPY_HEADER_BYTES);
		cr_expect_geq(meta_copy_stream_at(1, first), meta_copy_stream_at(0, first) + room);
		cr_expect_leq(meta_copy_stream_at(1, first) + room, first);
		cr_expect_leq(room, META_COPY_BYTES_MAX);
	}
	cr_expect_eq(meta_copy_room_bytes(META_PV_FIRST_DATA_BYTE), 480 * KIB);
	cr_expect_eq(meta_copy_room_bytes(0), 0);
}

/* ---- the rule ----------------------------------------------------------------------------------------- */

static uint64_t pending(struct meta_pool *pool)
{
	return atomic_load(&pool->space.pending);
}

Test(meta_copy, a_freed_chunk_is_not_free_before_a_copy_that_knows_it)
{
	struct meta_pool *pool = rig_open(false);
	uint64_t now = base_clock_ns(), copies = atomic_load(&pool->copy.copies);

	pool->copy.next_at_ns = now + UINT64_C(3600000000000);
	rig_discard(pool, "b", 1);
	cr_assert_eq(meta_pool_commit(pool), 0);
	for (unsigned i = 0; i < 50; i++)
		bg_step(pool, now + i * UINT64_C(1000000000));
	cr_expect_eq(pending(pool), 1, "it became free without a copy");
	cr_expect_eq(atomic_load(&pool->copy.copies), copies);
	bg_step(pool, pool->copy.next_at_ns);
	bg_step(pool, pool->copy.next_at_ns);
	cr_expect_eq(pending(pool), 0);
	cr_expect_eq(atomic_load(&pool->copy.copies), copies + 1);
	rig_close(pool);
}

Test(meta_copy, who_waits_for_space_gets_a_copy_at_once)
{
	struct meta_pool *pool = rig_open(false);

	pool->copy.next_at_ns = base_clock_ns() + UINT64_C(3600000000000);
	rig_discard(pool, "b", 1);
	cr_assert_eq(meta_pool_commit(pool), 0);
	atomic_store(&pool->copy.wanted, true);
	bg_step(pool, base_clock_ns());
	bg_step(pool, base_clock_ns());
	cr_expect_eq(pending(pool), 0);
	rig_close(pool);
}

Test(meta_copy, without_copies_nothing_waits_for_one)
{
	struct meta_pool_open_args args = { .dir = rig_dir, .no_threads = true, .no_copy = true };
	struct meta_pool *pool;

	cr_assert_eq(meta_pool_open(&args, &pool, &rig_error), 0, "%s", rig_error.text);
	cr_expect_not(pool->copy.exists);
	rig_discard(pool, "b", 1);
	cr_assert_eq(meta_pool_commit(pool), 0);
	bg_step(pool, base_clock_ns());
	cr_expect_eq(pending(pool), 0);
	rig_close(pool);
	/* And the one that was there is taken back: it would be wrong by now. */
	lose_metadata();
	cr_expect_eq(import(), -ENODATA);
}

Test(meta_copy, metadata_that_has_no_room_is_not_copied_and_the_old_copy_goes)
{
	struct meta_pool *pool = rig_open(false);

	for (unsigned i = 0; i < 6000; i++) {
		char name[16];
		snprintf(name, sizeof(name), "many%u", i);
		rig_create(pool, name, MIB);
	}
	cr_assert(pool->copy.exists);
	rig_discard(pool, "b", 1);
	cr_assert_eq(meta_pool_commit(pool), 0);
	pool->copy.next_at_ns = 0;
	bg_step(pool, base_clock_ns());
	bg_step(pool, base_clock_ns());
	cr_expect_not(pool->copy.exists);
	cr_expect_eq(pending(pool), 0);
	rig_close(pool);
	lose_metadata();
	cr_expect_eq(import(), -ENODATA);
}

/* ---- import ---------------------------------------------------------------------------------------------- */

Test(meta_copy, a_pool_that_was_closed_comes_back_whole)
{
	struct rig_disk before = rig_disk("a"), after;

	lose_metadata();
	cr_assert_eq(import(), 0, "%s", rig_error.text);
	cr_expect(report.closed);
	cr_expect_str_eq(report.restore.name, "rig");
	after = rig_disk("a");
	cr_expect_eq(memcmp(&before.layer, &after.layer, sizeof(before.layer)), 0);
	expect_sound();
	rig_close(rig_open(false));
	expect_sound();
}

Test(meta_copy, what_came_after_the_copy_is_said_to_be_lost)
{
	struct meta_pool *pool = rig_open(false);

	pool->copy.next_at_ns = base_clock_ns() + UINT64_C(3600000000000);
	rig_write(pool, "b", 100, RIG_ALL);
	cr_assert_eq(meta_pool_commit(pool), 0);
	crash(pool);
	lose_metadata();
	cr_assert_eq(import(), 0, "%s", rig_error.text);
	cr_expect_not(report.closed);
	cr_expect_gt(report.restore.label_commit, report.copy_commit);
	expect_sound();
	pool = rig_open(false);
	cr_expect_gt(pool->rediscard_at, 0);
	rig_close(pool);
}

/* Even if nothing but the catalogue changed since, whose transactions write no label. */
Test(meta_copy, a_pool_that_was_opened_since_is_not_said_to_be_whole)
{
	struct meta_pool *pool = rig_open(false);

	rig_create(pool, "late", MIB);
	crash(pool);
	lose_metadata();
	cr_assert_eq(import(), 0, "%s", rig_error.text);
	cr_expect_not(report.closed);
}

Test(meta_copy, no_copy_but_the_last_is_taken)
{
	struct meta_copy_found found = find();
	uint64_t room = META_PV_FIRST_DATA_BYTE;

	cr_assert(found.newest >= 0 && found.valid[0] && found.valid[1]);
	lose_metadata();
	/* Its stream is damaged: the other one is whole, and older. */
	spoil(meta_copy_stream_at((unsigned)found.newest, room) + 700);
	cr_expect_eq(import(), -EBADMSG);
	spoil(meta_copy_stream_at((unsigned)found.newest, room) + 700);
	/* Its header is. */
	spoil(meta_copy_header_at((unsigned)found.newest) + 40);
	cr_expect_eq(import(), -EBADMSG);
	spoil(meta_copy_header_at((unsigned)found.newest) + 40);
	cr_assert_eq(import(), 0, "%s", rig_error.text);
}

Test(meta_copy, a_pool_with_a_damaged_header_goes_on_and_mends_it)
{
	struct meta_copy_found found = find();

	spoil(meta_copy_header_at((unsigned)found.newest) + 40);
	cr_expect(find().damaged);
	rig_close(rig_open(false));
	cr_expect_not(find().damaged);
	lose_metadata();
	cr_assert_eq(import(), 0, "%s", rig_error.text);
	cr_expect(report.closed);
	expect_sound();
}

Test(meta_copy, a_copy_of_another_pool_is_none)
{
	lose_metadata();
	struct meta_pv_spec pv = { .path = pv_path, .force = true };
	struct meta_pool_create_args args = { .dir = rig_dir, .name = "other", .pvs = &pv, .pv_count = 1 };

	cr_assert_eq(meta_pool_create(&args, &rig_error), 0, "%s", rig_error.text);
	lose_metadata();
	cr_expect_eq(import(), -ENODATA);
}

Test(meta_copy, import_leaves_a_pool_that_is_there_alone)
{
	cr_expect_eq(import(), -EEXIST);
	expect_sound();
}
