/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of descriptors: what one mapping wrote the next one finds; what is
 * sent again is counted once; a full table and a strange one are refused.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fs/handles.h"

static int fd;
static struct fs_handles *handles;

static void map(void)
{
	cr_assert_eq(fs_handles_map(fd, &handles), 0);
}

/* As a daemon that was killed leaves it: nothing is written at the end. */
static void map_again(void)
{
	fs_handles_unmap(handles);
	map();
}

static void setup(void)
{
	fd = fs_handles_make();
	cr_assert_geq(fd, 0);
	map();
}

static void teardown(void)
{
	fs_handles_unmap(handles);
	close(fd);
}

TestSuite(fs_handles, .init = setup, .fini = teardown);

static uint64_t add(uint64_t unique, uint64_t number)
{
	uint64_t fh;

	cr_assert_eq(fs_handles_add(handles, unique, number, &fh), 0);
	cr_assert_eq(fs_handle_number(fh), number);
	return fh;
}

static int count_number(void *ctx, uint64_t number)
{
	((unsigned *)ctx)[number]++;
	return 0;
}

static int drop(void *ctx, uint64_t number)
{
	return number == *(uint64_t *)ctx ? -EIO : 0;
}

Test(fs_handles, descriptors_of_one_disk_have_handles_of_their_own)
{
	cr_assert_neq(add(2, 7), add(4, 7));
}

Test(fs_handles, the_next_mapping_finds_each_open_descriptor_once)
{
	unsigned counts[16] = { 0 };

	add(2, 7);
	add(4, 7);
	fs_handles_remove(handles, add(6, 9));
	map_again();
	fs_handles_each(handles, count_number, counts);
	cr_assert_eq(counts[7], 2);
	cr_assert_eq(counts[9], 0);
}

Test(fs_handles, an_open_that_is_sent_again_finds_its_handle)
{
	uint64_t fh = add(2, 7), found = 0;

	map_again();
	cr_assert(fs_handles_find(handles, 2 | FS_UNIQUE_RESENT, 7, &found));
	cr_assert_eq(found, fh);
	cr_assert_not(fs_handles_find(handles, 4 | FS_UNIQUE_RESENT, 7, &found), "it was never carried out");
	cr_assert_not(fs_handles_find(handles, 2, 7, &found), "a first request opens anew");
}

Test(fs_handles, an_open_carried_out_when_sent_again_is_known_the_third_time)
{
	uint64_t fh = add(2 | FS_UNIQUE_RESENT, 7), found = 0;

	map_again();
	cr_assert(fs_handles_find(handles, 2 | FS_UNIQUE_RESENT, 7, &found));
	cr_assert_eq(found, fh);
}

Test(fs_handles, a_release_counts_once)
{
	uint64_t fh = add(2, 7);

	add(4, 7);
	cr_assert(fs_handles_remove(handles, fh));
	map_again();
	cr_assert_not(fs_handles_remove(handles, fh));
}

Test(fs_handles, a_row_that_was_given_back_is_not_taken_next)
{
	uint64_t first = add(2, 7);

	fs_handles_remove(handles, first);
	cr_assert_neq(add(4, 7), first, "a RELEASE sent again would hit it");
}

Test(fs_handles, a_full_table_refuses_and_has_room_after_a_release)
{
	uint64_t fh = 0, refused;

	for (uint64_t i = 0; i < FS_HANDLES_MAX; i++)
		fh = add(2 * i + 2, i % 100 + 1);
	cr_assert_eq(fs_handles_add(handles, 1000000, 5, &refused), -ENFILE);
	cr_assert(fs_handles_remove(handles, fh));
	cr_assert_eq(fs_handles_add(handles, 1000002, 5, &refused), 0);
}

Test(fs_handles, what_cannot_be_opened_again_is_dropped)
{
	unsigned counts[16] = { 0 };
	uint64_t broken = 9, fh = add(2, 9);

	add(4, 7);
	fs_handles_each(handles, drop, &broken);
	fs_handles_each(handles, count_number, counts);
	cr_assert_eq(counts[9], 0);
	cr_assert_eq(counts[7], 1);
	cr_assert_not(fs_handles_remove(handles, fh));
}

Test(fs_handles, the_init_is_kept)
{
	char buf[FS_HANDLES_INIT_BYTES_MAX];

	cr_assert_eq(fs_handles_init(handles, buf), 0);
	fs_handles_keep_init(handles, "hello", 5);
	map_again();
	cr_assert_eq(fs_handles_init(handles, buf), 5);
	cr_assert_arr_eq(buf, "hello", 5);
}

Test(fs_handles, without_a_table_a_handle_is_the_number)
{
	uint64_t fh;

	cr_assert_eq(fs_handles_add(NULL, 2, 7, &fh), 0);
	cr_assert_eq(fh, 7);
	cr_assert(fs_handles_remove(NULL, fh));
}

Test(fs_handles, a_strange_table_is_refused)
{
	uint64_t zero = 0;
	struct fs_handles *other;

	cr_assert_eq(pwrite(fd, &zero, sizeof(zero), 0), sizeof(zero));
	cr_assert_eq(fs_handles_map(fd, &other), -EBADMSG);
	cr_assert_eq(ftruncate(fd, 100), 0);
	cr_assert_eq(fs_handles_map(fd, &other), -EBADMSG);
	/* The fixture's mapping would not survive being read now. */
	cr_assert_eq(ftruncate(fd, 4 * MIB), 0);
}
