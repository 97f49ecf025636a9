/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream of `bdfs send` and `bdfs receive`: its codec (docs/stream.md).
 *
 * A stream is a magic, then records: one header, data and zero records in
 * ascending order of the disk's bytes, one end. Each record carries a checksum
 * over itself and the checksum of the record before it, so a record that was
 * changed, dropped, doubled or moved is noticed at that place, and the end's
 * checksum stands for the whole.
 *
 * Sending: cmd_stream_begin(), then cmd_stream_put() for each record. Receiving:
 * cmd_stream_start(), then for each record cmd_stream_take_head() over the 40
 * bytes of its head, and with the payload that it announces (bounded before
 * anything is read) cmd_stream_take_payload().
 *
 * Context: any thread, pure; a state belongs to its caller.
 */
#ifndef CMD_STREAM_H
#define CMD_STREAM_H

#include "base/error.h"
#include "base/types.h"

#define CMD_STREAM_VERSION 1
#define CMD_STREAM_MAGIC "BDFSSND1"
#define CMD_STREAM_MAGIC_BYTES 8
#define CMD_STREAM_HEAD_BYTES 40
/* Data of one record at most; a payload is never longer. */
#define CMD_STREAM_DATA_BYTES_MAX MIB
#define CMD_STREAM_HEADER_BYTES_MAX (104 + 3 * (2 + NAME_BYTES_MAX))

enum cmd_stream_type {
	CMD_STREAM_HEADER = 1,
	CMD_STREAM_DATA = 2, /* the payload is what stands at offset */
	CMD_STREAM_ZERO = 3, /* the range reads as zero */
	CMD_STREAM_END = 4,
};

struct cmd_stream_header {
	struct base_uuid pool, disk, snapshot; /* of the sender */
	struct base_uuid base;                 /* all zero: a full stream */
	uint64_t size_bytes;                   /* of the disk at the snapshot, at most DISK_BYTES_MAX */
	uint64_t base_size_bytes;              /* 0 in a full stream */
	uint64_t start_bytes; /* where this stream goes on; a multiple of BLOCK_BYTES or size_bytes, 0 = all of it */
	uint64_t created_s;
	uint32_t logical_block_bytes; /* 512 or 4096 */
	char disk_name[NAME_BYTES_MAX + 1];
	char snapshot_name[NAME_BYTES_MAX + 1];
	char base_name[NAME_BYTES_MAX + 1]; /* empty in a full stream */
};

bool cmd_stream_is_incremental(const struct cmd_stream_header *header);

struct cmd_stream_record {
	enum cmd_stream_type type;
	uint32_t payload_bytes; /* that follow the head */
	uint64_t offset, length;
};

/* How far a stream has come. Read by anybody, written by the functions below. */
struct cmd_stream {
	uint64_t chain;      /* checksum of the last record */
	uint64_t records;    /* so far, the header included */
	uint64_t size_bytes; /* of the header */
	uint64_t at_bytes;   /* the end of the last range: nothing before it may come any more */
	uint64_t data_bytes, zero_bytes;
	bool has_header, has_ended;
};

/* ---- sending ------------------------------------------------------------------------------ */

/* Writes magic and header; returns how many bytes of buf. The header is the caller's own: what it may not hold is a
 * bug. */
#define CMD_STREAM_BEGIN_BYTES_MAX (CMD_STREAM_MAGIC_BYTES + CMD_STREAM_HEAD_BYTES + CMD_STREAM_HEADER_BYTES_MAX)
size_t cmd_stream_begin(struct cmd_stream *stream, const struct cmd_stream_header *header,
			uint8_t buf[CMD_STREAM_BEGIN_BYTES_MAX]);

/* The head of a data record (data: length bytes) or of a zero record (data NULL). Ranges as docs/stream.md has them.
 */
void cmd_stream_put(struct cmd_stream *stream, uint64_t offset, uint64_t length, const void *data,
		    uint8_t head[CMD_STREAM_HEAD_BYTES]);

/* The end: all of buf is to be sent. */
#define CMD_STREAM_END_BYTES (CMD_STREAM_HEAD_BYTES + 24)
void cmd_stream_put_end(struct cmd_stream *stream, uint8_t buf[CMD_STREAM_END_BYTES]);

/* ---- receiving ---------------------------------------------------------------------------- */

/* Return: 0; -EBADMSG with err: no stream of bdfs. */
MUST_CHECK int cmd_stream_start(struct cmd_stream *stream, const uint8_t magic[CMD_STREAM_MAGIC_BYTES],
				struct base_error *err);

/*
 * Decodes a head and checks all that can be checked before its payload is there: its type, that it comes in its
 * turn, its bounds. Nothing of it may be used before the payload was taken.
 * Return: 0; -EBADMSG with err.
 */
MUST_CHECK int cmd_stream_take_head(const struct cmd_stream *stream, const uint8_t head[CMD_STREAM_HEAD_BYTES],
				    struct cmd_stream_record *ret, struct base_error *err);

/*
 * Checks the record with its payload (payload_bytes of record) against its checksum, and moves the stream on.
 * ret_header is set by the header's record only; it may be NULL for others.
 * Return: 0; -EBADMSG with err: altered, or a header that no sender makes; -EOPNOTSUPP with err: a later version.
 */
MUST_CHECK int cmd_stream_take_payload(struct cmd_stream *stream, const uint8_t head[CMD_STREAM_HEAD_BYTES],
				       const struct cmd_stream_record *record, const uint8_t *payload,
				       struct cmd_stream_header *ret_header, struct base_error *err);

/* ---- going on after a break --------------------------------------------------------------- */

/* "SNAPSHOT-BASE-OFFSET" in hexadecimal digits: what has been received of which stream. */
struct cmd_stream_token {
	struct base_uuid snapshot, base;
	uint64_t at_bytes;
};
#define CMD_STREAM_TOKEN_BYTES 96
char *cmd_stream_token_to_text(const struct cmd_stream_token *token, char buf[CMD_STREAM_TOKEN_BYTES]);
/* Return: 0; -EINVAL. */
MUST_CHECK int cmd_stream_token_parse(const char *text, struct cmd_stream_token *ret);

#endif
