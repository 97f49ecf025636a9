/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records in LMDB: what is put is found, in order; what is stored are these
 * bytes; and a record that is not what it was, or not where it was, is refused.
 */
#include <lmdb.h>
#include <signal.h>
#include <sys/resource.h>

#include "meta/db.h"
#include "tests/unit/meta/db_fixture.h"
#include "tests/unit/meta/golden.h"

TestSuite(meta_db, .init = make_test_dir, .fini = remove_test_dir);

Test(meta_db, what_was_committed_is_there_after_opening_again)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_value value;

	put_one(env, DB_DISK, db_key_u64(7), "seven", 5);
	db_close(env);
	env = open_or_die(DB_OPEN_WRITE, 0);
	cr_assert_eq(get_one(env, DB_DISK, db_key_u64(7), &value), 0);
	cr_expect(value.bytes == 5 && memcmp(value.b, "seven", 5) == 0);
	cr_expect_eq(get_one(env, DB_DISK, db_key_u64(8), &value), DB_NOT_FOUND);
	cr_expect_eq(get_one(env, DB_LAYER, db_key_u64(7), &value), DB_NOT_FOUND);
	db_close(env);
}

Test(meta_db, stored_bytes_are_the_payload_and_the_golden_checksum)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);

	put_one(env, DB_DISK, db_key_u64(0x0102030405060708), golden_stored, sizeof(golden_stored) - 8);
	find_in_file(golden_stored, sizeof(golden_stored));
	db_close(env);
}

Test(meta_db, kind_numbers_and_names_are_the_format)
{
	static const char *const names[] = { "pool",  "pv",  "disk",  "layer",   "snapshot",
					     "index", "map", "space", "adapter", "vtd" };

	cr_assert_eq(ARRAY_LEN(names), DB_KINDS);
	for (int kind = 0; kind < DB_KINDS; kind++)
		cr_expect_str_eq(db_kind_to_text(kind), names[kind]);
}

Test(meta_db, keys_sort_as_their_numbers_and_read_back)
{
	struct db_key small = db_key_u64_u64(1, UINT64_MAX), large = db_key_u64_u64(2, 0);
	uint64_t a, b;

	cr_expect_lt(memcmp(small.b, large.b, 16), 0);
	cr_expect(db_key_to_u64_u64(&small, &a, &b) && a == 1 && b == UINT64_MAX);
	cr_expect_not(db_key_to_u64(&small, &a));
	small = db_key_u64(255);
	large = db_key_u64(256);
	cr_expect_lt(memcmp(small.b, large.b, 8), 0);
	cr_expect(db_key_to_u64(&large, &a) && a == 256);
	cr_expect_not(db_key_to_u64_u64(&large, &a, &b));
	large = db_key_bytes("vhost0", 6);
	cr_expect(large.bytes == 6 && memcmp(large.b, "vhost0", 6) == 0);
}

Test(meta_db, an_aborted_transaction_leaves_nothing)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_key key = db_key_u64(1);
	struct db_value value;
	struct db_txn *txn = begin_write(env);

	cr_assert_eq(db_put(txn, DB_DISK, &key, "x", 1), 0);
	cr_expect_eq(db_get(txn, DB_DISK, &key, &value), 0, "a transaction sees its own changes");
	db_write_abort(txn);
	cr_expect_eq(get_one(env, DB_DISK, key, &value), DB_NOT_FOUND);
	db_close(env);
}

Test(meta_db, put_replaces_and_del_removes_once)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_key key = db_key_u64(1);
	struct db_value value;
	struct db_txn *txn;
	uint64_t count;

	put_one(env, DB_DISK, key, "old", 3);
	put_one(env, DB_DISK, key, "newer", 5);
	cr_assert_eq(get_one(env, DB_DISK, key, &value), 0);
	cr_expect(value.bytes == 5 && memcmp(value.b, "newer", 5) == 0);
	txn = begin_write(env);
	cr_expect(db_count(txn, DB_DISK, &count) == 0 && count == 1);
	cr_expect_eq(db_del(txn, DB_DISK, &key), 0);
	cr_expect_eq(db_del(txn, DB_DISK, &key), DB_NOT_FOUND);
	cr_expect(db_count(txn, DB_DISK, &count) == 0 && count == 0);
	cr_assert_eq(db_write_commit(txn), 0);
	cr_expect_eq(get_one(env, DB_DISK, key, &value), DB_NOT_FOUND);
	db_close(env);
}

Test(meta_db, the_largest_key_and_value_come_back_and_need_no_overflow_page)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	uint8_t name[DB_KEY_BYTES_MAX], payload[DB_VALUE_BYTES_MAX];
	struct db_usage before, after;
	struct db_value value;

	memset(name, 'n', sizeof(name));
	fill_value(payload, sizeof(payload), 1);
	cr_assert_eq(db_usage(env, &before), 0);
	put_one(env, DB_SNAPSHOT, db_key_bytes(name, sizeof(name)), payload, sizeof(payload));
	cr_assert_eq(get_one(env, DB_SNAPSHOT, db_key_bytes(name, sizeof(name)), &value), 0);
	cr_expect(value.bytes == sizeof(payload) && memcmp(value.b, payload, sizeof(payload)) == 0);
	cr_assert_eq(db_usage(env, &after), 0);
	/* One leaf for the record, one for LMDB's list of what this transaction freed. */
	cr_expect_leq(after.used_bytes - before.used_bytes, 2 * 4096);
	db_close(env);
}

/* --- scans --- */

static void put_range(struct db_env *env, uint64_t store, uint64_t count)
{
	struct db_txn *txn = begin_write(env);

	for (uint64_t n = 0; n < count; n++) {
		struct db_key key = db_key_u64_u64(store, n * 2);
		uint8_t value[40];

		fill_value(value, sizeof(value), store * 1000 + n);
		cr_assert_eq(db_put(txn, DB_MAP, &key, value, sizeof(value)), 0);
	}
	cr_assert_eq(db_write_commit(txn), 0);
}

Test(meta_db, a_scan_sees_every_record_in_order_and_ends)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_txn *txn = NULL;
	struct db_key key = { .bytes = 0 };
	struct db_value value;
	uint64_t store, n, seen = 0;
	int rc;

	put_range(env, 2, 300);
	put_range(env, 1, 300);
	cr_assert_eq(db_read_begin(env, &txn), 0);
	while ((rc = db_next(txn, DB_MAP, &key, false, &value)) == 0) {
		cr_assert(db_key_to_u64_u64(&key, &store, &n));
		cr_assert(store == 1 + seen / 300 && n == seen % 300 * 2, "record %llu", (unsigned long long)seen);
		cr_assert_eq(value.bytes, 40);
		seen++;
	}
	cr_expect_eq(rc, DB_NOT_FOUND);
	cr_expect_eq(seen, 600);
	db_read_end(txn);
	db_read_free(txn);
	db_close(env);
}

Test(meta_db, next_starts_at_the_key_or_after_it)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_txn *txn = NULL;
	struct db_key key = db_key_u64_u64(1, 4);
	struct db_value value;
	uint64_t store, n;

	put_range(env, 1, 10); /* 0, 2 .. 18 */
	cr_assert_eq(db_read_begin(env, &txn), 0);
	cr_expect_eq(db_next(txn, DB_MAP, &key, true, &value), 0);
	cr_expect(db_key_to_u64_u64(&key, &store, &n) && n == 4);
	cr_expect_eq(db_next(txn, DB_MAP, &key, false, &value), 0);
	cr_expect(db_key_to_u64_u64(&key, &store, &n) && n == 6);
	key = db_key_u64_u64(1, 7);
	cr_expect_eq(db_next(txn, DB_MAP, &key, true, &value), 0);
	cr_expect(db_key_to_u64_u64(&key, &store, &n) && n == 8);
	key = db_key_u64_u64(1, 7);
	cr_expect_eq(db_next(txn, DB_MAP, &key, false, &value), 0);
	cr_expect(db_key_to_u64_u64(&key, &store, &n) && n == 8);
	key = db_key_u64_u64(1, 18);
	cr_expect_eq(db_next(txn, DB_MAP, &key, true, &value), 0);
	cr_expect_eq(db_next(txn, DB_MAP, &key, false, &value), DB_NOT_FOUND);
	cr_expect(db_key_to_u64_u64(&key, &store, &n) && n == 18, "the end leaves the key alone");
	key.bytes = 0;
	cr_expect_eq(db_next(txn, DB_MAP, &key, true, &value), 0);
	cr_expect(db_key_to_u64_u64(&key, &store, &n) && n == 0);
	key.bytes = 0;
	cr_expect_eq(db_next(txn, DB_DISK, &key, true, &value), DB_NOT_FOUND, "an empty database");
	db_read_end(txn);
	db_read_free(txn);
	db_close(env);
}

Test(meta_db, a_scan_steps_over_a_bad_record_and_goes_on_in_a_later_transaction)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_txn *txn = NULL;
	struct db_key key = { .bytes = 0 };
	struct db_value value;
	uint64_t store, n, right = 0, bad = 0;
	uint8_t victim[40], byte;
	struct db_usage usage;
	off_t at;
	int rc;

	put_range(env, 1, 50);
	fill_value(victim, sizeof(victim), 1000 + 20);
	at = find_in_file(victim, sizeof(victim)) + 11;
	byte = victim[11] ^ 0x10;
	write_file(at, &byte, 1);
	do {
		cr_assert_eq(db_read_begin(env, &txn), 0);
		rc = db_next(txn, DB_MAP, &key, false, &value);
		db_read_end(txn);
		if (rc == DB_NOT_FOUND)
			break;
		cr_assert(db_key_to_u64_u64(&key, &store, &n));
		cr_assert_eq(rc, n == 40 ? -EBADMSG : 0, "key %llu: %d", (unsigned long long)n, rc);
		right += rc == 0;
		bad += rc != 0;
	} while (right + bad <= 50);
	db_read_free(txn);
	cr_expect_eq(right, 49);
	cr_expect_eq(bad, 1);
	cr_expect(db_usage(env, &usage) == 0 && usage.bad_records == 1);
	cr_expect_not(db_is_dead(env));
	db_close(env);
}

/* --- records that are not what they were --- */

Test(meta_db, every_flipped_bit_of_a_stored_value_is_noticed)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_usage usage;
	struct db_value value;
	uint8_t stored[64 + 8];
	off_t at;

	fill_value(stored, 64, 99);
	put_one(env, DB_LAYER, db_key_u64(5), stored, 64);
	at = find_in_file(stored, 64);
	read_file(at, stored, sizeof(stored));
	for (unsigned bit = 0; bit < 8 * sizeof(stored); bit++) {
		uint8_t byte = stored[bit / 8] ^ (uint8_t)(1 << bit % 8);

		write_file(at + bit / 8, &byte, 1);
		cr_assert_eq(get_one(env, DB_LAYER, db_key_u64(5), &value), -EBADMSG, "bit %u", bit);
		write_file(at + bit / 8, &stored[bit / 8], 1);
	}
	cr_expect_eq(get_one(env, DB_LAYER, db_key_u64(5), &value), 0);
	cr_expect(db_usage(env, &usage) == 0 && usage.bad_records == 8 * sizeof(stored));
	db_close(env);
}

Test(meta_db, a_record_under_another_key_is_refused)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_key was = db_key_u64(0x1111111111111111), is = db_key_u64(0x1111111111111112);
	struct db_value value;
	uint8_t payload[64], both[8 + 64];

	fill_value(payload, sizeof(payload), 3);
	put_one(env, DB_DISK, was, payload, sizeof(payload));
	memcpy(both, was.b, 8); /* LMDB keeps a key right before its value */
	memcpy(both + 8, payload, sizeof(payload));
	write_file(find_in_file(both, sizeof(both)), is.b, 8);
	cr_expect_eq(get_one(env, DB_DISK, is, &value), -EBADMSG);
	cr_expect_eq(get_one(env, DB_DISK, was, &value), DB_NOT_FOUND);
	db_close(env);
}

Test(meta_db, a_record_of_another_database_is_refused)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_key key = db_key_u64(1);
	struct db_value value;
	uint8_t disk[64 + 8], layer[64];
	off_t at;

	fill_value(disk, 64, 10);
	fill_value(layer, 64, 20);
	put_one(env, DB_DISK, key, disk, 64);
	put_one(env, DB_LAYER, key, layer, 64);
	at = find_in_file(layer, 64);
	read_file(find_in_file(disk, 64), disk, sizeof(disk));
	write_file(at, disk, sizeof(disk)); /* value and checksum */
	cr_expect_eq(get_one(env, DB_DISK, key, &value), 0);
	cr_expect_eq(get_one(env, DB_LAYER, key, &value), -EBADMSG);
	db_close(env);
}

/* Writes past our door, as a damaged or foreign file would have it. */
static void put_foreign(enum db_kind kind, const void *key, size_t key_bytes, const void *value, size_t bytes)
{
	MDB_val k = { key_bytes, (void *)key }, v = { bytes, (void *)value };
	MDB_env *mdb;
	MDB_txn *txn;
	MDB_dbi dbi;

	cr_assert_eq(mdb_env_create(&mdb), 0);
	cr_assert_eq(mdb_env_set_maxdbs(mdb, DB_KINDS), 0);
	cr_assert_eq(mdb_env_set_mapsize(mdb, MIB), 0);
	cr_assert_eq(mdb_env_open(mdb, test_dir, 0, 0600), 0);
	cr_assert_eq(mdb_txn_begin(mdb, NULL, 0, &txn), 0);
	cr_assert_eq(mdb_dbi_open(txn, db_kind_to_text(kind), MDB_CREATE, &dbi), 0);
	cr_assert_eq(mdb_put(txn, dbi, &k, &v, 0), 0);
	cr_assert_eq(mdb_txn_commit(txn), 0);
	mdb_env_close(mdb);
}

Test(meta_db, values_of_a_size_that_ours_never_have_are_refused)
{
	static const size_t sizes[] = { 0, 1, 8, DB_VALUE_BYTES_MAX + 9, 5000, 100000 };
	static const uint8_t zeros[100000];
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_value value;

	db_close(env);
	for (uint64_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct db_key key = db_key_u64(i);

		put_foreign(DB_DISK, key.b, key.bytes, zeros, sizes[i]);
	}
	env = open_or_die(DB_OPEN_READ_ONLY, 0);
	for (uint64_t i = 0; i < ARRAY_LEN(sizes); i++)
		cr_expect_eq(get_one(env, DB_DISK, db_key_u64(i), &value), -EBADMSG, "%zu bytes", sizes[i]);
	db_close(env);
}

Test(meta_db, a_key_that_ours_never_are_ends_a_scan_instead_of_repeating_it)
{
	static const uint8_t long_key[DB_KEY_BYTES_MAX + 1] = { 1 };
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_txn *txn = NULL;
	struct db_key key = { .bytes = 0 };
	struct db_value value;

	db_close(env);
	put_foreign(DB_DISK, long_key, sizeof(long_key), "x", 1);
	env = open_or_die(DB_OPEN_READ_ONLY, 0);
	cr_assert_eq(db_read_begin(env, &txn), 0);
	cr_expect_eq(db_next(txn, DB_DISK, &key, true, &value), -EIO);
	db_read_end(txn);
	db_read_free(txn);
	db_close(env);
}

/* --- opening --- */

static void expect_refused(enum db_open_mode mode, int code, const char *says)
{
	struct base_error err = { 0 };
	struct db_env *env = NULL;

	cr_expect_eq(db_open(test_dir, mode, 0, &env, &err), code, "got %d: %s", err.code, err.text);
	cr_expect_eq(err.code, code);
	cr_expect(strstr(err.text, says), "%s", err.text);
	cr_expect_null(env);
}

static void make_file(const void *bytes, size_t count)
{
	int fd = open(data_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert(fd >= 0 && write(fd, bytes, count) == (ssize_t)count);
	close(fd);
}

Test(meta_db, open_says_what_is_there_instead)
{
	static uint8_t rubbish[20000];

	expect_refused(DB_OPEN_WRITE, -ENOENT, "no metadata");
	expect_refused(DB_OPEN_READ_ONLY, -ENOENT, "no metadata");
	make_file("", 0);
	expect_refused(DB_OPEN_WRITE, -EBADMSG, "empty");
	expect_refused(DB_OPEN_READ_ONLY, -EBADMSG, "empty");
	expect_refused(DB_OPEN_CREATE, -EEXIST, "already");
	memset(rubbish, 'r', sizeof(rubbish));
	make_file(rubbish, sizeof(rubbish));
	expect_refused(DB_OPEN_WRITE, -EBADMSG, "not an LMDB file");
	make_file(rubbish, 10);
	expect_refused(DB_OPEN_READ_ONLY, -EBADMSG, "too short");
}

Test(meta_db, open_refuses_an_environment_that_lacks_a_database)
{
	put_foreign(DB_DISK, "k", 1, "v", 1);
	expect_refused(DB_OPEN_WRITE, -EBADMSG, "lacks the database 'pool'");
}

Test(meta_db, open_of_a_directory_that_is_not_there)
{
	remove_test_dir();
	expect_refused(DB_OPEN_WRITE, -ENOENT, "no metadata");
	expect_refused(DB_OPEN_CREATE, -ENOENT, "can't be opened");
}

Test(meta_db, opened_read_only_it_can_be_read_and_not_written)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_txn *txn = NULL;
	struct db_value value;

	put_one(env, DB_DISK, db_key_u64(1), "x", 1);
	db_close(env);
	env = open_or_die(DB_OPEN_READ_ONLY, 0);
	cr_expect_eq(get_one(env, DB_DISK, db_key_u64(1), &value), 0);
	cr_expect_eq(db_write_begin(env, &txn), -EACCES);
	cr_expect_not(db_is_dead(env));
	db_close(env);
}

Test(meta_db, a_reader_sees_the_state_of_its_beginning)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_key key = db_key_u64(1);
	struct db_txn *txn = NULL, *same;
	struct db_value value;

	put_one(env, DB_DISK, key, "1", 1);
	cr_assert_eq(db_read_begin(env, &txn), 0);
	put_one(env, DB_DISK, key, "2", 1);
	cr_expect(db_get(txn, DB_DISK, &key, &value) == 0 && value.b[0] == '1');
	db_read_end(txn);
	same = txn;
	cr_assert_eq(db_read_begin(env, &txn), 0);
	cr_expect_eq(txn, same, "the slot is used again");
	cr_expect(db_get(txn, DB_DISK, &key, &value) == 0 && value.b[0] == '2');
	db_read_end(txn);
	db_read_free(txn);
	db_read_free(NULL);
	db_close(env);
}

Test(meta_db, reader_slots_run_out_with_an_answer_and_come_back)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_txn *slots[61] = { NULL };
	struct stat st;
	char lock_path[PATH_MAX];

	for (int i = 0; i < 60; i++)
		cr_assert_eq(db_read_begin(env, &slots[i]), 0, "slot %d", i);
	cr_expect_eq(db_read_begin(env, &slots[60]), -EBUSY);
	cr_expect_null(slots[60]);
	for (int i = 0; i < 60; i++)
		db_read_end(slots[i]);
	db_read_free(slots[0]);
	cr_expect_eq(db_read_begin(env, &slots[60]), 0);
	db_read_end(slots[60]);
	for (int i = 1; i < 61; i++)
		db_read_free(slots[i]);
	snprintf(lock_path, sizeof(lock_path), "%s/lock.mdb", test_dir);
	cr_assert_eq(stat(lock_path, &st), 0);
	cr_expect_leq(st.st_size, 4096, "the lock file is one page");
	db_close(env);
}

Test(meta_db, usage_counts_pages_and_knows_the_map)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 64 * MIB);
	struct db_usage empty, full;

	cr_assert_eq(db_usage(env, &empty), 0);
	cr_expect_eq(empty.map_bytes, 64 * MIB);
	cr_expect_geq(empty.used_bytes, 3 * 4096);
	cr_expect_leq(empty.used_bytes, 16 * 4096);
	cr_assert_eq(put_many(env, 0, 1000, 1000), 0);
	cr_assert_eq(db_usage(env, &full), 0);
	cr_expect_geq(full.used_bytes, 1000 * 1000);
	cr_expect_leq(full.used_bytes, 3000 * 1000);
	cr_expect_geq(full.file_bytes, full.used_bytes);
	cr_expect_eq(full.bad_records, 0);
	db_close(env);
}

static uint64_t address_space_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	cr_assert(file && fscanf(file, "%lu", &pages) == 1);
	fclose(file);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

Test(meta_db, the_default_map_shrinks_to_the_address_space_there_is)
{
#ifdef UNDER_ASAN
	cr_skip_test("the address sanitizer takes the address space itself");
#endif
	uint64_t in_use = address_space_bytes();
	struct rlimit limit = { in_use + 20 * GIB, RLIM_INFINITY };
	struct base_error err = { 0 };
	struct db_usage usage;
	struct db_env *env;

	cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
	env = open_or_die(DB_OPEN_CREATE, 0);
	cr_assert_eq(db_usage(env, &usage), 0);
	cr_expect_eq(usage.map_bytes, 16 * GIB);
	put_one(env, DB_DISK, db_key_u64(1), "x", 1);
	db_close(env);
	limit.rlim_cur = in_use + 2 * GIB;
	cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
	cr_expect_eq(db_open(test_dir, DB_OPEN_WRITE, 0, &env, &err), -ENOMEM);
	cr_expect(strstr(err.text, "4294967296 bytes of address space"), "%s", err.text);
}

Test(meta_db, a_failed_creation_leaves_nothing_in_the_way)
{
	struct base_error err = { 0 };
	struct rlimit limit = { 2 * 4096, RLIM_INFINITY }; /* the meta pages and nothing more */
	struct db_env *env = NULL;

	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_expect_eq(db_open(test_dir, DB_OPEN_CREATE, 0, &env, &err), -ENOSPC, "%s", err.text);
	cr_expect_eq(access(data_path, F_OK), -1);
	limit.rlim_cur = RLIM_INFINITY;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	db_close(open_or_die(DB_OPEN_CREATE, 0));
}
