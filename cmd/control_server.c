/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's side of the control socket: who may speak, how many, how long.
 *
 * One thread accepts, four serve. The acceptor decides by the peer's
 * credentials, and by the number of connections, before a byte is read; whom it
 * turns away still gets an answer that says why. A connection is one of a fixed
 * set of 32 slots:
 *
 *   FREE -> WAITING (accepted) -> READING (a thread took it) -> SERVING -> FREE
 *                                                          \-> KEPT    -> FREE
 *
 * KEPT is for a request that is answered only when the daemon has ended in
 * order (umount): its thread goes on to other work.
 *
 * The happy path: poll, accept, check, queue in order of arrival; a serving
 * thread reads the request (5 s for all of it), hands it to the daemon's serve
 * function, sends the answer, closes.
 *
 * Stopping: the socket's name goes first, so that a command which comes now
 * sees no daemon; then who waits is turned away, who has not sent his request is
 * cut, and the verbs under way run to their end. Long ones notice at their next
 * progress report.
 *
 * Who is answered before his request was read, because he is one too many or
 * what he sent is no request, keeps his connection until he closes it, a second
 * at most: a close with bytes unread would take the answer away from him.
 *
 * Failure modes: half a request, one of a hostile length, or none at all costs
 * one thread five seconds at most and is answered with what was wrong, if the
 * peer still listens. A peer that goes away in mid-verb is noticed by progress
 * or by the answer; a verb that changes something is never cut by that.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/control.h"
#include "cmd/frame.h"
#include "cmd/linger.h"
#include "cmd/text.h"

#define SERVING_THREADS 4
#define LISTEN_BACKLOG 16
#define REQUEST_TIMEOUT_MS 5000
#define ANSWER_TIMEOUT_MS 30000
#define PROGRESS_TIMEOUT_MS 2000
#define REFUSAL_TIMEOUT_MS 100 /* a refusal fits into an empty socket buffer */

enum slot_state { SLOT_FREE, SLOT_WAITING, SLOT_READING, SLOT_SERVING, SLOT_KEPT };

struct cmd_connection {
	struct cmd_server *server; /* const after start */
	int fd;                    /* lock to change */
	enum slot_state state;     /* lock */
	uint64_t ticket;           /* lock; order of arrival */
	struct cmd_peer peer;      /* const while not FREE */
};

struct cmd_server {
	struct cmd_server_args args; /* const after start */
	int dir_fd, listen_fd, stop_fd;
	atomic_bool stopping;
	pthread_mutex_t lock; /* taken alone, never around I/O */
	pthread_cond_t work;
	uint64_t next_ticket;
	struct cmd_connection slots[CMD_CONNECTIONS_MAX];
	struct cmd_linger linger; /* the acceptor's */
	pthread_t acceptor, threads[SERVING_THREADS];
	unsigned started; /* threads that run: the acceptor is the last one */
};

static const char unmounting[] = "the pool is being unmounted: try again";

static json_t *refusal(int code, const char *text)
{
	struct cmd_outcome outcome = { .code = code };

	base_error_set(&outcome.err, code, "%s", text);
	return cmd_outcome_to_json(&outcome);
}

static void send_and_drop(int fd, json_t *answer, int timeout_ms)
{
	int r = cmd_frame_send(fd, answer, timeout_ms);

	if (r < 0 && r != -EPIPE)
		log_warning("control socket: an answer could not be sent (error %d)", -r);
	json_decref(answer);
}

static void release(struct cmd_connection *connection)
{
	struct cmd_server *server = connection->server;
	int fd;

	pthread_mutex_lock(&server->lock);
	fd = connection->fd;
	connection->fd = -1;
	connection->state = SLOT_FREE;
	pthread_mutex_unlock(&server->lock);
	close(fd);
}

static bool enqueue(struct cmd_server *server, int fd, struct cmd_peer peer)
{
	bool found = false;

	pthread_mutex_lock(&server->lock);
	for (size_t i = 0; i < CMD_CONNECTIONS_MAX && !found; i++) {
		struct cmd_connection *slot = &server->slots[i];

		if (slot->state != SLOT_FREE)
			continue;
		slot->fd = fd;
		slot->peer = peer;
		slot->ticket = server->next_ticket++;
		slot->state = SLOT_WAITING;
		pthread_cond_signal(&server->work);
		found = true;
	}
	pthread_mutex_unlock(&server->lock);
	return found;
}

static void admit(struct cmd_server *server, int fd)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0) {
		close(fd);
		return;
	}

	struct cmd_peer peer = { .pid = cred.pid, .uid = cred.uid };

	if (peer.uid != 0 && peer.uid != server->args.owner) {
		log_warning("control socket: uid %u (pid %d) is neither root nor the pool's owner: refused",
			    (unsigned)peer.uid, (int)peer.pid);
		send_and_drop(fd, refusal(-EACCES, "only root and the pool's owner may do this"), REFUSAL_TIMEOUT_MS);
		cmd_linger_add(&server->linger, fd);
	} else if (!enqueue(server, fd, peer)) {
		send_and_drop(fd, refusal(-EAGAIN, "too many commands at once for this pool: try again"),
			      REFUSAL_TIMEOUT_MS);
		cmd_linger_add(&server->linger, fd);
	}
}

static void accept_one(struct cmd_server *server)
{
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0) {
		admit(server, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		struct pollfd stop = { .fd = server->stop_fd, .events = POLLIN };

		/* The peer stays in the backlog, so poll would return at once for ever: wait for room. */
		poll(&stop, 1, 100);
	}
}

static void *accept_loop(void *arg)
{
	struct cmd_server *server = arg;
	struct pollfd pfds[2 + CMD_LINGER_MAX] = {
		{ .fd = server->listen_fd, .events = POLLIN },
		{ .fd = server->stop_fd, .events = POLLIN },
	};

	while (!atomic_load(&server->stopping)) {
		int timeout_ms;
		unsigned lingering = cmd_linger_poll(&server->linger, pfds + 2, &timeout_ms);

		if (poll(pfds, 2 + lingering, timeout_ms) < 0)
			continue;
		cmd_linger_turn(&server->linger);
		if (pfds[0].revents & POLLIN)
			accept_one(server);
	}
	cmd_linger_done(&server->linger);
	return NULL;
}

/* The longest waiting connection, now READING; NULL: the server stops. */
static struct cmd_connection *next_connection(struct cmd_server *server)
{
	struct cmd_connection *found = NULL;

	pthread_mutex_lock(&server->lock);
	while (!atomic_load(&server->stopping)) {
		for (size_t i = 0; i < CMD_CONNECTIONS_MAX; i++) {
			struct cmd_connection *slot = &server->slots[i];

			if (slot->state == SLOT_WAITING && (!found || slot->ticket < found->ticket))
				found = slot;
		}
		if (found)
			break;
		pthread_cond_wait(&server->work, &server->lock);
	}
	if (found)
		found->state = SLOT_READING;
	pthread_mutex_unlock(&server->lock);
	return found;
}

static const char *receive_words(int r)
{
	switch (r) {
	case -ETIMEDOUT:
		return "the request did not arrive whole within 5 s";
	case -EMSGSIZE:
		return "the request is empty or longer than 1 MiB";
	case -EBADMSG:
		return "the request is not a JSON object";
	}
	return "the request could not be read";
}

static void set_state(struct cmd_connection *connection, enum slot_state state)
{
	pthread_mutex_lock(&connection->server->lock);
	connection->state = state;
	pthread_mutex_unlock(&connection->server->lock);
}

static void serve_one(struct cmd_server *server, struct cmd_connection *connection)
{
	json_t *request = NULL, *answer;
	int r = cmd_frame_receive(connection->fd, CMD_REQUEST_BYTES_MAX, REQUEST_TIMEOUT_MS, &request);

	if (r < 0) {
		if (atomic_load(&server->stopping))
			send_and_drop(connection->fd, refusal(-EAGAIN, unmounting), REFUSAL_TIMEOUT_MS);
		else if (r != -ENODATA) /* somebody who only looked whether we are there */
			send_and_drop(connection->fd, refusal(r, receive_words(r)), REFUSAL_TIMEOUT_MS);
		if (r != -ENODATA)
			cmd_linger_now(connection->fd, REFUSAL_TIMEOUT_MS);
		release(connection);
		return;
	}
	/* KEPT from before the call: serve may hand the connection to a thread that answers at once. */
	set_state(connection, SLOT_KEPT);
	answer = server->args.serve(server->args.ctx, connection, request);
	json_decref(request);
	if (answer) {
		set_state(connection, SLOT_SERVING);
		send_and_drop(connection->fd, answer, ANSWER_TIMEOUT_MS);
		release(connection);
	}
}

static void *serve_loop(void *arg)
{
	struct cmd_server *server = arg;
	struct cmd_connection *connection;

	while ((connection = next_connection(server)))
		serve_one(server, connection);
	return NULL;
}

static int bind_socket(struct cmd_server *server, struct base_error *err)
{
	const char *directory = server->args.directory;
	struct sockaddr_un address;
	int r = cmd_control_address(directory, &address, &server->dir_fd);

	if (r < 0)
		return base_error_set_errno(err, r, "%s: can't open the pool's directory", directory);
	server->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->listen_fd < 0)
		return base_error_set_errno(err, -errno, "can't make the control socket");
	unlinkat(server->dir_fd, CMD_CONTROL_NAME, 0);
	if (bind(server->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return base_error_set_errno(err, -errno, "can't make the control socket in %s", directory);
	/* Nobody can connect before listen(), so there is no moment with a mode too wide. */
	if (fchmodat(server->dir_fd, CMD_CONTROL_NAME, 0600, 0) < 0 ||
	    (server->args.owner != geteuid() &&
	     fchownat(server->dir_fd, CMD_CONTROL_NAME, server->args.owner, (gid_t)-1, 0) < 0) ||
	    listen(server->listen_fd, LISTEN_BACKLOG) < 0)
		return base_error_set_errno(err, -errno, "can't set up the control socket in %s", directory);
	return 0;
}

static int start_threads(struct cmd_server *server)
{
	int r = 0;

	for (unsigned i = 0; i < SERVING_THREADS && r == 0; i++) {
		r = pthread_create(&server->threads[i], NULL, serve_loop, server);
		if (r == 0)
			server->started++;
	}
	if (r == 0)
		r = pthread_create(&server->acceptor, NULL, accept_loop, server);
	if (r == 0)
		server->started++;
	return -r;
}

int cmd_server_start(const struct cmd_server_args *args, struct cmd_server **ret, struct base_error *err)
{
	struct cmd_server *server = calloc(1, sizeof(*server));

	if (!server)
		return base_error_set(err, -ENOMEM, "out of memory for the control socket");
	server->args = *args;
	server->dir_fd = server->listen_fd = -1;
	pthread_mutex_init(&server->lock, NULL);
	pthread_cond_init(&server->work, NULL);
	for (size_t i = 0; i < CMD_CONNECTIONS_MAX; i++)
		server->slots[i] = (struct cmd_connection){ .server = server, .fd = -1 };
	server->stop_fd = eventfd(0, EFD_CLOEXEC);

	int r = server->stop_fd < 0 ? base_error_set_errno(err, -errno, "can't set up the control socket") : 0;

	if (r == 0)
		r = bind_socket(server, err);
	if (r == 0) {
		r = start_threads(server);
		if (r < 0)
			base_error_set_errno(err, r, "can't start the threads of the control socket");
	}
	if (r < 0) {
		cmd_server_stop(server);
		cmd_server_free(server);
		return r;
	}
	*ret = server;
	return 0;
}

/* Wakes every thread; connections whose request is not here yet end as if the peer had closed them. */
static void wake_all(struct cmd_server *server)
{
	pthread_mutex_lock(&server->lock);
	atomic_store(&server->stopping, true);
	for (size_t i = 0; i < CMD_CONNECTIONS_MAX; i++)
		if (server->slots[i].state == SLOT_READING)
			shutdown(server->slots[i].fd, SHUT_RD);
	pthread_cond_broadcast(&server->work);
	pthread_mutex_unlock(&server->lock);
	eventfd_write(server->stop_fd, 1);
}

static void turn_away(int fd)
{
	send_and_drop(fd, refusal(-EAGAIN, unmounting), REFUSAL_TIMEOUT_MS);
	cmd_linger_now(fd, REFUSAL_TIMEOUT_MS);
	close(fd);
}

static bool is_waiting(struct cmd_connection *connection)
{
	pthread_mutex_lock(&connection->server->lock);

	bool waiting = connection->state == SLOT_WAITING;

	pthread_mutex_unlock(&connection->server->lock);
	return waiting;
}

/* Those that nobody has begun to read: in the slots, and in the kernel's backlog. The acceptor has ended. */
static void turn_away_waiting(struct cmd_server *server)
{
	int fd;

	for (size_t i = 0; i < CMD_CONNECTIONS_MAX; i++)
		if (is_waiting(&server->slots[i])) {
			send_and_drop(server->slots[i].fd, refusal(-EAGAIN, unmounting), REFUSAL_TIMEOUT_MS);
			cmd_linger_now(server->slots[i].fd, REFUSAL_TIMEOUT_MS);
			release(&server->slots[i]);
		}
	while (server->listen_fd >= 0 && (fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		turn_away(fd);
	if (server->listen_fd >= 0)
		close(server->listen_fd);
	server->listen_fd = -1;
}

void cmd_server_stop(struct cmd_server *server)
{
	if (server->dir_fd >= 0 && server->listen_fd >= 0)
		unlinkat(server->dir_fd, CMD_CONTROL_NAME, 0);
	wake_all(server);
	if (server->started > SERVING_THREADS)
		pthread_join(server->acceptor, NULL);
	/* Before the verbs under way are waited for: who waits behind them waits for nothing. */
	turn_away_waiting(server);
	for (unsigned i = 0; i < MIN(server->started, SERVING_THREADS); i++)
		pthread_join(server->threads[i], NULL);
	server->started = 0;
}

void cmd_server_free(struct cmd_server *server)
{
	if (server->dir_fd >= 0)
		close(server->dir_fd);
	if (server->stop_fd >= 0)
		close(server->stop_fd);
	pthread_cond_destroy(&server->work);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

struct cmd_peer cmd_connection_peer(const struct cmd_connection *connection)
{
	return connection->peer;
}

int cmd_connection_progress(struct cmd_connection *connection, const char *what, uint64_t done, uint64_t total)
{
	if (atomic_load(&connection->server->stopping))
		return -ECANCELED;

	json_t *report = json_pack("{s:{s:o, s:I, s:I}}", "progress", "what", cmd_text_to_json(what), "done",
				   (json_int_t)done, "total", (json_int_t)total);
	int r = cmd_frame_send(connection->fd, report, PROGRESS_TIMEOUT_MS);

	json_decref(report);
	return r < 0 ? -EPIPE : 0;
}

int cmd_connection_ready(struct cmd_connection *connection)
{
	struct pollfd pfd = { .fd = connection->fd, .events = POLLIN | POLLOUT };

	if (atomic_load(&connection->server->stopping))
		return -ECANCELED;
	if (poll(&pfd, 1, 0) < 0)
		return -EAGAIN;
	/* The client has said all it has to say: what can be read now is its end. */
	if (pfd.revents & (POLLIN | POLLHUP | POLLERR))
		return -EPIPE;
	/* A stream socket is writable while most of its buffer is free, so an event goes in whole. */
	return pfd.revents & POLLOUT ? 0 : -EAGAIN;
}

int cmd_connection_event(struct cmd_connection *connection, const json_t *event)
{
	json_t *message = json_pack("{s:O}", "event", event);
	int r = cmd_frame_send(connection->fd, message, PROGRESS_TIMEOUT_MS);

	json_decref(message);
	return r < 0 ? -EPIPE : 0;
}

void cmd_connection_answer(struct cmd_connection *connection, json_t *answer)
{
	send_and_drop(connection->fd, answer, ANSWER_TIMEOUT_MS);
	release(connection);
}
