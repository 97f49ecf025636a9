/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random UUIDs (RFC 9562 version 4) and their text form.
 *
 * A UUID is kept as its 16 bytes in the order in which the text shows them, so
 * that comparing bytes, sorting keys and reading a hex dump all agree.
 *
 * The random bits come from the kernel's generator. getrandom() without flags
 * blocks only before the generator was first seeded, early in boot, and for 16
 * bytes is never interrupted after that; a kernel that refuses it (older than
 * 3.17, or a seccomp filter that forbids it) leaves us without any source of
 * identities, so that ends the program: a weak identity in a label would be
 * found out only when two pools met.
 *
 * Parsing takes both cases, with the four dashes of the usual form or with
 * none, and nothing else: no braces, no white space, no dash elsewhere. The
 * version bits are not checked, since an identity made by another tool is as
 * good as ours.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/uuid.h"

static const char hex_digits[] = "0123456789abcdef";

struct base_uuid base_uuid_new(void)
{
	struct base_uuid uuid;
	size_t have = 0;

	while (have < sizeof(uuid.b)) {
		ssize_t n = getrandom(uuid.b + have, sizeof(uuid.b) - have, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			log_error("no random numbers from the kernel: %m");
			abort();
		}
		have += (size_t)n;
	}
	uuid.b[6] = (uint8_t)((uuid.b[6] & 0x0f) | 0x40); /* version 4 */
	uuid.b[8] = (uint8_t)((uuid.b[8] & 0x3f) | 0x80); /* the RFC's variant */
	return uuid;
}

static bool dash_before(unsigned byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

char *base_uuid_to_text(struct base_uuid uuid, char buf[BASE_UUID_TEXT_BYTES])
{
	char *out = buf;

	for (unsigned i = 0; i < UUID_BYTES; i++) {
		if (dash_before(i))
			*out++ = '-';
		*out++ = hex_digits[uuid.b[i] >> 4];
		*out++ = hex_digits[uuid.b[i] & 0x0f];
	}
	*out = '\0';
	return buf;
}

/* -1 when c is no hexadecimal digit. The locale has no say in this. */
static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int base_uuid_parse(const char *text, struct base_uuid *ret)
{
	struct base_uuid uuid;
	size_t length = strlen(text);
	bool dashes = length == BASE_UUID_TEXT_BYTES - 1;

	if (!dashes && length != 2 * UUID_BYTES)
		return -EINVAL;
	for (unsigned i = 0; i < UUID_BYTES; i++) {
		if (dashes && dash_before(i) && *text++ != '-')
			return -EINVAL;

		int high = digit_value(text[0]);
		int low = high < 0 ? -1 : digit_value(text[1]);

		if (low < 0)
			return -EINVAL;
		uuid.b[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	*ret = uuid;
	return 0;
}

bool base_uuid_equal(struct base_uuid a, struct base_uuid b)
{
	return memcmp(a.b, b.b, UUID_BYTES) == 0;
}
