/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting by every engine: streams that have nothing yet, timeouts, wakes from
 * threads and signal handlers, and what close() does to those who still wait.
 */
#include "engine_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- streams ---- */

static void eventfd_add(int fd, uint64_t count)
{
	cr_assert_eq(write(fd, &count, sizeof(count)), (ssize_t)sizeof(count));
}

ENGINE_TEST(read_once_waits_until_there_is_something)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct op op = { 0 };
	uint64_t count = 0;
	struct rig rig;

	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	op_set(&op, IOC_IO_READ_ONCE, fd, &count, sizeof(count), 0);
	for (uint64_t round = 1; round <= 100; round++) {
		rig_submit(&rig, &op);
		rig_run(&rig, round == 1 ? 20 * NS_PER_MS : 0);
		cr_assert_eq(rig.outstanding, 1, "read of an empty eventfd was done with %lld", (long long)op.result);
		eventfd_add(fd, round);
		rig_drive(&rig);
		cr_assert_eq(op.result, (int64_t)sizeof(count));
		cr_assert_eq(count, round);
	}
	rig_close(&rig);
	close(fd);
}

/* More rounds than a kernel retries by itself (128), so that the engine's own way to wait has its turn. */
ENGINE_TEST(reader_that_comes_too_late_waits_on)
{
	enum { ROUNDS_LATE = 400, READERS = 3 };
	struct iovec halves[READERS][2];
	struct op ops[READERS] = { 0 };
	char text[READERS][8];
	struct rig rig;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	for (unsigned i = 0; i < READERS; i++) {
		op_set(&ops[i], IOC_IO_READ_ONCE, fds[0], text[i], sizeof(text[i]), 0);
		if (i == READERS - 1) {
			halves[i][0] = (struct iovec){ text[i], 3 };
			halves[i][1] = (struct iovec){ text[i] + 3, 5 };
			ops[i].io.iov = halves[i];
			ops[i].io.iov_count = 2;
		}
		rig_submit(&rig, &ops[i]);
	}
	for (unsigned round = 0; round < ROUNDS_LATE; round++) {
		cr_assert_eq(write(fds[1], "message", 8), 8);
		rig_drive_to(&rig, READERS - 1);
		for (unsigned i = 0; i < READERS; i++) {
			if (ops[i].done < ops[i].submitted)
				continue;
			cr_assert_eq(ops[i].result, 8);
			cr_assert_str_eq(text[i], "message");
			rig_submit(&rig, &ops[i]);
		}
	}
	rig_close(&rig);
	close(fds[0]);
	close(fds[1]);
}

/* Many at once: more than the engine has entries for at a time, so some are handed over before the run(). */
ENGINE_TEST(late_replies_are_done_with_what_ends_the_wait)
{
	enum { REPLIES = 300, ROUNDS_LATE = 20 };
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	static struct op replies[REPLIES];
	struct op op = { 0 };
	uint64_t count = 0;
	char text[REPLIES];
	struct rig rig;
	int fds[2];

	memset(replies, 0, sizeof(replies));
	cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	op_set(&op, IOC_IO_READ_ONCE, event, &count, sizeof(count), 0);
	for (unsigned round = 1; round <= ROUNDS_LATE; round++) {
		unsigned replied = round == ROUNDS_LATE ? REPLIES : round;

		rig_submit(&rig, &op);
		for (unsigned i = 0; i < replied; i++) {
			op_set(&replies[i], IOC_IO_REPLY, fds[1], "r", 1, 0);
			replies[i].io.may_be_late = true;
			rig_submit(&rig, &replies[i]);
		}
		/* At the end of the wait at the latest, also if nothing else ended. */
		rig_run(&rig, 20 * NS_PER_MS);
		rig_drive_to(&rig, 1);
		cr_assert_eq(read(fds[0], text, sizeof(text)), (ssize_t)replied);
		eventfd_add(event, round);
		rig_drive(&rig);
		cr_assert_eq(count, round);
	}
	rig_close(&rig);
	close(fds[0]);
	close(fds[1]);
	close(event);
}

/* A reply that nobody has to hear of doesn't keep a run() from sleeping on, and a completion does end it. */
ENGINE_TEST(late_reply_does_not_hide_a_completion)
{
	int event = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
	struct op reply = { 0 }, op = { 0 };
	uint64_t count = 0;
	struct rig rig;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	for (unsigned round = 0; round < 100; round++) {
		char byte;

		op_set(&reply, IOC_IO_REPLY, fds[1], "r", 1, 0);
		reply.io.may_be_late = true;
		rig_submit(&rig, &reply);
		op_set(&op, IOC_IO_READ_ONCE, event, &count, sizeof(count), 0);
		rig_submit(&rig, &op);
		/* For ever, so a run() that waits for too much never returns. */
		while (rig.outstanding > 0)
			rig_run(&rig, -1);
		cr_assert_eq(read(fds[0], &byte, 1), 1);
		eventfd_add(event, 1);
	}
	rig_close(&rig);
	close(fds[0]);
	close(fds[1]);
	close(event);
}

ENGINE_TEST(read_once_of_a_closed_pipe_is_end_of_file)
{
	struct op op = { 0 };
	char text[8];
	struct rig rig;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	op_set(&op, IOC_IO_READ_ONCE, fds[0], text, sizeof(text), 0);
	rig_submit(&rig, &op);
	rig_run(&rig, 0);
	close(fds[1]);
	rig_drive(&rig);
	cr_assert_eq(op.result, 0);
	rig_close(&rig);
	close(fds[0]);
}

/* A reader that waits in the kernel, one that is not there yet, one that has its data already; others read on. */
ENGINE_TEST(cancelled_read_once_ends_and_others_go_on)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), other_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct op op = { 0 }, other = { 0 };
	uint64_t count = 0, other_count = 0;
	struct rig rig;

	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	op_set(&other, IOC_IO_READ_ONCE, other_fd, &other_count, sizeof(other_count), 0);
	rig_submit(&rig, &other);
	for (unsigned round = 0; round < 50; round++) {
		op_set(&op, IOC_IO_READ_ONCE, fd, &count, sizeof(count), 0);
		rig_submit(&rig, &op);
		if (round % 3 != 0)
			rig_run(&rig, round % 3 * NS_PER_MS);
		rig.engine->ops->cancel(rig.engine, &op.io);
		rig_drive_to(&rig, 1);
		cr_assert_eq(op.done, op.submitted);
		cr_assert_eq(op.result, -ECANCELED);
	}
	op_set(&op, IOC_IO_READ_ONCE, fd, &count, sizeof(count), 0);
	rig_submit(&rig, &op);
	eventfd_add(fd, 7);
	rig.engine->ops->cancel(rig.engine, &op.io);
	rig_drive_to(&rig, 1);
	cr_assert(op.result == -ECANCELED || op.result == (int64_t)sizeof(count));
	eventfd_add(other_fd, 3);
	rig_drive(&rig);
	cr_assert_eq(other_count, 3);
	rig_close(&rig);
	close(fd);
	close(other_fd);
}

ENGINE_TEST(reply_writes_all_pieces_and_reports)
{
	struct op op = { 0 };
	char text[32] = "";
	struct rig rig;
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	op_set(&op, IOC_IO_REPLY, fds[1], "head ", 5, 0);
	op.iov[1] = (struct iovec){ "body ", 5 };
	op.iov[2] = (struct iovec){ "tail", 4 };
	op.io.iov_count = 3;
	rig_submit(&rig, &op);
	rig_drive(&rig);
	cr_assert_eq(op.result, 14);
	cr_assert_eq(read(fds[0], text, sizeof(text) - 1), 14);
	cr_assert_str_eq(text, "head body tail");

	close(fds[0]);
	op_set(&op, IOC_IO_REPLY, fds[1], "late", 4, 0);
	rig_submit(&rig, &op);
	rig_drive(&rig);
	cr_assert_eq(op.result, -EPIPE);
	rig_close(&rig);
	close(fds[1]);
}

/* ---- time and waking ---- */

ENGINE_TEST(run_with_nothing_to_do_lasts_its_timeout)
{
	int64_t start_ns;
	struct rig rig;

	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	for (unsigned i = 0; i < 3; i++) {
		start_ns = rig_now_ns();
		cr_assert_eq(rig_run(&rig, 50 * NS_PER_MS), 0);
		cr_assert_geq(rig_now_ns() - start_ns, 50 * NS_PER_MS);
		cr_assert_lt(rig_now_ns() - start_ns, DEADLINE_NS);
	}
	start_ns = rig_now_ns();
	for (unsigned i = 0; i < 100; i++)
		cr_assert_eq(rig_run(&rig, 0), 0);
	cr_assert_lt(rig_now_ns() - start_ns, 2000 * NS_PER_MS, "run(0) waits");
	rig_close(&rig);
}

ENGINE_TEST(wakes_before_run_end_one_run)
{
	int64_t start_ns;
	struct rig rig;

	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	for (unsigned i = 0; i < 10000; i++)
		rig.engine->ops->wake(rig.engine);
	cr_assert_eq(rig_run(&rig, -1), 0);
	start_ns = rig_now_ns();
	cr_assert_eq(rig_run(&rig, 50 * NS_PER_MS), 0);
	cr_assert_geq(rig_now_ns() - start_ns, 50 * NS_PER_MS, "10,000 wakes did not count as one");
	rig_close(&rig);
}

struct waker {
	struct ioc_engine *engine;
	atomic_uint posted;
	atomic_uint seen;
	unsigned rounds;
	bool is_lockstep; /* wait until each is seen, so that the owner is asleep again for the next */
};

static void *waker_main(void *arg)
{
	struct waker *waker = arg;

	for (unsigned i = 1; i <= waker->rounds; i++) {
		atomic_store_explicit(&waker->posted, i, memory_order_relaxed);
		waker->engine->ops->wake(waker->engine);
		while (waker->is_lockstep && atomic_load_explicit(&waker->seen, memory_order_relaxed) < i)
			sched_yield();
	}
	return NULL;
}

/* The counter is relaxed: if what wake() and run() promise about order does not hold, the last one is missed. */
static void wake_by_thread(const char *name, bool is_lockstep, unsigned rounds)
{
	struct waker waker = { .rounds = rounds, .is_lockstep = is_lockstep };
	int64_t deadline_ns = rig_now_ns() + DEADLINE_NS;
	unsigned posted = 0;
	pthread_t thread;
	struct rig rig;

	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	waker.engine = rig.engine;
	cr_assert_eq(pthread_create(&thread, NULL, waker_main, &waker), 0);
	while (posted < rounds) {
		cr_assert_lt(rig_now_ns(), deadline_ns, "a wake was lost at %u of %u", posted, rounds);
		rig_run(&rig, DEADLINE_NS);
		posted = atomic_load_explicit(&waker.posted, memory_order_relaxed);
		atomic_store_explicit(&waker.seen, posted, memory_order_relaxed);
	}
	pthread_join(thread, NULL);
	rig_close(&rig);
}

ENGINE_TEST(every_wake_of_a_sleeping_owner_ends_its_run)
{
	wake_by_thread(name, true, 3000);
}

ENGINE_TEST(the_last_of_many_wakes_is_not_lost)
{
	wake_by_thread(name, false, 10000);
}

static int wake_without_write(const char *name)
{
	struct ioc_engine_args args = { .depth = 1 };
	struct ioc_engine *engine;

	if (ioc_engine_open(name, &args, &engine, NULL, NULL) < 0)
		return 1;
	if (engine->ops->run(engine, 0) != 0)
		return 2;
	if (rig_filter_system_call(SYS_write, SECCOMP_RET_KILL_PROCESS) < 0)
		return 3;
	for (unsigned i = 0; i < 10000; i++)
		engine->ops->wake(engine);
	if (engine->ops->run(engine, -1) != 0)
		return 4;
	return 0;
}

ENGINE_TEST_WITHOUT_FAULTS(wake_of_an_owner_that_does_not_sleep_is_no_system_call)
{
	struct ioc_engine_args args = { .depth = 1 };
	struct ioc_engine *engine = rig_open_engine(name, &args); /* skips where there is none */
	pid_t child;

	engine->ops->close(engine);
	child = fork();
	cr_assert_geq(child, 0);
	if (child == 0)
		_exit(wake_without_write(name));
	rig_check_child(child);
}

static struct ioc_engine *signal_engine;

static void wake_from_handler(int signal_number)
{
	signal_engine->ops->wake(signal_engine);
}

ENGINE_TEST(signal_handler_may_wake)
{
	struct itimerval timer = { .it_value.tv_usec = 30000 };
	struct sigaction action = { .sa_handler = wake_from_handler, .sa_flags = SA_RESTART };
	int64_t start_ns = rig_now_ns();
	struct rig rig;

	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	signal_engine = rig.engine;
	cr_assert_eq(sigaction(SIGALRM, &action, NULL), 0);
	cr_assert_eq(setitimer(ITIMER_REAL, &timer, NULL), 0);
	rig_run(&rig, DEADLINE_NS);
	cr_assert_lt(rig_now_ns() - start_ns, DEADLINE_NS, "the wake did not end the run");
	rig_close(&rig);
}

/* ---- close ---- */

static unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	cr_assert_not_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

ENGINE_TEST(close_cancels_armed_reads_and_leaks_no_descriptor)
{
	int event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), fds[2];
	unsigned before, outstanding;
	struct op ops[3] = { 0 };
	uint64_t count = 0;
	char text[8];
	struct rig rig;

	cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	before = open_descriptors();
	rig_open(&rig, name, DEPTH_DEFAULT, 0);
	op_set(&ops[0], IOC_IO_READ_ONCE, event_fd, &count, sizeof(count), 0);
	op_set(&ops[1], IOC_IO_READ_ONCE, fds[0], text, sizeof(text), 0);
	op_set(&ops[2], IOC_IO_READ_ONCE, event_fd, &count, sizeof(count), 0);
	rig_submit(&rig, &ops[0]);
	rig_submit(&rig, &ops[1]);
	rig_run(&rig, 0);
	rig_submit(&rig, &ops[2]); /* and one that was never handed over */
	outstanding = rig.outstanding;
	rig_close(&rig);
	cr_assert_eq(outstanding, 3);
	cr_assert_eq(rig.done_total, 0);
	cr_assert_eq(open_descriptors(), before);

	/* Nobody is left who would take what comes now. */
	eventfd_add(event_fd, 7);
	cr_assert_eq(read(event_fd, &count, sizeof(count)), (ssize_t)sizeof(count));
	cr_assert_eq(count, 7);
	close(event_fd);
	close(fds[0]);
	close(fds[1]);
}

/* A pipe whose read end somebody still holds takes data; without a reader it refuses. */
ENGINE_TEST(close_lets_go_of_streams_at_once)
{
	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 0; i < 50; i++) {
		struct op op = { 0 };
		char text[8];
		struct rig rig;
		int fds[2];

		cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
		rig_open(&rig, name, DEPTH_DEFAULT, 0);
		op_set(&op, IOC_IO_READ_ONCE, fds[0], text, sizeof(text), 0);
		rig_submit(&rig, &op);
		rig_run(&rig, 0);
		rig_close(&rig);
		close(fds[0]);
		cr_assert_eq(write(fds[1], "late", 4), -1, "round %u: the stream still has a reader", i);
		cr_assert_eq(errno, EPIPE);
		close(fds[1]);
	}
}

/* A lock on the descriptor of a pv shows whether anybody still holds it. No I/O here: see close in engine.h. */
ENGINE_TEST(close_lets_go_of_registered_descriptors_at_once)
{
	char path[] = "engine-lock-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	cr_assert_geq(fd, 0);
	for (unsigned i = 0; i < 20; i++) {
		int data_fd = open(path, O_RDWR | O_CLOEXEC);
		struct ioc_engine_args args = { .depth = 1, .data_fds = &data_fd, .data_fd_count = 1 };
		struct ioc_engine *engine;

		cr_assert_eq(flock(data_fd, LOCK_EX | LOCK_NB), 0, "round %u: still locked", i);
		engine = rig_open_engine(name, &args);
		engine->ops->close(engine);
		close(data_fd);
	}
	unlink(path);
	close(fd);
}
