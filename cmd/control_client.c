/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command's side of the control socket: one connection, one request, its
 * answer.
 *
 * The path of a pool's directory may be longer than the 108 bytes that a socket
 * address holds, so the directory is opened and the address is
 * /proc/self/fd/N/control.
 *
 * Nobody listening is an ordinary outcome: no socket, or one that a daemon left
 * behind when it died. Then the pool is not mounted, and the caller opens it
 * itself.
 *
 * Failure modes: no permission (the socket is for root and the pool's owner);
 * the daemon ends between request and answer (-EPIPE: whether the request was
 * carried out is then not known, and the message says so); an answer out of
 * step with the protocol (-EBADMSG).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cmd/control.h"
#include "cmd/frame.h"
#include "cmd/text.h"

#define SEND_TIMEOUT_MS 10000

int cmd_control_address(const char *directory, struct sockaddr_un *ret, int *ret_dir_fd)
{
	int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ret->sun_family = AF_UNIX;
	snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/" CMD_CONTROL_NAME, fd);
	*ret_dir_fd = fd;
	return 0;
}

/* Return: a descriptor; negative errno. */
static int connect_to(const char *directory)
{
	struct sockaddr_un address;
	int dir_fd;
	int r = cmd_control_address(directory, &address, &dir_fd);

	if (r < 0)
		return r;

	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	r = fd < 0 ? -errno : 0;
	if (r == 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		r = -errno;
	close(dir_fd);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* Return: 0; -ECANCELED: the user wants no more of it. The daemon notices that we are gone at its next report. */
static int show_progress(struct cmd_progress *progress, const json_t *report)
{
	char what[128];

	if (!progress || cmd_text_from_json(json_object_get(report, "what"), what, sizeof(what)) < 0)
		return 0;
	return progress->report(progress, what, (uint64_t)json_integer_value(json_object_get(report, "done")),
				(uint64_t)json_integer_value(json_object_get(report, "total")))
		       ? -ECANCELED
		       : 0;
}

/* Return: 0 with *ret; negative errno. */
static int await_answer(int fd, struct cmd_progress *progress, struct cmd_outcome *ret)
{
	for (;;) {
		json_t *message;
		int r = cmd_frame_receive(fd, CMD_ANSWER_BYTES_MAX, -1, &message);

		if (r < 0)
			return r;

		const json_t *report = json_object_get(message, "progress"),
			     *event = json_object_get(message, "event");

		if (report)
			r = show_progress(progress, report);
		else if (event)
			r = progress && progress->event && progress->event(progress, event) ? -ECANCELED : 0;
		else
			r = cmd_outcome_from_json(message, ret);
		json_decref(message);
		if ((!report && !event) || r < 0)
			return r;
	}
}

int cmd_control_call(const char *directory, const char *verb, json_t *args, struct cmd_progress *progress,
		     struct cmd_outcome *ret, struct base_error *err)
{
	int fd = connect_to(directory);

	if (fd == -ENOENT || fd == -ECONNREFUSED || fd == -ENOTDIR)
		return CMD_NO_DAEMON;
	if (fd == -EACCES || fd == -EPERM)
		return base_error_set(err, -EACCES,
				      "the pool in %s belongs to another user: ask as that user or as root", directory);
	if (fd < 0)
		return base_error_set_errno(err, fd, "can't reach the daemon of the pool in %s", directory);

	json_t *request = json_pack("{s:s, s:O}", "verb", verb, "args", args);
	/* A server that turns us away answers and closes before it reads: its answer tells more than our EPIPE. */
	int sent = cmd_frame_send(fd, request, SEND_TIMEOUT_MS);
	int r = sent == 0 || sent == -EPIPE ? await_answer(fd, progress, ret) : sent;

	json_decref(request);
	close(fd);
	if (r == -ECANCELED)
		return base_error_set(err, r, "interrupted");
	if (r == -ENODATA || r == -EPIPE)
		return base_error_set(
			err, -EPIPE,
			"the daemon of the pool in %s ended before it answered, so it is not known whether this "
			"was done; its log is %s/log",
			directory, directory);
	if (r < 0)
		return base_error_set_errno(err, r, "no proper answer from the daemon of the pool in %s", directory);
	return 0;
}
