/* SPDX-License-Identifier: Apache-2.0 */
/* The one door to xxHash: XXH3-64 over one span or several. Context: any thread, pure. */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include "base/types.h"

struct base_span {
	const void *data;
	size_t bytes;
};

uint64_t base_checksum(const void *data, size_t bytes);
/* As if the spans stood one after the other. */
uint64_t base_checksum_spans(const struct base_span *spans, size_t count);

#endif
