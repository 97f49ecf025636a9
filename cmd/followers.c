/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads of long requests, see followers.h.
 *
 * A fixed number of places. A thread that has ended leaves its place as ENDED;
 * who takes a place next, or the end, joins it.
 *
 * Failure modes: no place is -EAGAIN, and the client is told so.
 */
#include "cmd/followers.h"

#include <errno.h>

#include "base/park.h"

void cmd_followers_init(struct cmd_followers *followers)
{
	pthread_mutex_init(&followers->lock, NULL);
}

static void *follower_main(void *arg)
{
	struct cmd_follower *one = arg;
	struct cmd_followers *all = one->all;

	all->run(all->ctx, one->connection, one->request);
	json_decref(one->request);
	pthread_mutex_lock(&all->lock);
	one->state = FOLLOWER_ENDED;
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

/* lock is held. */
static struct cmd_follower *find_place(struct cmd_followers *followers)
{
	for (unsigned i = 0; i < CMD_FOLLOWERS_MAX; i++) {
		struct cmd_follower *one = &followers->one[i];

		if (one->state == FOLLOWER_ENDED) {
			pthread_join(one->thread, NULL); /* it gives the lock back as its last act */
			one->state = FOLLOWER_FREE;
		}
		if (one->state == FOLLOWER_FREE)
			return one;
	}
	return NULL;
}

int cmd_followers_take(struct cmd_followers *followers, struct cmd_connection *connection, json_t *request)
{
	int r = -EAGAIN;

	pthread_mutex_lock(&followers->lock);
	struct cmd_follower *one = find_place(followers);
	if (one) {
		one->all = followers;
		one->connection = connection;
		one->request = json_incref(request);
		one->state = FOLLOWER_RUNS;
		r = base_thread_start(&one->thread, "bdfs-follow", follower_main, one);
		if (r < 0) {
			json_decref(request);
			one->state = FOLLOWER_FREE;
		}
	}
	pthread_mutex_unlock(&followers->lock);
	return r;
}

void cmd_followers_done(struct cmd_followers *followers)
{
	for (unsigned i = 0; i < CMD_FOLLOWERS_MAX; i++) {
		pthread_mutex_lock(&followers->lock);
		bool there = followers->one[i].state != FOLLOWER_FREE;
		pthread_mutex_unlock(&followers->lock);
		if (there)
			pthread_join(followers->one[i].thread, NULL);
		followers->one[i].state = FOLLOWER_FREE;
	}
	pthread_mutex_destroy(&followers->lock);
}
