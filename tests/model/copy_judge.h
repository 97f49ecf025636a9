/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an import would bring back from a device, held against what is on it.
 *
 * The copy of the metadata that counts must be whole, and every block that it calls a disk's must hold bytes of that
 * disk or zeros: never another disk's, never discarded space.
 */
#ifndef TESTS_COPY_JUDGE_H
#define TESTS_COPY_JUDGE_H

#include "base/uuid.h"
#include "tests/model/sim_device.h"

/*
 * Reads device->now. *ret_sectors: how many were looked at. Returns NULL when all is well (also without a copy), else
 * what is wrong, in a static buffer.
 */
const char *copy_judge(struct sim_device *device, struct base_uuid pool, uint64_t *ret_sectors);

#endif
