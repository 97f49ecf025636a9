/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool with one disk, and a queue without a thread, for benchmarks of whole requests: the data I/O of the disk ends
 * at once (engine "null"), and the streams of a front end (the FUSE device, kicks) are the benchmark's.
 *
 * Everything between is the product's. So a request costs the same instructions in each run: no system call, no
 * other thread, and a clock that steps by a constant (rig_clock_ns, put in place of base_clock_ns by the linker).
 *
 * Context: one thread, which plays the queue thread. rig_call() starts another for a moment.
 */
#ifndef BENCH_RIG_H
#define BENCH_RIG_H

#include "base/types.h"
#include "iocore/engine_internal.h"
#include "iocore/internal.h"
#include "meta/io.h"

struct rig {
	char dir[64];
	struct meta_pool *meta;
	struct meta_disk *disk;
	bool disk_is_open;
	struct meta_store *store;
	/* The rest is there after rig_open_queue() only. */
	struct ioc_pool ioc;
	struct ioc_queue queue;
	struct ioc_bd *bd;
	/* The engine under "null". */
	struct ioc_engine streams;
	struct ioc_io_list armed, replies;
	const void *message; /* for the next read, or NULL */
	size_t message_bytes, read_bytes;
	uint64_t replied; /* replies so far, of the right length */
	size_t reply_bytes;
};

/* A pool of pv_bytes in a directory of its own, in memory if there is any, with an open disk. Return: 0, or a
 * negative errno, told on stderr. */
MUST_CHECK int rig_open(uint64_t pv_bytes, uint64_t disk_bytes, struct rig **ret);
void rig_close(struct rig *rig);
/* The queue, with its engine and the disk as a backing device. Return: as above. */
MUST_CHECK int rig_open_queue(struct rig *rig);
/* Runs fn(arg), which waits for the queue, on another thread, and the queue meanwhile. */
void rig_call(struct rig *rig, void (*fn)(void *arg), void *arg);
/* One turn of the queue, in which an armed read of a stream, if any, gets these bytes and is told of read_bytes: more,
 * if what lies behind them does not matter. */
void rig_turn(struct rig *rig, const void *message, size_t bytes, size_t read_bytes);

#endif
