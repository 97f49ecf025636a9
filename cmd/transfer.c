/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts that send and receive have in common.
 *
 * The bytes of a stream go through the command, never through the daemon: a
 * pipe may stand still for hours, and its other end may be anything. In a
 * mounted pool the command reads and writes the mount's files like any other
 * program; what only the daemon can say (which snapshot, what differs) or do
 * (make, name) goes over the control socket.
 *
 * The header crosses the socket as the hexadecimal digits of its stream form,
 * so the daemon judges it by the codec as it would a stream, and there is no
 * second form of it.
 *
 * Failure modes: a pipe that breaks is an errno; a path in the mount that does
 * not lead to the disk it should (mounted over, another namespace, no right to
 * enter) says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/park.h"
#include "base/units.h"
#include "base/uuid.h"
#include "cmd/transfer.h"

#define REPORT_NS UINT64_C(100000000)

ssize_t cmd_transfer_read(int fd, void *buf, size_t count)
{
	size_t used = 0;

	while (used < count) {
		ssize_t n = read(fd, (char *)buf + used, count - used);

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	return (ssize_t)used;
}

int cmd_transfer_write(int fd, const void *buf, size_t count)
{
	for (size_t used = 0; used < count;) {
		ssize_t n = write(fd, (const char *)buf + used, count - used);

		if (n < 0)
			return -errno;
		used += (size_t)n;
	}
	return 0;
}

/* ---- headers ------------------------------------------------------------------------------ */

json_t *cmd_transfer_header_to_json(const struct cmd_stream_header *header)
{
	char text[2 * CMD_STREAM_BEGIN_BYTES_MAX + 1];
	uint8_t bytes[CMD_STREAM_BEGIN_BYTES_MAX];
	struct cmd_stream stream;
	size_t count = cmd_stream_begin(&stream, header, bytes);

	for (size_t i = 0; i < count; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

static int digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* Return: how many bytes; 0: no such text. */
static size_t parse_hex(const char *text, uint8_t bytes[CMD_STREAM_BEGIN_BYTES_MAX])
{
	size_t count = text ? strlen(text) / 2 : 0;

	if (count > CMD_STREAM_BEGIN_BYTES_MAX || !text || strlen(text) % 2)
		return 0;
	for (size_t i = 0; i < count; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return 0;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return count;
}

int cmd_transfer_header_from_json(const json_t *text, struct cmd_stream *ret_stream, struct cmd_stream_header *ret,
				  struct base_error *err)
{
	uint8_t bytes[CMD_STREAM_BEGIN_BYTES_MAX];
	const uint8_t *head = bytes + CMD_STREAM_MAGIC_BYTES;
	size_t count = parse_hex(json_string_value(text), bytes);
	struct cmd_stream_record record;
	int r;

	if (count < CMD_STREAM_MAGIC_BYTES + CMD_STREAM_HEAD_BYTES)
		return base_error_set(err, -EBADMSG, "no header of a stream");
	r = cmd_stream_start(ret_stream, bytes, err);
	if (r == 0)
		r = cmd_stream_take_head(ret_stream, head, &record, err);
	if (r == 0 && count != CMD_STREAM_MAGIC_BYTES + CMD_STREAM_HEAD_BYTES + record.payload_bytes)
		r = base_error_set(err, -EBADMSG, "no whole header of a stream");
	return r < 0 ? r : cmd_stream_take_payload(ret_stream, head, &record, head + CMD_STREAM_HEAD_BYTES, ret, err);
}

/* ---- files of the mount ------------------------------------------------------------------- */

static bool has_uuid(int fd, struct base_uuid uuid)
{
	char text[BASE_UUID_TEXT_BYTES] = "";
	struct base_uuid found;

	return fgetxattr(fd, "user.bdfs.uuid", text, sizeof(text) - 1) > 0 && base_uuid_parse(text, &found) == 0 &&
	       base_uuid_equal(found, uuid);
}

int cmd_transfer_open(const char *mountpoint, const char *suffix, int flags, struct base_uuid uuid,
		      struct base_error *err)
{
	char path[PATH_MAX];
	int fd, n = snprintf(path, sizeof(path), "%s/%s", mountpoint, suffix);

	if (n < 0 || (size_t)n >= sizeof(path))
		return base_error_set(err, -ENAMETOOLONG, "%s/%s: the path is too long", mountpoint, suffix);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0 && errno == EACCES)
		return base_error_set(err, -EACCES,
				      "%s: may not be opened: ask as the user who mounted the pool, or mount it with "
				      "-allow-other",
				      path);
	if (fd < 0)
		return base_error_set_errno(err, -errno, "%s", path);
	if (!has_uuid(fd, uuid)) {
		close(fd);
		return base_error_set(err, -ESTALE,
				      "%s: is not what the daemon has under that name: is something mounted over it?",
				      path);
	}
	return fd;
}

/* ---- how far it is ------------------------------------------------------------------------ */

void cmd_meter_start(struct cmd_meter *meter, struct cmd_progress *progress, const char *what, uint64_t from_bytes,
		     uint64_t to_bytes)
{
	*meter = (struct cmd_meter){ .progress = progress,
				     .what = what,
				     .from_bytes = from_bytes,
				     .to_bytes = to_bytes,
				     .started_ns = base_clock_ns() };
}

/* The time left if the rest of the disk is as what is behind us. */
static uint64_t left_s(const struct cmd_meter *meter, uint64_t at_bytes, uint64_t elapsed_ns)
{
	double done = (double)(at_bytes - meter->from_bytes), all = (double)(meter->to_bytes - meter->from_bytes);

	return done > 0 ? (uint64_t)((double)elapsed_ns / 1e9 * (all - done) / done) : 0;
}

int cmd_meter_report(struct cmd_meter *meter, uint64_t at_bytes, uint64_t moved_bytes)
{
	char text[320], moved[BASE_SIZE_TEXT_BYTES], rate[BASE_SIZE_TEXT_BYTES];
	uint64_t now = base_clock_ns(), elapsed_ns = now - meter->started_ns, left;

	if (!meter->progress || (meter->reported_ns && now - meter->reported_ns < REPORT_NS))
		return 0;
	meter->reported_ns = now;
	left = left_s(meter, at_bytes, elapsed_ns);
	base_size_to_text(moved_bytes, moved);
	base_size_to_text((uint64_t)((double)moved_bytes * 1e9 / (double)MAX(elapsed_ns, 1)), rate);
	snprintf(text, sizeof(text), "%.120s: %s, %s/s, %llu:%02llu:%02llu left", meter->what, moved, rate,
		 (unsigned long long)(left / 3600), (unsigned long long)(left / 60 % 60),
		 (unsigned long long)(left % 60));
	return meter->progress->report(meter->progress, text, at_bytes - meter->from_bytes,
				       meter->to_bytes - meter->from_bytes)
		       ? -ECANCELED
		       : 0;
}
