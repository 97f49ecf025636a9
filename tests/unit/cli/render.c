/* SPDX-License-Identifier: Apache-2.0 */
/* Results as printed: VIOS's columns, -fmt, -field, and what names may not do to a terminal. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cmd/text.h"

static json_t *pools(void)
{
	return json_pack("{s:[{s:s, s:I, s:I, s:I, s:i, s:s}]}", "pools", "name", "vms", "size_bytes",
			 (json_int_t)(204544 * MIB), "free_bytes", (json_int_t)(117504 * MIB + 1),
			 "allocation_unit_bytes", (json_int_t)65536, "bds", 3, "type", "FBPOOL");
}

static json_t *disk(const char *name)
{
	return json_pack("{s:s, s:[{s:o, s:s, s:I, s:I, s:s}]}", "pool", "vms", "bds", "name", cmd_text_to_json(name),
			 "uuid", "d9ce0a5c-6f8d-4b3f-a4b0-a2b7f0b8a111", "size_bytes", (json_int_t)(20 * GIB),
			 "allocated_bytes", (json_int_t)(4680 * MIB), "kind", "thin");
}

static void print(const struct cmd_verb *verb, const struct cli_format *format, json_t *result)
{
	struct base_error err = { 0 };

	cr_redirect_stdout();
	cr_redirect_stderr();
	cr_assert_eq(cli_render(verb, format, result, &err), 0, "%s", err.text);
	fflush(stdout);
	json_decref(result);
}

Test(cli_render, fmt_is_one_record_a_line_without_header)
{
	print(&cmd_lssp, &(struct cli_format){ .delimiter = ":" }, pools());
	cr_assert_stdout_eq_str("vms:204544:117504:0.0625:3:FBPOOL\n");
}

Test(cli_render, header_names_the_fields)
{
	print(&cmd_lssp, &(struct cli_format){ .delimiter = ",", .header = true }, pools());
	cr_assert_stdout_eq_str("pool,size,free,alloc,bds,type\nvms,204544,117504,0.0625,3,FBPOOL\n");
}

Test(cli_render, field_picks_and_orders)
{
	json_t *fields = json_pack("[s, s]", "TYPE", "pool");

	print(&cmd_lssp, &(struct cli_format){ .delimiter = ":", .fields = fields }, pools());
	cr_assert_stdout_eq_str("FBPOOL:vms\n");
	json_decref(fields);
}

Test(cli_render, the_table_has_the_headings_of_vios)
{
	print(&cmd_lssp, &(struct cli_format){ 0 }, pools());
	cr_assert_stdout_eq_str("Pool  Size(mb)  Free(mb)  Alloc Size(mb)  BDs  Type\n"
				"vms     204544    117504          0.0625    3  FBPOOL\n");
}

Test(cli_render, an_unmapped_disk_says_none)
{
	print(&cmd_lssp, &(struct cli_format){ .delimiter = ":" }, disk("web1"));
	cr_assert_stdout_eq_str("web1:20480:None:None\n");
}

Test(cli_render, fmt_keeps_a_record_on_its_line_whatever_its_name)
{
	print(&cmd_lssp, &(struct cli_format){ .delimiter = ":" }, disk("a\nb\033[2J\xff"));
	cr_assert_stdout_eq_str("a\\x0ab\\x1b[2J\xff:20480:None:None\n");
}

Test(cli_render, a_table_does_not_pass_control_characters_on)
{
	cr_redirect_stdout();

	json_t *result = disk("a\033[2J");
	struct base_error err = { 0 };
	char out[512];

	cr_assert_eq(cli_render(&cmd_lssp, &(struct cli_format){ 0 }, result, &err), 0);
	fflush(stdout);

	size_t n = fread(out, 1, sizeof(out) - 1, cr_get_redirected_stdout());

	out[n] = '\0';
	cr_assert_null(strchr(out, '\033'));
	cr_assert_not_null(strstr(out, "[2J"));
	json_decref(result);
}

Test(cli_render, an_unknown_field_is_refused_with_those_there_are)
{
	json_t *fields = json_pack("[s]", "colour"), *result = pools();
	struct base_error err = { 0 };

	cr_assert_eq(cli_render(&cmd_lssp, &(struct cli_format){ .fields = fields }, result, &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "pool size free alloc bds type"), "%s", err.text);
	json_decref(fields);
	json_decref(result);
}

Test(cli_render, fmt_without_a_list_is_refused)
{
	json_t *result = json_pack("{s:s}", "default", "vms");
	struct base_error err = { 0 };

	cr_assert_eq(cli_render(&cmd_lssp, &(struct cli_format){ .delimiter = ":" }, result, &err), -EINVAL);
	json_decref(result);
}

Test(cli_render, json_is_the_result_itself)
{
	print(&cmd_lssp, &(struct cli_format){ .json = true }, json_pack("{s:i}", "n", 5));
	cr_assert_stdout_eq_str("{\n  \"n\": 5\n}\n");
}

Test(cli_render, a_new_disk_is_told_as_vios_tells_it)
{
	json_t *result = disk("web1");

	json_object_set(result, "disks", json_object_get(result, "bds"));
	json_object_del(result, "bds");
	print(&cmd_mkbdsp, &(struct cli_format){ 0 }, result);
	cr_assert_stdout_eq_str("Lu Name:web1\nLu Udid:d9ce0a5c6f8d4b3fa4b0a2b7f0b8a111\n");
}

Test(cli_render, occupancy_shows_blank_only_for_free_and_full_only_for_full)
{
	json_t *result = json_pack("{s:{s:s, s:I, s:I}, s:[i, i, i, i]}", "pool", "name", "vms", "allocated_bytes",
				   (json_int_t)MIB, "size_bytes", (json_int_t)(4 * MIB), "cells", 0, 1, 254, 255);

	print(&cmd_lssp, &(struct cli_format){ 0 }, result);
	cr_assert_stdout_eq_str("vms: 1 MiB of 4 MiB in use\n| .%@|\n");
}
