/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many producers against one consumer: each producer's order survives, nothing
 * is lost, no wake-up is lost. The consumer sleeps whenever it has emptied the
 * box, so a lost wake-up ends at the deadline.
 *
 * A program of its own, without criterion, since that does not start under the
 * thread sanitizer, and this is the test to run under it.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mailbox.h"

#define DEADLINE_S 60
#define PRODUCERS 4
#define EACH 20000

struct numbered {
	struct base_msg msg;
	unsigned producer;
	unsigned number;
};

static struct base_mailbox box;
static struct numbered posted[PRODUCERS][EACH];
static unsigned expected[PRODUCERS]; /* owner: the consumer */
static unsigned out_of_order;
static sem_t awake;

static void require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "mailbox: %s\n", what);
	exit(1);
}

static void wake_consumer(void *ctx)
{
	sem_post(ctx);
}

static void check_number(struct base_msg *msg)
{
	struct numbered *n = container_of(msg, struct numbered, msg);

	if (expected[n->producer]++ != n->number)
		out_of_order++;
}

static void *produce(void *arg)
{
	unsigned producer = *(unsigned *)arg;

	for (unsigned i = 0; i < EACH; i++) {
		posted[producer][i] = (struct numbered){ { .run = check_number }, producer, i };
		base_mailbox_post(&box, &posted[producer][i].msg);
	}
	return NULL;
}

static unsigned consume(unsigned count)
{
	struct timespec deadline;
	unsigned got = 0;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += DEADLINE_S;
	while (got < count) {
		while (sem_timedwait(&awake, &deadline) < 0)
			require(errno == EINTR, "not all messages came before the deadline");
		got += base_mailbox_run(&box);
	}
	return got;
}

int main(void)
{
	pthread_t threads[PRODUCERS];
	unsigned ids[PRODUCERS];

	sem_init(&awake, 0, 0);
	base_mailbox_init(&box, wake_consumer, &awake);
	for (unsigned i = 0; i < PRODUCERS; i++) {
		ids[i] = i;
		require(pthread_create(&threads[i], NULL, produce, &ids[i]) == 0, "no thread");
	}
	require(consume(PRODUCERS * EACH) == PRODUCERS * EACH, "messages ran twice");
	for (unsigned i = 0; i < PRODUCERS; i++)
		pthread_join(threads[i], NULL);
	require(out_of_order == 0, "messages of one producer ran out of order");
	require(base_mailbox_is_empty(&box), "the box is not empty at the end");
	return 0;
}
