/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: chunks that are marked as owned and have no owner, and chunks that have
 * two.
 *
 * Both are statements about all maps at once, and on a pool in use the map pass
 * has seen all maps, but not at one moment. So it gives only suspects:
 *
 *   leaked  marked in the space records when the check began and marked when
 *           the map pass had ended, and not seen in an entry
 *   twice   seen in two entries
 *
 * A chunk that was freed and given to another entry during the pass is among
 * them when it went from a leaf that the pass had yet to reach to one that it
 * had left, or the other way round. Most of those drop out by looking again,
 * for the suspects only (a hunt): a leaked one that has an owner now, a twofold
 * one that is not seen twice once more. That is done up to three times.
 *
 * What is left is settled on the metadata thread, in a last hunt that is exact.
 * All changes of ownership are made by commits, and between two turns of the
 * hunt there is at most one, whose lists of freed and taken chunks are looked
 * through: a suspect that is on one of them has changed hands during the hunt
 * and is dropped. About each other suspect nothing changed from the hunt's first
 * turn to its last: not its bit, and no entry that owns it. So what the hunt saw
 * of it, leaf by leaf, is what one look at everything in one moment would have
 * shown. A suspect without an owner then is leaked; one with two is owned twice.
 * (A chunk that is really leaked is never on a commit's lists: nobody owns it who
 * could free it, and as it is not free nobody gets it. One that is owned twice
 * and is just being freed by one of its owners is found by the next check, as
 * owned and not marked.) Whoever adds transactions that move chunks without a
 * commit has to tell the hunt of them too.
 *
 * On a pool that nobody uses the map pass itself was exact; the last hunt is
 * made only to name both owners of a chunk.
 *
 * Failure modes: as long as some map record can't be used, it may be the owner
 * of whatever has none: then nothing is called leaked, only not judged.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "meta/check_internal.h"

/* Owners of twofold chunks that are kept for the text of the findings; there are no more findings with a text. */
#define OWNERS_MAX (4 * META_CHECK_FINDINGS_MAX)

struct owner {
	uint32_t chunk;
	uint64_t store, entry;
};

struct hunt {
	struct check *check;
	struct leaf_walk walk;
	struct chunk_set *once, *again; /* suspects that were seen in one entry, in a second one */
	/* The last hunt. */
	bool exact;
	uint64_t group; /* next one whose bits are looked at; CHECK_GROUPS: all were */
	struct owner *owners;
	size_t owner_count;
};

static int hunt_init(struct hunt *hunt, struct check *check)
{
	*hunt = (struct hunt){ .check = check, .once = chunk_set_new(), .again = chunk_set_new() };
	hunt->owners = calloc(OWNERS_MAX, sizeof(*hunt->owners));
	return hunt->once && hunt->again && hunt->owners ? 0 : check_no_memory(check);
}

static void hunt_done(struct hunt *hunt)
{
	chunk_set_free(hunt->once);
	chunk_set_free(hunt->again);
	free(hunt->owners);
}

static int see(struct hunt *hunt, const struct walked_leaf *leaf, unsigned index, uint32_t chunk)
{
	bool twice = chunk_set_has(hunt->check->twice, chunk);

	if (!twice && !chunk_set_has(hunt->check->leaked, chunk))
		return 0;
	if (twice && hunt->owner_count < OWNERS_MAX)
		hunt->owners[hunt->owner_count++] =
			(struct owner){ chunk, leaf->store, leaf->number * LEAF_CHUNKS + index };
	int rc = chunk_set_add(hunt->once, chunk);
	if (rc == 1)
		rc = chunk_set_add(hunt->again, chunk);
	return rc < 0 ? check_no_memory(hunt->check) : 0;
}

/* Return: 0; DB_NOT_FOUND: that was all; negative errno. */
static int hunt_leaf(struct hunt *hunt, struct db_txn *txn)
{
	struct walked_leaf leaf;
	int rc = leaf_walk_next(&hunt->walk, txn, &leaf);

	if (rc < 0)
		return check_cant_read(hunt->check, DB_MAP, rc);
	atomic_fetch_add(&hunt->check->done, rc == 0);
	for (unsigned i = 0; rc == 0 && !leaf.bad && i < LEAF_CHUNKS; i++)
		if (meta_entry_chunk(leaf.entries[i]).n != 0)
			rc = see(hunt, &leaf, i, meta_entry_chunk(leaf.entries[i]).n);
	return rc;
}

/* What was seen decides who is a suspect still. */
static void draw_conclusion(struct hunt *hunt)
{
	chunk_set_keep(hunt->check->leaked, hunt->once, false);
	chunk_set_keep(hunt->check->twice, hunt->again, true);
}

/* ---- hunts in short transactions -------------------------------------------------------------------- */

static int hunt_slice(struct hunt *hunt)
{
	struct db_txn *txn;
	int rc = check_begin(hunt->check, &txn);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < hunt->check->slice_records && rc == 0; i++)
		rc = hunt_leaf(hunt, txn);
	db_read_end(txn);
	return rc;
}

static int hunt_all(struct check *check)
{
	struct hunt hunt;
	int rc = hunt_init(&hunt, check);

	atomic_fetch_add(&check->total, check->report->leaves);
	while (rc == 0) {
		rc = hunt_slice(&hunt);
		if (rc == 0)
			rc = check_tick(check);
	}
	if (rc == DB_NOT_FOUND)
		draw_conclusion(&hunt);
	hunt_done(&hunt);
	return rc == DB_NOT_FOUND ? 0 : rc;
}

/* ---- the last hunt ------------------------------------------------------------------------------------ */

static void drop(struct check *check, const struct chunk_vec *vec)
{
	for (size_t i = 0; i < vec->count; i++) {
		chunk_set_remove(check->leaked, vec->chunks[i]);
		chunk_set_remove(check->twice, vec->chunks[i]);
	}
}

static bool is_zero(const uint8_t *bits)
{
	return bits[0] == 0 && memcmp(bits, bits + 1, CHECK_GROUP_BYTES - 1) == 0;
}

/* Suspects of leaking whose bit is clear by now are none. */
static int look_at_bits(struct hunt *hunt, struct db_txn *txn)
{
	uint8_t *bits = hunt->check->leaked->groups[hunt->group];
	struct meta_space_record rec;

	int rc = check_get_space(txn, hunt->group, &rec);
	if (rc == -EBADMSG) {
		memset(&rec, 0, sizeof(rec));
		hunt->check->report->not_judged++;
	} else if (rc < 0) {
		return check_cant_read(hunt->check, DB_SPACE, rc);
	}
	for (unsigned i = 0; i < CHECK_GROUP_BYTES; i++)
		bits[i] &= rec.owned[i];
	return 0;
}

static int exact_step(struct check_turn *turn, void *arg)
{
	struct hunt *hunt = arg;
	struct check *check = hunt->check;
	int rc = 0;

	if (turn->committed) {
		drop(check, &turn->committed->freed);
		drop(check, &turn->committed->taken);
	}
	for (; hunt->group < CHECK_GROUPS && rc == 0; hunt->group++) {
		uint8_t *bits = check->leaked->groups[hunt->group];
		if (!bits || is_zero(bits))
			continue;
		if (check_turn_is_over(turn))
			return CHECK_MORE;
		rc = look_at_bits(hunt, turn->txn);
	}
	while (rc == 0) {
		if (check_turn_is_over(turn))
			return CHECK_MORE;
		rc = hunt_leaf(hunt, turn->txn);
	}
	if (rc == DB_NOT_FOUND)
		draw_conclusion(hunt);
	return rc == DB_NOT_FOUND ? 0 : rc;
}

/* ---- findings -------------------------------------------------------------------------------------------- */

static void found_leaked(struct check *check)
{
	for (uint64_t n = chunk_set_next(check->leaked, 0); n != UINT64_MAX; n = chunk_set_next(check->leaked, n + 1))
		check_found(check, META_CHECK_SPACE_LEAKED, CHECK_PLACE(.chunk = n),
			    "the space bitmap calls chunk %" PRIu64 " owned, and no entry owns it", n);
}

static const struct owner *next_owner(const struct hunt *hunt, uint64_t chunk, const struct owner *after)
{
	const struct owner *end = hunt->owners + hunt->owner_count;

	for (const struct owner *owner = after ? after + 1 : hunt->owners; owner < end; owner++)
		if (owner->chunk == chunk)
			return owner;
	return NULL;
}

static void found_twice(const struct hunt *hunt)
{
	struct check *check = hunt->check;

	for (uint64_t n = chunk_set_next(check->twice, 0); n != UINT64_MAX; n = chunk_set_next(check->twice, n + 1)) {
		const struct owner *one = next_owner(hunt, n, NULL), *other = one ? next_owner(hunt, n, one) : NULL;
		if (!other)
			check_found(check, META_CHECK_CHUNK_TWICE, CHECK_PLACE(.chunk = n),
				    "chunk %" PRIu64 " is owned by two entries", n);
		else
			check_found(check, META_CHECK_CHUNK_TWICE,
				    CHECK_PLACE(.store = other->store, .leaf = other->entry / LEAF_CHUNKS,
						.entry = other->entry, .chunk = n),
				    "chunk %" PRIu64 " is owned by entry %" PRIu64 " of store %" PRIu64
				    " and by entry %" PRIu64 " of store %" PRIu64,
				    n, one->entry, one->store, other->entry, other->store);
	}
}

static int settle(struct check *check)
{
	struct hunt hunt;
	int rc = hunt_init(&hunt, check);

	atomic_fetch_add(&check->total, check->report->leaves);
	if (rc == 0)
		rc = check_live_run(check, exact_step, &hunt);
	if (rc == 0) {
		found_leaked(check);
		found_twice(&hunt);
	}
	hunt_done(&hunt);
	return rc;
}

/* ---- suspects --------------------------------------------------------------------------------------------- */

/* Marked when the check began, marked now, and not met by the map pass. */
static int take_unowned(struct check *check, struct db_txn *txn, const struct db_key *key,
			const struct db_value *value, void *arg)
{
	struct meta_space_record rec;
	uint64_t group;

	if (!value || !db_key_to_u64(key, &group) || group >= CHECK_GROUPS ||
	    meta_space_decode(value->b, value->bytes, &rec) < 0)
		return 0;
	const uint8_t *before = check->space->groups[group], *owned = check->owned->groups[group];
	for (unsigned i = 0; before && i < CHECK_GROUP_BYTES; i++) {
		uint8_t bits = rec.owned[i] & before[i] & (owned ? (uint8_t)~owned[i] : UINT8_MAX);
		uint8_t *leaked = bits ? chunk_set_group(check->leaked, group) : NULL;
		if (bits && !leaked)
			return check_no_memory(check);
		if (bits)
			leaked[i] = bits;
	}
	return 0;
}

static int find_unowned(struct check *check)
{
	struct db_key key = { 0 };
	struct db_value value;
	int rc = 0;

	while (rc == 0) {
		struct db_txn *txn;
		rc = check_begin(check, &txn);
		if (rc < 0)
			return rc;
		for (unsigned i = 0; i < check->slice_records && rc == 0; i++) {
			rc = db_next(txn, DB_SPACE, &key, false, &value);
			if (rc == 0)
				rc = take_unowned(check, txn, &key, &value, NULL);
			else if (rc == -EBADMSG)
				rc = 0; /* reported when it was read first */
		}
		db_read_end(txn);
		if (rc == 0)
			rc = check_tick(check);
	}
	return rc == DB_NOT_FOUND                            ? 0
	       : rc < 0 && rc != -ECANCELED && rc != -ENOMEM ? check_cant_read(check, DB_SPACE, rc)
							     : rc;
}

int check_owners(struct check *check)
{
	int rc = find_unowned(check);
	uint64_t leaked = rc == 0 ? chunk_set_count(check->leaked) : 0, left;

	if (rc == 0 && check->maps_unknown && leaked > 0) {
		check->report->not_judged += leaked;
		chunk_set_keep(check->leaked, check->leaked, false);
		leaked = 0;
	}
	left = rc == 0 ? leaked + chunk_set_count(check->twice) : 0;
	for (unsigned i = 0; check->live && i < check->hunts && rc == 0 && left > 0; i++) {
		uint64_t before = left;
		rc = hunt_all(check);
		left = chunk_set_count(check->leaked) + chunk_set_count(check->twice);
		if (left == before)
			break;
	}
	return rc == 0 && left > 0 ? settle(check) : rc;
}
