/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a ring looks again or sleeps, when there is nothing to do just now.
 *
 * To be woken costs more than most think: on a virtual machine some tens of
 * microseconds, for whoever wakes as well. So it pays to look for a while, if
 * what is waited for comes within that while; and it harms where the guest needs
 * the very processor that looks, or the device is slow. Neither can be known, so
 * it is tried:
 *
 *	sleeps   a wait that took less than the window, woken though it had to be,
 *	         would have been found by looking: from the next wait on, look
 *	looks    found within the window: go on so. Not found: sleep, and try again
 *	         only after some more such waits; twice as many after each failure,
 *	         half as many after each success
 *
 * Apart for a ring with requests in flight, which waits for the device too, and
 * for one without, which waits for the guest. Only waits count: what was there
 * already when the ring came to look says nothing. An idle ring looks for one
 * window and then sleeps until it is kicked.
 *
 * Pure: the clock is an argument. Context: the ring's Q.
 */
#ifndef VTD_LINGER_H
#define VTD_LINGER_H

#include "base/types.h"

/* Longer than a processor takes to wake up, and short beside what a core is worth. */
#define VTD_LINGER_NS 50000
/* So many short waits at most are slept through before looking is tried again. */
#define VTD_LINGER_PENALTY_MAX 256

struct vtd_linger {
	bool is_waiting;
	uint64_t since_ns; /* of the wait */
	struct vtd_linger_state {
		bool looks;
		unsigned penalty, skip;
	} states[2]; /* [1]: with requests in flight */
};

/* There is nothing to do. Return: look again; else sleep. now_ns: any clock that goes on while the ring sleeps. */
bool vtd_linger_wait(struct vtd_linger *linger, bool in_flight, uint64_t now_ns);
/* There is something, for which the ring has waited since vtd_linger_wait(); in_flight: as it was then. */
void vtd_linger_found(struct vtd_linger *linger, bool in_flight, uint64_t now_ns);

#endif
