/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_follow: a thread gets to where its client last ran, and may run wherever it might before.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/internal.h"

/* Elsewhere a scheduler may have its own mind at any moment; so many times it has not. */
#define TRIES 200

struct client {
	int processor;
	_Atomic pid_t id;
	_Atomic bool done;
};

static cpu_set_t only(int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	return set;
}

/* Sleeps on its processor. */
static void *client_run(void *arg)
{
	struct client *c = arg;
	cpu_set_t set = only(c->processor);

	cr_assert_eq(sched_setaffinity(0, sizeof(set), &set), 0);
	atomic_store(&c->id, (pid_t)syscall(SYS_gettid));
	while (!atomic_load(&c->done))
		usleep(1000);
	return NULL;
}

/* The two first processors that we may run on; false: there is one. */
static bool two_processors(int ret[2])
{
	cpu_set_t allowed;
	int found = 0;

	cr_assert_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	for (int i = 0; i < CPU_SETSIZE && found < 2; i++) {
		if (CPU_ISSET(i, &allowed))
			ret[found++] = i;
	}
	return found == 2;
}

Test(fs_follow, a_thread_gets_to_where_its_client_is_and_stays_free)
{
	int processors[2], there = 0;
	cpu_set_t both, after;
	struct client client = { 0 };
	pthread_t thread;

	if (!two_processors(processors))
		cr_skip_test("needs two processors");
	client.processor = processors[1];
	cr_assert_eq(pthread_create(&thread, NULL, client_run, &client), 0);
	while (atomic_load(&client.id) == 0)
		usleep(1000);
	both = only(processors[0]);
	CPU_SET(processors[1], &both);
	for (int i = 0; i < TRIES; i++) {
		cpu_set_t start = only(processors[0]);

		cr_assert_eq(sched_setaffinity(0, sizeof(start), &start), 0);
		cr_assert_eq(sched_setaffinity(0, sizeof(both), &both), 0);
		fs_follow(atomic_load(&client.id));
		there += sched_getcpu() == processors[1];
		cr_assert_eq(sched_getaffinity(0, sizeof(after), &after), 0);
		cr_assert(CPU_EQUAL(&both, &after));
	}
	cr_assert_gt(there, TRIES / 2, "%d of %d", there, TRIES);
	atomic_store(&client.done, true);
	pthread_join(thread, NULL);
}

Test(fs_follow, where_the_client_is_unknown_or_out_of_reach_nothing_is_moved)
{
	int processors[2];
	cpu_set_t start, after;

	if (!two_processors(processors))
		cr_skip_test("needs two processors");
	start = only(processors[0]);
	cr_assert_eq(sched_setaffinity(0, sizeof(start), &start), 0);

	struct client client = { .processor = processors[1] };
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, client_run, &client), 0);
	while (atomic_load(&client.id) == 0)
		usleep(1000);
	fs_follow(atomic_load(&client.id));
	atomic_store(&client.done, true);
	pthread_join(thread, NULL);
	fs_follow(atomic_load(&client.id)); /* has gone */
	fs_follow(0);
	cr_assert_eq(sched_getaffinity(0, sizeof(after), &after), 0);
	cr_assert(CPU_EQUAL(&start, &after));
	cr_assert_eq(sched_getcpu(), processors[0]);
}
