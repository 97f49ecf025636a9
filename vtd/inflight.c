/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inflight region: made here, kept by the front end, given back after our death.
 *
 * One part for each queue, of one size, as proto.h and vring_*.c lay it out;
 * behind the parts a trailer of our own with what the guest has chosen for the
 * write cache: a front end does not say that again when it reconnects, and a
 * guest that believes to have no cache must not get one.
 *
 * A part has room for the largest ring, whatever size is asked for: QEMU asks for its
 * queue-size (128), and takes larger rings from a guest all the same, as SeaBIOS makes
 * them (256). A region in which parts of that size have no room, from elsewhere or an
 * older daemon, has parts of the size that it says.
 *
 * The region is a sealed memfd when it comes from us; what is given to us may be
 * any file and may hold anything, so it is mapped as guest memory is, and each
 * ring believes its part only as far as it makes sense.
 *
 * Failure modes: no memory for a memfd: the front end gets no region.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vtd/internal.h"

#define TRAILER_MAGIC UINT64_C(0x6264667377636531) /* any number that is not there by chance */

struct trailer {
	uint64_t magic;
	_Atomic uint8_t write_back; /* 0, 1 */
	uint8_t padding[55];
};

static uint64_t parts_bytes(unsigned queues, unsigned queue_size)
{
	return (uint64_t)queues * vtd_vring_inflight_bytes(queue_size);
}

static int check(unsigned queues, const struct vtd_inflight *d, const char **ret_why)
{
	if (d->num_queues > 0 && d->num_queues <= queues && d->queue_size > 0 && d->queue_size <= VTD_VRING_SIZE_MAX)
		return 0;
	*ret_why = "an inflight region for queues that are not there";
	return -EPROTO;
}

int vtd_inflight_create(unsigned queues, struct vtd_inflight *d, int *ret_fd, const char **ret_why)
{
	int rc = check(queues, d, ret_why);

	if (rc < 0)
		return rc;
	uint64_t parts = parts_bytes(d->num_queues, VTD_VRING_SIZE_MAX);
	uint64_t bytes = round_up_to(parts + sizeof(struct trailer), 4096);
	int fd = memfd_create("bdfs-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	d->mmap_size = bytes;
	d->mmap_offset = 0;
	*ret_fd = fd;
	return 0;
}

static void open_trailer(struct vtd_vhost *vhost, struct vtd_inflight_map *map, uint64_t bytes, uint64_t at)
{
	if (bytes < at + sizeof(struct trailer))
		return;
	struct trailer *t = (struct trailer *)(void *)(map->mapping.host + at);
	if (t->magic == TRAILER_MAGIC) {
		vhost->wce = atomic_load(&t->write_back) == 1;
	} else {
		atomic_store(&t->write_back, vhost->wce);
		t->magic = TRAILER_MAGIC;
	}
	map->write_back = &t->write_back;
}

int vtd_inflight_open(struct vtd_vhost *vhost, const struct vtd_inflight *d, int fd, const char **ret_why)
{
	struct vtd_inflight_map *map = &vhost->inflight;
	unsigned queue_size = d->mmap_size >= parts_bytes(d->num_queues, VTD_VRING_SIZE_MAX) ? VTD_VRING_SIZE_MAX :
												d->queue_size;
	uint64_t parts = parts_bytes(d->num_queues, queue_size);
	int rc = check(vhost->queues, d, ret_why);

	if (rc < 0)
		return rc;
	if (d->mmap_size < parts || d->mmap_offset % 8 != 0) {
		*ret_why = "an inflight region that is too small";
		return -EPROTO;
	}
	rc = vtd_mapping_open(fd, d->mmap_offset, d->mmap_size, &vhost->is_memory_broken, &map->mapping, ret_why);
	if (rc < 0)
		return rc;
	map->queues = d->num_queues;
	map->queue_size = queue_size;
	map->write_back = NULL;
	open_trailer(vhost, map, d->mmap_size, parts);
	return 0;
}

void vtd_inflight_close(struct vtd_inflight_map *inflight)
{
	vtd_mapping_close(&inflight->mapping);
	*inflight = (struct vtd_inflight_map){ 0 };
}

void *vtd_inflight_part(const struct vtd_inflight_map *inflight, unsigned queue)
{
	if (!inflight->mapping.map || queue >= inflight->queues)
		return NULL;
	return inflight->mapping.host + queue * vtd_vring_inflight_bytes(inflight->queue_size);
}
