/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user front end with a virtio-blk driver, in one: the client of our tests and benchmarks.
 *
 * The "guest" is a memfd, shared as two regions that touch, so that buffers may
 * cross from one to the other. It holds the rings and, for each slot, a header, a
 * status byte, an indirect table and a buffer. A request is a slot; what its
 * chain looks like (direct or indirect, in how many pieces) is the ring's matter.
 *
 * After the connection is lost front_connect() may be called again: the rings
 * are as they were, and the inflight region is handed over again.
 *
 * Context: one thread.
 */
#ifndef TESTS_VHOST_FRONT_H
#define TESTS_VHOST_FRONT_H

#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>

#include "base/types.h"
#include "vtd/proto.h"

#define FRONT_QUEUES_MAX 8
#define FRONT_NUM_MAX 256
/* Descriptors that a slot may need: header, two pieces of data, status. */
#define FRONT_CHAIN 4
#define FRONT_SLOTS_MAX (FRONT_NUM_MAX / FRONT_CHAIN)

struct front_options {
	const char *socket_path;
	unsigned queues, num; /* num: entries of a ring */
	bool packed, indirect, no_event_idx, no_inflight;
	bool small_inflight; /* asks for an inflight region for rings of half the size, as QEMU may */
	bool whole; /* data in one piece; else in two that meet inside a sector, where it is longer than a page */
	size_t buffer_bytes; /* of each slot */
	uint64_t extra_features;
};

struct front_slot {
	bool busy;
	unsigned descs;
	uint32_t type;
	uint64_t sector;
	uint32_t bytes; /* of data */
	void *user;
	/* in guest memory */
	struct virtio_blk_outhdr *header;
	uint8_t *status, *buffer;
	struct vring_desc *table;
};

struct front_queue {
	unsigned num, slots_used, free_descs;
	struct front_slot slots[FRONT_SLOTS_MAX];
	/* in guest memory */
	void *desc, *driver, *device;
	uint16_t avail, used;
	bool avail_wrap, used_wrap;
	uint16_t added; /* since the last kick */
	int kick_fd, call_fd;
};

struct front {
	struct front_options o;
	int socket, mem_fd, inflight_fd;
	uint8_t *mem;
	size_t mem_bytes;
	struct vtd_inflight inflight;
	uint64_t features, protocol_features;
	struct virtio_blk_config config;
	struct front_queue queues[FRONT_QUEUES_MAX];
};

/* Makes the guest's memory. 0 or a negative errno. */
int front_init(struct front *f, const struct front_options *o);
void front_done(struct front *f);
/* Connects and starts all rings; tries for at most timeout_ms. 0 or a negative errno. */
int front_connect(struct front *f, unsigned timeout_ms);
void front_disconnect(struct front *f);
/* Steps of front_connect, for those who want to do something else in between. */
int front_open_socket(struct front *f, unsigned timeout_ms);
int front_negotiate(struct front *f);
int front_share_memory(struct front *f);
int front_start_queue(struct front *f, unsigned q);

/* Raw messages. send: 0 or negative errno. call: sends and waits for the answer's body. */
int front_send(struct front *f, uint32_t request, uint32_t flags, const void *body, uint32_t bytes, const int *fds,
	       unsigned fd_count);
int front_receive(struct front *f, uint32_t request, void *body, uint32_t bytes_max, int *ret_fd);
int front_call_u64(struct front *f, uint32_t request, uint64_t *ret);
uint64_t front_guest_addr(const struct front *f, const void *p);

/* A free slot of a queue, or NULL. Fill its buffer, then submit; then kick. */
struct front_slot *front_slot(struct front *f, unsigned q);
void front_submit(struct front *f, unsigned q, struct front_slot *slot, uint32_t type, uint64_t sector,
		  uint32_t bytes);
void front_kick(struct front *f, unsigned q);
/* A request that was answered, its slot free again from the next front_slot() on; NULL: none.
 * *ret_error: what the device did that no device may do. */
struct front_slot *front_complete(struct front *f, unsigned q, const char **ret_error);
/* Waits until a queue has called, or the connection is lost (-ECONNRESET), or timeout_ms (-ETIMEDOUT). */
int front_wait(struct front *f, int timeout_ms);

#endif
