/* SPDX-License-Identifier: Apache-2.0 */
/* Dumping a pool's records: all of them, in order, damaged ones too, of an open pool and of a directory. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "meta/dump.h"
#include "tests/unit/meta/check_rig.h"

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
}

TestSuite(meta_dump, .init = setup, .fini = rig_remove_dir, .timeout = 60);

struct seen {
	uint64_t records[DB_KINDS], bad;
	bool out_of_order;
	enum db_kind kind;
	struct db_key key;
	unsigned stop_after; /* 0: never */
	unsigned calls;
};

static bool is_behind(const struct db_key *a, const struct db_key *b)
{
	int order = memcmp(a->b, b->b, MIN(a->bytes, b->bytes));

	return order > 0 || (order == 0 && a->bytes > b->bytes);
}

static int note(void *ctx, enum db_kind kind, const struct db_key *key, const struct db_value *value, bool bad)
{
	struct seen *seen = ctx;

	if (seen->calls++ > 0)
		seen->out_of_order |= kind < seen->kind || (kind == seen->kind && !is_behind(key, &seen->key));
	seen->kind = kind;
	seen->key = *key;
	seen->records[kind]++;
	seen->bad += bad;
	cr_expect_eq(value == NULL, bad);
	return seen->calls == seen->stop_after ? 4711 : 0;
}

static void expect_all(const struct seen *seen)
{
	static const uint64_t expected[DB_KINDS] = { [DB_POOL] = 1,  [DB_PV] = 1,  [DB_DISK] = 3, [DB_LAYER] = 3,
						     [DB_INDEX] = 3, [DB_MAP] = 4, [DB_SPACE] = 1 };

	for (int kind = 0; kind < DB_KINDS; kind++)
		cr_expect_eq(seen->records[kind], expected[kind], "database %s", db_kind_to_text((enum db_kind)kind));
	cr_expect_not(seen->out_of_order);
}

Test(meta_dump, hands_out_every_record_of_a_directory_in_order)
{
	struct seen seen = { 0 };

	cr_assert_eq(meta_dump(NULL, rig_dir, note, &seen, &rig_error), 0, "%s", rig_error.text);
	expect_all(&seen);
	cr_expect_eq(seen.bad, 0);
}

Test(meta_dump, hands_out_every_record_of_an_open_pool)
{
	struct meta_pool *pool = rig_open(true);
	struct seen seen = { 0 };

	cr_assert_eq(meta_dump(pool, NULL, note, &seen, &rig_error), 0, "%s", rig_error.text);
	expect_all(&seen);
	rig_close(pool);
}

Test(meta_dump, goes_on_where_a_transaction_ended)
{
	struct meta_pool *pool = rig_open(false);
	struct seen seen = { 0 };

	for (uint64_t i = 0; i < 500; i++)
		rig_write(pool, "a", (10 + i) * LEAF_CHUNKS, RIG_ALL);
	cr_assert_eq(meta_pool_commit(pool), 0);
	cr_assert_eq(meta_dump(pool, NULL, note, &seen, &rig_error), 0, "%s", rig_error.text);
	cr_expect_eq(seen.records[DB_MAP], 504);
	cr_expect_not(seen.out_of_order);
	rig_close(pool);
}

/* Takes down one leaf. */
struct wanted {
	struct db_key key;
	struct db_value value;
};

static int take_wanted(void *ctx, enum db_kind kind, const struct db_key *key, const struct db_value *value, bool bad)
{
	struct wanted *wanted = ctx;

	if (kind == DB_MAP && key->bytes == wanted->key.bytes && memcmp(key->b, wanted->key.b, key->bytes) == 0)
		wanted->value = *value;
	return 0;
}

Test(meta_dump, hands_out_the_payload_as_it_was_written)
{
	struct wanted wanted = { .key = db_key_u64_u64(rig_disk("a").layer.store_id, 1) };
	meta_entry entries[LEAF_CHUNKS];

	cr_assert_eq(meta_dump(NULL, rig_dir, take_wanted, &wanted, &rig_error), 0);
	cr_assert_eq(meta_leaf_decode(wanted.value.b, wanted.value.bytes, entries), 0);
	cr_expect_eq(meta_entry_valid(entries[2]), 0x000f);
	cr_expect_eq(entries[3], 0);
}

Test(meta_dump, hands_out_a_damaged_record_as_bad_and_goes_on)
{
	struct seen seen = { 0 };

	rig_flip_bit(DB_LAYER, 1, false);
	cr_assert_eq(meta_dump(NULL, rig_dir, note, &seen, &rig_error), 0, "%s", rig_error.text);
	expect_all(&seen);
	cr_expect_eq(seen.bad, 1);
}

Test(meta_dump, ends_when_it_is_told_to_and_returns_why)
{
	struct seen seen = { .stop_after = 5 };

	cr_expect_eq(meta_dump(NULL, rig_dir, note, &seen, &rig_error), 4711);
	cr_expect_eq(seen.calls, 5);
}

Test(meta_dump, says_when_there_is_no_metadata)
{
	struct seen seen = { 0 };

	cr_expect_eq(meta_dump(NULL, "/nonexistent/pool", note, &seen, &rig_error), -ENOENT);
	cr_expect_eq(seen.calls, 0);
}
