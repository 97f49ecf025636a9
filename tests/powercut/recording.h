/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recording: every change of every file below recordfs, and every mark of the writer, in one order.
 *
 * A recording is a sequence of records, each a header and its data, padded to 8 bytes, native byte order. The number
 * of a record, counted from 1, is its position; it is the clock of everything that judges a recording.
 *
 * A write is two records, when it was received and, just before it is answered, when it was done; between them any
 * part of it may be on the medium. A flush likewise: it covers the writes of its file that were done before it was
 * received, and it is known to have worked from the record that it was done.
 */
#ifndef TESTS_POWERCUT_RECORDING_H
#define TESTS_POWERCUT_RECORDING_H

#include "base/types.h"

#define RECORD_MAGIC UINT32_C(0x52434442)

enum record_kind {
	RECORD_NAME = 1,    /* data: the path of file number `file`, relative to the root, from now on */
	RECORD_WRITE,       /* id, file, offset, length; data: what is written */
	RECORD_PUNCH,       /* id, file, offset, length: zeros */
	RECORD_SIZE,        /* id, file, offset: the new size */
	RECORD_DONE,        /* id: that WRITE, PUNCH or SIZE has taken effect and is answered next */
	RECORD_FLUSH,       /* id, file: received */
	RECORD_FLUSHED,     /* id, file: done */
	RECORD_UNLINK,      /* file */
	RECORD_RENAME,      /* file becomes what file number `offset` was */
	RECORD_DIR_FLUSHED, /* all names are stable */
	RECORD_MARK,        /* data: struct mark */
};

struct record {
	uint32_t magic;
	uint16_t kind, file;
	uint64_t id, offset, length;
	uint64_t data_bytes;
};
_Static_assert(sizeof(struct record) == 40, "no padding");

/* ---- the writer's marks ------------------------------------------------------------------- */

/* Made by writing to the file `marks` in the root of recordfs. */
#define MARKS_NAME "marks"

enum mark_kind {
	MARK_READY = 1, /* from here on a cut is judged */
	MARK_WRITE,     /* disk, first, count, version; durable: with O_DSYNC */
	MARK_ZERO,      /* disk, first, count: punched or zeroed */
	MARK_READ,      /* disk, first, count; done: a uint32_t for each sector follows */
	MARK_FLUSH,     /* disk */
	MARK_RESIZE,    /* disk, value: bytes */
	MARK_CREATE,    /* disk: the file d<disk> of no bytes */
	MARK_DELETE,    /* disk; and its snapshots */
	MARK_GROW,      /* value: bytes added to the pool */
	/* Of snapshots: disk, and the snapshot's number in value: the file snapshots/d<disk>/s<number>. */
	MARK_SNAP,      /* first: how many sectors the disk has. Those of one number are taken at one instant */
	MARK_UNSNAP,    /* removes it */
	MARK_READ_SNAP, /* count: all its sectors; done: a uint32_t for each follows */
	MARK_ROLLBACK,  /* the disk is brought back to it */
	MARK_CLONE,     /* disk: the new one, first: the disk of the snapshot */
	MARK_RECEIVE,   /* the disk, which may be new, gets this snapshot and its content; count; submitted: a uint32_t
			   for each sector follows, what it will hold */
};

enum mark_phase { MARK_SUBMITTED = 1, MARK_COMPLETED, MARK_FAILED };

#define MARK_SECTORS_MAX 2560 /* no disk of a scenario with snapshots has more */
#define MARK_BAD_SECTOR UINT32_MAX /* a read's version: no stamp of this sector of this disk */

/* One with versions of sectors behind it. */
#define MARK_HAS_VERSIONS(kind, phase)                                                  \
	((phase) == MARK_COMPLETED ? (kind) == MARK_READ || (kind) == MARK_READ_SNAP    \
				   : (phase) == MARK_SUBMITTED && (kind) == MARK_RECEIVE)

struct mark {
	uint8_t kind, phase;
	uint16_t durable;
	uint32_t disk, version, count;
	uint64_t op; /* which operation: the same in all its phases */
	uint64_t first, value;
	int32_t result, spare;
};
_Static_assert(sizeof(struct mark) == 48, "no padding");

#endif
