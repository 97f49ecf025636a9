/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parking: one word, which is a futex. It holds nothing, a token, or the mark of
 * a thread that sleeps. The token is what makes an unpark that comes before the
 * park count, so that the usual shape "look at the mailbox, find it empty,
 * park" loses nothing: the poster's wake either finds us asleep or leaves the
 * token behind.
 *
 * A wake is one exchange, and a system call only if somebody sleeps. (A mutex and
 * a condition took three of them, and one more switch: the woken thread met the
 * mutex that its waker still held.)
 *
 * The parked thread may free the park as soon as it has the token, before its
 * waker has come to the futex call. That call never looks at the memory; at worst
 * it wakes somebody who sleeps at the same address by now, and who looks again,
 * as every sleeper on a futex has to.
 *
 * Failure modes: none. What the kernel may answer besides (EINTR, EAGAIN) means
 * to look again.
 */
#include "base/park.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { EMPTY, TOKEN, ASLEEP };

void base_park_init(struct base_park *park)
{
	atomic_init(&park->state, EMPTY);
}

void base_park_done(struct base_park *park)
{
	(void)park;
}

/* Return: whether the deadline has passed. */
static bool sleep_on(struct base_park *park, uint64_t deadline_ns)
{
	const struct timespec until = { .tv_sec = (time_t)(deadline_ns / 1000000000),
					.tv_nsec = (long)(deadline_ns % 1000000000) };

	/* With the bitset the time is a point of the monotonic clock. */
	return syscall(SYS_futex, &park->state, FUTEX_WAIT_BITSET_PRIVATE, ASLEEP, deadline_ns ? &until : NULL, NULL,
		       FUTEX_BITSET_MATCH_ANY) < 0 &&
	       errno == ETIMEDOUT;
}

void base_park_wait(struct base_park *park, uint64_t deadline_ns)
{
	uint32_t empty = EMPTY;
	bool is_late = false;

	(void)atomic_compare_exchange_strong(&park->state, &empty, ASLEEP);
	while (atomic_load(&park->state) != TOKEN && !is_late)
		is_late = sleep_on(park, deadline_ns);
	/* With the token, also one that came just too late: it has been waited for. An exchange, so that what its waker
	 * wrote before is seen. */
	(void)atomic_exchange(&park->state, EMPTY);
}

void base_park_wake(struct base_park *park)
{
	if (atomic_exchange(&park->state, TOKEN) == ASLEEP)
		syscall(SYS_futex, &park->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void base_park_wake_fn(void *ctx)
{
	base_park_wake(ctx);
}

uint64_t base_clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void base_sleep_ms(unsigned ms)
{
	struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&left, NULL);
}

uint64_t base_clock_wall_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec;
}

int base_thread_start(pthread_t *ret, const char *name, void *(*main)(void *), void *arg)
{
	sigset_t all, old;

	/* SIGBUS and SIGSEGV stay open: LMDB's guard must be able to take them. */
	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	int rc = pthread_create(ret, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		pthread_setname_np(*ret, name);
	return -rc;
}
