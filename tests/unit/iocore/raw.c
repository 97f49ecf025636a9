/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw backing devices, on files: what is written is read, however it lies in memory; what can't be is refused; one
 * thing has one holder and one identity; after a failed flush nothing is written any more. Devices are tested by the
 * case vtd-raw, as they need root.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "iocore/pool.h"
#include "iocore/raw.h"
#include "tests/unit/meta/check_rig.h"

#define FILE_BYTES (4 * MIB)
#define BYTES 65536u

static struct meta_pool *meta;
static struct ioc_pool *pool;
static struct base_fault *fault;
static struct base_error err;
static char path[PATH_MAX], other[PATH_MAX];
static struct ioc_raw_look look;
static struct ioc_bd *bd;
static uint8_t *out, *in; /* page-aligned, twice as long as needed */

static void make_file(const char *name, off_t bytes)
{
	int fd = open(name, O_CREAT | O_EXCL | O_RDWR, 0600);

	cr_assert(fd >= 0 && ftruncate(fd, bytes) == 0);
	close(fd);
}

static void begin(const char *engine, const char *rules)
{
	struct ioc_pool_args args = { .engine = engine, .queues = 1 };

	base_log_set_level(BASE_LOG_ERROR);
	rig_make_dir(false);
	rig_make_pool(RIG_BYTES);
	meta = rig_open(true);
	if (rules)
		cr_assert_eq(base_fault_open(rules, &fault, &err), 0, "%s", err.text);
	args.fault = fault;
	cr_assert_eq(ioc_pool_open(meta, &args, &pool, &err), 0, "%s", err.text);
	snprintf(path, sizeof(path), "%s.raw", rig_dir);
	snprintf(other, sizeof(other), "%s.other", rig_dir);
	make_file(path, FILE_BYTES);
	cr_assert_eq(ioc_raw_look(path, NULL, &look, &err), 0, "%s", err.text);
	cr_assert_eq(ioc_raw_open(pool, path, look.identity, NULL, &bd, &err), 0, "%s", err.text);
	cr_assert(posix_memalign((void **)&out, 4096, 2 * BYTES) == 0);
	cr_assert(posix_memalign((void **)&in, 4096, 2 * BYTES) == 0);
	for (unsigned i = 0; i < 2 * BYTES; i++)
		out[i] = (uint8_t)(i * 7 + i / 251);
}

static void end(void)
{
	if (bd)
		ioc_raw_close(bd);
	ioc_pool_close(pool);
	rig_close(meta);
	base_fault_close(fault);
	unlink(path);
	unlink(other);
	rig_remove_dir();
	free(out);
	free(in);
}

static int call(enum ioc_op op, unsigned flags, uint64_t offset, uint64_t length, const struct iovec *segments,
		unsigned count)
{
	struct ioc_request req = { .op = op,
				   .flags = flags,
				   .bd = bd,
				   .offset = offset,
				   .length = length,
				   .segments = segments,
				   .segment_count = count };

	return ioc_bd_call(pool, &req);
}

static int call_data(enum ioc_op op, uint64_t offset, void *data, size_t bytes)
{
	struct iovec iov = { .iov_base = data, .iov_len = bytes };

	return call(op, 0, offset, bytes, &iov, 1);
}

/* Two pieces, neither address nor length of the first what direct I/O takes. */
static int call_ragged(enum ioc_op op, unsigned flags, uint64_t offset, uint8_t *data, size_t bytes)
{
	struct iovec iov[] = { { .iov_base = data + 1, .iov_len = 777 },
			       { .iov_base = data + 1 + 777, .iov_len = bytes - 777 } };

	return call(op, flags, offset, bytes, iov, 2);
}

static bool is_zero(const uint8_t *at, size_t bytes)
{
	return at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0;
}

static void check_data(const char *engine)
{
	begin(engine, NULL);
	cr_expect_eq(call_data(IOC_OP_WRITE, 512, out, BYTES), 0);
	cr_expect_eq(call_ragged(IOC_OP_READ, 0, 512, in, BYTES), 0);
	cr_expect_arr_eq(in + 1, out, BYTES);
	cr_expect_eq(call_ragged(IOC_OP_WRITE, IOC_FUA, MIB, out, BYTES), 0);
	cr_expect_eq(call_data(IOC_OP_READ, MIB, in, BYTES), 0);
	cr_expect_arr_eq(in, out + 1, BYTES);
	cr_expect_eq(call(IOC_OP_FLUSH, 0, 0, 0, NULL, 0), 0);
	end();
}

Test(ioc_raw, what_is_written_is_read_however_it_lies_in_memory_uring, .timeout = 60)
{
	check_data("uring");
}

Test(ioc_raw, what_is_written_is_read_however_it_lies_in_memory_threads, .timeout = 60)
{
	check_data("threads");
}

Test(ioc_raw, what_was_zeroed_or_discarded_reads_as_zero_and_its_neighbours_do_not, .timeout = 60)
{
	static const struct {
		enum ioc_op op;
		unsigned flags;
	} ways[] = { { IOC_OP_DISCARD, 0 }, { IOC_OP_WRITE_ZEROES, 0 }, { IOC_OP_WRITE_ZEROES, IOC_KEEP_SPACE } };

	begin(NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		cr_assert_eq(call_data(IOC_OP_WRITE, 0, out, BYTES), 0);
		cr_expect_eq(call(ways[i].op, ways[i].flags, 512, BYTES - 1024, NULL, 0), 0);
		cr_expect_eq(call_data(IOC_OP_READ, 0, in, BYTES), 0);
		cr_expect_arr_eq(in, out, 512);
		cr_expect(is_zero(in + 512, BYTES - 1024), "way %zu", i);
		cr_expect_arr_eq(in + BYTES - 512, out + BYTES - 512, 512);
	}
	end();
}

Test(ioc_raw, what_is_not_in_it_or_no_whole_block_is_refused, .timeout = 60)
{
	begin(NULL, NULL);
	cr_expect_eq(call_data(IOC_OP_WRITE, FILE_BYTES - 512, out, 1024), -EINVAL);
	cr_expect_eq(call_data(IOC_OP_READ, FILE_BYTES, in, 512), -EINVAL);
	cr_expect_eq(call_data(IOC_OP_READ, UINT64_MAX - 511, in, 512), -EINVAL);
	cr_expect_eq(call(IOC_OP_DISCARD, 0, UINT64_MAX - 511, UINT64_MAX - 511, NULL, 0), -EINVAL);
	cr_expect_eq(call_data(IOC_OP_WRITE, 1, out, 512), -EINVAL);
	cr_expect_eq(call_data(IOC_OP_WRITE, 0, out, 513), -EINVAL);
	cr_expect_eq(call(IOC_OP_RESIZE, 0, 2 * FILE_BYTES, 0, NULL, 0), -EOPNOTSUPP);
	cr_expect_eq(call(IOC_OP_ALLOCATE, 0, 0, 512, NULL, 0), -EOPNOTSUPP);
	cr_expect_eq(call_data(IOC_OP_READ, FILE_BYTES - 512, in, 512), 0);
	end();
}

Test(ioc_raw, a_file_cut_short_is_an_error_and_not_zeros, .timeout = 60)
{
	begin(NULL, NULL);
	cr_assert_eq(truncate(path, MIB), 0);
	cr_expect_eq(call_data(IOC_OP_READ, 2 * MIB, in, BYTES), -EIO);
	end();
}

Test(ioc_raw, after_a_failed_flush_it_is_read_and_not_written, .timeout = 60)
{
	begin(NULL, "error=EIO op=sync nth=1");
	cr_expect_eq(call_data(IOC_OP_WRITE, 0, out, BYTES), 0);
	cr_expect(!ioc_raw_has_failed(bd));
	cr_expect_eq(call(IOC_OP_FLUSH, 0, 0, 0, NULL, 0), -EIO);
	cr_expect(ioc_raw_has_failed(bd));
	cr_expect_eq(call(IOC_OP_FLUSH, 0, 0, 0, NULL, 0), -EIO); /* the device would say that all is well */
	cr_expect_eq(call_data(IOC_OP_WRITE, 0, out, BYTES), -EIO);
	cr_expect_eq(call(IOC_OP_DISCARD, 0, 0, BYTES, NULL, 0), -EIO);
	cr_expect_eq(call_data(IOC_OP_READ, 0, in, BYTES), 0);
	end();
}

Test(ioc_raw, fua_is_durable_or_fails, .timeout = 60)
{
	begin(NULL, "error=EIO op=sync nth=1");
	cr_expect_eq(call_ragged(IOC_OP_WRITE, IOC_FUA, 0, out, BYTES), -EIO);
	end();
}

Test(ioc_raw, one_thing_is_opened_once_by_whatever_name, .timeout = 60)
{
	struct ioc_bd *again;

	begin(NULL, NULL);
	cr_assert_eq(link(path, other), 0);
	cr_assert_eq(ioc_raw_open(pool, other, look.identity, NULL, &again, &err), 0, "%s", err.text);
	cr_expect_eq(again, bd);
	ioc_raw_close(again);
	cr_expect_eq(call_data(IOC_OP_WRITE, 0, out, 512), 0);
	end();
}

Test(ioc_raw, who_looks_at_locks_sees_that_it_is_held_and_that_it_is_free_again, .timeout = 60)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };

	begin(NULL, NULL);
	int fd = open(path, O_RDWR);
	cr_expect(flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
	cr_expect(fcntl(fd, F_OFD_SETLK, &lock) < 0 && errno == EAGAIN);
	ioc_raw_close(bd);
	bd = NULL;
	cr_expect_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	cr_expect_eq(flock(fd, LOCK_UN), 0);
	cr_expect_eq(fcntl(fd, F_OFD_SETLK, &lock), 0);
	cr_expect_eq(ioc_raw_open(pool, path, look.identity, NULL, &bd, &err), -EBUSY);
	cr_expect(strstr(err.text, path) && strstr(err.text, "locked"), "%s", err.text);
	bd = NULL;
	close(fd);
	end();
}

Test(ioc_raw, another_file_under_the_name_is_not_opened, .timeout = 60)
{
	begin(NULL, NULL);
	ioc_raw_close(bd);
	bd = NULL;
	make_file(other, FILE_BYTES);
	cr_assert_eq(rename(other, path), 0);
	cr_expect_eq(ioc_raw_open(pool, path, look.identity, NULL, &bd, &err), -ENODEV);
	cr_expect(strstr(err.text, look.identity), "%s", err.text);
	cr_assert_eq(unlink(path), 0);
	cr_expect_eq(ioc_raw_open(pool, path, look.identity, NULL, &bd, &err), -ENOENT);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_expect_eq(ioc_raw_open(pool, path, look.identity, NULL, &bd, &err), -EINVAL);
	bd = NULL;
	end();
}

Test(ioc_raw, a_pv_of_a_pool_is_not_free_and_an_image_is_told, .timeout = 60)
{
	const char *format = NULL;
	struct ioc_raw_look pv;
	char name[PATH_MAX];

	begin(NULL, NULL);
	cr_expect_eq(ioc_raw_check_free(path, &look, &format, &err), 0, "%s", err.text);
	cr_expect_null(format);
	memcpy(out, "QFI\xfb", 4);
	cr_assert_eq(call_data(IOC_OP_WRITE, 0, out, 512), 0);
	cr_expect_eq(ioc_raw_check_free(path, &look, &format, &err), 0);
	cr_expect_str_eq(format, "qcow2");
	snprintf(name, sizeof(name), "%s/pv0", rig_dir);
	cr_assert_eq(ioc_raw_look(name, NULL, &pv, &err), 0, "%s", err.text);
	cr_expect_eq(ioc_raw_check_free(name, &pv, &format, &err), -EBUSY);
	cr_expect(strstr(err.text, "physical volume"), "%s", err.text);
	end();
}
