/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free space in memory, see space.h for a chunk's life.
 *
 * Searching: next fit from a rotor, by words of 64 chunks, with one summary bit
 * for each word, so a full pool of 10 TiB costs 2,560 words of summary to walk.
 * A caller's hint (the chunk after the last one it got) is tried first: a disk
 * written in order lies in order.
 *
 * Invariants: owned is a subset of busy; a chunk in a batch is busy and, after
 * the batch's commit, not owned; bits of chunks that do not exist are busy.
 *
 * Failure modes: no memory while a free is noted. The chunk then stays busy
 * until the next open, which finds it free: a leak that heals, logged once.
 */
#include "meta/space.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/planted.h"

#define WORD_BITS 64
#define BIT(n) (UINT64_C(1) << ((n) % WORD_BITS))

static bool bit_get(const uint64_t *map, uint32_t n)
{
	return map[n / WORD_BITS] & BIT(n);
}

static void busy_set(struct space *space, uint32_t n)
{
	uint64_t *word = &space->busy[n / WORD_BITS];

	*word |= BIT(n);
	if (*word == UINT64_MAX)
		space->summary[n / WORD_BITS / WORD_BITS] &= ~BIT(n / WORD_BITS);
}

static void busy_clear(struct space *space, uint32_t n)
{
	space->busy[n / WORD_BITS] &= ~BIT(n);
	space->summary[n / WORD_BITS / WORD_BITS] |= BIT(n / WORD_BITS);
}

int space_init(struct space *space)
{
	*space = (struct space){ 0 };
	pthread_mutex_init(&space->lock, NULL);
	space->draining_tail = &space->draining;
	space->open = calloc(1, sizeof(*space->open));
	return space->open ? 0 : -ENOMEM;
}

static void batches_free(struct free_batch *batch)
{
	while (batch) {
		struct free_batch *next = batch->next;
		free(batch->chunks);
		free(batch);
		batch = next;
	}
}

void space_done(struct space *space)
{
	batches_free(space->open);
	batches_free(space->closed);
	batches_free(space->draining);
	free(space->busy);
	free(space->summary);
	free(space->owned);
	pthread_mutex_destroy(&space->lock);
}

/* The maps of a large pool are hundreds of megabytes, touched as a whole at the open: in large pages where the kernel
 * has them, since page by page that alone takes half a second for 100 TiB. Without them it is slower. */
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

static void advise_huge(void *map, size_t bytes)
{
	uintptr_t first = round_up_to((uintptr_t)map, HUGE_PAGE_BYTES);
	uintptr_t end = round_down_to((uintptr_t)map + bytes, HUGE_PAGE_BYTES);

	if (first < end)
		(void)madvise((void *)first, end - first, MADV_HUGEPAGE);
}

static int grow_map(uint64_t **map, size_t old_words, size_t new_words, uint8_t fill)
{
	/* At the open, all at once: what is zero from the start need not be touched. */
	bool is_zero = old_words == 0 && fill == 0;
	uint64_t *grown = is_zero ? calloc(new_words, sizeof(uint64_t)) : realloc(*map, new_words * sizeof(uint64_t));

	if (!grown)
		return -ENOMEM;
	if (is_zero)
		free(*map);
	advise_huge(grown, new_words * sizeof(uint64_t));
	if (!is_zero)
		memset(grown + old_words, fill, (new_words - old_words) * sizeof(uint64_t));
	*map = grown;
	return 0;
}

/* Room in whole summary words, so that the search needs no special case at the end. */
static int make_room(struct space *space, uint64_t limit)
{
	uint64_t room = round_up_to(limit, WORD_BITS * WORD_BITS);
	size_t old_words = space->room / WORD_BITS, new_words = room / WORD_BITS;

	if (room <= space->room)
		return 0;
	if (room > UINT32_MAX)
		return -EFBIG;
	int rc = grow_map(&space->busy, old_words, new_words, 0xff);
	if (rc == 0)
		rc = grow_map(&space->owned, old_words, new_words, 0);
	if (rc == 0)
		rc = grow_map(&space->summary, old_words / WORD_BITS, new_words / WORD_BITS, 0);
	if (rc == 0)
		space->room = (uint32_t)room;
	return rc;
}

int space_make_room(struct space *space, uint32_t first, uint32_t count)
{
	pthread_mutex_lock(&space->lock);
	int rc = make_room(space, (uint64_t)first + count);
	pthread_mutex_unlock(&space->lock);
	return rc;
}

/* Whole words of the summary, and what they stand for, at once: a pool of 100 TiB has 1.7 billion chunks, and its mount
 * must not take seconds for them. */
static void busy_clear_range(struct space *space, uint64_t n, uint64_t end)
{
	while (n < end) {
		uint64_t whole = (end - n) / (WORD_BITS * WORD_BITS);
		if (n % (WORD_BITS * WORD_BITS) == 0 && whole > 0) {
			memset(space->busy + n / WORD_BITS, 0, whole * WORD_BITS * sizeof(uint64_t));
			memset(space->summary + n / WORD_BITS / WORD_BITS, 0xff, whole * sizeof(uint64_t));
			n += whole * WORD_BITS * WORD_BITS;
			continue;
		}
		uint64_t next = MIN((n / WORD_BITS + 1) * WORD_BITS, end), bits = next - n;
		uint64_t mask = bits == WORD_BITS ? UINT64_MAX : ((UINT64_C(1) << bits) - 1) << (n % WORD_BITS);
		space->busy[n / WORD_BITS] &= ~mask;
		space->summary[n / WORD_BITS / WORD_BITS] |= BIT(n / WORD_BITS);
		n = next;
	}
}

int space_add_range(struct space *space, uint32_t first, uint32_t count)
{
	uint64_t end = (uint64_t)first + count;

	pthread_mutex_lock(&space->lock);
	int rc = make_room(space, end);
	if (rc == 0) {
		busy_clear_range(space, first, end);
		space->limit = MAX(space->limit, (uint32_t)end);
		space->total += count;
	}
	pthread_mutex_unlock(&space->lock);
	return rc;
}

bool space_set_busy_at_open(struct space *space, uint32_t chunk)
{
	if (chunk >= space->limit || bit_get(space->busy, chunk))
		return false;
	busy_set(space, chunk);
	space->busy_count++;
	return true;
}

static uint64_t word_at(const uint8_t *bytes)
{
	uint64_t word = 0;

	for (unsigned i = 0; i < 8; i++)
		word |= (uint64_t)bytes[i] << (i * 8);
	return word;
}

/* Bits of chunks that do not exist are busy, so one look finds them too. */
bool space_set_owned_at_open(struct space *space, uint64_t first, const uint8_t *bits, uint64_t count,
			     uint64_t *ret_chunk)
{
	for (uint64_t n = first; n < first + count; n += WORD_BITS) {
		uint64_t word = word_at(bits + (n - first) / 8), at = n / WORD_BITS;
		if (!word)
			continue; /* most words are empty or full */
		uint64_t taken = n < space->room ? word & space->busy[at] : word;
		if (taken) {
			*ret_chunk = n + (uint64_t)__builtin_ctzll(taken);
			return false;
		}
		space->owned[at] |= word;
		space->busy[at] |= word;
		space->busy_count += word == UINT64_MAX ? WORD_BITS : (uint64_t)__builtin_popcountll(word);
		if (space->busy[at] == UINT64_MAX)
			space->summary[at / WORD_BITS] &= ~BIT(at);
	}
	return true;
}

/* The first free chunk at or after `from`, or limit. */
static uint32_t find_free(const struct space *space, uint32_t from)
{
	uint32_t word = from / WORD_BITS, words = space->room / WORD_BITS;

	if (from >= space->limit)
		return space->limit;
	uint64_t candidates = ~space->busy[word] & ~(BIT(from) - 1);
	if (candidates)
		return word * WORD_BITS + (uint32_t)__builtin_ctzll(candidates);
	for (word++; word < words;) {
		uint64_t summary = space->summary[word / WORD_BITS] & ~(BIT(word) - 1);
		if (!summary) {
			word = (word / WORD_BITS + 1) * WORD_BITS;
			continue;
		}
		word = word / WORD_BITS * WORD_BITS + (uint32_t)__builtin_ctzll(summary);
		return word * WORD_BITS + (uint32_t)__builtin_ctzll(~space->busy[word]);
	}
	return space->limit;
}

/* ---- claims ------------------------------------------------------------------------------- */

static uint64_t owed(const struct space_claim *claim)
{
	if (claim->held < 0)
		return claim->goal;
	return claim->goal > (uint64_t)claim->held ? claim->goal - (uint64_t)claim->held : 0;
}

static uint64_t available(const struct space *space, const struct space_claim *claim)
{
	uint64_t free_now = space->total - space->busy_count;

	return MIN(free_now, owed(claim) + (free_now > space->promised ? free_now - space->promised : 0));
}

static void hold_more(struct space *space, struct space_claim *claim, int64_t chunks)
{
	space->promised -= owed(claim);
	claim->held += chunks;
	space->promised += owed(claim);
}

/* How many chunks there are too few to promise the claim `goal`. */
static uint64_t lacking(const struct space *space, const struct space_claim *claim, uint64_t goal)
{
	struct space_claim wanted = { .goal = goal, .held = claim->held };
	uint64_t promised = space->promised - owed(claim) + owed(&wanted);
	uint64_t covered = space->total - space->busy_count + space->returning;

	return owed(&wanted) > owed(claim) && promised > covered ? promised - covered : 0;
}

int space_claim_set(struct space *space, struct space_claim *claim, uint64_t goal, uint64_t *ret_short)
{
	pthread_mutex_lock(&space->lock);
	uint64_t lack = lacking(space, claim, goal);
	if (lack == 0) {
		space->promised -= owed(claim);
		claim->goal = goal;
		space->promised += owed(claim);
	}
	pthread_mutex_unlock(&space->lock);
	if (lack && ret_short)
		*ret_short = lack;
	return lack ? -ENOSPC : 0;
}

bool space_claim_fits(struct space *space, const struct space_claim *claim, uint64_t goal)
{
	pthread_mutex_lock(&space->lock);
	bool fits = lacking(space, claim, goal) == 0;
	pthread_mutex_unlock(&space->lock);
	return fits;
}

void space_claim_init(struct space *space, struct space_claim *claim, uint64_t goal, uint64_t held)
{
	pthread_mutex_lock(&space->lock);
	*claim = (struct space_claim){ .goal = goal, .held = (int64_t)held };
	space->promised += owed(claim);
	pthread_mutex_unlock(&space->lock);
}

void space_claim_move(struct space *space, struct space_claim *from, struct space_claim *to)
{
	pthread_mutex_lock(&space->lock);
	*to = *from;
	*from = (struct space_claim){ 0 };
	pthread_mutex_unlock(&space->lock);
}

void space_claim_pass(struct space *space, struct space_claim *from, struct space_claim *to)
{
	pthread_mutex_lock(&space->lock);
	hold_more(space, from, -1);
	hold_more(space, to, 1);
	pthread_mutex_unlock(&space->lock);
}

void space_claim_drop(struct space *space, struct space_claim *claim)
{
	pthread_mutex_lock(&space->lock);
	space->promised -= owed(claim);
	claim->goal = 0;
	pthread_mutex_unlock(&space->lock);
}

uint64_t space_available(struct space *space, const struct space_claim *claim)
{
	pthread_mutex_lock(&space->lock);
	uint64_t chunks = available(space, claim);
	pthread_mutex_unlock(&space->lock);
	return chunks;
}

uint64_t space_promised(struct space *space)
{
	pthread_mutex_lock(&space->lock);
	uint64_t chunks = space->promised;
	pthread_mutex_unlock(&space->lock);
	return chunks;
}

/* ---- taking ------------------------------------------------------------------------------- */

/* Marks the run of free chunks at n, at most `want`. */
static unsigned take_run(struct space *space, uint32_t n, unsigned want)
{
	unsigned count = 0;

	for (; count < want && n < space->limit && !bit_get(space->busy, n); n++, count++)
		busy_set(space, n);
	space->busy_count += count;
	return count;
}

unsigned space_take(struct space *space, struct space_claim *claim, unsigned want, uint32_t hint,
		    struct pchunk *ret_first)
{
	uint32_t n = hint;

	pthread_mutex_lock(&space->lock);
	want = (unsigned)MIN(want, available(space, claim));
	if (hint == 0 || hint >= space->limit || bit_get(space->busy, hint)) {
		n = find_free(space, space->rotor);
		if (n >= space->limit)
			n = find_free(space, 0);
	}
	ret_first->n = n;
	unsigned count = take_run(space, n, want);
	if (count)
		space->rotor = n + count;
	hold_more(space, claim, count);
	pthread_mutex_unlock(&space->lock);
	return count;
}

/* The first chunk at or after `from` that is busy, or limit. */
static uint32_t find_busy(const struct space *space, uint32_t from)
{
	uint64_t word = from / WORD_BITS, words = space->room / WORD_BITS;
	uint64_t candidates = space->busy[word] & ~(BIT(from) - 1);

	while (!candidates && ++word < words)
		candidates = space->busy[word];
	if (!candidates)
		return space->limit;
	return (uint32_t)MIN(word * WORD_BITS + (uint64_t)__builtin_ctzll(candidates), space->limit);
}

static struct space_run find_run(const struct space *space, uint32_t want, bool best)
{
	struct space_run found = { 0 };

	for (uint32_t n = find_free(space, 0); n < space->limit; n = find_free(space, n)) {
		uint32_t end = find_busy(space, n), count = end - n;
		bool better = found.count >= want ? count >= want && count < found.count : count > found.count;
		if (better)
			found = (struct space_run){ n, count };
		if (!best || found.count == want)
			break;
		n = end;
	}
	return found;
}

uint32_t space_take_run(struct space *space, struct space_claim *claim, uint32_t want, bool best, uint32_t *ret_first)
{
	pthread_mutex_lock(&space->lock);
	want = (uint32_t)MIN(want, available(space, claim));
	struct space_run run = want ? find_run(space, want, best) : (struct space_run){ 0 };
	uint32_t count = take_run(space, run.first, MIN(run.count, want));
	hold_more(space, claim, count);
	pthread_mutex_unlock(&space->lock);
	*ret_first = run.first;
	return count;
}

unsigned space_borrow(struct space *space, unsigned want, uint32_t from, struct pchunk *ret_first)
{
	pthread_mutex_lock(&space->lock);
	ret_first->n = find_free(space, from);
	unsigned count = take_run(space, ret_first->n, want);
	space->returning += count;
	pthread_mutex_unlock(&space->lock);
	return count;
}

static void release(struct space *space, uint32_t chunk)
{
	assert(chunk < space->limit && bit_get(space->busy, chunk));
	assert(!bit_get(space->owned, chunk) || planted(BUG_REUSE_AT_ONCE) || planted(BUG_REUSE_STALE_COMMIT));
	busy_clear(space, chunk);
	space->busy_count--;
}

void space_give_back(struct space *space, uint32_t first, uint32_t count)
{
	pthread_mutex_lock(&space->lock);
	for (uint32_t i = 0; i < count; i++)
		release(space, first + i);
	space->returning -= count;
	pthread_mutex_unlock(&space->lock);
}

void space_untake(struct space *space, struct space_claim *claim, uint32_t first, uint32_t count)
{
	pthread_mutex_lock(&space->lock);
	for (uint32_t i = 0; i < count; i++)
		release(space, first + i);
	hold_more(space, claim, -(int64_t)count);
	pthread_mutex_unlock(&space->lock);
}

static int batch_push(struct free_batch *batch, uint32_t chunk)
{
	if (batch->count == batch->room) {
		size_t room = MAX(batch->room * 2, (size_t)256);
		uint32_t *grown = realloc(batch->chunks, room * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		batch->chunks = grown;
		batch->room = room;
	}
	batch->chunks[batch->count++] = chunk;
	return 0;
}

void space_free(struct space *space, struct space_claim *claim, uint32_t chunk)
{
	static atomic_bool said;

	pthread_mutex_lock(&space->lock);
	int rc = planted(BUG_REUSE_AT_ONCE) ? 0 : batch_push(space->open, chunk);
	if (planted(BUG_REUSE_AT_ONCE))
		release(space, chunk);
	if (claim)
		hold_more(space, claim, -1);
	pthread_mutex_unlock(&space->lock);
	if (rc == 0)
		atomic_fetch_add(&space->pending, !planted(BUG_REUSE_AT_ONCE));
	else if (!atomic_exchange(&said, true))
		log_warning("no memory to note freed space: it comes back at the next open of the pool");
}

/* ---- batches ------------------------------------------------------------------------------ */

void space_close_batch(struct space *space, uint64_t epoch)
{
	struct free_batch *fresh = calloc(1, sizeof(*fresh));

	assert(!space->closed);
	if (!fresh)
		return; /* what is freed stays in the open batch and goes with a later commit */
	pthread_mutex_lock(&space->lock);
	space->closed = space->open;
	space->open = fresh;
	pthread_mutex_unlock(&space->lock);
	space->closed->epoch = epoch;
}

static void reopen(struct space *space, struct free_batch *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		if (batch_push(space->open, batch->chunks[i]) < 0)
			atomic_fetch_sub(&space->pending, 1); /* leaks until the next open, as in space_free */
	batch->next = NULL;
	batches_free(batch);
}

void space_commit_done(struct space *space, bool durable)
{
	struct free_batch *batch = space->closed;

	space->closed = NULL;
	if (!batch)
		return;
	pthread_mutex_lock(&space->lock);
	if (durable && batch->count > 0) {
		*space->draining_tail = batch;
		space->draining_tail = &batch->next;
		space->returning += batch->count;
	} else {
		reopen(space, batch);
	}
	pthread_mutex_unlock(&space->lock);
}

struct free_batch *space_oldest_batch(struct space *space)
{
	pthread_mutex_lock(&space->lock);
	struct free_batch *batch = space->draining;
	pthread_mutex_unlock(&space->lock);
	return batch;
}

void space_batches_need_copy(struct space *space, uint64_t number)
{
	pthread_mutex_lock(&space->lock);
	for (struct free_batch *batch = space->draining; batch; batch = batch->next) {
		if (batch->copy_needed == 0)
			batch->copy_needed = number;
	}
	pthread_mutex_unlock(&space->lock);
}

void space_release_batch(struct space *space, struct free_batch *batch)
{
	pthread_mutex_lock(&space->lock);
	assert(space->draining == batch);
	space->draining = batch->next;
	if (!space->draining)
		space->draining_tail = &space->draining;
	for (size_t i = 0; i < batch->count && !planted(BUG_REUSE_BEFORE_DISCARD); i++, space->returning--)
		release(space, batch->chunks[i]);
	pthread_mutex_unlock(&space->lock);
	atomic_fetch_sub(&space->pending, batch->count);
	batch->next = NULL;
	batches_free(batch);
}

/* ---- the durable side --------------------------------------------------------------------- */

bool space_owned_set(struct space *space, uint32_t chunk)
{
	pthread_mutex_lock(&space->lock);
	bool ok = chunk != 0 && chunk < space->limit && !bit_get(space->owned, chunk);
	if (ok)
		space->owned[chunk / WORD_BITS] |= BIT(chunk);
	pthread_mutex_unlock(&space->lock);
	return ok;
}

bool space_owned_clear(struct space *space, uint32_t chunk)
{
	pthread_mutex_lock(&space->lock);
	bool ok = chunk < space->limit && bit_get(space->owned, chunk);
	if (ok)
		space->owned[chunk / WORD_BITS] &= ~BIT(chunk);
	pthread_mutex_unlock(&space->lock);
	return ok;
}

/* A pool of 10 TiB has 160 million chunks: counted by words, and the lock is given up now and then. */
#define COUNT_SLICE 262144

static uint64_t count_slice(const struct space *space, uint64_t n, uint64_t end)
{
	uint64_t owned = 0;

	while (n < end) {
		uint64_t word = space->owned[n / WORD_BITS] >> (n % WORD_BITS);
		uint64_t bits = MIN(WORD_BITS - n % WORD_BITS, end - n);
		if (bits < WORD_BITS)
			word &= (UINT64_C(1) << bits) - 1;
		owned += (uint64_t)__builtin_popcountll(word);
		n += bits;
	}
	return owned;
}

uint64_t space_count_owned(struct space *space, uint32_t first, uint32_t count)
{
	uint64_t owned = 0, end = (uint64_t)first + count;

	for (uint64_t n = first; n < end; n += COUNT_SLICE) {
		pthread_mutex_lock(&space->lock);
		owned += count_slice(space, n, MIN(n + COUNT_SLICE, MIN(end, space->limit)));
		pthread_mutex_unlock(&space->lock);
	}
	return owned;
}
