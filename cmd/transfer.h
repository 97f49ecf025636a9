/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What send and receive share: whole reads and writes of a pipe, a header as
 * text for the control socket, the path of a file in a mount, and how far it is.
 *
 * Context: a command's own process, unless a function says otherwise.
 */
#ifndef CMD_TRANSFER_H
#define CMD_TRANSFER_H

#include <limits.h>

#include "cmd/stream.h"
#include "cmd/verb.h"

/* ---- pipes -------------------------------------------------------------------------------- */

/* Reads count bytes, or up to the end. Return: how many; negative errno (-EINTR too: the user may want no more). */
MUST_CHECK ssize_t cmd_transfer_read(int fd, void *buf, size_t count);
/* Return: 0; negative errno. */
MUST_CHECK int cmd_transfer_write(int fd, const void *buf, size_t count);

/* ---- headers; any thread ------------------------------------------------------------------ */

/* The beginning of a stream as hexadecimal digits. New reference. */
json_t *cmd_transfer_header_to_json(const struct cmd_stream_header *header);
/* Back, with the state of a receiver that has taken it. Return: 0; -EBADMSG and others of the codec with err. */
MUST_CHECK int cmd_transfer_header_from_json(const json_t *text, struct cmd_stream *ret_stream,
					     struct cmd_stream_header *ret, struct base_error *err);

/* ---- files of the mount ------------------------------------------------------------------- */

/*
 * Opens MOUNTPOINT/SUFFIX and makes sure that it is the disk or snapshot with this UUID: something else may be
 * mounted over it, or it may be another mount namespace's.
 * Return: a descriptor; negative errno with err.
 */
MUST_CHECK int cmd_transfer_open(const char *mountpoint, const char *suffix, int flags, struct base_uuid uuid,
				 struct base_error *err);

/* ---- how far it is ------------------------------------------------------------------------ */

struct cmd_meter {
	struct cmd_progress *progress; /* may be NULL */
	const char *what;
	uint64_t from_bytes, to_bytes; /* of the disk */
	uint64_t started_ns, reported_ns;
};
void cmd_meter_start(struct cmd_meter *meter, struct cmd_progress *progress, const char *what, uint64_t from_bytes,
		     uint64_t to_bytes);
/* at_bytes: how far on the disk; moved_bytes: how much has passed through the pipe. Return: 0; -ECANCELED. */
MUST_CHECK int cmd_meter_report(struct cmd_meter *meter, uint64_t at_bytes, uint64_t moved_bytes);

#endif
