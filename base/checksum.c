/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3-64 (seed 0, default secret), the one checksum of everything that bdfs
 * stores: records, labels, restart-log slots.
 *
 * The value is part of the format, so it must be the same on every machine and
 * with every version of the library: XXH3's output is frozen since xxHash 0.8.0
 * and does not depend on the byte order or the vector unit.
 *
 * Several spans are hashed as if they stood one after the other, with the
 * library's streaming state on the stack. The size of that state is not part of
 * the shared library's promises, so the code is compiled in (XXH_INLINE_ALL):
 * a newer library can't change what we reserved. There are no failure modes:
 * the streaming calls fail only on a null state or on null data with a length,
 * and an empty span is skipped.
 */
#include <assert.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/checksum.h"

_Static_assert(XXH_VERSION_NUMBER >= 800, "XXH3's output is frozen from xxHash 0.8.0 on");

uint64_t base_checksum(const void *data, size_t bytes)
{
	return XXH3_64bits(data, bytes);
}

uint64_t base_checksum_spans(const struct base_span *spans, size_t count)
{
	XXH3_state_t state;

	XXH3_64bits_reset(&state);
	for (size_t i = 0; i < count; i++) {
		if (spans[i].bytes == 0)
			continue;
		assert(spans[i].data);
		XXH3_64bits_update(&state, spans[i].data, spans[i].bytes);
	}
	return XXH3_64bits_digest(&state);
}
