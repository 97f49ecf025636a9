/* SPDX-License-Identifier: Apache-2.0 */
/* Names of LIO's ports: what becomes a directory of configfs, and what does not. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "vtd/adapters.h"
#include "vtd/lio.h"

static int parse(const char *text)
{
	struct vtd_lio_port port;
	struct base_error err;

	return vtd_lio_port_parse(text, &port, &err);
}

Test(vtd_lio_port, a_port_without_a_name_gets_one_that_no_other_has)
{
	struct vtd_lio_port a, b;
	struct base_error err;

	cr_assert_eq(vtd_lio_port_parse("", &a, &err), 0);
	cr_assert_eq(vtd_lio_port_parse("loopback", &b, &err), 0);
	cr_assert(a.fabric == VTD_LIO_LOOPBACK && b.fabric == VTD_LIO_LOOPBACK);
	cr_assert_str_neq(a.wwn, b.wwn);
	cr_assert(strncmp(a.wwn, "naa.5001405", 11) == 0 && strlen(a.wwn) == 20);
	cr_assert_eq(vtd_lio_port_parse("iscsi", &a, &err), 0);
	cr_assert(vtd_lio_is_initiator(a.wwn));
}

Test(vtd_lio_port, what_was_written_is_read_again)
{
	static const char *const names[] = { "", "vhost", "iscsi", "iscsi/iqn.2026-01.org.example:san.a_b-1",
					     "loopback/naa.5001405123456789" };
	char text[META_PHYSLOC_BYTES_MAX + 1];
	struct vtd_lio_port port, again;
	struct base_error err;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		cr_assert_eq(vtd_lio_port_parse(names[i], &port, &err), 0, "%s", names[i]);
		vtd_lio_port_to_text(&port, text);
		cr_assert_eq(vtd_lio_port_parse(text, &again, &err), 0, "%s", text);
		cr_assert(again.fabric == port.fabric && strcmp(again.wwn, port.wwn) == 0);
	}
}

Test(vtd_lio_port, nothing_leads_out_of_the_tree)
{
	char longest[200] = "iscsi/iqn.";

	cr_assert_eq(parse("loopback/../../core"), -EINVAL);
	cr_assert_eq(parse("loopback/naa.50014051234567/9"), -EINVAL);
	cr_assert_eq(parse("loopback/"), -EINVAL);
	cr_assert_eq(parse("iscsi/iqn./../x"), -EINVAL);
	cr_assert_eq(parse("iscsi/iqn.a*"), -EINVAL);
	cr_assert_eq(parse("iscsi/iqn.a b"), -EINVAL);
	cr_assert_eq(parse("iscsi/naa.5001405123456789"), -EINVAL);
	cr_assert_eq(parse("core/naa.5001405123456789"), -EINVAL);
	cr_assert_eq(parse("loop"), -EINVAL);
	memset(longest + strlen(longest), 'a', 150);
	cr_assert_eq(parse(longest), -ENAMETOOLONG);
}

Test(vtd_lio_port, an_adapter_called_lio_is_one_and_a_transport_goes_before_the_name)
{
	struct meta_adapter_record rec;
	struct base_error err;

	cr_assert_eq(vtd_adapter_default("p", "lio7", NULL, &rec, &err), 0);
	cr_assert(rec.transport == META_TRANSPORT_LIO && strncmp(rec.physloc, "loopback/naa.", 13) == 0);
	cr_assert_eq(vtd_adapter_default("p", "loop", "lio/iscsi/iqn.a:b", &rec, &err), 0);
	cr_assert(rec.transport == META_TRANSPORT_LIO && strcmp(rec.physloc, "iscsi/iqn.a:b") == 0);
	cr_assert_eq(vtd_adapter_default("p", "lio", "loop", &rec, &err), 0);
	cr_assert(rec.transport == META_TRANSPORT_LOOP && rec.physloc[0] == '\0');
	cr_assert_eq(vtd_adapter_default("p", "lion", NULL, &rec, &err), VTD_NO_DEFAULT);
	cr_assert_eq(vtd_adapter_default("p", "lio", "lio/", &rec, &err), -EINVAL);
}
