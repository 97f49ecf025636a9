/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ports of the transport "lio" as text: FABRIC/WWN, see lio.h.
 *
 * A port's name is unique in the world, as initiators on other machines may see it. One
 * that nobody chose is made of random bits, in the shape that targetcli gives: an NAA
 * name of LIO's own company id for SCSI fabrics, an IQN for iSCSI. It is recorded with
 * the adapter and stays.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/uuid.h"
#include "vtd/lio.h"

static const struct {
	const char *name, *module;
} fabrics[VTD_LIO_FABRICS] = {
	[VTD_LIO_LOOPBACK] = { "loopback", "tcm_loop" },
	[VTD_LIO_VHOST] = { "vhost", "vhost_scsi" },
	[VTD_LIO_ISCSI] = { "iscsi", "iscsi_target_mod" },
};

const char *vtd_lio_fabric_to_text(enum vtd_lio_fabric fabric)
{
	return fabrics[fabric].name;
}

const char *vtd_lio_module_of(enum vtd_lio_fabric fabric)
{
	return fabrics[fabric].module;
}

/* What may stand in a name: it is part of a path, of a pattern, and of lists split at blanks. */
static bool is_plain(const char *name)
{
	return name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:_-")] == '\0';
}

bool vtd_lio_is_initiator(const char *client)
{
	return (strncmp(client, "iqn.", 4) == 0 || strncmp(client, "eui.", 4) == 0) && strlen(client) > 4 &&
	       is_plain(client);
}

static bool is_naa(const char *name)
{
	return strncmp(name, "naa.", 4) == 0 && strlen(name + 4) == 16 &&
	       strspn(name + 4, "0123456789abcdef") == 16;
}

static void make_wwn(struct vtd_lio_port *port)
{
	char digits[BASE_UUID_TEXT_BYTES];

	base_uuid_to_text(base_uuid_new(), digits); /* xxxxxxxx-xxxx-...: the first 12 digits are all random */
	if (port->fabric == VTD_LIO_ISCSI)
		snprintf(port->wwn, sizeof(port->wwn), "iqn.2003-01.org.linux-iscsi.bdfs:sn.%.8s%.4s", digits,
			 digits + 9);
	else
		snprintf(port->wwn, sizeof(port->wwn), "naa.5001405%.8s%.1s", digits, digits + 9);
}

static int take_wwn(const char *wwn, struct vtd_lio_port *port, struct base_error *err)
{
	bool iscsi = port->fabric == VTD_LIO_ISCSI;

	if (strlen(wwn) > META_PHYSLOC_BYTES_MAX - strlen("loopback/"))
		return base_error_set(err, -ENAMETOOLONG, "%.120s: a port's name has at most %zu characters here", wwn,
				      META_PHYSLOC_BYTES_MAX - strlen("loopback/"));
	if (iscsi ? !vtd_lio_is_initiator(wwn) : !is_naa(wwn))
		return base_error_set(err, -EINVAL, "%s: a port of the fabric %s is called %s", wwn,
				      fabrics[port->fabric].name,
				      iscsi ? "iqn.YYYY-MM.DOMAIN:NAME" :
					      "naa. and 16 digits, such as naa.5001405123456789");
	snprintf(port->wwn, sizeof(port->wwn), "%s", wwn);
	return 0;
}

int vtd_lio_port_parse(const char *text, struct vtd_lio_port *ret, struct base_error *err)
{
	struct vtd_lio_port port = { 0 };
	size_t length = strcspn(text, "/"), i = 0;

	while (i < VTD_LIO_FABRICS &&
	       (strlen(fabrics[i].name) != length || strncmp(fabrics[i].name, text, length) != 0))
		i++;
	if (length > 0 && i == VTD_LIO_FABRICS)
		return base_error_set(err, -EINVAL, "%.*s: no fabric; there are loopback, vhost and iscsi",
				      (int)MIN(length, (size_t)64), text);
	port.fabric = length > 0 ? (enum vtd_lio_fabric)i : VTD_LIO_LOOPBACK;
	int rc = 0;
	if (text[length] == '\0')
		make_wwn(&port);
	else
		rc = take_wwn(text + length + 1, &port, err);
	if (rc < 0)
		return rc;
	*ret = port;
	return 0;
}

void vtd_lio_port_to_text(const struct vtd_lio_port *port, char ret[META_PHYSLOC_BYTES_MAX + 1])
{
	snprintf(ret, META_PHYSLOC_BYTES_MAX + 1, "%s/%.*s", fabrics[port->fabric].name, META_PHYSLOC_BYTES_MAX - 9,
		 port->wwn);
}
