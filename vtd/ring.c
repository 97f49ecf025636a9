/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A ring on its queue thread.
 *
 * The ring lives in turns. A turn is a message of the ring to its own queue: it
 * publishes what was completed since the last one and calls the guest once,
 * takes new chains, and then decides how to go on: with another turn at once
 * (there is more, or it polls), or asleep: kicks are asked for and the armed
 * read of the kick descriptor, or the next completion, brings the next turn.
 * While a turn is posted the queue's engine does not sleep, so that is the
 * polling; it costs no system call until the kernel has something.
 *
 * Whether to poll for a while before sleeping is learned (linger.h). An idle ring
 * costs nothing.
 *
 * A turn takes few chains. What it has taken goes to the device at its end, and
 * what is answered goes to the guest at the begin of the next: so the device and
 * the guest, each on a processor of its own, are at work while the ring takes the
 * rest.
 *
 * After a reconnect the chains of the inflight region go first, and no new one
 * is taken before all of them are answered.
 *
 * Stopping: no more chains are taken, the read of the kick descriptor is
 * cancelled, and when nothing is in flight the control thread is told.
 *
 * Failure modes: a violation by the guest, or its memory cut short: the ring
 * takes no more, and the control thread ends the session. A guest that never
 * reads its call descriptor: the write says EAGAIN, and has said enough.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"
#include "meta/io.h"
#include "vtd/internal.h"

/* Chains that a turn takes, so that nobody waits for long: the device, the guest, others of the same queue. */
#define TURN_CHAINS 4
#define STOP_LOOK_NS 20000000

static void post_turn(struct vtd_ring *ring);
static void end_stop(struct vtd_ring *ring);

/* ---- talking to the guest and to the control thread --------------------------------------- */

static void signal_fd(int fd)
{
	const uint64_t one = 1;

	if (fd >= 0)
		(void)!write(fd, &one, sizeof(one));
}

static void publish(struct vtd_ring *ring)
{
	struct vtd_vring *v = &ring->work->vring;

	ring->is_answering = false;
	vtd_vring_publish(v);
	if (vtd_vring_wants_call(v))
		signal_fd(ring->call_fd);
}

static void give_up(struct vtd_ring *ring, const char *why)
{
	const char *none = NULL;

	ring->is_broken = true;
	atomic_compare_exchange_strong(&ring->vhost->violation, &none, why);
	signal_fd(ring->err_fd);
	signal_fd(ring->vhost->wake_fd);
}

/* ---- kicks -------------------------------------------------------------------------------- */

/* Something has happened, for which the ring may have waited. */
static void note_event(struct vtd_ring *ring)
{
	if (ring->linger.is_waiting)
		vtd_linger_found(&ring->linger, ring->inflight > 0, base_clock_ns());
}

static void arm_kick(struct vtd_ring *ring)
{
	ring->kick_iov = (struct iovec){ .iov_base = &ring->kick_count, .iov_len = sizeof(ring->kick_count) };
	ring->kick_io.kind = IOC_IO_READ_ONCE;
	ring->kick_io.fd = ring->kick_fd;
	ring->kick_io.iov = &ring->kick_iov;
	ring->kick_io.iov_count = 1;
	ring->is_kick_armed = true;
	ring->engine->ops->submit(ring->engine, &ring->kick_io);
}

static void on_kick(struct ioc_io *io, int64_t result)
{
	struct vtd_ring *ring = container_of(io, struct vtd_ring, kick_io);

	ring->is_kick_armed = false;
	if (ring->is_stopping) {
		end_stop(ring);
		return;
	}
	if (result <= 0) {
		give_up(ring, "a kick descriptor that can't be read");
		return;
	}
	arm_kick(ring);
	post_turn(ring);
}

/* ---- taking chains ------------------------------------------------------------------------ */

static bool may_take(const struct vtd_ring *ring)
{
	const struct vtd_vring *v = &ring->work->vring;

	return ring->free && (v->resubmit_next < v->resubmit_count || ring->resubmitted_out == 0);
}

/* Return: 1, 0: none, -EPROTO. */
static int take_one(struct vtd_ring *ring, const char **ret_why)
{
	struct vtd_ring_work *work = ring->work;
	int rc = vtd_vring_take(&work->vring, &work->chain);

	if (rc <= 0) {
		*ret_why = work->vring.why;
		return rc;
	}
	struct vtd_io *req = ring->free;
	ring->free = req->next;
	ring->inflight++;
	vtd_count(&ring->stats.inflight, 1);
	req->token = work->chain.token;
	req->is_resubmitted = work->chain.is_resubmitted;
	if (req->is_resubmitted) {
		ring->resubmitted_out++;
		vtd_count(&ring->stats.resubmitted, 1);
	}
	rc = vtd_execute(req, ret_why);
	if (rc < 0)
		vtd_ring_abandoned(req);
	return rc < 0 ? rc : 1;
}

static unsigned take_chains(struct vtd_ring *ring)
{
	const char *why = "";
	unsigned taken = 0;

	while (taken < TURN_CHAINS && may_take(ring)) {
		if (taken == 0 && vtd_vring_has_work(&ring->work->vring))
			note_event(ring);
		int rc = take_one(ring, &why);
		if (rc < 0)
			give_up(ring, why);
		if (rc <= 0)
			break;
		taken++;
	}
	return taken;
}

/* ---- turns -------------------------------------------------------------------------------- */

static void wake_up(struct vtd_ring *ring)
{
	if (ring->is_asleep)
		vtd_vring_suppress_kicks(&ring->work->vring);
	ring->is_asleep = false;
}

/* What comes next when all that there was is taken. */
static void go_on(struct vtd_ring *ring, unsigned taken)
{
	if (!may_take(ring))
		return; /* a completion brings the next turn */
	if (taken == TURN_CHAINS || vtd_linger_wait(&ring->linger, ring->inflight > 0, base_clock_ns()) ||
	    !vtd_vring_expect_kicks(&ring->work->vring))
		post_turn(ring);
	else
		ring->is_asleep = true;
}

static void run_turn(struct base_msg *msg)
{
	struct vtd_ring *ring = container_of(msg, struct vtd_ring, turn);

	ring->is_turn_posted = false;
	publish(ring);
	if (ring->is_stopping) {
		end_stop(ring);
		return;
	}
	if (ring->is_broken)
		return;
	wake_up(ring);
	unsigned taken = take_chains(ring);
	publish(ring);
	if (!ring->is_broken)
		go_on(ring, taken);
	/* Last, as any of the above may have met it: what is there now reads as zeros, so nothing else tells. */
	if (!ring->is_broken && atomic_load_explicit(&ring->vhost->is_memory_broken, memory_order_relaxed))
		give_up(ring, "shared memory that was cut short");
}

static void post_turn(struct vtd_ring *ring)
{
	if (ring->is_turn_posted)
		return;
	ring->is_turn_posted = true;
	ioc_queue_post_own(ring->queue, &ring->turn);
}

/* ---- the end of requests ------------------------------------------------------------------ */

static void release(struct vtd_io *req)
{
	struct vtd_ring *ring = req->ring;

	req->next = ring->free;
	ring->free = req;
	ring->inflight--;
	vtd_count(&ring->stats.inflight, (uint64_t)-1);
	if (req->is_resubmitted)
		ring->resubmitted_out--;
}

void vtd_ring_answered(struct vtd_io *req, uint32_t written)
{
	struct vtd_ring *ring = req->ring;

	vtd_vring_complete(&ring->work->vring, &req->token, written);
	/* Of those that are answered together the first one is what was waited for. */
	if (!ring->is_answering)
		note_event(ring);
	ring->is_answering = true;
	release(req);
	post_turn(ring);
}

void vtd_ring_abandoned(struct vtd_io *req)
{
	struct vtd_ring *ring = req->ring;

	release(req);
	post_turn(ring);
}

/* ---- start -------------------------------------------------------------------------------- */

static void run_start(struct base_msg *msg)
{
	struct vtd_ring *ring = container_of(msg, struct vtd_ring, call);

	ring->engine = ioc_queue_engine(ring->queue);
	ring->is_stopping = ring->is_broken = false;
	ring->is_asleep = true; /* kicks may come, as far as the guest knows */
	ring->linger = (struct vtd_linger){ 0 };
	arm_kick(ring);
	/* Requests may be waiting already, and front ends differ in whether they kick then. */
	post_turn(ring);
	base_park_wake(&ring->park);
}

static void call_queue(struct vtd_ring *ring, void (*run)(struct base_msg *msg))
{
	ring->call.run = run;
	ioc_queue_post(ring->queue, &ring->call);
	base_park_wait(&ring->park, 0);
}

static int make_work(struct vtd_ring *ring)
{
	if (ring->work)
		return 0;
	struct vtd_ring_work *work =
		mmap(NULL, sizeof(*work), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (work == MAP_FAILED)
		return -ENOMEM;
	base_memory_lock(work, sizeof(*work), 0);
	ring->work = work;
	ring->free = NULL;
	for (unsigned i = 0; i < REQUESTS_MAX; i++) {
		work->requests[i].ring = ring;
		work->requests[i].next = ring->free;
		ring->free = &work->requests[i];
	}
	return 0;
}

static bool is_aligned(const void *p, uintptr_t to)
{
	return (uintptr_t)p % to == 0;
}

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EPROTO;
}

static int translate(struct vtd_ring *ring, struct vtd_vring_args *a, const char **ret_why)
{
	const struct vtd_memory *memory = &ring->vhost->memory;

	a->descriptor = vtd_memory_user(memory, ring->addr.descriptor, vtd_vring_descriptor_bytes(a->num));
	a->available = vtd_memory_user(memory, ring->addr.available, vtd_vring_available_bytes(a->packed, a->num));
	a->used = vtd_memory_user(memory, ring->addr.used, vtd_vring_used_bytes(a->packed, a->num));
	if (!a->descriptor || !a->available || !a->used)
		return refuse(ret_why, "a ring that is not all in the shared memory");
	if (!is_aligned(a->descriptor, 16) || !is_aligned(a->available, a->packed ? 4 : 2) || !is_aligned(a->used, 4))
		return refuse(ret_why, "a ring that is not aligned");
	return 0;
}

static int describe(struct vtd_ring *ring, struct vtd_vring_args *a, const char **ret_why)
{
	struct vtd_vhost *vhost = ring->vhost;

	*a = (struct vtd_vring_args){
		.packed = vhost->features >> VIRTIO_F_RING_PACKED & 1,
		.event_idx = vhost->features >> VIRTIO_RING_F_EVENT_IDX & 1,
		.indirect = vhost->features >> VIRTIO_RING_F_INDIRECT_DESC & 1,
		.num = (uint16_t)ring->num,
		.base = ring->base,
		.inflight = vtd_inflight_part(&vhost->inflight, ring->index),
		.memory = &vhost->memory,
		.dirty = &vhost->dirty,
	};
	if (!a->packed && (a->num & (a->num - 1)) != 0)
		return refuse(ret_why, "a split ring whose size is not a power of two");
	if (a->inflight && a->num > vhost->inflight.queue_size)
		return refuse(ret_why, "a ring that is larger than its part of the inflight region");
	return translate(ring, a, ret_why);
}

int vtd_ring_start(struct vtd_ring *ring, const char **ret_why)
{
	struct vtd_vring_args a;
	int rc = describe(ring, &a, ret_why);

	if (rc == 0)
		rc = make_work(ring);
	if (rc < 0)
		return rc;
	vtd_vring_open(&ring->work->vring, &a);
	call_queue(ring, run_start);
	ring->is_running = true;
	return 0;
}

/* ---- stop --------------------------------------------------------------------------------- */

static void end_stop(struct vtd_ring *ring)
{
	if (ring->inflight > 0 || ring->is_kick_armed || ring->is_turn_posted)
		return;
	publish(ring);
	atomic_store(&ring->is_stopped, true);
	base_park_wake(&ring->stop_park);
}

static void run_stop(struct base_msg *msg)
{
	struct vtd_ring *ring = container_of(msg, struct vtd_ring, call);

	ring->is_stopping = true;
	if (ring->is_kick_armed)
		ring->engine->ops->cancel(ring->engine, &ring->kick_io);
	end_stop(ring);
}

static void run_nothing(struct base_msg *msg)
{
	base_park_wake(&container_of(msg, struct vtd_ring, call)->park);
}

void vtd_ring_stop(struct vtd_ring *ring)
{
	struct vtd_vhost *vhost = ring->vhost;

	if (!ring->is_running)
		return;
	atomic_store(&ring->is_stopped, false);
	ring->call.run = run_stop;
	ioc_queue_post(ring->queue, &ring->call);
	/* A write that a full pool holds would keep the front end, and perhaps its whole machine, waiting for a
	 * minute. Others may begin to be held meanwhile, so it is said again. */
	for (;;) {
		base_park_wait(&ring->stop_park, base_clock_ns() + STOP_LOOK_NS);
		if (atomic_load(&ring->is_stopped))
			break;
		if (vhost->disk)
			meta_hold_end(ioc_pool_meta(vhost->pool), vhost->disk);
	}
	/* Once round the queue, so that it is done with the ring and what it waits on. */
	call_queue(ring, run_nothing);
	ring->is_running = false;
	ring->base = vtd_vring_base(&ring->work->vring);
}

/* ---- the rest ----------------------------------------------------------------------------- */

static void run_set_call(struct base_msg *msg)
{
	struct vtd_ring *ring = container_of(msg, struct vtd_ring, call);
	int old = ring->call_fd;

	ring->call_fd = ring->new_call_fd;
	ring->new_call_fd = old;
	/* The guest may have waited for an interrupt that went to the old one. */
	signal_fd(ring->call_fd);
	base_park_wake(&ring->park);
}

void vtd_ring_set_call(struct vtd_ring *ring, int fd)
{
	ring->new_call_fd = fd;
	if (ring->is_running) {
		call_queue(ring, run_set_call);
	} else {
		ring->new_call_fd = ring->call_fd;
		ring->call_fd = fd;
	}
	if (ring->new_call_fd >= 0)
		close(ring->new_call_fd);
	ring->new_call_fd = -1;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vtd_ring_reset(struct vtd_ring *ring)
{
	close_fd(&ring->kick_fd);
	close_fd(&ring->call_fd);
	close_fd(&ring->err_fd);
	if (ring->work)
		munmap(ring->work, sizeof(*ring->work));
	ring->work = NULL;
	ring->num = ring->base = 0;
	ring->has_addr = ring->is_enabled = false;
}

void vtd_ring_init(struct vtd_ring *ring, struct vtd_vhost *vhost, unsigned index, struct ioc_queue *queue)
{
	ring->vhost = vhost;
	ring->index = index;
	ring->queue = queue;
	ring->kick_fd = ring->call_fd = ring->err_fd = ring->new_call_fd = -1;
	ring->turn.run = run_turn;
	ring->kick_io.done = on_kick;
	base_park_init(&ring->park);
	base_park_init(&ring->stop_park);
}

void vtd_ring_done(struct vtd_ring *ring)
{
	if (!ring->vhost)
		return; /* never initialised */
	base_park_done(&ring->park);
	base_park_done(&ring->stop_park);
}
