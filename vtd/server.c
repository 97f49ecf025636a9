/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket of a vhost-user-blk device, its control thread, the public functions.
 *
 * The control thread accepts one front end, serves its messages until one of
 * the two has enough, puts everything back, and accepts the next. Whoever
 * connects meanwhile is closed at once. Besides the socket it waits for wake_fd
 * (a ring met a violation; the size has changed) and stop_fd (the end).
 *
 * Happy path: bind -> listen -> accept -> messages -> the front end closes ->
 * rings stopped, memory unmapped -> accept ...
 *
 * Failure modes: a socket's file that a dead daemon left is replaced, one that
 * somebody listens on is not; no descriptors or memory for a front end: it is
 * closed, with a line in the log. The reason why a session ended badly is kept
 * for vtd_vhost_info().
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "vtd/internal.h"

#define BACKLOG 4

/* ---- a session ---------------------------------------------------------------------------- */

static void note_state(struct vtd_vhost *vhost)
{
	unsigned running = 0;

	for (unsigned i = 0; i < vhost->queues; i++)
		running += vhost->rings[i].is_running;
	pthread_mutex_lock(&vhost->lock);
	vhost->info.queues_running = running;
	vhost->info.features = vhost->features;
	vhost->info.has_packed = vhost->features >> VIRTIO_F_RING_PACKED & 1;
	vhost->info.has_event_idx = vhost->features >> VIRTIO_RING_F_EVENT_IDX & 1;
	vhost->info.has_inflight = vhost->inflight.mapping.map != NULL;
	vhost->info.is_write_back = atomic_load(&vhost->is_write_back);
	pthread_mutex_unlock(&vhost->lock);
}

static void note_connected(struct vtd_vhost *vhost)
{
	struct ucred peer = { 0 };
	socklen_t bytes = sizeof(peer);

	(void)getsockopt(vhost->socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes);
	pthread_mutex_lock(&vhost->lock);
	vhost->info.is_connected = true;
	vhost->info.peer_pid = peer.pid;
	vhost->info.peer_uid = peer.uid;
	vhost->info.connections++;
	pthread_mutex_unlock(&vhost->lock);
	log_info("vtd %s: process %d connected", vhost->name, (int)peer.pid);
}

static void note_ended(struct vtd_vhost *vhost, int rc, const char *what, const char *why)
{
	char text[sizeof(vhost->info.last_error)] = "";

	if (rc == -EPROTO)
		snprintf(text, sizeof(text), "%s%s%s", what, *what ? ": " : "", why);
	else if (rc != -ECONNRESET && rc != -ECANCELED && rc != -EPIPE)
		snprintf(text, sizeof(text), "%s%s%s%s%s", what, *what ? ": " : "", why, *why ? ": " : "",
			 strerror(-rc));
	if (*text)
		log_error("vtd %s: the front end was thrown out: %s", vhost->name, text);
	else
		log_info("vtd %s: the front end is gone", vhost->name);
	pthread_mutex_lock(&vhost->lock);
	vhost->info.is_connected = false;
	vhost->info.peer_pid = 0;
	vhost->info.ended_badly += *text != '\0';
	memcpy(vhost->info.last_error, text, sizeof(text));
	pthread_mutex_unlock(&vhost->lock);
}

static void refuse_second(struct vtd_vhost *vhost)
{
	int fd = accept4(vhost->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0) {
		log_debug("vtd %s: a second front end was refused", vhost->name);
		close(fd);
	}
}

/* Return: 0; -EPROTO, a ring met a violation. */
static int look_at_wake(struct vtd_vhost *vhost, const char **ret_why)
{
	uint64_t count;

	(void)!read(vhost->wake_fd, &count, sizeof(count));
	if (atomic_exchange(&vhost->is_resized, false))
		vtd_front_config_changed(vhost);
	*ret_why = atomic_load(&vhost->violation);
	return *ret_why ? -EPROTO : 0;
}

static int serve_message(struct vtd_vhost *vhost, const char **ret_what, const char **ret_why)
{
	struct vtd_msg msg;
	int rc = vtd_msg_receive(vhost->socket, vhost->stop_fd, &msg, ret_why);

	if (rc < 0)
		return rc;
	*ret_what = vtd_msg_name(msg.header.request);
	rc = vtd_front_handle(vhost, &msg, rc, ret_why);
	vtd_msg_done(&msg);
	note_state(vhost);
	if (rc == 0 && atomic_load(&vhost->is_memory_broken)) {
		*ret_why = "shared memory that was cut short";
		return -EPROTO;
	}
	return rc;
}

static int serve_event(struct vtd_vhost *vhost, const char **ret_what, const char **ret_why)
{
	struct pollfd fds[] = { { .fd = vhost->stop_fd, .events = POLLIN },
				{ .fd = vhost->wake_fd, .events = POLLIN },
				{ .fd = vhost->socket, .events = POLLIN },
				{ .fd = vhost->listen_fd, .events = POLLIN } };
	int rc = 0;

	if (poll(fds, ARRAY_LEN(fds), -1) < 0)
		return errno == EINTR ? 0 : -errno;
	*ret_what = *ret_why = "";
	if (fds[0].revents)
		return -ECANCELED;
	if (fds[1].revents) {
		*ret_what = "a ring";
		rc = look_at_wake(vhost, ret_why);
	}
	if (rc == 0 && fds[2].revents)
		rc = serve_message(vhost, ret_what, ret_why);
	if (rc == 0 && fds[3].revents && !fds[2].revents)
		refuse_second(vhost);
	return rc;
}

static void serve_session(struct vtd_vhost *vhost)
{
	const char *what = "", *why = "";
	int rc;

	note_connected(vhost);
	do {
		rc = serve_event(vhost, &what, &why);
	} while (rc == 0);
	if (!why)
		why = "";
	atomic_store(&vhost->is_ending, true);
	vtd_front_reset(vhost);
	atomic_store(&vhost->is_ending, false);
	close(vhost->socket);
	vhost->socket = -1;
	note_state(vhost);
	note_ended(vhost, rc, what, why);
}

static void *control_main(void *arg)
{
	struct vtd_vhost *vhost = arg;
	struct pollfd fds[] = { { .fd = vhost->stop_fd, .events = POLLIN },
				{ .fd = vhost->listen_fd, .events = POLLIN } };

	while (poll(fds, ARRAY_LEN(fds), -1) >= 0 || errno == EINTR) {
		if (fds[0].revents)
			break;
		vhost->socket = accept4(vhost->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (vhost->socket >= 0) {
			serve_session(vhost);
		} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			log_error("vtd %s: can't accept a front end: %s", vhost->name, strerror(errno));
			/* Out of descriptors: trying at once would only fill the log. */
			if (poll(fds, 1, 1000) > 0)
				break;
		}
	}
	return NULL;
}

/* ---- the socket --------------------------------------------------------------------------- */

static bool is_alive(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return true; /* it can't be told, so it is left alone */
	bool alive = connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno != ECONNREFUSED;
	close(fd);
	return alive;
}

static int make_room(const struct sockaddr_un *address, struct base_error *err)
{
	struct stat st;

	if (lstat(address->sun_path, &st) < 0)
		return base_error_set_errno(err, -errno, "socket %s", address->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return base_error_set(err, -EEXIST,
				      "socket %s: there is a file of that name; remove it or choose another",
				      address->sun_path);
	if (is_alive(address))
		return base_error_set(err, -EADDRINUSE, "socket %s: another process listens there",
				      address->sun_path);
	if (unlink(address->sun_path) < 0)
		return base_error_set_errno(err, -errno, "socket %s: can't remove what a dead process left",
					    address->sun_path);
	return 0;
}

static int open_socket(const char *path, mode_t mode, gid_t group, int *ret, struct base_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int rc = 0, fd;

	if (strlen(path) > VTD_VHOST_PATH_BYTES_MAX)
		return base_error_set(err, -EINVAL, "socket %s: a path of at most %d bytes is possible", path,
				      VTD_VHOST_PATH_BYTES_MAX);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return base_error_set_errno(err, -errno, "socket %s", path);
	/* On Linux the mode that the socket has when it is bound is the file's, less the umask: never wider. */
	(void)fchmod(fd, mode ? mode : 0600);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		rc = errno == EADDRINUSE ? make_room(&address, err)
					 : base_error_set_errno(err, -errno, "socket %s", path);
		if (rc == 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
			rc = base_error_set_errno(err, -errno, "socket %s", path);
	}
	if (rc == 0 && group != 0 && lchown(path, (uid_t)-1, group) < 0)
		rc = base_error_set_errno(err, -errno, "socket %s: can't give it to the group %u", path,
					  (unsigned)group);
	if (rc == 0 && chmod(path, mode ? mode : 0600) < 0)
		rc = base_error_set_errno(err, -errno, "socket %s: can't set its mode", path);
	if (rc == 0 && listen(fd, BACKLOG) < 0)
		rc = base_error_set_errno(err, -errno, "socket %s", path);
	if (rc < 0)
		close(fd);
	else
		*ret = fd;
	return rc;
}

/* ---- life --------------------------------------------------------------------------------- */

static void free_vhost(struct vtd_vhost *vhost)
{
	for (unsigned i = 0; vhost->rings && i < vhost->queues; i++)
		vtd_ring_done(&vhost->rings[i]);
	if (vhost->listen_fd >= 0) {
		/* In this order: once nobody listens, another daemon may put its own there. */
		unlink(vhost->socket_path);
		close(vhost->listen_fd);
	}
	if (vhost->wake_fd >= 0)
		close(vhost->wake_fd);
	if (vhost->stop_fd >= 0)
		close(vhost->stop_fd);
	pthread_mutex_destroy(&vhost->lock);
	free(vhost->rings);
	free(vhost->name);
	free(vhost->socket_path);
	free(vhost);
}

static int check_args(const struct vtd_vhost_args *args, struct base_error *err)
{
	if (args->logical_block_bytes != 0 && args->logical_block_bytes != 512 && args->logical_block_bytes != 4096)
		return base_error_set(err, -EINVAL, "vtd %s: logical blocks of %u bytes: 512 and 4096 are possible",
				      args->name, args->logical_block_bytes);
	if (args->queues > VTD_VHOST_QUEUES_MAX)
		return base_error_set(err, -EINVAL, "vtd %s: %u queues: at most %d are possible", args->name,
				      args->queues, VTD_VHOST_QUEUES_MAX);
	return 0;
}

static int fill(struct vtd_vhost *vhost, const struct vtd_vhost_args *args)
{
	unsigned threads = ioc_pool_queue_count(args->pool);

	vhost->pool = args->pool;
	vhost->bd = args->bd;
	vhost->disk = args->disk;
	vhost->logical_block_bytes = args->logical_block_bytes ? args->logical_block_bytes : VTD_SECTOR_BYTES;
	vhost->is_read_only = args->read_only;
	vhost->queues = args->queues ? args->queues : threads;
	memcpy(vhost->id, args->id, sizeof(vhost->id));
	atomic_store(&vhost->size_bytes, args->size_bytes);
	vhost->wce = true;
	vhost->name = strdup(args->name);
	vhost->socket_path = strdup(args->socket_path);
	vhost->rings = calloc(vhost->queues, sizeof(*vhost->rings));
	if (!vhost->name || !vhost->socket_path || !vhost->rings)
		return -ENOMEM;
	for (unsigned i = 0; i < vhost->queues; i++)
		vtd_ring_init(&vhost->rings[i], vhost, i,
			      ioc_pool_queue(args->pool, (args->first_queue % threads + i) % threads));
	vhost->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vhost->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return vhost->wake_fd < 0 || vhost->stop_fd < 0 ? -EMFILE : 0;
}

int vtd_vhost_start(const struct vtd_vhost_args *args, struct vtd_vhost **ret, struct base_error *err)
{
	int rc = check_args(args, err);

	if (rc < 0)
		return rc;
	struct vtd_vhost *vhost = calloc(1, sizeof(*vhost));
	if (!vhost)
		return base_error_set_errno(err, -ENOMEM, "vtd %s", args->name);
	vhost->listen_fd = vhost->wake_fd = vhost->stop_fd = vhost->socket = vhost->backend_fd = -1;
	pthread_mutex_init(&vhost->lock, NULL);
	rc = fill(vhost, args);
	if (rc < 0)
		base_error_set_errno(err, rc, "vtd %s", args->name);
	else
		rc = open_socket(args->socket_path, args->socket_mode, args->socket_group, &vhost->listen_fd,
				 err);
	if (rc == 0) {
		rc = base_thread_start(&vhost->thread, "bdfs-vhost", control_main, vhost);
		if (rc < 0)
			base_error_set_errno(err, rc, "vtd %s: can't start its thread", args->name);
	}
	if (rc < 0) {
		free_vhost(vhost);
		return rc;
	}
	*ret = vhost;
	return 0;
}

void vtd_vhost_stop(struct vtd_vhost *vhost)
{
	const uint64_t one = 1;

	(void)!write(vhost->stop_fd, &one, sizeof(one)); /* can't fail: the counter is 0 */
	pthread_join(vhost->thread, NULL);
	free_vhost(vhost);
}

/* ---- what others may ask ------------------------------------------------------------------ */

void vtd_vhost_id(struct base_uuid uuid, char ret_id[VTD_VHOST_ID_BYTES])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < VTD_VHOST_ID_BYTES; i++)
		ret_id[i] = digits[i % 2 == 0 ? uuid.b[i / 2] >> 4 : uuid.b[i / 2] & 15];
}

void vtd_vhost_info(struct vtd_vhost *vhost, struct vtd_vhost_info *ret)
{
	pthread_mutex_lock(&vhost->lock);
	*ret = vhost->info;
	pthread_mutex_unlock(&vhost->lock);
	ret->queues = vhost->queues;
}

static void add(uint64_t *sum, const _Atomic uint64_t *counter)
{
	*sum += atomic_load_explicit(counter, memory_order_relaxed);
}

void vtd_vhost_stats(const struct vtd_vhost *vhost, struct vtd_io_stats *ret)
{
	*ret = (struct vtd_io_stats){ 0 };
	for (unsigned i = 0; i < vhost->queues; i++) {
		const struct vtd_ring_stats *s = &vhost->rings[i].stats;

		add(&ret->reads, &s->reads);
		add(&ret->writes, &s->writes);
		add(&ret->flushes, &s->flushes);
		add(&ret->discards, &s->discards);
		add(&ret->write_zeroes, &s->write_zeroes);
		add(&ret->others, &s->others);
		add(&ret->read_bytes, &s->read_bytes);
		add(&ret->write_bytes, &s->write_bytes);
		add(&ret->discard_bytes, &s->discard_bytes);
		add(&ret->errors, &s->errors);
		add(&ret->resubmitted, &s->resubmitted);
		add(&ret->inflight, &s->inflight);
		for (unsigned b = 0; b < VTD_LATENCY_BUCKETS; b++)
			add(&ret->latency[b], &s->latency[b]);
	}
}

void vtd_vhost_resized(struct vtd_vhost *vhost, uint64_t size_bytes)
{
	const uint64_t one = 1;

	atomic_store(&vhost->size_bytes, size_bytes);
	atomic_store(&vhost->is_resized, true);
	(void)!write(vhost->wake_fd, &one, sizeof(one));
}
