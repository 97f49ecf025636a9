/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end of our tests: protocol and rings. See front.h.
 *
 * Written against the specifications and not against vtd/, so that a
 * misunderstanding there does not meet the same one here; only the numbers in
 * vtd/proto.h are shared.
 */
#include "tests/vhost/front.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define GUEST_BASE UINT64_C(0x100000000)
#define PAGE 4096u
#define BIT(n) (UINT64_C(1) << (n))

/* ---- guest memory ------------------------------------------------------------------------- */

uint64_t front_guest_addr(const struct front *f, const void *p)
{
	return GUEST_BASE + (uint64_t)((const uint8_t *)p - f->mem);
}

static void *carve(struct front *f, size_t *at, size_t bytes, size_t align)
{
	*at = round_up_to(*at, align);
	void *p = f->mem + *at;
	*at += bytes;
	return p;
}

static void lay_out(struct front *f, size_t *at)
{
	for (unsigned q = 0; q < f->o.queues; q++) {
		struct front_queue *queue = &f->queues[q];

		queue->num = queue->free_descs = f->o.num;
		queue->avail_wrap = queue->used_wrap = true;
		queue->desc = carve(f, at, f->o.num * 16, PAGE);
		queue->driver = carve(f, at, 6 + f->o.num * 2, PAGE);
		queue->device = carve(f, at, 6 + f->o.num * 8, PAGE);
		for (unsigned i = 0; i < f->o.num / FRONT_CHAIN; i++) {
			struct front_slot *slot = &queue->slots[i];

			slot->header = carve(f, at, sizeof(*slot->header), 16);
			slot->status = carve(f, at, 1, 1);
			slot->table = carve(f, at, FRONT_CHAIN * sizeof(*slot->table), 16);
		}
	}
	*at = round_up_to(*at, PAGE);
	for (unsigned q = 0; q < f->o.queues; q++)
		for (unsigned i = 0; i < f->o.num / FRONT_CHAIN; i++)
			f->queues[q].slots[i].buffer = carve(f, at, f->o.buffer_bytes, PAGE);
}

int front_init(struct front *f, const struct front_options *o)
{
	size_t bytes = 0;

	*f = (struct front){ .o = *o, .socket = -1, .mem_fd = -1, .inflight_fd = -1 };
	if (o->queues > FRONT_QUEUES_MAX || o->num > FRONT_NUM_MAX || o->num < FRONT_CHAIN)
		return -EINVAL;
	for (unsigned q = 0; q < o->queues; q++)
		f->queues[q].kick_fd = f->queues[q].call_fd = -1;
	lay_out(f, &bytes); /* from NULL: only for the size */
	f->mem_bytes = round_up_to(bytes, 2 * PAGE);
	f->mem_fd = memfd_create("guest", MFD_CLOEXEC);
	if (f->mem_fd < 0 || ftruncate(f->mem_fd, (off_t)f->mem_bytes) < 0)
		return -errno;
	f->mem = mmap(NULL, f->mem_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->mem_fd, 0);
	if (f->mem == MAP_FAILED)
		return -errno;
	bytes = 0;
	lay_out(f, &bytes);
	return 0;
}

void front_done(struct front *f)
{
	front_disconnect(f);
	if (f->inflight_fd >= 0)
		close(f->inflight_fd);
	if (f->mem && f->mem != MAP_FAILED)
		munmap(f->mem, f->mem_bytes);
	if (f->mem_fd >= 0)
		close(f->mem_fd);
}

/* ---- messages ----------------------------------------------------------------------------- */

int front_send(struct front *f, uint32_t request, uint32_t flags, const void *body, uint32_t bytes, const int *fds,
	       unsigned fd_count)
{
	struct vtd_header header = { .request = request, .flags = VTD_FLAG_VERSION | flags, .size = bytes };
	union {
		char room[CMSG_SPACE(32 * sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov[2] = { { &header, sizeof(header) }, { (void *)(uintptr_t)body, bytes } };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = bytes ? 2 : 1 };

	if (fd_count > 0) {
		hdr.msg_control = control.room;
		hdr.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	ssize_t n = sendmsg(f->socket, &hdr, MSG_NOSIGNAL);
	return n < 0 ? -errno : n == (ssize_t)(sizeof(header) + bytes) ? 0 : -EIO;
}

int front_receive(struct front *f, uint32_t request, void *body, uint32_t bytes_max, int *ret_fd)
{
	struct vtd_header header;
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { &header, sizeof(header) };
	struct msghdr hdr = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control)
	};
	ssize_t n = recvmsg(f->socket, &hdr, MSG_CMSG_CLOEXEC | MSG_WAITALL);

	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
	if (c && ret_fd)
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	if (header.request != request || !(header.flags & VTD_FLAG_REPLY) || header.size > bytes_max)
		return -EPROTO;
	n = header.size ? recv(f->socket, body, header.size, MSG_WAITALL) : 0;
	return n == (ssize_t)header.size ? 0 : -ECONNRESET;
}

int front_call_u64(struct front *f, uint32_t request, uint64_t *ret)
{
	int rc = front_send(f, request, 0, NULL, 0, NULL, 0);

	return rc < 0 ? rc : front_receive(f, request, ret, sizeof(*ret), NULL);
}

/* With an acknowledgement, so that an error is found where it is made. */
static int tell(struct front *f, uint32_t request, const void *body, uint32_t bytes, const int *fds,
		unsigned fd_count)
{
	bool ack = f->protocol_features & BIT(VTD_PROTOCOL_F_REPLY_ACK);
	uint64_t bad = 0;
	int rc = front_send(f, request, ack ? VTD_FLAG_NEED_REPLY : 0, body, bytes, fds, fd_count);

	if (rc == 0 && ack)
		rc = front_receive(f, request, &bad, sizeof(bad), NULL);
	return rc < 0 ? rc : bad ? -EPROTO : 0;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int front_open_socket(struct front *f, unsigned timeout_ms)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 30 };
	uint64_t end = now_ms() + timeout_ms;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->o.socket_path);
	for (;;) {
		f->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (f->socket < 0)
			return -errno;
		if (connect(f->socket, (struct sockaddr *)&address, sizeof(address)) == 0)
			break;
		int error = errno;
		close(f->socket);
		f->socket = -1;
		if (now_ms() >= end)
			return -error;
		poll(NULL, 0, 2);
	}
	setsockopt(f->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return 0;
}

int front_negotiate(struct front *f)
{
	uint64_t offered, wanted = BIT(32) | BIT(VTD_F_PROTOCOL_FEATURES) | BIT(VIRTIO_BLK_F_FLUSH) |
				   BIT(VIRTIO_BLK_F_MQ) | BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES) |
				   f->o.extra_features;
	int rc = front_call_u64(f, VTD_GET_FEATURES, &offered);

	if (rc == 0)
		rc = front_call_u64(f, VTD_GET_PROTOCOL_FEATURES, &f->protocol_features);
	if (rc < 0)
		return rc;
	if (f->o.no_inflight)
		f->protocol_features &= ~BIT(VTD_PROTOCOL_F_INFLIGHT_SHMFD);
	if (f->o.packed)
		wanted |= BIT(34);
	if (f->o.indirect)
		wanted |= BIT(VIRTIO_RING_F_INDIRECT_DESC);
	if (!f->o.no_event_idx)
		wanted |= BIT(VIRTIO_RING_F_EVENT_IDX);
	f->features = offered & wanted;
	rc = front_send(f, VTD_SET_PROTOCOL_FEATURES, 0, &f->protocol_features, 8, NULL, 0);
	if (rc == 0)
		rc = tell(f, VTD_SET_OWNER, NULL, 0, NULL, 0);
	if (rc == 0)
		rc = tell(f, VTD_SET_FEATURES, &f->features, 8, NULL, 0);
	struct vtd_config config = { .size = sizeof(f->config) };
	if (rc == 0 && f->protocol_features & BIT(VTD_PROTOCOL_F_CONFIG)) {
		rc = front_send(f, VTD_GET_CONFIG, 0, &config, VTD_CONFIG_HEAD_BYTES + config.size, NULL, 0);
		if (rc == 0)
			rc = front_receive(f, VTD_GET_CONFIG, &config, sizeof(config), NULL);
		memcpy(&f->config, config.bytes, sizeof(f->config));
	}
	return rc;
}

int front_share_memory(struct front *f)
{
	size_t half = f->mem_bytes / 2;
	struct vtd_mem_table table = { .count = 2,
				       .regions = { { GUEST_BASE, half, (uintptr_t)f->mem, 0 },
						    { GUEST_BASE + half, half, (uintptr_t)f->mem + half, half } } };
	int fds[2] = { f->mem_fd, f->mem_fd };

	return tell(f, VTD_SET_MEM_TABLE, &table, 8 + 2 * sizeof(table.regions[0]), fds, 2);
}

static int share_inflight(struct front *f)
{
	int rc = 0;

	if (!(f->protocol_features & BIT(VTD_PROTOCOL_F_INFLIGHT_SHMFD)))
		return 0;
	if (f->inflight_fd < 0) {
		f->inflight = (struct vtd_inflight){ .num_queues = (uint16_t)f->o.queues,
						     .queue_size = (uint16_t)(f->o.num >> f->o.small_inflight) };
		rc = front_send(f, VTD_GET_INFLIGHT_FD, 0, &f->inflight, sizeof(f->inflight), NULL, 0);
		if (rc == 0)
			rc = front_receive(f, VTD_GET_INFLIGHT_FD, &f->inflight, sizeof(f->inflight),
					   &f->inflight_fd);
	}
	return rc < 0 ? rc : tell(f, VTD_SET_INFLIGHT_FD, &f->inflight, sizeof(f->inflight), &f->inflight_fd, 1);
}

int front_start_queue(struct front *f, unsigned q)
{
	struct front_queue *queue = &f->queues[q];
	struct vtd_vring_state state = { .index = q, .num = queue->num };
	struct vtd_vring_addr addr = { .index = q,
				       .descriptor = (uintptr_t)queue->desc,
				       .available = (uintptr_t)queue->driver,
				       .used = (uintptr_t)queue->device };
	uint64_t index = q;
	int rc;

	if (queue->kick_fd < 0)
		queue->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->call_fd < 0)
		queue->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = tell(f, VTD_SET_VRING_NUM, &state, sizeof(state), NULL, 0);
	/* After a crash nobody knows the true base but the inflight region; the first time this is right. */
	state.num = f->o.packed ? 0x80008000u : 0;
	if (rc == 0)
		rc = tell(f, VTD_SET_VRING_BASE, &state, sizeof(state), NULL, 0);
	if (rc == 0)
		rc = tell(f, VTD_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
	if (rc == 0)
		rc = tell(f, VTD_SET_VRING_CALL, &index, sizeof(index), &queue->call_fd, 1);
	if (rc == 0)
		rc = tell(f, VTD_SET_VRING_KICK, &index, sizeof(index), &queue->kick_fd, 1);
	state.num = 1;
	return rc < 0 ? rc : tell(f, VTD_SET_VRING_ENABLE, &state, sizeof(state), NULL, 0);
}

int front_connect(struct front *f, unsigned timeout_ms)
{
	uint64_t end = now_ms() + timeout_ms;
	int rc;

	do {
		front_disconnect(f);
		rc = front_open_socket(f, timeout_ms);
		if (rc == 0)
			rc = front_negotiate(f);
		if (rc == 0)
			rc = front_share_memory(f);
		if (rc == 0)
			rc = share_inflight(f);
		for (unsigned q = 0; q < f->o.queues && rc == 0; q++)
			rc = front_start_queue(f, q);
		/* The daemon may die just now, too. */
	} while ((rc == -ECONNRESET || rc == -EPIPE) && now_ms() < end);
	return rc;
}

void front_disconnect(struct front *f)
{
	if (f->socket >= 0)
		close(f->socket);
	f->socket = -1;
	for (unsigned q = 0; q < f->o.queues; q++) {
		struct front_queue *queue = &f->queues[q];

		if (queue->kick_fd >= 0)
			close(queue->kick_fd);
		if (queue->call_fd >= 0)
			close(queue->call_fd);
		queue->kick_fd = queue->call_fd = -1;
	}
}

/* ---- rings -------------------------------------------------------------------------------- */

struct piece {
	void *at;
	uint32_t len;
	uint16_t flags;
};

static unsigned pieces_of(const struct front *f, struct front_slot *slot, struct piece p[FRONT_CHAIN])
{
	bool is_in = slot->type == VIRTIO_BLK_T_IN || slot->type == VIRTIO_BLK_T_GET_ID;
	uint32_t first = slot->bytes > 4096 && !f->o.whole ? slot->bytes / 2 + 100
							   : slot->bytes; /* not on a sector's border */
	unsigned n = 0;

	p[n++] = (struct piece){ slot->header, sizeof(*slot->header), 0 };
	if (first)
		p[n++] = (struct piece){ slot->buffer, first, is_in ? VRING_DESC_F_WRITE : 0 };
	if (first < slot->bytes)
		p[n++] = (struct piece){ slot->buffer + first, slot->bytes - first, is_in ? VRING_DESC_F_WRITE : 0 };
	p[n++] = (struct piece){ slot->status, 1, VRING_DESC_F_WRITE };
	return n;
}

struct front_slot *front_slot(struct front *f, unsigned q)
{
	struct front_queue *queue = &f->queues[q];

	if (queue->free_descs < FRONT_CHAIN)
		return NULL;
	for (unsigned i = 0; i < queue->num / FRONT_CHAIN; i++)
		if (!queue->slots[i].busy)
			return &queue->slots[i];
	return NULL;
}

static void submit_split(struct front *f, struct front_queue *queue, uint16_t id, struct front_slot *slot,
			 const struct piece *p, unsigned n)
{
	struct vring_desc *d = (struct vring_desc *)queue->desc + id * FRONT_CHAIN;
	struct vring_avail *avail = queue->driver;
	struct vring_desc *to = f->o.indirect ? slot->table : d;
	uint16_t first = f->o.indirect ? 0 : (uint16_t)(id * FRONT_CHAIN);

	for (unsigned i = 0; i < n; i++)
		to[i] = (struct vring_desc){ .addr = front_guest_addr(f, p[i].at),
					     .len = p[i].len,
					     .flags = (uint16_t)(p[i].flags | (i + 1 < n ? VRING_DESC_F_NEXT : 0)),
					     .next = (uint16_t)(first + i + 1) };
	if (f->o.indirect)
		*d = (struct vring_desc){ .addr = front_guest_addr(f, slot->table),
					  .len = n * 16,
					  .flags = VRING_DESC_F_INDIRECT };
	slot->descs = FRONT_CHAIN;
	avail->ring[queue->avail % queue->num] = (uint16_t)(id * FRONT_CHAIN);
	queue->avail++;
	__atomic_store_n(&avail->idx, queue->avail, __ATOMIC_RELEASE);
}

static uint16_t avail_flags(const struct front_queue *queue)
{
	return queue->avail_wrap ? 1u << 7 : 1u << 15;
}

static void step(const struct front_queue *queue, uint16_t *pos, bool *wrap)
{
	if (++*pos == queue->num) {
		*pos = 0;
		*wrap = !*wrap;
	}
}

static void submit_packed(struct front *f, struct front_queue *queue, uint16_t id, struct front_slot *slot,
			  const struct piece *p, unsigned n)
{
	struct vring_packed_desc *ring = queue->desc, *table = (struct vring_packed_desc *)(void *)slot->table;
	uint16_t head = queue->avail, head_flags = 0;

	slot->descs = f->o.indirect ? 1 : n;
	for (unsigned i = 0; i < n && f->o.indirect; i++)
		table[i] = (struct vring_packed_desc){ .addr = front_guest_addr(f, p[i].at),
						       .len = p[i].len,
						       .flags = p[i].flags };
	for (unsigned i = 0; i < slot->descs; i++) {
		struct vring_packed_desc *d = &ring[queue->avail];
		uint16_t flags = avail_flags(queue);

		if (f->o.indirect) {
			d->addr = front_guest_addr(f, slot->table);
			d->len = n * 16;
			flags |= VRING_DESC_F_INDIRECT;
		} else {
			d->addr = front_guest_addr(f, p[i].at);
			d->len = p[i].len;
			flags |= (uint16_t)(p[i].flags | (i + 1 < n ? VRING_DESC_F_NEXT : 0));
		}
		d->id = id;
		if (i == 0)
			head_flags = flags;
		else
			d->flags = flags;
		step(queue, &queue->avail, &queue->avail_wrap);
	}
	__atomic_store_n(&ring[head].flags, head_flags, __ATOMIC_RELEASE);
}

void front_submit(struct front *f, unsigned q, struct front_slot *slot, uint32_t type, uint64_t sector,
		  uint32_t bytes)
{
	struct front_queue *queue = &f->queues[q];
	uint16_t id = (uint16_t)(slot - queue->slots);
	struct piece p[FRONT_CHAIN];

	slot->busy = true;
	slot->type = type;
	slot->sector = sector;
	slot->bytes = bytes;
	*slot->header = (struct virtio_blk_outhdr){ .type = type, .sector = sector };
	*slot->status = 0xff;
	unsigned n = pieces_of(f, slot, p);
	if (f->o.packed)
		submit_packed(f, queue, id, slot, p, n);
	else
		submit_split(f, queue, id, slot, p, n);
	queue->free_descs -= slot->descs;
	queue->slots_used++;
	queue->added = (uint16_t)(queue->added + (f->o.packed ? slot->descs : 1));
}

static bool wants_kick(struct front *f, struct front_queue *queue)
{
	bool event_idx = f->features & BIT(VIRTIO_RING_F_EVENT_IDX);
	uint16_t now = queue->avail, before = (uint16_t)(now - queue->added);

	if (f->o.packed) {
		struct vring_packed_desc_event *e = queue->device;
		uint16_t flags = __atomic_load_n(&e->flags, __ATOMIC_ACQUIRE), off = e->off_wrap;
		if (flags != 2)
			return flags == 0;
		uint16_t event = off & 0x7fff;
		if ((off >> 15) != queue->avail_wrap)
			event = (uint16_t)(event - queue->num);
		return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
	}
	struct vring_used *used = queue->device;
	if (!event_idx)
		return !(__atomic_load_n(&used->flags, __ATOMIC_ACQUIRE) & 1);
	uint16_t event = __atomic_load_n((uint16_t *)(void *)&used->ring[queue->num], __ATOMIC_ACQUIRE);
	return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

void front_kick(struct front *f, unsigned q)
{
	struct front_queue *queue = &f->queues[q];
	const uint64_t one = 1;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (queue->added && wants_kick(f, queue))
		(void)!write(queue->kick_fd, &one, sizeof(one));
	queue->added = 0;
}

static int next_used(struct front *f, struct front_queue *queue, uint32_t *ret_id)
{
	if (f->o.packed) {
		struct vring_packed_desc *d = (struct vring_packed_desc *)queue->desc + queue->used;
		uint16_t flags = __atomic_load_n(&d->flags, __ATOMIC_ACQUIRE);
		if (!!(flags & 1u << 7) != queue->used_wrap || !!(flags & 1u << 15) != queue->used_wrap)
			return 0;
		*ret_id = d->id;
		return 1;
	}
	struct vring_used *used = queue->device;
	if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == queue->used)
		return 0;
	uint32_t id = used->ring[queue->used % queue->num].id;
	*ret_id = id % FRONT_CHAIN == 0 ? id / FRONT_CHAIN : UINT32_MAX;
	return 1;
}

struct front_slot *front_complete(struct front *f, unsigned q, const char **ret_error)
{
	struct front_queue *queue = &f->queues[q];
	uint32_t id;

	if (!next_used(f, queue, &id))
		return NULL;
	if (id >= queue->num / FRONT_CHAIN || !queue->slots[id].busy) {
		*ret_error = "an answer to what is not in flight: answered twice, or never asked";
		return NULL;
	}
	struct front_slot *slot = &queue->slots[id];
	if (f->o.packed) {
		for (unsigned i = 0; i < slot->descs; i++)
			step(queue, &queue->used, &queue->used_wrap);
	} else {
		struct vring_avail *avail = queue->driver;
		queue->used++;
		__atomic_store_n(&avail->ring[queue->num], queue->used, __ATOMIC_RELEASE); /* used_event */
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	slot->busy = false;
	queue->free_descs += slot->descs;
	queue->slots_used--;
	return slot;
}

int front_wait(struct front *f, int timeout_ms)
{
	struct pollfd fds[FRONT_QUEUES_MAX + 1];
	uint64_t count;

	for (unsigned q = 0; q < f->o.queues; q++)
		fds[q] = (struct pollfd){ .fd = f->queues[q].call_fd, .events = POLLIN };
	fds[f->o.queues] = (struct pollfd){ .fd = f->socket, .events = POLLIN };
	int rc = poll(fds, f->o.queues + 1, timeout_ms);
	if (rc < 0)
		return errno == EINTR ? 0 : -errno;
	if (rc == 0)
		return -ETIMEDOUT;
	for (unsigned q = 0; q < f->o.queues; q++)
		if (fds[q].revents)
			(void)!read(f->queues[q].call_fd, &count, sizeof(count));
	return fds[f->o.queues].revents ? -ECONNRESET : 0;
}
