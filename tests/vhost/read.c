/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of a read-only vhost-user-blk device to standard output.
 *
 *	vhost-read SOCKET
 *
 * The device must offer VIRTIO_BLK_F_RO. A write is tried before the first read, as a guest that does not look at
 * features would, and must be answered with an error; so if it did anything, the output shows it.
 *
 * Exit status: 0; 1 with a message: it is not read-only, it takes a write, a read fails, or nothing comes for 10 s.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/vhost/front.h"

#define PIECE_BYTES 65536u
#define PATIENCE_MS 10000

static struct front front;

static _Noreturn void die(const char *what, uint64_t sector)
{
	fprintf(stderr, "vhost-read: sector %llu: %s\n", (unsigned long long)sector, what);
	exit(1);
}

/* One request at a time. The slot is good until the next one. */
static struct front_slot *request(struct front_slot *slot, uint32_t type, uint64_t sector, uint32_t bytes)
{
	const char *error = NULL;
	struct front_slot *answered;

	front_submit(&front, 0, slot, type, sector, bytes);
	front_kick(&front, 0);
	while (!(answered = front_complete(&front, 0, &error))) {
		int rc = error ? -EPROTO : front_wait(&front, PATIENCE_MS);
		if (rc < 0)
			die(error ? error : strerror(-rc), sector);
	}
	return answered;
}

static void try_to_write(void)
{
	struct front_slot *slot = front_slot(&front, 0);

	memset(slot->buffer, 0xee, PIECE_BYTES);
	if (*request(slot, VIRTIO_BLK_T_OUT, 0, PIECE_BYTES)->status == VIRTIO_BLK_S_OK)
		die("a write is answered as done", 0);
}

static void read_all(uint64_t sectors)
{
	for (uint64_t at = 0; at < sectors;) {
		uint32_t bytes = (uint32_t)MIN((sectors - at) * 512, (uint64_t)PIECE_BYTES);
		struct front_slot *slot = request(front_slot(&front, 0), VIRTIO_BLK_T_IN, at, bytes);
		if (*slot->status != VIRTIO_BLK_S_OK)
			die("a read is answered with an error", at);
		if (fwrite(slot->buffer, 1, bytes, stdout) != bytes)
			die("standard output", at);
		at += bytes / 512;
	}
}

int main(int argc, char **argv)
{
	struct front_options o = { .queues = 1,
				   .num = FRONT_NUM_MAX,
				   .buffer_bytes = PIECE_BYTES,
				   .extra_features = UINT64_C(1) << VIRTIO_BLK_F_RO };

	if (argc != 2)
		return 2;
	o.socket_path = argv[1];
	int rc = front_init(&front, &o);
	if (rc == 0)
		rc = front_connect(&front, PATIENCE_MS);
	if (rc < 0)
		die(strerror(-rc), 0);
	if (!(front.features >> VIRTIO_BLK_F_RO & 1))
		die("the device does not say that it is read-only", 0);
	try_to_write();
	read_all(front.config.capacity);
	front_done(&front);
	return fflush(stdout) != 0;
}
