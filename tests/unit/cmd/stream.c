/* SPDX-License-Identifier: Apache-2.0 */
/* The codec of send and receive: what was put is what is taken, and nothing else is. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/checksum.h"
#include "base/uuid.h"
#include "cmd/stream.h"

#define SIZE_BYTES (10 * MIB + 512) /* the last block is not whole */
#define PIECE_BYTES (64 * KIB)
#define ROOM_BYTES (2 * MIB)

static uint8_t sent[ROOM_BYTES], data[CMD_STREAM_DATA_BYTES_MAX];
static size_t sent_bytes;

/* What a receiver got to see. */
static struct received {
	int result;
	struct cmd_stream stream;
	struct cmd_stream_header header;
	struct cmd_stream_record records[16];
	unsigned count;
	char text[BASE_ERROR_TEXT_BYTES];
} got;

static struct cmd_stream_header full_header(void)
{
	return (struct cmd_stream_header){ .pool = { { 1 } },
					   .disk = { { 2 } },
					   .snapshot = { { 3 } },
					   .size_bytes = SIZE_BYTES,
					   .created_s = 1700000000,
					   .logical_block_bytes = 512,
					   .disk_name = "web1",
					   .snapshot_name = "monday" };
}

static void append(const void *bytes, size_t count)
{
	cr_assert(sent_bytes + count <= sizeof(sent));
	memcpy(sent + sent_bytes, bytes, count);
	sent_bytes += count;
}

static void send_range(struct cmd_stream *stream, uint64_t offset, uint64_t length, bool is_data)
{
	uint8_t head[CMD_STREAM_HEAD_BYTES];

	cmd_stream_put(stream, offset, length, is_data ? data : NULL, head);
	append(head, sizeof(head));
	if (is_data)
		append(data, length);
}

static void send_begin(struct cmd_stream *stream, const struct cmd_stream_header *header)
{
	uint8_t buf[CMD_STREAM_BEGIN_BYTES_MAX];

	sent_bytes = 0;
	append(buf, cmd_stream_begin(stream, header, buf));
}

static void send_end(struct cmd_stream *stream)
{
	uint8_t buf[CMD_STREAM_END_BYTES];

	cmd_stream_put_end(stream, buf);
	append(buf, sizeof(buf));
}

/* A header, data, zeros, data up to the disk's crooked end, an end. */
static void send_usual(void)
{
	struct cmd_stream_header header = full_header();
	struct cmd_stream stream;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + 1);
	send_begin(&stream, &header);
	send_range(&stream, 0, PIECE_BYTES, true);
	send_range(&stream, MIB, 2 * MIB, false);
	send_range(&stream, 10 * MIB, 512, true);
	send_end(&stream);
}

static int receive_record(const uint8_t *bytes, size_t count, size_t *ret_taken)
{
	struct cmd_stream_record record;
	struct base_error err = { 0 };
	int r;

	if (count < CMD_STREAM_HEAD_BYTES)
		return -ENODATA;
	r = cmd_stream_take_head(&got.stream, bytes, &record, &err);
	if (r == 0 && count - CMD_STREAM_HEAD_BYTES < record.payload_bytes)
		return -ENODATA;
	if (r == 0)
		r = cmd_stream_take_payload(&got.stream, bytes, &record, bytes + CMD_STREAM_HEAD_BYTES, &got.header,
					    &err);
	memcpy(got.text, err.text, sizeof(got.text));
	if (r < 0)
		return r;
	got.records[got.count++] = record;
	*ret_taken = CMD_STREAM_HEAD_BYTES + record.payload_bytes;
	return 0;
}

/* Takes what is in bytes up to the end or the first error. Return: 0 when the end came and nothing follows. */
static int receive(const uint8_t *bytes, size_t count)
{
	size_t at = CMD_STREAM_MAGIC_BYTES, taken = 0;

	got = (struct received){ 0 };
	if (count < CMD_STREAM_MAGIC_BYTES)
		return -ENODATA;
	got.result = cmd_stream_start(&got.stream, bytes, NULL);
	while (got.result == 0 && got.count < ARRAY_LEN(got.records) && (at < count || !got.stream.has_ended)) {
		got.result = receive_record(bytes + at, count - at, &taken);
		at += got.result == 0 ? taken : 0;
	}
	return got.result;
}

Test(cmd_stream, what_was_sent_is_received)
{
	send_usual();
	cr_assert_eq(receive(sent, sent_bytes), 0, "%s", got.text);
	cr_assert_eq(got.count, 5);
	cr_assert_str_eq(got.header.disk_name, "web1");
	cr_assert_str_eq(got.header.snapshot_name, "monday");
	cr_assert_eq(got.header.size_bytes, SIZE_BYTES);
	cr_assert_not(cmd_stream_is_incremental(&got.header));
	cr_assert_eq(got.records[1].type, CMD_STREAM_DATA);
	cr_assert_eq(got.records[2].type, CMD_STREAM_ZERO);
	cr_assert_eq(got.records[2].length, 2 * MIB);
	cr_assert_eq(got.records[3].offset, 10 * MIB);
	cr_assert(got.stream.has_ended);
	cr_assert_eq(got.stream.data_bytes, PIECE_BYTES + 512);
	cr_assert_eq(got.stream.zero_bytes, 2 * MIB);
}

Test(cmd_stream, the_longest_names_fit)
{
	struct cmd_stream_header header = full_header();
	struct cmd_stream stream;

	memset(header.disk_name, 'd', NAME_BYTES_MAX);
	memset(header.snapshot_name, 's', NAME_BYTES_MAX);
	memset(header.base_name, 'b', NAME_BYTES_MAX);
	header.base = base_uuid_new();
	header.base_size_bytes = DISK_BYTES_MAX;
	send_begin(&stream, &header);
	cr_assert_eq(sent_bytes, CMD_STREAM_BEGIN_BYTES_MAX);
	send_end(&stream);
	cr_assert_eq(receive(sent, sent_bytes), 0, "%s", got.text);
	cr_assert(cmd_stream_is_incremental(&got.header));
	cr_assert_str_eq(got.header.base_name, header.base_name);
}

Test(cmd_stream, every_flipped_bit_is_noticed)
{
	send_usual();
	for (size_t i = 0; i < sent_bytes; i++) {
		/* Every bit of what steers, one a byte of the long payload. */
		unsigned step = i > 300 && i < sent_bytes - 700 ? 8 : 1;

		for (unsigned bit = (unsigned)i % step; bit < 8; bit += step) {
			sent[i] ^= (uint8_t)(1u << bit);
			cr_assert_lt(receive(sent, sent_bytes), 0, "bit %u of byte %zu", bit, i);
			sent[i] ^= (uint8_t)(1u << bit);
		}
		if (step == 8)
			i += 96;
	}
}

Test(cmd_stream, a_cut_stream_has_no_end)
{
	send_usual();
	for (size_t count = 0; count<sent_bytes; count += count> 300 && count + 700 < sent_bytes ? 97 : 1) {
		cr_assert_eq(receive(sent, count), -ENODATA, "%zu bytes", count);
		cr_assert_not(got.stream.has_ended);
	}
}

Test(cmd_stream, records_do_not_change_places)
{
	struct cmd_stream_header header = full_header();
	size_t second, third, record_bytes;
	uint8_t other[2 * (CMD_STREAM_HEAD_BYTES + 4096)];
	struct cmd_stream stream;

	send_begin(&stream, &header);
	second = sent_bytes;
	send_range(&stream, 0, 4096, true);
	third = sent_bytes;
	record_bytes = third - second;
	send_range(&stream, 8192, 4096, true);
	send_end(&stream);
	cr_assert_eq(receive(sent, sent_bytes), 0);

	memcpy(other, sent + third, record_bytes);
	memcpy(other + record_bytes, sent + second, record_bytes);
	memcpy(sent + second, other, sizeof(other));
	cr_assert_eq(receive(sent, sent_bytes), -EBADMSG);
}

Test(cmd_stream, a_left_out_record_is_noticed)
{
	struct cmd_stream_header header = full_header();
	struct cmd_stream stream;
	size_t second, third;

	send_begin(&stream, &header);
	second = sent_bytes;
	send_range(&stream, 0, 4096, false);
	third = sent_bytes;
	send_range(&stream, 8192, 4096, false);
	send_end(&stream);
	memmove(sent + second, sent + third, sent_bytes - third);
	cr_assert_eq(receive(sent, sent_bytes - (third - second)), -EBADMSG);
}

Test(cmd_stream, what_follows_the_end_is_refused)
{
	send_usual();
	append(sent + CMD_STREAM_MAGIC_BYTES, 200);
	cr_assert_eq(receive(sent, sent_bytes), -EBADMSG);
	cr_assert_eq(receive((const uint8_t *)"BDFSSND2", 8), -EBADMSG);
}

/* Sets the checksum of the record at head right, for a chain that begins at the magic. */
static void set_right(uint64_t chain, uint8_t *head, size_t payload_bytes)
{
	const struct base_span spans[] = { { &chain, sizeof(chain) },
					   { head, 32 },
					   { head + CMD_STREAM_HEAD_BYTES, payload_bytes } };
	uint64_t sum = base_checksum_spans(spans, ARRAY_LEN(spans));

	memcpy(head + 32, &sum, sizeof(sum));
}

Test(cmd_stream, a_header_with_a_right_checksum_is_still_judged)
{
	static const struct {
		size_t at; /* in the header's payload */
		uint8_t value;
		int result;
	} changes[] = {
		{ 0, 2, -EOPNOTSUPP },  /* version */
		{ 5, 1, -EBADMSG },     /* logical block */
		{ 79, 1, -EBADMSG },    /* size */
		{ 80, 1, -EBADMSG },    /* base size of a full stream */
		{ 56, 1, -EBADMSG },    /* a base without a name */
		{ 88, 1, -EBADMSG },    /* start */
		{ 104, 200, -EBADMSG }, /* length of a name */
		{ 106, '/', -EBADMSG }, /* the name */
	};

	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		struct cmd_stream_header header = full_header();
		struct cmd_stream stream;
		uint8_t *head = sent + CMD_STREAM_MAGIC_BYTES;

		send_begin(&stream, &header);
		head[CMD_STREAM_HEAD_BYTES + changes[i].at] = changes[i].value;
		set_right(base_checksum(CMD_STREAM_MAGIC, CMD_STREAM_MAGIC_BYTES), head,
			  sent_bytes - CMD_STREAM_MAGIC_BYTES - CMD_STREAM_HEAD_BYTES);
		cr_assert_eq(receive(sent, sent_bytes), changes[i].result, "byte %zu", changes[i].at);
	}
}

Test(cmd_stream, ranges_stay_within_the_disk_and_ascend)
{
	static const struct {
		uint64_t offset, length;
		uint32_t type, payload;
	} bad[] = {
		{ 0, 0, CMD_STREAM_ZERO, 0 },                         /* nothing */
		{ 0, 4096, CMD_STREAM_ZERO, 0 },                      /* behind */
		{ MIB + 512, 4096, CMD_STREAM_ZERO, 0 },              /* no block */
		{ MIB, 1000, CMD_STREAM_ZERO, 0 },                    /* no block's end */
		{ MIB, 10 * MIB, CMD_STREAM_ZERO, 0 },                /* past the end */
		{ UINT64_MAX - 4095, 8192, CMD_STREAM_ZERO, 0 },      /* wraps */
		{ MIB, UINT64_MAX - 4095, CMD_STREAM_ZERO, 0 },       /* wraps */
		{ MIB, 4096, CMD_STREAM_DATA, 8192 },                 /* more data than range */
		{ MIB, 2 * MIB, CMD_STREAM_DATA, 2 * (uint32_t)MIB }, /* too much data */
		{ MIB, 4096, CMD_STREAM_HEADER, 110 },                /* again */
		{ MIB, 4096, 9, 0 },                                  /* unknown */
	};
	struct cmd_stream stream = { .has_header = true, .size_bytes = SIZE_BYTES, .at_bytes = MIB };
	struct cmd_stream_record record;
	uint8_t head[CMD_STREAM_HEAD_BYTES] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		memcpy(head, &bad[i].type, 4);
		memcpy(head + 4, &bad[i].payload, 4);
		memcpy(head + 8, &bad[i].offset, 8);
		memcpy(head + 16, &bad[i].length, 8);
		cr_assert_eq(cmd_stream_take_head(&stream, head, &record, NULL), -EBADMSG, "row %zu", i);
	}
}

Test(cmd_stream, a_token_is_its_text)
{
	struct cmd_stream_token token = { .snapshot = base_uuid_new(), .at_bytes = 0x123456000 }, same;
	char text[CMD_STREAM_TOKEN_BYTES];

	cr_assert_eq(cmd_stream_token_parse(cmd_stream_token_to_text(&token, text), &same), 0);
	cr_assert_eq(memcmp(&token, &same, sizeof(token)), 0);
	text[70] = 'x';
	cr_assert_eq(cmd_stream_token_parse(text, &same), -EINVAL);
	cr_assert_eq(cmd_stream_token_parse("", &same), -EINVAL);
	cr_assert_eq(cmd_stream_token_parse("1-2-3", &same), -EINVAL);
	text[66] = '\0';
	cr_assert_eq(cmd_stream_token_parse(text, &same), -EINVAL);
}
