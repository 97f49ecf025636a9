/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No room for a commit: nothing happened, the environment is sound, and the
 * same commit works when there is room. Only a failed write of LMDB's meta page
 * is the end, whatever its code.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "meta/db.h"
#include "tests/unit/meta/db_fixture.h"

TestSuite(meta_db_room, .init = make_test_dir, .fini = remove_test_dir);

#define OLD_RECORDS 100
#define NEW_RECORDS 1000
#define RECORD_BYTES 500

static struct db_env *env_with_old_records(void)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);

	cr_assert_eq(put_many(env, 0, OLD_RECORDS, RECORD_BYTES), 0);
	return env;
}

/* The commit fails for want of room, harmlessly. */
static void expect_no_room(struct db_env *env)
{
	struct db_value value;

	cr_assert_eq(put_many(env, OLD_RECORDS, NEW_RECORDS, RECORD_BYTES), -ENOSPC);
	cr_assert_not(db_is_dead(env));
	cr_expect_eq(count_right(env, 0, OLD_RECORDS, RECORD_BYTES), OLD_RECORDS);
	cr_expect_eq(get_one(env, DB_MAP, db_key_u64(OLD_RECORDS), &value), DB_NOT_FOUND);
}

/* There is room again: it works here, and is there after opening again. */
static void expect_healed(struct db_env *env)
{
	cr_assert_eq(put_many(env, OLD_RECORDS, NEW_RECORDS, RECORD_BYTES), 0);
	cr_expect_eq(count_right(env, 0, OLD_RECORDS + NEW_RECORDS, RECORD_BYTES), OLD_RECORDS + NEW_RECORDS);
	db_close(env);
	env = open_or_die(DB_OPEN_WRITE, 0);
	cr_expect_eq(count_right(env, 0, OLD_RECORDS + NEW_RECORDS, RECORD_BYTES), OLD_RECORDS + NEW_RECORDS);
	db_close(env);
}

static void limit_file_size(rlim_t bytes)
{
	struct rlimit limit = { bytes, RLIM_INFINITY };

	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

Test(meta_db_room, a_file_that_may_not_grow_by_a_page_is_no_room)
{
	struct db_env *env = env_with_old_records();
	struct stat st;

	cr_assert_eq(stat(data_path, &st), 0);
	limit_file_size((rlim_t)st.st_size);
	expect_no_room(env);
	expect_no_room(env);
	limit_file_size(RLIM_INFINITY);
	expect_healed(env);
}

/* The limit cuts a write of several pages in its middle: LMDB calls that EIO. */
Test(meta_db_room, a_write_that_is_cut_short_is_no_room)
{
	for (int pages = 1; pages <= 40; pages += 3) {
		struct db_env *env = env_with_old_records();
		struct stat st;

		cr_assert_eq(stat(data_path, &st), 0);
		limit_file_size((rlim_t)st.st_size + 4096 * (rlim_t)pages + 100);
		expect_no_room(env);
		limit_file_size(RLIM_INFINITY);
		expect_healed(env);
		remove_test_dir();
		cr_assert_eq(mkdir(test_dir, 0700), 0);
	}
}

Test(meta_db_room, a_full_file_system_is_no_room_until_something_is_removed)
{
	char ballast_path[PATH_MAX];
	static const uint8_t zeros[4096];
	struct db_env *env;
	int fd;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", test_dir, "tmpfs", 0, "size=2m") < 0)
		cr_skip_test("mounting a small file system needs root");
	env = env_with_old_records();
	snprintf(ballast_path, sizeof(ballast_path), "%s/ballast", test_dir);
	fd = open(ballast_path, O_WRONLY | O_CREAT, 0600);
	cr_assert_geq(fd, 0);
	while (write(fd, zeros, sizeof(zeros)) == sizeof(zeros))
		continue;
	cr_assert_eq(errno, ENOSPC);
	expect_no_room(env);
	expect_no_room(env);
	/* Some room, but not enough: writes end in their middle. */
	for (off_t give = 1; give <= 64; give *= 2) {
		struct stat st;

		cr_assert(fstat(fd, &st) == 0 && ftruncate(fd, st.st_size - give * 4096) == 0);
		expect_no_room(env);
	}
	close(fd);
	cr_assert_eq(unlink(ballast_path), 0);
	expect_healed(env);
	umount(test_dir);
}

Test(meta_db_room, a_full_map_is_no_room_and_removing_works)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 256 * KIB);
	struct db_txn *txn;

	cr_assert_eq(put_many(env, 0, OLD_RECORDS, RECORD_BYTES), 0);
	expect_no_room(env);
	txn = begin_write(env);
	for (uint64_t n = 0; n < OLD_RECORDS; n++) {
		struct db_key key = db_key_u64(n);

		cr_assert_eq(db_del(txn, DB_MAP, &key), 0);
	}
	cr_expect_eq(db_write_commit(txn), 0);
	cr_expect_eq(put_many(env, 0, OLD_RECORDS, RECORD_BYTES), 0);
	db_close(env);
}

Test(meta_db_room, committing_after_a_put_without_room_is_no_room_and_writes_nothing)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 256 * KIB);
	struct db_txn *txn = begin_write(env);
	uint8_t payload[RECORD_BYTES] = { 1 };
	struct db_value value;
	uint64_t n = 0;
	int rc;

	do {
		struct db_key key = db_key_u64(n++);

		rc = db_put(txn, DB_MAP, &key, payload, sizeof(payload));
	} while (rc == 0 && n < 10000);
	cr_assert_eq(rc, -ENOSPC);
	cr_expect_eq(db_write_commit(txn), -ENOSPC);
	cr_expect_not(db_is_dead(env));
	cr_expect_eq(get_one(env, DB_MAP, db_key_u64(0), &value), DB_NOT_FOUND);
	put_one(env, DB_MAP, db_key_u64(0), "x", 1);
	db_close(env);
}

/* --- which of LMDB's two descriptors fails --- */

/* LMDB's descriptor of data.mdb for pages, or the synchronous one for meta pages. */
static int find_descriptor(bool synchronous)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	struct stat data, st;
	int found = -1;

	cr_assert(dir && stat(data_path, &data) == 0);
	while ((entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || fstat(fd, &st) < 0 || st.st_ino != data.st_ino ||
		    st.st_dev != data.st_dev)
			continue;
		if (((fcntl(fd, F_GETFL) & O_DSYNC) != 0) == synchronous)
			found = fd;
	}
	closedir(dir);
	cr_assert_geq(found, 0);
	return found;
}

/* Writes to fd fail with ENOSPC from now on. Returns what fd was. */
static int fill_up(int fd)
{
	int saved = fcntl(fd, F_DUPFD_CLOEXEC, 100);
	int full = open("/dev/full", O_RDWR | O_CLOEXEC);

	cr_assert(saved >= 0 && full >= 0 && dup2(full, fd) == fd);
	close(full);
	return saved;
}

Test(meta_db_room, pages_that_meet_no_room_are_harmless)
{
	struct db_env *env = env_with_old_records();
	int fd = find_descriptor(false);
	int saved = fill_up(fd);

	expect_no_room(env);
	expect_no_room(env);
	cr_assert_eq(dup2(saved, fd), fd);
	close(saved);
	expect_healed(env);
}

Test(meta_db_room, a_meta_page_that_meets_no_room_is_the_end_until_opened_again)
{
	struct db_env *env = env_with_old_records();
	struct db_txn *txn = NULL;
	int fd = find_descriptor(true);
	int saved = fill_up(fd);

	cr_expect_eq(put_many(env, OLD_RECORDS, NEW_RECORDS, RECORD_BYTES), -EIO);
	cr_expect(db_is_dead(env) && db_is_sealed(env));
	cr_expect_eq(db_read_begin(env, &txn), -EIO);
	cr_expect_eq(db_write_begin(env, &txn), -EIO);
	cr_assert_eq(dup2(saved, fd), fd);
	close(saved);
	cr_expect_eq(db_write_begin(env, &txn), -EIO, "dead is dead");
	db_close(env);
	env = open_or_die(DB_OPEN_WRITE, 0);
	cr_expect_eq(count_right(env, 0, OLD_RECORDS, RECORD_BYTES), OLD_RECORDS);
	expect_healed(env);
}

Test(meta_db_room, any_other_failure_of_a_commit_is_the_end_of_writing_and_not_of_reading)
{
	struct db_env *env = env_with_old_records();
	int fd = find_descriptor(false);
	int read_only = open(data_path, O_RDONLY | O_CLOEXEC);
	struct db_txn *txn;

	cr_assert(read_only >= 0 && dup2(read_only, fd) == fd);
	close(read_only);
	cr_expect_eq(put_many(env, OLD_RECORDS, NEW_RECORDS, RECORD_BYTES), -EBADF);
	cr_expect(db_is_sealed(env));
	cr_expect_eq(db_write_begin(env, &txn), -EIO);
	cr_expect_eq(count_right(env, 0, OLD_RECORDS, RECORD_BYTES), OLD_RECORDS);
	db_close(env);
	env = open_or_die(DB_OPEN_WRITE, 0);
	cr_expect_eq(count_right(env, 0, OLD_RECORDS, RECORD_BYTES), OLD_RECORDS);
	db_close(env);
}
