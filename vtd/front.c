/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each message of a front end does.
 *
 * The state is a bag: features, memory, and for each ring a size, addresses, a
 * base, descriptors, enabled or not. Messages put things into the bag, in any
 * order and as often as they like. A ring runs exactly while all that it needs
 * is there; each message that touches what a running ring uses stops it first
 * (waiting for what is in flight), changes the bag, and then starts what can
 * run. So there is one path for the first start, a change of the memory table,
 * migration and reconnection.
 *
 * Answers: a request that has a reply gets it; else, where REPLY_ACK was
 * negotiated and asked for, 0 for done. A request that is not known is refused
 * (1) and forgotten. Anything else that is wrong ends the session.
 *
 * Failure modes: those of the front end, see ret_why's texts; memory that can't
 * be mapped.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "vtd/internal.h"

#define BIT(n) (UINT64_C(1) << (n))

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EPROTO;
}

/* ---- features ----------------------------------------------------------------------------- */

uint64_t vtd_front_features(const struct vtd_vhost *vhost)
{
	uint64_t features = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) |
			    BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_MQ) |
			    BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) |
			    BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED) | BIT(VTD_F_LOG_ALL) |
			    BIT(VTD_F_PROTOCOL_FEATURES);

	if (vhost->is_read_only)
		return features | BIT(VIRTIO_BLK_F_RO);
	return features | BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
}

uint64_t vtd_front_protocol_features(void)
{
	return BIT(VTD_PROTOCOL_F_MQ) | BIT(VTD_PROTOCOL_F_LOG_SHMFD) | BIT(VTD_PROTOCOL_F_REPLY_ACK) |
	       BIT(VTD_PROTOCOL_F_BACKEND_REQ) | BIT(VTD_PROTOCOL_F_CONFIG) | BIT(VTD_PROTOCOL_F_INFLIGHT_SHMFD) |
	       BIT(VTD_PROTOCOL_F_RESET_DEVICE) | BIT(VTD_PROTOCOL_F_CONFIGURE_MEM_SLOTS);
}

static bool has(const struct vtd_vhost *vhost, unsigned bit)
{
	return vhost->features >> bit & 1;
}

static bool has_protocol(const struct vtd_vhost *vhost, unsigned bit)
{
	return vhost->protocol_features >> bit & 1;
}

/* Whether a write may be answered before it is durable: only if the guest can flush, and has not said otherwise. */
static void choose_write_back(struct vtd_vhost *vhost)
{
	bool on = has(vhost, VIRTIO_BLK_F_FLUSH) && (!has(vhost, VIRTIO_BLK_F_CONFIG_WCE) || vhost->wce);

	atomic_store(&vhost->is_write_back, on);
}

/* ---- rings: what runs --------------------------------------------------------------------- */

static bool should_run(const struct vtd_ring *ring)
{
	const struct vtd_vhost *vhost = ring->vhost;

	return vhost->memory.count > 0 && ring->num > 0 && ring->has_addr && ring->kick_fd >= 0 &&
	       (ring->is_enabled || !has(vhost, VTD_F_PROTOCOL_FEATURES));
}

static int start_ring(struct vtd_ring *ring, const char **ret_why)
{
	return should_run(ring) && !ring->is_running ? vtd_ring_start(ring, ret_why) : 0;
}

static void stop_all(struct vtd_vhost *vhost)
{
	for (unsigned i = 0; i < vhost->queues; i++)
		vtd_ring_stop(&vhost->rings[i]);
}

/* A ring that has no memory just now (a region is taken away and comes back) is started by what completes it. */
static void start_all(struct vtd_vhost *vhost)
{
	const char *why = "";

	for (unsigned i = 0; i < vhost->queues; i++)
		if (start_ring(&vhost->rings[i], &why) < 0)
			log_warning("vtd %s: ring %u waits: %s", vhost->name, i, why);
}

static struct vtd_ring *find_ring(struct vtd_vhost *vhost, uint64_t index, const char **ret_why)
{
	if (index < vhost->queues)
		return &vhost->rings[index];
	*ret_why = "a ring that is not there";
	return NULL;
}

/* ---- features and config ------------------------------------------------------------------ */

static int set_features(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	uint64_t features = msg->body.u64;

	if (features & ~vtd_front_features(vhost))
		return refuse(ret_why, "features that were not offered");
	if (features == vhost->features)
		return 0;
	stop_all(vhost);
	vhost->features = features;
	vhost->dirty.is_on = features >> VTD_F_LOG_ALL & 1;
	choose_write_back(vhost);
	start_all(vhost);
	return 0;
}

static int set_protocol_features(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	if (msg->body.u64 & ~vtd_front_protocol_features())
		return refuse(ret_why, "protocol features that were not offered");
	vhost->protocol_features = msg->body.u64;
	return 0;
}

static void get_config(struct vtd_vhost *vhost, struct vtd_msg *msg)
{
	struct vtd_config *config = &msg->body.config;
	struct vtd_blk_config_args args = { .size_bytes = atomic_load(&vhost->size_bytes),
					    .logical_block_bytes = vhost->logical_block_bytes,
					    .queues = vhost->queues,
					    .is_write_back = vhost->wce };
	struct virtio_blk_config space;
	uint8_t all[VTD_CONFIG_BYTES_MAX] = { 0 };

	vtd_blk_config(&args, &space);
	memcpy(all, &space, sizeof(space));
	memcpy(config->bytes, all + config->offset, config->size);
}

#define WCE_OFFSET offsetof(struct virtio_blk_config, wce)

/* Only the write cache's byte can be written. At the end of a migration the whole space may come, for that byte. */
static int set_config(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	const struct vtd_config *config = &msg->body.config;
	bool covers = config->offset <= WCE_OFFSET && WCE_OFFSET - config->offset < config->size;

	if (!covers || (config->flags == VTD_CONFIG_WRITABLE && config->size != 1) ||
	    config->flags > VTD_CONFIG_MIGRATION)
		return VTD_MSG_UNKNOWN;
	vhost->wce = config->bytes[WCE_OFFSET - config->offset] != 0;
	if (vhost->inflight.write_back)
		atomic_store(vhost->inflight.write_back, vhost->wce);
	choose_write_back(vhost);
	return 0;
}

/* ---- memory ------------------------------------------------------------------------------- */

static int set_mem_table(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	const struct vtd_mem_table *table = &msg->body.table;
	int rc = 0;

	stop_all(vhost);
	vtd_memory_clear(&vhost->memory);
	for (unsigned i = 0; i < table->count && rc == 0; i++)
		rc = vtd_memory_add(&vhost->memory, &table->regions[i], msg->fds[i], &vhost->is_memory_broken,
				    ret_why);
	if (rc == 0)
		start_all(vhost);
	return rc;
}

static int add_mem_region(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	stop_all(vhost);
	int rc = vtd_memory_add(&vhost->memory, &msg->body.region.region, msg->fds[0], &vhost->is_memory_broken,
				ret_why);
	if (rc == 0)
		start_all(vhost);
	return rc;
}

static int remove_mem_region(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	stop_all(vhost);
	int rc = vtd_memory_remove(&vhost->memory, &msg->body.region.region, ret_why);
	if (rc == 0)
		start_all(vhost);
	return rc;
}

static int set_log_base(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	const struct vtd_log *log = &msg->body.log;

	stop_all(vhost);
	vtd_mapping_close(&vhost->dirty.mapping);
	vhost->dirty.bytes = 0;
	int rc = vtd_mapping_open(msg->fds[0], log->mmap_offset, log->mmap_size, &vhost->is_memory_broken,
				  &vhost->dirty.mapping, ret_why);
	if (rc < 0)
		return rc;
	vhost->dirty.bytes = log->mmap_size;
	start_all(vhost);
	msg->body.u64 = 0;
	return 0;
}

/* ---- rings -------------------------------------------------------------------------------- */

static int set_vring_num(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	struct vtd_ring *ring = find_ring(vhost, msg->body.state.index, ret_why);

	if (!ring)
		return -EPROTO;
	if (msg->body.state.num == 0 || msg->body.state.num > VTD_VRING_SIZE_MAX)
		return refuse(ret_why, "a ring of a size that is not served");
	vtd_ring_stop(ring);
	ring->num = msg->body.state.num;
	return start_ring(ring, ret_why);
}

static int set_vring_addr(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	struct vtd_ring *ring = find_ring(vhost, msg->body.addr.index, ret_why);

	if (!ring)
		return -EPROTO;
	vtd_ring_stop(ring);
	ring->addr = msg->body.addr;
	ring->has_addr = true;
	return start_ring(ring, ret_why);
}

static int set_vring_base(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	struct vtd_ring *ring = find_ring(vhost, msg->body.state.index, ret_why);

	if (!ring)
		return -EPROTO;
	vtd_ring_stop(ring);
	ring->base = msg->body.state.num;
	return start_ring(ring, ret_why);
}

static int get_vring_base(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	struct vtd_ring *ring = find_ring(vhost, msg->body.state.index, ret_why);

	if (!ring)
		return -EPROTO;
	vtd_ring_stop(ring);
	if (ring->kick_fd >= 0)
		close(ring->kick_fd);
	ring->kick_fd = -1; /* it runs again when there is a new one */
	msg->body.state.num = ring->base;
	return 0;
}

static int set_vring_enable(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	struct vtd_ring *ring = find_ring(vhost, msg->body.state.index, ret_why);

	if (!ring)
		return -EPROTO;
	ring->is_enabled = msg->body.state.num != 0;
	if (!should_run(ring))
		vtd_ring_stop(ring);
	return start_ring(ring, ret_why);
}

/* A queue thread reads or writes this: it must be something that can say "not now". */
static int check_signal_fd(int fd, const char **ret_why)
{
	struct stat st;
	int flags;

	if (fstat(fd, &st) < 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) || S_ISBLK(st.st_mode) ||
	    S_ISCHR(st.st_mode) || S_ISLNK(st.st_mode))
		return refuse(ret_why, "a descriptor for events that is neither eventfd nor pipe");
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return refuse(ret_why, "a descriptor for events that can't be made non-blocking");
	return 0;
}

static int set_vring_kick(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	struct vtd_ring *ring = find_ring(vhost, msg->body.u64 & VTD_VRING_INDEX_MASK, ret_why);

	if (!ring)
		return -EPROTO;
	if (msg->fd_count == 0)
		return refuse(ret_why, "a ring without a kick descriptor: it would have to be polled for ever");
	int rc = check_signal_fd(msg->fds[0], ret_why);
	if (rc < 0)
		return rc;
	vtd_ring_stop(ring);
	if (ring->kick_fd >= 0)
		close(ring->kick_fd);
	ring->kick_fd = vtd_msg_take_fd(msg, 0);
	return start_ring(ring, ret_why);
}

static int set_vring_call(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	struct vtd_ring *ring = find_ring(vhost, msg->body.u64 & VTD_VRING_INDEX_MASK, ret_why);

	if (!ring)
		return -EPROTO;
	int rc = msg->fd_count > 0 ? check_signal_fd(msg->fds[0], ret_why) : 0;
	if (rc == 0)
		vtd_ring_set_call(ring, vtd_msg_take_fd(msg, 0));
	return rc;
}

static int set_vring_err(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	struct vtd_ring *ring = find_ring(vhost, msg->body.u64 & VTD_VRING_INDEX_MASK, ret_why);

	if (!ring)
		return -EPROTO;
	int rc = msg->fd_count > 0 ? check_signal_fd(msg->fds[0], ret_why) : 0;
	if (rc < 0)
		return rc;
	vtd_ring_stop(ring);
	if (ring->err_fd >= 0)
		close(ring->err_fd);
	ring->err_fd = vtd_msg_take_fd(msg, 0);
	return start_ring(ring, ret_why);
}

/* ---- the device --------------------------------------------------------------------------- */

static void reset_device(struct vtd_vhost *vhost)
{
	stop_all(vhost);
	for (unsigned i = 0; i < vhost->queues; i++)
		vtd_ring_reset(&vhost->rings[i]);
	vtd_inflight_close(&vhost->inflight);
	vhost->wce = true;
	choose_write_back(vhost);
}

static void disable_rings(struct vtd_vhost *vhost)
{
	stop_all(vhost);
	for (unsigned i = 0; i < vhost->queues; i++)
		vhost->rings[i].is_enabled = false;
}

static int set_backend_fd(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	int rc = check_signal_fd(msg->fds[0], ret_why);

	if (rc < 0)
		return rc;
	if (vhost->backend_fd >= 0)
		close(vhost->backend_fd);
	vhost->backend_fd = vtd_msg_take_fd(msg, 0);
	return 0;
}

void vtd_front_config_changed(struct vtd_vhost *vhost)
{
	/* Without NEED_REPLY: some front ends have a pipe there, which carries no answers. */
	struct vtd_header header = { .request = VTD_BACKEND_CONFIG_CHANGE, .flags = VTD_FLAG_VERSION };

	if (vhost->backend_fd < 0)
		return;
	ssize_t n = write(vhost->backend_fd, &header, sizeof(header));
	if (n != (ssize_t)sizeof(header))
		log_warning(
			"vtd %s: the front end does not take the news of another size; the guest sees it at its next "
			"reset",
			vhost->name);
}

static int set_inflight(struct vtd_vhost *vhost, struct vtd_msg *msg, const char **ret_why)
{
	stop_all(vhost);
	vtd_inflight_close(&vhost->inflight);
	int rc = vtd_inflight_open(vhost, &msg->body.inflight, msg->fds[0], ret_why);
	if (rc < 0)
		return rc;
	choose_write_back(vhost);
	start_all(vhost);
	return 0;
}

void vtd_front_reset(struct vtd_vhost *vhost)
{
	reset_device(vhost);
	vtd_memory_clear(&vhost->memory);
	vtd_mapping_close(&vhost->dirty.mapping);
	vhost->dirty = (struct vtd_dirty){ 0 };
	if (vhost->backend_fd >= 0)
		close(vhost->backend_fd);
	vhost->backend_fd = -1;
	vhost->features = vhost->protocol_features = 0;
	atomic_store(&vhost->is_memory_broken, false);
	atomic_store(&vhost->violation, NULL);
}

/* ---- one message -------------------------------------------------------------------------- */

/* Which of the protocol features a request belongs to; -1: none. Not asked for, it is not known. */
static int feature_of(uint32_t request)
{
	switch (request) {
	case VTD_GET_QUEUE_NUM:
		return VTD_PROTOCOL_F_MQ;
	case VTD_SET_LOG_BASE:
		return VTD_PROTOCOL_F_LOG_SHMFD;
	case VTD_SET_BACKEND_REQ_FD:
		return VTD_PROTOCOL_F_BACKEND_REQ;
	case VTD_GET_CONFIG:
	case VTD_SET_CONFIG:
		return VTD_PROTOCOL_F_CONFIG;
	case VTD_GET_INFLIGHT_FD:
	case VTD_SET_INFLIGHT_FD:
		return VTD_PROTOCOL_F_INFLIGHT_SHMFD;
	case VTD_RESET_DEVICE:
		return VTD_PROTOCOL_F_RESET_DEVICE;
	case VTD_GET_MAX_MEM_SLOTS:
	case VTD_ADD_MEM_REG:
	case VTD_REM_MEM_REG:
		return VTD_PROTOCOL_F_CONFIGURE_MEM_SLOTS;
	}
	return -1;
}

/* ret_fd: to be sent with the answer and closed. Return: 0, VTD_MSG_UNKNOWN, negative errno. */
static int carry_out(struct vtd_vhost *vhost, struct vtd_msg *msg, int *ret_fd, const char **ret_why)
{
	switch (msg->header.request) {
	case VTD_GET_FEATURES:
		msg->body.u64 = vtd_front_features(vhost);
		return 0;
	case VTD_SET_FEATURES:
		return set_features(vhost, msg, ret_why);
	case VTD_SET_OWNER:
	case VTD_SET_LOG_FD: /* nobody needs to be told that the log has changed: it is shared */
		return 0;
	case VTD_RESET_OWNER:
		disable_rings(vhost);
		return 0;
	case VTD_SET_MEM_TABLE:
		return set_mem_table(vhost, msg, ret_why);
	case VTD_SET_LOG_BASE:
		return set_log_base(vhost, msg, ret_why);
	case VTD_SET_VRING_NUM:
		return set_vring_num(vhost, msg, ret_why);
	case VTD_SET_VRING_ADDR:
		return set_vring_addr(vhost, msg, ret_why);
	case VTD_SET_VRING_BASE:
		return set_vring_base(vhost, msg, ret_why);
	case VTD_GET_VRING_BASE:
		return get_vring_base(vhost, msg, ret_why);
	case VTD_SET_VRING_KICK:
		return set_vring_kick(vhost, msg, ret_why);
	case VTD_SET_VRING_CALL:
		return set_vring_call(vhost, msg, ret_why);
	case VTD_SET_VRING_ERR:
		return set_vring_err(vhost, msg, ret_why);
	case VTD_GET_PROTOCOL_FEATURES:
		msg->body.u64 = vtd_front_protocol_features();
		return 0;
	case VTD_SET_PROTOCOL_FEATURES:
		return set_protocol_features(vhost, msg, ret_why);
	case VTD_GET_QUEUE_NUM:
		msg->body.u64 = vhost->queues;
		return 0;
	case VTD_SET_VRING_ENABLE:
		return set_vring_enable(vhost, msg, ret_why);
	case VTD_SET_BACKEND_REQ_FD:
		return set_backend_fd(vhost, msg, ret_why);
	case VTD_GET_CONFIG:
		get_config(vhost, msg);
		return 0;
	case VTD_SET_CONFIG:
		return set_config(vhost, msg, ret_why);
	case VTD_GET_INFLIGHT_FD:
		return vtd_inflight_create(vhost->queues, &msg->body.inflight, ret_fd, ret_why);
	case VTD_SET_INFLIGHT_FD:
		return set_inflight(vhost, msg, ret_why);
	case VTD_RESET_DEVICE:
		reset_device(vhost);
		return 0;
	case VTD_GET_MAX_MEM_SLOTS:
		msg->body.u64 = VTD_SLOTS_MAX;
		return 0;
	case VTD_ADD_MEM_REG:
		return add_mem_region(vhost, msg, ret_why);
	case VTD_REM_MEM_REG:
		return remove_mem_region(vhost, msg, ret_why);
	}
	return VTD_MSG_UNKNOWN;
}

static size_t reply_bytes(const struct vtd_msg *msg)
{
	switch (msg->header.request) {
	case VTD_GET_VRING_BASE:
		return sizeof(msg->body.state);
	case VTD_GET_CONFIG:
		return VTD_CONFIG_HEAD_BYTES + msg->body.config.size;
	case VTD_GET_INFLIGHT_FD:
		return msg->header.size; /* front ends differ in the padding, and want their own back */
	default:
		return sizeof(msg->body.u64);
	}
}

static int acknowledge(struct vtd_vhost *vhost, struct vtd_msg *msg, bool is_done)
{
	if (!(msg->header.flags & VTD_FLAG_NEED_REPLY) || !has_protocol(vhost, VTD_PROTOCOL_F_REPLY_ACK))
		return 0;
	msg->body.u64 = !is_done;
	return vtd_msg_reply(vhost->socket, vhost->stop_fd, msg, sizeof(msg->body.u64), -1);
}

int vtd_front_handle(struct vtd_vhost *vhost, struct vtd_msg *msg, int kind, const char **ret_why)
{
	int feature = feature_of(msg->header.request), fd = -1, rc = VTD_MSG_UNKNOWN;

	if (kind == 0 && (feature < 0 || has_protocol(vhost, (unsigned)feature)))
		rc = carry_out(vhost, msg, &fd, ret_why);
	if (rc == VTD_MSG_UNKNOWN && vtd_msg_has_reply(msg->header.request))
		rc = refuse(ret_why, "a question whose feature was not negotiated");
	if (rc == VTD_MSG_UNKNOWN)
		log_debug("vtd %s: %s (%u) is not known or not possible here, and was refused", vhost->name,
			  vtd_msg_name(msg->header.request), msg->header.request);
	if (rc < 0) {
		(void)acknowledge(vhost, msg, false);
		return rc;
	}
	if (rc == 0 && vtd_msg_has_reply(msg->header.request))
		rc = vtd_msg_reply(vhost->socket, vhost->stop_fd, msg, reply_bytes(msg), fd);
	else
		rc = acknowledge(vhost, msg, rc == 0);
	if (fd >= 0)
		close(fd);
	return rc;
}
