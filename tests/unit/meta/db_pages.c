/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier of LMDB's pages: what LMDB wrote is sound, whatever was done to it
 * and while it is being written; what could lead LMDB astray is named with its page.
 */
#include <signal.h>
#include <sys/wait.h>

#include "meta/db_pages.h"
#include "tests/unit/meta/db_fixture.h"

TestSuite(meta_db_pages, .init = make_test_dir, .fini = remove_test_dir);

#define PAGE 4096
#define ROUNDS 60

static struct db_pages_report report;

static void walk(void)
{
	cr_assert_eq(db_verify_dir(test_dir, &report), 0);
}

static void expect_sound(void)
{
	walk();
	cr_assert_eq(report.damaged, 0, "page %llu: %s", (unsigned long long)report.damage[0].page,
		     report.damage[0].text);
}

static void expect_damage(uint64_t page, const char *says)
{
	struct base_error err = { 0 };
	struct db_env *env = NULL;

	walk();
	cr_assert_gt(report.damaged, 0, "nothing found, should be: %s", says);
	cr_expect_eq(report.damage[0].page, page, "%llu", (unsigned long long)report.damage[0].page);
	cr_expect(strstr(report.damage[0].text, says), "%s", report.damage[0].text);
	cr_expect_eq(db_open(test_dir, DB_OPEN_WRITE, 0, &env, &err), -EBADMSG);
	cr_expect(strstr(err.text, report.damage[0].text), "%s", err.text);
	cr_expect(strstr(err.text, "bdfs import"), "%s", err.text);
}

/* splitmix64 */
static uint64_t chance(uint64_t *state, uint64_t n)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % n;
}

/* One transaction of puts and removals in two databases. */
static void churn(struct db_env *env, uint64_t *state, uint64_t keys)
{
	struct db_txn *txn = begin_write(env);
	uint8_t value[DB_VALUE_BYTES_MAX];
	bool grow = chance(state, 2);

	for (uint64_t n = chance(state, 400); n > 0; n--) {
		struct db_key key = db_key_u64_u64(chance(state, 3), chance(state, keys));
		enum db_kind kind = chance(state, 4) ? DB_MAP : DB_DISK;
		size_t bytes = 1 + chance(state, chance(state, 2) ? 60 : DB_VALUE_BYTES_MAX);

		fill_value(value, bytes, n);
		if (chance(state, 8) < (grow ? 6 : 2))
			cr_assert_eq(db_put(txn, kind, &key, value, bytes), 0);
		else
			cr_assert_geq(db_del(txn, kind, &key), 0);
	}
	cr_assert_eq(db_write_commit(txn), 0);
}

Test(meta_db_pages, whatever_lmdb_writes_is_sound)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);

	for (uint64_t seed = 1; seed <= 4; seed++) {
		uint64_t state = seed;

		for (unsigned round = 0; round < ROUNDS; round++) {
			churn(env, &state, seed % 2 ? 3000 : 40);
			expect_sound();
			cr_expect_eq(report.tree_pages + report.free_pages + 2, report.pages,
				     "seed %llu round %u: some page is neither used nor free",
				     (unsigned long long)seed, round);
		}
		db_close(env);
		env = open_or_die(DB_OPEN_WRITE, 0);
	}
	db_close(env);
}

Test(meta_db_pages, an_empty_environment_is_sound)
{
	db_close(open_or_die(DB_OPEN_CREATE, 0));
	expect_sound();
	cr_expect_eq(report.page_bytes, PAGE);
	cr_expect_eq(report.entries, 0);
}

/* A list of free pages that takes a run of pages, and trees of three levels. */
static void make_large(void)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);
	struct db_txn *txn;

	cr_assert_eq(put_many(env, 0, 20000, 300), 0);
	txn = begin_write(env);
	for (uint64_t n = 5000; n < 17000; n++) {
		struct db_key key = db_key_u64(n);

		cr_assert_eq(db_del(txn, DB_MAP, &key), 0);
	}
	cr_assert_eq(db_write_commit(txn), 0);
	put_one(env, DB_DISK, db_key_u64(1), "x", 1);
	db_close(env);
}

Test(meta_db_pages, a_large_environment_is_sound_and_counted)
{
	make_large();
	expect_sound();
	cr_expect_eq(report.entries, 8001);
	cr_expect_gt(report.free_pages, 900);
	cr_expect_eq(report.tree_pages + report.free_pages + 2, report.pages);
}

static pid_t start_writer(void)
{
	pid_t child = fork();
	uint64_t state = 7;

	if (child != 0)
		return child;
	struct db_env *env = open_or_die(DB_OPEN_WRITE, 0);
	for (;;)
		churn(env, &state, 2000);
}

Test(meta_db_pages, a_file_that_another_process_writes_is_never_called_damaged, .timeout = 100)
{
	unsigned walked = 0;

	db_close(open_or_die(DB_OPEN_CREATE, 0));
	pid_t child = start_writer();
	cr_assert_gt(child, 0);
	for (unsigned i = 0; i < 300; i++) {
		int rc = db_verify_dir(test_dir, &report);

		cr_expect(rc == 0 || rc == -EBUSY, "%d", rc);
		cr_expect(rc != 0 || report.damaged == 0, "page %llu: %s", (unsigned long long)report.damage[0].page,
			  report.damage[0].text);
		walked += rc == 0;
	}
	kill(child, SIGKILL);
	cr_assert_eq(waitpid(child, NULL, 0), child);
	cr_expect_gt(walked, 0);
	expect_sound();
}

/* ---- damage -------------------------------------------------------------------------------- */

static uint64_t word(uint64_t page, unsigned at, unsigned bytes)
{
	uint64_t value = 0;

	read_file((off_t)(page * PAGE + at), &value, bytes);
	return value;
}

static void set_word(uint64_t page, unsigned at, uint64_t value, unsigned bytes)
{
	write_file((off_t)(page * PAGE + at), &value, bytes);
}

static uint64_t newest_meta(void)
{
	return word(0, 144, 8) < word(1, 144, 8);
}

/* A page of the database map: its root, of some records a leaf. */
static uint64_t make_small(uint64_t records)
{
	struct db_env *env = open_or_die(DB_OPEN_CREATE, 0);

	cr_assert_eq(put_many(env, 0, records, 300), 0);
	db_close(env);
	uint64_t names = word(newest_meta(), 128, 8);
	for (unsigned i = 0; i < DB_KINDS; i++) {
		unsigned at = (unsigned)word(names, 16 + 2 * i, 2);
		uint64_t root = word(names, at + 8 + (unsigned)word(names, at + 6, 2) + 40, 8);

		if (root != UINT64_MAX)
			return root;
	}
	cr_assert_fail("no root");
	return 0;
}

static unsigned node(uint64_t page, unsigned i)
{
	return (unsigned)word(page, 16 + 2 * i, 2);
}

Test(meta_db_pages, bounds_of_a_page)
{
	uint64_t page = make_small(5), lower = word(page, 12, 2), upper = word(page, 14, 2);

	expect_sound();
	set_word(page, 12, lower + 1, 2);
	expect_damage(page, "bounds");
	set_word(page, 12, 16, 2);
	expect_damage(page, "bounds");
	set_word(page, 12, lower + 2, 2);
	expect_damage(page, "node");
	set_word(page, 12, lower - 2, 2);
	expect_damage(page, "gaps");
	set_word(page, 12, lower, 2);
	set_word(page, 14, upper - 2, 2);
	expect_damage(page, "gaps");
	set_word(page, 14, upper ^ 0x8000, 2);
	expect_damage(page, "bounds");
	set_word(page, 14, upper, 2);
	expect_sound();
}

Test(meta_db_pages, number_and_type_of_a_page)
{
	uint64_t page = make_small(5);

	set_word(page, 0, page ^ 4, 8);
	expect_damage(page, "another page's number");
	set_word(page, 0, page, 8);
	set_word(page, 10, 1, 2);
	expect_damage(page, "no leaf");
	set_word(page, 10, 0x12, 2);
	expect_damage(page, "no leaf");
	set_word(page, 10, 2, 2);
	expect_sound();
}

Test(meta_db_pages, places_and_sizes_of_nodes)
{
	uint64_t page = make_small(5);
	unsigned first = node(page, 0), second = node(page, 1), bytes = (unsigned)word(page, first, 2);

	set_word(page, 16, second, 2);
	expect_damage(page, "overlap");
	set_word(page, 16, first | 0x4000, 2);
	expect_damage(page, "outside of its bounds");
	set_word(page, 16, first, 2);
	for (unsigned bit = 0; bit < 32; bit++) {
		set_word(page, first, bytes ^ UINT64_C(1) << bit, 4);
		expect_damage(page, bit < 11 ? "" : "size");
	}
	set_word(page, first, bytes, 4);
	set_word(page, first + 6, 0, 2);
	expect_damage(page, "size");
	set_word(page, first + 6, 8, 2);
	set_word(page, first + 4, 4, 2);
	expect_damage(page, "flags");
	set_word(page, first + 4, 1, 2);
	expect_damage(page, "");
	set_word(page, first + 4, 0, 2);
	expect_sound();
}

Test(meta_db_pages, keys_are_in_order)
{
	uint64_t page = make_small(5);
	unsigned second = node(page, 1);

	set_word(page, second + 8, 0x0200000000000000, 8); /* 2, as the third has */
	expect_damage(page, "order");
}

Test(meta_db_pages, children_are_pages_of_the_tree_and_used_once)
{
	uint64_t root = make_small(100);
	unsigned first = node(root, 0), second = node(root, 1);
	uint64_t child = word(root, first, 6);

	expect_sound();
	set_word(root, second, child, 6);
	expect_damage(child, "used twice");
	set_word(root, second, root, 6);
	expect_damage(root, "used twice");
	set_word(root, second, UINT64_C(1) << 40, 6);
	expect_damage(root, "which there is not");
	set_word(root, second, 1, 6);
	expect_damage(root, "which there is not");
}

Test(meta_db_pages, separators_hold_for_the_pages_below)
{
	uint64_t root = make_small(100);
	unsigned second = node(root, 1);
	uint64_t child = word(root, second, 6), key = __builtin_bswap64(word(root, second + 8, 8));

	set_word(root, second + 8, __builtin_bswap64(key + 1), 8);
	expect_damage(child, "order");
}

Test(meta_db_pages, what_is_noted_of_a_tree)
{
	make_small(100);
	uint64_t names = word(newest_meta(), 128, 8);
	static const unsigned fields[] = { 4, 6, 8, 16, 24, 32, 40 };

	for (unsigned i = 0; i < DB_KINDS; i++) {
		unsigned at = node(names, i), tree = at + 8 + (unsigned)word(names, at + 6, 2);

		for (unsigned f = 0; f < ARRAY_LEN(fields); f++) {
			uint64_t was = word(names, tree + fields[f], 2);

			set_word(names, tree + fields[f], was ^ 1, 2);
			walk();
			cr_expect_gt(report.damaged, 0, "database %u, field %u", i, f);
			set_word(names, tree + fields[f], was, 2);
		}
	}
	expect_sound();
}

Test(meta_db_pages, meta_pages)
{
	make_small(10);
	uint64_t newest = newest_meta(), transaction = word(newest, 144, 8), last = word(newest, 136, 8);
	static const unsigned fields[] = { 0, 10, 16, 20, 40, 44, 46, 80, 92, 94, 96, 104, 112, 120, 128 };

	for (unsigned f = 0; f < ARRAY_LEN(fields); f++) {
		uint64_t was = word(newest, fields[f], 2);

		set_word(newest, fields[f], was ^ 4, 2);
		walk();
		cr_expect_gt(report.damaged, 0, "field at %u", fields[f]);
		set_word(newest, fields[f], was, 2);
	}
	for (unsigned bit = 0; bit < 64; bit++) {
		set_word(newest, 144, transaction ^ UINT64_C(1) << bit, 8);
		walk();
		/* Two less: the state before the last commit, whole, which the pvs' labels say is of another day. */
		cr_expect(report.damaged > 0 || (bit == 1 && report.transaction == transaction - 1),
			  "bit %u of the transaction", bit);
	}
	set_word(newest, 144, transaction, 8);
	set_word(newest, 136, last - 2, 8);
	walk();
	cr_expect_gt(report.damaged, 0);
	set_word(newest, 136, UINT64_MAX, 8);
	expect_damage(newest, "last page");
	set_word(newest, 136, last, 8);
	expect_sound();
}

/* The node of the first list that is in a run of pages, on a leaf of the free pages. */
static uint64_t find_long_list(uint64_t page, unsigned *ret_node)
{
	unsigned nodes = ((unsigned)word(page, 12, 2) - 16) / 2;

	for (unsigned i = 0; i < nodes; i++) {
		unsigned at = node(page, i);

		if (word(page, 10, 2) == 1) {
			uint64_t found = find_long_list(word(page, at, 6), ret_node);
			if (found)
				return found;
		} else if (word(page, at + 4, 2) == 1) {
			*ret_node = at;
			return page;
		}
	}
	return 0;
}

Test(meta_db_pages, lists_of_free_pages)
{
	unsigned at;

	make_large();
	uint64_t page = find_long_list(word(newest_meta(), 80, 8), &at), run = word(page, at + 16, 8);
	cr_assert_gt(page, 0, "no list takes a run of pages");
	uint64_t count = word(run, 16, 8), first = word(run, 24, 8), second = word(run, 32, 8);

	set_word(run, 16, count ^ 0x4000, 8);
	expect_damage(run, "longer than its record");
	set_word(run, 16, count, 8);
	set_word(run, 24, second, 8);
	expect_damage(run, "not in order");
	set_word(run, 24, UINT64_C(1) << 50, 8);
	expect_damage(run, "which there is not");
	set_word(run, 24, first, 8);
	set_word(run, 12, 1, 4);
	expect_damage(run, "can't be so long");
	set_word(run, 12, 1u << 30, 4);
	expect_damage(run, "can't be so long");
	set_word(run, 12, 0, 4);
	expect_damage(run, "no pages");
	set_word(page, at + 16, 1, 8);
	expect_damage(page, "which there is not");
}

Test(meta_db_pages, a_free_page_that_is_in_use)
{
	unsigned at;

	make_large();
	uint64_t names = word(newest_meta(), 128, 8);
	uint64_t page = find_long_list(word(newest_meta(), 80, 8), &at), run = word(page, at + 16, 8);
	uint64_t count = word(run, 16, 8);

	/* The list ends with its smallest number; what is in use here lies below it or is put in its place. */
	set_word(run, 16 + 8, names, 8);
	set_word(run, 16, 1, 8);
	expect_damage(names, "used twice");
	set_word(run, 16, count, 8);
}

Test(meta_db_pages, an_environment_in_use_is_looked_at_as_it_is)
{
	uint64_t page = make_small(100);
	struct db_env *env = open_or_die(DB_OPEN_WRITE, 0);

	cr_assert_eq(db_verify(env, &report), 0);
	cr_expect_eq(report.damaged, 0);
	uint64_t upper = word(page, 14, 2);
	set_word(page, 14, upper ^ 0x100, 2);
	cr_assert_eq(db_verify(env, &report), 0);
	cr_expect_gt(report.damaged, 0);
	cr_expect_eq(report.damage[0].page, page);
	cr_expect_not(db_is_dead(env), "it was only looked at");
	set_word(page, 14, upper, 2);
	cr_assert_eq(db_verify(env, &report), 0);
	cr_expect_eq(report.damaged, 0);
	db_close(env);
}

Test(meta_db_pages, much_damage_is_counted_and_its_start_listed)
{
	uint64_t root = make_small(2000);
	unsigned nodes = ((unsigned)word(root, 12, 2) - 16) / 2;

	cr_assert_gt(nodes, DB_PAGES_DAMAGE_MAX);
	for (unsigned i = 0; i < nodes; i++)
		set_word(word(root, node(root, i), 6), 10, 0x7777, 2);
	walk();
	cr_expect_eq(report.damaged, nodes);
	cr_expect_eq(report.damage_count, DB_PAGES_DAMAGE_MAX);
}
