/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages on a stream socket: a 32-bit little-endian length, then that many
 * bytes of JSON, which is one object.
 *
 * Context: any thread; blocks up to the given time.
 */
#ifndef CMD_FRAME_H
#define CMD_FRAME_H

#include <jansson.h>

#include "base/error.h"

#define CMD_REQUEST_BYTES_MAX (1u << 20)
/* An answer may list every disk of a pool: some 300 bytes each. */
#define CMD_ANSWER_BYTES_MAX (256u << 20)

/* timeout_ms: for the whole message; -1 = for ever. */

/* Return: 0; -ETIMEDOUT; -EPIPE (the peer is gone); -EMSGSIZE (longer than 4 GiB); -ENOMEM; other negative errno. */
MUST_CHECK int cmd_frame_send(int fd, const json_t *message, int timeout_ms);

/*
 * Return: 0; -ENODATA (the peer closed before the first byte); -EPIPE (closed in mid-message);
 * -ETIMEDOUT; -EMSGSIZE (more than bytes_max, or empty); -EBADMSG (not one JSON object); -ENOMEM.
 * After anything but 0 the stream has no next message.
 */
MUST_CHECK int cmd_frame_receive(int fd, size_t bytes_max, int timeout_ms, json_t **ret);

#endif
