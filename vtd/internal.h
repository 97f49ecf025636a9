/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a vhost-user-blk device: the device, its rings, its requests.
 *
 * Who owns what: the control thread of the device owns all that the front end
 * has said (features, memory, addresses, descriptors). A ring that runs belongs
 * to its queue thread (Q); the control thread changes what a ring uses only
 * while it does not run. Between the two go messages: start, stop (answered when
 * nothing of the ring is in flight), another call descriptor.
 *
 *	server.c     the socket, the control thread, the public functions
 *	front.c      what each message of the front end does
 *	inflight.c   the inflight region
 *	ring.c       a ring on its queue thread: kicks, batches
 *	linger.c     whether it looks again or sleeps
 *	execute.c    a chain becomes a request, and is carried out
 */
#ifndef VTD_INTERNAL_H
#define VTD_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/park.h"
#include "iocore/bd.h"
#include "iocore/pool.h"
#include "vtd/dirty.h"
#include "vtd/memory.h"
#include "vtd/linger.h"
#include "vtd/vhost.h"
#include "vtd/vhost_user.h"
#include "vtd/virtio_blk.h"
#include "vtd/vring.h"

/* Requests of one ring that are carried out at a time; what is beyond waits in the ring. */
#define REQUESTS_MAX 128
/* Pieces of memory of one request: its segments, more where they cross slots. */
#define IOVS_MAX 256
/* Of a chain, before it is known what it asks for. */
#define CHAIN_IOVS_MAX (VTD_CHAIN_MAX + VTD_SLOTS_MAX)

struct vtd_ring;

/* One request of the guest. Owner: the ring's Q. */
struct vtd_io {
	struct ioc_request io;
	struct vtd_ring *ring; /* const */
	struct vtd_io *next;   /* free ones */
	struct vtd_token token;
	bool is_resubmitted;
	bool is_flushed; /* the flush that follows a write without a write cache is under way */
	struct vtd_blk_request blk;
	struct vtd_blk_range ranges[VTD_RANGES_MAX];
	unsigned ranges_done;
	uint64_t bytes_done, slice_bytes;
	uint8_t *status; /* in guest memory */
	uint64_t begun_ns;
	unsigned iov_count;
	struct iovec iov[IOVS_MAX];
	struct iovec slice[IOC_SEGMENTS_MAX];
};

/* What a ring needs to run; made at its start, kept until the session ends. */
struct vtd_ring_work {
	struct vtd_vring vring;
	struct vtd_chain chain;
	unsigned out_count, in_count; /* the pieces that the device reads, and those that it writes */
	struct iovec out[CHAIN_IOVS_MAX], in[CHAIN_IOVS_MAX];
	struct vtd_io requests[REQUESTS_MAX];
};

struct vtd_ring_stats { /* written by the ring's Q, read by anyone */
	_Atomic uint64_t reads, writes, flushes, discards, write_zeroes, others, read_bytes, write_bytes,
		discard_bytes, errors, resubmitted, inflight, latency[VTD_LATENCY_BUCKETS];
};

struct vtd_ring {
	/* const */
	struct vtd_vhost *vhost;
	unsigned index;
	struct ioc_queue *queue;
	/* control thread; Q reads them while the ring runs */
	uint32_t num, base;
	struct vtd_vring_addr addr;
	bool has_addr, is_enabled, is_running;
	int kick_fd, call_fd, err_fd; /* -1: none. call_fd: changed by Q while the ring runs */
	struct vtd_ring_work *work;
	/* Q */
	struct ioc_engine *engine;
	struct vtd_io *free;
	unsigned inflight, resubmitted_out;
	bool is_stopping, is_broken, is_asleep, is_kick_armed, is_turn_posted;
	bool is_answering; /* something was answered and is not published yet */
	struct ioc_io kick_io;
	struct iovec kick_iov;
	uint64_t kick_count;
	struct vtd_linger linger;
	struct base_msg turn;
	/* a call from the control thread to Q */
	struct base_msg call;
	struct base_park park;
	struct base_park stop_park;
	_Atomic bool is_stopped;
	int new_call_fd;
	struct vtd_ring_stats stats;
};

struct vtd_inflight_map {
	struct vtd_mapping mapping; /* map NULL: none */
	unsigned queues, queue_size;
	_Atomic uint8_t *write_back; /* the byte behind the queues' parts that outlives us; NULL: none */
};

struct vtd_vhost {
	/* const */
	struct ioc_pool *pool;
	struct ioc_bd *bd;
	struct meta_disk *disk; /* or NULL */
	char *name, *socket_path;
	uint32_t logical_block_bytes;
	char id[VTD_VHOST_ID_BYTES];
	bool is_read_only;
	unsigned queues;
	struct vtd_ring *rings;
	int listen_fd, wake_fd, stop_fd; /* eventfds: something to look at; the end (stays readable) */
	pthread_t thread;
	/* any thread */
	_Atomic uint64_t size_bytes;
	_Atomic bool is_resized;
	_Atomic bool is_write_back;      /* what the guest chose, and may choose */
	_Atomic bool is_memory_broken;   /* shared memory was cut short */
	_Atomic bool is_ending;          /* the session: long requests stop where they are, unanswered */
	_Atomic(const char *) violation; /* by a ring, a static text */
	/* control thread */
	int socket; /* -1: nobody is connected */
	uint64_t features, protocol_features;
	struct vtd_memory memory;
	struct vtd_dirty dirty;
	struct vtd_inflight_map inflight;
	int backend_fd;
	bool wce; /* of the configuration space */
	/* lock: for vtd_vhost_info */
	pthread_mutex_t lock;
	struct vtd_vhost_info info;
};

/* One writer, so no locked instruction. */
static inline void vtd_count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* ---- ring.c. The control thread calls these ----------------------------------------------- */

void vtd_ring_init(struct vtd_ring *ring, struct vtd_vhost *vhost, unsigned index, struct ioc_queue *queue);
void vtd_ring_done(struct vtd_ring *ring);
/* Everything is set, memory is mapped, the ring does not run. Return: 0; -EPROTO (ret_why); -ENOMEM. */
MUST_CHECK int vtd_ring_start(struct vtd_ring *ring, const char **ret_why);
/* Waits until nothing of the ring is in flight; ring->base is where it stands then. */
void vtd_ring_stop(struct vtd_ring *ring);
/* fd becomes the ring's; -1: none. */
void vtd_ring_set_call(struct vtd_ring *ring, int fd);
/* Not running: descriptors closed, memory freed, as it was at first. */
void vtd_ring_reset(struct vtd_ring *ring);

/* ---- ring.c and execute.c, Q -------------------------------------------------------------- */

/* A chain was answered; req is free. */
void vtd_ring_answered(struct vtd_io *req, uint32_t written);
/* A request that stays unanswered, as the session ends: the inflight region keeps it. */
void vtd_ring_abandoned(struct vtd_io *req);
/* Carries out ring->work->chain in req. Return: 0: req is in hand or answered; -EPROTO (ret_why): req is untouched.
 */
MUST_CHECK int vtd_execute(struct vtd_io *req, const char **ret_why);

/* ---- inflight.c, control thread ----------------------------------------------------------- */

/* A new region for GET_INFLIGHT_FD: fills d and gives a descriptor to be sent and closed. Return: 0; negative errno.
 */
MUST_CHECK int vtd_inflight_create(unsigned queues, struct vtd_inflight *d, int *ret_fd, const char **ret_why);
/* Return: 0; -EPROTO; negative errno of mmap. fd stays the caller's. */
MUST_CHECK int vtd_inflight_open(struct vtd_vhost *vhost, const struct vtd_inflight *d, int fd, const char **ret_why);
void vtd_inflight_close(struct vtd_inflight_map *inflight);
/* The part of a queue, or NULL. */
void *vtd_inflight_part(const struct vtd_inflight_map *inflight, unsigned queue);

/* ---- front.c, control thread -------------------------------------------------------------- */

/* Carries out a message, and answers it. kind: what vtd_msg_receive said. Return: 0; a negative errno (ret_why) ends
 * the session. */
MUST_CHECK int vtd_front_handle(struct vtd_vhost *vhost, struct vtd_msg *msg, int kind, const char **ret_why);
/* Tells the front end that the configuration has changed, if it wants to know. */
void vtd_front_config_changed(struct vtd_vhost *vhost);
/* Ends all rings, closes and unmaps all that the front end gave. */
void vtd_front_reset(struct vtd_vhost *vhost);
/* The features that are offered, and the protocol's. */
uint64_t vtd_front_features(const struct vtd_vhost *vhost);
uint64_t vtd_front_protocol_features(void);

#endif
