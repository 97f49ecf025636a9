/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O side of an open pool: its queue threads and the disks that are open.
 *
 * A queue thread (Q) has one engine and a mailbox. Front ends hang their own
 * sources on it: they post a message, and the message's run function, now on
 * the queue thread, submits READ_ONCE operations to the queue's engine.
 *
 * Context: CTL, unless a function says otherwise.
 */
#ifndef IOCORE_POOL_H
#define IOCORE_POOL_H

#include "base/error.h"
#include "base/mailbox.h"
#include "iocore/bd.h"
#include "iocore/engine.h"

struct meta_pool;
struct meta_disk;
struct ioc_pool;
struct ioc_queue;

/* The epochs of meta have places for so many, and for the threads beside them. */
#define IOC_QUEUES_MAX 32

/* Requests of one queue that wait for space at once; beyond it they are not held but answered -ENOSPC. A front end
 * whose queues have memory for more than these always has a place for a read or a discard. */
#define IOC_SPACE_WAITS_MAX 256

struct ioc_pool_args {
	const char *engine; /* "uring", "threads", "null", NULL = probe */
	unsigned queues;    /* queue threads; 0 = one a core, at most 8; IOC_QUEUES_MAX at most */
	unsigned depth;     /* device operations in flight per queue; 0 = 256 */
	struct base_fault *fault; /* see iocore/engine.h; outlives the pool */
};

/* Starts the queue threads. meta stays the caller's and must outlive the ioc_pool. */
MUST_CHECK int ioc_pool_open(struct meta_pool *meta, const struct ioc_pool_args *args, struct ioc_pool **ret,
			     struct base_error *err);
/* Every request has been answered and every bd closed before this is called. */
void ioc_pool_close(struct ioc_pool *pool);

struct meta_pool *ioc_pool_meta(struct ioc_pool *pool);              /* any thread */
const char *ioc_pool_engine_name(const struct ioc_pool *pool);       /* any thread */
const char *ioc_pool_engine_why(const struct ioc_pool *pool);        /* why not io_uring, or NULL; any thread */
unsigned ioc_pool_queue_count(const struct ioc_pool *pool);          /* any thread */
struct ioc_queue *ioc_pool_queue(struct ioc_pool *pool, unsigned i); /* any thread */

/* Any thread, never blocks: msg->run runs on the queue thread. */
void ioc_queue_post(struct ioc_queue *queue, struct base_msg *msg);
/* Q of that queue: the same, and cheaper: nobody has to be woken. */
void ioc_queue_post_own(struct ioc_queue *queue, struct base_msg *msg);
/* Q of that queue. */
struct ioc_engine *ioc_queue_engine(struct ioc_queue *queue);
unsigned ioc_queue_number(const struct ioc_queue *queue); /* any thread */

/*
 * The disk as a backing device. Counts as an open of the disk (meta_disk_open) until ioc_disk_close.
 * Opening one disk many times gives the same bd.
 * Return: 0; -ENOENT, -EBADMSG (its index can't be read), -EIO, -ENOMEM.
 */
MUST_CHECK int ioc_disk_open(struct ioc_pool *pool, struct meta_disk *disk, struct ioc_bd **ret,
			     struct base_error *err);
void ioc_disk_close(struct ioc_bd *bd); /* any thread; no request of this opener is in flight */
struct meta_disk *ioc_disk_meta(struct ioc_bd *bd);

/* For CTL: submits on one of the queues and waits. req->queue, done and ctx are filled in here. Returns the result.
 */
int ioc_bd_call(struct ioc_pool *pool, struct ioc_request *req);

struct ioc_counters {
	uint64_t reads, writes, flushes, discards, read_bytes, write_bytes;
	uint64_t rmw;         /* writes that had to read a block first */
	uint64_t allocations; /* chunks given to disks */
	uint64_t errors;
};
void ioc_pool_counters(struct ioc_pool *pool, struct ioc_counters *ret); /* any thread; sums over queues */

#endif
