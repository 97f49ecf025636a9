/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a thread sleeps until another has something for it, and how threads are started.
 *
 * unpark() before park() is not lost: the next park() returns at once.
 * Context: one thread parks, any thread unparks.
 */
#ifndef BASE_PARK_H
#define BASE_PARK_H

#include <pthread.h>

#include "base/mailbox.h"
#include "base/types.h"

struct base_park {
	_Atomic uint32_t state;
};

void base_park_init(struct base_park *park);
void base_park_done(struct base_park *park);
/* Sleeps until unparked or, when deadline_ns is not 0, until that time of the monotonic clock. */
void base_park_wait(struct base_park *park, uint64_t deadline_ns);
void base_park_wake(struct base_park *park);
/* The shape of base_mailbox's wake function; ctx is a struct base_park. */
void base_park_wake_fn(void *ctx);

/* Nanoseconds of the monotonic clock. */
uint64_t base_clock_ns(void);
/* Sleeps; a signal may end it early. */
void base_sleep_ms(unsigned ms);
/* Seconds since the epoch. */
uint64_t base_clock_wall_s(void);

/* Starts a thread with all signals blocked (the main thread takes them) and a name of at most 15 bytes. Returns 0 or
 * negative errno. */
int base_thread_start(pthread_t *ret, const char *name, void *(*main)(void *), void *arg);

#endif
