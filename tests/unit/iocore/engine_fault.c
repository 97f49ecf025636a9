/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine that injects faults does to an io and to the file below it. That it is an engine like the others,
 * with rules that nobody may notice, is tested with them.
 */
#include "engine_rig.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define BYTES 16384u

struct faulty {
	struct rig rig;
	struct base_fault *fault;
	unsigned char *data, *back;
};

static void begin(struct faulty *f, const char *below, const char *rules)
{
	struct ioc_engine_args args = { .depth = 8 };
	struct base_error err = { 0 };

	base_log_set_level(BASE_LOG_ERROR);
	f->rig = (struct rig){ .owner = pthread_self(), .fd = rig_open_file(0) };
	cr_assert_eq(base_fault_open(rules, &f->fault, &err), 0, "%s", err.text);
	args.fault = f->fault;
	args.data_fds = &f->rig.fd;
	args.data_fd_count = 1;
	f->rig.engine = rig_open_engine(below, &args);
	f->data = rig_buffer(BYTES);
	f->back = rig_buffer(BYTES);
	memset(f->data, 'd', BYTES);
}

static void end(struct faulty *f)
{
	rig_close(&f->rig);
	base_fault_close(f->fault);
	free(f->data);
	free(f->back);
}

static int64_t do_one(struct faulty *f, enum ioc_io_kind kind, void *data, size_t bytes, uint64_t offset)
{
	struct op op = { 0 };

	op_set(&op, kind, f->rig.fd, data, bytes, offset);
	rig_submit(&f->rig, &op);
	rig_drive(&f->rig);
	return op.result;
}

/* How many bytes of the file are what was written. */
static size_t written(struct faulty *f)
{
	char byte;
	size_t n = 0;

	while (pread(f->rig.fd, &byte, 1, (off_t)n) == 1 && byte == 'd')
		n++;
	return n;
}

#define FAULT_TEST(property)                                                                                         \
	static void check_##property(const char *below);                                                             \
	Test(ioc_engine_fault_uring, property, .timeout = 60)                                                        \
	{                                                                                                            \
		check_##property("uring");                                                                           \
	}                                                                                                            \
	Test(ioc_engine_fault_threads, property, .timeout = 60)                                                      \
	{                                                                                                            \
		check_##property("threads");                                                                         \
	}                                                                                                            \
	static void check_##property(const char *below)

FAULT_TEST(an_error_leaves_the_device_alone)
{
	struct faulty f;

	begin(&f, below, "error=ENOSPC op=write nth=1");
	cr_expect_eq(do_one(&f, IOC_IO_WRITE, f.data, BYTES, 0), -ENOSPC);
	cr_expect_eq(written(&f), 0);
	cr_expect_eq(do_one(&f, IOC_IO_WRITE, f.data, BYTES, 0), (int64_t)BYTES);
	cr_expect_eq(written(&f), BYTES);
	end(&f);
}

FAULT_TEST(a_torn_write_is_there_by_half)
{
	struct faulty f;

	begin(&f, below, "torn");
	cr_expect_eq(do_one(&f, IOC_IO_WRITE, f.data, BYTES, 0), -EIO);
	cr_expect_eq(written(&f), BYTES / 2);
	end(&f);
}

FAULT_TEST(a_torn_write_of_one_sector_is_not_there)
{
	struct faulty f;

	begin(&f, below, "torn error=EREMOTEIO");
	cr_expect_eq(do_one(&f, IOC_IO_WRITE, f.data, 512, 0), -EREMOTEIO);
	cr_expect_eq(written(&f), 0);
	end(&f);
}

FAULT_TEST(a_dropped_write_says_that_it_is_whole)
{
	struct faulty f;

	begin(&f, below, "drop");
	cr_expect_eq(do_one(&f, IOC_IO_WRITE, f.data, BYTES, 0), (int64_t)BYTES);
	cr_expect_eq(do_one(&f, IOC_IO_SYNC, NULL, 0, 0), 0);
	cr_expect_eq(written(&f), 0);
	cr_expect_eq(base_fault_count(f.fault), 2);
	end(&f);
}

FAULT_TEST(a_short_read_ends_as_at_the_end_of_a_file)
{
	struct faulty f;

	begin(&f, below, "short op=read");
	cr_expect_eq(do_one(&f, IOC_IO_WRITE, f.data, BYTES, 0), (int64_t)BYTES);
	cr_expect_eq(do_one(&f, IOC_IO_READ, f.back, BYTES, 0), (int64_t)BYTES / 2);
	cr_expect_eq(memcmp(f.back, f.data, BYTES / 2), 0);
	cr_expect_eq(f.back[BYTES / 2], 0xee, "nothing is read behind it");
	end(&f);
}

FAULT_TEST(a_short_write_of_many_pieces_is_whole)
{
	struct op op = { 0 };
	struct faulty f;

	begin(&f, below, "short op=write");
	op_set(&op, IOC_IO_WRITE, f.rig.fd, f.data, 1000, 0);
	op.iov[1] = (struct iovec){ f.data + 1000, 9000 };
	op.iov[2] = (struct iovec){ f.data + 10000, BYTES - 10000 };
	op.io.iov_count = 3;
	rig_submit(&f.rig, &op);
	rig_drive(&f.rig);
	cr_expect_eq(op.result, (int64_t)BYTES);
	cr_expect_eq(written(&f), BYTES);
	end(&f);
}

FAULT_TEST(a_delay_is_waited_for_and_holds_up_nobody_else)
{
	struct op slow = { 0 }, quick = { 0 };
	struct faulty f;

	begin(&f, below, "delay=200ms op=write");
	int64_t began_ns = rig_now_ns();
	op_set(&slow, IOC_IO_WRITE, f.rig.fd, f.data, BYTES, 0);
	op_set(&quick, IOC_IO_READ, f.rig.fd, f.back, BYTES, 0);
	rig_submit(&f.rig, &slow);
	rig_submit(&f.rig, &quick);
	while (!slow.done)
		rig_run(&f.rig, -1); /* it sleeps no longer than to the delay's end */
	cr_expect(rig_now_ns() - began_ns >= 200 * NS_PER_MS);
	cr_expect_lt(quick.done_at, slow.done_at);
	cr_expect_eq(slow.result, (int64_t)BYTES);
	end(&f);
}
