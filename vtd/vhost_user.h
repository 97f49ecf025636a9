/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of vhost-user messages: bytes and descriptors in, a checked message out.
 *
 * vtd_msg_check() is a pure function of a header: what a request may weigh, how
 * many descriptors it may bring, whether it has an answer of its own. It is
 * asked before the body is read, so a wrong size never decides how much is read.
 *
 * Whose the descriptors are: vtd_msg_receive() gives them to the message;
 * vtd_msg_take_fd() moves one out; vtd_msg_done() closes what is left. Each path
 * ends with vtd_msg_done(), so each descriptor is closed exactly once.
 *
 * Context: the control thread of one device, except vtd_msg_check: any thread.
 */
#ifndef VTD_VHOST_USER_H
#define VTD_VHOST_USER_H

#include <stddef.h>

#include "base/error.h"
#include "base/types.h"
#include "vtd/proto.h"

struct vtd_msg {
	struct vtd_header header;
	union {
		uint64_t u64;
		struct vtd_vring_state state;
		struct vtd_vring_addr addr;
		struct vtd_mem_table table;
		struct vtd_mem_region region;
		struct vtd_log log;
		struct vtd_config config;
		struct vtd_inflight inflight;
		uint8_t bytes[sizeof(struct vtd_config)];
	} body;
	int fds[VTD_REGIONS_MAX]; /* -1: taken */
	unsigned fd_count;        /* as they came */
};

#define VTD_MSG_UNKNOWN 1 /* not a request that is known here: refuse it, and go on */

/*
 * Does this header, with so many descriptors, begin a message that may be read?
 * Return: 0; VTD_MSG_UNKNOWN (the body is at most sizeof(body) and can be skipped); -EPROTO, ret_why says what is
 * wrong.
 */
MUST_CHECK int vtd_msg_check(const struct vtd_header *header, unsigned fd_count, const char **ret_why);
/* After the body is there: sizes that depend on it. Return: 0, -EPROTO. */
MUST_CHECK int vtd_msg_check_body(const struct vtd_msg *msg, const char **ret_why);

/* True when the request is answered by a message of its own, not by the acknowledgement of REPLY_ACK. */
bool vtd_msg_has_reply(uint32_t request);
const char *vtd_msg_name(uint32_t request); /* "GET_FEATURES", "unknown request" */

/*
 * One message from the socket. cancel_fd: readable when the caller should stop waiting.
 * Return: 0 or VTD_MSG_UNKNOWN: msg is filled, vtd_msg_done() is due; -ECANCELED; -ECONNRESET (the peer is gone);
 * -EPROTO (ret_why); -ETIMEDOUT (a half message for too long); another negative errno. After an error nothing is due.
 */
MUST_CHECK int vtd_msg_receive(int socket, int cancel_fd, struct vtd_msg *ret, const char **ret_why);
/* The answer to msg: its request, size bytes of its body, fd if not negative (stays the caller's). Return: as above.
 */
MUST_CHECK int vtd_msg_reply(int socket, int cancel_fd, const struct vtd_msg *msg, size_t size, int fd);
/* The first descriptor, now the caller's; -1 when there is none. */
int vtd_msg_take_fd(struct vtd_msg *msg, unsigned i);
void vtd_msg_done(struct vtd_msg *msg);

#endif
