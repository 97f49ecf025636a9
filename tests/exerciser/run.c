/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out one operation on the file and on the shadow copy, and compares.
 *
 * The shadow holds what a reader must see: zero where nothing was written,
 * punched or cut off. Its bytes beyond the end of the file are kept zero, so
 * that a file that grows again has to show zeros there too.
 *
 * Happy path of a write: build the content from its seed, put it into the
 * file, then into the shadow. Of a read: read, then compare with the shadow.
 * Of a seek: everything that SEEK_DATA jumps over must be zero in the shadow,
 * which is the same as saying that its data regions cover every other byte.
 *
 * Failure modes: a difference, a call that fails where it must not, and a
 * short transfer are each reported once, with the operations that touched
 * the first wrong byte, and stop all workers. What this filesystem does not
 * offer (shared mappings, zero range ...) is skipped and counted: the caller
 * prints the counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "exerciser.h"

#define TOUCHING_SHOWN 50
#define WRITEV_PARTS_MAX 8
#define SEEK_STEPS_MAX 64

/* ---- reports --------------------------------------------------------------------------------- */

static bool report_begin(struct worker *worker)
{
	struct target *target = worker->target;

	pthread_mutex_lock(&target->report_lock);
	if (target->failed) {
		pthread_mutex_unlock(&target->report_lock);
		return false;
	}
	target->failed = true;
	atomic_store(&target->stop, true);
	return true;
}

static void report_end(struct worker *worker, uint64_t byte)
{
	printf("the last operations of worker %u that touched byte %llu, the newest first:\n", worker->number,
	       (unsigned long long)byte);
	oplog_print_touching(&worker->log, byte, TOUCHING_SHOWN, stdout);
	fflush(stdout);
	pthread_mutex_unlock(&worker->target->report_lock);
}

__attribute__((format(printf, 3, 4))) static int fail(struct worker *worker, const struct op *op, const char *fmt, ...)
{
	va_list args;

	if (!report_begin(worker))
		return -1;
	printf("FAILED in ");
	op_print(stdout, op);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	report_end(worker, op->offset_bytes);
	return -1;
}

static void print_bytes(const char *label, const uint8_t *data, size_t bytes)
{
	printf("  %s", label);
	for (size_t i = 0; i < bytes && i < 16; i++)
		printf(" %02x", data[i]);
	printf("\n");
}

/* got holds the file's bytes from offset on. Returns 0, or -1 after a report. */
static int compare(struct worker *worker, const struct op *op, const uint8_t *got, uint64_t offset, size_t bytes)
{
	const uint8_t *expected = worker->target->shadow + offset;
	size_t first = 0, last, differ = 0;

	if (!memcmp(got, expected, bytes))
		return 0;
	while (got[first] == expected[first])
		first++;
	last = first;
	for (size_t i = first; i < bytes; i++) {
		if (got[i] != expected[i])
			differ++, last = i;
	}
	if (!report_begin(worker))
		return -1;
	printf("MISMATCH at byte %llu (block %llu, chunk %llu), seen by ", (unsigned long long)(offset + first),
	       (unsigned long long)(offset + first) / 4096, (unsigned long long)(offset + first) / 65536);
	op_print(stdout, op);
	printf("  %zu of %zu bytes differ, from byte %llu to byte %llu\n", differ, bytes,
	       (unsigned long long)(offset + first), (unsigned long long)(offset + last));
	print_bytes("expected", expected + first, bytes - first);
	print_bytes("got     ", got + first, bytes - first);
	report_end(worker, offset + first);
	return -1;
}

static void skip(struct worker *worker, const struct op *op)
{
	atomic_fetch_add(&worker->target->skipped[op->kind], 1);
}

/* ---- reads and writes ------------------------------------------------------------------------ */

static uint64_t clip(const struct worker *worker, const struct op *op)
{
	uint64_t limit = worker_limit(worker);

	if (op->offset_bytes >= limit)
		return 0;
	return op->length_bytes < limit - op->offset_bytes ? op->length_bytes : limit - op->offset_bytes;
}

static int do_read(struct worker *worker, const struct op *op)
{
	uint8_t *buffer = worker->buffer + op->skew;
	uint64_t expected = worker->owns_end ? clip(worker, op) : op->length_bytes;
	ssize_t n = pread(worker->target->fd[op->via], buffer, op->length_bytes, (off_t)op->offset_bytes);

	if (n < 0)
		return fail(worker, op, "pread: %s", strerror(errno));
	if ((uint64_t)n != expected)
		return fail(worker, op, "pread gave %zd bytes, %llu expected", n, (unsigned long long)expected);
	return compare(worker, op, buffer, op->offset_bytes, (size_t)n);
}

static void make_content(struct worker *worker, const struct op *op)
{
	if (op->pattern == PATTERN_ZERO)
		memset(worker->buffer + op->skew, 0, op->length_bytes);
	else
		fill_random(worker->buffer + op->skew, op->length_bytes, op->data_seed);
}

static void wrote(struct worker *worker, const struct op *op)
{
	uint64_t end = op->offset_bytes + op->length_bytes;

	memcpy(worker->target->shadow + op->offset_bytes, worker->buffer + op->skew, op->length_bytes);
	if (worker->owns_end && end > worker->size_bytes)
		worker->size_bytes = end;
}

/* Cuts the content into parts; on a descriptor that wants alignment the cuts are aligned too. */
static int cut_parts(struct worker *worker, const struct op *op, struct iovec parts[WRITEV_PARTS_MAX])
{
	struct rng rng = { op->data_seed ^ 1 };
	uint64_t unit = op->via == VIA_DIRECT ? worker->target->direct_align_bytes : 1;
	uint64_t left = op->length_bytes;
	uint8_t *at = worker->buffer + op->skew;
	int count = 0;

	while (left > 0) {
		uint64_t part = (1 + rng_below(&rng, left)) / unit * unit;

		if (part == 0 || count == WRITEV_PARTS_MAX - 1)
			part = left;
		parts[count++] = (struct iovec){ at, part };
		at += part;
		left -= part;
	}
	return count;
}

static int do_write(struct worker *worker, const struct op *op)
{
	int fd = worker->target->fd[op->via];
	struct iovec parts[WRITEV_PARTS_MAX];
	ssize_t n;

	make_content(worker, op);
	if (op->kind == OP_APPEND)
		n = write(fd, worker->buffer + op->skew, op->length_bytes);
	else if (op->kind == OP_WRITEV)
		n = pwritev(fd, parts, cut_parts(worker, op, parts), (off_t)op->offset_bytes);
	else
		n = pwrite(fd, worker->buffer + op->skew, op->length_bytes, (off_t)op->offset_bytes);
	if (n < 0)
		return fail(worker, op, "write: %s", strerror(errno));
	if ((uint64_t)n != op->length_bytes)
		return fail(worker, op, "a write of %llu bytes took %zd", (unsigned long long)op->length_bytes, n);
	wrote(worker, op);
	return 0;
}

static int do_mmap(struct worker *worker, struct op *op)
{
	uint64_t base = op->offset_bytes / PAGE_BYTES * PAGE_BYTES, bytes = clip(worker, op), span;
	bool writes = op->kind == OP_MMAP_WRITE;
	uint8_t *map, *at;
	int code = 0;

	if (bytes == 0)
		return 0;
	op->length_bytes = bytes; /* a mapping does not grow the file */
	span = op->offset_bytes + bytes - base;
	if (!atomic_load(&worker->target->mmap_works)) {
		skip(worker, op);
		return 0;
	}
	map = mmap(NULL, span, PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, worker->target->fd[VIA_BUFFERED],
		   (off_t)base);
	if (map == MAP_FAILED && errno == ENODEV) {
		atomic_store(&worker->target->mmap_works, false);
		skip(worker, op);
		return 0;
	}
	if (map == MAP_FAILED)
		return fail(worker, op, "mmap: %s", strerror(errno));
	at = map + (op->offset_bytes - base);
	if (writes) {
		make_content(worker, op);
		memcpy(at, worker->buffer + op->skew, bytes);
		wrote(worker, op);
		worker->mapped_dirty = true;
		if (op->sync && msync(map, span, MS_SYNC) < 0)
			code = fail(worker, op, "msync: %s", strerror(errno));
	} else {
		code = compare(worker, op, at, op->offset_bytes, bytes);
	}
	munmap(map, span);
	return code;
}

/* ---- space and size -------------------------------------------------------------------------- */

static const int allocate_modes[OP_KINDS] = {
	[OP_PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	[OP_ZERO] = FALLOC_FL_ZERO_RANGE,
	[OP_ZERO_KEEP] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	[OP_ALLOCATE] = 0,
	[OP_ALLOCATE_KEEP] = FALLOC_FL_KEEP_SIZE,
};

static atomic_bool *allocate_switch(struct target *target, const struct op *op)
{
	return op->kind == OP_ZERO || op->kind == OP_ZERO_KEEP ? &target->zero_works : &target->allocate_works;
}

static int do_allocate(struct worker *worker, const struct op *op)
{
	struct target *target = worker->target;
	uint64_t end = op->offset_bytes + op->length_bytes;
	bool zeroes = op->kind == OP_PUNCH || op->kind == OP_ZERO || op->kind == OP_ZERO_KEEP;
	bool grows = op->kind == OP_ZERO || op->kind == OP_ALLOCATE;

	if (!atomic_load(allocate_switch(target, op))) {
		skip(worker, op);
		return 0;
	}
	if (fallocate(target->fd[op->via], allocate_modes[op->kind], (off_t)op->offset_bytes, (off_t)op->length_bytes) <
	    0) {
		if (errno != EOPNOTSUPP)
			return fail(worker, op, "fallocate: %s", strerror(errno));
		atomic_store(allocate_switch(target, op), false);
		skip(worker, op);
		return 0;
	}
	if (zeroes)
		memset(target->shadow + op->offset_bytes, 0, clip(worker, op));
	if (grows && worker->owns_end && end > worker->size_bytes)
		worker->size_bytes = end;
	return 0;
}

/* Shrinks with no other descriptor open; a close that is still on its way is waited for, one second at most. */
static int shrink_alone(struct worker *worker, const struct op *op)
{
	struct target *target = worker->target;
	int code;

	pthread_rwlock_unlock(&target->fd_lock);
	pthread_rwlock_wrlock(&target->fd_lock);
	target_close_others(target, (enum via)op->via);
	for (int tries = 0; tries < 1000; tries++) {
		code = ftruncate(target->fd[op->via], (off_t)op->offset_bytes) < 0 ? -errno : 0;
		if (code != -EBUSY)
			break;
		atomic_fetch_add(&target->shrink_retries, 1);
		usleep(1000);
	}
	if (target_reopen(target) < 0)
		code = -EIO;
	pthread_rwlock_unlock(&target->fd_lock);
	pthread_rwlock_rdlock(&target->fd_lock);
	return code;
}

static int do_truncate(struct worker *worker, const struct op *op)
{
	struct target *target = worker->target;
	bool shrinks = op->offset_bytes < worker->size_bytes;
	int code = -EBUSY;

	if (!shrinks || !atomic_load(&target->shrink_needs_alone))
		code = ftruncate(target->fd[op->via], (off_t)op->offset_bytes) < 0 ? -errno : 0;
	if (shrinks && code == -EBUSY) {
		atomic_store(&target->shrink_needs_alone, true);
		code = shrink_alone(worker, op);
	}
	if (code < 0)
		return fail(worker, op, "ftruncate: %s", strerror(-code));
	if (shrinks)
		memset(target->shadow + op->offset_bytes, 0, worker->size_bytes - op->offset_bytes);
	worker->size_bytes = op->offset_bytes;
	return 0;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static int do_sync(struct worker *worker, const struct op *op)
{
	int fd = worker->target->fd[op->via];

	if ((op->kind == OP_FSYNC ? fsync(fd) : fdatasync(fd)) < 0)
		return fail(worker, op, "sync: %s", strerror(errno));
	worker->mapped_dirty = false;
	return 0;
}

static int check_zero(struct worker *worker, const struct op *op, uint64_t from, uint64_t to)
{
	const uint8_t *shadow = worker->target->shadow;

	for (uint64_t i = from; i < to; i++) {
		if (shadow[i])
			return fail(worker, op, "SEEK_DATA and SEEK_HOLE say hole from %llu to %llu; byte %llu is %02x",
				    (unsigned long long)from, (unsigned long long)to, (unsigned long long)i, shadow[i]);
	}
	return 0;
}

/* Walks data regions from the offset on; every byte between them must be zero. */
static int do_seek(struct worker *worker, const struct op *op)
{
	int fd = worker->target->fd[VIA_BUFFERED];
	uint64_t limit = worker_limit(worker), at = op->offset_bytes;

	/* The kernel asks the server, which does not know mapped pages that were not written back. */
	if (worker->mapped_dirty && fdatasync(fd) < 0)
		return fail(worker, op, "fdatasync: %s", strerror(errno));
	worker->mapped_dirty = false;
	for (int step = 0; step < SEEK_STEPS_MAX && at < limit; step++) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			return check_zero(worker, op, at, limit);
		if (data < (off_t)at)
			return fail(worker, op, "SEEK_DATA from %llu gave %lld: %s", (unsigned long long)at,
				    (long long)data, data < 0 ? strerror(errno) : "it went back");
		if (check_zero(worker, op, at, (uint64_t)data < limit ? (uint64_t)data : limit))
			return -1;
		if ((uint64_t)data >= limit)
			return worker->owns_end
				   ? fail(worker, op, "SEEK_DATA gave %lld, beyond the end", (long long)data)
				   : 0;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole <= data || (worker->owns_end && (uint64_t)hole > limit))
			return fail(worker, op, "SEEK_HOLE from data at %lld gave %lld", (long long)data,
				    (long long)hole);
		at = (uint64_t)hole;
	}
	return 0;
}

static int do_reopen(struct worker *worker, const struct op *op)
{
	struct target *target = worker->target;
	int code;

	pthread_rwlock_unlock(&target->fd_lock);
	pthread_rwlock_wrlock(&target->fd_lock);
	target_close_others(target, VIA_COUNT);
	code = target_reopen(target);
	pthread_rwlock_unlock(&target->fd_lock);
	pthread_rwlock_rdlock(&target->fd_lock);
	return code ? fail(worker, op, "open: %s", strerror(-code)) : 0;
}

static int dispatch(struct worker *worker, struct op *op)
{
	switch ((enum op_kind)op->kind) {
	case OP_READ:
		return do_read(worker, op);
	case OP_WRITE:
	case OP_WRITEV:
	case OP_APPEND:
		return do_write(worker, op);
	case OP_PUNCH:
	case OP_ZERO:
	case OP_ZERO_KEEP:
	case OP_ALLOCATE:
	case OP_ALLOCATE_KEEP:
		return do_allocate(worker, op);
	case OP_TRUNCATE:
		return do_truncate(worker, op);
	case OP_MMAP_READ:
	case OP_MMAP_WRITE:
		return do_mmap(worker, op);
	case OP_FSYNC:
	case OP_FDATASYNC:
		return do_sync(worker, op);
	case OP_SEEK:
		return do_seek(worker, op);
	case OP_REOPEN:
	case OP_KINDS:
		break;
	}
	return do_reopen(worker, op);
}

int op_run(struct worker *worker, struct op *op)
{
	struct target *target = worker->target;
	int code;

	if (op->length_bytes == 0 && op->kind != OP_TRUNCATE)
		return 0; /* an append to a region that is full */
	op->seq = atomic_fetch_add(&target->next_seq, 1) + 1;
	oplog_add(&worker->log, op);
	pthread_rwlock_rdlock(&target->fd_lock);
	code = dispatch(worker, op);
	pthread_rwlock_unlock(&target->fd_lock);
	atomic_fetch_add(&target->ran[op->kind], 1);
	return code;
}

int verify_region(struct worker *worker, enum via via)
{
	struct op op = { .kind = OP_READ, .via = (uint8_t)via, .worker = (uint16_t)worker->number };
	uint64_t limit = worker_limit(worker);
	int code = 0;

	pthread_rwlock_rdlock(&worker->target->fd_lock);
	for (uint64_t at = worker->start_bytes; at < limit && !code; at += op.length_bytes) {
		op.offset_bytes = at;
		op.length_bytes = limit - at < (1u << 20) ? limit - at : 1u << 20;
		if (via == VIA_DIRECT) /* the end of the file need not be aligned: the read is, and comes back short */
			op.length_bytes = (op.length_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
		code = do_read(worker, &op);
	}
	if (!code && worker->owns_end && lseek(worker->target->fd[via], 0, SEEK_END) != (off_t)worker->size_bytes)
		code = fail(worker, &op, "the file is not %llu bytes long", (unsigned long long)worker->size_bytes);
	pthread_rwlock_unlock(&worker->target->fd_lock);
	return code;
}
