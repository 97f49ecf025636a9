/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which engine one gets and why; what "null" does with data; and the rule by
 * which all of them carry an io on.
 */
#include "engine_rig.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "iocore/engine_internal.h"

/* ---- null's own ---- */

Test(ioc_engine_null, data_io_is_done_without_touching_the_file, .timeout = 60)
{
	unsigned char data[4096], back[4096];
	struct op ops[3] = { 0 }, other = { 0 };
	struct ioc_engine_args args = { .depth = 1 };
	int other_fd = rig_open_file(0);
	struct rig rig = { .owner = pthread_self(), .fd = rig_open_file(0) };

	args.data_fds = &rig.fd;
	args.data_fd_count = 1;
	rig.engine = rig_open_engine("null", &args);
	memset(data, 'd', sizeof(data));
	memset(back, 'b', sizeof(back));
	op_set(&ops[0], IOC_IO_WRITE, rig.fd, data, sizeof(data), 0);
	op_set(&ops[1], IOC_IO_SYNC, rig.fd, NULL, 0, 0);
	op_set(&ops[2], IOC_IO_READ, rig.fd, back, 1000, 0);
	ops[2].iov[1] = (struct iovec){ back + 1000, 96 };
	ops[2].io.iov_count = 2;
	for (unsigned i = 0; i < ARRAY_LEN(ops); i++)
		rig_submit(&rig, &ops[i]);
	/* -1: with something to report it must not sleep. */
	cr_assert_eq(rig_run(&rig, -1), 3);
	cr_assert_eq(ops[0].result, 4096);
	cr_assert_eq(ops[1].result, 0);
	cr_assert_eq(ops[2].result, 1096);
	for (unsigned i = 0; i < sizeof(back); i++)
		cr_assert_eq(back[i], 'b');
	cr_assert_eq(lseek(rig.fd, 0, SEEK_END), 0);

	op_set(&other, IOC_IO_WRITE, other_fd, data, sizeof(data), 0);
	rig_submit(&rig, &other);
	rig_drive(&rig);
	cr_assert_eq(lseek(other_fd, 0, SEEK_END), 4096, "what is no data has to reach its file");
	rig_close(&rig);
	close(other_fd);
}

Test(ioc_engine_null, data_io_submitted_by_done_never_keeps_run_from_returning, .timeout = 60)
{
	struct ioc_engine_args args = { .depth = 1 };
	struct rig rig = { .owner = pthread_self(), .fd = rig_open_file(0) };
	struct chain chain = { .left = 1000, .op.rig = &rig, .op.then = chain_submit_next };
	unsigned runs = 0;

	args.data_fds = &rig.fd;
	args.data_fd_count = 1;
	rig.engine = rig_open_engine("null", &args);
	chain_submit_next(&chain.op);
	while (rig.outstanding > 0) {
		cr_assert_gt(rig_run(&rig, -1), 0);
		runs++;
	}
	cr_assert_eq(chain.op.done, 1000);
	cr_assert_geq(runs, 500, "at most two passes a run");
	rig_close(&rig);
}

/* ---- choosing ---- */

static struct ioc_engine_args small_args(void)
{
	return (struct ioc_engine_args){ .depth = 4 };
}

Test(ioc_engine_open, refuses_an_unknown_name_and_lists_the_known)
{
	struct ioc_engine_args args = small_args();
	struct ioc_engine *engine = NULL;
	struct base_error err = { 0 };

	cr_assert_eq(ioc_engine_open("magic", &args, &engine, NULL, &err), -EINVAL);
	cr_assert_eq(err.code, -EINVAL);
	cr_assert_not_null(strstr(err.text, "magic"));
	cr_assert_not_null(strstr(err.text, ioc_engine_names()));
	cr_assert_null(engine);
}

Test(ioc_engine_open, refuses_a_depth_of_zero)
{
	struct ioc_engine_args args = { 0 };
	struct ioc_engine *engine = NULL;

	cr_assert_eq(ioc_engine_open("threads", &args, &engine, NULL, NULL), -EINVAL);
	cr_assert_null(engine);
}

static int refused_child(unsigned system_call, unsigned code, const char *in_why)
{
	struct ioc_engine_args args = small_args();
	struct base_error err = { 0 };
	struct ioc_engine *engine;
	const char *why = NULL;

	if (rig_filter_system_call(system_call, SECCOMP_RET_ERRNO | code) < 0)
		return 1;
	if (ioc_engine_open(NULL, &args, &engine, &why, &err) != 0)
		return 2;
	if (strcmp(engine->ops->name, "threads") != 0)
		return 3;
	if (!why || !strstr(why, in_why) || err.code != 0)
		return 4;
	engine->ops->close(engine);
	if (ioc_engine_open("uring", &args, &engine, NULL, &err) != -(int)code)
		return 5;
	if (err.code != -(int)code || !strstr(err.text, in_why))
		return 6;
	why = NULL;
	if (ioc_engine_open("null", &args, &engine, &why, &err) != 0 || !why)
		return 7;
	engine->ops->close(engine);
	return 0;
}

static void check_refused(unsigned system_call, unsigned code, const char *in_why)
{
	pid_t child = fork();

	cr_assert_geq(child, 0);
	if (child == 0)
		_exit(refused_child(system_call, code, in_why));
	rig_check_child(child);
}

Test(ioc_engine_open, takes_threads_and_says_why_where_io_uring_is_forbidden)
{
	check_refused(SYS_io_uring_setup, EPERM, "forbidden");
}

Test(ioc_engine_open, takes_threads_and_says_why_where_there_is_no_io_uring)
{
	check_refused(SYS_io_uring_setup, ENOSYS, "no io_uring");
}

Test(ioc_engine_open, takes_threads_where_a_ring_may_be_made_but_not_used)
{
	check_refused(SYS_io_uring_enter, EPERM, "forbidden");
}

Test(ioc_engine_open, takes_uring_without_a_why_where_it_works)
{
	struct ioc_engine_args args = small_args();
	const char *why = "not set";
	struct ioc_engine *engine = rig_open_engine("uring", &args);

	engine->ops->close(engine);
	cr_assert_eq(ioc_engine_open(NULL, &args, &engine, &why, NULL), 0);
	cr_assert_str_eq(engine->ops->name, "uring");
	cr_assert_null(why);
	engine->ops->close(engine);
}

/* ---- the rule by which an io is carried on ---- */

static struct ioc_io step_io(enum ioc_io_kind kind, struct iovec *iov, unsigned count)
{
	return (struct ioc_io){ .kind = kind, .iov = iov, .iov_count = count };
}

Test(ioc_io_step, short_result_leaves_the_rest)
{
	char data[100];
	struct iovec iov[] = { { data, 30 }, { data + 30, 0 }, { data + 30, 70 } };
	struct ioc_io io = step_io(IOC_IO_WRITE, iov, 3);

	cr_assert(!ioc_io_step(&io, 50));
	cr_assert_eq(io.iov_count, 1);
	cr_assert_eq(io.iov->iov_base, data + 50);
	cr_assert_eq(io.iov->iov_len, 50);
	cr_assert(!ioc_io_step(&io, -EINTR));
	cr_assert(!ioc_io_step(&io, -EAGAIN));
	cr_assert_eq(io.bytes_done, 50);
	cr_assert(ioc_io_step(&io, 50));
	cr_assert_eq(io.result, 100);
}

Test(ioc_io_step, write_of_nothing_is_an_error_unless_nothing_was_asked)
{
	char data[1];
	struct iovec iov = { data, 1 }, none = { data, 0 };
	struct ioc_io io = step_io(IOC_IO_WRITE, &iov, 1);

	cr_assert(ioc_io_step(&io, 0));
	cr_assert_eq(io.result, -EIO);
	io = step_io(IOC_IO_WRITE, &none, 1);
	cr_assert(ioc_io_step(&io, 0));
	cr_assert_eq(io.result, 0);
}

Test(ioc_io_step, refusal_behind_a_part_of_a_sector_is_end_of_file)
{
	char data[2048];
	struct iovec iov = { data, 2048 }, iov2 = { data, 2048 };
	struct ioc_io io = step_io(IOC_IO_READ, &iov, 1);

	cr_assert(!ioc_io_step(&io, 700));
	cr_assert(ioc_io_step(&io, -EINVAL));
	cr_assert_eq(io.result, 700);
	io = step_io(IOC_IO_READ, &iov2, 1);
	cr_assert(!ioc_io_step(&io, 1024));
	cr_assert(ioc_io_step(&io, -EINVAL));
	cr_assert_eq(io.result, -EINVAL);
}
