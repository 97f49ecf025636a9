/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an adapter is when nothing more is said than its name.
 *
 * Context: any thread, no I/O.
 */
#ifndef VTD_ADAPTERS_H
#define VTD_ADAPTERS_H

#include "meta/targets.h"

/* The sockets' directory of an adapter leaves so many bytes for "/L16383". */
#define VTD_PHYSLOC_VHOST_BYTES_MAX (META_PHYSLOC_BYTES_MAX - 7)

enum { VTD_NO_DEFAULT = 1 };
/*
 * Fills an adapter called name of a pool: vhostN is vhost-user with its sockets in RUN/POOL/vhostN, loop and loopN are
 * loop, lio and lioN are LIO's loopback. transport: NULL, or the word for it, which goes before the name; of LIO also
 * lio/FABRIC and lio/FABRIC/WWN (vtd/lio.h).
 * RUN is BDFS_RUN_DIR, or /run/bdfs for root, or XDG_RUNTIME_DIR/bdfs.
 * Return: 0; VTD_NO_DEFAULT: the name says nothing; -EINVAL; -ENAMETOOLONG; with err.
 */
MUST_CHECK int vtd_adapter_default(const char *pool, const char *name, const char *transport,
				   struct meta_adapter_record *ret, struct base_error *err);

/* The socket of a VTD: PHYSLOC/Ln, n being the number of its LUN, so that what takes its place is found there too. */
void vtd_adapter_socket(const struct meta_adapter_record *adapter, uint64_t lun, char ret[META_PHYSLOC_BYTES_MAX + 1]);

#endif
