/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of meta/db.c share: a directory of their own, an environment in it, and hands on its file. */
#ifndef TESTS_UNIT_META_DB_FIXTURE_H
#define TESTS_UNIT_META_DB_FIXTURE_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/db.h"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif

/* Each criterion test is a process of its own, so these are the test's. */
static char test_dir[PATH_MAX - 16];
static char data_path[PATH_MAX];

static inline void make_test_dir(void)
{
	const char *base = getenv("TMPDIR");

	snprintf(test_dir, sizeof(test_dir), "%s/bdfs-db-XXXXXX", base ? base : P_tmpdir);
	cr_assert(mkdtemp(test_dir));
	snprintf(data_path, sizeof(data_path), "%s/data.mdb", test_dir);
}

static inline void remove_test_dir(void)
{
	DIR *dir = opendir(test_dir);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(test_dir);
}

static inline struct db_env *open_or_die(enum db_open_mode mode, uint64_t map_bytes)
{
	struct base_error err = { 0 };
	struct db_env *env = NULL;

	cr_assert_eq(db_open(test_dir, mode, map_bytes, &env, &err), 0, "%s", err.text);
	return env;
}

static inline struct db_txn *begin_write(struct db_env *env)
{
	struct db_txn *txn = NULL;

	cr_assert_eq(db_write_begin(env, &txn), 0);
	return txn;
}

static inline void put_one(struct db_env *env, enum db_kind kind, struct db_key key, const void *value, size_t bytes)
{
	struct db_txn *txn = begin_write(env);

	cr_assert_eq(db_put(txn, kind, &key, value, bytes), 0);
	cr_assert_eq(db_write_commit(txn), 0);
}

/* The outcome of one look-up in a transaction of its own. */
static inline int get_one(struct db_env *env, enum db_kind kind, struct db_key key, struct db_value *ret)
{
	struct db_txn *txn = NULL;
	int rc = db_read_begin(env, &txn);

	if (rc != 0)
		return rc;
	rc = db_get(txn, kind, &key, ret);
	db_read_end(txn);
	db_read_free(txn);
	return rc;
}

/* A value that can be told from all others. */
static inline void fill_value(uint8_t *value, size_t bytes, uint64_t n)
{
	for (size_t i = 0; i < bytes; i++)
		value[i] = (uint8_t)((n + 1) * (2 * i + 3) >> (i % 8));
}

/* `count` records of `bytes` bytes in database map, in one transaction: 0 or what failed. */
static inline int put_many(struct db_env *env, uint64_t first, uint64_t count, size_t bytes)
{
	struct db_txn *txn = NULL;
	uint8_t value[DB_VALUE_BYTES_MAX];
	int rc = db_write_begin(env, &txn);

	if (rc != 0)
		return rc;
	for (uint64_t n = first; n < first + count; n++) {
		struct db_key key = db_key_u64(n);

		fill_value(value, bytes, n);
		rc = db_put(txn, DB_MAP, &key, value, bytes);
		if (rc != 0) {
			db_write_abort(txn);
			return rc;
		}
	}
	return db_write_commit(txn);
}

/* How many of those records are there and right. */
static inline uint64_t count_right(struct db_env *env, uint64_t first, uint64_t count, size_t bytes)
{
	uint8_t expected[DB_VALUE_BYTES_MAX];
	struct db_value value;
	uint64_t right = 0;

	for (uint64_t n = first; n < first + count; n++) {
		fill_value(expected, bytes, n);
		if (get_one(env, DB_MAP, db_key_u64(n), &value) == 0 && value.bytes == bytes &&
		    memcmp(value.b, expected, bytes) == 0)
			right++;
	}
	return right;
}

/* Where `bytes` stand in data.mdb; they must stand there exactly once. */
static inline off_t find_in_file(const void *bytes, size_t count)
{
	struct stat st;
	int fd = open(data_path, O_RDONLY);
	uint8_t *all, *at;
	off_t found;

	cr_assert(fd >= 0 && fstat(fd, &st) == 0);
	all = malloc((size_t)st.st_size);
	cr_assert(all && pread(fd, all, (size_t)st.st_size, 0) == st.st_size);
	close(fd);
	at = memmem(all, (size_t)st.st_size, bytes, count);
	cr_assert(at, "the bytes are not in the file");
	found = at - all;
	cr_assert_null(memmem(at + 1, (size_t)(st.st_size - found - 1), bytes, count), "the bytes are there twice");
	free(all);
	return found;
}

static inline void write_file(off_t at, const void *bytes, size_t count)
{
	int fd = open(data_path, O_WRONLY);

	cr_assert(fd >= 0 && pwrite(fd, bytes, count, at) == (ssize_t)count);
	close(fd);
}

static inline void read_file(off_t at, void *bytes, size_t count)
{
	int fd = open(data_path, O_RDONLY);

	cr_assert(fd >= 0 && pread(fd, bytes, count, at) == (ssize_t)count);
	close(fd);
}

#endif
