/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the transport "lio" share: the daemon's (lio.c), the names of ports
 * (lio_port.c), and the helper's: its commands (lio_helper.c) and the kernel's tree
 * (lio_tree.c).
 *
 * The kernel's target keeps what it serves as a tree of directories in configfs:
 *
 *	core/iblock_N/POOL.VTD                       a backstore, on our loop device
 *	FABRIC/WWN/tpgt_1/lun/lun_M/POOL.VTD ->      a LUN of a port
 *
 * which is the shape that targetcli makes, shows and saves. A backstore is ours if and
 * only if it lies on a loop device that is ours, so nothing is noted beside the list of
 * loop devices, and what is found there is true.
 */
#ifndef VTD_LIO_H
#define VTD_LIO_H

#include <limits.h>

#include "meta/records_target.h"

/* ---- ports: lio_port.c. Context: any, no I/O ---------------------------------------------- */

enum vtd_lio_fabric { VTD_LIO_LOOPBACK, VTD_LIO_VHOST, VTD_LIO_ISCSI, VTD_LIO_FABRICS };

struct vtd_lio_port {
	enum vtd_lio_fabric fabric;
	char wwn[META_PHYSLOC_BYTES_MAX + 1];
};

const char *vtd_lio_fabric_to_text(enum vtd_lio_fabric fabric); /* as the directory is called: "loopback" ... */
const char *vtd_lio_module_of(enum vtd_lio_fabric fabric);	/* "tcm_loop" ... */

/*
 * "FABRIC" or "FABRIC/WWN"; without a WWN it gets one of its own, "" is loopback. A WWN is made of letters, digits and
 * ".:_-" only, as it becomes a directory's name.
 * Return: 0; -EINVAL, -ENAMETOOLONG with err.
 */
MUST_CHECK int vtd_lio_port_parse(const char *text, struct vtd_lio_port *ret, struct base_error *err);
/* "FABRIC/WWN": the adapter's location. */
void vtd_lio_port_to_text(const struct vtd_lio_port *port, char ret[META_PHYSLOC_BYTES_MAX + 1]);
/* Whether client is the name of an iSCSI initiator. */
bool vtd_lio_is_initiator(const char *client);

/* ---- the tree: lio_tree.c. Context: the helper; may wait for the target's requests --------- */

#define VTD_LIO_TARGET "/sys/kernel/config/target"

/* Directory of the port's portal group. */
void vtd_lio_port_path(const struct vtd_lio_port *port, char ret[PATH_MAX]);
/* The backstore on a loop device. False: none. */
bool vtd_lio_find_store(const char *device, char ret[PATH_MAX]);
/* Calls fn with each LUN of a backstore, whichever port: the path of its link. Return: 0, or what fn returned. */
int vtd_lio_each_lun(const char *store, int (*fn)(const char *link, void *ctx), void *ctx);
/*
 * A backstore on the loop device device. serial: 36 characters, the same for the same disk for ever.
 * Return: 0; negative errno, *ret_step says at what; call vtd_lio_release then.
 */
MUST_CHECK int vtd_lio_make_store(const char *device, const char *name, const char *serial, bool read_only,
				  char ret[PATH_MAX], char ret_step[PATH_MAX]);
/* The port, unless it is there: then it is used as it is. client: the initiator that may log in (iscsi), or "". */
MUST_CHECK int vtd_lio_make_port(const struct vtd_lio_port *port, const char *client, char ret_step[PATH_MAX]);
/* The store as LUN number lun of the port. -EEXIST: there is another one. */
MUST_CHECK int vtd_lio_make_lun(const struct vtd_lio_port *port, const char *store, unsigned lun, bool read_only,
				char ret_step[PATH_MAX]);
/* Removes the backstore on device, its LUNs and what initiators see of them. Return: 0, also when there is none. */
MUST_CHECK int vtd_lio_release(const char *device, char ret_step[PATH_MAX]);
/* Removes the port if it has no LUN left and is as vtd_lio_make_port makes it; else leaves it. */
void vtd_lio_drop_port(const struct vtd_lio_port *port, const char *client);
/* The SCSI address ("2:0:1:0") of a LUN of the fabric loopback on this host. False: another fabric, an old kernel. */
bool vtd_lio_scsi_address(const char *port_path, unsigned lun, char ret[32]);
/* Return: 0, negative errno. */
MUST_CHECK int vtd_lio_put(const char *directory, const char *attribute, const char *text);
/* The first line of a file, without its end. False: it can't be read. */
bool vtd_lio_get(const char *directory, const char *attribute, char *buf, size_t room);

/* ---- the helper's commands: lio_helper.c. Print the answer. Return: the exit status -------- */

/* LOOP SEQUENCE NAME SERIAL ro|rw PORT LUN CLIENT: where the disk is found. Done already: the same answer. */
int vtd_lio_serve(int argc, char *argv[]);
/* LOOP SEQUENCE PORT CLIENT gently|force: "" */
int vtd_lio_end(int argc, char *argv[]);
/* PORT LUN: "" */
int vtd_lio_rescan(int argc, char *argv[]);

#endif
