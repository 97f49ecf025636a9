/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One load on a vhost-user-blk device, by a client that sleeps while it waits (one that polls would take the server's
 * core away on a small machine).
 *
 *	vhost-bench SOCKET read|write|randread|randwrite|randwritesync|fill|idle BYTES DEPTH SECONDS
 *
 * Within the first 512 MiB of the device. Prints requests a second. randwritesync: each write is followed by a flush,
 * and the two count as one. fill writes all of it once and prints nothing; idle is connected and asks for nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/vhost/front.h"

#define AREA_BYTES (512 * MIB)

static struct front front;
static uint64_t state = 88172645463325252ull;

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fail(const char *what, int error)
{
	fprintf(stderr, "vhost-bench: %s: %s\n", what, strerror(error));
	exit(1);
}

static uint64_t next_offset(bool random, uint64_t bytes)
{
	static uint64_t position;
	uint64_t slots = AREA_BYTES / bytes;

	if (!random)
		return position++ % slots * bytes;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % slots * bytes;
}

struct load {
	bool random, write, sync;
	uint32_t bytes;
	unsigned depth, inflight;
	uint64_t begun, done, want;
};

static void begin(struct load *load)
{
	struct front_slot *slot;

	while (load->inflight < load->depth && load->begun < load->want && (slot = front_slot(&front, 0))) {
		front_submit(&front, 0, slot, load->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
			     next_offset(load->random, load->bytes) / 512, load->bytes);
		load->inflight++;
		load->begun++;
	}
}

/* Return: how many answers there were. */
static unsigned reap(struct load *load)
{
	const char *error = NULL;
	struct front_slot *slot;
	unsigned got = 0;

	for (; (slot = front_complete(&front, 0, &error)); got++) {
		if (*slot->status != VIRTIO_BLK_S_OK)
			fail("a request", EIO);
		if (load->sync && slot->type == VIRTIO_BLK_T_OUT) {
			front_submit(&front, 0, slot, VIRTIO_BLK_T_FLUSH, 0, 0);
			continue;
		}
		load->inflight--;
		load->done++;
	}
	if (error)
		fail(error, EPROTO);
	return got;
}

static void run(struct load *load, double end)
{
	while (now_s() < end && load->done < load->want) {
		int rc = 0;

		begin(load);
		front_kick(&front, 0);
		if (reap(load) == 0)
			rc = front_wait(&front, 20000);
		if (rc < 0)
			fail("wait", -rc);
	}
}

int main(int argc, char **argv)
{
	if (argc != 6)
		return 2;
	bool fill = strcmp(argv[2], "fill") == 0;
	struct load load = { .random = strncmp(argv[2], "rand", 4) == 0,
			     .write = fill || strstr(argv[2], "write"),
			     .sync = strstr(argv[2], "sync"),
			     .bytes = (uint32_t)atoi(argv[3]),
			     .depth = (unsigned)atoi(argv[4]) };
	struct front_options o = { .socket_path = argv[1],
				   .queues = 1,
				   .num = 256,
				   .indirect = true,
				   .whole = true,
				   .buffer_bytes = load.bytes };
	int rc = front_init(&front, &o);

	load.want = fill ? AREA_BYTES / load.bytes : UINT64_MAX;
	if (rc == 0)
		rc = front_connect(&front, 10000);
	if (rc < 0)
		return fail("connect", -rc);
	memset(front.mem + front.mem_bytes / 2, 0x5a, front.mem_bytes / 2);
	if (strcmp(argv[2], "idle") == 0) {
		sleep((unsigned)atoi(argv[5]));
	} else {
		double start = now_s();

		run(&load, fill ? start + 600 : start + atof(argv[5]));
		if (!fill)
			printf("%.0f\n", (double)load.done / (now_s() - start));
	}
	front_done(&front);
	return 0;
}
