/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adapters by name, see adapters.h.
 *
 * On a Virtual I/O Server an adapter comes from the hypervisor and is there before
 * anything can be mapped to it. Here it is made by the first mapping that names it, if
 * the name says what it is; that is one step less, and a typing error still can't turn
 * one kind into another.
 *
 * The location is recorded when the adapter is made, so guests whose configuration
 * names it find it whatever the environment of a later mount is.
 */
#include "vtd/adapters.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vtd/lio.h"

static bool is_numbered(const char *name, const char *word, bool may_be_bare)
{
	size_t length = strlen(word);

	if (strncmp(name, word, length) != 0)
		return false;
	name += length;
	return name[0] ? strspn(name, "0123456789") == strlen(name) : may_be_bare;
}

static int run_directory(char *buf, size_t room, struct base_error *err)
{
	const char *set = getenv("BDFS_RUN_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (set && set[0] == '/')
		n = snprintf(buf, room, "%s", set);
	else if (geteuid() == 0)
		n = snprintf(buf, room, "/run/bdfs");
	else if (xdg && xdg[0] == '/')
		n = snprintf(buf, room, "%s/bdfs", xdg);
	else
		return base_error_set(err, -ENOENT, "no place for sockets: set BDFS_RUN_DIR or XDG_RUNTIME_DIR");
	return n < (int)room ? 0 : base_error_set(err, -ENAMETOOLONG, "%s: too long for sockets", buf);
}

static int fill_vhost(const char *pool, const char *name, struct meta_adapter_record *ret, struct base_error *err)
{
	char run[META_PHYSLOC_BYTES_MAX + 1], path[2 * META_PHYSLOC_BYTES_MAX + NAME_BYTES_MAX];
	int rc = run_directory(run, sizeof(run), err);

	if (rc < 0)
		return rc;
	snprintf(path, sizeof(path), "%s/%s/%s", run, pool, name);
	if (strlen(path) > VTD_PHYSLOC_VHOST_BYTES_MAX)
		return base_error_set(err, -ENAMETOOLONG,
				      "%s: too long for the address of a socket (%d bytes): set BDFS_RUN_DIR to a "
				      "shorter path",
				      path, VTD_PHYSLOC_VHOST_BYTES_MAX);
	for (const char *c = path; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return base_error_set(err, -EINVAL, "the pool's name has a control character: no place for "
							    "sockets can be named after it");
	snprintf(ret->physloc, sizeof(ret->physloc), "%s", path);
	return 0;
}

static int fill_lio(const char *text, struct meta_adapter_record *ret, struct base_error *err)
{
	struct vtd_lio_port port;
	int rc = vtd_lio_port_parse(text, &port, err);

	if (rc == 0)
		vtd_lio_port_to_text(&port, ret->physloc);
	return rc;
}

int vtd_adapter_default(const char *pool, const char *name, const char *transport, struct meta_adapter_record *ret,
			struct base_error *err)
{
	*ret = (struct meta_adapter_record){ 0 };
	/* "lio/iscsi", "lio/iscsi/iqn...": which port of it. */
	const char *port = transport && strncmp(transport, "lio/", 4) == 0 ? transport + 4 : "";
	int rc = transport ? meta_transport_parse(port[0] ? "lio" : transport, &ret->transport, err) : 0;
	if (rc < 0)
		return rc;
	if (!transport && is_numbered(name, "loop", true))
		ret->transport = META_TRANSPORT_LOOP;
	else if (!transport && is_numbered(name, "lio", true))
		ret->transport = META_TRANSPORT_LIO;
	else if (!transport && !is_numbered(name, "vhost", false))
		return VTD_NO_DEFAULT;
	if (ret->transport == META_TRANSPORT_VHOST_USER)
		return fill_vhost(pool, name, ret, err);
	return ret->transport == META_TRANSPORT_LIO ? fill_lio(port, ret, err) : 0;
}

void vtd_adapter_socket(const struct meta_adapter_record *adapter, uint64_t lun, char ret[META_PHYSLOC_BYTES_MAX + 1])
{
	snprintf(ret, META_PHYSLOC_BYTES_MAX + 1, "%.*s/L%" PRIu32, VTD_PHYSLOC_VHOST_BYTES_MAX, adapter->physloc,
		 meta_lun_to_index(lun));
}
