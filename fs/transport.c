/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE device as a source of the queue threads.
 *
 * A queue thread that reads keeps one or a few reads of the device under way in
 * its engine, each into a slot of its own. Slots are all that a request needs
 * until its answer is written, so nothing is allocated on the way; with no slot
 * free the queue does not read, and the kernel keeps what there is more. All
 * queues read and answer through the one descriptor that libfuse mounted with:
 * clones of it did not help on two cores, and libfuse answers on no other.
 *
 * An arriving request wakes every armed read of every queue, and all but one
 * have been woken for nothing. So only as many queues read as the load keeps
 * busy: the first `readers` of them. The last of these brings in the next one
 * when it has BUSY_REQUESTS in flight, and withdraws when QUIET_REQUESTS in a row
 * found it with nothing else to do. A read that is armed when its queue withdraws
 * stays so until a request comes by it.
 *
 * A slot's memory begins FS_WRITE_HEADER_BYTES before a page boundary, so that
 * the payload of a WRITE lies page-aligned, as direct I/O wants it; the answer
 * of a READ is put in the same place. The memory is touched only as far as
 * requests reach, and free slots are used newest first. Where the mount outlives
 * us (-survive) a slot is touched whole before it is used, see slot_populate().
 *
 * Happy path: armed read ends -> the next read is armed -> decode -> hot.c or a
 * control worker -> reply -> slot free.
 *
 * The end: once the mount is gone (umount, abort) a read says ENODEV. The queue
 * has all others read too, so that they hear of it, arms no more, waits for its
 * slots to come back, and reports; with the last queue fs_wait() returns.
 *
 * Failure modes: EAGAIN, EINTR and ENOENT (a request that was taken back before
 * it was read) mean read again. ENOENT on a reply: who asked is no longer there.
 * Any other error of the device ends the mount, with a line in the log.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/memory.h"
#include "fs/internal.h"
#include "fs/result.h"

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

/* Requests of one queue in flight: as many as a loop device has, and beside them all that may be held for space: so a
 * read or a discard finds a slot however many writes are held. What is beyond waits in the kernel. */
#define SLOTS (128 + IOC_SPACE_WAITS_MAX)
/* Requests in flight at which a queue is busy: it arms a second read, and the next queue is brought in. */
#define BUSY_REQUESTS 4
#define READS_QUIET 1
#define READS_BUSY 2
/* Long enough that a load that comes and goes does not have queues come and go with it. */
#define QUIET_REQUESTS 256
/* Often enough that a client which has moved is soon followed, seldom enough to cost nothing. */
#define FOLLOW_REQUESTS 256
/* Their memory is had before the mount is: enough to go on when no page is to be had. */
#define SLOTS_LOCKED 4

static void arm_reads(struct fs_queue *q);

static size_t slot_stride(const struct fs_mount *fs)
{
	return fs->page_bytes + round_up_to(FS_DATA_BYTES_MAX, fs->page_bytes);
}

static uint8_t *slot_message(const struct fs_slot *slot)
{
	return slot->data - FS_WRITE_HEADER_BYTES;
}

/* ---- slots -------------------------------------------------------------------------------- */

/*
 * Killed while the kernel copies a request into a page that is not there yet, we get no page any more, and the kernel
 * answers the request with EIO instead of keeping it for who comes after us. Into pages that are there it copies to
 * the end, whatever has become of us.
 */
static void slot_populate(const struct fs_slot *slot)
{
	size_t page = slot->q->fs->page_bytes;

	if (madvise(slot->data - page, slot_stride(slot->q->fs), MADV_POPULATE_WRITE) < 0)
		memset(slot->data - page, 0, slot_stride(slot->q->fs));
}

/* One that was never used; most never are, and cost no memory. */
static struct fs_slot *slot_make(struct fs_queue *q)
{
	struct fs_slot *slot = &q->slots[q->made];

	slot->q = q;
	slot->data = q->memory + q->made * slot_stride(q->fs) + q->fs->page_bytes;
	if (q->fs->handles)
		slot_populate(slot);
	q->made++;
	return slot;
}

static struct fs_slot *slot_take(struct fs_queue *q)
{
	struct fs_slot *slot = q->free;

	if (slot)
		q->free = slot->next_free;
	else if (q->made < SLOTS)
		slot = slot_make(q);
	if (slot)
		q->taken++;
	return slot;
}

static void report(struct fs_mount *fs)
{
	pthread_mutex_lock(&fs->lock);
	fs->queues_running--;
	pthread_cond_broadcast(&fs->ended);
	pthread_mutex_unlock(&fs->lock);
}

static void on_last(struct base_msg *msg)
{
	/* Nothing of the queue or the mount after this: the waiter may free both. */
	report(container_of(msg, struct fs_queue, last)->fs);
}

void fs_slot_put(struct fs_slot *slot)
{
	struct fs_queue *q = slot->q;

	slot->next_free = q->free;
	q->free = slot;
	q->taken--;
	if (!q->is_ending) {
		arm_reads(q);
	} else if (q->taken == 0 && !q->has_ended) {
		q->has_ended = true;
		report(q->fs);
	}
}

/* ---- replies ------------------------------------------------------------------------------ */

static void on_replied(struct ioc_io *io, int64_t result)
{
	struct fs_slot *slot = io->ctx;

	/* ENOENT: interrupted, or the mount is gone. Anything else: the kernel has refused the answer and ended
	 * the request with EIO. */
	if (result < 0 && result != -ENOENT && result != -ENODEV)
		log_error("fuse: the kernel refused a reply to operation %d of node %llu: %s", slot->request.op,
			  (unsigned long long)slot->request.node, strerror((int)-result));
	fs_slot_put(slot);
}

static void reply(struct fs_slot *slot, int error, void *body, size_t bytes)
{
	struct fs_queue *q = slot->q;

	slot->out = (struct fuse_out_header){ .len = (uint32_t)(sizeof(slot->out) + bytes),
					      .error = error,
					      .unique = slot->request.unique };
	slot->iov[0] = (struct iovec){ .iov_base = &slot->out, .iov_len = sizeof(slot->out) };
	slot->iov[1] = (struct iovec){ .iov_base = body, .iov_len = bytes };
	slot->io = (struct ioc_io){ .kind = IOC_IO_REPLY,
				    .fd = q->fs->fd,
				    .iov = slot->iov,
				    .iov_count = bytes ? 2 : 1,
				    /* With a read armed nothing waits for the slot. */
				    .may_be_late = q->reads > 0,
				    .done = on_replied,
				    .ctx = slot };
	q->engine->ops->submit(q->engine, &slot->io);
}

void fs_reply_error(struct fs_slot *slot, int result)
{
	reply(slot, fs_result_to_errno(result), NULL, 0);
}

void fs_reply_unknown(struct fs_slot *slot)
{
	reply(slot, -ENOSYS, NULL, 0);
}

void fs_reply_body(struct fs_slot *slot, void *body, size_t bytes)
{
	reply(slot, 0, body, bytes);
}

/* Requests that were read and are not answered yet. */
static unsigned in_flight(const struct fs_queue *q)
{
	return q->taken - q->reads;
}

/* ---- requests ----------------------------------------------------------------------------- */

static void pass_to_ctl(struct fs_slot *slot, size_t bytes)
{
	int rc = fs_ctl_post(slot->q->fs, slot_message(slot), bytes);

	if (rc < 0)
		fs_reply_error(slot, rc);
	else
		fs_slot_put(slot);
}

/* A client that has one request in flight at a time is served best where it runs. */
static void adapt_processor(struct fs_queue *q, const struct fs_slot *slot)
{
	q->single = in_flight(q) > 1 ? 0 : q->single + 1;
	if (q->single == FOLLOW_REQUESTS) {
		q->single = 0;
		fs_follow(slot->request.client);
	}
}

static void handle(struct fs_slot *slot, size_t bytes)
{
	int rc = fs_decode(slot_message(slot), bytes, &slot->request);

	if (rc < 0) {
		log_error("fuse: the kernel sent %zu bytes that are no request", bytes);
		fs_slot_put(slot);
	} else if (rc == FS_DECODE_BAD_BODY) {
		fs_reply_error(slot, -EINVAL);
	} else if (slot->request.op == FS_OP_OTHER) {
		pass_to_ctl(slot, bytes);
	} else {
		adapt_processor(slot->q, slot);
		fs_hot_handle(slot);
	}
}

static bool is_transient(int64_t error)
{
	return error == -EAGAIN || error == -EINTR || error == -ENOENT;
}

/* ---- who reads ---------------------------------------------------------------------------- */

static bool may_read(const struct fs_queue *q)
{
	return !q->is_ending && (q->number < atomic_load_explicit(&q->fs->readers, memory_order_relaxed) ||
				 atomic_load(&q->fs->all_read));
}

static void start_reading(struct fs_queue *q)
{
	/* The message is its own place in the mailbox: once. */
	if (!atomic_exchange(&q->start_posted, true))
		ioc_queue_post(q->queue, &q->start);
}

/* The last queue that reads brings in another one, or withdraws. After a request was read. */
static void adapt_readers(struct fs_queue *q)
{
	struct fs_mount *fs = q->fs;
	unsigned readers = atomic_load_explicit(&fs->readers, memory_order_relaxed);
	unsigned requests = in_flight(q);

	if (q->number + 1 != readers)
		return;
	q->quiet = requests > 1 ? 0 : q->quiet + 1;
	if (requests >= BUSY_REQUESTS && readers < fs->queue_count) {
		if (atomic_compare_exchange_strong(&fs->readers, &readers, readers + 1))
			start_reading(&fs->queues[readers]);
	} else if (q->quiet >= QUIET_REQUESTS && q->number > 0) {
		q->quiet = 0;
		atomic_compare_exchange_strong(&fs->readers, &readers, readers - 1);
	}
}

static void end_reading(struct fs_queue *q)
{
	q->is_ending = true;
	/* Not by `readers`: its last queue may be withdrawing just now. */
	atomic_store(&q->fs->all_read, true);
	for (unsigned i = 0; i < q->fs->queue_count; i++) {
		if (i != q->number)
			start_reading(&q->fs->queues[i]);
	}
}

static void on_read(struct ioc_io *io, int64_t result)
{
	struct fs_slot *slot = io->ctx;
	struct fs_queue *q = slot->q;

	q->reads--;
	if (result < 0) {
		if (!is_transient(result) && !q->is_ending) {
			meta_hold_stop(q->fs->meta); /* nobody is there any more for whom it could be worth it */
			if (result != -ENODEV && result != -ECONNABORTED)
				log_error("fuse: reading the device: %s; the mount ends", strerror((int)-result));
			end_reading(q);
		}
		fs_slot_put(slot);
		return;
	}
	adapt_readers(q);
	/* Armed first, so that the next request need not wait until this one is dealt with. */
	arm_reads(q);
	handle(slot, (size_t)result);
}

static void arm_read(struct fs_queue *q, struct fs_slot *slot)
{
	slot->open = NULL;
	slot->iov[0] = (struct iovec){ .iov_base = slot_message(slot), .iov_len = FS_MESSAGE_BYTES_MAX };
	slot->io = (struct ioc_io){ .kind = IOC_IO_READ_ONCE,
				    .fd = q->fs->fd,
				    .iov = slot->iov,
				    .iov_count = 1,
				    .done = on_read,
				    .ctx = slot };
	q->reads++;
	q->engine->ops->submit(q->engine, &slot->io);
}

static void arm_reads(struct fs_queue *q)
{
	while (may_read(q) && q->reads < (in_flight(q) < BUSY_REQUESTS ? READS_QUIET : READS_BUSY)) {
		struct fs_slot *slot = slot_take(q);

		if (!slot)
			return;
		arm_read(q, slot);
	}
}

static void on_start(struct base_msg *msg)
{
	struct fs_queue *q = container_of(msg, struct fs_queue, start);

	atomic_store(&q->start_posted, false);
	q->engine = ioc_queue_engine(q->queue);
	arm_reads(q);
}

/* ---- life --------------------------------------------------------------------------------- */

static int queue_init(struct fs_mount *fs, struct fs_queue *q, unsigned number)
{
	size_t stride = slot_stride(fs);

	q->fs = fs;
	q->number = number;
	q->queue = ioc_pool_queue(fs->ioc, number);
	q->start.run = on_start;
	q->last.run = on_last;
	q->slots = calloc(SLOTS, sizeof(*q->slots));
	q->memory =
	    mmap(NULL, SLOTS * stride, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (q->memory == MAP_FAILED)
		q->memory = NULL;
	if (!q->slots || !q->memory)
		return -ENOMEM;
	/* Small requests would otherwise pull in a huge page each; and the child of a fork (the probe of the mount,
	 * fusermount3) has no business with requests in flight. Both are wishes. */
	(void)madvise(q->memory, SLOTS * stride, MADV_NOHUGEPAGE);
	(void)madvise(q->memory, SLOTS * stride, MADV_DONTFORK);
	/* Those few that are taken first are there from the start. */
	base_memory_lock(q->memory, SLOTS * stride, 0);
	base_memory_lock(q->memory, SLOTS_LOCKED * stride, SLOTS_LOCKED * stride);
	return 0;
}

int fs_transport_init(struct fs_mount *fs)
{
	fs->queue_count = ioc_pool_queue_count(fs->ioc);
	fs->queues = calloc(fs->queue_count, sizeof(*fs->queues));
	if (!fs->queues)
		return -ENOMEM;
	for (unsigned i = 0; i < fs->queue_count; i++) {
		if (queue_init(fs, &fs->queues[i], i) < 0)
			return -ENOMEM;
	}
	return 0;
}

void fs_transport_start(struct fs_mount *fs)
{
	fs->queues_running = fs->queue_count;
	atomic_store(&fs->readers, 1);
	start_reading(&fs->queues[0]);
}

void fs_transport_wait(struct fs_mount *fs)
{
	pthread_mutex_lock(&fs->lock);
	while (fs->queues_running > 0)
		pthread_cond_wait(&fs->ended, &fs->lock);
	pthread_mutex_unlock(&fs->lock);
}

/* A queue that had ended may have been told to read all the same. Messages come in order: that one has gone when
 * this one has. */
static void wait_for_messages(struct fs_mount *fs)
{
	fs->queues_running = fs->queue_count;
	for (unsigned i = 0; i < fs->queue_count; i++)
		ioc_queue_post(fs->queues[i].queue, &fs->queues[i].last);
	fs_transport_wait(fs);
}

void fs_transport_done(struct fs_mount *fs)
{
	if (atomic_load(&fs->readers) > 0) /* it was started */
		wait_for_messages(fs);
	for (unsigned i = 0; fs->queues && i < fs->queue_count; i++) {
		struct fs_queue *q = &fs->queues[i];

		if (q->memory)
			munmap(q->memory, SLOTS * slot_stride(fs));
		free(q->slots);
	}
	free(fs->queues);
	fs->queues = NULL;
}
