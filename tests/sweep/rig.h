/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool in one thread, on real files, with a device engine that does its work at
 * once; and what each sector of its two disks may hold.
 *
 * Each sector has a durable version (as of the last flush that was answered), a
 * latest one (of writes that were answered) and perhaps one of a write that
 * failed, which may be there or not. Version 0 is zeros.
 */
#ifndef TESTS_SWEEP_RIG_H
#define TESTS_SWEEP_RIG_H

#include "iocore/internal.h"
#include "meta/internal.h"

#define RIG_SECTOR UINT64_C(512)
#define RIG_DISK_BYTES (24 * MIB)
#define RIG_SECTORS (RIG_DISK_BYTES / RIG_SECTOR)
#define RIG_NONE UINT32_MAX

struct rig_disk {
	char name[16];
	struct meta_disk *meta;
	struct ioc_bd *bd; /* NULL: not open */
	uint32_t durable[RIG_SECTORS], latest[RIG_SECTORS], maybe[RIG_SECTORS];
};

struct rig_engine {
	struct ioc_engine base;
	struct ioc_io *first, **tail;
};

struct rig {
	char dir[128];
	struct meta_pool *pool; /* NULL: not open */
	struct ioc_pool *ioc;
	struct rig_engine engine;
	struct rig_disk disks[2];
	uint64_t later_ns; /* added to the clock, so that timers come due without a wait */
	struct base_error err;
};

__attribute__((format(printf, 1, 2), noreturn)) void rig_fail(const char *fmt, ...);

/* Makes the pool and fills it; leaves it closed. */
void rig_make(struct rig *rig, const char *dir);
/* The pool's files, in another directory. */
void rig_copy(struct rig *rig, const char *dir);

/* Pool, queue and disks. Return: 0, or the error, with nothing open. */
MUST_CHECK int rig_open(struct rig *rig);
MUST_CHECK int rig_close(struct rig *rig);
/* A directory of files, and itself. */
void rig_remove_dir(const char *path);
MUST_CHECK int rig_open_disk(struct rig *rig, unsigned disk);
void rig_close_disk(struct rig *rig, unsigned disk);

/* Carries a request out, to its answer; notes what it may have changed. version: of a WRITE. READ: into memory of its
 * own, not judged. */
MUST_CHECK int rig_request(struct rig *rig, unsigned disk, enum ioc_op op, unsigned flags, uint64_t offset,
			   uint64_t length, uint32_t version);
/* Lets the background do what it has to do. */
void rig_settle(struct rig *rig);
void rig_step(struct rig *rig);

enum rig_judge {
	RIG_LATEST,  /* nothing that was answered is gone */
	RIG_DURABLE, /* the pool may have fallen back to its last commit */
	RIG_FALLEN,  /* it has */
};
/* Reads all of the disk, or of both, and judges each sector. */
void rig_judge(struct rig *rig, enum rig_judge judge);
/* The same (RIG_LATEST) on damaged metadata, 64 KiB a read: an error is no fault. Return: how many there were. */
uint64_t rig_judge_readable(struct rig *rig);

#endif
