/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket of a mounted pool: how a command reaches the daemon.
 *
 * A stream socket `control` in the pool's directory. A connection carries one
 * request, {"verb": name, "args": {...}}, any number of
 * {"progress": {"what": text, "done": n, "total": n}}, and one answer
 * (cmd/outcome.h), in the frames of cmd/frame.h.
 *
 * Who may: root and the pool's owner, by the credentials that the kernel took
 * when the peer connected.
 */
#ifndef CMD_CONTROL_H
#define CMD_CONTROL_H

#include "cmd/outcome.h"

#define CMD_CONTROL_NAME "control"
/* Connections at once; more are answered with EAGAIN and closed. */
#define CMD_CONNECTIONS_MAX 32

/* ---- the daemon's side -------------------------------------------------------------------- */

struct cmd_server;
struct cmd_connection;

struct cmd_peer {
	pid_t pid;
	uid_t uid;
};

struct cmd_server_args {
	const char *directory;
	uid_t owner;
	/*
	 * Gives the answer to a request: a new reference, or NULL when the connection is kept, to be
	 * answered by cmd_connection_answer. Context: one of the server's threads, several at once.
	 */
	json_t *(*serve)(void *ctx, struct cmd_connection *connection, json_t *request);
	void *ctx;
};

/* The caller has the pool locked, so a socket that is there is a dead daemon's. Context: CTL, after the fork. */
MUST_CHECK int cmd_server_start(const struct cmd_server_args *args, struct cmd_server **ret, struct base_error *err);

/*
 * Removes the socket, turns requests away, cuts connections that have not sent theirs, waits for the
 * verbs under way (whose progress reports now fail). Kept connections stay open.
 */
void cmd_server_stop(struct cmd_server *server);
/* Every kept connection has been answered. */
void cmd_server_free(struct cmd_server *server);

struct cmd_peer cmd_connection_peer(const struct cmd_connection *connection);
/* Return: 0; -EPIPE (the peer is gone); -ECANCELED (the server stops). Context: the thread that serves it. */
MUST_CHECK int cmd_connection_progress(struct cmd_connection *connection, const char *what, uint64_t done,
				       uint64_t total);
/*
 * A stream of events. Return: 0: an event can be sent without waiting, or was; -EAGAIN: the peer does not read;
 * -EPIPE: it is gone; -ECANCELED: the server stops. Context: as cmd_connection_progress.
 */
MUST_CHECK int cmd_connection_ready(struct cmd_connection *connection);
MUST_CHECK int cmd_connection_event(struct cmd_connection *connection, const json_t *event);
/* For a kept connection; takes answer and closes. Any thread. */
void cmd_connection_answer(struct cmd_connection *connection, json_t *answer);

/* ---- the command's side ------------------------------------------------------------------- */

enum { CMD_NO_DAEMON = 1 };

/*
 * Asks the daemon of the pool in directory and waits for its answer. Nothing is bounded in time but
 * connecting: a check may run for hours.
 * Return: 0: *ret is the daemon's answer; CMD_NO_DAEMON: nobody listens; -EACCES; -EPIPE (the daemon
 * ended before it answered); other negative errno, with err.
 */
MUST_CHECK int cmd_control_call(const char *directory, const char *verb, json_t *args, struct cmd_progress *progress,
				struct cmd_outcome *ret, struct base_error *err);

/* Opens the socket's address, which may be longer than sun_path, by way of its directory. For both sides. */
struct sockaddr_un;
MUST_CHECK int cmd_control_address(const char *directory, struct sockaddr_un *ret, int *ret_dir_fd);

#endif
