/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata that can't be read while it is in use: the daemon lives, the caller
 * gets -EIO, and the environment is dead from then on.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "meta/db.h"
#include "tests/unit/meta/db_fixture.h"

TestSuite(meta_db_faults, .init = make_test_dir, .fini = remove_test_dir);

#define META_PAGES_BYTES 8192
#define RECORDS 2000

/* An environment of some hundred pages whose file ends behind the meta pages, as after an accident. */
static struct db_env *open_and_cut(enum db_open_mode mode)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);

	cr_assert_eq(put_many(env, 0, RECORDS, 300), 0);
	db_close(env);
	env = open_or_die(mode, 0);
	cr_assert_eq(truncate(data_path, META_PAGES_BYTES), 0);
	return env;
}

static void expect_dead(struct db_env *env)
{
	struct db_txn *txn = NULL;
	struct db_usage usage;

	cr_expect(db_is_dead(env));
	cr_expect_eq(db_read_begin(env, &txn), -EIO);
	cr_expect_null(txn);
	cr_expect_eq(db_write_begin(env, &txn), -EIO);
	cr_expect_null(txn);
	cr_expect_eq(db_usage(env, &usage), -EIO);
}

static void expect_read_fault(struct db_env *env)
{
	struct db_key key = db_key_u64(1000);
	struct db_txn *txn = NULL;
	struct db_value value;
	uint64_t count;

	cr_assert_eq(db_read_begin(env, &txn), 0);
	cr_expect_not(db_is_dead(env));
	cr_expect_eq(db_get(txn, DB_MAP, &key, &value), -EIO);
	cr_expect(db_is_dead(env));
	cr_expect_eq(db_get(txn, DB_MAP, &key, &value), -EIO);
	cr_expect_eq(db_next(txn, DB_MAP, &key, true, &value), -EIO);
	cr_expect_eq(db_count(txn, DB_MAP, &count), -EIO);
	db_read_end(txn);
	db_read_free(txn);
	expect_dead(env);
	db_close(env);
}

Test(meta_db_faults, a_look_up_in_a_file_cut_short_is_an_io_error)
{
	expect_read_fault(open_and_cut(DB_OPEN_WRITE));
}

Test(meta_db_faults, so_it_is_when_opened_read_only)
{
	expect_read_fault(open_and_cut(DB_OPEN_READ_ONLY));
}

Test(meta_db_faults, an_environment_that_died_reading_can_be_opened_again_when_it_is_repaired)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_value value;
	static uint8_t copy[4 * MIB];
	struct stat st;

	cr_assert_eq(put_many(env, 0, RECORDS, 300), 0);
	cr_assert_eq(stat(data_path, &st), 0);
	cr_assert_leq((size_t)st.st_size, sizeof(copy));
	read_file(0, copy, (size_t)st.st_size);
	cr_assert_eq(truncate(data_path, META_PAGES_BYTES), 0);
	cr_expect_eq(get_one(env, DB_MAP, db_key_u64(5), &value), -EIO);
	write_file(0, copy, (size_t)st.st_size);
	cr_expect_eq(get_one(env, DB_MAP, db_key_u64(5), &value), -EIO, "dead is dead");
	db_close(env);
	env = open_or_die(DB_OPEN_WRITE, 0);
	cr_expect_eq(count_right(env, 0, RECORDS, 300), RECORDS);
	db_close(env);
}

Test(meta_db_faults, a_scan_dies_like_a_look_up)
{
	struct db_env *env = open_and_cut(DB_OPEN_WRITE);
	struct db_key key = { .bytes = 0 };
	struct db_txn *txn = NULL;
	struct db_value value;

	cr_assert_eq(db_read_begin(env, &txn), 0);
	cr_expect_eq(db_next(txn, DB_MAP, &key, true, &value), -EIO);
	db_read_end(txn);
	db_read_free(txn);
	expect_dead(env);
	db_close(env);
}

enum way_to_end { COMMIT, ABORT };

static void fault_in_write(enum way_to_end way)
{
	struct db_env *env = open_and_cut(DB_OPEN_WRITE);
	struct db_key key = db_key_u64(1000);
	struct db_value value;
	struct db_txn *txn = begin_write(env);

	cr_expect_eq(db_put(txn, DB_MAP, &key, "new", 3), -EIO);
	cr_expect(db_is_dead(env));
	cr_expect_eq(db_put(txn, DB_MAP, &key, "new", 3), -EIO);
	cr_expect_eq(db_del(txn, DB_MAP, &key), -EIO);
	cr_expect_eq(db_get(txn, DB_MAP, &key, &value), -EIO);
	if (way == COMMIT)
		cr_expect_eq(db_write_commit(txn), -EIO);
	else
		db_write_abort(txn);
	expect_dead(env);
	db_close(env);
}

Test(meta_db_faults, a_fault_in_a_write_transaction_ends_in_a_failed_commit)
{
	fault_in_write(COMMIT);
}

Test(meta_db_faults, a_fault_in_a_write_transaction_can_be_aborted)
{
	fault_in_write(ABORT);
}

/* A writer that gets LMDB's writer lock ends well; one that must wait for it is ended by the alarm. */
static void write_or_wait(void)
{
	alarm(1);
	put_one(open_or_die(DB_OPEN_WRITE, 0), DB_MAP, db_key_u64(1), "x", 1);
	_exit(0);
}

Test(meta_db_faults, an_environment_that_died_writing_is_let_go_of_as_it_is)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	static uint8_t copy[4 * MIB];
	struct db_key key = db_key_u64(1000);
	struct db_txn *txn;
	struct stat st;
	int status;
	pid_t child;

	cr_assert_eq(put_many(env, 0, RECORDS, 300), 0);
	cr_assert_eq(stat(data_path, &st), 0);
	cr_assert_leq((size_t)st.st_size, sizeof(copy));
	read_file(0, copy, (size_t)st.st_size);
	txn = begin_write(env);
	cr_assert_eq(truncate(data_path, META_PAGES_BYTES), 0);
	cr_expect_eq(db_put(txn, DB_MAP, &key, "new", 3), -EIO);
	write_file(0, copy, (size_t)st.st_size);
	cr_expect_eq(db_write_commit(txn), -EIO);
	db_close(env);
	/* Neither the end of the transaction nor close touched it: the lock is held while this process lives. */
	child = fork();
	if (child == 0)
		write_or_wait();
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM, "status %x", status);
}

Test(meta_db_faults, a_fault_in_a_look_up_of_the_writer_is_the_writers_end)
{
	struct db_env *env = open_and_cut(DB_OPEN_WRITE);
	struct db_key key = db_key_u64(1000);
	struct db_value value;
	struct db_txn *txn = begin_write(env);

	cr_expect_eq(db_next(txn, DB_MAP, &key, true, &value), -EIO);
	cr_expect_eq(db_write_commit(txn), -EIO);
	expect_dead(env);
	db_close(env);
}

Test(meta_db_faults, nothing_is_written_to_a_file_after_its_environment_died)
{
	struct db_env *env = open_and_cut(DB_OPEN_WRITE);
	struct db_key key = db_key_u64(1000);
	struct db_txn *txn = begin_write(env);
	uint8_t before[META_PAGES_BYTES], after[META_PAGES_BYTES];
	struct stat st;

	read_file(0, before, sizeof(before));
	cr_expect_eq(db_put(txn, DB_MAP, &key, "new", 3), -EIO);
	cr_expect_eq(db_write_commit(txn), -EIO);
	db_close(env);
	read_file(0, after, sizeof(after));
	cr_expect_eq(memcmp(before, after, sizeof(before)), 0);
	cr_expect(stat(data_path, &st) == 0 && st.st_size == META_PAGES_BYTES);
}

Test(meta_db_faults, a_fault_in_the_middle_of_a_commit_is_dead_too)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_txn *txn;
	struct db_key key;

	/* So many transactions leave free pages whose list a commit has to read. */
	for (uint64_t n = 0; n < 40; n++)
		cr_assert_eq(put_many(env, n * 50, 100, 500), 0);
	db_close(env);
	env = open_or_die(DB_OPEN_WRITE, 0);
	txn = begin_write(env);
	/* A root that is empty takes a record without reading a page; only the commit reads some. */
	key = db_key_u64(1);
	cr_assert_eq(db_put(txn, DB_VTD, &key, "x", 1), 0);
	cr_assert_eq(truncate(data_path, META_PAGES_BYTES), 0);
	cr_expect_eq(db_write_commit(txn), -EIO);
	expect_dead(env);
	db_close(env);
}

Test(meta_db_faults, opening_a_file_cut_short_is_an_error_that_says_so)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct base_error err = { 0 };

	cr_assert_eq(put_many(env, 0, RECORDS, 300), 0);
	db_close(env);
	cr_assert_eq(truncate(data_path, META_PAGES_BYTES), 0);
	env = NULL;
	cr_expect_eq(db_open(test_dir, DB_OPEN_WRITE, 0, &env, &err), -EBADMSG);
	cr_expect(strstr(err.text, "beyond the end of the file"), "%s", err.text);
	cr_expect_null(env);
}

static void *look_up(void *arg)
{
	struct db_value value;

	return (void *)(intptr_t)get_one(arg, DB_MAP, db_key_u64(3), &value);
}

Test(meta_db_faults, a_fault_in_another_thread_is_that_threads)
{
	struct db_env *env = open_and_cut(DB_OPEN_WRITE);
	pthread_t thread;
	void *rc;

	cr_assert_eq(pthread_create(&thread, NULL, look_up, env), 0);
	pthread_join(thread, &rc);
	cr_expect_eq((intptr_t)rc, -EIO);
	expect_dead(env);
	db_close(env);
}

/* A page of the tree overwritten with rubbish: LMDB notices, or its bounds or asserts do; nobody dies. */
Test(meta_db_faults, damaged_pages_of_the_tree_never_end_the_process)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	static uint8_t page[4096], rubbish[4096];
	struct db_value value;
	struct stat st;
	uint64_t right = 0, wrong = 0;

	cr_assert_eq(put_many(env, 0, 200, 300), 0);
	db_close(env);
	cr_assert_eq(stat(data_path, &st), 0);
	memset(rubbish, 0xff, sizeof(rubbish));
	for (off_t at = META_PAGES_BYTES; at < st.st_size; at += 4096) {
		struct base_error err = { 0 };

		read_file(at, page, sizeof(page));
		memcpy(rubbish, page, 8); /* the page number stays, so that it looks like a page */
		write_file(at, rubbish, sizeof(rubbish));
		if (db_open(test_dir, DB_OPEN_READ_ONLY, 0, &env, &err) == 0) {
			for (uint64_t n = 0; n < 200; n += 20) {
				int rc = get_one(env, DB_MAP, db_key_u64(n), &value);

				right += rc == 0;
				wrong += rc == -EIO || rc == -EBADMSG;
			}
			db_close(env);
		} else {
			wrong++;
		}
		write_file(at, page, sizeof(page));
	}
	cr_expect_gt(right, 0);
	cr_expect_gt(wrong, 0);
	env = open_or_die(DB_OPEN_WRITE, 0);
	cr_expect_eq(count_right(env, 0, 200, 300), 200);
	db_close(env);
}
