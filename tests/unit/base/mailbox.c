/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mailbox: order of posting, one wake-up for an empty box, messages that
 * post themselves again. Several threads: tests/threads/mailbox.c.
 */
#include <criterion/criterion.h>

#include "base/mailbox.h"

struct note {
	struct base_msg msg;
	int number;
};

static struct base_mailbox box;
static int ran[64];
static unsigned ran_count;
static int wakes;

static void count_wake(void *ctx)
{
	(*(int *)ctx)++;
}

static void write_down(struct base_msg *msg)
{
	ran[ran_count++] = container_of(msg, struct note, msg)->number;
}

Test(base_mailbox, runs_in_the_order_of_posting)
{
	struct note notes[32];

	base_mailbox_init(&box, count_wake, &wakes);
	for (int i = 0; i < 32; i++) {
		notes[i] = (struct note){ { .run = write_down }, i };
		base_mailbox_post(&box, &notes[i].msg);
	}
	cr_expect_eq(base_mailbox_run(&box), 32);
	cr_assert_eq(ran_count, 32);
	for (int i = 0; i < 32; i++)
		cr_expect_eq(ran[i], i);
}

Test(base_mailbox, wakes_only_when_it_was_empty)
{
	struct note notes[3];

	base_mailbox_init(&box, count_wake, &wakes);
	cr_expect(base_mailbox_is_empty(&box));
	for (int i = 0; i < 3; i++) {
		notes[i] = (struct note){ { .run = write_down }, i };
		base_mailbox_post(&box, &notes[i].msg);
		cr_expect_not(base_mailbox_is_empty(&box));
		cr_expect_eq(wakes, 1);
	}
	cr_expect_eq(base_mailbox_run(&box), 3);
	cr_expect(base_mailbox_is_empty(&box));
	cr_expect_eq(base_mailbox_run(&box), 0);
	base_mailbox_post(&box, &notes[0].msg);
	cr_expect_eq(wakes, 2);
}

static int turns_left = 3;

static void post_again(struct base_msg *msg)
{
	if (--turns_left > 0)
		base_mailbox_post(&box, msg);
}

Test(base_mailbox, a_message_posted_while_running_waits_for_the_next_run)
{
	struct base_msg again = { .run = post_again };

	base_mailbox_init(&box, count_wake, &wakes);
	base_mailbox_post(&box, &again);
	cr_expect_eq(base_mailbox_run(&box), 1);
	cr_expect_eq(turns_left, 2);
	cr_expect_eq(base_mailbox_run(&box), 1);
	cr_expect_eq(base_mailbox_run(&box), 1);
	cr_expect_eq(base_mailbox_run(&box), 0);
	cr_expect_eq(wakes, 3);
}
