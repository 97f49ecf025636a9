/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder of a metadata stream over any bytes. Checksums would let hardly an
 * input get further than the header, so a second pass puts each of them right as
 * it goes: what is then accepted, written again, is the very bytes it came from.
 */
#include <errno.h>

#include "base/checksum.h"
#include "meta/stream.h"
#include "tests/fuzz/fuzz.h"

struct bytes {
	uint8_t *at;
	size_t left;
	bool mend;      /* put the checksum at the end of each read right */
	uint64_t chain; /* 0: the header has yet to come */
	uint8_t record[META_STREAM_RECORD_BYTES_MAX];
	size_t have;
};

static void put_u64(uint8_t *to, uint64_t n)
{
	for (unsigned i = 0; i < 8; i++)
		to[i] = (uint8_t)(n >> 8 * i);
}

static uint64_t mended(struct bytes *from, const uint8_t *bytes, size_t count)
{
	uint8_t before[8];
	struct base_span spans[] = { { before, 8 }, { bytes, count } };

	if (from->chain == 0)
		return base_checksum(bytes, count);
	put_u64(before, from->chain);
	return base_checksum_spans(spans, 2);
}

/* A record comes in two reads, of which the second ends with the checksum; the header in one. */
static void mend(struct bytes *from, size_t count)
{
	memcpy(from->record + from->have, from->at, count);
	from->have += count;
	if (from->have == META_STREAM_HEAD_BYTES)
		return;
	from->chain = mended(from, from->record, from->have - 8);
	put_u64(from->at + count - 8, from->chain);
	from->have = 0;
}

static int read_some(void *ctx, void *to, size_t count)
{
	struct bytes *from = ctx;

	if (count > from->left)
		return -ENODATA;
	if (from->mend)
		mend(from, count);
	memcpy(to, from->at, count);
	from->at += count;
	from->left -= count;
	return 0;
}

struct sink {
	const uint8_t *expect;
	size_t left;
};

static int compare(void *ctx, const void *bytes, size_t count)
{
	struct sink *sink = ctx;

	require(count <= sink->left && memcmp(sink->expect, bytes, count) == 0);
	sink->expect += count;
	sink->left -= count;
	return 0;
}

static void decode(uint8_t *data, size_t size, bool mend_it)
{
	struct bytes from = { .at = data, .left = size, .mend = mend_it };
	struct sink sink = { data, size };
	struct meta_stream_in in = { .read = read_some, .ctx = &from };
	struct meta_stream_out out = { .write = compare, .ctx = &sink };
	struct meta_stream_header header;
	struct db_value value;
	enum db_kind kind;
	struct db_key key;
	int rc = meta_stream_open(&in, &header);

	if (rc < 0)
		return;
	require(meta_stream_begin(&out, &header) == 0);
	while ((rc = meta_stream_next(&in, &kind, &key, &value)) == 0) {
		require(kind < DB_KINDS && key.bytes <= DB_KEY_BYTES_MAX && value.bytes <= DB_VALUE_BYTES_MAX);
		require(meta_stream_put(&out, kind, &key, &value) == 0);
	}
	require(rc == META_STREAM_END || rc == -EBADMSG);
	if (rc == META_STREAM_END)
		require(meta_stream_end(&out) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size + 1);

	if (!copy)
		return 0;
	if (size > 0)
		memcpy(copy, data, size);
	decode(copy, size, false);
	if (size >= 16)
		memcpy(copy, "BDFSMS1\0\1\0\0\0\0\0\0", 16);
	decode(copy, size, true);
	free(copy);
	return 0;
}
