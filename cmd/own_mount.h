/* SPDX-License-Identifier: Apache-2.0 */
/* A pool that would lie on a disk of its own waits for itself, for ever. Context: CTL; opens nothing, may block. */
#ifndef CMD_OWN_MOUNT_H
#define CMD_OWN_MOUNT_H

#include "base/error.h"
#include "meta/pool.h"

/* Whether path is directory or lies below it, by the letters. */
bool cmd_path_lies_in(const char *path, const char *directory);

/*
 * Refuses a pv that is a file of the mount, or a device whose data come from one: a loop device, a partition of one, or
 * what is stacked upon them. Both paths are absolute.
 * Return: 0, also for a path that is not there; -EINVAL with err.
 */
MUST_CHECK int cmd_own_mount_refuse(const char *mountpoint, const char *path, struct base_error *err);
/* The same for all pvs of a pool. */
MUST_CHECK int cmd_own_mount_refuse_any(const char *mountpoint, struct meta_pool *pool, struct base_error *err);

#endif
