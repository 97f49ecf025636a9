/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Framing of the control protocol.
 *
 * A frame is a length and a JSON object. One deadline covers the whole frame,
 * both ways, so a peer that sends a byte a second, or reads none, costs its
 * counterpart a bounded time. The descriptor may be blocking or not: each step
 * polls first and then moves what is there with MSG_DONTWAIT.
 *
 * A length is only a claim. It is refused above the receiver's bound, and below
 * that memory grows with what really arrived (64 KiB at first, then doubling),
 * so a claim alone allocates nothing.
 *
 * Numbers in JSON are 64-bit signed here, which holds every size in bytes up to
 * 2^63 - 1; keys that occur twice are refused, since two readers might take
 * different ones.
 *
 * Failure modes: listed at the declarations. All of them end the connection:
 * after half a frame there is no way back into step.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/types.h"
#include "cmd/frame.h"

#define FIRST_ROOM_BYTES (64 * KIB)
#define FOREVER_NS INT64_MAX

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t deadline_after(int timeout_ms)
{
	return timeout_ms < 0 ? FOREVER_NS : now_ns() + (int64_t)timeout_ms * 1000000;
}

/* Waits until fd is ready for events. Return: 0; -ETIMEDOUT; other negative errno. */
static int wait_ready(int fd, short events, int64_t deadline_ns)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	for (;;) {
		int64_t left_ns = deadline_ns == FOREVER_NS ? 0 : deadline_ns - now_ns();
		struct timespec left = { .tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000 };

		if (left_ns < 0)
			return -ETIMEDOUT;

		int r = ppoll(&pfd, 1, deadline_ns == FOREVER_NS ? NULL : &left, NULL);

		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
	}
}

static int send_all(int fd, const char *bytes, size_t count, int64_t deadline_ns)
{
	while (count > 0) {
		int r = wait_ready(fd, POLLOUT, deadline_ns);

		if (r < 0)
			return r;

		ssize_t n = send(fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return errno == ECONNRESET ? -EPIPE : -errno;
		bytes += n;
		count -= (size_t)n;
	}
	return 0;
}

int cmd_frame_send(int fd, const json_t *message, int timeout_ms)
{
	int64_t deadline_ns = deadline_after(timeout_ms);
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;

	if (!text)
		return -ENOMEM;

	size_t count = strlen(text);
	uint32_t length = htole32((uint32_t)count);
	int r = count > UINT32_MAX ? -EMSGSIZE : send_all(fd, (const char *)&length, sizeof(length), deadline_ns);

	if (r == 0)
		r = send_all(fd, text, count, deadline_ns);
	free(text);
	return r;
}

/* Return: how many bytes came, 0 at the end of the stream; negative errno. */
static ssize_t receive_some(int fd, char *bytes, size_t count, int64_t deadline_ns)
{
	for (;;) {
		int r = wait_ready(fd, POLLIN, deadline_ns);

		if (r < 0)
			return r;

		ssize_t n = recv(fd, bytes, count, MSG_DONTWAIT);

		if (n >= 0)
			return n;
		if (errno == ECONNRESET)
			return 0;
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
}

static int receive_length(int fd, int64_t deadline_ns, uint32_t *ret)
{
	char bytes[sizeof(uint32_t)];
	uint32_t length;

	for (size_t used = 0; used < sizeof(bytes);) {
		ssize_t n = receive_some(fd, bytes + used, sizeof(bytes) - used, deadline_ns);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return used ? -EPIPE : -ENODATA;
		used += (size_t)n;
	}
	memcpy(&length, bytes, sizeof(length));
	*ret = le32toh(length);
	return 0;
}

static int receive_body(int fd, size_t length, int64_t deadline_ns, char **ret)
{
	size_t room = 0, used = 0;
	char *bytes = NULL;

	while (used < length) {
		if (used == room) {
			room = MIN(length, MAX(2 * room, FIRST_ROOM_BYTES));

			char *grown = realloc(bytes, room);

			if (!grown) {
				free(bytes);
				return -ENOMEM;
			}
			bytes = grown;
		}

		ssize_t n = receive_some(fd, bytes + used, room - used, deadline_ns);

		if (n <= 0) {
			free(bytes);
			return n < 0 ? (int)n : -EPIPE;
		}
		used += (size_t)n;
	}
	*ret = bytes;
	return 0;
}

int cmd_frame_receive(int fd, size_t bytes_max, int timeout_ms, json_t **ret)
{
	int64_t deadline_ns = deadline_after(timeout_ms);
	char *bytes = NULL;
	uint32_t length = 0;
	int r = receive_length(fd, deadline_ns, &length);

	if (r < 0)
		return r;
	if (length == 0 || length > bytes_max)
		return -EMSGSIZE;
	r = receive_body(fd, length, deadline_ns, &bytes);
	if (r < 0)
		return r;

	json_t *message = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, NULL);

	free(bytes);
	if (!json_is_object(message)) {
		json_decref(message);
		return -EBADMSG;
	}
	*ret = message;
	return 0;
}
