/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum is part of the format: its values must never change. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/checksum.h"

Test(base_checksum, gives_the_published_values_of_xxh3)
{
	uint8_t page[4096];

	for (size_t i = 0; i < sizeof(page); i++)
		page[i] = (uint8_t)i;
	cr_expect_eq(base_checksum("", 0), UINT64_C(0x2d06800538d394c2));
	cr_expect_eq(base_checksum("bdfs", 4), UINT64_C(0x7da6c1955a6d742f));
	cr_expect_eq(base_checksum(page, sizeof(page)), UINT64_C(0xeb4b7c3707879151));
}

/* Lengths on both sides of every path in XXH3 (16, 128, 240, one stripe block of 1,024). */
Test(base_checksum, spans_count_as_one_stretch_wherever_they_are_cut)
{
	static const size_t lengths[] = { 1, 3, 8, 16, 17, 128, 129, 240, 241, 1024, 1025, 1816 };
	uint8_t bytes[1816];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + 1);
	for (size_t l = 0; l < ARRAY_LEN(lengths); l++) {
		size_t n = lengths[l];
		uint64_t whole = base_checksum(bytes, n);

		for (size_t cut = 0; cut <= n; cut++) {
			struct base_span spans[] = { { bytes, cut }, { NULL, 0 }, { bytes + cut, n - cut } };

			cr_assert_eq(base_checksum_spans(spans, 3), whole, "%zu bytes cut at %zu", n, cut);
		}
	}
	cr_expect_eq(base_checksum_spans(NULL, 0), base_checksum("", 0));
}
