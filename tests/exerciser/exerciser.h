/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the exerciser share: the file under test, an operation, a worker.
 *
 * target.c   opens the file in four ways and finds out what it can do
 * op.c       names operations, and draws the next one from a worker's random numbers
 * run.c      carries one out on the file and on the shadow, and compares
 * oplog.c    remembers operations; prints those behind a mismatch; saves and loads them
 * stamp*.c   the other mode: stamped sectors and a log of acknowledgements, for tests that kill
 *
 * Context: a worker belongs to one thread; of a target, only what says "atomic" or is guarded
 * changes once the workers run.
 */
#ifndef TESTS_EXERCISER_H
#define TESTS_EXERCISER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define PAGE_BYTES 4096u
#define IO_BYTES_MAX (4u << 20)

/* ---- random numbers: one 64-bit state, a value a call, the same everywhere --------------------- */

struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* A value in [0, bound); the small bias of the remainder does not matter to a test. */
static inline uint64_t rng_below(struct rng *rng, uint64_t bound)
{
	return bound ? rng_next(rng) % bound : 0;
}

/* Fills data so that every byte depends on seed and on its place: misplaced bytes are seen. */
void fill_random(uint8_t *data, size_t bytes, uint64_t seed);

/* ---- operations ------------------------------------------------------------------------------ */

enum op_kind {
	OP_READ,
	OP_WRITE,
	OP_WRITEV,
	OP_APPEND,
	OP_PUNCH,
	OP_ZERO,
	OP_ZERO_KEEP,
	OP_ALLOCATE,
	OP_ALLOCATE_KEEP,
	OP_TRUNCATE,
	OP_MMAP_READ,
	OP_MMAP_WRITE,
	OP_FSYNC,
	OP_FDATASYNC,
	OP_SEEK,
	OP_REOPEN,
	OP_KINDS
};

enum via { VIA_BUFFERED, VIA_DIRECT, VIA_DSYNC, VIA_APPEND, VIA_COUNT };

enum pattern { PATTERN_RANDOM, PATTERN_ZERO, PATTERN_COUNT };

struct op {
	uint64_t seq; /* order of start over all workers, from 1 */
	uint64_t offset_bytes;
	uint64_t length_bytes; /* of a truncate: unused, the new size is the offset */
	uint64_t data_seed;    /* content of a write; cuts of a pwritev */
	uint16_t worker;
	uint8_t kind;    /* enum op_kind */
	uint8_t via;     /* enum via */
	uint8_t pattern; /* enum pattern */
	uint8_t skew;    /* bytes that the memory buffer is off its page */
	bool sync;       /* msync after a mapped write */
};

struct weights {
	unsigned of[OP_KINDS];
};

extern const struct weights weights_default;
const char *op_kind_name(enum op_kind kind);
const char *via_name(enum via via);
/* "read=10,write=30": the kinds named get that weight, the others keep theirs. Returns 0 or -EINVAL. */
int weights_parse(const char *text, struct weights *weights);

/* ---- the log of operations ------------------------------------------------------------------- */

struct oplog {
	struct op *ops; /* a ring of capacity entries */
	size_t capacity;
	uint64_t count; /* operations ever put in */
};

int oplog_init(struct oplog *log, size_t capacity);
void oplog_done(struct oplog *log);
void oplog_add(struct oplog *log, const struct op *op);
void op_print(FILE *out, const struct op *op);
/* Prints the last limit operations whose range holds the byte, the newest first. */
void oplog_print_touching(const struct oplog *log, uint64_t byte, unsigned limit, FILE *out);

struct target;
struct worker;
/* Writes the logs of all workers in order of start, one operation a line. Returns 0 or negative errno. */
int oplog_save(const char *path, const struct worker *workers, unsigned count, const struct target *target);
/* Reads what oplog_save wrote. Returns 0 or negative errno; the array is malloc'ed. */
int oplog_load(const char *path, struct op **ret_ops, size_t *ret_count, uint64_t *ret_size_max_bytes);

/* ---- the file under test --------------------------------------------------------------------- */

struct target {
	const char *path;
	uint64_t size_max_bytes;
	int fd[VIA_COUNT];              /* guard: fd_lock; all the same file */
	pthread_rwlock_t fd_lock;       /* read: use the descriptors; write: close and open them */
	uint8_t *shadow;                /* size_max_bytes; each region owned by its worker */
	unsigned direct_align_bytes;    /* 1 where O_DIRECT takes any offset and length; const after open */
	atomic_bool shrink_needs_alone; /* a shrink was refused while other descriptors were open */
	atomic_bool mmap_works, zero_works, seek_works, allocate_works;
	atomic_uint_fast64_t next_seq;
	atomic_bool stop;            /* a worker failed, or the time is up */
	pthread_mutex_t report_lock; /* one failure is reported, the first */
	bool failed;                 /* guard: report_lock */
	atomic_uint_fast64_t ran[OP_KINDS], skipped[OP_KINDS];
	atomic_uint_fast64_t shrink_retries;
};

/* Makes the file empty and finds out what it can do. Returns 0 or negative errno, with a message on stderr. */
int target_open(struct target *target, const char *path, uint64_t size_max_bytes);
void target_close(struct target *target);
/* Closes every descriptor but that of keep (VIA_COUNT: all). Guard: fd_lock held for writing. */
void target_close_others(struct target *target, enum via keep);
/* Opens what is closed. Guard: fd_lock held for writing. Returns 0 or negative errno. */
int target_reopen(struct target *target);

/* ---- workers --------------------------------------------------------------------------------- */

struct worker {
	struct target *target;
	unsigned number;
	uint64_t start_bytes, end_bytes; /* its region of the file */
	bool owns_end;                   /* the last worker: its region holds the end of the file */
	uint64_t size_bytes;             /* of the file, kept by the worker that owns the end */
	struct rng rng;
	struct weights weights;
	uint64_t ops, io_max_bytes, verify_every;
	bool mapped_dirty; /* mapped pages were written since the last sync: SEEK_DATA may not know them */
	uint8_t *buffer;   /* IO_BYTES_MAX + two pages, page-aligned */
	struct oplog log;
	pthread_t thread;
};

/* The end of what the worker may read: of its region, or of the file. */
static inline uint64_t worker_limit(const struct worker *worker)
{
	return worker->owns_end ? worker->size_bytes : worker->end_bytes;
}

void op_draw(struct worker *worker, struct op *ret);
/* Returns 0, or -1 after a report: a mismatch or a call that failed. */
int op_run(struct worker *worker, struct op *op);
/* Compares the worker's whole region by the descriptor via. Returns 0, or -1 after a report. */
int verify_region(struct worker *worker, enum via via);

/* ---- the stamp mode -------------------------------------------------------------------------- */

struct stamp_args {
	const char *path, *log_path;
	uint64_t disk_id, size_bytes, seed, ops;
	unsigned seconds, threads, io_max_bytes;
	bool powercut; /* verify: only what was flushed must be there */
	bool record;   /* verify: note in the log what was found of unacknowledged writes */
};

/* Both return an exit status. */
int stamp_write(const struct stamp_args *args);
int stamp_verify(const struct stamp_args *args);

#endif
