/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of send and receive; every byte is in docs/stream.md.
 *
 * A record's head is 40 bytes: type, payload bytes, offset, length, number, and
 * a checksum. That is XXH3-64 over the checksum of the record before (the magic
 * stands before the first), the other 32 bytes of the head, and the payload. So
 * a stream is a chain: to change anything unnoticed one would have to make all
 * checksums behind it anew. That guards against accidents, not against somebody
 * who wants to deceive; who fears those signs or encrypts the stream.
 *
 * The happy path of a receiver: magic, then head, bounds, payload, checksum,
 * until the end. The head's bounds are checked before the payload is read, so
 * no length of a hostile stream makes anybody allocate or wait for more than a
 * mebibyte; nothing else of a head is believed before its checksum was right.
 *
 * Ranges ascend and never overlap, lie within the disk, and begin and end at
 * blocks of 4 KiB, but for the disk's own end. What is in no range is as it is
 * in the base, or, in a full stream, zero.
 *
 * Failure modes: whatever is not as above is -EBADMSG, with words that say
 * where. A stream that just stops has no end record: the caller notices that
 * when it has read all and has_ended is not set.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/uuid.h"
#include "cmd/stream.h"
#include "meta/records.h"

#define CHAIN_AT 32
#define HEADER_FIXED_BYTES 104
#define END_PAYLOAD_BYTES 24

static void put32(uint8_t *at, uint32_t n)
{
	n = htole32(n);
	memcpy(at, &n, sizeof(n));
}

static void put64(uint8_t *at, uint64_t n)
{
	n = htole64(n);
	memcpy(at, &n, sizeof(n));
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t n;

	memcpy(&n, at, sizeof(n));
	return le32toh(n);
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t n;

	memcpy(&n, at, sizeof(n));
	return le64toh(n);
}

static uint64_t checksum_of(uint64_t chain, const uint8_t head[CMD_STREAM_HEAD_BYTES], const void *payload,
			    size_t bytes)
{
	uint8_t before[sizeof(uint64_t)];
	const struct base_span spans[] = { { before, sizeof(before) }, { head, CHAIN_AT }, { payload, bytes } };

	put64(before, chain);
	return base_checksum_spans(spans, ARRAY_LEN(spans));
}

bool cmd_stream_is_incremental(const struct cmd_stream_header *header)
{
	static const struct base_uuid none;

	return !base_uuid_equal(header->base, none);
}

/* What every record does to the state, on both sides. */
static void move_on(struct cmd_stream *stream, const struct cmd_stream_record *record, uint64_t chain)
{
	stream->chain = chain;
	stream->records++;
	if (record->type == CMD_STREAM_HEADER)
		stream->has_header = true;
	if (record->type == CMD_STREAM_DATA)
		stream->data_bytes += record->length;
	if (record->type == CMD_STREAM_ZERO)
		stream->zero_bytes += record->length;
	if (record->type == CMD_STREAM_END)
		stream->has_ended = true;
	if (record->type == CMD_STREAM_DATA || record->type == CMD_STREAM_ZERO)
		stream->at_bytes = record->offset + record->length;
}

/* ---- sending ------------------------------------------------------------------------------ */

static void put_record(struct cmd_stream *stream, const struct cmd_stream_record *record, const void *payload,
		       uint8_t head[CMD_STREAM_HEAD_BYTES])
{
	uint64_t chain;

	put32(head, record->type);
	put32(head + 4, record->payload_bytes);
	put64(head + 8, record->offset);
	put64(head + 16, record->length);
	put64(head + 24, stream->records);
	chain = checksum_of(stream->chain, head, payload, record->payload_bytes);
	put64(head + CHAIN_AT, chain);
	move_on(stream, record, chain);
}

static uint8_t *put_name(uint8_t *at, const char *name)
{
	size_t bytes = strlen(name);

	assert(bytes <= NAME_BYTES_MAX);
	at[0] = (uint8_t)bytes;
	at[1] = 0;
	memcpy(at + 2, name, bytes);
	return at + 2 + bytes;
}

static size_t encode_header(const struct cmd_stream_header *header, uint8_t *buf)
{
	uint8_t *at = buf + HEADER_FIXED_BYTES;

	memset(buf, 0, HEADER_FIXED_BYTES);
	put32(buf, CMD_STREAM_VERSION);
	put32(buf + 4, header->logical_block_bytes);
	memcpy(buf + 8, header->pool.b, UUID_BYTES);
	memcpy(buf + 24, header->disk.b, UUID_BYTES);
	memcpy(buf + 40, header->snapshot.b, UUID_BYTES);
	memcpy(buf + 56, header->base.b, UUID_BYTES);
	put64(buf + 72, header->size_bytes);
	put64(buf + 80, header->base_size_bytes);
	put64(buf + 88, header->start_bytes);
	put64(buf + 96, header->created_s);
	at = put_name(at, header->disk_name);
	at = put_name(at, header->snapshot_name);
	at = put_name(at, header->base_name);
	return (size_t)(at - buf);
}

static void start(struct cmd_stream *stream)
{
	*stream = (struct cmd_stream){ .chain = base_checksum(CMD_STREAM_MAGIC, CMD_STREAM_MAGIC_BYTES) };
}

size_t cmd_stream_begin(struct cmd_stream *stream, const struct cmd_stream_header *header,
			uint8_t buf[CMD_STREAM_BEGIN_BYTES_MAX])
{
	uint8_t *head = buf + CMD_STREAM_MAGIC_BYTES, *payload = head + CMD_STREAM_HEAD_BYTES;
	size_t bytes = encode_header(header, payload);
	struct cmd_stream_record record = { .type = CMD_STREAM_HEADER, .payload_bytes = (uint32_t)bytes };

	start(stream);
	memcpy(buf, CMD_STREAM_MAGIC, CMD_STREAM_MAGIC_BYTES);
	put_record(stream, &record, payload, head);
	stream->size_bytes = header->size_bytes;
	stream->at_bytes = header->start_bytes;
	return CMD_STREAM_MAGIC_BYTES + CMD_STREAM_HEAD_BYTES + bytes;
}

static bool is_range(const struct cmd_stream *stream, const struct cmd_stream_record *record)
{
	return record->length > 0 && record->offset >= stream->at_bytes && record->offset < stream->size_bytes &&
	       record->length <= stream->size_bytes - record->offset && record->offset % BLOCK_BYTES == 0 &&
	       (record->length % BLOCK_BYTES == 0 || record->offset + record->length == stream->size_bytes);
}

void cmd_stream_put(struct cmd_stream *stream, uint64_t offset, uint64_t length, const void *data,
		    uint8_t head[CMD_STREAM_HEAD_BYTES])
{
	struct cmd_stream_record record = { .type = data ? CMD_STREAM_DATA : CMD_STREAM_ZERO,
					    .payload_bytes = data ? (uint32_t)length : 0,
					    .offset = offset,
					    .length = length };

	assert(is_range(stream, &record) && (!data || length <= CMD_STREAM_DATA_BYTES_MAX));
	put_record(stream, &record, data, head);
}

void cmd_stream_put_end(struct cmd_stream *stream, uint8_t buf[CMD_STREAM_END_BYTES])
{
	struct cmd_stream_record record = { .type = CMD_STREAM_END,
					    .payload_bytes = END_PAYLOAD_BYTES,
					    .offset = stream->size_bytes };
	uint8_t *payload = buf + CMD_STREAM_HEAD_BYTES;

	put64(payload, stream->records);
	put64(payload + 8, stream->data_bytes);
	put64(payload + 16, stream->zero_bytes);
	put_record(stream, &record, payload, buf);
}

/* ---- receiving ---------------------------------------------------------------------------- */

int cmd_stream_start(struct cmd_stream *stream, const uint8_t magic[CMD_STREAM_MAGIC_BYTES], struct base_error *err)
{
	if (memcmp(magic, CMD_STREAM_MAGIC, CMD_STREAM_MAGIC_BYTES) != 0)
		return base_error_set(err, -EBADMSG, "this is no stream of `bdfs send`: it does not begin as one");
	start(stream);
	return 0;
}

static int bad_record(const struct cmd_stream *stream, struct base_error *err, const char *why)
{
	return base_error_set(err, -EBADMSG, "the stream is damaged at its record %" PRIu64 ": %s", stream->records,
			      why);
}

/* What can't be, or NULL. */
static const char *misfit_of(const struct cmd_stream *stream, const struct cmd_stream_record *record)
{
	if (!stream->has_header)
		return record->type == CMD_STREAM_HEADER && record->payload_bytes >= HEADER_FIXED_BYTES + 6 &&
				       record->payload_bytes <= CMD_STREAM_HEADER_BYTES_MAX && record->offset == 0 &&
				       record->length == 0
			       ? NULL
			       : "it is no header";
	switch (record->type) {
	case CMD_STREAM_DATA:
		return is_range(stream, record) && record->length <= CMD_STREAM_DATA_BYTES_MAX &&
				       record->payload_bytes == record->length
			       ? NULL
			       : "data out of place";
	case CMD_STREAM_ZERO:
		return is_range(stream, record) && record->payload_bytes == 0 ? NULL : "zeros out of place";
	case CMD_STREAM_END:
		return record->payload_bytes == END_PAYLOAD_BYTES && record->offset == stream->size_bytes &&
				       record->length == 0
			       ? NULL
			       : "its end does not fit";
	case CMD_STREAM_HEADER:
		return "a second header";
	}
	return "a record of an unknown type";
}

int cmd_stream_take_head(const struct cmd_stream *stream, const uint8_t head[CMD_STREAM_HEAD_BYTES],
			 struct cmd_stream_record *ret, struct base_error *err)
{
	struct cmd_stream_record record = { .type = (enum cmd_stream_type)get32(head),
					    .payload_bytes = get32(head + 4),
					    .offset = get64(head + 8),
					    .length = get64(head + 16) };
	const char *why = stream->has_ended ? "something stands behind its end" : misfit_of(stream, &record);

	if (!why && get64(head + 24) != stream->records)
		why = "it is not the next one";
	if (why)
		return bad_record(stream, err, why);
	*ret = record;
	return 0;
}

/* Takes a name off the front. may_be_empty: "" is one too. Return: what follows it; NULL: no name. */
static const uint8_t *take_name(const uint8_t *at, const uint8_t *end, bool may_be_empty,
				char ret[NAME_BYTES_MAX + 1])
{
	size_t bytes;

	if (end - at < 2)
		return NULL;
	bytes = (size_t)at[0] | (size_t)at[1] << 8;
	at += 2;
	if (bytes > NAME_BYTES_MAX || (size_t)(end - at) < bytes || memchr(at, '\0', bytes))
		return NULL;
	memcpy(ret, at, bytes);
	ret[bytes] = '\0';
	if (bytes == 0 ? !may_be_empty : meta_name_check(ret, NULL) < 0)
		return NULL;
	return at + bytes;
}

static bool is_sound_header(const struct cmd_stream_header *h)
{
	bool incremental = cmd_stream_is_incremental(h);

	return (h->logical_block_bytes == 512 || h->logical_block_bytes == 4096) && h->size_bytes <= DISK_BYTES_MAX &&
	       h->base_size_bytes <= DISK_BYTES_MAX && (incremental || h->base_size_bytes == 0) &&
	       incremental == (h->base_name[0] != '\0') && h->start_bytes <= h->size_bytes &&
	       (h->start_bytes % BLOCK_BYTES == 0 || h->start_bytes == h->size_bytes) && h->created_s <= INT64_MAX;
}

static bool decode_header(const uint8_t *payload, size_t bytes, struct cmd_stream_header *ret)
{
	const uint8_t *at = payload + HEADER_FIXED_BYTES, *end = payload + bytes;

	*ret = (struct cmd_stream_header){ .size_bytes = get64(payload + 72),
					   .base_size_bytes = get64(payload + 80),
					   .start_bytes = get64(payload + 88),
					   .created_s = get64(payload + 96),
					   .logical_block_bytes = get32(payload + 4) };
	memcpy(ret->pool.b, payload + 8, UUID_BYTES);
	memcpy(ret->disk.b, payload + 24, UUID_BYTES);
	memcpy(ret->snapshot.b, payload + 40, UUID_BYTES);
	memcpy(ret->base.b, payload + 56, UUID_BYTES);
	at = take_name(at, end, false, ret->disk_name);
	if (at)
		at = take_name(at, end, false, ret->snapshot_name);
	if (at)
		at = take_name(at, end, true, ret->base_name);
	return at == end && is_sound_header(ret);
}

static int take_header(struct cmd_stream *stream, const uint8_t *payload, size_t bytes, struct cmd_stream_header *ret,
		       struct base_error *err)
{
	uint32_t version = get32(payload);

	if (version != CMD_STREAM_VERSION)
		return base_error_set(err, -EOPNOTSUPP,
				      "the stream has version %" PRIu32 ", and version %d is what can be received "
				      "here: send it again from an older bdfs, or receive it with a newer one",
				      version, CMD_STREAM_VERSION);
	if (!decode_header(payload, bytes, ret))
		return bad_record(stream, err, "a header that makes no sense");
	stream->size_bytes = ret->size_bytes;
	stream->at_bytes = ret->start_bytes;
	return 0;
}

static bool is_true_end(const struct cmd_stream *stream, const uint8_t *payload)
{
	return get64(payload) == stream->records && get64(payload + 8) == stream->data_bytes &&
	       get64(payload + 16) == stream->zero_bytes;
}

int cmd_stream_take_payload(struct cmd_stream *stream, const uint8_t head[CMD_STREAM_HEAD_BYTES],
			    const struct cmd_stream_record *record, const uint8_t *payload,
			    struct cmd_stream_header *ret_header, struct base_error *err)
{
	uint64_t chain = checksum_of(stream->chain, head, payload, record->payload_bytes);
	int r = 0;

	if (chain != get64(head + CHAIN_AT))
		return bad_record(stream, err, "its checksum is wrong");
	if (record->type == CMD_STREAM_HEADER)
		r = take_header(stream, payload, record->payload_bytes, ret_header, err);
	else if (record->type == CMD_STREAM_END && !is_true_end(stream, payload))
		r = bad_record(stream, err, "its end counts otherwise");
	if (r == 0)
		move_on(stream, record, chain);
	return r;
}

/* ---- tokens ------------------------------------------------------------------------------- */

static char *put_hex(char *at, struct base_uuid uuid)
{
	char text[BASE_UUID_TEXT_BYTES];

	for (const char *p = base_uuid_to_text(uuid, text); *p; p++)
		if (*p != '-')
			*at++ = *p;
	return at;
}

char *cmd_stream_token_to_text(const struct cmd_stream_token *token, char buf[CMD_STREAM_TOKEN_BYTES])
{
	char *at = put_hex(buf, token->snapshot);

	*at++ = '-';
	at = put_hex(at, token->base);
	snprintf(at, (size_t)(buf + CMD_STREAM_TOKEN_BYTES - at), "-%" PRIx64, token->at_bytes);
	return buf;
}

int cmd_stream_token_parse(const char *text, struct cmd_stream_token *ret)
{
	enum { DIGITS = 2 * UUID_BYTES };
	char uuid[DIGITS + 1] = "", *end;
	struct cmd_stream_token token;
	const char *offset = text + 2 * (DIGITS + 1);

	if (strlen(text) <= 2 * (DIGITS + 1) || text[DIGITS] != '-' || text[2 * DIGITS + 1] != '-')
		return -EINVAL;
	memcpy(uuid, text, DIGITS);
	if (base_uuid_parse(uuid, &token.snapshot) < 0)
		return -EINVAL;
	memcpy(uuid, text + DIGITS + 1, DIGITS);
	if (base_uuid_parse(uuid, &token.base) < 0)
		return -EINVAL;
	if (strspn(offset, "0123456789abcdefABCDEF") != strlen(offset))
		return -EINVAL;
	errno = 0;
	token.at_bytes = strtoull(offset, &end, 16);
	if (errno || *end || token.at_bytes > DISK_BYTES_MAX)
		return -EINVAL;
	*ret = token;
	return 0;
}
