/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes: what is accepted and what it counts, what is refused, and that a size
 * that is shown can be read back.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/units.h"

struct accepted {
	const char *text;
	uint64_t unit_if_bare;
	uint64_t bytes;
	bool is_increment;
};

static const struct accepted accepted[] = {
	{ "0", 1, 0, false },
	{ "4096", 1, 4096, false },
	{ "4096", MIB, 4 * GIB, false },
	{ "+4096", 1, 4096, true },
	{ "007", 1, 7, false },
	{ "512B", 1, 512, false },
	{ "512B", MIB, 512, false },
	{ "512 b", MIB, 512, false },
	{ "64K", 1, 64 * KIB, false },
	{ "64k", MIB, 64 * KIB, false },
	{ "64KB", 1, 64 * KIB, false },
	{ "64KiB", 1, 64 * KIB, false },
	{ "64kib", 1, 64 * KIB, false },
	{ "64 KiB", 1, 64 * KIB, false },
	{ "512M", 1, 512 * MIB, false },
	{ "20G", 1, 20 * GIB, false },
	{ "+10G", 1, 10 * GIB, true },
	{ "1.5T", 1, 3 * TIB / 2, false },
	{ "1.500T", 1, 3 * TIB / 2, false },
	{ "0.5", MIB, MIB / 2, false },
	{ "1.0", 1, 1, false },
	{ "0.0009765625K", 1, 1, false },
	{ "1.00", 1, 1, false },
	{ "1.0000G", 20, GIB, false },
	{ "2P", 1, 2 * PIB, false },
	{ "7E", 1, UINT64_C(7) << 60, false },
	{ "0E", 1, 0, false },
	{ "9223372036854775807", 1, INT64_MAX, false },
	{ "9223372036854775807B", MIB, INT64_MAX, false },
	{ "8191.75P", 1, UINT64_C(8191) * PIB + 3 * PIB / 4, false },
};

struct refused {
	const char *text;
	const char *says;
};

static const struct refused refused[] = {
	{ "", "empty" },
	{ "-5G", "negative" },
	{ "-", "negative" },
	{ "+", "no number" },
	{ "+-1", "no number" },
	{ "++1", "no number" },
	{ "G", "no number" },
	{ " 1G", "no number" },
	{ ".5G", "no number" },
	{ "ten", "no number" },
	{ "1.G", "no digit" },
	{ "1.", "no digit" },
	{ "1,5G", "unknown unit" },
	{ "1X", "unknown unit" },
	{ "1Gi", "unknown unit" },
	{ "1GiBB", "unknown unit" },
	{ "1iB", "unknown unit" },
	{ "1BB", "unknown unit" },
	{ "1  G", "unknown unit" },
	{ "1 ", "unknown unit" },
	{ "1G ", "unknown unit" },
	{ "1G2M", "unknown unit" },
	{ "0x10", "unknown unit" },
	{ "1e3", "unknown unit" }, /* 1 EiB and a 3 */
	{ "1.5", "whole number" },
	{ "0.3K", "whole number" },
	{ "1.05G", "whole number" },
	{ "1.0000000000000000001G", "more than 18 digits" },
	{ "9223372036854775808", "too large" },
	{ "18446744073709551616", "too large" },
	{ "99999999999999999999999999", "too large" },
	{ "8E", "too large" },
	{ "8192P", "too large" },
	{ "9223372036854775807K", "too large" },
};

Test(base_units, parses_every_form_exactly)
{
	for (size_t i = 0; i < ARRAY_LEN(accepted); i++) {
		const struct accepted *a = &accepted[i];
		struct base_error err = { 0 };
		struct base_size size = { 0 };
		int rc = base_size_parse(a->text, a->unit_if_bare, &size, &err);

		cr_expect_eq(rc, 0, "'%s': %s", a->text, err.text);
		cr_expect_eq(size.bytes, a->bytes, "'%s' gave %llu", a->text, (unsigned long long)size.bytes);
		cr_expect_eq(size.is_increment, a->is_increment, "'%s'", a->text);
	}
}

Test(base_units, refuses_with_the_reason_and_leaves_the_result_alone)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		struct base_error err = { 0 };
		struct base_size size = { .bytes = 42, .is_increment = true };
		int rc = base_size_parse(refused[i].text, 1, &size, &err);

		cr_expect_eq(rc, -EINVAL, "'%s' gave %d", refused[i].text, rc);
		cr_expect_eq(err.code, -EINVAL);
		cr_expect(strstr(err.text, refused[i].says), "'%s': %s", refused[i].text, err.text);
		cr_expect(size.bytes == 42 && size.is_increment, "'%s' wrote its result", refused[i].text);
	}
}

Test(base_units, works_without_an_error_to_fill)
{
	struct base_size size;

	cr_expect_eq(base_size_parse("nonsense", 1, &size, NULL), -EINVAL);
}

struct shown {
	uint64_t bytes;
	const char *text;
};

static const struct shown shown[] = {
	{ 0, "0 B" },
	{ 1, "1 B" },
	{ 512, "512 B" },
	{ 1023, "1023 B" },
	{ 1024, "1 KiB" },
	{ 1536, "1.5 KiB" },
	{ 1025, "1 KiB" },
	{ 1034, "1.01 KiB" },
	{ 20 * GIB, "20 GiB" },
	{ 3 * TIB / 2, "1.5 TiB" },
	{ 1023 * MIB, "1023 MiB" },
	{ 124 * GIB / 10, "12.4 GiB" },
	{ 105 * TIB / 100, "1.05 TiB" },
	{ GIB - 1, "1 GiB" },
	{ MIB - 1, "1 MiB" },
	{ 1023 * KIB + 511, "1023 KiB" },
	{ 1023 * KIB + 512, "1 MiB" },
	{ 9999 * KIB / 1000, "10 KiB" },
	{ 4 * PIB, "4 PiB" },
	{ UINT64_C(1) << 60, "1 EiB" },
	{ UINT64_MAX, "16 EiB" },
};

Test(base_units, shows_three_digits_in_the_largest_fitting_unit)
{
	for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
		char buf[BASE_SIZE_TEXT_BYTES];

		cr_expect_eq(base_size_to_text(shown[i].bytes, buf), buf);
		cr_expect_str_eq(buf, shown[i].text, "%llu", (unsigned long long)shown[i].bytes);
	}
}

Test(base_units, what_is_shown_exactly_reads_back_the_same)
{
	for (unsigned shift = 0; shift < 63; shift++) {
		char buf[BASE_SIZE_TEXT_BYTES];
		struct base_size size = { 0 };

		base_size_to_text(UINT64_C(1) << shift, buf);
		cr_expect_eq(base_size_parse(buf, 1, &size, NULL), 0, "%s", buf);
		cr_expect_eq(size.bytes, UINT64_C(1) << shift, "%s", buf);
	}
}
