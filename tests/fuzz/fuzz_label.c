/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The label decoder over any bytes, as they are and with magic, version and
 * checksum put right, without which hardly an input would get past the first
 * checks. What it accepts must encode to the very bytes it came from.
 */
#include "base/checksum.h"
#include "meta/records.h"
#include "tests/fuzz/fuzz.h"

#define CHECKSUM_AT 504

static void decode_and_encode(const uint8_t buf[META_LABEL_BYTES])
{
	uint8_t encoded[META_LABEL_BYTES];
	struct meta_label label;

	if (meta_label_decode(buf, &label) != 0)
		return;
	meta_label_encode(&label, encoded);
	require(memcmp(buf, encoded, sizeof(encoded)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[META_LABEL_BYTES] = { 0 };
	uint64_t sum;

	if (size > 0)
		memcpy(buf, data, size < sizeof(buf) ? size : sizeof(buf));
	decode_and_encode(buf);

	memcpy(buf, "BDFSPV1\0\1\0\0\0\0\0\0", 16);
	sum = base_checksum(buf, CHECKSUM_AT);
	for (unsigned i = 0; i < 8; i++)
		buf[CHECKSUM_AT + i] = (uint8_t)(sum >> 8 * i);
	decode_and_encode(buf);
	return 0;
}
