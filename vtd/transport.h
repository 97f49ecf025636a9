/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transport: one way to serve a backing device to somebody.
 *
 * The table of VTDs (vtd/table.h) knows what is mapped and who may hold what; a
 * transport only serves. A unit is one VTD that is being served.
 *
 * Context: CTL. For one unit the table calls start first and stop last, one call at a
 * time, except that status and stats may run beside resized.
 */
#ifndef VTD_TRANSPORT_H
#define VTD_TRANSPORT_H

#include "meta/snapshot.h"
#include "meta/targets.h"
#include "vtd/vhost.h"

/* What all units have around them. Const from the table's open to its end. */
struct vtd_env {
	struct meta_pool *meta;
	struct ioc_pool *ioc;
	const char *directory; /* the pool's: for what has to be known after a kill */
	const char *mountpoint;
	bool taken_over; /* the mount, from a daemon that died: files of it stayed open */
	bool read_only; /* everything is served read-only, whatever its record says */
};

/* What is to be served. The pointers are good during start only, but for disk and
 * snapshot: those are the table's until stop. */
struct vtd_target {
	const char *name; /* of the VTD */
	const struct meta_vtd_record *vtd;
	const char *adapter_name;
	const struct meta_adapter_record *adapter;
	struct meta_disk *disk;		/* or ... */
	struct meta_snapshot *snapshot; /* ... this; both NULL: a device or file outside the pool */
	unsigned logical_block_bytes;	/* of disk, or of the disk that snapshot is of; else 0 */
	bool read_only;
};

#define VTD_DEVICE_BYTES 128
#define VTD_WHO_BYTES 200

struct vtd_status {
	char device[VTD_DEVICE_BYTES]; /* where it is found: the socket, /dev/loopN */
	bool in_use;
	char who[VTD_WHO_BYTES]; /* when in_use, by whom, for a message: "mounted on /mnt" */
	const char *trouble;     /* a static text: it is served, but something is wrong with it; NULL: nothing */
};

struct vtd_transport_ops {
	const char *description; /* of an adapter, for lsdev */
	unsigned files;          /* of the mount that a unit has open: 1 for one that needs a path, else 0 */
	/* Return: 0; negative errno with err, which names what is missing. */
	int (*start)(const struct vtd_env *env, const struct vtd_target *target, void **ret_unit,
		     struct base_error *err);
	/*
	 * force: although somebody uses it. Return: 0: the unit is gone; -EBUSY (not with force): err says by whom, and
	 * nothing has changed; with force only 0, whatever went wrong is logged.
	 */
	int (*stop)(void *unit, bool force, struct base_error *err);
	void (*status)(void *unit, struct vtd_status *ret);
	/* What a transport can't count is 0. */
	void (*stats)(void *unit, struct vtd_io_stats *ret);
	void (*resized)(void *unit, uint64_t size_bytes);
};

extern const struct vtd_transport_ops vtd_transport_loop, vtd_transport_lio, vtd_transport_vhost;

/* NULL: this release has none of this kind. */
const struct vtd_transport_ops *vtd_transport_find(uint8_t transport);

#endif
