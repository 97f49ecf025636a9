/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names in JSON: that any bytes travel there and back, and that what is UTF-8
 * is left as it is.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "cmd/text.h"

/* To JSON text and back, as over the control socket. */
static void check_round_trip(const char *bytes)
{
	char back[256];
	json_t *array = json_pack("[o]", cmd_text_to_json(bytes));
	char *text = json_dumps(array, 0);
	json_t *again = json_loads(text, 0, NULL);

	cr_assert_not_null(again, "%s is not JSON", text);
	cr_assert_eq(cmd_text_from_json(json_array_get(again, 0), back, sizeof(back)), 0);
	cr_assert_str_eq(back, bytes);
	json_decref(array);
	json_decref(again);
	free(text);
}

Test(cmd_text, utf8_stands_as_it_is)
{
	json_t *text = cmd_text_to_json("web1 \xc3\xa4 \xe2\x82\xac \xf0\x9f\x92\xbe");

	cr_assert_str_eq(json_string_value(text), "web1 \xc3\xa4 \xe2\x82\xac \xf0\x9f\x92\xbe");
	json_decref(text);
}

Test(cmd_text, every_byte_comes_back)
{
	for (int byte = 1; byte < 256; byte++) {
		char name[] = { 'a', (char)byte, 'b', '\0' };

		check_round_trip(name);
	}
}

Test(cmd_text, every_pair_of_high_bytes_comes_back)
{
	for (int first = 0x80; first < 256; first++)
		for (int second = 0x80; second < 256; second++) {
			char name[] = { (char)first, (char)second, '\0' };

			check_round_trip(name);
		}
}

Test(cmd_text, malformed_sequences_come_back)
{
	static const char *const names[] = {
		"\xc0\x80",         /* overlong NUL */
		"\xe0\x80\x80",     /* overlong */
		"\xed\xa0\x80",     /* a surrogate */
		"\xf4\x90\x80\x80", /* beyond the last code point */
		"\xe2\x82",         /* cut short */
		"\xff\xfe",         "",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		check_round_trip(names[i]);
}

Test(cmd_text, a_name_that_looks_like_an_escape_comes_back)
{
	json_t *text = cmd_text_to_json("\xf4\x8f\xbf\xbf"); /* U+10FFFF, the escape of byte 0xff */

	cr_assert_str_neq(json_string_value(text), "\xf4\x8f\xbf\xbf");
	json_decref(text);
	check_round_trip("\xf4\x8f\xbf\xbf");
}

Test(cmd_text, what_does_not_fit_is_refused_not_cut)
{
	char buf[4];
	json_t *text = json_string("abcd");

	cr_assert_eq(cmd_text_from_json(text, buf, sizeof(buf)), -ENAMETOOLONG);
	json_decref(text);
	text = json_string("abc");
	cr_assert_eq(cmd_text_from_json(text, buf, sizeof(buf)), 0);
	cr_assert_str_eq(buf, "abc");
	json_decref(text);
}

Test(cmd_text, a_number_is_no_text)
{
	char buf[16];
	json_t *number = json_integer(7);

	cr_assert_eq(cmd_text_from_json(number, buf, sizeof(buf)), -EINVAL);
	cr_assert_eq(cmd_text_from_json(NULL, buf, sizeof(buf)), -EINVAL);
	json_decref(number);
}

Test(cmd_text, a_byte_0_inside_is_refused)
{
	char buf[16];
	json_t *text = json_stringn("a\0b", 3);

	cr_assert_eq(cmd_text_from_json(text, buf, sizeof(buf)), -EINVAL);
	json_decref(text);
}
