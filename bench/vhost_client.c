/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One load on a vhost-user-blk device, by a client that sleeps while it waits (one that polls would take the server's
 * core away on a small machine).
 *
 *	vhost-bench SOCKET read|write|randread|randwrite|fill BYTES DEPTH SECONDS
 *
 * Within the first 512 MiB of the device. Prints requests a second; fill writes all of it once and prints nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

int main(int argc, char **argv)
{
	if (argc != 6)
		return 2;
	bool fill = strcmp(argv[2], "fill") == 0, random = strncmp(argv[2], "rand", 4) == 0;
	bool write = fill || strstr(argv[2], "write");
	uint32_t bytes = (uint32_t)atoi(argv[3]);
	unsigned depth = (unsigned)atoi(argv[4]), inflight = 0;
	struct front_options o = { .socket_path = argv[1],
				   .queues = 1,
				   .num = 256,
				   .indirect = true,
				   .whole = true,
				   .buffer_bytes = bytes };
	int rc = front_init(&front, &o);
	uint64_t done = 0, begun = 0, want = fill ? AREA_BYTES / bytes : UINT64_MAX;
	const char *error = NULL;

	if (rc == 0)
		rc = front_connect(&front, 10000);
	if (rc < 0)
		return fail("connect", -rc);
	memset(front.mem + front.mem_bytes / 2, 0x5a, front.mem_bytes / 2);
	double start = now_s(), end = fill ? start + 600 : start + atof(argv[5]);
	while (now_s() < end && done < want) {
		struct front_slot *slot;
		while (inflight < depth && begun < want && (slot = front_slot(&front, 0))) {
			front_submit(&front, 0, slot, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
				     next_offset(random, bytes) / 512, bytes);
			inflight++;
			begun++;
		}
		front_kick(&front, 0);
		unsigned got = 0;
		while ((slot = front_complete(&front, 0, &error))) {
			if (*slot->status != VIRTIO_BLK_S_OK)
				return fail("a request", EIO);
			got++;
		}
		if (error)
			return fail(error, EPROTO);
		inflight -= got;
		done += got;
		if (got == 0 && (rc = front_wait(&front, 20000)) < 0)
			return fail("wait", -rc);
	}
	if (!fill)
		printf("%.0f\n", (double)done / (now_s() - start));
	front_done(&front);
	return 0;
}
