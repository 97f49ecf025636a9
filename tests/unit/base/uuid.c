/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDs: text and bytes are the same thing, in the same order; nothing else is taken for one. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/uuid.h"

static const struct base_uuid known = { { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc,
					  0xdd, 0xee, 0xff } };
static const char known_text[] = "00112233-4455-6677-8899-aabbccddeeff";

Test(base_uuid, text_shows_the_bytes_in_their_order)
{
	char buf[BASE_UUID_TEXT_BYTES];

	cr_expect_eq(base_uuid_to_text(known, buf), buf);
	cr_expect_str_eq(buf, known_text);
}

Test(base_uuid, parses_both_cases_with_and_without_dashes)
{
	static const char *const texts[] = { known_text, "00112233-4455-6677-8899-AABBCCDDEEFF",
					     "00112233445566778899aabbccddeeff", "00112233445566778899AABBccddeeff" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct base_uuid uuid = { { 0 } };

		cr_expect_eq(base_uuid_parse(texts[i], &uuid), 0, "%s", texts[i]);
		cr_expect(base_uuid_equal(uuid, known), "%s", texts[i]);
	}
}

Test(base_uuid, refuses_what_is_not_one_and_leaves_the_result_alone)
{
	static const char *const texts[] = { "",
					     "0",
					     "00112233-4455-6677-8899-aabbccddeef",
					     "00112233-4455-6677-8899-aabbccddeeff0",
					     "00112233-4455-6677-8899-aabbccddeefg",
					     "00112233-4455-6677-8899_aabbccddeeff",
					     "0011223-34455-6677-8899-aabbccddeeff",
					     "00112233-44556677-8899-aabbccddeeff-",
					     "{0112233-4455-6677-8899-aabbccddeef}",
					     "00112233445566778899aabbccddeef",
					     "00112233445566778899aabbccddeef-",
					     " 0112233445566778899aabbccddeeff",
					     "+0112233445566778899aabbccddeeff",
					     "0x112233445566778899aabbccddeeff" };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct base_uuid uuid = known;

		cr_expect_eq(base_uuid_parse(texts[i], &uuid), -EINVAL, "'%s'", texts[i]);
		cr_expect(base_uuid_equal(uuid, known), "'%s' wrote its result", texts[i]);
	}
}

Test(base_uuid, new_ones_are_version_4_differ_and_read_back)
{
	struct base_uuid last = { { 0 } };

	for (int i = 0; i < 1000; i++) {
		struct base_uuid uuid = base_uuid_new();
		struct base_uuid back;
		char buf[BASE_UUID_TEXT_BYTES];

		cr_assert_eq(uuid.b[6] >> 4, 4);
		cr_assert_eq(uuid.b[8] >> 6, 2);
		cr_assert_not(base_uuid_equal(uuid, last));
		cr_assert_eq(base_uuid_parse(base_uuid_to_text(uuid, buf), &back), 0);
		cr_assert(base_uuid_equal(uuid, back));
		last = uuid;
	}
}
