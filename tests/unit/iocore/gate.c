/* SPDX-License-Identifier: Apache-2.0 */
/* The gate: who may be in flight together, in which order, and that nobody is forgotten. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "iocore/gate.h"

struct visitor {
	struct gate_entry entry;
	bool inside, waiting;
};

static struct gate gate;
static struct base_mailbox box;

static void no_wake(void *arg)
{
}

static void run_granted(struct base_msg *msg)
{
	struct visitor *visitor = container_of(msg, struct visitor, entry.msg);

	cr_assert(visitor->waiting);
	visitor->waiting = false;
	visitor->inside = true;
}

static void enter(struct visitor *visitor, uint64_t stripes, bool exclusive)
{
	visitor->entry = (struct gate_entry){
		.stripes = stripes, .exclusive = exclusive, .box = &box, .msg.run = run_granted
	};
	visitor->inside = false;
	visitor->waiting = true;
	if (gate_enter(&gate, &visitor->entry)) {
		visitor->waiting = false;
		visitor->inside = true;
	}
}

static void leave(struct visitor *visitor)
{
	cr_assert(visitor->inside);
	visitor->inside = false;
	gate_leave(&visitor->entry);
	base_mailbox_run(&box);
}

static void begin(void)
{
	gate_init(&gate);
	base_mailbox_init(&box, no_wake, NULL);
}

static void end(void)
{
	gate_done(&gate);
}

TestSuite(iocore_gate, .init = begin, .fini = end);

Test(iocore_gate, shared_entries_share_and_an_exclusive_one_waits_for_them)
{
	struct visitor a, b, x;

	enter(&a, 1, false);
	enter(&b, 1, false);
	enter(&x, 1, true);
	cr_assert(a.inside && b.inside && !x.inside);
	leave(&a);
	cr_assert(!x.inside);
	leave(&b);
	cr_assert(x.inside);
	leave(&x);
}

Test(iocore_gate, who_comes_after_one_that_waits_for_all_waits_even_for_a_free_stripe)
{
	struct visitor holder, all, late;

	enter(&holder, 1, false);
	enter(&all, UINT64_MAX, true);
	enter(&late, UINT64_C(1) << 40, false);
	cr_assert(!all.inside && !late.inside);
	leave(&holder);
	cr_assert(all.inside && !late.inside);
	leave(&all);
	cr_assert(late.inside);
	leave(&late);
}

Test(iocore_gate, who_holds_a_stripe_goes_on_past_one_that_waits_for_all)
{
	struct visitor first, both, all;

	enter(&first, 1 << 5, true);
	enter(&both, 1 << 3 | 1 << 5, false);
	enter(&all, UINT64_MAX, true);
	cr_assert(!both.inside && !all.inside);
	leave(&first);
	cr_assert(both.inside && !all.inside);
	leave(&both);
	cr_assert(all.inside);
	leave(&all);
}

Test(iocore_gate, several_that_want_all_take_turns_with_those_between_them)
{
	struct visitor holder, all1, between, all2, after;

	enter(&holder, 1, false);
	enter(&all1, UINT64_MAX, true);
	enter(&between, 1 << 7, false);
	enter(&all2, UINT64_MAX, true);
	enter(&after, 1 << 9, false);
	leave(&holder);
	cr_assert(all1.inside && !between.inside && !all2.inside && !after.inside);
	leave(&all1);
	cr_assert(between.inside && !all2.inside && !after.inside);
	leave(&between);
	cr_assert(all2.inside && !after.inside);
	leave(&all2);
	cr_assert(after.inside);
	leave(&after);
}

Test(iocore_gate, once_nobody_waits_for_all_an_entry_costs_no_lock_again)
{
	struct visitor holder, all, late;

	enter(&holder, 1, false);
	enter(&all, UINT64_MAX, true);
	leave(&holder);
	leave(&all);
	for (unsigned i = 0; i < GATE_STRIPES; i++)
		cr_assert_eq(atomic_load(&gate.stripes[i].word), 0, "stripe %u", i);
	enter(&late, 2, false);
	leave(&late);
}

/* ---- chance ------------------------------------------------------------------------------- */

#define VISITORS 40
#define STEPS 200000

static struct visitor visitors[VISITORS];

static void check_holders(void)
{
	for (unsigned i = 0; i < GATE_STRIPES; i++) {
		unsigned shared = 0, exclusive = 0;

		for (unsigned v = 0; v < VISITORS; v++)
			if (visitors[v].inside && visitors[v].entry.stripes >> i & 1)
				*(visitors[v].entry.exclusive ? &exclusive : &shared) += 1;
		cr_assert(exclusive <= 1 && !(exclusive && shared), "stripe %u: %u and %u", i, exclusive, shared);
	}
}

static uint64_t some_stripes(void)
{
	return rand() % 12 == 0 ? UINT64_MAX : gate_stripes_of((uint64_t)rand() % 64, 1 + (uint64_t)rand() % 3);
}

Test(iocore_gate, whatever_comes_and_goes_all_get_in_and_nobody_with_whom_he_must_not_be)
{
	unsigned seed = (unsigned)time(NULL), inside = 1;

	printf("seed %u\n", seed);
	srand(seed);
	for (unsigned step = 0; step < STEPS; step++) {
		struct visitor *visitor = &visitors[rand() % VISITORS];

		if (visitor->inside)
			leave(visitor);
		else if (!visitor->waiting)
			enter(visitor, some_stripes(), rand() % 4 == 0);
		if (step % 64 == 0)
			check_holders();
	}
	while (inside > 0) {
		inside = 0;
		for (unsigned v = 0; v < VISITORS; v++)
			if (visitors[v].inside) {
				inside++;
				leave(&visitors[v]);
			}
	}
	for (unsigned v = 0; v < VISITORS; v++)
		cr_assert(!visitors[v].waiting, "visitor %u was forgotten", v);
}
