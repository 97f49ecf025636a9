/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parking: a mutex, a condition and one token. The token is what makes an
 * unpark that comes before the park count, so that the usual shape "look at the
 * mailbox, find it empty, park" loses nothing: the poster's wake either finds
 * us asleep or leaves the token behind.
 *
 * Failure modes: initialising a mutex or condition with default attributes does
 * not fail on Linux; a failure would be our own bug and is asserted.
 */
#include "base/park.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <time.h>

void base_park_init(struct base_park *park)
{
	pthread_condattr_t attr;

	int rc = pthread_condattr_init(&attr);
	rc |= pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	rc |= pthread_cond_init(&park->cond, &attr);
	rc |= pthread_mutex_init(&park->lock, NULL);
	assert(rc == 0);
	pthread_condattr_destroy(&attr);
	park->token = false;
}

void base_park_done(struct base_park *park)
{
	pthread_cond_destroy(&park->cond);
	pthread_mutex_destroy(&park->lock);
}

void base_park_wait(struct base_park *park, uint64_t deadline_ns)
{
	struct timespec until = { .tv_sec = (time_t)(deadline_ns / 1000000000),
				  .tv_nsec = (long)(deadline_ns % 1000000000) };
	int rc = 0;

	pthread_mutex_lock(&park->lock);
	while (!park->token && rc != ETIMEDOUT)
		rc = deadline_ns ? pthread_cond_timedwait(&park->cond, &park->lock, &until)
				 : pthread_cond_wait(&park->cond, &park->lock);
	park->token = false;
	pthread_mutex_unlock(&park->lock);
}

void base_park_wake(struct base_park *park)
{
	pthread_mutex_lock(&park->lock);
	park->token = true;
	/* Under the lock: the parked thread may free the park as soon as it has seen the token. */
	pthread_cond_signal(&park->cond);
	pthread_mutex_unlock(&park->lock);
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
