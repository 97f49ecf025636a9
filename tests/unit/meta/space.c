/* SPDX-License-Identifier: Apache-2.0 */
/* Claims on free space: what is promised to one, no other can take, whatever order things happen in. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "meta/space.h"

#define CHUNKS 1000

static struct space space;
static struct space_claim thin, thick, other;

static void begin(void)
{
	cr_assert_eq(space_init(&space), 0);
	cr_assert_eq(space_add_range(&space, 1, CHUNKS), 0);
	thin = thick = other = (struct space_claim){ 0 };
}

static void end(void)
{
	space_done(&space);
}

TestSuite(meta_space, .init = begin, .fini = end);

/* How many chunks the claim gets when it takes all it can. They are not given back. */
static unsigned take_all(struct space_claim *claim)
{
	struct pchunk first;
	unsigned total = 0, got;

	while ((got = space_take(&space, claim, 64, 0, &first)))
		total += got;
	return total;
}

static void commit(void)
{
	struct free_batch *batch;

	space_close_batch(&space, 1);
	space_commit_done(&space, true);
	while ((batch = space_oldest_batch(&space)))
		space_release_batch(&space, batch);
}

Test(meta_space, what_is_promised_others_can_not_take)
{
	cr_assert_eq(space_claim_set(&space, &thick, 300, NULL), 0);
	cr_expect_eq(space_available(&space, &thin), CHUNKS - 300);
	cr_expect_eq(take_all(&thin), CHUNKS - 300);
	cr_expect_eq(take_all(&thick), 300);
	cr_expect_eq(take_all(&other), 0);
}

Test(meta_space, one_with_a_promise_may_take_more_than_that)
{
	cr_assert_eq(space_claim_set(&space, &thick, 300, NULL), 0);
	cr_assert_eq(space_claim_set(&space, &other, 200, NULL), 0);
	cr_expect_eq(take_all(&thick), CHUNKS - 200);
	cr_expect_eq(take_all(&other), 200);
}

Test(meta_space, a_promise_beyond_what_is_free_is_refused_and_says_by_how_much)
{
	uint64_t lack = 0;

	cr_assert_eq(space_claim_set(&space, &other, 600, NULL), 0);
	cr_expect_eq(space_claim_set(&space, &thick, 450, &lack), -ENOSPC);
	cr_expect_eq(lack, 50);
	cr_expect_eq(thick.goal, 0);
	cr_expect_eq(space_claim_set(&space, &thick, 400, NULL), 0);
	cr_expect_eq(take_all(&thin), 0);
}

Test(meta_space, what_one_has_counts_for_its_promise)
{
	struct pchunk first;

	cr_assert_eq(space_take(&space, &thick, 64, 0, &first), 64);
	cr_assert_eq(space_claim_set(&space, &thick, CHUNKS, NULL), 0);
	cr_expect_eq(space_promised(&space), CHUNKS - 64);
	cr_expect_eq(take_all(&thin), 0);
}

Test(meta_space, freed_by_a_thin_disk_counts_for_a_promise_only_when_durable)
{
	struct pchunk first;

	cr_assert_eq(space_take(&space, &thin, 10, 0, &first), 10);
	take_all(&thin);
	for (unsigned i = 0; i < 10; i++)
		space_free(&space, &thin, first.n + i);
	cr_expect_eq(space_claim_set(&space, &thick, 10, NULL), -ENOSPC, "a power cut would bring them back");
	space_close_batch(&space, 1);
	cr_expect_eq(space_claim_set(&space, &thick, 10, NULL), -ENOSPC, "the commit is not durable yet");
	space_commit_done(&space, true);
	cr_expect_eq(space_claim_set(&space, &thick, 10, NULL), 0);
	cr_expect_eq(space_claim_set(&space, &other, 1, NULL), -ENOSPC);
	commit();
	cr_expect_eq(take_all(&thin), 0);
	cr_expect_eq(take_all(&thick), 10);
}

Test(meta_space, what_a_thick_disk_frees_it_is_owed_again)
{
	struct pchunk first;

	cr_assert_eq(space_claim_set(&space, &thick, CHUNKS, NULL), 0);
	cr_assert_eq(space_take(&space, &thick, 64, 0, &first), 64);
	for (unsigned i = 0; i < 64; i++)
		space_free(&space, &thick, first.n + i);
	cr_expect_eq(space_promised(&space), CHUNKS);
	commit();
	cr_expect_eq(take_all(&thin), 0);
	cr_expect_eq(take_all(&thick), CHUNKS);
}

Test(meta_space, a_claim_that_goes_leaves_its_promise_to_all)
{
	cr_assert_eq(space_claim_set(&space, &thick, CHUNKS, NULL), 0);
	cr_expect_eq(take_all(&thin), 0);
	space_claim_drop(&space, &thick);
	cr_expect_eq(take_all(&thin), CHUNKS);
}

Test(meta_space, borrowed_chunks_count_as_on_their_way)
{
	struct pchunk first;

	cr_assert_eq(space_borrow(&space, 500, 1, &first), 500);
	cr_expect_eq(space_claim_set(&space, &thick, CHUNKS, NULL), 0);
	cr_expect_eq(take_all(&thin), 0);
	space_give_back(&space, first.n, 500);
	cr_expect_eq(take_all(&thick), CHUNKS);
}

/* ---- random ------------------------------------------------------------------------------- */

#define CLAIMS 4
#define STEPS 200000

static struct {
	struct space_claim claim;
	uint32_t chunks[CHUNKS];
	unsigned count;
} holders[CLAIMS];

static uint64_t owed(const struct space_claim *claim)
{
	return (int64_t)claim->goal > claim->held ? claim->goal - (uint64_t)claim->held : 0;
}

/* The invariant at the top of space.h, by counting. */
static void check_promise(void)
{
	uint64_t promised = 0, coming = space.open->count;

	for (unsigned i = 0; i < CLAIMS; i++) {
		cr_assert_eq(holders[i].claim.held, holders[i].count);
		promised += owed(&holders[i].claim);
	}
	for (struct free_batch *batch = space.draining; batch; batch = batch->next)
		coming += batch->count;
	cr_assert_eq(space.promised, promised);
	cr_assert(promised <= space.total - space.busy_count + coming, "%llu promised", (unsigned long long)promised);
}

static void random_step(void)
{
	unsigned who = (unsigned)rand() % CLAIMS, n = 1 + (unsigned)rand() % 40;
	struct space_claim *claim = &holders[who].claim;
	struct pchunk first;

	switch (rand() % 5) {
	case 0: {
		uint64_t may = space_available(&space, claim);
		unsigned got = space_take(&space, claim, n, 0, &first);
		cr_assert(got <= may && (got > 0 || may == 0));
		for (unsigned i = 0; i < got; i++)
			holders[who].chunks[holders[who].count++] = first.n + i;
		break;
	}
	case 1:
		for (; n > 0 && holders[who].count > 0; n--)
			space_free(&space, claim, holders[who].chunks[--holders[who].count]);
		break;
	case 2:
		if (holders[who].count > 0)
			space_untake(&space, claim, holders[who].chunks[--holders[who].count], 1);
		break;
	case 3: {
		uint64_t goal = (uint64_t)rand() % (CHUNKS / 2);
		bool fits = space_claim_fits(&space, claim, goal);
		cr_assert_eq(space_claim_set(&space, claim, who == 0 ? 0 : goal, NULL) == 0, who == 0 || fits);
		break;
	}
	case 4:
		if (rand() % 4 == 0)
			commit();
		break;
	}
}

Test(meta_space, promises_are_covered_after_any_steps)
{
	for (unsigned seed = 1; seed <= 4; seed++) {
		srand(seed);
		for (unsigned i = 0; i < STEPS / 4; i++) {
			random_step();
			check_promise();
		}
	}
}

/* Ranges that begin and end anywhere in a word, beside each other and apart. */
Test(meta_space, a_range_has_exactly_its_chunks)
{
	static const struct {
		uint32_t first, count;
	} ranges[] = { { 1001, 1 }, { 1002, 22 }, { 1024, 64 }, { 1088, 63 }, { 1200, 300 }, { 5000, 8192 } };
	unsigned total = CHUNKS;
	struct pchunk first;

	for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
		cr_assert_eq(space_add_range(&space, ranges[i].first, ranges[i].count), 0);
		total += ranges[i].count;
	}
	cr_expect_eq(space_take_run(&space, &thin, 2000, false, &first.n), 1150, "chunks 1 to 1150 are one run");
	cr_expect_eq(first.n, 1);
	cr_expect_eq(space_take(&space, &thin, 1000, 0, &first), 300);
	cr_expect_eq(first.n, 1200);
	cr_expect_eq(take_all(&thin), total - 1150 - 300);
}

Test(meta_space, what_a_record_owns_is_taken_and_counted_at_open)
{
	uint8_t bits[16] = { 0xfe, 0xff, 0x01, [8] = 0x80 };
	uint64_t chunk;

	cr_assert(space_set_owned_at_open(&space, 0, bits, 128, &chunk));
	cr_expect_eq(space_count_owned(&space, 1, CHUNKS), 17);
	cr_expect_eq(take_all(&thin), CHUNKS - 17);
}

Test(meta_space, a_record_that_owns_what_is_owned_or_not_there_is_refused_by_chunk)
{
	uint8_t bits[16] = { [9] = 0x04 }, late[16] = { [14] = 0x01 };
	uint64_t chunk = 0;

	cr_assert(space_set_owned_at_open(&space, 64, bits, 128, &chunk));
	cr_expect_not(space_set_owned_at_open(&space, 64, bits, 128, &chunk));
	cr_expect_eq(chunk, 64 + 74);
	cr_expect_not(space_set_owned_at_open(&space, 896, late, 128, &chunk), "the last chunk is 1000");
	cr_expect_eq(chunk, 896 + 112);
	cr_expect_not(space_set_owned_at_open(&space, UINT64_C(1) << 31, bits, 128, &chunk), "far beyond the end");
	bits[0] = 0x01;
	bits[9] = 0;
	cr_expect_not(space_set_owned_at_open(&space, 0, bits, 128, &chunk), "chunk 0 is nobody's");
	cr_expect_eq(chunk, 0);
}
