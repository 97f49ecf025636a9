/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wrong rings: descriptors that point outside of the guest's memory, chains
 * without an end, indirect tables in indirect tables, memory that is cut short
 * while it is used. Each must end the connection.
 */
#include <string.h>
#include <unistd.h>

#include "tests/vhost/hostile.h"

static struct vring_desc *split_desc(unsigned i)
{
	return (struct vring_desc *)guest.queues[0].desc + i;
}

/* A chain of our own making at the ring's start, of n descriptors as given; both layouts. */
static void offer(const struct vring_desc *d, unsigned n)
{
	struct front_queue *q = &guest.queues[0];

	if (options.packed) {
		struct vring_packed_desc *ring = q->desc;
		for (unsigned i = n; i-- > 0;) {
			ring[i] = (struct vring_packed_desc){ .addr = d[i].addr, .len = d[i].len, .id = 0 };
			__atomic_store_n(&ring[i].flags, (uint16_t)(d[i].flags | 1u << 7), __ATOMIC_RELEASE);
		}
	} else {
		struct vring_avail *avail = q->driver;
		for (unsigned i = 0; i < n; i++)
			*split_desc(i) = d[i];
		avail->ring[0] = 0;
		__atomic_store_n(&avail->idx, 1, __ATOMIC_RELEASE);
	}
	hostile_kick();
}

static uint64_t addr_of(const void *p)
{
	return front_guest_addr(&guest, p);
}

static struct vring_desc header_desc(void)
{
	struct front_slot *s = hostile_slot();

	*s->header = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN };
	return (struct vring_desc){ addr_of(s->header), 16, VRING_DESC_F_NEXT, 1 };
}

/* CVE-2018-1059: the start of a buffer is mapped and its end is not. */
static void buffer_past_the_end(void)
{
	struct vring_desc d[3] = { header_desc(),
				   { addr_of(guest.mem + guest.mem_bytes - 4096), 8192,
				     VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2 },
				   { addr_of(hostile_slot()->status), 1, VRING_DESC_F_WRITE, 0 } };

	offer(d, 3);
}

static void buffer_wraps(void)
{
	struct vring_desc d[3] = { header_desc(),
				   { UINT64_MAX - 100, 8192, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2 },
				   { addr_of(hostile_slot()->status), 1, VRING_DESC_F_WRITE, 0 } };

	offer(d, 3);
}

/* CVE-2026-86566: a length is subtracted from before it is compared. */
static void no_header(void)
{
	struct vring_desc d[2] = { header_desc(), { addr_of(hostile_slot()->status), 1, VRING_DESC_F_WRITE, 0 } };

	d[0].len = 15;
	offer(d, 2);
}

static void no_status(void)
{
	struct vring_desc d[1] = { header_desc() };

	d[0].flags = 0;
	offer(d, 1);
}

static void readable_behind_writable(void)
{
	struct vring_desc d[3] = { header_desc(),
				   { addr_of(hostile_slot()->status), 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2 },
				   { addr_of(hostile_slot()->buffer), 512, 0, 0 } };

	offer(d, 3);
}

static void indirect(uint32_t len, uint16_t flags, uint64_t table)
{
	struct vring_desc d[1] = { { table, len, (uint16_t)(VRING_DESC_F_INDIRECT | flags), 0 } };

	offer(d, 1);
}

static void indirect_not_whole(void)
{
	indirect(40, 0, addr_of(hostile_slot()->table));
}

static void indirect_empty(void)
{
	indirect(0, 0, addr_of(hostile_slot()->table));
}

static void indirect_huge(void)
{
	indirect(0xfffffff0, 0, addr_of(hostile_slot()->table));
}

static void indirect_outside(void)
{
	indirect(16 * 16, 0, addr_of(guest.mem + guest.mem_bytes - 32));
}

static void indirect_and_next(void)
{
	indirect(32, VRING_DESC_F_NEXT, addr_of(hostile_slot()->table));
}

static void indirect_in_indirect(void)
{
	struct front_slot *s = hostile_slot();

	for (unsigned i = 0; i < 2; i++)
		s->table[i] = (struct vring_desc){ addr_of(s->table), 32, VRING_DESC_F_INDIRECT, 0 };
	indirect(32, 0, addr_of(s->table));
}

/* CVE-2026-86847, CVE-2026-93683: a chain that never ends. */
static void endless_chain(void)
{
	struct vring_desc d[64];

	for (unsigned i = 0; i < 64; i++)
		d[i] = (struct vring_desc){ addr_of(hostile_slot()->header), 16, VRING_DESC_F_NEXT,
					    (uint16_t)((i + 1) % 64) };
	offer(d, 64);
}

static void split_only_next_outside(void)
{
	struct vring_desc d[1] = { header_desc() };

	d[0].next = 4000;
	offer(d, 1);
}

static void split_only_endless_table(void)
{
	struct front_slot *s = hostile_slot();

	for (unsigned i = 0; i < 2; i++)
		s->table[i] = (struct vring_desc){ addr_of(s->header), 16, VRING_DESC_F_NEXT, (uint16_t)(1 - i) };
	indirect(32, 0, addr_of(s->table));
}

/* CVE-2016-5403, CVE-2026-86846: more heads than the ring has. */
static void split_only_index_runs_ahead(void)
{
	struct vring_avail *avail = guest.queues[0].driver;

	__atomic_store_n(&avail->idx, 5000, __ATOMIC_RELEASE);
	hostile_kick();
}

static void split_only_head_outside(void)
{
	struct vring_avail *avail = guest.queues[0].driver;

	avail->ring[0] = 64;
	__atomic_store_n(&avail->idx, 1, __ATOMIC_RELEASE);
	hostile_kick();
}

/* The same head twice: a request would be ended twice. */
static void split_only_head_twice(void)
{
	struct vring_avail *avail = guest.queues[0].driver;
	struct vring_desc d[3] = { header_desc(),
				   { addr_of(hostile_slot()->buffer), 65536, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT,
				     2 },
				   { addr_of(hostile_slot()->status), 1, VRING_DESC_F_WRITE, 0 } };

	for (unsigned i = 0; i < 3; i++)
		*split_desc(i) = d[i];
	for (unsigned i = 0; i < 64; i++)
		avail->ring[i] = 0;
	__atomic_store_n(&avail->idx, 64, __ATOMIC_RELEASE);
	hostile_kick();
}

/* Memory that is cut short while it is used: SIGBUS. */
static void memory_cut(void)
{
	struct front_slot *s = hostile_slot();

	front_submit(&guest, 0, s, VIRTIO_BLK_T_IN, 0, 4096);
	(void)!ftruncate(guest.mem_fd, 0);
	hostile_kick();
}

static void memory_cut_in_the_data(void)
{
	for (unsigned i = 0; i < 8; i++)
		front_submit(&guest, 0, hostile_slot(), i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i * 128, 65536);
	(void)!ftruncate(guest.mem_fd, (off_t)guest.mem_bytes / 4 / 4096 * 4096);
	hostile_kick();
}

const struct attack ring_attacks[] = {
	ATTACK(buffer_past_the_end),
	ATTACK(buffer_wraps),
	ATTACK(no_header),
	ATTACK(no_status),
	ATTACK(readable_behind_writable),
	ATTACK(indirect_not_whole),
	ATTACK(indirect_empty),
	ATTACK(indirect_huge),
	ATTACK(indirect_outside),
	ATTACK(indirect_and_next),
	ATTACK(indirect_in_indirect),
	ATTACK(endless_chain),
	ATTACK(split_only_next_outside),
	ATTACK(split_only_endless_table),
	ATTACK(split_only_index_runs_ahead),
	ATTACK(split_only_head_outside),
	ATTACK(split_only_head_twice),
	ATTACK(memory_cut),
	ATTACK(memory_cut_in_the_data),
	{ 0 },
};
