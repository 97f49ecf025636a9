/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of the control socket that go on for as long as their client likes
 * (CMD_LONG): each has a thread of its own, so that the few that serve verbs
 * stay free.
 *
 * Context: CTL. cmd_followers_take: any of the server's threads.
 */
#ifndef CMD_FOLLOWERS_H
#define CMD_FOLLOWERS_H

#include <jansson.h>
#include <pthread.h>

#define CMD_FOLLOWERS_MAX 16

struct cmd_connection;

struct cmd_followers {
	/* Carries a request out and answers its connection; ends soon when the server stops. */
	void (*run)(void *ctx, struct cmd_connection *connection, json_t *request);
	void *ctx;
	pthread_mutex_t lock;
	struct cmd_follower {
		enum { FOLLOWER_FREE, FOLLOWER_RUNS, FOLLOWER_ENDED } state; /* lock */
		struct cmd_followers *all;
		struct cmd_connection *connection;
		json_t *request;
		pthread_t thread;
	} one[CMD_FOLLOWERS_MAX];
};

void cmd_followers_init(struct cmd_followers *followers);
/* Return: 0: the connection is answered by run; -EAGAIN: too many; what starting a thread says. */
int cmd_followers_take(struct cmd_followers *followers, struct cmd_connection *connection, json_t *request);
/* The server has stopped. Waits for all of them. */
void cmd_followers_done(struct cmd_followers *followers);

#endif
