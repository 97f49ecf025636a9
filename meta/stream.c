/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of a stream of metadata, see stream.h and section 8 of docs/format.md.
 *
 * The chain: the header's checksum is the first link; each record's checksum
 * covers the link before it, so the last one, behind the end record, stands for
 * everything. The end record has the number of records as well, which the chain
 * does not need; a reader that is told "cut off" wants to know how much there was.
 *
 * Records have to ascend by kind and key: so there is one stream for one state of
 * the metadata, and a reader never meets a key twice.
 *
 * Failure modes: a stream that ends early is -EBADMSG like any other damage, since
 * what is missing can't be told from what was never there. What read and write
 * fail with is passed on.
 */
#include <errno.h>
#include <string.h>

#include "base/checksum.h"
#include "meta/stream.h"
#include "meta/wire.h"

#define STREAM_VERSION 1
#define END_KIND 0xff
static const uint8_t magic[8] = "BDFSMS1";

/* ---- writing --------------------------------------------------------------------------------- */

static int write_bytes(struct meta_stream_out *out, const struct wire_out *wire)
{
	int rc = out->write(out->ctx, wire->start, wire_length(wire));

	out->bytes += wire_length(wire);
	return rc;
}

static uint64_t link_of(uint64_t before, const void *bytes, size_t count)
{
	uint8_t little[8];
	struct wire_out wire = wire_out_init(little, sizeof(little));
	struct base_span spans[] = { { little, sizeof(little) }, { bytes, count } };

	wire_put_u64(&wire, before);
	return base_checksum_spans(spans, ARRAY_LEN(spans));
}

int meta_stream_begin(struct meta_stream_out *out, const struct meta_stream_header *header)
{
	uint8_t buf[META_STREAM_HEADER_BYTES];
	struct wire_out wire = wire_out_init(buf, sizeof(buf));

	out->records = out->bytes = 0;
	wire_put_bytes(&wire, magic, sizeof(magic));
	wire_put_u32(&wire, STREAM_VERSION);
	wire_put_u32(&wire, 0);
	wire_put_bytes(&wire, header->pool.b, UUID_BYTES);
	wire_put_u64(&wire, header->commit);
	wire_put_u64(&wire, header->generation);
	wire_put_u64(&wire, header->made_s);
	out->chain = base_checksum(buf, wire_length(&wire));
	wire_put_u64(&wire, out->chain);
	return write_bytes(out, &wire);
}

static int seal_and_write(struct meta_stream_out *out, struct wire_out *wire)
{
	out->chain = link_of(out->chain, wire->start, wire_length(wire));
	wire_put_u64(wire, out->chain);
	return write_bytes(out, wire);
}

int meta_stream_put(struct meta_stream_out *out, enum db_kind kind, const struct db_key *key,
		    const struct db_value *value)
{
	uint8_t buf[META_STREAM_RECORD_BYTES_MAX];
	struct wire_out wire = wire_out_init(buf, sizeof(buf));

	wire_put_u8(&wire, (uint8_t)kind);
	wire_put_u8(&wire, (uint8_t)key->bytes);
	wire_put_u16(&wire, (uint16_t)value->bytes);
	wire_put_bytes(&wire, key->b, key->bytes);
	wire_put_bytes(&wire, value->b, value->bytes);
	out->records++;
	return seal_and_write(out, &wire);
}

int meta_stream_end(struct meta_stream_out *out)
{
	uint8_t buf[META_STREAM_END_BYTES];
	struct wire_out wire = wire_out_init(buf, sizeof(buf));

	wire_put_u8(&wire, END_KIND);
	wire_put_u8(&wire, 0);
	wire_put_u16(&wire, 8);
	wire_put_u64(&wire, out->records);
	return seal_and_write(out, &wire);
}

/* ---- reading --------------------------------------------------------------------------------- */

static int read_bytes(struct meta_stream_in *in, void *bytes, size_t count)
{
	int rc = in->read(in->ctx, bytes, count);

	in->bytes += count;
	return rc == -ENODATA ? -EBADMSG : rc;
}

int meta_stream_open(struct meta_stream_in *in, struct meta_stream_header *ret)
{
	uint8_t buf[META_STREAM_HEADER_BYTES], got[sizeof(magic)];
	struct wire_in wire = wire_in_init(buf, sizeof(buf));

	in->records = in->bytes = 0;
	in->kind = DB_POOL;
	in->key.bytes = 0;
	int rc = read_bytes(in, buf, sizeof(buf));
	if (rc < 0)
		return rc;
	wire_get_bytes(&wire, got, sizeof(got));
	if (memcmp(got, magic, sizeof(magic)) != 0 || wire_get_u32(&wire) != STREAM_VERSION ||
	    wire_get_u32(&wire) != 0)
		return -EBADMSG;
	wire_get_bytes(&wire, ret->pool.b, UUID_BYTES);
	ret->commit = wire_get_u64(&wire);
	ret->generation = wire_get_u64(&wire);
	ret->made_s = wire_get_u64(&wire);
	in->chain = base_checksum(buf, sizeof(buf) - 8);
	return wire_get_u64(&wire) == in->chain ? 0 : -EBADMSG;
}

/* Of the `count` bytes in buf the last 8 are the checksum of those before. */
static int check_link(struct meta_stream_in *in, const uint8_t *buf, size_t count)
{
	struct wire_in wire = wire_in_init(buf + count - 8, 8);

	in->chain = link_of(in->chain, buf, count - 8);
	return wire_get_u64(&wire) == in->chain ? 0 : -EBADMSG;
}

/* buf has the head. */
static int read_end(struct meta_stream_in *in, uint8_t *buf)
{
	struct wire_in wire = wire_in_init(buf + META_STREAM_HEAD_BYTES, 8);

	if (buf[1] != 0 || buf[2] != 8 || buf[3] != 0)
		return -EBADMSG;
	int rc = read_bytes(in, buf + META_STREAM_HEAD_BYTES, META_STREAM_END_BYTES - META_STREAM_HEAD_BYTES);
	if (rc == 0)
		rc = check_link(in, buf, META_STREAM_END_BYTES);
	if (rc < 0)
		return rc;
	return wire_get_u64(&wire) == in->records ? META_STREAM_END : -EBADMSG;
}

static bool is_behind(const struct meta_stream_in *in, enum db_kind kind, const struct db_key *key)
{
	if (in->records == 0 || kind != in->kind)
		return in->records == 0 || kind > in->kind;
	int order = memcmp(key->b, in->key.b, MIN(key->bytes, in->key.bytes));
	return order > 0 || (order == 0 && key->bytes > in->key.bytes);
}

int meta_stream_next(struct meta_stream_in *in, enum db_kind *ret_kind, struct db_key *ret_key,
		     struct db_value *ret_value)
{
	uint8_t buf[META_STREAM_RECORD_BYTES_MAX];
	int rc = read_bytes(in, buf, META_STREAM_HEAD_BYTES);

	if (rc < 0)
		return rc;
	if (buf[0] == END_KIND)
		return read_end(in, buf);
	struct db_key key = { .bytes = buf[1] };
	size_t value_bytes = buf[2] | (size_t)buf[3] << 8, all = META_STREAM_HEAD_BYTES + key.bytes + value_bytes + 8;
	if (buf[0] >= DB_KINDS || key.bytes == 0 || key.bytes > DB_KEY_BYTES_MAX || value_bytes == 0 ||
	    value_bytes > DB_VALUE_BYTES_MAX)
		return -EBADMSG;
	rc = read_bytes(in, buf + META_STREAM_HEAD_BYTES, all - META_STREAM_HEAD_BYTES);
	if (rc == 0)
		rc = check_link(in, buf, all);
	if (rc < 0)
		return rc;
	memcpy(key.b, buf + META_STREAM_HEAD_BYTES, key.bytes);
	if (!is_behind(in, (enum db_kind)buf[0], &key))
		return -EBADMSG;
	in->kind = *ret_kind = (enum db_kind)buf[0];
	in->key = *ret_key = key;
	in->records++;
	ret_value->bytes = value_bytes;
	memcpy(ret_value->b, buf + META_STREAM_HEAD_BYTES + key.bytes, value_bytes);
	return 0;
}
