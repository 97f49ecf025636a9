/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wrong messages: headers, sizes, descriptors, rings, regions and features that
 * no front end in its right mind sends. Each must end the connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/vhost/hostile.h"

static void wrong_version(void)
{
	hostile_send_raw(VTD_GET_FEATURES, 2, 0, NULL, 0);
}

static void answer_as_request(void)
{
	hostile_send_raw(VTD_GET_FEATURES, VTD_FLAG_VERSION | VTD_FLAG_REPLY, 0, NULL, 0);
}

static void huge_size(void)
{
	hostile_send_raw(VTD_SET_FEATURES, VTD_FLAG_VERSION, UINT32_MAX, NULL, 0);
}

static void huge_size_unknown(void)
{
	hostile_send_raw(999, VTD_FLAG_VERSION, 1 << 20, NULL, 0);
}

static void runt_body(void)
{
	hostile_send_raw(VTD_SET_FEATURES, VTD_FLAG_VERSION, 4, "abcd", 4);
}

static void half_message(void)
{
	hostile_send_raw(VTD_SET_FEATURES, VTD_FLAG_VERSION, 8, "abcd", 4);
	shutdown(guest.socket, SHUT_WR);
}

static void send_fds(uint32_t id, const void *body, uint32_t bytes, unsigned count)
{
	int fds[32];

	for (unsigned i = 0; i < count; i++)
		fds[i] = guest.mem_fd;
	(void)front_send(&guest, id, 0, body, bytes, fds, count);
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
	hostile_send_raw(VTD_GET_FEATURES, 2, 0, NULL,
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

	(void)front_send(&guest, id, 0, &state, sizeof(state), NULL, 0);
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

	(void)front_send(&guest, VTD_SET_VRING_NUM, 0, &state, sizeof(state), NULL, 0);
}

static void ring_size_0(void)
{
	ring_size(0);
}

static void ring_size_huge(void)
{
	ring_size(65536 + 64);
}

static void inflight(uint16_t queues, uint16_t size, uint64_t bytes, uint64_t offset)
{
	struct vtd_inflight d = { bytes, offset, queues, size };

	send_fds(VTD_SET_INFLIGHT_FD, &d, sizeof(d), 1);
}

/* CVE-2021-3839, CVE-2026-86565: an inflight table that was made for a smaller ring. */
static void ring_larger_than_inflight(void)
{
	inflight(1, 64, 8192, 0);
	ring_size(1024);
}

static void ring_addr(uint64_t descriptor, uint64_t used)
{
	struct vtd_vring_addr addr = { .descriptor = (uintptr_t)guest.queues[0].desc + descriptor,
				       .available = (uintptr_t)guest.queues[0].driver,
				       .used = (uintptr_t)guest.queues[0].device + used };

	(void)front_send(&guest, VTD_SET_VRING_ADDR, 0, &addr, sizeof(addr), NULL, 0);
}

static void ring_outside(void)
{
	ring_addr(1u << 30, 0);
}

/* All of a ring is translated, not only its start. */
static void ring_across_the_end(void)
{
	ring_addr(guest.mem_bytes - 64, 0);
}

static void ring_misaligned(void)
{
	ring_addr(8, 2);
}

static void region(uint64_t address, uint64_t size, uint64_t offset, int fd)
{
	struct vtd_mem_region r = { .region = { address, size, 0x7000000000, offset } };

	(void)front_send(&guest, VTD_ADD_MEM_REG, 0, &r, sizeof(r), &fd, 1);
}

static void region_past_the_file(void)
{
	region(0, guest.mem_bytes + 4096, 0, guest.mem_fd);
}

static void region_wraps(void)
{
	region(UINT64_MAX - 4095, 8192, 0, guest.mem_fd);
}

/* CVE-2020-10722: offset and size that wrap together. */
static void region_offset_wraps(void)
{
	region(0, 8192, UINT64_MAX - 4095, guest.mem_fd);
}

static void region_empty(void)
{
	region(0, 0, 0, guest.mem_fd);
}

static void region_overlaps(void)
{
	region(UINT64_C(0x100000000) + 4096, 4096, 0, guest.mem_fd);
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

	(void)front_send(&guest, VTD_GET_CONFIG, 0, &config, 12 + 100, NULL, 0);
}

static void config_size_lies(void)
{
	struct vtd_config config = { .offset = 0, .size = 250 };

	(void)front_send(&guest, VTD_SET_CONFIG, 0, &config, 12 + 4, NULL, 0);
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

	(void)front_send(&guest, VTD_SET_VRING_KICK, 0, &index, 8, &fd, 1);
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
	(void)front_send(&guest, VTD_SET_VRING_KICK, 0, &index, 8, fds, 1);
	close(fds[0]);
	close(fds[1]);
}

static void features_not_offered(void)
{
	uint64_t all = UINT64_MAX;

	(void)front_send(&guest, VTD_SET_FEATURES, 0, &all, 8, NULL, 0);
}

const struct attack message_attacks[] = {
	ATTACK(wrong_version),
	ATTACK(answer_as_request),
	ATTACK(huge_size),
	ATTACK(huge_size_unknown),
	ATTACK(runt_body),
	ATTACK(half_message),
	ATTACK(fds_unwanted),
	ATTACK(fds_too_many),
	ATTACK(fds_with_unknown),
	ATTACK(table_without_fds),
	ATTACK(ring_index_num),
	ATTACK(ring_index_base),
	ATTACK(ring_index_enable),
	ATTACK(ring_index_kick),
	ATTACK(ring_size_0),
	ATTACK(ring_size_huge),
	ATTACK(ring_larger_than_inflight),
	ATTACK(ring_outside),
	ATTACK(ring_across_the_end),
	ATTACK(ring_misaligned),
	ATTACK(region_past_the_file),
	ATTACK(region_wraps),
	ATTACK(region_offset_wraps),
	ATTACK(region_empty),
	ATTACK(region_overlaps),
	ATTACK(region_of_device),
	ATTACK(region_of_directory),
	ATTACK(region_of_proc),
	ATTACK(log_wraps),
	ATTACK(config_outside),
	ATTACK(config_size_lies),
	ATTACK(inflight_too_many),
	ATTACK(inflight_too_small),
	ATTACK(inflight_past_the_file),
	ATTACK(kick_is_zero_device),
	ATTACK(kick_is_file),
	ATTACK(kick_ends),
	ATTACK(features_not_offered),
	{ 0 },
};
