/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer of the stamp mode: load for tests that kill the server.
 *
 * Several threads, each in its own part of the disk, write sectors that say
 * whose they are (disk, sector, version, checksum), punch, flush, and read
 * back what they wrote. What completed is appended to the log at once, so
 * that the log is never ahead of the disk, and behind it by one operation a
 * thread at most.
 *
 * The run ends when its time or its operations are up, at SIGTERM or SIGINT,
 * or when the disk goes away: the calls of a killed server's file fail with
 * ENOTCONN, ECONNABORTED or EIO, and a part of a transfer may have been
 * done, which is then logged as that part.
 *
 * Failure modes: another errno, a read that gives what stamp_accepts()
 * refuses, or a log that can't be written end the run with status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "exerciser.h"
#include "stamp.h"

struct writer {
	const struct stamp_args *args;
	struct stamp_log log; /* state of a sector: owned by the thread whose part it lies in */
	int fd_direct, fd_durable, fd_log;
	atomic_uint_fast64_t next_version, next_flush, ops;
	atomic_bool failed, gone;
	atomic_uint_fast64_t writes, punches, flushes, reads;
	time_t end;
};

struct writer_thread {
	struct writer *writer;
	uint64_t first, sectors; /* its part */
	struct rng rng;
	uint8_t *buffer;
	pthread_t thread;
};

static volatile sig_atomic_t stop_asked;

static void on_stop(int sig)
{
	stop_asked = sig;
}

/* Returns -1: the thread ends. A disk that has gone away is how the test is meant to end. */
static int end_on_error(struct writer *writer, const char *what, int code)
{
	if (code == -ENOTCONN || code == -ECONNABORTED || code == -EIO || code == -ENODEV) {
		if (!atomic_exchange(&writer->gone, true))
			fprintf(stderr, "exerciser: %s: %s: %s\n", writer->args->path, what, strerror(-code));
		return -1;
	}
	fprintf(stderr, "exerciser: %s: %s: %s\n", writer->args->path, what, strerror(-code));
	atomic_store(&writer->failed, true);
	return -1;
}

static int acknowledge(struct writer *writer, enum record_type type, uint64_t version, uint64_t first, uint64_t sectors)
{
	int code = stamp_log_append(writer->fd_log, type, version, first, sectors);

	if (code) {
		fprintf(stderr, "exerciser: %s: %s\n", writer->args->log_path, strerror(-code));
		atomic_store(&writer->failed, true);
		return -1;
	}
	return 0;
}

static void draw_range(struct writer_thread *thread, uint64_t *ret_first, uint64_t *ret_sectors)
{
	uint64_t most = thread->writer->args->io_max_bytes / STAMP_SECTOR_BYTES, sectors;

	if (most > thread->sectors)
		most = thread->sectors;
	sectors = 1 + rng_below(&thread->rng, rng_below(&thread->rng, 4) && most > 24 ? 24 : most);
	*ret_sectors = sectors;
	*ret_first = thread->first + rng_below(&thread->rng, thread->sectors - sectors + 1);
}

static int do_write(struct writer_thread *thread, bool durable)
{
	struct writer *writer = thread->writer;
	uint64_t version = atomic_fetch_add(&writer->next_version, 2);
	uint64_t first, sectors, done;
	ssize_t n;

	draw_range(thread, &first, &sectors);
	for (uint64_t i = 0; i < sectors; i++)
		stamp_make(thread->buffer + i * STAMP_SECTOR_BYTES, writer->args->disk_id, first + i, version);
	n = pwrite(durable ? writer->fd_durable : writer->fd_direct, thread->buffer, sectors * STAMP_SECTOR_BYTES,
		   (off_t)(first * STAMP_SECTOR_BYTES));
	if (n < 0)
		return end_on_error(writer, "write", -errno);
	done = (uint64_t)n / STAMP_SECTOR_BYTES;
	/* A durable write that was cut short promises nothing about its part. */
	if (done &&
	    acknowledge(writer, durable && done == sectors ? RECORD_DURABLE : RECORD_WRITE, version, first, done))
		return -1;
	for (uint64_t i = 0; i < done; i++)
		writer->log.state[first + i].acked = version;
	atomic_fetch_add(&writer->writes, 1);
	return done == sectors ? 0 : end_on_error(writer, "short write", -EIO);
}

static int do_punch(struct writer_thread *thread)
{
	struct writer *writer = thread->writer;
	uint64_t version = atomic_fetch_add(&writer->next_version, 2) | 1;
	uint64_t first, sectors;

	draw_range(thread, &first, &sectors);
	if (acknowledge(writer, RECORD_PUNCH_BEGIN, version, first, sectors))
		return -1;
	for (uint64_t i = 0; i < sectors; i++)
		writer->log.state[first + i].punch_begun = version;
	if (fallocate(writer->fd_direct, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)(first * STAMP_SECTOR_BYTES), (off_t)(sectors * STAMP_SECTOR_BYTES)) < 0)
		return end_on_error(writer, "punch", -errno);
	if (acknowledge(writer, RECORD_PUNCH, version, first, sectors))
		return -1;
	for (uint64_t i = 0; i < sectors; i++)
		writer->log.state[first + i].acked = version;
	atomic_fetch_add(&writer->punches, 1);
	return 0;
}

static int do_flush(struct writer_thread *thread)
{
	struct writer *writer = thread->writer;
	uint64_t id = atomic_fetch_add(&writer->next_flush, 1);

	if (acknowledge(writer, RECORD_FLUSH_BEGIN, id, 0, 0))
		return -1;
	if (fdatasync(writer->fd_direct) < 0)
		return end_on_error(writer, "fdatasync", -errno);
	atomic_fetch_add(&writer->flushes, 1);
	return acknowledge(writer, RECORD_FLUSH, id, 0, 0);
}

static bool all_zero(const uint8_t *data)
{
	return data[0] == 0 && !memcmp(data, data + 1, STAMP_SECTOR_BYTES - 1);
}

static int do_read(struct writer_thread *thread)
{
	struct writer *writer = thread->writer;
	uint64_t first, sectors;
	ssize_t n;

	draw_range(thread, &first, &sectors);
	n = pread(writer->fd_direct, thread->buffer, sectors * STAMP_SECTOR_BYTES, (off_t)(first * STAMP_SECTOR_BYTES));
	if (n < 0)
		return end_on_error(writer, "read", -errno);
	for (uint64_t i = 0; i < (uint64_t)n / STAMP_SECTOR_BYTES; i++) {
		const struct sector_state *state = &writer->log.state[first + i];
		const uint8_t *data = thread->buffer + i * STAMP_SECTOR_BYTES;
		uint64_t disk_id = writer->args->disk_id, sector = first + i, version = 0;
		bool zero = all_zero(data);

		if ((zero || (stamp_read(data, &disk_id, &sector, &version) && disk_id == writer->args->disk_id &&
			      sector == first + i)) &&
		    stamp_accepts(&writer->log, state, state->acked, zero, version))
			continue;
		fprintf(stderr,
			"exerciser: %s: sector %" PRIu64 " reads as disk %" PRIu64 " sector %" PRIu64
			" version %" PRIx64 "%s; version %" PRIx64 " was written\n",
			writer->args->path, first + i, disk_id, sector, version, zero ? " (zeros)" : "", state->acked);
		atomic_store(&writer->failed, true);
		return -1;
	}
	atomic_fetch_add(&writer->reads, 1);
	return 0;
}

static int step(struct writer_thread *thread)
{
	uint64_t roll = rng_below(&thread->rng, 100);

	if (roll < 62)
		return do_write(thread, false);
	if (roll < 72)
		return do_write(thread, true);
	if (roll < 82)
		return do_punch(thread);
	if (roll < 86)
		return do_flush(thread);
	return do_read(thread);
}

static void *thread_main(void *arg)
{
	struct writer_thread *thread = arg;
	struct writer *writer = thread->writer;

	while (!stop_asked && !atomic_load(&writer->failed) && !atomic_load(&writer->gone)) {
		if (atomic_fetch_add(&writer->ops, 1) >= writer->args->ops ||
		    (writer->end && time(NULL) >= writer->end))
			break;
		if (step(thread))
			break;
	}
	return NULL;
}

/* ---- setting up ------------------------------------------------------------------------------ */

static int open_disk(struct writer *writer)
{
	const char *path = writer->args->path;

	writer->fd_direct = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	writer->fd_durable = open(path, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
	if (writer->fd_direct < 0 || writer->fd_durable < 0)
		return -errno;
	if (lseek(writer->fd_direct, 0, SEEK_END) < (off_t)writer->args->size_bytes &&
	    ftruncate(writer->fd_direct, (off_t)writer->args->size_bytes) < 0)
		return -errno;
	return 0;
}

static int open_log(struct writer *writer)
{
	uint64_t sectors = writer->args->size_bytes / STAMP_SECTOR_BYTES;
	int code;

	writer->fd_log = stamp_log_open(writer->args->log_path);
	if (writer->fd_log < 0)
		return writer->fd_log;
	if (lseek(writer->fd_log, 0, SEEK_END) == 0) {
		code = stamp_log_append(writer->fd_log, RECORD_HEAD, writer->args->disk_id, sectors, 0);
		if (code)
			return code;
	}
	code = stamp_log_load(writer->args->log_path, &writer->log);
	if (code)
		return code;
	if (writer->log.disk_id != writer->args->disk_id || writer->log.sectors != sectors) {
		fprintf(stderr, "exerciser: %s is the log of disk %" PRIu64 " with %" PRIu64 " sectors\n",
			writer->args->log_path, writer->log.disk_id, writer->log.sectors);
		return -EINVAL;
	}
	atomic_store(&writer->next_version, (writer->log.rounds + 1) << STAMP_ROUND_SHIFT | 2);
	atomic_store(&writer->next_flush, (writer->log.rounds + 1) << STAMP_ROUND_SHIFT);
	return stamp_log_append(writer->fd_log, RECORD_START, writer->log.rounds + 1, 0, 0);
}

static void run_threads(struct writer *writer)
{
	const struct stamp_args *args = writer->args;
	uint64_t part = writer->log.sectors / args->threads;
	struct writer_thread *threads = calloc(args->threads, sizeof(*threads));

	if (!threads)
		abort();
	for (unsigned i = 0; i < args->threads; i++) {
		struct rng rng = { args->seed + i };

		threads[i] = (struct writer_thread){ .writer = writer, .first = i * part, .sectors = part };
		threads[i].rng.state = rng_next(&rng);
		threads[i].buffer = aligned_alloc(PAGE_BYTES, IO_BYTES_MAX);
		if (!threads[i].buffer || pthread_create(&threads[i].thread, NULL, thread_main, &threads[i]))
			abort();
	}
	for (unsigned i = 0; i < args->threads; i++) {
		pthread_join(threads[i].thread, NULL);
		free(threads[i].buffer);
	}
	free(threads);
}

int stamp_write(const struct stamp_args *args)
{
	struct writer writer = { .args = args, .end = args->seconds ? time(NULL) + args->seconds : 0 };
	struct sigaction action = { .sa_handler = on_stop };
	int code = open_disk(&writer);

	if (!code)
		code = open_log(&writer);
	if (code) {
		fprintf(stderr, "exerciser: %s: %s\n", args->path, strerror(-code));
		return 1;
	}
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	printf("stamping %s: disk %" PRIu64 ", round %" PRIu64 ", seed %" PRIu64 "\n", args->path, args->disk_id,
	       writer.log.rounds + 1, args->seed);
	fflush(stdout);
	run_threads(&writer);
	printf("%s: %" PRIu64 " writes, %" PRIu64 " punches, %" PRIu64 " flushes, %" PRIu64 " reads%s\n",
	       writer.failed ? "FAILED" : "stopped", (uint64_t)writer.writes, (uint64_t)writer.punches,
	       (uint64_t)writer.flushes, (uint64_t)writer.reads, writer.gone ? "; the disk went away" : "");
	stamp_log_done(&writer.log);
	close(writer.fd_log);
	close(writer.fd_direct);
	close(writer.fd_durable);
	return writer.failed;
}
