/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier of LMDB's pages, and LMDB on what it accepts.
 *
 * The input is a list of changes, of five bytes each, to a file that LMDB made:
 * which of the pages in use, which field of it or of its n-th node, and 16 bits that
 * are XORed with what is there; so chance does not have to find the few bytes that
 * matter. The file has all kinds of trees, of one level and of several, and lists of
 * free pages in a node and in a run of pages. If the verifier accepts what comes of
 * it, then LMDB has to get through everything: each record of each database looked
 * up and scanned, then changes all over, which take free pages, split and merge, and
 * another scan. An error, an assertion, an invalid access or a leak is a finding: the
 * verifier was not strict enough.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "meta/db_pages.h"
#include "tests/fuzz/fuzz.h"

#define DATABASES 4
#define FREE_DBI 0
#define PAGE 4096
#define BASE_BYTES_MAX (4 * MIB)
#define MAP_BYTES (16 * MIB)
#define VALUE_BYTES 300

static const char *const names[DATABASES] = { "disk", "empty", "map", "pool" };
static uint8_t *base;
static size_t base_bytes;
static uint16_t live[256]; /* pages in use */
static unsigned live_count;
static bool touched[1024], all_touched; /* pages that are not as in base */
static int fd;
static char path[32];

static MDB_env *open_env(void)
{
	MDB_env *env;

	require(mdb_env_create(&env) == 0);
	require(mdb_env_set_maxdbs(env, DATABASES) == 0);
	require(mdb_env_set_mapsize(env, MAP_BYTES) == 0);
	require(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, 0600) == 0);
	return env;
}

/* A record as its number says; a long value every time its database has them. */
static MDB_val key_of(uint64_t *word, uint64_t n)
{
	*word = __builtin_bswap64(n);
	return (MDB_val){ sizeof(*word), word };
}

static void put(MDB_txn *txn, MDB_dbi dbi, uint64_t n, size_t bytes)
{
	uint8_t value[VALUE_BYTES * 2];
	uint64_t word;
	MDB_val key = key_of(&word, n), data = { bytes, value };

	memset(value, (int)n, sizeof(value));
	require(mdb_put(txn, dbi, &key, &data, 0) == 0);
}

/* Records that are there or not: both are fine, other answers aren't. */
static void change(MDB_txn *txn, MDB_dbi dbi, uint64_t first, uint64_t step)
{
	uint64_t word;

	for (uint64_t n = first; n < first + 15 * step; n += step) {
		MDB_val key = key_of(&word, n);
		int rc = mdb_del(txn, dbi, &key, NULL);

		require(rc == 0 || rc == MDB_NOTFOUND);
		put(txn, dbi, n + step / 2, VALUE_BYTES / 2 + (n * 7) % VALUE_BYTES);
	}
}

static MDB_dbi open_dbi(MDB_txn *txn, unsigned i, unsigned flags)
{
	MDB_dbi dbi = 0;
	int rc = mdb_dbi_open(txn, names[i], flags, &dbi);

	require(rc == 0 || rc == MDB_NOTFOUND);
	return rc == 0 ? dbi : 0;
}

static MDB_txn *begin(MDB_env *env, unsigned flags)
{
	MDB_txn *txn;

	require(mdb_txn_begin(env, NULL, flags, &txn) == 0);
	return txn;
}

static void fill_base(void)
{
	MDB_env *env = open_env();
	MDB_txn *txn = begin(env, 0);
	MDB_dbi map = 0;

	for (unsigned i = 0; i < DATABASES; i++) {
		MDB_dbi dbi = open_dbi(txn, i, MDB_CREATE);

		map = i == 2 ? dbi : map;
		for (uint64_t n = 0; n < (i == 0 ? 20 : i == 2 ? 2500 : i == 3 ? 1 : 0); n++)
			put(txn, dbi, n * 10, i == 2 ? VALUE_BYTES : 100);
	}
	require(mdb_txn_commit(txn) == 0);
	/* Enough freed for a list that does not fit into a page, then changes that leave short ones. */
	txn = begin(env, 0);
	for (uint64_t n = 350; n < 2500; n++) {
		uint64_t word;
		MDB_val key = key_of(&word, n * 10);

		require(mdb_del(txn, map, &key, NULL) == 0);
	}
	require(mdb_txn_commit(txn) == 0);
	for (unsigned n = 0; n < 4; n++) {
		txn = begin(env, 0);
		put(txn, map, n * 400, VALUE_BYTES);
		require(mdb_txn_commit(txn) == 0);
	}
	mdb_env_close(env);
}

static bool is_sound(void)
{
	struct db_pages_report report;
	int rc = db_pages_walk(fd, DB_PAGES_NEWEST, &report);

	for (unsigned i = 0; rc == 0 && i < report.damage_count; i++)
		fprintf(stderr, "page %llu: %s\n", (unsigned long long)report.damage[i].page, report.damage[i].text);
	return rc == 0 && report.damaged == 0;
}

/* A page whose type nobody misses is not in use. */
static void find_live(void)
{
	struct db_pages_report report;

	for (size_t page = 0; page < base_bytes / PAGE && live_count < ARRAY_LEN(live); page++) {
		off_t at = (off_t)(page * PAGE + 10);
		uint8_t other = base[at] ^ 0x80;

		require(pwrite(fd, &other, 1, at) == 1);
		require(db_pages_walk(fd, DB_PAGES_NEWEST, &report) == 0);
		if (report.damaged)
			live[live_count++] = (uint16_t)page;
		require(pwrite(fd, base + at, 1, at) == 1);
	}
	require(live_count > 20);
}

/* libFuzzer calls it once. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	fd = memfd_create("pages", MFD_CLOEXEC);
	require(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fill_base();
	base = malloc(BASE_BYTES_MAX);
	require(base != NULL);
	base_bytes = (size_t)pread(fd, base, BASE_BYTES_MAX, 0);
	require(base_bytes % PAGE == 0 && base_bytes / PAGE < ARRAY_LEN(touched));
	require(is_sound());
	find_live();
	return 0;
}

/* ---- one input ----------------------------------------------------------------------------- */

static void restore(void)
{
	if (all_touched) {
		require(ftruncate(fd, 0) == 0);
		require(pwrite(fd, base, base_bytes, 0) == (ssize_t)base_bytes);
	}
	for (size_t page = 0; page < base_bytes / PAGE && !all_touched; page++)
		if (touched[page])
			require(pwrite(fd, base + page * PAGE, PAGE, (off_t)(page * PAGE)) == PAGE);
	memset(touched, 0, sizeof(touched));
	all_touched = false;
}

static unsigned u16(size_t at)
{
	return at + 2 <= base_bytes ? base[at] | (unsigned)base[at + 1] << 8 : 0;
}

/* Where in the file the field is. node: a byte of the input, chosen from those that there are. */
static size_t place(size_t page, unsigned field, unsigned node)
{
	unsigned nodes = MAX((u16(page * PAGE + 12) - 16) / 2, 1), chosen = node % MIN(nodes, 2000);

	switch (field) {
	case 0: /* padding, type, bounds; in a meta page what a tree says of itself */
		return page * PAGE + 8 + 2 * (node % (page < 2 ? 72 : 4));
	case 1: /* its place in the table */
		return page * PAGE + 16 + 2 * chosen;
	case 2: /* size of the value, flags, size of the key; of a branch the child's number */
	case 3:
	case 4:
	case 5:
		return page * PAGE + u16(page * PAGE + 16 + 2 * chosen) + 2 * (field - 2);
	case 6: /* the key's end */
		return page * PAGE + u16(page * PAGE + 16 + 2 * chosen) + 14;
	default:
		return page * PAGE + 16 * node;
	}
}

static void apply(const uint8_t *data, size_t size)
{
	for (; size >= 5; data += 5, size -= 5) {
		size_t page = live[data[0] % live_count], at = place(page, data[1] % 8, data[2]);
		uint8_t bytes[2];

		if (at + 2 > base_bytes || at / PAGE >= ARRAY_LEN(touched))
			continue;
		for (unsigned i = 0; i < 2; i++)
			bytes[i] = base[at + i] ^ data[3 + i];
		require(pwrite(fd, bytes, 2, (off_t)at) == 2);
		touched[at / PAGE] = touched[(at + 1) / PAGE] = true;
	}
}

static void on_assert(MDB_env *env, const char *message)
{
	fprintf(stderr, "LMDB: %s\n", message);
	abort();
}

/* Reads all of it. Not worth the fuzzer's attention. */
__attribute__((no_sanitize("coverage"))) static void touch(const MDB_val *data)
{
	volatile uint8_t seen = 0;

	for (size_t i = 0; i < data->mv_size; i++)
		seen = seen ^ ((const uint8_t *)data->mv_data)[i];
}

static uint64_t scan(MDB_txn *txn, MDB_dbi dbi)
{
	MDB_cursor *cursor;
	MDB_val key, data;
	uint64_t records = 0;
	int rc;

	require(mdb_cursor_open(txn, dbi, &cursor) == 0);
	while ((rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
		MDB_val again;

		touch(&data);
		if (dbi != FREE_DBI)
			require(mdb_get(txn, dbi, &key, &again) == 0 && again.mv_data == data.mv_data);
		records++;
	}
	require(rc == MDB_NOTFOUND);
	mdb_cursor_close(cursor);
	return records;
}

/* Return: records. */
static uint64_t use(MDB_env *env, bool write)
{
	MDB_txn *txn = begin(env, write ? 0 : MDB_RDONLY);
	uint64_t records = 0;

	for (unsigned i = 0; i < DATABASES; i++) {
		MDB_dbi dbi = open_dbi(txn, i, 0);

		if (dbi == 0)
			continue; /* its name was changed */
		if (write)
			change(txn, dbi, i * 5, 10 + i * 30);
		records += scan(txn, dbi);
	}
	if (!write)
		scan(txn, FREE_DBI); /* LMDB lets nobody else look while it is changed */
	require(mdb_txn_commit(txn) == 0);
	return records;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct db_pages_report report;

	restore();
	apply(data, size);
	require(db_pages_walk(fd, DB_PAGES_NEWEST, &report) == 0);
	if (report.damaged)
		return 0;
	all_touched = true;
	MDB_env *env = open_env();
	require(mdb_env_set_assert(env, on_assert) == 0);
	require(use(env, false) <= report.entries);
	for (unsigned i = 0; i < 2; i++)
		use(env, true);
	mdb_env_close(env);
	require(is_sound());
	return 0;
}
