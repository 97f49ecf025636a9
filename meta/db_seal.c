/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seal of a record: 8 bytes of XXH3-64, little-endian, that stand behind
 * its payload in the stored value (docs/format.md).
 *
 * It covers, one after the other: the number of the record's kind (1 byte), the
 * length of its key (1 byte), the key, the payload. The kind and the key are in
 * it so that a right record in a wrong place is as bad as a wrong one. The
 * length is in it so that no byte can move between key and payload.
 *
 * There is no failure mode: it is a function of its arguments. What a mismatch
 * means is db.c's to say.
 */
#include "base/checksum.h"
#include "meta/db_seal.h"

_Static_assert(DB_KEY_BYTES_MAX <= UINT8_MAX, "the length of a key is covered in one byte");
_Static_assert(DB_KINDS <= UINT8_MAX, "the number of a kind is covered in one byte");

void db_seal(enum db_kind kind, const struct db_key *key, const void *payload, size_t bytes,
	     uint8_t ret_seal[DB_SEAL_BYTES])
{
	uint8_t place[2] = { (uint8_t)kind, (uint8_t)key->bytes };
	struct base_span spans[] = { { place, sizeof(place) }, { key->b, key->bytes }, { payload, bytes } };
	uint64_t checksum = base_checksum_spans(spans, ARRAY_LEN(spans));

	for (unsigned i = 0; i < DB_SEAL_BYTES; i++)
		ret_seal[i] = (uint8_t)(checksum >> 8 * i);
}
