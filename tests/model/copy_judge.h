/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an import would bring back from a device, held against what is known of its disks and snapshots.
 *
 * The copy of the metadata that counts must be whole. Every sector of every disk and snapshot in it is looked up
 * through its layers, as a reader of the imported pool would, and shown to the caller, who knows what may be there:
 * never another disk's bytes, never discarded space; of a snapshot just what it has always shown.
 */
#ifndef TESTS_COPY_JUDGE_H
#define TESTS_COPY_JUDGE_H

#include "base/uuid.h"
#include "tests/model/sim_device.h"

/* Each returns NULL when it may be, else why not, as a static text. sector: 512 bytes. */
struct copy_truth {
	void *ctx;
	const char *(*of_disk)(void *ctx, const char *disk, uint64_t number, const char *sector);
	const char *(*of_snapshot)(void *ctx, const char *snapshot, uint64_t number, const char *sector);
};

/*
 * Reads device->now. *ret_sectors: how many were looked at. Returns NULL when all is well (also without a copy), else
 * what is wrong, in a static buffer.
 */
const char *copy_judge(struct sim_device *device, struct base_uuid pool, const struct copy_truth *truth,
		       uint64_t *ret_sectors);

#endif
