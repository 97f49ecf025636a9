/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discards and zeroes of a raw backing device.
 *
 * The kernel does them while the caller waits, for minutes where a device has to write the zeros. So each raw device
 * that can be written has a thread for them. It takes a slice of each request in turn, so that a short one does not
 * wait for a long one, and posts the request back to its queue when the last slice is done.
 *
 *	                     block device                          file
 *	discard              BLKDISCARD; contents are anyone's     punch a hole
 *	zeroes, may unmap    punch a hole, else BLKZEROOUT         punch a hole, else as below
 *	zeroes, keep space   BLKZEROOUT                            zero the range, else write zeros
 *
 * Failure modes: a device that can't discard answers -EOPNOTSUPP, by which a guest learns to leave it. Where a file
 * system can't punch or zero, zeros are written. An error ends the request; slices that are done stay done. The
 * order against writes in flight to the same range is free, as between any two requests.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "iocore/raw_internal.h"

/* Some milliseconds of a device that has to write them; a discard is one command whatever its length. */
#define ZERO_SLICE_BYTES (16 * MIB)
#define DISCARD_SLICE_BYTES (256 * MIB)
#define ZERO_WRITE_BYTES MIB

static int punch(const struct raw_disk *raw, uint64_t offset, uint64_t bytes)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(raw->handle.fd, mode, (off_t)offset, (off_t)bytes) == 0 ? 0 : -errno;
}

static int issue(const struct raw_disk *raw, unsigned long what, uint64_t offset, uint64_t bytes)
{
	uint64_t range[2] = { offset, bytes };

	return ioctl(raw->handle.fd, what, range) == 0 ? 0 : -errno;
}

static int write_zeros(struct raw_disk *raw, uint64_t offset, uint64_t bytes)
{
	if (!raw->zeros) {
		if (posix_memalign(&raw->zeros, 4096, ZERO_WRITE_BYTES) != 0) {
			raw->zeros = NULL;
			return -ENOMEM;
		}
		memset(raw->zeros, 0, ZERO_WRITE_BYTES);
	}
	while (bytes > 0) {
		ssize_t n = pwrite(raw->handle.fd, raw->zeros, MIN(bytes, (uint64_t)ZERO_WRITE_BYTES), (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		offset += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	return 0;
}

static int zero_file(struct raw_disk *raw, uint64_t offset, uint64_t bytes, bool keep_space)
{
	int mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, rc = -EOPNOTSUPP;

	if (!keep_space)
		rc = punch(raw, offset, bytes);
	if (rc == -EOPNOTSUPP)
		rc = fallocate(raw->handle.fd, mode, (off_t)offset, (off_t)bytes) == 0 ? 0 : -errno;
	return rc == -EOPNOTSUPP ? write_zeros(raw, offset, bytes) : rc;
}

static int zero_device(const struct raw_disk *raw, uint64_t offset, uint64_t bytes, bool keep_space)
{
	int rc = keep_space ? -EOPNOTSUPP : punch(raw, offset, bytes);

	return rc == -EOPNOTSUPP ? issue(raw, BLKZEROOUT, offset, bytes) : rc;
}

static int do_slice(struct ioc_request *req, uint64_t offset, uint64_t bytes)
{
	struct raw_disk *raw = raw_of(req);
	bool keep_space = req->flags & IOC_KEEP_SPACE;

	if (req->op == IOC_OP_DISCARD)
		return raw->handle.is_file ? punch(raw, offset, bytes) : issue(raw, BLKDISCARD, offset, bytes);
	return raw->handle.is_file ? zero_file(raw, offset, bytes, keep_space) :
				     zero_device(raw, offset, bytes, keep_space);
}

/* Q. */
static void run_done(struct base_msg *msg)
{
	struct ioc_request *req = container_of(msg, struct ioc_request, thin.msg);

	queue_finish(req, req->thin.error);
}

static void run_slice(struct base_msg *msg)
{
	struct ioc_request *req = container_of(msg, struct ioc_request, thin.msg);
	uint64_t most = req->op == IOC_OP_DISCARD ? DISCARD_SLICE_BYTES : ZERO_SLICE_BYTES;
	uint64_t bytes = MIN(req->length - req->thin.cursor, most);
	int rc = do_slice(req, req->offset + req->thin.cursor, bytes);

	req->thin.cursor += bytes;
	if (rc == 0 && req->thin.cursor < req->length) {
		base_mailbox_post(&raw_of(req)->box, &req->thin.msg);
		return;
	}
	req->thin.error = rc;
	req->thin.msg.run = run_done;
	base_mailbox_post(&req->queue->box, &req->thin.msg);
}

void raw_range_submit(struct ioc_request *req)
{
	count(&req->queue->counters.discards, 1);
	req->thin.cursor = 0;
	req->thin.msg.run = run_slice;
	base_mailbox_post(&raw_of(req)->box, &req->thin.msg);
}

static void *range_main(void *arg)
{
	struct raw_disk *raw = arg;

	while (!atomic_load(&raw->is_stopping))
		if (base_mailbox_run(&raw->box) == 0)
			base_park_wait(&raw->park, 0);
	base_mailbox_wait_for_producers(&raw->box);
	return NULL;
}

int raw_range_start(struct raw_disk *raw)
{
	base_park_init(&raw->park);
	base_mailbox_init(&raw->box, base_park_wake_fn, &raw->park);
	int rc = base_thread_start(&raw->thread, "bdfs-raw", range_main, raw);
	if (rc < 0)
		base_park_done(&raw->park);
	return rc;
}

void raw_range_stop(struct raw_disk *raw)
{
	atomic_store(&raw->is_stopping, true);
	base_park_wake(&raw->park);
	pthread_join(raw->thread, NULL);
	base_park_done(&raw->park);
	free(raw->zeros);
}
