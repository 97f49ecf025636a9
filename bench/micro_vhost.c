/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Benchmarks of virtqueues: a chain taken and given back, and a whole request of
 * a guest, from its kick to its call, without a device.
 *
 * The model: the tests' front end (tests/vhost/front.h) plays the guest; nothing
 * goes through a socket. "vring" cases take all that the guest has offered,
 * complete it and publish. "vhost" cases have a ring on the rig's queue: kick,
 * turn, request, completion, call. With one in flight each request has its kick
 * and its call; with 32 they share.
 *
 * Failure modes: a chain of another length, a status other than OK, a request
 * that is never answered are wrong results.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench/micro.h"
#include "bench/rig.h"
#include "tests/vhost/front.h"
#include "vtd/internal.h"

#define AREA_BYTES (32 * MIB)
#define PV_BYTES (128 * MIB)
#define NUM 256

struct guest {
	struct front front;
	struct vtd_memory memory;
	struct vtd_vring vring;
	struct vtd_chain chain;
	/* vhost cases */
	struct rig *rig;
	struct vtd_vhost vhost;
	struct vtd_ring ring;
	bool is_started;
	uint32_t type;
	uint64_t random, next; /* where: at random, or (filling) in order */
	bool is_ordered;
};

static int make_guest(struct guest *guest, bool packed)
{
	struct front *f = &guest->front;
	struct front_options o = { .queues = 1, .num = NUM, .packed = packed, .indirect = true, .whole = true,
				   .buffer_bytes = BLOCK_BYTES };
	int rc = front_init(f, &o);

	if (rc < 0)
		return rc;
	f->features = UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX | UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC |
		      (uint64_t)packed << VIRTIO_F_RING_PACKED;
	f->queues[0].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->queues[0].call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	guest->memory.count = 1;
	guest->memory.slots[0] = (struct vtd_slot){ .guest_addr = front_guest_addr(f, f->mem),
						    .user_addr = (uintptr_t)f->mem,
						    .size = f->mem_bytes,
						    .mapping.host = f->mem };
	return f->queues[0].kick_fd < 0 || f->queues[0].call_fd < 0 ? -EMFILE : 0;
}

static void offer(struct guest *guest, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		guest->random = guest->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		uint64_t block = guest->is_ordered ? guest->next++ : guest->random >> 32;

		front_submit(&guest->front, 0, front_slot(&guest->front, 0), guest->type,
			     block % (AREA_BYTES / BLOCK_BYTES) * 8, BLOCK_BYTES);
	}
	front_kick(&guest->front, 0);
}

/* Return: how many were answered well. */
static unsigned reap(struct guest *guest)
{
	const char *error = NULL;
	struct front_slot *slot;
	unsigned count = 0;

	while ((slot = front_complete(&guest->front, 0, &error)))
		count += *slot->status == VIRTIO_BLK_S_OK;
	return count;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void free_guest(struct guest *guest)
{
	int kick = guest->front.queues[0].kick_fd, call = guest->front.queues[0].call_fd;

	guest->front.queues[0].kick_fd = guest->front.queues[0].call_fd = -1;
	close_fd(kick);
	close_fd(call);
	front_done(&guest->front);
	free(guest);
}

/* ---- rings alone -------------------------------------------------------------------------- */

static int setup_vring(bool packed, void **ret_ctx)
{
	struct guest *guest = calloc(1, sizeof(*guest));

	if (!guest)
		return -ENOMEM;
	int rc = make_guest(guest, packed);
	if (rc < 0) {
		free_guest(guest);
		return rc;
	}
	const struct front_queue *q = &guest->front.queues[0];
	struct vtd_vring_args a = { .packed = packed, .event_idx = true, .indirect = true, .num = NUM,
				    .base = packed ? 0x80008000u : 0, .descriptor = q->desc, .available = q->driver,
				    .used = q->device, .memory = &guest->memory };
	vtd_vring_open(&guest->vring, &a);
	*ret_ctx = guest;
	return 0;
}

static int setup_split(void **ret_ctx)
{
	return setup_vring(false, ret_ctx);
}

static int setup_packed(void **ret_ctx)
{
	return setup_vring(true, ret_ctx);
}

/* What the device does with 32 chains; the only part that is counted. */
static __attribute__((noinline)) unsigned micro_vring_batch(struct guest *guest)
{
	struct vtd_token tokens[32];
	unsigned count = 0, right = 0;

	while (count < ARRAY_LEN(tokens) && vtd_vring_take(&guest->vring, &guest->chain) == 1) {
		right += guest->chain.count == 3;
		*(uint8_t *)guest->front.queues[0].slots[count].status = VIRTIO_BLK_S_OK;
		tokens[count++] = guest->chain.token;
	}
	for (unsigned i = 0; i < count; i++)
		vtd_vring_complete(&guest->vring, &tokens[i], BLOCK_BYTES + 1);
	vtd_vring_publish(&guest->vring);
	(void)vtd_vring_wants_call(&guest->vring);
	(void)vtd_vring_expect_kicks(&guest->vring);
	return right;
}

static bool run_vring(void *ctx, uint64_t calls)
{
	struct guest *guest = ctx;
	bool right = true;

	for (uint64_t left = calls; left > 0;) {
		unsigned n = (unsigned)MIN(left, (uint64_t)32);

		offer(guest, n);
		right &= micro_vring_batch(guest) == n;
		right &= reap(guest) == n;
		left -= n;
	}
	return right;
}

static void vring_done(void *ctx)
{
	free_guest(ctx);
}

const struct micro_case micro_vring_cases[] = {
	{ "vring-split", "an indirect chain taken and given back, of 32", setup_split, run_vring, vring_done, true },
	{ "vring-packed", "the same on a packed ring", setup_packed, run_vring, vring_done, true },
};
const size_t micro_vring_case_count = ARRAY_LEN(micro_vring_cases);

/* ---- whole requests ----------------------------------------------------------------------- */

static void turn(struct guest *guest)
{
	uint64_t kicks;

	if (read(guest->front.queues[0].kick_fd, &kicks, sizeof(kicks)) == (ssize_t)sizeof(kicks))
		rig_turn(guest->rig, &kicks, sizeof(kicks), sizeof(kicks));
	else
		rig_turn(guest->rig, NULL, 0, 0);
}

static bool run_batches(struct guest *guest, uint64_t calls, unsigned depth)
{
	for (uint64_t left = calls; left > 0;) {
		unsigned n = (unsigned)MIN(left, (uint64_t)depth), got = 0;

		offer(guest, n);
		for (unsigned i = 0; i < 100000 && got < n; i++) {
			turn(guest);
			got += reap(guest);
		}
		if (got != n)
			return false;
		left -= n;
	}
	return true;
}

static void start_ring(void *arg)
{
	struct guest *guest = arg;
	const char *why = "";

	guest->is_started = vtd_ring_start(&guest->ring, &why) == 0;
}

static void stop_ring(void *arg)
{
	vtd_ring_stop(&((struct guest *)arg)->ring);
}

static void vhost_done(void *ctx)
{
	struct guest *guest = ctx;

	if (guest->is_started)
		rig_call(guest->rig, stop_ring, guest);
	if (guest->vhost.rings) {
		guest->ring.kick_fd = guest->ring.call_fd = -1; /* the front end's */
		vtd_ring_reset(&guest->ring);
		vtd_ring_done(&guest->ring);
	}
	if (guest->rig)
		rig_close(guest->rig);
	free_guest(guest);
}

static void make_device(struct guest *guest)
{
	struct vtd_vhost *vhost = &guest->vhost;
	const struct front_queue *q = &guest->front.queues[0];

	vhost->pool = &guest->rig->ioc;
	vhost->bd = guest->rig->bd;
	vhost->disk = guest->rig->disk;
	vhost->logical_block_bytes = VTD_SECTOR_BYTES;
	vhost->queues = 1;
	vhost->rings = &guest->ring;
	vhost->features = guest->front.features;
	vhost->memory = guest->memory;
	vhost->wake_fd = -1;
	atomic_store(&vhost->size_bytes, AREA_BYTES);
	atomic_store(&vhost->is_write_back, true);
	vtd_ring_init(&guest->ring, vhost, 0, &guest->rig->queue);
	guest->ring.num = NUM;
	guest->ring.base = guest->front.o.packed ? 0x80008000u : 0;
	guest->ring.addr = (struct vtd_vring_addr){ .descriptor = (uintptr_t)q->desc,
						    .available = (uintptr_t)q->driver,
						    .used = (uintptr_t)q->device };
	guest->ring.kick_fd = q->kick_fd;
	guest->ring.call_fd = q->call_fd;
}

static int start_device(struct guest *guest, bool packed)
{
	int rc = make_guest(guest, packed);

	if (rc == 0)
		rc = rig_open(PV_BYTES, AREA_BYTES, &guest->rig);
	if (rc == 0)
		rc = rig_open_queue(guest->rig);
	if (rc < 0)
		return rc;
	make_device(guest);
	rig_call(guest->rig, start_ring, guest);
	guest->type = VIRTIO_BLK_T_OUT;
	guest->is_ordered = true;
	bool is_filled = guest->is_started && run_batches(guest, AREA_BYTES / BLOCK_BYTES, 32);
	guest->is_ordered = false;
	return is_filled ? 0 : -EIO;
}

static int setup_vhost(bool packed, uint32_t type, void **ret_ctx)
{
	struct guest *guest = calloc(1, sizeof(*guest));

	if (!guest)
		return -ENOMEM;
	int rc = start_device(guest, packed);
	if (rc < 0) {
		vhost_done(guest);
		return rc;
	}
	guest->type = type;
	*ret_ctx = guest;
	return 0;
}

static int setup_read(void **ret_ctx)
{
	return setup_vhost(false, VIRTIO_BLK_T_IN, ret_ctx);
}

static int setup_write(void **ret_ctx)
{
	return setup_vhost(false, VIRTIO_BLK_T_OUT, ret_ctx);
}

static int setup_read_packed(void **ret_ctx)
{
	return setup_vhost(true, VIRTIO_BLK_T_IN, ret_ctx);
}

static bool run_one(void *ctx, uint64_t calls)
{
	return run_batches(ctx, calls, 1);
}

static bool run_many(void *ctx, uint64_t calls)
{
	return run_batches(ctx, calls, 32);
}

const struct micro_case micro_vhost_cases[] = {
	{ "vhost-read-4k-d1", "4 KiB read, from kick to call", setup_read, run_one, vhost_done, true },
	{ "vhost-read-4k-d32", "the same, 32 in flight", setup_read, run_many, vhost_done, true },
	{ "vhost-write-4k-d32", "4 KiB write over valid blocks, 32 in flight", setup_write, run_many, vhost_done,
	  true },
	{ "vhost-packed-4k-d32", "4 KiB read, packed ring, 32 in flight", setup_read_packed, run_many, vhost_done,
	  true },
};
const size_t micro_vhost_case_count = ARRAY_LEN(micro_vhost_cases);
