/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Front ends and guests that mean harm.
 *
 *	vhost-hostile SOCKET PID [--rounds N] [--seed N] [ATTACK]
 *
 * Each attack is made on a connection of its own, on split and packed rings. It
 * must end that connection (or, where the table says so, be answered with an
 * error), and after it the server, process PID, is alive, has as many descriptors and
 * mappings as before, and serves a well-behaved front end. The last part
 * fills rings, descriptors and inflight regions with chance, --rounds times: any
 * outcome is good but a server that is gone, stuck, or leaks.
 *
 * Most attacks are lessons of others: the CVE is named where there is one.
 *
 * Exit status: 0; 1 with the attack's name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/vhost/front.h"

#define PATIENCE_MS 10000

static struct front f;
static struct front_options options = { .queues = 1, .num = 64, .buffer_bytes = 65536 };
static pid_t server;
static const char *attack_name = "";
static uint64_t seed = 1;
static unsigned maps_before; /* of other guests, who stay or go */

static void die(const char *what)
{
	fprintf(stderr, "vhost-hostile: %s (%s ring): %s\n", attack_name, options.packed ? "packed" : "split", what);
	exit(1);
}

static uint64_t draw(uint64_t bound)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % bound;
}

/* ---- how the server is --------------------------------------------------------------------- */

static unsigned count_fds(void)
{
	char path[64];
	unsigned count = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)server);
	DIR *dir = opendir(path);
	if (!dir)
		die("the server is gone");
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static unsigned count_shared_maps(void)
{
	char path[64], line[512];
	unsigned count = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)server);
	FILE *maps = fopen(path, "re");
	if (!maps)
		die("the server is gone");
	while (fgets(line, sizeof(line), maps))
		count += strstr(line, "memfd:") != NULL;
	fclose(maps);
	return count;
}

/* When the server has taken in that a connection is over. */
static void expect_as_before(unsigned fds)
{
	for (unsigned i = 0; i < PATIENCE_MS / 5; i++) {
		if (count_fds() <= fds && count_shared_maps() <= maps_before)
			return;
		poll(NULL, 0, 5);
	}
	fprintf(stderr, "vhost-hostile: %u descriptors, %u before; %u mappings\n", count_fds(), fds,
		count_shared_maps());
	die("descriptors or mappings are left behind");
}

static void begin(void)
{
	if (front_init(&f, &options) < 0 || front_connect(&f, PATIENCE_MS) < 0)
		die("can't connect");
}

static void expect_closed(void)
{
	struct pollfd p = { .fd = f.socket, .events = POLLIN };
	char byte[64];

	for (;;) {
		if (poll(&p, 1, PATIENCE_MS) <= 0)
			die("the connection stays, and nothing happens");
		ssize_t n = recv(f.socket, byte, sizeof(byte), 0);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return; /* an acknowledgement that says no may come first */
		if (n < 0)
			die("the socket fails");
	}
}

static struct front_slot *slot(void)
{
	struct front_slot *s = front_slot(&f, 0);

	if (!s)
		die("no slot");
	return s;
}

static uint8_t request(uint32_t type, uint64_t sector, uint32_t bytes)
{
	const char *error = NULL;
	struct front_slot *s = slot();

	front_submit(&f, 0, s, type, sector, bytes);
	front_kick(&f, 0);
	while (!front_complete(&f, 0, &error)) {
		if (error)
			die(error);
		if (front_wait(&f, PATIENCE_MS) < 0)
			die("no answer");
	}
	return *s->status;
}

static void kick(void)
{
	const uint64_t one = 1;

	(void)!write(f.queues[0].kick_fd, &one, sizeof(one));
}

/* ---- messages ------------------------------------------------------------------------------ */

static void raw(uint32_t id, uint32_t flags, uint32_t size, const void *body, uint32_t bytes)
{
	uint8_t all[1024] = { 0 };
	struct vtd_header header = { id, flags, size };

	memcpy(all, &header, sizeof(header));
	if (bytes)
		memcpy(all + sizeof(header), body, bytes);
	(void)!send(f.socket, all, sizeof(header) + bytes, MSG_NOSIGNAL);
}

static void wrong_version(void)
{
	raw(VTD_GET_FEATURES, 2, 0, NULL, 0);
}

static void answer_as_request(void)
{
	raw(VTD_GET_FEATURES, VTD_FLAG_VERSION | VTD_FLAG_REPLY, 0, NULL, 0);
}

static void huge_size(void)
{
	raw(VTD_SET_FEATURES, VTD_FLAG_VERSION, UINT32_MAX, NULL, 0);
}

static void huge_size_unknown(void)
{
	raw(999, VTD_FLAG_VERSION, 1 << 20, NULL, 0);
}

static void runt_body(void)
{
	raw(VTD_SET_FEATURES, VTD_FLAG_VERSION, 4, "abcd", 4);
}

static void half_message(void)
{
	raw(VTD_SET_FEATURES, VTD_FLAG_VERSION, 8, "abcd", 4);
	shutdown(f.socket, SHUT_WR);
}

static void send_fds(uint32_t id, const void *body, uint32_t bytes, unsigned count)
{
	int fds[32];

	for (unsigned i = 0; i < count; i++)
		fds[i] = f.mem_fd;
	(void)front_send(&f, id, 0, body, bytes, fds, count);
}

/* CVE-2019-14818, CVE-2020-10726: descriptors that a message does not want, or more than any does. */
static void fds_unwanted(void)
{
	send_fds(VTD_GET_FEATURES, NULL, 0, 1);
}

static void fds_too_many(void)
{
	struct vtd_mem_table table = { .count = 8 };

	send_fds(VTD_SET_MEM_TABLE, &table, sizeof(table), 20);
}

static void fds_with_unknown(void)
{
	uint64_t u = 0;

	send_fds(40, &u, 8, 3);
	raw(VTD_GET_FEATURES, 2, 0, NULL,
	    0); /* an unknown one may pass; the end shows that its descriptors were closed */
}

static void table_without_fds(void)
{
	struct vtd_mem_table table = { .count = 4 };

	send_fds(VTD_SET_MEM_TABLE, &table, sizeof(table), 1);
}

static void ring_index(uint32_t id)
{
	struct vtd_vring_state state = { .index = 77, .num = 8 };

	(void)front_send(&f, id, 0, &state, sizeof(state), NULL, 0);
}

/* CVE-2020-10723: the number of a ring, cut to fewer bits for the check than for the use. */
static void ring_index_num(void)
{
	ring_index(VTD_SET_VRING_NUM);
}

static void ring_index_base(void)
{
	ring_index(VTD_GET_VRING_BASE);
}

static void ring_index_enable(void)
{
	ring_index(VTD_SET_VRING_ENABLE);
}

static void ring_index_kick(void)
{
	uint64_t index = 0x0000010000000000;

	send_fds(VTD_SET_VRING_KICK, &index, 8, 1);
}

static void ring_size(uint32_t num)
{
	struct vtd_vring_state state = { .num = num };

	(void)front_send(&f, VTD_SET_VRING_NUM, 0, &state, sizeof(state), NULL, 0);
}

static void ring_size_0(void)
{
	ring_size(0);
}

static void ring_size_huge(void)
{
	ring_size(65536 + 64);
}

/* CVE-2021-3839, CVE-2026-86565: an inflight table that was made for a smaller ring. */
static void ring_larger_than_inflight(void)
{
	ring_size(1024);
}

static void ring_addr(uint64_t descriptor, uint64_t used)
{
	struct vtd_vring_addr addr = { .descriptor = (uintptr_t)f.queues[0].desc + descriptor,
				       .available = (uintptr_t)f.queues[0].driver,
				       .used = (uintptr_t)f.queues[0].device + used };

	(void)front_send(&f, VTD_SET_VRING_ADDR, 0, &addr, sizeof(addr), NULL, 0);
}

static void ring_outside(void)
{
	ring_addr(1u << 30, 0);
}

/* All of a ring is translated, not only its start. */
static void ring_across_the_end(void)
{
	ring_addr(f.mem_bytes - 64, 0);
}

static void ring_misaligned(void)
{
	ring_addr(8, 2);
}

static void region(uint64_t guest, uint64_t size, uint64_t offset, int fd)
{
	struct vtd_mem_region r = { .region = { guest, size, 0x7000000000, offset } };

	(void)front_send(&f, VTD_ADD_MEM_REG, 0, &r, sizeof(r), &fd, 1);
}

static void region_past_the_file(void)
{
	region(0, f.mem_bytes + 4096, 0, f.mem_fd);
}

static void region_wraps(void)
{
	region(UINT64_MAX - 4095, 8192, 0, f.mem_fd);
}

/* CVE-2020-10722: offset and size that wrap together. */
static void region_offset_wraps(void)
{
	region(0, 8192, UINT64_MAX - 4095, f.mem_fd);
}

static void region_empty(void)
{
	region(0, 0, 0, f.mem_fd);
}

static void region_overlaps(void)
{
	region(UINT64_C(0x100000000) + 4096, 4096, 0, f.mem_fd);
}

static void region_of(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	region(0, 4096, 0, fd);
	close(fd);
}

static void region_of_device(void)
{
	region_of("/dev/zero");
}

static void region_of_directory(void)
{
	region_of("/tmp");
}

static void region_of_proc(void)
{
	region_of("/proc/self/status");
}

static void log_wraps(void)
{
	struct vtd_log log = { .mmap_size = 8192, .mmap_offset = UINT64_MAX - 4095 };

	send_fds(VTD_SET_LOG_BASE, &log, sizeof(log), 1);
}

static void config_outside(void)
{
	struct vtd_config config = { .offset = 200, .size = 100 };

	(void)front_send(&f, VTD_GET_CONFIG, 0, &config, 12 + 100, NULL, 0);
}

static void config_size_lies(void)
{
	struct vtd_config config = { .offset = 0, .size = 250 };

	(void)front_send(&f, VTD_SET_CONFIG, 0, &config, 12 + 4, NULL, 0);
}

static void inflight(uint16_t queues, uint16_t size, uint64_t bytes, uint64_t offset)
{
	struct vtd_inflight d = { bytes, offset, queues, size };

	send_fds(VTD_SET_INFLIGHT_FD, &d, sizeof(d), 1);
}

static void inflight_too_many(void)
{
	inflight(0xffff, 0xffff, 4096, 0);
}

static void inflight_too_small(void)
{
	inflight(1, 64, 64, 0);
}

static void inflight_past_the_file(void)
{
	inflight(1, 64, UINT64_C(1) << 40, 0);
}

static void kick_is(const char *path)
{
	uint64_t index = 0;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	(void)front_send(&f, VTD_SET_VRING_KICK, 0, &index, 8, &fd, 1);
	close(fd);
}

static void kick_is_zero_device(void)
{
	kick_is("/dev/zero");
}

static void kick_is_file(void)
{
	uint64_t index = 0;

	send_fds(VTD_SET_VRING_KICK, &index, 8, 1);
}

static void kick_ends(void)
{
	uint64_t index = 0;
	int fds[2];

	(void)!pipe2(fds, O_CLOEXEC);
	(void)front_send(&f, VTD_SET_VRING_KICK, 0, &index, 8, fds, 1);
	close(fds[0]);
	close(fds[1]);
}

static void features_not_offered(void)
{
	uint64_t all = UINT64_MAX;

	(void)front_send(&f, VTD_SET_FEATURES, 0, &all, 8, NULL, 0);
}

/* ---- rings ---------------------------------------------------------------------------------- */

static struct vring_desc *split_desc(unsigned i)
{
	return (struct vring_desc *)f.queues[0].desc + i;
}

/* A chain of our own making at the ring's start, of n descriptors as given; both layouts. */
static void offer(const struct vring_desc *d, unsigned n)
{
	struct front_queue *q = &f.queues[0];

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
	kick();
}

static uint64_t addr_of(const void *p)
{
	return front_guest_addr(&f, p);
}

static struct vring_desc header_desc(void)
{
	struct front_slot *s = slot();

	*s->header = (struct virtio_blk_outhdr){ .type = VIRTIO_BLK_T_IN };
	return (struct vring_desc){ addr_of(s->header), 16, VRING_DESC_F_NEXT, 1 };
}

/* CVE-2018-1059: the start of a buffer is mapped and its end is not. */
static void buffer_past_the_end(void)
{
	struct vring_desc d[3] = { header_desc(),
				   { addr_of(f.mem + f.mem_bytes - 4096), 8192,
				     VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2 },
				   { addr_of(slot()->status), 1, VRING_DESC_F_WRITE, 0 } };

	offer(d, 3);
}

static void buffer_wraps(void)
{
	struct vring_desc d[3] = { header_desc(),
				   { UINT64_MAX - 100, 8192, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2 },
				   { addr_of(slot()->status), 1, VRING_DESC_F_WRITE, 0 } };

	offer(d, 3);
}

/* CVE-2026-86566: a length is subtracted from before it is compared. */
static void no_header(void)
{
	struct vring_desc d[2] = { header_desc(), { addr_of(slot()->status), 1, VRING_DESC_F_WRITE, 0 } };

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
				   { addr_of(slot()->status), 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2 },
				   { addr_of(slot()->buffer), 512, 0, 0 } };

	offer(d, 3);
}

static void indirect(uint32_t len, uint16_t flags, uint64_t table)
{
	struct vring_desc d[1] = { { table, len, (uint16_t)(VRING_DESC_F_INDIRECT | flags), 0 } };

	offer(d, 1);
}

static void indirect_not_whole(void)
{
	indirect(40, 0, addr_of(slot()->table));
}

static void indirect_empty(void)
{
	indirect(0, 0, addr_of(slot()->table));
}

static void indirect_huge(void)
{
	indirect(0xfffffff0, 0, addr_of(slot()->table));
}

static void indirect_outside(void)
{
	indirect(16 * 16, 0, addr_of(f.mem + f.mem_bytes - 32));
}

static void indirect_and_next(void)
{
	indirect(32, VRING_DESC_F_NEXT, addr_of(slot()->table));
}

static void indirect_in_indirect(void)
{
	struct front_slot *s = slot();

	for (unsigned i = 0; i < 2; i++)
		s->table[i] = (struct vring_desc){ addr_of(s->table), 32, VRING_DESC_F_INDIRECT, 0 };
	indirect(32, 0, addr_of(s->table));
}

/* CVE-2026-86847, CVE-2026-93683: a chain that never ends. */
static void endless_chain(void)
{
	struct vring_desc d[64];

	for (unsigned i = 0; i < 64; i++)
		d[i] = (struct vring_desc){ addr_of(slot()->header), 16, VRING_DESC_F_NEXT,
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
	struct front_slot *s = slot();

	for (unsigned i = 0; i < 2; i++)
		s->table[i] = (struct vring_desc){ addr_of(s->header), 16, VRING_DESC_F_NEXT, (uint16_t)(1 - i) };
	indirect(32, 0, addr_of(s->table));
}

/* CVE-2016-5403, CVE-2026-86846: more heads than the ring has. */
static void split_only_index_runs_ahead(void)
{
	struct vring_avail *avail = f.queues[0].driver;

	__atomic_store_n(&avail->idx, 5000, __ATOMIC_RELEASE);
	kick();
}

static void split_only_head_outside(void)
{
	struct vring_avail *avail = f.queues[0].driver;

	avail->ring[0] = 64;
	__atomic_store_n(&avail->idx, 1, __ATOMIC_RELEASE);
	kick();
}

/* The same head twice: a request would be ended twice. */
static void split_only_head_twice(void)
{
	struct vring_avail *avail = f.queues[0].driver;
	struct vring_desc d[3] = { header_desc(),
				   { addr_of(slot()->buffer), 65536, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 2 },
				   { addr_of(slot()->status), 1, VRING_DESC_F_WRITE, 0 } };

	for (unsigned i = 0; i < 3; i++)
		*split_desc(i) = d[i];
	for (unsigned i = 0; i < 64; i++)
		avail->ring[i] = 0;
	__atomic_store_n(&avail->idx, 64, __ATOMIC_RELEASE);
	kick();
}

/* Memory that is cut short while it is used: SIGBUS. */
static void memory_cut(void)
{
	struct front_slot *s = slot();

	front_submit(&f, 0, s, VIRTIO_BLK_T_IN, 0, 4096);
	(void)!ftruncate(f.mem_fd, 0);
	kick();
}

static void memory_cut_in_the_data(void)
{
	for (unsigned i = 0; i < 8; i++)
		front_submit(&f, 0, slot(), i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i * 128, 65536);
	(void)!ftruncate(f.mem_fd, (off_t)f.mem_bytes / 4 / 4096 * 4096);
	kick();
}

/* ---- what is answered ------------------------------------------------------------------------ */

static void expect_status(uint32_t type, uint64_t sector, uint32_t bytes, uint8_t status)
{
	if (request(type, sector, bytes) != status)
		die("another status than expected");
}

static void answered_requests(void)
{
	uint64_t sectors = f.config.capacity;
	struct virtio_blk_discard_write_zeroes bad = { .sector = sectors - 8, .num_sectors = 16 };

	expect_status(VIRTIO_BLK_T_IN, sectors, 512, VIRTIO_BLK_S_IOERR);
	expect_status(VIRTIO_BLK_T_IN, UINT64_MAX, 4096, VIRTIO_BLK_S_IOERR);
	expect_status(VIRTIO_BLK_T_OUT, UINT64_MAX / 512, 4096, VIRTIO_BLK_S_IOERR);
	expect_status(VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, 4096, VIRTIO_BLK_S_IOERR);
	expect_status(VIRTIO_BLK_T_IN, sectors - 1, 1024, VIRTIO_BLK_S_IOERR);
	expect_status(VIRTIO_BLK_T_IN, 0, 100, VIRTIO_BLK_S_IOERR); /* CVE-2011-1750 */
	expect_status(VIRTIO_BLK_T_OUT, 0, 513, VIRTIO_BLK_S_IOERR);
	expect_status(4711, 0, 512, VIRTIO_BLK_S_UNSUPP);
	memcpy(slot()->buffer, &bad, sizeof(bad));
	expect_status(VIRTIO_BLK_T_DISCARD, 0, 16, VIRTIO_BLK_S_IOERR);
	memcpy(slot()->buffer, &bad, sizeof(bad));
	expect_status(VIRTIO_BLK_T_DISCARD, 0, 15, VIRTIO_BLK_S_IOERR);
	bad = (struct virtio_blk_discard_write_zeroes){ .sector = 0, .num_sectors = 8, .flags = 1 };
	memcpy(slot()->buffer, &bad, sizeof(bad));
	expect_status(VIRTIO_BLK_T_DISCARD, 0, 16, VIRTIO_BLK_S_UNSUPP);
	expect_status(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK);
	expect_status(VIRTIO_BLK_T_GET_ID, 0, 20, VIRTIO_BLK_S_OK);
	front_disconnect(&f);
}

/* CVE-2022-0669, CVE-2020-10726: each repetition costs a descriptor and a mapping, for ever. */
static void repeated_messages(void)
{
	for (unsigned i = 0; i < 300; i++) {
		struct vtd_inflight d = { .num_queues = 1, .queue_size = 64 };
		int fd = -1;

		if (front_send(&f, VTD_GET_INFLIGHT_FD, 0, &d, sizeof(d), NULL, 0) < 0 ||
		    front_receive(&f, VTD_GET_INFLIGHT_FD, &d, sizeof(d), &fd) < 0 || fd < 0)
			die("no inflight region");
		if (front_send(&f, VTD_SET_INFLIGHT_FD, 0, &d, sizeof(d), &fd, 1) < 0)
			die("the region is refused");
		close(fd);
		if (front_share_memory(&f) < 0)
			die("the same memory again is refused");
	}
	if (count_fds() > 200 || count_shared_maps() > maps_before + 8)
		die("each repetition costs something");
	expect_status(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK);
	front_disconnect(&f);
}

static void vanishes_with_requests(void)
{
	for (unsigned i = 0; i < 15; i++)
		front_submit(&f, 0, slot(), i % 3 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_FLUSH, i * 128,
			     i % 3 ? 65536 : 0);
	kick();
	front_disconnect(&f);
}

static void never_reads_answers(void)
{
	struct pollfd p = { .fd = f.socket, .events = POLLOUT };

	/* Until neither side can send: the server gives up after its own patience, or we go first. */
	for (unsigned i = 0; i < 100000 && poll(&p, 1, 200) == 1; i++)
		raw(VTD_GET_FEATURES, VTD_FLAG_VERSION, 0, NULL, 0);
	front_disconnect(&f);
}

/* ---- chance ---------------------------------------------------------------------------------- */

static void scribble(void *at, size_t bytes, unsigned changes)
{
	uint8_t *p = at;

	for (unsigned i = 0; i < changes; i++)
		p[draw(bytes)] = draw(3) ? (uint8_t)draw(256) : (uint8_t)draw(4);
}

static void chance(void)
{
	struct front_queue *q = &f.queues[0];
	uint8_t *region = mmap(NULL, f.inflight.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, f.inflight_fd, 0);

	for (unsigned i = 0; i < 12; i++) {
		struct front_slot *s = front_slot(&f, 0);
		if (s)
			front_submit(&f, 0, s, (uint32_t)draw(5), draw(1000), (uint32_t)draw(65536));
	}
	scribble(q->desc, 64 * 16, (unsigned)draw(20));
	scribble(q->driver, 134, (unsigned)draw(3));
	scribble(q->slots[0].header, 4096, (unsigned)draw(40));
	kick();
	front_share_memory(&f); /* waits until the rings have looked */
	if (region != MAP_FAILED) {
		scribble(region, f.inflight.mmap_size, (unsigned)draw(200));
		munmap(region, f.inflight.mmap_size);
	}
	/* Again, with the region and the rings as they are now. */
	if (front_connect(&f, PATIENCE_MS) == 0)
		kick();
	front_share_memory(&f);
	front_disconnect(&f);
}

/* ---------------------------------------------------------------------------------------------- */

#define A(name)                                                                                                      \
	{                                                                                                            \
#name, name, true                                                                                    \
	}
#define ANSWERED(name)                                                                                               \
	{                                                                                                            \
#name, name, false                                                                                   \
	}

static const struct attack {
	const char *name;
	void (*run)(void);
	bool ends;
} attacks[] = {
	A(wrong_version),
	A(answer_as_request),
	A(huge_size),
	A(huge_size_unknown),
	A(runt_body),
	A(half_message),
	A(fds_unwanted),
	A(fds_too_many),
	A(fds_with_unknown),
	A(table_without_fds),
	A(ring_index_num),
	A(ring_index_base),
	A(ring_index_enable),
	A(ring_index_kick),
	A(ring_size_0),
	A(ring_size_huge),
	A(ring_larger_than_inflight),
	A(ring_outside),
	A(ring_across_the_end),
	A(ring_misaligned),
	A(region_past_the_file),
	A(region_wraps),
	A(region_offset_wraps),
	A(region_empty),
	A(region_overlaps),
	A(region_of_device),
	A(region_of_directory),
	A(region_of_proc),
	A(log_wraps),
	A(config_outside),
	A(config_size_lies),
	A(inflight_too_many),
	A(inflight_too_small),
	A(inflight_past_the_file),
	A(kick_is_zero_device),
	A(kick_is_file),
	A(kick_ends),
	A(features_not_offered),
	A(buffer_past_the_end),
	A(buffer_wraps),
	A(no_header),
	A(no_status),
	A(readable_behind_writable),
	A(indirect_not_whole),
	A(indirect_empty),
	A(indirect_huge),
	A(indirect_outside),
	A(indirect_and_next),
	A(indirect_in_indirect),
	A(endless_chain),
	A(split_only_next_outside),
	A(split_only_endless_table),
	A(split_only_index_runs_ahead),
	A(split_only_head_outside),
	A(split_only_head_twice),
	A(memory_cut),
	A(memory_cut_in_the_data),
	ANSWERED(answered_requests),
	ANSWERED(repeated_messages),
	ANSWERED(vanishes_with_requests),
	ANSWERED(never_reads_answers),
};

static void behave(void)
{
	begin();
	if (request(VIRTIO_BLK_T_IN, 0, 4096) != VIRTIO_BLK_S_OK)
		die("afterwards a read fails");
	front_done(&f);
}

static void run(const struct attack *a, unsigned fds)
{
	attack_name = a->name;
	begin();
	a->run();
	if (a->ends)
		expect_closed();
	front_done(&f);
	expect_as_before(fds);
	behave();
	expect_as_before(fds);
}

int main(int argc, char **argv)
{
	unsigned rounds = 200, count = 0;
	const char *only = NULL;

	if (argc < 3)
		return 2;
	options.socket_path = argv[1];
	server = (pid_t)atoi(argv[2]);
	for (int i = 3; i < argc; i++) {
		if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
			rounds = (unsigned)atoi(argv[++i]);
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0) * 2 + 1;
		else
			only = argv[i];
	}
	signal(SIGPIPE, SIG_IGN);
	options.indirect = true;
	unsigned fds = count_fds();
	maps_before = count_shared_maps();
	for (int packed = 0; packed < 2; packed++) {
		options.packed = packed;
		for (size_t i = 0; i < ARRAY_LEN(attacks); i++) {
			if ((only && strcmp(only, attacks[i].name) != 0) ||
			    (packed && strncmp(attacks[i].name, "split_only", 10) == 0))
				continue;
			run(&attacks[i], fds);
			count++;
		}
		attack_name = "chance";
		for (unsigned i = 0; i < rounds && !only; i++) {
			options.indirect = draw(2);
			begin();
			chance();
			front_done(&f);
			if (i % 20 == 0)
				behave();
		}
		options.indirect = true;
		expect_as_before(fds);
	}
	printf("%u attacks, %u rounds of chance, and the server serves\n", count, only ? 0 : 2 * rounds);
	return 0;
}
