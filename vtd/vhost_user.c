/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-user messages on a socket.
 *
 * A message is a header of 12 bytes, whose descriptors come with its first
 * byte, and a body. The table says for each request what body and how many
 * descriptors it may have; a header that says otherwise ends the connection
 * before anything more is read.
 *
 * Happy path: poll -> recvmsg of the header with descriptors -> check -> recv of
 * the body -> check of the body.
 *
 * Failure modes: more descriptors than the buffer holds (the kernel closes the
 * rest and says so: a violation); an end of file in the middle; a peer that
 * sends half a message, or does not read our answer, and then nothing for
 * STALL_MS. What came until then is closed.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vtd/vhost_user.h"

#define STALL_MS 10000

struct rule {
	const char *name;
	uint16_t size_min, size_max;
	uint8_t fds_min, fds_max;
	bool has_reply;
};

#define STATE sizeof(struct vtd_vring_state)
#define CONFIG_MAX (VTD_CONFIG_HEAD_BYTES + VTD_CONFIG_BYTES_MAX)
#define TABLE_MIN (2 * sizeof(uint32_t))
#define LOG sizeof(struct vtd_log)
#define INFLIGHT_MIN VTD_INFLIGHT_BYTES_MIN
#define INFLIGHT_MAX sizeof(struct vtd_inflight)

static const struct rule rules[VTD_REQUESTS_END] = {
	[VTD_GET_FEATURES] = { "GET_FEATURES", 0, 8, 0, 0, true },
	[VTD_SET_FEATURES] = { "SET_FEATURES", 8, 8, 0, 0, false },
	[VTD_SET_OWNER] = { "SET_OWNER", 0, 8, 0, 0, false },
	[VTD_RESET_OWNER] = { "RESET_OWNER", 0, 8, 0, 0, false },
	[VTD_SET_MEM_TABLE] = { "SET_MEM_TABLE", TABLE_MIN, sizeof(struct vtd_mem_table), 0, VTD_REGIONS_MAX, false },
	[VTD_SET_LOG_BASE] = { "SET_LOG_BASE", LOG, LOG, 1, 1, true },
	[VTD_SET_LOG_FD] = { "SET_LOG_FD", 0, 8, 0, 1, false },
	[VTD_SET_VRING_NUM] = { "SET_VRING_NUM", STATE, STATE, 0, 0, false },
	[VTD_SET_VRING_ADDR] = { "SET_VRING_ADDR", sizeof(struct vtd_vring_addr), sizeof(struct vtd_vring_addr), 0, 0,
				 false },
	[VTD_SET_VRING_BASE] = { "SET_VRING_BASE", STATE, STATE, 0, 0, false },
	[VTD_GET_VRING_BASE] = { "GET_VRING_BASE", STATE, STATE, 0, 0, true },
	[VTD_SET_VRING_KICK] = { "SET_VRING_KICK", 8, 8, 0, 1, false },
	[VTD_SET_VRING_CALL] = { "SET_VRING_CALL", 8, 8, 0, 1, false },
	[VTD_SET_VRING_ERR] = { "SET_VRING_ERR", 8, 8, 0, 1, false },
	[VTD_GET_PROTOCOL_FEATURES] = { "GET_PROTOCOL_FEATURES", 0, 8, 0, 0, true },
	[VTD_SET_PROTOCOL_FEATURES] = { "SET_PROTOCOL_FEATURES", 8, 8, 0, 0, false },
	[VTD_GET_QUEUE_NUM] = { "GET_QUEUE_NUM", 0, 8, 0, 0, true },
	[VTD_SET_VRING_ENABLE] = { "SET_VRING_ENABLE", STATE, STATE, 0, 0, false },
	[VTD_SET_BACKEND_REQ_FD] = { "SET_BACKEND_REQ_FD", 0, 8, 1, 1, false },
	[VTD_GET_CONFIG] = { "GET_CONFIG", VTD_CONFIG_HEAD_BYTES, CONFIG_MAX, 0, 0, true },
	[VTD_SET_CONFIG] = { "SET_CONFIG", VTD_CONFIG_HEAD_BYTES + 1, CONFIG_MAX, 0, 0, false },
	[VTD_GET_INFLIGHT_FD] = { "GET_INFLIGHT_FD", INFLIGHT_MIN, INFLIGHT_MAX, 0, 0, true },
	[VTD_SET_INFLIGHT_FD] = { "SET_INFLIGHT_FD", INFLIGHT_MIN, INFLIGHT_MAX, 1, 1, false },
	[VTD_RESET_DEVICE] = { "RESET_DEVICE", 0, 8, 0, 0, false },
	[VTD_GET_MAX_MEM_SLOTS] = { "GET_MAX_MEM_SLOTS", 0, 8, 0, 0, true },
	[VTD_ADD_MEM_REG] = { "ADD_MEM_REG", sizeof(struct vtd_mem_region), sizeof(struct vtd_mem_region), 1, 1,
			      false },
	/* The specification wants no descriptor here, and front ends send one. */
	[VTD_REM_MEM_REG] = { "REM_MEM_REG", sizeof(struct vtd_mem_region), sizeof(struct vtd_mem_region), 0, 1,
			      false },
};

/* ---- checks, pure ------------------------------------------------------------------------- */

static const struct rule *rule_of(uint32_t request)
{
	return request < ARRAY_LEN(rules) && rules[request].name ? &rules[request] : NULL;
}

bool vtd_msg_has_reply(uint32_t request)
{
	const struct rule *rule = rule_of(request);

	return rule && rule->has_reply;
}

const char *vtd_msg_name(uint32_t request)
{
	const struct rule *rule = rule_of(request);

	return rule ? rule->name : "an unknown request";
}

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EPROTO;
}

int vtd_msg_check(const struct vtd_header *header, unsigned fd_count, const char **ret_why)
{
	const struct rule *rule = rule_of(header->request);
	struct vtd_msg *msg = NULL;

	if ((header->flags & VTD_FLAG_VERSION_MASK) != VTD_FLAG_VERSION)
		return refuse(ret_why, "a version of the protocol that is not 1");
	if (header->flags & VTD_FLAG_REPLY)
		return refuse(ret_why, "an answer where a request belongs");
	if (header->size > sizeof(msg->body))
		return refuse(ret_why, "a body larger than any message has");
	if (!rule)
		return VTD_MSG_UNKNOWN;
	if (header->size < rule->size_min || header->size > rule->size_max)
		return refuse(ret_why, "a body of the wrong size");
	if (fd_count < rule->fds_min || fd_count > rule->fds_max)
		return refuse(ret_why, "the wrong number of descriptors");
	return 0;
}

static int check_vring_fd(const struct vtd_msg *msg, const char **ret_why)
{
	bool wants_fd = !(msg->body.u64 & VTD_VRING_NO_FD);

	if (msg->body.u64 & ~(uint64_t)(VTD_VRING_INDEX_MASK | VTD_VRING_NO_FD))
		return refuse(ret_why, "bits that mean nothing in the number of a ring");
	if (wants_fd != (msg->fd_count == 1))
		return refuse(ret_why, "the wrong number of descriptors");
	return 0;
}

static int check_config(const struct vtd_msg *msg, const char **ret_why)
{
	const struct vtd_config *config = &msg->body.config;
	uint32_t payload = msg->header.size - VTD_CONFIG_HEAD_BYTES;

	/* A GET may leave out the room for what is asked for. */
	if (config->size != payload && !(payload == 0 && msg->header.request == VTD_GET_CONFIG))
		return refuse(ret_why, "a configuration of another size than said");
	if (config->size > VTD_CONFIG_BYTES_MAX || config->offset > VTD_CONFIG_BYTES_MAX - config->size)
		return refuse(ret_why, "a range outside the configuration");
	return 0;
}

static int check_table(const struct vtd_msg *msg, const char **ret_why)
{
	const struct vtd_mem_table *table = &msg->body.table;

	if (table->count > VTD_REGIONS_MAX || table->count != msg->fd_count)
		return refuse(ret_why, "not one descriptor for each region of memory");
	if (msg->header.size < TABLE_MIN + table->count * sizeof(table->regions[0]))
		return refuse(ret_why, "a memory table that is cut off");
	return 0;
}

int vtd_msg_check_body(const struct vtd_msg *msg, const char **ret_why)
{
	switch (msg->header.request) {
	case VTD_SET_VRING_KICK:
	case VTD_SET_VRING_CALL:
	case VTD_SET_VRING_ERR:
		return check_vring_fd(msg, ret_why);
	case VTD_GET_CONFIG:
	case VTD_SET_CONFIG:
		return check_config(msg, ret_why);
	case VTD_SET_MEM_TABLE:
		return check_table(msg, ret_why);
	}
	return 0;
}

/* ---- descriptors -------------------------------------------------------------------------- */

int vtd_msg_take_fd(struct vtd_msg *msg, unsigned i)
{
	int fd = i < msg->fd_count ? msg->fds[i] : -1;

	if (fd >= 0)
		msg->fds[i] = -1;
	return fd;
}

void vtd_msg_done(struct vtd_msg *msg)
{
	for (unsigned i = 0; i < msg->fd_count; i++) {
		if (msg->fds[i] >= 0)
			close(msg->fds[i]);
		msg->fds[i] = -1;
	}
	msg->fd_count = 0;
}

/* Each descriptor that the kernel has put into this process becomes the message's, wanted or not. */
static int take_control(struct msghdr *hdr, struct vtd_msg *msg, const char **ret_why)
{
	int rc = hdr->msg_flags & MSG_CTRUNC ? refuse(ret_why, "more descriptors than any message has") : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (msg->fd_count < ARRAY_LEN(msg->fds)) {
				msg->fds[msg->fd_count++] = fd;
			} else {
				close(fd);
				rc = refuse(ret_why, "more descriptors than any message has");
			}
		}
	}
	return rc;
}

/* ---- the socket --------------------------------------------------------------------------- */

/* timeout_ms: -1 = for ever. Return: 0, -ECANCELED, -ETIMEDOUT, other negative errno. */
static int wait_for(int socket, short events, int cancel_fd, int timeout_ms)
{
	struct pollfd fds[] = { { .fd = socket, .events = events }, { .fd = cancel_fd, .events = POLLIN } };
	int rc;

	do {
		rc = poll(fds, ARRAY_LEN(fds), timeout_ms);
	} while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return -errno;
	if (rc == 0)
		return -ETIMEDOUT;
	return fds[1].revents ? -ECANCELED : 0;
}

/* Once the first byte is there. Descriptors may come with any byte, and are not wanted after the first. */
static int receive_rest(int socket, int cancel_fd, struct vtd_msg *msg, void *to, size_t bytes, const char **ret_why)
{
	while (bytes > 0) {
		union {
			char room[CMSG_SPACE(VTD_REGIONS_MAX * sizeof(int))];
			struct cmsghdr align;
		} control;
		struct iovec iov = { .iov_base = to, .iov_len = bytes };
		struct msghdr hdr = { .msg_iov = &iov,
				      .msg_iovlen = 1,
				      .msg_control = control.room,
				      .msg_controllen = sizeof(control.room) };
		unsigned had = msg->fd_count;
		ssize_t n = recvmsg(socket, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		int rc = n > 0 ? take_control(&hdr, msg, ret_why) : wait_for(socket, POLLIN, cancel_fd, STALL_MS);
		if (rc < 0)
			return rc;
		if (n > 0 && had != msg->fd_count && to != &msg->header)
			return refuse(ret_why, "descriptors in the middle of a message");
		if (n > 0) {
			to = (char *)to + n;
			bytes -= (size_t)n;
		}
	}
	return 0;
}

static int receive(int socket, int cancel_fd, struct vtd_msg *msg, const char **ret_why)
{
	int rc = wait_for(socket, POLLIN, cancel_fd, -1);

	if (rc == 0)
		rc = receive_rest(socket, cancel_fd, msg, &msg->header, sizeof(msg->header), ret_why);
	if (rc < 0)
		return rc;
	int verdict = vtd_msg_check(&msg->header, msg->fd_count, ret_why);
	if (verdict < 0)
		return verdict;
	rc = receive_rest(socket, cancel_fd, msg, &msg->body, msg->header.size, ret_why);
	if (rc < 0)
		return rc;
	return verdict == 0 ? vtd_msg_check_body(msg, ret_why) : verdict;
}

int vtd_msg_receive(int socket, int cancel_fd, struct vtd_msg *ret, const char **ret_why)
{
	memset(ret, 0, sizeof(*ret));
	*ret_why = "";
	int rc = receive(socket, cancel_fd, ret, ret_why);
	if (rc < 0)
		vtd_msg_done(ret);
	return rc;
}

int vtd_msg_reply(int socket, int cancel_fd, const struct vtd_msg *msg, size_t size, int fd)
{
	struct vtd_header header = { .request = msg->header.request,
				     .flags = VTD_FLAG_VERSION | VTD_FLAG_REPLY,
				     .size = (uint32_t)size };
	uint8_t bytes[sizeof(header) + sizeof(msg->body)];
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(header) + size };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), &msg->body, size);
	if (fd >= 0) {
		hdr.msg_control = control.room;
		hdr.msg_controllen = sizeof(control.room);
		struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	while (iov.iov_len > 0) {
		ssize_t n = sendmsg(socket, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0) {
			int rc = wait_for(socket, POLLOUT, cancel_fd, STALL_MS);
			if (rc < 0)
				return rc;
			continue;
		}
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		hdr.msg_control = NULL; /* they have gone with the first byte */
		hdr.msg_controllen = 0;
	}
	return 0;
}
