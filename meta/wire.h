/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and writing the fields of a record, one after the other:
 * little-endian integers, byte arrays, strings (16-bit length and bytes).
 *
 * Writing past the end is our own bug and asserted on: every record's largest
 * encoding is known to fit. Reading never trusts a length: the first read that
 * does not fit sets `bad`, and it and all later ones yield zeros, so a decoder
 * reads all its fields and asks once, with wire_end(), whether they were there.
 *
 * Context: any thread, pure. Private to meta/.
 */
#ifndef META_WIRE_H
#define META_WIRE_H

#include <assert.h>
#include <string.h>

#include "base/types.h"

struct wire_out {
	uint8_t *start;
	uint8_t *at;
	uint8_t *end;
};

static inline struct wire_out wire_out_init(uint8_t *buf, size_t bytes)
{
	return (struct wire_out){ .start = buf, .at = buf, .end = buf + bytes };
}

static inline size_t wire_length(const struct wire_out *out)
{
	return (size_t)(out->at - out->start);
}

static inline void wire_put_bytes(struct wire_out *out, const void *bytes, size_t count)
{
	assert((size_t)(out->end - out->at) >= count);
	if (count > 0)
		memcpy(out->at, bytes, count);
	out->at += count;
}

/* The low `count` bytes of value, lowest first. */
static inline void wire_put_int(struct wire_out *out, uint64_t value, unsigned count)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < count; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	wire_put_bytes(out, bytes, count);
}

static inline void wire_put_u8(struct wire_out *out, uint8_t value)
{
	wire_put_int(out, value, 1);
}
static inline void wire_put_u16(struct wire_out *out, uint16_t value)
{
	wire_put_int(out, value, 2);
}
static inline void wire_put_u32(struct wire_out *out, uint32_t value)
{
	wire_put_int(out, value, 4);
}
static inline void wire_put_u64(struct wire_out *out, uint64_t value)
{
	wire_put_int(out, value, 8);
}

static inline void wire_put_string(struct wire_out *out, const char *text)
{
	size_t length = strlen(text);

	assert(length <= UINT16_MAX);
	wire_put_u16(out, (uint16_t)length);
	wire_put_bytes(out, text, length);
}

struct wire_in {
	const uint8_t *at;
	size_t left;
	bool bad;
};

static inline struct wire_in wire_in_init(const uint8_t *bytes, size_t count)
{
	return (struct wire_in){ .at = bytes, .left = count };
}

static inline void wire_get_bytes(struct wire_in *in, void *ret, size_t count)
{
	if (in->bad || in->left < count) {
		in->bad = true;
		memset(ret, 0, count);
		return;
	}
	memcpy(ret, in->at, count);
	in->at += count;
	in->left -= count;
}

static inline uint64_t wire_get_int(struct wire_in *in, unsigned count)
{
	uint8_t bytes[8];
	uint64_t value = 0;

	wire_get_bytes(in, bytes, count);
	for (unsigned i = 0; i < count; i++)
		value |= (uint64_t)bytes[i] << 8 * i;
	return value;
}

static inline uint8_t wire_get_u8(struct wire_in *in)
{
	return (uint8_t)wire_get_int(in, 1);
}
static inline uint16_t wire_get_u16(struct wire_in *in)
{
	return (uint16_t)wire_get_int(in, 2);
}
static inline uint32_t wire_get_u32(struct wire_in *in)
{
	return (uint32_t)wire_get_int(in, 4);
}
static inline uint64_t wire_get_u64(struct wire_in *in)
{
	return wire_get_int(in, 8);
}

/* room counts the NUL. A string that is too long or has a NUL inside is bad. */
static inline void wire_get_string(struct wire_in *in, char *ret, size_t room)
{
	size_t length = wire_get_u16(in);

	ret[0] = '\0';
	if (length >= room || in->left < length || memchr(in->at, '\0', length)) {
		in->bad = true;
		return;
	}
	wire_get_bytes(in, ret, length);
	ret[length] = '\0';
}

/* True when every read fitted and nothing is left over. */
static inline bool wire_end(const struct wire_in *in)
{
	return !in->bad && in->left == 0;
}

#endif
