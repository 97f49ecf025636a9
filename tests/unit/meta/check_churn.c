/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check on a pool that changes between any two of its steps, in one thread, so
 * that a seed repeats it.
 *
 * The pool has no threads. Its users are played by a function that runs between
 * two slices of a pass (as the progress callback, which is made due each time)
 * and between two turns of a walk (as a message in the metadata thread's mailbox,
 * behind the turn's): it frees some chunks or gives free ones to other entries,
 * and commits. The pool is nearly full, so what is freed in one leaf is soon
 * owned by another. A third of the chunks changes hands during one pass.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "meta/check_internal.h"
#include "tests/unit/meta/check_rig.h"
#include "tests/unit/random.h"

#define CHURN_BYTES (320 * MIB) /* 5,103 chunks */
#define PLACES 5600             /* a leaf each */
#define FULL 4800               /* so many are mapped when the pool is at its fullest */
#define FEW_PLACES 24
#define FEW 12

/* How a check is run, and what changes meanwhile. */
struct how {
	unsigned slice_records, hunts;
	unsigned changes; /* between two steps */
	unsigned repeat;
};

struct churn {
	struct base_msg msg;
	struct meta_pool *pool;
	struct check check;
	uint64_t random, seed;
	unsigned places, full;
	bool mapped[PLACES];
	unsigned mapped_count, commits, turns;
	unsigned changes;
	bool over;
	void (*progress)(uint64_t done, uint64_t total, void *ctx); /* what goes on between slices */
};

/* The many lie in three groups, but for the last three, which are alone in a fourth, so that its index record comes
 * and goes. The few lie at both ends of four groups. */
static uint64_t place(const struct churn *churn, unsigned n)
{
	uint64_t leaf = n < PLACES - 3 ? 10 + n * 3 : 3 * GROUP_LEAVES + n - (PLACES - 3);

	if (churn->places == FEW_PLACES)
		leaf = n % 4 * GROUP_LEAVES + (n < FEW_PLACES / 2 ? n : GROUP_LEAVES - FEW_PLACES + n);
	return leaf * LEAF_CHUNKS + n % LEAF_CHUNKS;
}

static unsigned pick(struct churn *churn, bool mapped)
{
	unsigned n = (unsigned)test_random_below(&churn->random, churn->places);

	if (test_random_below(&churn->random, 100) == 0)
		n = churn->places - 1 - (unsigned)test_random_below(&churn->random, 3);
	while (churn->mapped[n] != mapped)
		n = (n + 1) % churn->places;
	return n;
}

static void change_one(struct churn *churn, bool write)
{
	unsigned n = pick(churn, !write);

	if (write)
		rig_write(churn->pool, "churn", place(churn, n),
			  (uint16_t)(1 + test_random_below(&churn->random, RIG_ALL)));
	else
		rig_discard(churn->pool, "churn", place(churn, n));
	churn->mapped[n] = write;
	churn->mapped_count += write ? 1 : -1u;
}

/* One commit, and what was freed before it becomes free. */
static void commit(struct churn *churn)
{
	rig_require(commit_run(churn->pool) == 0, "a commit");
	while (!bg_is_idle(churn->pool)) {
		atomic_store(&churn->pool->copy.wanted, true); /* freed chunks wait for a copy of the metadata */
		bg_step(churn->pool, base_clock_ns());
	}
	churn->commits++;
}

/* Either chunks are freed or free ones are taken: what is freed is free only after the commit. */
static void change_some(struct churn *churn)
{
	bool write = churn->mapped_count < churn->full;

	for (unsigned i = 0; i < churn->changes && churn->mapped_count != (write ? churn->places : 0); i++)
		change_one(churn, write);
	commit(churn);
}

static void between_slices(uint64_t done, uint64_t total, void *ctx)
{
	struct churn *churn = ctx;

	change_some(churn);
	churn->check.told_ns = 0; /* come again */
}

static void between_turns(struct base_msg *msg)
{
	struct churn *churn = container_of(msg, struct churn, msg);

	if (churn->over)
		return;
	change_some(churn);
	churn->turns++;
	base_mailbox_post(&churn->pool->mw_box, &churn->msg);
}

static struct churn *begin_churn(unsigned places, unsigned full)
{
	struct churn *churn = calloc(1, sizeof(*churn));

	rig_require(churn != NULL, "memory");
	churn->pool = rig_open(false);
	rig_create(churn->pool, "churn", 256 * GIB);
	churn->seed = churn->random = test_seed();
	churn->msg.run = between_turns;
	churn->changes = 1;
	churn->progress = between_slices;
	churn->places = places;
	churn->full = full;
	while (churn->mapped_count < full)
		change_one(churn, true);
	commit(churn);
	base_mailbox_post(&churn->pool->mw_box, &churn->msg);
	return churn;
}

static void end_turns(struct churn *churn)
{
	churn->over = true;
	base_mailbox_run(&churn->pool->mw_box);
	churn->over = false;
}

static void end_churn(struct churn *churn)
{
	churn->over = true;
	base_mailbox_run(&churn->pool->mw_box);
	rig_close(churn->pool);
	free(churn);
}

/* Large slices with much change in between, and smaller ones; with the suspects thinned out by hunts, and with all of
 * them. */
static const struct how hows[] = {
	{ CHECK_SLICE_RECORDS, CHECK_HUNTS, 200, 2 },
	{ CHECK_SLICE_RECORDS, 0, 200, 2 },
	{ 150, 1, 60, 1 },
	{ 60, 0, 30, 1 },
};

/* The passes of meta_check(), with hands on its inside. */
static void run_check(struct churn *churn, struct how how)
{
	static int (*const passes[])(struct check * check) = {
		check_pool_and_pvs, check_layers, check_disks,    check_layer_tree, check_space,
		check_map,          check_owners, check_recounts, check_ends,       check_labels,
	};
	struct meta_check_args args = { .progress = churn->progress, .ctx = churn };
	struct check *check = &churn->check;

	memset(&rig_report, 0, sizeof(rig_report));
	churn->changes = how.changes;
	*check = (struct check){ .args = &args,
				 .report = &rig_report,
				 .err = &rig_error,
				 .env = churn->pool->env,
				 .pool = churn->pool,
				 .live = true,
				 .slice_records = how.slice_records,
				 .hunts = how.hunts,
				 .pvs = calloc(1, sizeof(*check->pvs)),
				 .owned = chunk_set_new(),
				 .space = chunk_set_new(),
				 .leaked = chunk_set_new(),
				 .twice = chunk_set_new() };
	rig_require(check->pvs && check->owned && check->space && check->leaked && check->twice, "memory");
	for (unsigned i = 0; i < ARRAY_LEN(passes); i++)
		cr_assert_eq(passes[i](check), 0, "%s", rig_error.text);
	db_read_free(check->slot);
	db_read_free(check->mw_slot);
	chunk_set_free(check->owned);
	chunk_set_free(check->space);
	chunk_set_free(check->leaked);
	chunk_set_free(check->twice);
	free(check->pvs);
	free(check->layers);
	free(check->by_store);
	free(check->recounts);
	free(check->ends);
}

static void setup(void)
{
	rig_make_dir(true);
	rig_make_pool(CHURN_BYTES);
}

TestSuite(meta_check_churn, .init = setup, .fini = rig_remove_dir, .timeout = 300);

/* Runs checks in all ways; judge looks at each report. */
static void run_checks(struct churn *churn, const struct how *how, size_t count, void (*judge)(struct churn *churn))
{
	for (; count > 0; count--, how++) {
		for (unsigned i = 0; i < how->repeat; i++) {
			run_check(churn, *how);
			judge(churn);
		}
	}
}

static void expect_nothing(struct churn *churn)
{
	cr_assert(rig_found_nothing(), "seed %" PRIu64, churn->seed);
	cr_expect_eq(rig_report.not_judged, 0);
}

Test(meta_check_churn, finds_nothing_in_a_sound_pool)
{
	struct churn *churn = begin_churn(PLACES, FULL);

	run_checks(churn, hows, ARRAY_LEN(hows), expect_nothing);
	/* That the pool did change, in slices and in turns. */
	cr_expect_geq(churn->turns, 60);
	cr_expect_geq(churn->commits - churn->turns, 60);
	end_churn(churn);
}

Test(meta_check_churn, finds_nothing_while_groups_come_and_go_between_single_records)
{
	/* Slices of each of these lengths end at each place of a group now and then. */
	static const struct how few[] = {
		{ 1, 1, 2, 20 }, { 2, 1, 2, 20 }, { 4, 1, 2, 30 }, { 5, 1, 2, 30 }, { 7, 1, 2, 30 }
	};
	struct churn *churn = begin_churn(FEW_PLACES, FEW);

	run_checks(churn, few, ARRAY_LEN(few), expect_nothing);
	end_churn(churn);
}

/* ---- what is wrong and stays as it is ------------------------------------------------------------------- */

static void expect_wrong_counters(struct churn *churn)
{
	unsigned long long counted[3], found[3];

	cr_assert(rig_found_only(META_CHECK_LAYER_COUNTERS, 1), "seed %" PRIu64, churn->seed);
	cr_assert_eq(sscanf(rig_report.findings[0].text,
			    "layer %*u counts %llu chunks, %llu blocks, %llu index records, and has %llu, %llu, %llu",
			    &counted[0], &counted[1], &counted[2], &found[0], &found[1], &found[2]),
		     6);
	cr_expect_eq(found[0] - counted[0], 7);
	cr_expect_eq(counted[1] - found[1], 1000000);
	cr_expect_eq(counted[2] - found[2], 2);
}

Test(meta_check_churn, finds_wrong_counters_and_by_how_much)
{
	struct churn *churn = begin_churn(PLACES, FULL);
	struct meta_disk *disk = meta_disk_get_by_name(churn->pool, "churn");

	/* In memory: each commit writes the counters, and keeps what is wrong with them. */
	disk->store->layer.chunks_owned -= 7;
	disk->store->layer.blocks_valid += 1000000;
	disk->store->layer.index_records += 2;
	meta_disk_put(disk);
	base_mailbox_run(&churn->pool->mw_box);
	run_checks(churn, hows, ARRAY_LEN(hows), expect_wrong_counters);
	end_churn(churn);
}

static uint32_t lost, twice;

/* Entry 1 of disk b, which nobody writes to, gets the chunk of entry 4: one chunk is owned twice then, and one is
 * lost.
 */
static void plant(struct meta_pool *pool)
{
	struct meta_disk *disk = meta_disk_get_by_name(pool, "b");
	struct db_key key = db_key_u64_u64(disk->store->id, 0);
	uint8_t buf[META_LEAF_ENCODED_BYTES_MAX];
	meta_entry entries[LEAF_CHUNKS];
	struct db_value value;
	struct db_txn *txn;

	meta_disk_put(disk);
	rig_require(db_write_begin(pool->env, &txn) == 0 && db_get(txn, DB_MAP, &key, &value) == 0 &&
			    meta_leaf_decode(value.b, value.bytes, entries) == 0,
		    "reading a leaf");
	lost = meta_entry_chunk(entries[1]).n;
	twice = meta_entry_chunk(entries[4]).n;
	entries[1] = entries[4];
	rig_require(db_put(txn, DB_MAP, &key, buf, meta_leaf_encode(entries, buf)) == 0 && db_write_commit(txn) == 0,
		    "writing a leaf");
}

static void expect_planted(struct churn *churn)
{
	cr_assert_eq(rig_report.problems, 2, "seed %" PRIu64, churn->seed);
	cr_assert_eq(rig_report.found[META_CHECK_SPACE_LEAKED], 1);
	cr_assert_eq(rig_report.found[META_CHECK_CHUNK_TWICE], 1);
	cr_expect_eq(rig_report.findings[0].place.chunk, lost);
	cr_expect_eq(rig_report.findings[1].place.chunk, twice);
	cr_expect_not_null(strstr(rig_report.findings[1].text, "by entry 1 of"), "%s", rig_report.findings[1].text);
	cr_expect_not_null(strstr(rig_report.findings[1].text, "by entry 4 of"), "%s", rig_report.findings[1].text);
}

Test(meta_check_churn, finds_a_lost_chunk_and_a_twofold_one)
{
	struct churn *churn = begin_churn(PLACES, FULL);

	plant(churn->pool);
	run_checks(churn, hows, ARRAY_LEN(hows), expect_planted);
	end_churn(churn);
}

/* ---- a chunk that is freed when it is a suspect already ---------------------------------------------------- */

/* As soon as the lost chunk is found to be without an owner, its mark goes: then it is simply free. */
static void free_suspect(uint64_t done, uint64_t total, void *ctx)
{
	struct churn *churn = ctx;
	struct db_key key = db_key_u64(lost / SPACE_GROUP_CHUNKS);
	uint8_t buf[DB_VALUE_BYTES_MAX];
	struct meta_space_record rec;
	struct db_value value;
	struct db_txn *txn;

	churn->check.told_ns = 0;
	if (!chunk_set_has(churn->check.leaked, lost) || churn->over)
		return;
	churn->over = true;
	rig_require(db_write_begin(churn->pool->env, &txn) == 0 && db_get(txn, DB_SPACE, &key, &value) == 0 &&
			    meta_space_decode(value.b, value.bytes, &rec) == 0,
		    "reading a space record");
	rec.owned[lost % SPACE_GROUP_CHUNKS / 8] &= (uint8_t) ~(1u << (lost % 8));
	rig_require(db_put(txn, DB_SPACE, &key, buf, meta_space_encode(&rec, buf)) == 0 && db_write_commit(txn) == 0,
		    "writing a space record");
}

Test(meta_check_churn, does_not_call_leaked_what_became_free_in_between)
{
	static const struct how how = { .slice_records = 1 };
	struct churn *churn = begin_churn(FEW_PLACES, FEW);

	end_turns(churn);
	plant(churn->pool);
	churn->progress = free_suspect;
	run_check(churn, how);
	cr_expect(churn->over, "the chunk was never a suspect");
	cr_expect(rig_found_only(META_CHECK_CHUNK_TWICE, 1));
	end_churn(churn);
}
