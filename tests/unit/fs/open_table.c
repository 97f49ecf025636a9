/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open table: one open given back for each that was taken over, never
 * while a request has the disk pinned, whatever the threads do at once; and the
 * time of the last change, noted at once and recorded later.
 *
 * The backing device here counts its opens, as iocore's does. It is not one
 * that could be read or written: the table never does.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "fs/open_table.h"
#include "iocore/bd.h"
#include "tests/unit/random.h"

#define QUEUES 3
#define MS UINT64_C(1000000)

struct counted {
	struct ioc_bd bd;
	_Atomic int opens;
};

static struct fs_open_table table;
static struct fs_open_cache caches[QUEUES];
static struct counted disks[8];
/* Never looked into. */
static struct meta_disk *const some_disk = (struct meta_disk *)&table;
static unsigned snapshots_closed;

static void close_counted(struct ioc_bd *bd)
{
	int left = atomic_fetch_sub(&container_of(bd, struct counted, bd)->opens, 1) - 1;

	cr_assert_geq(left, 0, "closed more often than opened");
}

static void close_snapshot(struct ioc_bd *bd)
{
	snapshots_closed++;
	close_counted(bd);
}

static void keep_nothing(struct meta_disk *disk, uint64_t modified_s, void *ctx)
{
	if (ctx)
		*(uint64_t *)ctx += modified_s;
}

static void set_up(void)
{
	cr_assert_eq(fs_open_table_init(&table, QUEUES, close_counted), 0);
	table.close_snapshot = close_snapshot;
}

static void tear_down(void)
{
	fs_open_table_done(&table, keep_nothing, NULL);
	for (size_t i = 0; i < ARRAY_LEN(disks); i++)
		cr_assert_eq(disks[i].opens, 0, "disk %zu", i);
}

static void open_disk(uint64_t number)
{
	atomic_fetch_add(&disks[number].opens, 1);
	cr_assert_eq(fs_open_add(&table, number, &disks[number].bd, some_disk), 0);
}

static void release_disk(uint64_t number)
{
	cr_assert_eq(fs_open_release(&table, number), 0);
}

static void write_disk(uint64_t number, uint64_t now_s)
{
	struct ioc_bd *bd;
	struct fs_open *open = fs_open_pin(&table, &caches[0], 0, number, &bd);

	cr_assert_not_null(open);
	fs_open_mark_modified(open, now_s);
	fs_open_unpin(&table, 0, open);
}

TestSuite(fs_open_table, .init = set_up, .fini = tear_down);

Test(fs_open_table, pin_finds_an_open_disk_and_no_other)
{
	struct ioc_bd *bd = NULL;
	struct fs_open *open;

	open_disk(1);
	open = fs_open_pin(&table, &caches[0], 0, 1, &bd);
	cr_assert_not_null(open);
	cr_expect_eq(bd, &disks[1].bd);
	fs_open_unpin(&table, 0, open);
	cr_expect_null(fs_open_pin(&table, &caches[0], 0, 2, &bd));
	cr_expect_null(fs_open_pin(&table, &caches[0], 0, 0, &bd));
	cr_expect_null(fs_open_pin(&table, &caches[0], 0, 1 + FS_OPEN_CACHE_ENTRIES, &bd));
	release_disk(1);
	cr_expect_null(fs_open_pin(&table, &caches[0], 0, 1, &bd));
}

Test(fs_open_table, each_release_gives_one_open_back)
{
	open_disk(1);
	open_disk(1);
	open_disk(1);
	cr_expect_eq(fs_open_count(&table, 1), 3);
	for (int left = 2; left >= 0; left--) {
		release_disk(1);
		cr_expect_eq(disks[1].opens, left);
	}
	cr_expect_eq(fs_open_count(&table, 1), 0);
}

Test(fs_open_table, release_of_what_is_not_open_is_refused)
{
	cr_expect_eq(fs_open_release(&table, 1), -EBADF);
	open_disk(1);
	release_disk(1);
	cr_expect_eq(fs_open_release(&table, 1), -EBADF);
}

Test(fs_open_table, last_close_waits_for_the_requests_in_flight)
{
	struct ioc_bd *bd;
	struct fs_open *a, *b;

	open_disk(1);
	a = fs_open_pin(&table, &caches[0], 0, 1, &bd);
	b = fs_open_pin(&table, &caches[2], 2, 1, &bd);
	release_disk(1);
	cr_expect_eq(disks[1].opens, 1);
	cr_expect_eq(fs_open_count(&table, 1), 1);
	cr_expect_null(fs_open_pin(&table, &caches[0], 0, 1, &bd), "a closing disk takes no new requests");
	fs_open_unpin(&table, 0, a);
	cr_expect_eq(disks[1].opens, 1);
	fs_open_unpin(&table, 2, b);
	cr_expect_eq(disks[1].opens, 0);
	cr_expect_eq(fs_open_count(&table, 1), 0);
}

Test(fs_open_table, a_disk_opened_again_while_it_closes_stays_open)
{
	struct ioc_bd *bd;
	struct fs_open *open;

	open_disk(1);
	open = fs_open_pin(&table, &caches[0], 0, 1, &bd);
	release_disk(1);
	open_disk(1);
	cr_expect_eq(disks[1].opens, 1, "the old open is given back");
	fs_open_unpin(&table, 0, open);
	cr_expect_eq(disks[1].opens, 1);
	open = fs_open_pin(&table, &caches[0], 0, 1, &bd);
	cr_assert_not_null(open);
	fs_open_unpin(&table, 0, open);
	release_disk(1);
}

Test(fs_open_table, an_outdated_cache_does_not_find_another_disk)
{
	struct ioc_bd *bd;
	struct fs_open *open;

	open_disk(1);
	open = fs_open_pin(&table, &caches[0], 0, 1, &bd);
	fs_open_unpin(&table, 0, open);
	release_disk(1);
	open_disk(2); /* in the recycled entry */
	cr_expect_null(fs_open_pin(&table, &caches[0], 0, 1, &bd));
	open = fs_open_pin(&table, &caches[0], 0, 2, &bd);
	cr_assert_not_null(open);
	cr_expect_eq(bd, &disks[2].bd);
	fs_open_unpin(&table, 0, open);
	release_disk(2);
}

/* ---- the time of change ------------------------------------------------------------------- */

/* What the recorder would get once recording is to end: all that is left, without the delay. */
static unsigned record_all(uint64_t *ret_number, uint64_t *ret_modified_s)
{
	unsigned count = 0;

	fs_open_end_recording(&table);
	for (; fs_open_next_to_record(&table, ret_number, ret_modified_s); count++)
		fs_open_recorded(&table, *ret_modified_s);
	return count;
}

Test(fs_open_table, time_of_change_is_seen_from_the_write_until_it_is_recorded)
{
	uint64_t number, modified_s;

	open_disk(1);
	write_disk(1, 77);
	cr_expect_eq(fs_open_modified(&table, 1), 77);
	release_disk(1);
	cr_expect_eq(disks[1].opens, 0);
	cr_expect_eq(fs_open_modified(&table, 1), 77);
	fs_open_end_recording(&table);
	cr_assert(fs_open_next_to_record(&table, &number, &modified_s));
	cr_expect_eq(number, 1);
	cr_expect_eq(modified_s, 77);
	cr_expect_eq(fs_open_modified(&table, 1), 77, "not recorded yet");
	fs_open_recorded(&table, modified_s);
	cr_expect_eq(fs_open_modified(&table, 1), 0);
	cr_expect_not(fs_open_next_to_record(&table, &number, &modified_s));
}

Test(fs_open_table, many_writes_and_closes_are_recorded_once)
{
	uint64_t number, modified_s;

	for (uint64_t i = 1; i <= 10; i++) {
		open_disk(1);
		write_disk(1, i);
		release_disk(1);
	}
	cr_expect_eq(record_all(&number, &modified_s), 1);
	cr_expect_eq(modified_s, 10);
}

Test(fs_open_table, nothing_is_recorded_of_what_was_only_read)
{
	uint64_t number, modified_s;

	open_disk(1);
	release_disk(1);
	cr_expect_eq(record_all(&number, &modified_s), 0);
}

Test(fs_open_table, a_time_that_somebody_set_replaces_the_noted_one)
{
	uint64_t number, modified_s;

	open_disk(1);
	open_disk(2);
	write_disk(1, 77);
	write_disk(2, 78);
	fs_open_clear_modified(&table, 1);
	release_disk(1);
	release_disk(2);
	fs_open_clear_modified(&table, 2);
	cr_expect_eq(fs_open_modified(&table, 2), 0);
	cr_expect_eq(record_all(&number, &modified_s), 0);
}

Test(fs_open_table, a_change_during_the_recording_is_recorded_too)
{
	uint64_t number, modified_s;

	open_disk(1);
	write_disk(1, 77);
	release_disk(1);
	fs_open_end_recording(&table);
	cr_assert(fs_open_next_to_record(&table, &number, &modified_s));
	open_disk(1);
	write_disk(1, 78);
	release_disk(1);
	fs_open_recorded(&table, modified_s);
	cr_expect_eq(fs_open_modified(&table, 1), 78);
	cr_assert(fs_open_next_to_record(&table, &number, &modified_s));
	cr_expect_eq(modified_s, 78);
	fs_open_recorded(&table, modified_s);
}

static _Atomic bool is_cleared;

static void *clear_disk_1(void *arg)
{
	fs_open_clear_modified(&table, 1);
	is_cleared = true;
	return NULL;
}

static unsigned count_waiters(void)
{
	unsigned count;

	pthread_mutex_lock(&table.lock);
	count = table.waiters;
	pthread_mutex_unlock(&table.lock);
	return count;
}

Test(fs_open_table, setting_a_time_waits_for_the_recording_under_way, .timeout = 60)
{
	uint64_t number, modified_s;
	pthread_t thread;

	open_disk(1);
	write_disk(1, 77);
	release_disk(1);
	fs_open_end_recording(&table);
	cr_assert(fs_open_next_to_record(&table, &number, &modified_s));
	cr_assert_eq(pthread_create(&thread, NULL, clear_disk_1, NULL), 0);
	while (!is_cleared && count_waiters() == 0)
		sched_yield();
	cr_expect_not(is_cleared, "the older time would be recorded after the one that is set next");
	fs_open_recorded(&table, modified_s);
	pthread_join(thread, NULL);
}

Test(fs_open_table, wait_says_busy_after_its_time)
{
	open_disk(1);
	cr_expect_eq(fs_open_wait(&table, 1, 0, MS), -EBUSY);
	cr_expect_eq(fs_open_wait(&table, 1, 1, MS), 0);
	cr_expect_eq(fs_open_wait(&table, 2, 0, MS), 0);
	release_disk(1);
}

static void *release_one_of_disk_1(void *arg)
{
	release_disk(1);
	return NULL;
}

Test(fs_open_table, wait_ends_with_the_release_and_finds_the_open_given_back, .timeout = 60)
{
	for (int i = 0; i < 2000; i++) {
		pthread_t thread;

		open_disk(1);
		cr_assert_eq(pthread_create(&thread, NULL, release_one_of_disk_1, NULL), 0);
		cr_assert_eq(fs_open_wait(&table, 1, 0, 50000 * MS), 0);
		cr_assert_eq(disks[1].opens, 0);
		pthread_join(thread, NULL);
	}
}

Test(fs_open_table_end, what_is_left_open_is_closed, .init = set_up)
{
	uint64_t kept = 0;

	open_disk(1);
	open_disk(1);
	open_disk(2);
	write_disk(2, 5);
	fs_open_table_done(&table, keep_nothing, &kept);
	cr_expect_eq(disks[1].opens, 0);
	cr_expect_eq(disks[2].opens, 0);
	cr_expect_eq(kept, 5);
}

/* ---- all at once -------------------------------------------------------------------------- */

static _Atomic bool is_over;
static _Atomic uint64_t pins;

/* Takes and records without the delay, as long as there is anything. */
static void *be_recorder(void *arg)
{
	uint64_t number, modified_s;

	fs_open_end_recording(&table);
	while (!is_over) {
		if (fs_open_next_to_record(&table, &number, &modified_s))
			fs_open_recorded(&table, modified_s);
	}
	return NULL;
}

/* A queue: pins a few disks at a time and looks whether they are open for as long as it has them. */
static void *be_queue(void *arg)
{
	unsigned queue = (unsigned)(uintptr_t)arg;
	struct fs_open *held[4] = { NULL };
	struct ioc_bd *bds[4];
	uint64_t state = queue;

	while (!is_over) {
		unsigned i = (unsigned)test_random_below(&state, 4);

		if (held[i]) {
			cr_assert_gt(container_of(bds[i], struct counted, bd)->opens, 0, "closed under a request");
			fs_open_mark_modified(held[i], 1 + test_random_below(&state, 3));
			fs_open_unpin(&table, queue, held[i]);
			held[i] = NULL;
			continue;
		}
		held[i] = fs_open_pin(&table, &caches[queue], queue, 1 + test_random_below(&state, 7), &bds[i]);
		pins += held[i] != NULL;
	}
	for (unsigned i = 0; i < 4; i++) {
		if (held[i])
			fs_open_unpin(&table, queue, held[i]);
	}
	return NULL;
}

Test(fs_open_table, some_disk_is_closed_under_a_request, .timeout = 60)
{
	unsigned counts[8] = { 0 };
	uint64_t state = test_seed();
	pthread_t threads[QUEUES], recorder;

	for (uintptr_t i = 0; i < QUEUES; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, be_queue, (void *)i), 0);
	cr_assert_eq(pthread_create(&recorder, NULL, be_recorder, NULL), 0);
	for (int i = 0; i < 200000 || pins < 1000; i++) {
		uint64_t number = 1 + test_random_below(&state, 7);

		if (counts[number] > 0 && test_random_below(&state, 3)) {
			if (test_random_below(&state, 2))
				fs_open_clear_modified(&table, number);
			release_disk(number);
			counts[number]--;
		} else if (counts[number] < 2) {
			open_disk(number);
			counts[number]++;
		}
	}
	is_over = true;
	for (unsigned i = 0; i < QUEUES; i++)
		pthread_join(threads[i], NULL);
	pthread_join(recorder, NULL);
	for (uint64_t number = 1; number < 8; number++) {
		while (counts[number]-- > 0)
			release_disk(number);
	}
}

Test(fs_open_table, a_snapshot_is_given_back_as_one)
{
	struct ioc_bd *bd;
	struct fs_open *open;

	atomic_fetch_add(&disks[1].opens, 2);
	cr_assert_eq(fs_open_add(&table, 1, &disks[1].bd, NULL), 0);
	cr_assert_eq(fs_open_add(&table, 1, &disks[1].bd, NULL), 0);
	release_disk(1);
	cr_assert_eq(snapshots_closed, 1);
	open = fs_open_pin(&table, &caches[0], 0, 1, &bd);
	cr_assert_eq(bd, &disks[1].bd);
	release_disk(1);
	cr_assert_eq(snapshots_closed, 1, "closed under a request");
	fs_open_unpin(&table, 0, open);
	cr_assert_eq(snapshots_closed, 2);
	open_disk(2);
	release_disk(2);
	cr_assert_eq(snapshots_closed, 2);
}

Test(fs_open_table, a_change_is_noted_only_of_an_open_disk)
{
	fs_open_note_modified(&table, 1, 100);
	cr_assert_eq(fs_open_modified(&table, 1), 0);
	open_disk(1);
	fs_open_note_modified(&table, 1, 100);
	cr_assert_eq(fs_open_modified(&table, 1), 100);
	release_disk(1);
}
