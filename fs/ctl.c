/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rarer operations: from a queue thread to a control worker to libfuse.
 *
 * The message is copied, since it is short (a name, an attribute) and a slot is
 * worth 1 MiB: slots are never lent to operations that wait for a commit. In
 * the worker, libfuse parses the message and calls a handler of the ops_ files,
 * which may block and answers through libfuse.
 *
 * How many there are is bounded by the kernel: each stands for a thread that
 * waits for its answer.
 *
 * Failure modes: no memory for the copy: the operation fails with ENOMEM.
 * libfuse trusts the kernel about lengths; the header's own was checked by
 * fs_decode before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/internal.h"

struct message {
	struct fs_job job;
	struct fs_mount *fs;
	size_t bytes;
	/* One byte more than the message, 0: a name without its NUL would end there. */
	_Alignas(8) char data[];
};

/* libfuse keeps it to itself. */
static _Thread_local uint64_t unique_now;

uint64_t fs_request_unique(void)
{
	return unique_now;
}

bool fs_request_is_resent(void)
{
	return unique_now & FS_UNIQUE_RESENT;
}

static void run_message(struct fs_job *job)
{
	struct message *message = container_of(job, struct message, job);
	struct fuse_buf buf = { .mem = message->data, .size = message->bytes };
	struct fuse_in_header header;

	memcpy(&header, message->data, sizeof(header));
	unique_now = header.unique;
	fuse_session_process_buf(message->fs->session, &buf);
	free(message);
}

int fs_ctl_post(struct fs_mount *fs, const void *bytes, size_t count)
{
	struct message *message = malloc(sizeof(*message) + count + 1);

	if (!message)
		return -ENOMEM;
	message->job.run = run_message;
	message->fs = fs;
	message->bytes = count;
	memcpy(message->data, bytes, count);
	message->data[count] = '\0';
	fs_workers_post(&fs->ctl, &message->job);
	return 0;
}
