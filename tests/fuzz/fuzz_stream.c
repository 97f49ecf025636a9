/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A receiver over any bytes: what it takes ascends, lies within the disk that
 * the header announced, and is never longer than it said.
 *
 * Numbers and checksums keep nearly every input out, so its first byte says
 * whether they are set right on the way (as somebody who wants to deceive would
 * do) or left as they are, and whether the input begins behind a sound header.
 */
#include "base/checksum.h"
#include "cmd/stream.h"
#include "tests/fuzz/fuzz.h"

/* What docs/stream.md says the checksum is, written down once more. */
static void set_right(uint64_t chain, uint8_t *head, const uint8_t *payload, size_t bytes)
{
	/* The machine that fuzzes is a little-endian one. */
	const struct base_span spans[] = { { &chain, sizeof(chain) }, { head, 32 }, { payload, bytes } };
	uint64_t sum = base_checksum_spans(spans, 3);

	memcpy(head + 32, &sum, sizeof(sum));
}

static void check_range(const struct cmd_stream *before, const struct cmd_stream_record *record)
{
	require(record->offset >= before->at_bytes);
	require(record->length > 0 && record->length <= before->size_bytes);
	require(record->offset <= before->size_bytes - record->length);
	require(record->type == CMD_STREAM_ZERO || record->length == record->payload_bytes);
}

static void check_header(const struct cmd_stream_header *header)
{
	uint8_t buf[CMD_STREAM_BEGIN_BYTES_MAX];
	struct cmd_stream again;

	require(header->size_bytes <= DISK_BYTES_MAX && header->start_bytes <= header->size_bytes);
	require(strlen(header->disk_name) > 0 && strlen(header->snapshot_name) > 0);
	/* What was accepted can be sent on. */
	require(cmd_stream_begin(&again, header, buf) <= sizeof(buf));
}

/* Return: how many bytes a record took; 0: it was refused. */
static size_t take(struct cmd_stream *stream, uint8_t *bytes, size_t count, bool mend)
{
	struct cmd_stream_header header;
	struct cmd_stream_record record;
	struct cmd_stream before = *stream;

	if (mend && count >= CMD_STREAM_HEAD_BYTES)
		memcpy(bytes + 24, &stream->records, sizeof(stream->records));
	if (count < CMD_STREAM_HEAD_BYTES || cmd_stream_take_head(stream, bytes, &record, NULL) < 0)
		return 0;
	require(record.payload_bytes <= CMD_STREAM_DATA_BYTES_MAX);
	if (record.payload_bytes > count - CMD_STREAM_HEAD_BYTES)
		return 0;
	if (mend)
		set_right(stream->chain, bytes, bytes + CMD_STREAM_HEAD_BYTES, record.payload_bytes);
	if (cmd_stream_take_payload(stream, bytes, &record, bytes + CMD_STREAM_HEAD_BYTES, &header, NULL) < 0)
		return 0;
	if (record.type == CMD_STREAM_HEADER)
		check_header(&header);
	if (record.type == CMD_STREAM_DATA || record.type == CMD_STREAM_ZERO)
		check_range(&before, &record);
	require(stream->at_bytes >= before.at_bytes && stream->at_bytes <= stream->size_bytes);
	return CMD_STREAM_HEAD_BYTES + record.payload_bytes;
}

static void receive_header(struct cmd_stream *stream)
{
	struct cmd_stream_header header = { .snapshot = { { 1 } },
					    .size_bytes = 16 * MIB + 100,
					    .logical_block_bytes = 512,
					    .disk_name = "d",
					    .snapshot_name = "s" };
	uint8_t buf[CMD_STREAM_BEGIN_BYTES_MAX];
	struct cmd_stream sender;
	size_t bytes = cmd_stream_begin(&sender, &header, buf) - CMD_STREAM_MAGIC_BYTES;

	require(take(stream, buf + CMD_STREAM_MAGIC_BYTES, bytes, false) == bytes);
}

static void receive(uint8_t *bytes, size_t count, bool mend, bool behind_header)
{
	struct cmd_stream stream;
	size_t taken;

	require(cmd_stream_start(&stream, (const uint8_t *)CMD_STREAM_MAGIC, NULL) == 0);
	if (behind_header)
		receive_header(&stream);
	while ((taken = take(&stream, bytes, count, mend)) > 0) {
		bytes += taken;
		count -= taken;
	}
}

static void try_token(const uint8_t *bytes, size_t count)
{
	char text[CMD_STREAM_TOKEN_BYTES] = "", again[CMD_STREAM_TOKEN_BYTES];
	struct cmd_stream_token token, same;

	memcpy(text, bytes, count < sizeof(text) ? count : sizeof(text) - 1);
	if (cmd_stream_token_parse(text, &token) < 0)
		return;
	require(cmd_stream_token_parse(cmd_stream_token_to_text(&token, again), &same) == 0);
	require(memcmp(&token, &same, sizeof(token)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		return 0;
	if (size > 0)
		memcpy(copy, data, size);
	if (size > 0 && data[0] & 4)
		try_token(data + 1, size - 1);
	else if (size > 0)
		receive(copy + 1, size - 1, data[0] & 1, data[0] & 2);
	free(copy);
	return 0;
}
