/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check finds in a pool that is in use and at rest: the same as in one that
 * nobody uses, by way of the metadata thread.
 *
 * Planting is done on the metadata thread, in a transaction, as far as LMDB is
 * concerned, and in memory where the pool would otherwise write over it. A pool
 * that changes meanwhile is in check_churn.c, one under load in tests/threads/check_live.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/meta/check_rig.h"

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(RIG_BYTES);
}

TestSuite(meta_check_live, .init = setup, .fini = rig_remove_dir, .timeout = 60);

static void expect_only(struct meta_pool *pool, enum meta_check_kind kind, uint64_t count)
{
	cr_assert_eq(rig_check(pool), 0, "%s", rig_error.text);
	cr_expect(rig_found_only(kind, count), "expected %d of %s and nothing else", (int)count,
		  meta_check_kind_to_text(kind));
	cr_expect_eq(rig_report.not_judged, 0);
}

static void expect_nothing(struct meta_pool *pool)
{
	cr_assert_eq(rig_check(pool), 0, "%s", rig_error.text);
	cr_expect(rig_found_nothing());
	cr_expect_eq(rig_report.not_judged, 0);
	cr_expect_not(rig_report.unclean, "a pool in use is not clean, and that is as it should be");
}

/* ---- planting ---------------------------------------------------------------------------------- */

struct plant {
	enum db_kind kind;
	struct db_key key;
	const uint8_t *value;
	size_t bytes;
};

static int plant_fn(struct mw_call *call, struct db_txn *txn)
{
	const struct plant *plant = call->arg;

	return db_put(txn, plant->kind, &plant->key, plant->value, plant->bytes);
}

static void put_live(struct meta_pool *pool, enum db_kind kind, struct db_key key, const uint8_t *value, size_t bytes)
{
	struct plant plant = { kind, key, value, bytes };
	struct mw_call call = { .fn = plant_fn, .arg = &plant, .err = &rig_error };

	cr_assert_eq(mw_call_wait(pool, &call), 0, "%s", rig_error.text);
}

static void get_live(struct meta_pool *pool, enum db_kind kind, struct db_key key, struct db_value *ret)
{
	struct db_txn *txn = NULL;

	cr_assert_eq(db_read_begin(pool->env, &txn), 0);
	cr_assert_eq(db_get(txn, kind, &key, ret), 0);
	db_read_end(txn);
	db_read_free(txn);
}

static struct meta_disk *find(struct meta_pool *pool, const char *name)
{
	struct meta_disk *disk = meta_disk_get_by_name(pool, name);

	cr_assert_not_null(disk);
	meta_disk_put(disk); /* nobody removes it */
	return disk;
}

static void get_leaf(struct meta_pool *pool, const char *name, uint64_t leaf, meta_entry *ret)
{
	struct db_value value;

	get_live(pool, DB_MAP, db_key_u64_u64(find(pool, name)->store->id, leaf), &value);
	cr_assert_eq(meta_leaf_decode(value.b, value.bytes, ret), 0);
}

static void put_leaf(struct meta_pool *pool, const char *name, uint64_t leaf, const meta_entry *entries)
{
	uint8_t buf[META_LEAF_ENCODED_BYTES_MAX];

	put_live(pool, DB_MAP, db_key_u64_u64(find(pool, name)->store->id, leaf), buf,
		 meta_leaf_encode(entries, buf));
}

static void put_space_bit(struct meta_pool *pool, uint32_t chunk, bool set)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct meta_space_record rec;
	struct db_value value;

	get_live(pool, DB_SPACE, db_key_u64(0), &value);
	cr_assert_eq(meta_space_decode(value.b, value.bytes, &rec), 0);
	rec.owned[chunk / 8] =
		(uint8_t)((rec.owned[chunk / 8] & ~(1u << (chunk % 8))) | (unsigned)set << (chunk % 8));
	put_live(pool, DB_SPACE, db_key_u64(0), buf, meta_space_encode(&rec, buf));
}

static void put_counters(struct meta_pool *pool, const char *name, const struct meta_layer_record *rec)
{
	uint8_t buf[DB_VALUE_BYTES_MAX];

	put_live(pool, DB_LAYER, db_key_u64(find(pool, name)->store->layer_id), buf, meta_layer_encode(rec, buf));
}

/* ---- with threads --------------------------------------------------------------------------------- */

Test(meta_check_live, finds_nothing_in_a_sound_pool)
{
	struct meta_pool *pool = rig_open(true);

	for (unsigned i = 0; i < 3; i++)
		expect_nothing(pool);
	cr_expect_eq(rig_report.chunks_owned, 17);
	rig_create(pool, "d", GIB);
	rig_write(pool, "d", 5, RIG_ALL);
	expect_nothing(pool); /* committed or not */
	cr_assert_eq(meta_pool_commit(pool), 0);
	expect_nothing(pool);
	cr_expect_eq(rig_report.chunks_owned, 18);
	rig_close(pool);
}

Test(meta_check_live, finds_a_leaked_chunk)
{
	struct meta_pool *pool = rig_open(true);

	put_space_bit(pool, 900, true);
	expect_only(pool, META_CHECK_SPACE_LEAKED, 1);
	cr_expect_eq(rig_report.findings[0].place.chunk, 900);
	put_space_bit(pool, 900, false);
	expect_nothing(pool);
	rig_close(pool);
}

Test(meta_check_live, finds_an_owned_chunk_that_the_bitmap_calls_free)
{
	struct meta_pool *pool = rig_open(true);
	meta_entry entries[LEAF_CHUNKS];

	get_leaf(pool, "b", 0, entries);
	put_space_bit(pool, meta_entry_chunk(entries[2]).n, false);
	expect_only(pool, META_CHECK_CHUNK_NOT_IN_SPACE, 1);
	rig_close(pool);
}

Test(meta_check_live, finds_a_chunk_that_two_entries_own)
{
	struct meta_pool *pool = rig_open(true);
	meta_entry of_a[LEAF_CHUNKS], of_b[LEAF_CHUNKS];

	get_leaf(pool, "a", 1, of_a);
	get_leaf(pool, "b", 0, of_b);
	put_space_bit(pool, meta_entry_chunk(of_a[2]).n, false);
	of_a[2] = meta_entry_make(meta_entry_chunk(of_b[3]), 0x000f, 0);
	put_leaf(pool, "a", 1, of_a);
	expect_only(pool, META_CHECK_CHUNK_TWICE, 1);
	cr_expect_eq(rig_report.findings[0].place.chunk, meta_entry_chunk(of_b[3]).n);
	cr_expect_not_null(strstr(rig_report.findings[0].text, "entry 130 of"), "%s", rig_report.findings[0].text);
	rig_close(pool);
}

Test(meta_check_live, finds_each_wrong_counter_of_a_layer)
{
	struct meta_pool *pool = rig_open(true);
	struct meta_layer_record right = find(pool, "a")->store->layer, none = find(pool, "c")->store->layer;

	for (unsigned i = 0; i < 3; i++) {
		struct meta_layer_record wrong = right;
		wrong.chunks_owned -= i == 0;
		wrong.blocks_valid += i == 1;
		wrong.index_records += i == 2;
		put_counters(pool, "a", &wrong);
		expect_only(pool, META_CHECK_LAYER_COUNTERS, 1);
	}
	put_counters(pool, "a", &right);
	none.blocks_valid = 1;
	put_counters(pool, "c", &none);
	expect_only(pool, META_CHECK_LAYER_COUNTERS, 1);
	rig_close(pool);
}

/* A disk that ends, on disk and in memory, before what it has. */
static void plant_end(struct meta_pool *pool, const char *name, uint64_t size_bytes)
{
	struct meta_disk *disk = find(pool, name);
	uint8_t buf[DB_VALUE_BYTES_MAX];

	disk->record.size_bytes = size_bytes;
	atomic_store(&disk->size_bytes, size_bytes);
	put_live(pool, DB_DISK, db_key_u64(disk->number), buf, meta_disk_encode(&disk->record, buf));
}

Test(meta_check_live, finds_data_beyond_the_end_of_a_disk)
{
	struct meta_pool *pool = rig_open(true);

	plant_end(pool, "b", 2 * CHUNK_BYTES);
	expect_only(pool, META_CHECK_ENTRY_BEYOND_END, 3);
	plant_end(pool, "b", 5 * CHUNK_BYTES);
	expect_nothing(pool);
	rig_close(pool);
}

Test(meta_check_live, does_not_call_data_beyond_the_end_what_a_growing_write_has_yet_to_cover)
{
	struct meta_pool *pool = rig_open(true);
	struct meta_disk *disk = find(pool, "b");

	/* The end that is committed lags behind the one in memory, ... */
	plant_end(pool, "b", 2 * CHUNK_BYTES);
	atomic_store(&disk->size_bytes, 5 * CHUNK_BYTES);
	expect_nothing(pool);
	/* ... and with a writer in the leaf nothing can be said. */
	atomic_store(&disk->size_bytes, 2 * CHUNK_BYTES);
	struct db_txn *slot = NULL;
	struct meta_leaf *leaf;
	cr_assert_eq(meta_disk_open(disk, NULL), 0);
	cr_assert_eq(store_load_leaf_now(disk->store, 0, &slot, &leaf), 0);
	db_read_free(slot);
	cr_assert_eq(meta_map_pin(disk->store, 0, &leaf), 0);
	cr_assert_eq(rig_check(pool), 0, "%s", rig_error.text);
	cr_expect(rig_found_nothing());
	cr_expect_eq(rig_report.not_judged, 1);
	meta_leaf_unpin(leaf);
	expect_only(pool, META_CHECK_ENTRY_BEYOND_END, 3);
	atomic_store(&disk->size_bytes, 5 * CHUNK_BYTES);
	expect_nothing(pool); /* as before, with the leaf in memory now */
	meta_disk_close(disk);
	rig_close(pool);
}

Test(meta_check_live, finds_a_label_that_is_not_the_pvs)
{
	struct meta_pool *pool = rig_open(true);
	uint8_t buf[META_LABEL_BYTES];
	char path[PATH_MAX];

	expect_nothing(pool);
	snprintf(path, sizeof(path), "%s/pv0", rig_dir);
	int fd = open(path, O_RDWR);
	cr_assert(fd >= 0 && pread(fd, buf, sizeof(buf), 0) == (ssize_t)sizeof(buf));
	buf[33] ^= 1;
	cr_assert_eq(pwrite(fd, buf, sizeof(buf), 0), (ssize_t)sizeof(buf));
	close(fd);
	expect_only(pool, META_CHECK_PV_LABEL, 1);
	rig_close(pool);
}

Test(meta_check_live, takes_a_pv_that_was_added_for_what_it_is)
{
	struct meta_pool *pool = rig_open(true);
	char path[PATH_MAX];
	struct meta_pv_spec spec = { .path = path, .size_bytes = 8 * MIB };

	snprintf(path, sizeof(path), "%s/pv1", rig_dir);
	cr_assert_eq(meta_pool_add_pv(pool, &spec, &rig_error), 0, "%s", rig_error.text);
	expect_nothing(pool);
	cr_expect_eq(rig_report.pvs, 2);
	rig_close(pool);
}

Test(meta_check_live, ends_when_it_is_cancelled)
{
	struct meta_pool *pool = rig_open(true);
	atomic_bool cancel = true;
	struct meta_check_args args = { .pool = pool, .cancel = &cancel };

	cr_expect_eq(meta_check(&args, &rig_report, &rig_error), -ECANCELED);
	rig_close(pool);
}
