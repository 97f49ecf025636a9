/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes as people write them: 20G, 512M, 1.5T, 4096, 64K, 2P, +10G.
 *
 * Units are powers of 1024, in either case, with an optional trailing B or iB.
 * A bare number is bytes here; verbs in which VIOS means megabytes say so and
 * pass a default unit.
 *
 * Context: any thread, pure.
 */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include "base/error.h"
#include "base/types.h"

struct base_size {
	uint64_t bytes;
	bool is_increment; /* written with a leading + */
};

/*
 * Parse text. unit_if_bare: bytes that a number without a suffix counts (1, or MIB ...).
 * Return: 0; -EINVAL with err saying what is wrong (empty, a minus sign, unknown
 * suffix, not a whole number of bytes, more than 2^63 - 1).
 */
MUST_CHECK int base_size_parse(const char *text, uint64_t unit_if_bare, struct base_size *ret, struct base_error *err);

/* "20 GiB", "1.5 TiB", "512 B"; at most three significant decimals. Returns buf. */
#define BASE_SIZE_TEXT_BYTES 32
char *base_size_to_text(uint64_t bytes, char buf[BASE_SIZE_TEXT_BYTES]);

#endif
