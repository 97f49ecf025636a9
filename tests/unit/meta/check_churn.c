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

#define CHURN_BYTES (320 * MIB)
#define CHURN_CHUNKS 5104
#define PLACES 5600       /* a leaf each */
#define MAPPED 4800       /* of them, when the pool is at its fullest */
#define ROUNDS ARRAY_LEN(hows)

struct churn {
	struct base_msg msg;
	struct meta_pool *pool;
	struct check check;
	uint64_t random, seed;
	bool mapped[PLACES];
	unsigned mapped_count, commits, turns;
	unsigned changes; /* between two steps */
	bool over;
};

/* In four groups; the last places are alone in theirs, so that index records come and go. */
static uint64_t place(unsigned n)
{
	uint64_t leaf = n < PLACES - 3 ? 10 + n * 3 : 3 * GROUP_LEAVES + n - (PLACES - 3);

	return leaf * LEAF_CHUNKS + n % LEAF_CHUNKS;
}

static unsigned pick(struct churn *churn, bool mapped)
{
	unsigned n;

	if (test_random_below(&churn->random, 100) == 0)
		n = PLACES - 1 - (unsigned)test_random_below(&churn->random, 3);
	else
		n = (unsigned)test_random_below(&churn->random, PLACES);
	while (churn->mapped[n] != mapped)
		n = (n + 1) % PLACES;
	return n;
}

static void change_one(struct churn *churn, bool write)
{
	unsigned n = pick(churn, !write);

	if (write)
		rig_write(churn->pool, "a", place(n), (uint16_t)(1 + test_random_below(&churn->random, RIG_ALL)));
	else
		rig_discard(churn->pool, "a", place(n));
	churn->mapped[n] = write;
	churn->mapped_count += write ? 1 : -1u;
}

/* One commit, and what was freed before it becomes free. */
static void commit(struct churn *churn)
{
	rig_require(commit_run(churn->pool) == 0, "a commit");
	while (!bg_is_idle(churn->pool))
		bg_step(churn->pool, base_clock_ns());
	churn->commits++;
}

static void change_some(struct churn *churn)
{
	bool write = churn->mapped_count < MAPPED;

	for (unsigned i = 0; i < churn->changes; i++)
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

static struct churn *begin_churn(void)
{
	struct churn *churn = calloc(1, sizeof(*churn));

	rig_require(churn != NULL, "memory");
	churn->pool = rig_open(false);
	churn->seed = churn->random = test_seed();
	churn->msg.run = between_turns;
	churn->changes = 100;
	while (churn->mapped_count < MAPPED)
		change_one(churn, true);
	commit(churn);
	base_mailbox_post(&churn->pool->mw_box, &churn->msg);
	return churn;
}

static void end_churn(struct churn *churn)
{
	churn->over = true;
	base_mailbox_run(&churn->pool->mw_box);
	rig_close(churn->pool);
	free(churn);
}

/* Large slices with much change in between, and small ones; with the suspects thinned out by hunts, and with all of them. */
static const struct how {
	unsigned slice_records, changes, hunts;
} hows[] = {
	{ CHECK_SLICE_RECORDS, 200, CHECK_HUNTS },
	{ CHECK_SLICE_RECORDS, 200, 0 },
	{ 150, 60, 1 },
	{ 60, 30, 0 },
	{ 15, 10, 0 },
	{ 2, 2, 0 },
};

/* The passes of meta_check(), with hands on its inside. */
static void run_check(struct churn *churn, struct how how)
{
	static int (*const passes[])(struct check *check) = {
		check_pool_and_pvs, check_layers, check_disks,	  check_layer_tree, check_space,
		check_map,	    check_owners, check_recounts, check_ends,	    check_labels,
	};
	struct meta_check_args args = { .progress = between_slices, .ctx = churn };
	struct check *check = &churn->check;

	memset(&rig_report, 0, sizeof(rig_report));
	churn->changes = how.changes;
	*check = (struct check){ .args = &args, .report = &rig_report, .err = &rig_error, .env = churn->pool->env,
				 .pool = churn->pool, .live = true, .slice_records = how.slice_records,
				 .hunts = how.hunts, .pvs = calloc(1, sizeof(*check->pvs)),
				 .owned = chunk_set_new(), .space = chunk_set_new(), .leaked = chunk_set_new(),
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
	rig_make_dir();
	rig_make_pool(CHURN_BYTES);
}

TestSuite(meta_check_churn, .init = setup, .fini = rig_remove_dir, .timeout = 120);

Test(meta_check_churn, finds_nothing_in_a_sound_pool)
{
	struct churn *churn = begin_churn();

	for (unsigned i = 0; i < ROUNDS; i++) {
		run_check(churn, hows[i]);
		cr_assert(rig_found_nothing(), "seed %" PRIu64, churn->seed);
		cr_expect_eq(rig_report.not_judged, 0);
	}
	/* That the pool did change, in slices and in turns. */
	cr_expect_geq(churn->turns, ROUNDS * 10);
	cr_expect_geq(churn->commits - churn->turns, ROUNDS * 10);
	end_churn(churn);
}

Test(meta_check_churn, finds_a_wrong_counter_and_by_how_much)
{
	struct churn *churn = begin_churn();
	struct meta_disk *disk = meta_disk_get_by_name(churn->pool, "a");
	unsigned long long counted[3], found[3];

	/* In memory: each commit writes the counters, and keeps what is wrong with them. */
	disk->store->layer.chunks_owned -= 7;
	disk->store->layer.blocks_valid += 1000000;
	disk->store->layer.index_records += 2;
	meta_disk_put(disk);
	base_mailbox_run(&churn->pool->mw_box);
	for (unsigned i = 0; i < ROUNDS; i++) {
		run_check(churn, hows[i]);
		cr_assert(rig_found_only(META_CHECK_LAYER_COUNTERS, 1), "seed %" PRIu64, churn->seed);
		cr_assert_eq(sscanf(rig_report.findings[0].text,
				    "layer %*u counts %llu chunks, %llu blocks, %llu index records, and has %llu, %llu, %llu",
				    &counted[0], &counted[1], &counted[2], &found[0], &found[1], &found[2]), 6);
		cr_expect_eq(found[0] - counted[0], 7);
		cr_expect_eq(counted[1] - found[1], 1000000);
		cr_expect_eq(counted[2] - found[2], 2);
	}
	end_churn(churn);
}

/* Entry 1 of disk b, which nobody writes to, gets the chunk of entry 4: one chunk is owned twice then, and one is lost. */
static void plant(struct meta_pool *pool, uint32_t *ret_lost, uint32_t *ret_twice)
{
	struct meta_disk *disk = meta_disk_get_by_name(pool, "b");
	struct db_key key = db_key_u64_u64(disk->store->id, 0);
	uint8_t buf[META_LEAF_ENCODED_BYTES_MAX];
	meta_entry entries[LEAF_CHUNKS];
	struct db_value value;
	struct db_txn *txn;

	meta_disk_put(disk);
	rig_require(db_write_begin(pool->env, &txn) == 0 && db_get(txn, DB_MAP, &key, &value) == 0 &&
		    meta_leaf_decode(value.b, value.bytes, entries) == 0, "reading a leaf");
	*ret_lost = meta_entry_chunk(entries[1]).n;
	*ret_twice = meta_entry_chunk(entries[4]).n;
	entries[1] = entries[4];
	rig_require(db_put(txn, DB_MAP, &key, buf, meta_leaf_encode(entries, buf)) == 0 && db_write_commit(txn) == 0,
		    "writing a leaf");
}

Test(meta_check_churn, finds_a_lost_chunk_and_a_twofold_one)
{
	struct churn *churn = begin_churn();
	uint32_t lost, twice;

	plant(churn->pool, &lost, &twice);
	for (unsigned i = 0; i < ROUNDS; i++) {
		run_check(churn, hows[i]);
		cr_assert_eq(rig_report.problems, 2, "seed %" PRIu64, churn->seed);
		cr_assert_eq(rig_report.found[META_CHECK_SPACE_LEAKED], 1);
		cr_assert_eq(rig_report.found[META_CHECK_CHUNK_TWICE], 1);
		cr_expect_eq(rig_report.findings[0].place.chunk, lost);
		cr_expect_eq(rig_report.findings[1].place.chunk, twice);
		cr_expect_not_null(strstr(rig_report.findings[1].text, "by entry 1 of"), "%s", rig_report.findings[1].text);
		cr_expect_not_null(strstr(rig_report.findings[1].text, "by entry 4 of"), "%s", rig_report.findings[1].text);
	}
	end_churn(churn);
}
