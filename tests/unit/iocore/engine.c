/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device I/O by every engine: data against a shadow, results, depth. What all
 * tests check besides is in engine_rig.h.
 */
#include "engine_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- random I/O against a shadow ---- */

#define REGIONS 64u
#define REGION_BYTES (64 * 1024u)
#define ROUNDS 40
#define SEED 20240229u

struct shadow_run {
	struct rig rig;
	unsigned seed;
	unsigned unit_bytes; /* alignment of everything */
	unsigned char *shadow;
	unsigned char *buffer;
	struct op ops[REGIONS];
	uint64_t at_bytes[REGIONS];
	size_t len_bytes[REGIONS];
};

/* Cuts the buffer in up to IOVS_MAX pieces. */
static void cut(struct shadow_run *s, struct op *op, unsigned char *data, size_t bytes)
{
	unsigned count = 1 + (unsigned)rand_r(&s->seed) % IOVS_MAX;
	size_t units = bytes / s->unit_bytes;

	op->io.iov_count = 0;
	while (bytes > 0) {
		size_t piece = bytes;

		if (op->io.iov_count + 1 < count)
			piece = MIN((units / count + (size_t)rand_r(&s->seed) % 2) * s->unit_bytes, bytes);
		op->iov[op->io.iov_count++] = (struct iovec){ .iov_base = data, .iov_len = piece };
		data += piece;
		bytes -= piece;
	}
}

/* A read, a write or (one in eight) a sync somewhere in region i: regions are disjoint, so order does not matter. */
static void submit_random(struct shadow_run *s, unsigned i)
{
	unsigned units = REGION_BYTES / s->unit_bytes;
	unsigned first = (unsigned)rand_r(&s->seed) % units;
	unsigned count = 1 + (unsigned)rand_r(&s->seed) % (units - first);
	unsigned dice = (unsigned)rand_r(&s->seed) % 8;
	unsigned char *data = s->buffer + i * REGION_BYTES;
	struct op *op = &s->ops[i];

	s->at_bytes[i] = i * REGION_BYTES + first * s->unit_bytes;
	s->len_bytes[i] = (size_t)count * s->unit_bytes;
	op_set(op, dice == 0 ? IOC_IO_SYNC : dice < 4 ? IOC_IO_READ : IOC_IO_WRITE, s->rig.fd, data, 0, s->at_bytes[i]);
	if (op->io.kind == IOC_IO_WRITE) {
		for (size_t b = 0; b < s->len_bytes[i]; b++)
			data[b] = (unsigned char)rand_r(&s->seed);
		memcpy(s->shadow + s->at_bytes[i], data, s->len_bytes[i]);
	} else {
		memset(data, 0xee, s->len_bytes[i]);
	}
	if (op->io.kind != IOC_IO_SYNC)
		cut(s, op, data, s->len_bytes[i]);
	rig_submit(&s->rig, op);
}

static void check_random(struct shadow_run *s, unsigned i)
{
	struct op *op = &s->ops[i];

	if (op->io.kind == IOC_IO_SYNC) {
		cr_assert_eq(op->result, 0);
		return;
	}
	cr_assert_eq(op->result, (int64_t)s->len_bytes[i], "region %u: result %lld of %zu", i, (long long)op->result,
		     s->len_bytes[i]);
	if (op->io.kind == IOC_IO_READ)
		cr_assert_eq(memcmp(s->buffer + i * REGION_BYTES, s->shadow + s->at_bytes[i], s->len_bytes[i]), 0,
			     "region %u reads something else than was written", i);
}

static void check_whole_file(struct shadow_run *s)
{
	memset(s->buffer, 0xee, REGIONS * REGION_BYTES);
	cr_assert_eq(pread(s->rig.fd, s->buffer, REGIONS * REGION_BYTES, 0), REGIONS * REGION_BYTES);
	cr_assert_eq(memcmp(s->buffer, s->shadow, REGIONS * REGION_BYTES), 0, "the file differs from the shadow");
}

static void random_io(const char *name, int file_flags, unsigned unit_bytes)
{
	struct shadow_run *s = calloc(1, sizeof(*s));

	cr_assert_not_null(s);
	s->seed = SEED;
	s->unit_bytes = unit_bytes;
	rig_open(&s->rig, name, DEPTH_DEFAULT, file_flags);
	s->buffer = rig_buffer(REGIONS * REGION_BYTES);
	s->shadow = calloc(REGIONS, REGION_BYTES);
	cr_assert_not_null(s->shadow);
	cr_assert_eq(ftruncate(s->rig.fd, REGIONS * REGION_BYTES), 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < REGIONS; i++)
			submit_random(s, i);
		rig_drive(&s->rig);
		for (unsigned i = 0; i < REGIONS; i++)
			check_random(s, i);
	}
	check_whole_file(s);
	rig_close(&s->rig);
	free(s->shadow);
	free(s->buffer);
	free(s);
}

ENGINE_TEST(buffered_reads_see_what_was_written)
{
	random_io(name, 0, 1);
}

ENGINE_TEST(direct_reads_see_what_was_written)
{
	random_io(name, O_DIRECT, DIRECT_ALIGN_BYTES);
}

/* ---- results ---- */

static void read_over_the_end(const char *name, int file_flags)
{
	enum { FILE_BYTES = 10000, BUFFER_BYTES = 16384 };
	unsigned char *buffer;
	struct op op = { 0 };
	struct rig rig;

	rig_open(&rig, name, DEPTH_DEFAULT, file_flags);
	buffer = rig_buffer(BUFFER_BYTES);
	cr_assert_eq(ftruncate(rig.fd, FILE_BYTES), 0);
	op_set(&op, IOC_IO_READ, rig.fd, buffer, 4096, 0);
	op.iov[1] = (struct iovec){ .iov_base = buffer + 4096, .iov_len = BUFFER_BYTES - 4096 };
	op.io.iov_count = 2;
	rig_submit(&rig, &op);
	rig_drive(&rig);
	cr_assert_eq(op.result, FILE_BYTES);
	for (unsigned i = 0; i < FILE_BYTES; i++)
		cr_assert_eq(buffer[i], 0);
	/* A direct read may put anything behind the end. */
	for (unsigned i = FILE_BYTES; i < BUFFER_BYTES && !file_flags; i++)
		cr_assert_eq(buffer[i], 0xee);

	op_set(&op, IOC_IO_READ, rig.fd, buffer, 4096, UINT64_C(1) << 30);
	rig_submit(&rig, &op);
	rig_drive(&rig);
	cr_assert_eq(op.result, 0);
	rig_close(&rig);
	free(buffer);
}

ENGINE_TEST(buffered_read_over_the_end_counts_what_is_there)
{
	read_over_the_end(name, 0);
}

ENGINE_TEST(direct_read_over_the_end_counts_what_is_there)
{
	read_over_the_end(name, O_DIRECT);
}

/* The kernel cuts the write at the limit; only carrying on brings the error out. */
ENGINE_TEST(write_that_comes_short_is_carried_on_to_its_error)
{
	enum { LIMIT_BYTES = 65536 };
	struct rlimit limit = { .rlim_cur = LIMIT_BYTES, .rlim_max = RLIM_INFINITY };
	struct op op = { 0 };
	unsigned char *buffer;
	struct rig rig;

	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	buffer = rig_buffer(LIMIT_BYTES * 2);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = LIMIT_BYTES;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	op_set(&op, IOC_IO_WRITE, rig.fd, buffer, LIMIT_BYTES * 2, 0);
	rig_submit(&rig, &op);
	rig_drive(&rig);
	cr_assert_eq(op.result, -EFBIG);
	cr_assert_eq(lseek(rig.fd, 0, SEEK_END), LIMIT_BYTES);
	rig_close(&rig);
	free(buffer);
}

/* More than one system call takes, so that the rest has to be carried on. */
ENGINE_TEST(more_iovecs_than_iov_max_are_one_io)
{
	enum { COUNT = 2 * IOV_MAX + 100, PIECE_BYTES = 48 };
	struct iovec *iov = calloc(COUNT, sizeof(*iov));
	unsigned char *data = rig_buffer(round_up_to(COUNT * PIECE_BYTES, DIRECT_ALIGN_BYTES));
	unsigned char *back = rig_buffer(round_up_to(COUNT * PIECE_BYTES, DIRECT_ALIGN_BYTES));
	struct op op = { 0 };
	struct rig rig;

	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	for (unsigned i = 0; i < COUNT * PIECE_BYTES; i++)
		data[i] = (unsigned char)(i / 7);
	for (int is_read = 0; is_read <= 1; is_read++) {
		for (unsigned i = 0; i < COUNT; i++)
			iov[i] = (struct iovec){ (is_read ? back : data) + i * PIECE_BYTES, PIECE_BYTES };
		op_set(&op, is_read ? IOC_IO_READ : IOC_IO_WRITE, rig.fd, NULL, 0, 5);
		op.io.iov = iov;
		op.io.iov_count = COUNT;
		rig_submit(&rig, &op);
		rig_drive(&rig);
		cr_assert_eq(op.result, COUNT * PIECE_BYTES);
	}
	cr_assert_eq(memcmp(data, back, COUNT * PIECE_BYTES), 0);
	rig_close(&rig);
	free(iov);
	free(data);
	free(back);
}

ENGINE_TEST(errors_of_the_kernel_are_the_result)
{
	const enum ioc_io_kind kinds[] = { IOC_IO_READ, IOC_IO_WRITE, IOC_IO_READ_ONCE, IOC_IO_REPLY, IOC_IO_SYNC };
	struct op ops[ARRAY_LEN(kinds)] = { 0 };
	char byte = 0;
	struct rig rig;

	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		op_set(&ops[i], kinds[i], -1, &byte, 1, 0);
		rig_submit(&rig, &ops[i]);
	}
	rig_drive(&rig);
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
		cr_assert_eq(ops[i].result, -EBADF, "kind %d: %lld", (int)kinds[i], (long long)ops[i].result);
	rig_close(&rig);
}

/* ---- depth ---- */

ENGINE_TEST(more_ios_than_depth_are_all_done)
{
	enum { COUNT = 3000, BYTES = 512 };
	struct op *ops = calloc(COUNT, sizeof(*ops));
	unsigned char *data = rig_buffer(COUNT * BYTES), *back = rig_buffer(COUNT * BYTES);
	struct rig rig;

	rig_open(&rig, name, 4, 0);
	for (unsigned i = 0; i < COUNT; i++) {
		memset(data + i * BYTES, (int)(i % 251), BYTES);
		op_set(&ops[i], IOC_IO_WRITE, rig.fd, data + i * BYTES, BYTES, i * BYTES);
		rig_submit(&rig, &ops[i]);
	}
	rig_drive(&rig);
	for (unsigned i = 0; i < COUNT; i++)
		cr_assert_eq(ops[i].result, BYTES);
	cr_assert_eq(pread(rig.fd, back, COUNT * BYTES, 0), COUNT * BYTES);
	cr_assert_eq(memcmp(data, back, COUNT * BYTES), 0);
	rig_close(&rig);
	free(ops);
	free(data);
	free(back);
}

/* A sync is slow and a read is not: with two in flight they would change places. */
ENGINE_TEST_WITHOUT_FAULTS(depth_of_one_keeps_the_order)
{
	enum { COUNT = 300, BYTES = 4096 };
	const enum ioc_io_kind kinds[] = { IOC_IO_WRITE, IOC_IO_SYNC, IOC_IO_READ };
	struct op *ops = calloc(COUNT, sizeof(*ops));
	unsigned char *buffer = rig_buffer(BYTES);
	struct rig rig;

	rig_open(&rig, name, 1, 0);
	for (unsigned i = 0; i < COUNT; i++) {
		op_set(&ops[i], kinds[i % 3], rig.fd, buffer, BYTES, 0);
		rig_submit(&rig, &ops[i]);
	}
	rig_drive(&rig);
	for (unsigned i = 0; i < COUNT; i++) {
		cr_assert_eq(ops[i].result, kinds[i % 3] == IOC_IO_SYNC ? 0 : BYTES);
		cr_assert_eq(ops[i].done_at, i, "io %u was done as number %u", i, ops[i].done_at);
	}
	rig_close(&rig);
	free(ops);
	free(buffer);
}

/* Armed streams must not use up the depth. */
ENGINE_TEST(armed_streams_leave_the_depth_to_the_device)
{
	enum { STREAMS = 80 }; /* more than the smallest submission queue of a ring */
	struct op streams[STREAMS] = { 0 }, op = { 0 };
	uint64_t counts[STREAMS];
	char byte = 'x';
	struct rig rig;
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	rig_open(&rig, name, 1, 0);
	for (unsigned i = 0; i < STREAMS; i++) {
		op_set(&streams[i], IOC_IO_READ_ONCE, fd, &counts[i], sizeof(counts[i]), 0);
		rig_submit(&rig, &streams[i]);
	}
	op_set(&op, IOC_IO_WRITE, rig.fd, &byte, 1, 0);
	rig_submit(&rig, &op);
	rig_drive_to(&rig, STREAMS);
	cr_assert_eq(op.result, 1);
	rig_close(&rig);
	close(fd);
}

ENGINE_TEST(done_may_submit_its_own_io_again)
{
	struct chain chains[8] = { 0 };
	struct rig rig;

	rig_open(&rig, name, 4, 0);
	for (unsigned i = 0; i < ARRAY_LEN(chains); i++) {
		chains[i] = (struct chain){ .left = 500, .op.rig = &rig, .op.then = chain_submit_next };
		chain_submit_next(&chains[i].op);
	}
	rig_drive(&rig);
	for (unsigned i = 0; i < ARRAY_LEN(chains); i++)
		cr_assert_eq(chains[i].op.done, 500);
	rig_close(&rig);
}
