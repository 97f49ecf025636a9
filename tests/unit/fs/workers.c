/* SPDX-License-Identifier: Apache-2.0 */
/* The workers: order, and that stopping leaves no job behind. */
#include <criterion/criterion.h>
#include <stdatomic.h>

#include "fs/workers.h"

struct numbered {
	struct fs_job job;
	unsigned number;
};

static unsigned order[1000];
static _Atomic unsigned ran;

static void note_order(struct fs_job *job)
{
	order[atomic_fetch_add(&ran, 1)] = container_of(job, struct numbered, job)->number;
}

static void post_all(struct fs_workers *workers, struct numbered *jobs, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		jobs[i] = (struct numbered){ { .run = note_order }, i };
		fs_workers_post(workers, &jobs[i].job);
	}
}

Test(fs_workers, one_worker_keeps_the_order_of_posting)
{
	static struct numbered jobs[1000];
	struct fs_workers workers;

	cr_assert_eq(fs_workers_start(&workers, "test", 1), 0);
	post_all(&workers, jobs, 1000);
	fs_workers_stop(&workers);
	cr_assert_eq(ran, 1000);
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_eq(order[i], i);
}

Test(fs_workers, stop_runs_what_was_posted)
{
	static struct numbered jobs[1000];
	struct fs_workers workers;

	cr_assert_eq(fs_workers_start(&workers, "test", 4), 0);
	post_all(&workers, jobs, 1000);
	fs_workers_stop(&workers);
	cr_expect_eq(ran, 1000);
}
