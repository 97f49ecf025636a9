/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a ring looks again or sleeps: on a clock of our own, against guests that answer in different ways.
 */
#include <criterion/criterion.h>

#include "vtd/linger.h"

#define SLEPT_NS 1000000

/* A guest that comes back after looked_ns if the ring looked all the time, and after slept_ns if it has slept. */
struct guest {
	uint64_t looked_ns, slept_ns;
};

static uint64_t now_ns = 1000;

/* One wait. Return: whether it was ended by looking. */
static bool wait_once(struct vtd_linger *linger, bool in_flight, const struct guest *guest, uint64_t *looked_for_ns)
{
	uint64_t began_ns = now_ns;

	while (vtd_linger_wait(linger, in_flight, now_ns)) {
		if (now_ns - began_ns >= guest->looked_ns) {
			*looked_for_ns += now_ns - began_ns;
			vtd_linger_found(linger, in_flight, now_ns);
			return true;
		}
		now_ns += 500;
	}
	*looked_for_ns += now_ns - began_ns;
	now_ns = MAX(now_ns, began_ns + guest->slept_ns);
	vtd_linger_found(linger, in_flight, now_ns);
	return false;
}

/* Return: how many of `waits` were ended by looking. */
static unsigned waits(struct vtd_linger *linger, bool in_flight, unsigned count, const struct guest *guest,
		      uint64_t *looked_for_ns)
{
	unsigned found = 0;

	for (unsigned i = 0; i < count; i++)
		found += wait_once(linger, in_flight, guest, looked_for_ns);
	return found;
}

Test(vtd_linger, a_guest_that_is_quick_is_looked_for)
{
	const struct guest quick = { .looked_ns = 8000, .slept_ns = 40000 };
	struct vtd_linger linger = { 0 };
	uint64_t looked_ns = 0;

	cr_expect_geq(waits(&linger, false, 100, &quick, &looked_ns), 98);
}

Test(vtd_linger, a_slow_device_is_slept_for)
{
	const struct guest slow = { .looked_ns = 80000, .slept_ns = 100000 };
	struct vtd_linger linger = { 0 };
	uint64_t looked_ns = 0;

	cr_expect_eq(waits(&linger, true, 1000, &slow, &looked_ns), 0);
	cr_expect_eq(looked_ns, 0);
}

/* It shares the processor with the ring: while that looks it can't go on. */
Test(vtd_linger, where_looking_keeps_the_guest_from_its_processor_it_is_given_up)
{
	const struct guest neighbour = { .looked_ns = SLEPT_NS, .slept_ns = 8000 };
	struct vtd_linger linger = { 0 };
	uint64_t looked_ns = 0;

	cr_expect_eq(waits(&linger, false, 10000, &neighbour, &looked_ns), 0);
	cr_expect_lt(looked_ns, 50 * VTD_LINGER_NS, "tried %lu times", (unsigned long)looked_ns / VTD_LINGER_NS);
}

Test(vtd_linger, after_it_was_given_up_it_is_tried_again)
{
	const struct guest neighbour = { .looked_ns = SLEPT_NS, .slept_ns = 8000 };
	const struct guest quick = { .looked_ns = 8000, .slept_ns = 40000 };
	struct vtd_linger linger = { 0 };
	uint64_t looked_ns = 0;

	(void)waits(&linger, false, 10000, &neighbour, &looked_ns);
	(void)waits(&linger, false, VTD_LINGER_PENALTY_MAX + 2, &quick, &looked_ns);
	cr_expect_eq(waits(&linger, false, 100, &quick, &looked_ns), 100);
}

Test(vtd_linger, an_idle_ring_looks_for_one_window_and_sleeps)
{
	const struct guest quick = { .looked_ns = 8000, .slept_ns = 40000 };
	const struct guest gone = { .looked_ns = SLEPT_NS, .slept_ns = SLEPT_NS };
	struct vtd_linger linger = { 0 };
	uint64_t looked_ns = 0;

	(void)waits(&linger, false, 100, &quick, &looked_ns);
	looked_ns = 0;
	cr_expect_eq(waits(&linger, false, 100, &gone, &looked_ns), 0);
	cr_expect_eq(looked_ns, VTD_LINGER_NS);
}

Test(vtd_linger, the_device_and_the_guest_are_learned_apart)
{
	const struct guest quick = { .looked_ns = 8000, .slept_ns = 40000 };
	const struct guest slow = { .looked_ns = 80000, .slept_ns = 100000 };
	struct vtd_linger linger = { 0 };
	uint64_t looked_ns = 0;
	unsigned found = 0;

	for (unsigned i = 0; i < 100; i++) {
		cr_expect_not(wait_once(&linger, true, &slow, &looked_ns));
		found += wait_once(&linger, false, &quick, &looked_ns);
	}
	cr_expect_geq(found, 98);
}

Test(vtd_linger, what_was_there_already_counts_for_nothing)
{
	struct vtd_linger linger = { 0 };

	for (unsigned i = 0; i < 100; i++)
		vtd_linger_found(&linger, false, now_ns);
	cr_expect_not(vtd_linger_wait(&linger, false, now_ns));
}
