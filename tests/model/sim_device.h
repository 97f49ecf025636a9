/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pv in memory that can lose its power, and an engine on it whose completions
 * come in whatever order the caller's random numbers say.
 *
 *   now      what a read sees: every completed write
 *   stable   what a power cut leaves for certain: as of the last sync
 *   log      completed and not synced: a cut keeps any subset of their sectors
 *   flying   submitted and not completed: likewise
 *
 * A discard fills with 0xdd, at once and as a logged write: who reads a chunk
 * that was discarded, or loses the race with one, sees it.
 *
 * The device is honest: a sync makes all that completed before it stable.
 */
#ifndef TESTS_SIM_DEVICE_H
#define TESTS_SIM_DEVICE_H

#include "iocore/engine.h"
#include "meta/pv.h"

struct sim_write {
	uint64_t offset, bytes;
	char *data;
};

struct sim_device {
	uint64_t bytes;
	uint32_t sector_bytes;
	char *now, *stable;
	struct sim_write *log;
	size_t log_count, log_room;
	struct ioc_io **flying;
	size_t flying_count, flying_room;
	struct ioc_io *ended, **ended_tail; /* results are in, done not called yet */
	uint64_t (*random)(void *ctx);
	/* Called at each point where the power may go: before and after every write, sync and discard reaches the
	 * device. */
	void (*event)(void *ctx, const char *what);
	void *ctx;
	unsigned fail_reads_in, fail_writes_in; /* countdown; 0 = never */
};

struct sim_engine {
	struct ioc_engine base;
	struct sim_device *device;
};

void sim_device_init(struct sim_device *device, uint64_t bytes, uint32_t sector_bytes, uint64_t (*random)(void *ctx),
		     void (*event)(void *ctx, const char *what), void *ctx);
void sim_device_free(struct sim_device *device);
/* Power goes and comes back: now = stable = what the cut left. Nothing flies any more. */
void sim_device_cut(struct sim_device *device);
/* The process dies, the machine lives: what flies lands whole, nothing is lost. */
void sim_device_kill(struct sim_device *device);
/* Completes one of the flying operations, if there is one. */
bool sim_device_complete_one(struct sim_device *device);

extern const struct meta_pv_ops sim_pv_ops; /* ctx: struct sim_device */
void sim_engine_init(struct sim_engine *engine, struct sim_device *device);

#endif
