/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool's metadata to a stream and back: all of it comes back, for the pvs that
 * it belongs to and of their day; nothing of a stream that was touched does, and
 * what fails leaves the directory without a pool.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/restore.h"
#include "meta/save.h"
#include "tests/unit/meta/check_rig.h"

struct buffer {
	uint8_t *bytes;
	size_t count, room, at;
};

static struct buffer stream;
static struct meta_save_report saved;
static struct meta_restore_report restored;
static char pv_path[PATH_MAX];

static int write_buffer(void *ctx, const void *bytes, size_t count)
{
	struct buffer *to = ctx;

	if (to->count + count > to->room) {
		to->room = (to->count + count) * 2;
		to->bytes = realloc(to->bytes, to->room);
	}
	memcpy(to->bytes + to->count, bytes, count);
	to->count += count;
	return 0;
}

static int read_buffer(void *ctx, void *bytes, size_t count)
{
	struct buffer *from = ctx;

	if (count > from->count - from->at)
		return -ENODATA;
	memcpy(bytes, from->bytes + from->at, count);
	from->at += count;
	return 0;
}

static int save(struct buffer *to)
{
	struct meta_save_args args = { .dir = rig_dir, .write = write_buffer, .ctx = to };

	free(to->bytes);
	*to = (struct buffer){ 0 };
	return meta_save_dir(&args, &saved, &rig_error);
}

static int restore_from(struct buffer *from, bool force)
{
	struct meta_restore_args args = { .dir = rig_dir, .read = read_buffer, .ctx = from, .force = force };

	from->at = 0;
	return meta_restore(&args, &restored, &rig_error);
}

static void lose_metadata(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/data.mdb", rig_dir);
	cr_assert_eq(unlink(path), 0);
}

static bool has_metadata(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/data.mdb", rig_dir);
	return access(path, F_OK) == 0;
}

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
	snprintf(pv_path, sizeof(pv_path), "%s/pv0", rig_dir);
	rig_require(save(&stream) == 0, "saving");
}

TestSuite(meta_restore, .init = setup, .fini = rig_remove_dir, .timeout = 60);

static void expect_sound_and_usable(void)
{
	cr_assert_eq(rig_check_dir(), 0, "%s", rig_error.text);
	cr_expect(rig_found_nothing());
	struct meta_pool *pool = rig_open(false);
	rig_write(pool, "b", 100, RIG_ALL);
	cr_assert_eq(meta_pool_commit(pool), 0);
	rig_close(pool);
}

Test(meta_restore, brings_back_every_record)
{
	struct meta_pool_record before = rig_pool();
	static struct buffer again;

	lose_metadata();
	cr_assert_eq(restore_from(&stream, false), 0, "%s", rig_error.text);
	cr_expect_str_eq(restored.name, "rig");
	cr_expect_eq(restored.records, saved.records);
	cr_expect(restored.was_clean);
	struct meta_pool_record after = rig_pool();
	cr_expect_eq(after.commit, before.commit + 1);
	after.commit = before.commit;
	after.generation = before.generation;
	cr_expect_eq(memcmp(&before, &after, sizeof(before)), 0);
	/* All but the pool record, byte for byte. */
	cr_assert_eq(save(&again), 0, "%s", rig_error.text);
	cr_assert_eq(again.count, stream.count);
	expect_sound_and_usable();
}

Test(meta_restore, leaves_a_pool_that_is_there_alone)
{
	cr_expect_eq(restore_from(&stream, true), -EEXIST);
	expect_sound_and_usable();
}

Test(meta_restore, refuses_a_stream_that_is_older_than_the_pvs)
{
	struct meta_pool *pool = rig_open(false);

	rig_discard(pool, "b", 0);
	cr_assert_eq(meta_pool_commit(pool), 0);
	rig_close(pool);
	lose_metadata();
	cr_expect_eq(restore_from(&stream, false), -ESTALE);
	cr_expect(strstr(rig_error.text, "gone on"), "%s", rig_error.text);
	cr_expect_not(has_metadata());
	cr_assert_eq(restore_from(&stream, true), 0, "%s", rig_error.text);
	cr_expect_gt(restored.label_commit, restored.header.commit);
	cr_expect_not(rig_pool().clean);
	expect_sound_and_usable();
}

Test(meta_restore, refuses_pvs_that_are_older_than_the_stream)
{
	char command[3 * PATH_MAX];

	snprintf(command, sizeof(command), "cp %s %s.old", pv_path, pv_path);
	cr_assert_eq(system(command), 0);
	struct meta_pool *pool = rig_open(false);
	for (unsigned i = 0; i < 3; i++) {
		rig_write(pool, "b", 10 + i, RIG_ALL);
		cr_assert_eq(meta_pool_commit(pool), 0);
	}
	rig_close(pool);
	cr_assert_eq(save(&stream), 0);
	lose_metadata();
	snprintf(command, sizeof(command), "mv %s.old %s", pv_path, pv_path);
	cr_assert_eq(system(command), 0);
	cr_expect_eq(restore_from(&stream, false), -ESTALE);
	cr_expect(strstr(rig_error.text, "old copy"), "%s", rig_error.text);
}

Test(meta_restore, refuses_the_pvs_of_another_pool)
{
	lose_metadata();
	cr_assert_eq(unlink(pv_path), 0);
	rig_make_pool(RIG_BYTES);
	lose_metadata();
	cr_expect_eq(restore_from(&stream, false), -ESTALE);
	cr_expect_eq(restore_from(&stream, true), -ESTALE);
	cr_expect(strstr(rig_error.text, "another pool"), "%s", rig_error.text);
	cr_expect_not(has_metadata());
}

Test(meta_restore, takes_pvs_from_where_they_are_now)
{
	struct meta_restore_pv pv;
	struct meta_restore_args args = {
		.dir = rig_dir, .read = read_buffer, .ctx = &stream, .pvs = &pv, .pv_count = 1
	};
	char moved[PATH_MAX + 8];

	lose_metadata();
	snprintf(moved, sizeof(moved), "%s.moved", pv_path);
	cr_assert_eq(rename(pv_path, moved), 0);
	cr_expect_eq(restore_from(&stream, false), -ENOENT);
	stream.at = 0;
	cr_assert_eq(meta_restore_open_pv(&meta_pv_real, NULL, moved, &pv, &rig_error), 0, "%s", rig_error.text);
	cr_assert_eq(meta_restore(&args, &restored, &rig_error), 0, "%s", rig_error.text);
	meta_pv_real.close(NULL, &pv.handle);
	expect_sound_and_usable();
}

Test(meta_restore, a_stream_that_is_cut_off_anywhere_restores_nothing)
{
	size_t whole = stream.count;

	lose_metadata();
	for (stream.count = 0; stream.count < whole; stream.count += 97) {
		cr_assert_eq(restore_from(&stream, true), -EBADMSG, "cut off at %zu: %s", stream.count,
			     rig_error.text);
		cr_assert_not(has_metadata());
	}
	stream.count = whole;
	cr_assert_eq(restore_from(&stream, false), 0, "%s", rig_error.text);
}

Test(meta_restore, a_flipped_bit_anywhere_restores_nothing)
{
	lose_metadata();
	for (size_t at = 0; at < stream.count; at += 61) {
		stream.bytes[at] ^= (uint8_t)(1u << at % 8);
		cr_assert_eq(restore_from(&stream, true), -EBADMSG, "at %zu", at);
		stream.bytes[at] ^= (uint8_t)(1u << at % 8);
	}
	cr_expect_not(has_metadata());
	cr_assert_eq(restore_from(&stream, false), 0, "%s", rig_error.text);
	expect_sound_and_usable();
}

Test(meta_restore, refuses_metadata_that_a_check_finds_damaged)
{
	rig_set_space_bit(500, true);
	cr_assert_eq(save(&stream), 0);
	lose_metadata();
	cr_expect_eq(restore_from(&stream, false), -EUCLEAN);
	cr_expect_not(has_metadata());
	cr_assert_eq(restore_from(&stream, true), 0, "%s", rig_error.text);
	cr_expect_eq(restored.problems, 1);
}

Test(meta_restore, a_damaged_record_is_not_saved)
{
	rig_flip_bit(DB_LAYER, 1, false);
	cr_expect_eq(save(&stream), -EBADMSG);
}

Test(meta_restore, no_restart_log_of_lost_metadata_is_replayed)
{
	char path[PATH_MAX];

	lose_metadata();
	snprintf(path, sizeof(path), "%s/restart", rig_dir);
	cr_assert_eq(access(path, F_OK), 0);
	cr_assert_eq(restore_from(&stream, false), 0, "%s", rig_error.text);
	cr_expect_neq(access(path, F_OK), 0);
}

/* What an earlier, interrupted run left does not stand in the way. */
Test(meta_restore, begins_anew_where_an_earlier_run_was_cut_off)
{
	char path[PATH_MAX];
	FILE *file;

	lose_metadata();
	snprintf(path, sizeof(path), "%s/restoring", rig_dir);
	cr_assert_eq(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/restoring/data.mdb", rig_dir);
	file = fopen(path, "w");
	cr_assert(file && fputs("half of it", file) >= 0 && fclose(file) == 0);
	cr_assert_eq(restore_from(&stream, false), 0, "%s", rig_error.text);
	snprintf(path, sizeof(path), "%s/restoring", rig_dir);
	cr_expect_neq(access(path, F_OK), 0);
	expect_sound_and_usable();
}
