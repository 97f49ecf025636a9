/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes: text to bytes, exactly, and bytes to text, rounded.
 *
 * A size is [+] digits [. digits] [space] [unit], where a unit is one of
 * K M G T P E (powers of 1024, either case) with an optional B or iB after it,
 * or B alone. Parsing never rounds: "1.5K" is 1536, "0.3K" is refused, since a
 * disk that is not of the size that was asked for is found out when it hurts.
 * Arithmetic is in 128 bits, so the only bound is the one that is checked:
 * 2^63 - 1, what a file's size can be.
 *
 * To text: the largest unit that leaves a number of at least 1, and as many
 * decimals as make three digits, without trailing zeros: 20 GiB, 12.4 GiB,
 * 1.05 TiB, 1023 MiB. Rounding is to the nearest; a number that would round up
 * to 1024 goes to the next unit. The locale has no say in either direction.
 *
 * Failure modes: -EINVAL with a text that quotes what was written and says what
 * would be right.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/units.h"

#define SIZE_BYTES_MAX ((uint64_t)INT64_MAX)
/* 10^18 is below 2^60, so fraction x unit stays far below 2^128. */
#define FRACTION_DIGITS_MAX 18

typedef unsigned __int128 wide;

static const char unit_letters[] = "KMGTPE";

struct number {
	uint64_t whole;
	uint64_t fraction; /* of scale */
	uint64_t scale;    /* 10^digits of the fraction */
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static char to_upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static int refuse_large(const char *text, struct base_error *err)
{
	return base_error_set(err, -EINVAL, "size '%s' is too large: the most is 2^63 - 1 bytes (8 EiB)", text);
}

static int parse_whole(const char *text, const char **at, struct number *num, struct base_error *err)
{
	if (!is_digit(**at))
		return base_error_set(err, -EINVAL, "size '%s' has no number: write one such as 20G or 512M", text);
	for (num->whole = 0; is_digit(**at); (*at)++) {
		if (num->whole > SIZE_BYTES_MAX / 10)
			return refuse_large(text, err);
		num->whole = num->whole * 10 + (uint64_t)(**at - '0');
	}
	return 0;
}

static int parse_fraction(const char *text, const char **at, struct number *num, struct base_error *err)
{
	unsigned digits = 0;
	unsigned zeros = 0; /* trailing ones say nothing, so they don't count */

	num->fraction = 0;
	num->scale = 1;
	if (**at != '.')
		return 0;
	(*at)++;
	if (!is_digit(**at))
		return base_error_set(err, -EINVAL, "size '%s' has no digit after its point", text);
	for (; is_digit(**at); (*at)++) {
		if (**at == '0') {
			zeros++;
			continue;
		}
		for (zeros++; zeros > 0; zeros--) {
			if (++digits > FRACTION_DIGITS_MAX)
				return base_error_set(err, -EINVAL, "size '%s' has more than %d digits after its point",
						      text, FRACTION_DIGITS_MAX);
			num->fraction *= 10;
			num->scale *= 10;
		}
		num->fraction += (uint64_t)(**at - '0');
	}
	return 0;
}

static int parse_unit(const char *text, const char *at, uint64_t unit_if_bare, uint64_t *ret, struct base_error *err)
{
	const char *suffix = at;
	uint64_t unit = 1;

	if (*at == '\0') {
		*ret = unit_if_bare;
		return 0;
	}
	if (*at == ' ')
		at++;
	for (unsigned i = 0; unit_letters[i]; i++) {
		if (to_upper(*at) != unit_letters[i])
			continue;
		unit = UINT64_C(1) << 10 * (i + 1);
		at++;
		break;
	}
	if (unit > 1 && to_upper(at[0]) == 'I' && to_upper(at[1]) == 'B')
		at += 2;
	else if (to_upper(at[0]) == 'B')
		at++;
	else if (unit == 1)
		at = suffix; /* a space alone is no unit */
	if (*at != '\0')
		return base_error_set(err, -EINVAL, "size '%s' has the unknown unit '%s': write B, K, M, G, T, P or E",
				      text, suffix);
	*ret = unit;
	return 0;
}

int base_size_parse(const char *text, uint64_t unit_if_bare, struct base_size *ret, struct base_error *err)
{
	const char *at = text;
	struct number num = { 0 };
	uint64_t unit = 0;
	bool is_increment = *at == '+';

	assert(unit_if_bare > 0);
	if (*at == '\0')
		return base_error_set(err, -EINVAL, "the size is empty: write one such as 20G or 512M");
	if (*at == '-')
		return base_error_set(err, -EINVAL, "size '%s' is negative: sizes are 0 or more", text);
	at += is_increment;

	int rc = parse_whole(text, &at, &num, err);

	if (rc == 0)
		rc = parse_fraction(text, &at, &num, err);
	if (rc == 0)
		rc = parse_unit(text, at, unit_if_bare, &unit, err);
	if (rc != 0)
		return rc;

	wide part = (wide)num.fraction * unit;

	if (part % num.scale != 0)
		return base_error_set(err, -EINVAL, "size '%s' is not a whole number of bytes", text);

	wide bytes = (wide)num.whole * unit + part / num.scale;

	if (bytes > SIZE_BYTES_MAX)
		return refuse_large(text, err);
	*ret = (struct base_size){ .bytes = (uint64_t)bytes, .is_increment = is_increment };
	return 0;
}

/* bytes in units of 2^shift x 10^-decimals, to the nearest. */
static uint64_t scaled(uint64_t bytes, unsigned shift, uint64_t power_of_ten)
{
	wide half = shift == 0 ? 0 : (wide)1 << (shift - 1);

	return (uint64_t)(((wide)bytes * power_of_ten + half) >> shift);
}

static unsigned decimals_for(uint64_t whole)
{
	if (whole >= 100)
		return 0;
	return whole >= 10 ? 1 : 2;
}

char *base_size_to_text(uint64_t bytes, char buf[BASE_SIZE_TEXT_BYTES])
{
	unsigned step = 0; /* 0 bytes, 1 KiB ... 6 EiB */

	while (step < sizeof(unit_letters) - 1 && scaled(bytes, 10 * step, 1) >= 1024)
		step++;
	if (step == 0) {
		snprintf(buf, BASE_SIZE_TEXT_BYTES, "%u B", (unsigned)bytes);
		return buf;
	}

	unsigned decimals = decimals_for(bytes >> 10 * step);
	uint64_t scale = decimals == 2 ? 100 : decimals == 1 ? 10 : 1;
	uint64_t value = scaled(bytes, 10 * step, scale);

	for (; decimals > 0 && value % 10 == 0; decimals--, scale /= 10)
		value /= 10;

	char letter = unit_letters[step - 1];
	unsigned whole = (unsigned)(value / scale);

	if (decimals == 0)
		snprintf(buf, BASE_SIZE_TEXT_BYTES, "%u %ciB", whole, letter);
	else
		snprintf(buf, BASE_SIZE_TEXT_BYTES, "%u.%0*u %ciB", whole, (int)decimals, (unsigned)(value % scale),
			 letter);
	return buf;
}
