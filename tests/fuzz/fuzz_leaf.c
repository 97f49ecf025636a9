/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leaf decoder over any bytes: what it accepts is sound and not empty,
 * encodes into no more bytes than a leaf may have, and decodes to the same
 * again.
 */
#include "meta/leaf.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	meta_entry first[LEAF_CHUNKS], second[LEAF_CHUNKS];
	uint8_t encoded[META_LEAF_ENCODED_BYTES_MAX];

	if (meta_leaf_decode(data, size, first) != 0)
		return 0;
	for (unsigned i = 0; i < LEAF_CHUNKS; i++)
		require(meta_entry_is_sound(first[i]));

	size_t length = meta_leaf_encode(first, encoded);

	require(length > 0 && length <= size);
	require(meta_leaf_decode(encoded, length, second) == 0);
	require(memcmp(first, second, sizeof(first)) == 0);
	return 0;
}
