/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and paths in JSON: bytes to strings and back, without loss.
 *
 * The JSON library takes only valid UTF-8 and gives only valid UTF-8. A disk's
 * name is what the mount accepted as a file name, and may be anything. So each
 * byte that does not belong to a valid sequence travels as one code point of a
 * range that nobody uses, U+10FF80 to U+10FFFF, and returns as that byte.
 *
 * To bytes -> string: walk; take a valid sequence as it is unless it is itself
 * of that range, else escape one byte and go on behind it. The check for
 * validity is the strict one (no overlong forms, no surrogates, nothing beyond
 * U+10FFFF), as the library's, so that what is made here is never refused
 * there.
 *
 * To string -> bytes: walk; a code point of the range becomes its byte, all
 * else is copied.
 *
 * Failure modes: no memory (NULL); a buffer too small (-ENAMETOOLONG), which
 * for a name is also the right thing to tell its user.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "cmd/text.h"

#define ESCAPE_BASE 0x10ff00u
#define ESCAPE_BYTES 4 /* of UTF-8, each */

/* Length of the valid sequence at p with its code point, or 0. */
static size_t sequence_at(const unsigned char *p, size_t left, uint32_t *ret_code)
{
	size_t length = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
	uint32_t code;

	if (length == 0 || length > left)
		return 0;
	code = length == 1 ? p[0] : p[0] & (0xffu >> (length + 1));
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if ((length == 3 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff))) ||
	    (length == 4 && (code < 0x10000 || code > 0x10ffff)))
		return 0;
	*ret_code = code;
	return length;
}

static bool is_escape(uint32_t code)
{
	return code >= ESCAPE_BASE + 0x80 && code <= ESCAPE_BASE + 0xff;
}

static size_t put_escape(char *out, unsigned char byte)
{
	uint32_t code = ESCAPE_BASE + byte;

	out[0] = (char)(0xf0 | code >> 18);
	out[1] = (char)(0x80 | ((code >> 12) & 0x3f));
	out[2] = (char)(0x80 | ((code >> 6) & 0x3f));
	out[3] = (char)(0x80 | (code & 0x3f));
	return ESCAPE_BYTES;
}

/* out has room for ESCAPE_BYTES for each byte. Returns what was written. */
static size_t escape(const char *bytes, size_t count, char *out)
{
	size_t used = 0;

	for (size_t i = 0; i < count;) {
		const unsigned char *p = (const unsigned char *)bytes + i;
		uint32_t code = 0;
		size_t length = sequence_at(p, count - i, &code);

		if (length == 0 || is_escape(code)) {
			used += put_escape(out + used, *p);
			i++;
		} else {
			memcpy(out + used, p, length);
			used += length;
			i += length;
		}
	}
	return used;
}

json_t *cmd_text_to_json(const char *bytes)
{
	if (!bytes)
		return json_null();

	size_t count = strlen(bytes);
	char *out = malloc(count * ESCAPE_BYTES + 1);

	if (!out)
		return NULL;

	json_t *text = json_stringn(out, escape(bytes, count, out));

	free(out);
	return text;
}

int cmd_text_decode(const char *utf8, char *buf, size_t room)
{
	size_t count = strlen(utf8), used = 0;

	for (size_t i = 0; i < count;) {
		const unsigned char *p = (const unsigned char *)utf8 + i;
		uint32_t code = 0;
		size_t length = sequence_at(p, count - i, &code);

		if (length == 0)
			return -EINVAL;
		if (used + (is_escape(code) ? 1 : length) >= room)
			return -ENAMETOOLONG;
		if (is_escape(code)) {
			buf[used++] = (char)(code - ESCAPE_BASE);
		} else {
			memcpy(buf + used, p, length);
			used += length;
		}
		i += length;
	}
	if (used >= room)
		return -ENAMETOOLONG;
	buf[used] = '\0';
	return 0;
}

int cmd_text_from_json(const json_t *text, char *buf, size_t room)
{
	if (!json_is_string(text) || strlen(json_string_value(text)) != json_string_length(text))
		return -EINVAL;
	return cmd_text_decode(json_string_value(text), buf, room);
}
