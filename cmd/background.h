/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long work that a daemon does on the side: making clones independent.
 *
 * One job runs at a time, the others wait in order. A job does not survive the
 * daemon; what it has copied stays, and the same verb goes on from there.
 *
 * Context: any thread, unless a function says otherwise.
 */
#ifndef CMD_BACKGROUND_H
#define CMD_BACKGROUND_H

#include "base/error.h"
#include "base/types.h"

struct cmd_background;
struct ioc_pool;
struct meta_disk;
struct meta_pool;

/* Starts its thread. The pools outlive it. Return: 0; -ENOMEM, -EAGAIN with err. Context: CTL, after the fork. */
MUST_CHECK int cmd_background_start(struct meta_pool *meta, struct ioc_pool *ioc, struct cmd_background **ret,
				    struct base_error *err);
/* Cancels and frees all. Nobody calls anything else any more. NULL is fine. */
void cmd_background_stop(struct cmd_background *background);

/* Queues a job that inflates the disk; rate_bytes: in a second at most, 0 = as fast as it goes. Return: 0; -EALREADY
 * (it has one), -ENOMEM. */
MUST_CHECK int cmd_background_inflate(struct cmd_background *background, struct meta_disk *disk, uint64_t rate_bytes,
				      uint64_t *ret_id, struct base_error *err);

struct cmd_background_info {
	uint64_t id;   /* from 1 */
	uint64_t disk; /* number */
	uint64_t done_bytes, total_bytes;
	bool waiting;
	int failed; /* negative errno: it has ended with this, and is listed until it is cancelled or begun again */
	char why[160];
};
/* The first job whose id is > after (0 to start). False: there is none. */
bool cmd_background_next(struct cmd_background *background, uint64_t after, struct cmd_background_info *ret);
/* Stops a job, or forgets one that has failed. It is gone soon after. Return: 0; -ENOENT. */
MUST_CHECK int cmd_background_cancel(struct cmd_background *background, uint64_t id);

#endif
