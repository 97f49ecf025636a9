/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logical volumes: disks that have all their space from the start, in as few
 * runs as the pool allows, and keep it.
 *
 * Context: CTL; the calls block.
 */
#ifndef META_VOLUME_H
#define META_VOLUME_H

#include "meta/pool.h"

/* Logical volumes have whole partitions (PP, VIOS's word). */
#define META_PP_BYTES (4 * MIB)

/*
 * Creates a logical volume; spec->size_bytes is a multiple of META_PP_BYTES, spec->kind is ignored. It is there
 * whole, with its space, or not at all. Return: as meta_disk_create.
 */
MUST_CHECK int meta_volume_create(struct meta_pool *pool, const struct meta_disk_spec *spec, uint64_t *ret_number,
				  struct base_error *err);

/* Neighbouring bytes of a disk on one pv. */
struct meta_extent {
	uint64_t offset_bytes, bytes;
	uint64_t pv, pv_byte;
};
/* Calls fn for each extent of the disk's map as it is committed, in order. Return: 0; what fn returned, if not 0;
 * negative errno with err. */
MUST_CHECK int meta_disk_extents(struct meta_disk *disk, int (*fn)(const struct meta_extent *extent, void *ctx),
				 void *ctx, struct base_error *err);

#endif
