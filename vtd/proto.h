/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vhost-user protocol's numbers and bytes, after the specification "Vhost-user Protocol" (QEMU's
 * docs/interop/vhost-user.rst). Everything is in the byte order of the machine, as both ends are on it.
 *
 * Context: constants and types only.
 */
#ifndef VTD_PROTO_H
#define VTD_PROTO_H

#include <stdint.h>

enum vtd_request {
	VTD_GET_FEATURES = 1,
	VTD_SET_FEATURES = 2,
	VTD_SET_OWNER = 3,
	VTD_RESET_OWNER = 4,
	VTD_SET_MEM_TABLE = 5,
	VTD_SET_LOG_BASE = 6,
	VTD_SET_LOG_FD = 7,
	VTD_SET_VRING_NUM = 8,
	VTD_SET_VRING_ADDR = 9,
	VTD_SET_VRING_BASE = 10,
	VTD_GET_VRING_BASE = 11,
	VTD_SET_VRING_KICK = 12,
	VTD_SET_VRING_CALL = 13,
	VTD_SET_VRING_ERR = 14,
	VTD_GET_PROTOCOL_FEATURES = 15,
	VTD_SET_PROTOCOL_FEATURES = 16,
	VTD_GET_QUEUE_NUM = 17,
	VTD_SET_VRING_ENABLE = 18,
	VTD_SET_BACKEND_REQ_FD = 21,
	VTD_GET_CONFIG = 24,
	VTD_SET_CONFIG = 25,
	VTD_GET_INFLIGHT_FD = 31,
	VTD_SET_INFLIGHT_FD = 32,
	VTD_RESET_DEVICE = 34,
	VTD_GET_MAX_MEM_SLOTS = 36,
	VTD_ADD_MEM_REG = 37,
	VTD_REM_MEM_REG = 38,
	VTD_REQUESTS_END = 45, /* what is above was not assigned when this was written */
};

/* Of the channel to the front end. */
#define VTD_BACKEND_CONFIG_CHANGE 2

#define VTD_FLAG_VERSION_MASK 0x3u
#define VTD_FLAG_VERSION 0x1u
#define VTD_FLAG_REPLY 0x4u
#define VTD_FLAG_NEED_REPLY 0x8u

#define VTD_PROTOCOL_F_MQ 0
#define VTD_PROTOCOL_F_LOG_SHMFD 1
#define VTD_PROTOCOL_F_REPLY_ACK 3
#define VTD_PROTOCOL_F_BACKEND_REQ 5
#define VTD_PROTOCOL_F_CONFIG 9
#define VTD_PROTOCOL_F_INFLIGHT_SHMFD 12
#define VTD_PROTOCOL_F_RESET_DEVICE 13
#define VTD_PROTOCOL_F_CONFIGURE_MEM_SLOTS 15

/* Of the virtio feature bits, those that only vhost has. */
#define VTD_F_LOG_ALL 26
#define VTD_F_PROTOCOL_FEATURES 30

/* Of SET_VRING_KICK, _CALL and _ERR. */
#define VTD_VRING_INDEX_MASK 0xffu
#define VTD_VRING_NO_FD 0x100u

/* Of SET_VRING_ADDR. */
#define VTD_VRING_LOG 0x1u

#define VTD_CONFIG_WRITABLE 0u
#define VTD_CONFIG_MIGRATION 1u
#define VTD_CONFIG_BYTES_MAX 256
/* Regions in one SET_MEM_TABLE, so descriptors in one message. */
#define VTD_REGIONS_MAX 8

struct vtd_header {
	uint32_t request, flags, size;
};

struct vtd_vring_state {
	uint32_t index, num;
};

struct vtd_vring_addr {
	uint32_t index, flags;
	uint64_t descriptor, used, available, log; /* addresses of the front end, but for log: guest-physical */
};

struct vtd_region {
	uint64_t guest_addr, size, user_addr, mmap_offset; /* user_addr: an address of the front end */
};

struct vtd_mem_table {
	uint32_t count, padding;
	struct vtd_region regions[VTD_REGIONS_MAX];
};

struct vtd_mem_region {
	uint64_t padding;
	struct vtd_region region;
};

struct vtd_log {
	uint64_t mmap_size, mmap_offset;
};

struct vtd_config {
	uint32_t offset, size, flags;
	uint8_t bytes[VTD_CONFIG_BYTES_MAX];
};
#define VTD_CONFIG_HEAD_BYTES 12

struct vtd_inflight {
	uint64_t mmap_size, mmap_offset;
	uint16_t num_queues, queue_size;
};
/* Front ends differ in whether they send the padding at the structure's end. */
#define VTD_INFLIGHT_BYTES_MIN 20

/* ---- the inflight region, one part for each queue ----------------------------------------- */

struct vtd_inflight_split_desc {
	uint8_t inflight, padding[5];
	uint16_t next;
	uint64_t counter;
};

struct vtd_inflight_split {
	uint64_t features;
	uint16_t version, desc_num, last_batch_head, used_idx;
	struct vtd_inflight_split_desc desc[];
};

struct vtd_inflight_packed_desc {
	uint8_t inflight, padding;
	uint16_t next, last, num;
	uint64_t counter;
	uint16_t id, flags;
	uint32_t len;
	uint64_t addr;
};

struct vtd_inflight_packed {
	uint64_t features;
	uint16_t version, desc_num, free_head, old_free_head, used_idx, old_used_idx;
	uint8_t used_wrap_counter, old_used_wrap_counter, padding[7];
	struct vtd_inflight_packed_desc desc[];
};

#define VTD_INFLIGHT_VERSION 1

#endif
