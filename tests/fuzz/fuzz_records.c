/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record decoders over any bytes. The first byte chooses the kind, the rest
 * is the record. A record has exactly one encoding, so what a decoder accepts
 * must encode to the very bytes it came from.
 */
#include "meta/records.h"
#include "meta/records_target.h"
#include "tests/fuzz/fuzz.h"

#define TARGET(kind)                                                                                                   \
	static void fuzz_##kind(const uint8_t *data, size_t size)                                                      \
	{                                                                                                              \
		struct meta_##kind##_record rec;                                                                       \
		uint8_t encoded[DB_VALUE_BYTES_MAX];                                                                   \
		if (meta_##kind##_decode(data, size, &rec) != 0)                                                       \
			return;                                                                                        \
		require(meta_##kind##_encode(&rec, encoded) == size);                                                  \
		require(memcmp(encoded, data, size) == 0);                                                             \
	}
TARGET(pool)
TARGET(pv)
TARGET(disk)
TARGET(layer)
TARGET(snapshot)
TARGET(index)
TARGET(space)
TARGET(adapter)
TARGET(vtd)

static void (*const targets[])(const uint8_t *data, size_t size) = { fuzz_pool,     fuzz_pv,    fuzz_disk, fuzz_layer,
								     fuzz_snapshot, fuzz_index, fuzz_space,
								     fuzz_adapter,  fuzz_vtd };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 0)
		targets[data[0] % ARRAY_LEN(targets)](data + 1, size - 1);
	return 0;
}
