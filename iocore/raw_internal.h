/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of raw backing devices.
 *
 *	raw_look.c   what is at a path, who has it
 *	raw_open.c   opening, claiming, sharing, closing
 *	raw.c        requests
 *	raw_range.c  discards and zeroes, on a thread of the device's own
 */
#ifndef IOCORE_RAW_INTERNAL_H
#define IOCORE_RAW_INTERNAL_H

#include "base/mailbox.h"
#include "base/park.h"
#include "iocore/internal.h"
#include "iocore/raw.h"
#include "meta/pv.h"

struct raw_disk {
	struct ioc_bd bd; /* first */
	/* const once it is open */
	struct ioc_pool *pool;
	struct meta_pv_handle handle; /* here no pv, but opened and locked as one is */
	dev_t device;
	ino_t inode;
	bool is_read_only;
	char path[META_BACKING_PATH_BYTES_MAX + 1];
	/* a flush failed: any thread */
	_Atomic bool has_failed;
	/* the thread of ranges */
	pthread_t thread;
	struct base_park park;
	struct base_mailbox box;
	_Atomic bool is_stopping;
	void *zeros; /* owner: that thread; NULL until they are needed */
	/* pool.raw_lock */
	unsigned opens;
	struct raw_disk *next;
};

extern const struct ioc_bd_ops raw_ops;

static inline struct raw_disk *raw_of(const struct ioc_request *req)
{
	return container_of(req->bd, struct raw_disk, bd);
}

/* raw_range.c. Return: 0; -EAGAIN, -ENOMEM. */
MUST_CHECK int raw_range_start(struct raw_disk *raw);
void raw_range_stop(struct raw_disk *raw);
/* DISCARD and WRITE_ZEROES, checked. Context: Q. */
void raw_range_submit(struct ioc_request *req);

#endif
