/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: the space bitmap by itself.
 *
 * All space records are read when the check begins, into a set: it is what the
 * map pass looks owned chunks up in, and what "marked as owned, and nobody owns
 * it" is drawn from afterwards (check_owners.c). A bit of a chunk that no pv has
 * is reported here and is not in the set.
 *
 * Failure modes: of a record that can't be used nothing is in the set: what its
 * chunks are is not known, and who asks for one of them in the record itself
 * learns that.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "meta/check_internal.h"

int check_get_space(struct db_txn *txn, uint64_t group, struct meta_space_record *ret)
{
	struct db_key key = db_key_u64(group);
	struct db_value value;
	int rc = db_get(txn, DB_SPACE, &key, &value);

	if (rc == DB_NOT_FOUND) {
		memset(ret, 0, sizeof(*ret));
		return 0;
	}
	return rc == 0 ? meta_space_decode(value.b, value.bytes, ret) : rc;
}

/* Takes the bits of chunks that no pv has out of the record. */
static void judge_group(struct check *check, struct db_txn *txn, uint64_t group, struct meta_space_record *rec)
{
	uint64_t first = group * SPACE_GROUP_CHUNKS;

	if (check_all_in_range(check, first, SPACE_GROUP_CHUNKS))
		return;
	for (unsigned n = 0; n < SPACE_GROUP_CHUNKS; n++) {
		uint8_t bit = (uint8_t)(1u << (n % 8));
		if (!(rec->owned[n / 8] & bit) || check_in_range(check, txn, (uint32_t)(first + n)))
			continue;
		rec->owned[n / 8] &= (uint8_t)~bit;
		check_found(check, META_CHECK_SPACE_OUT_OF_RANGE,
			    CHECK_PLACE(.database = DB_SPACE, .chunk = first + n),
			    "the space bitmap calls chunk %" PRIu64 " owned, and no pv has it", first + n);
	}
}

static int take_group(struct check *check, struct db_txn *txn, const struct db_key *key, const struct db_value *value,
		      void *arg)
{
	struct meta_space_record rec;
	uint64_t group;

	if (!value)
		return 0;
	if (!db_key_to_u64(key, &group) || group >= CHECK_GROUPS ||
	    meta_space_decode(value->b, value->bytes, &rec) < 0) {
		check_found_bad(check, META_CHECK_BAD_CONTENT, DB_SPACE, key);
		return 0;
	}
	judge_group(check, txn, group, &rec);
	uint8_t *bits = chunk_set_group(check->space, group);
	if (!bits)
		return check_no_memory(check);
	memcpy(bits, rec.owned, sizeof(rec.owned));
	return 0;
}

int check_space(struct check *check)
{
	return check_each(check, DB_SPACE, take_group, NULL);
}
