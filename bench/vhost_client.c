/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One load on a vhost-user-blk device, by a client that sleeps while it waits (one that polls would take the server's
 * core away on a small machine).
 *
 *	vhost-bench SOCKET read|write|randread|randwrite|randwritesync|fill|idle BYTES DEPTH SECONDS [detail]
 *
 * Within the first 512 MiB of the device. Prints requests a second; with "detail" an object of JSON with percentiles of
 * the latency and the client's processor time besides. randwritesync: each write is followed by a flush,
 * and the two count as one. fill writes all of it once and prints nothing; idle is connected and asks for nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/vhost/front.h"

#define AREA_BYTES_MAX (512 * MIB)
/* Latencies that are kept; what comes after them is counted only. */
#define SAMPLES_MAX (UINT64_C(1) << 24)

static struct front front;
static uint64_t area_bytes;
static uint32_t *samples; /* of "detail": nanoseconds */
static uint64_t sample_count;
static uint64_t state = 88172645463325252ull;

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void keep_latency(const struct front_slot *slot)
{
	uint64_t ns = now_ns() - (uintptr_t)slot->user;

	if (sample_count < SAMPLES_MAX)
		samples[sample_count++] = (uint32_t)MIN(ns, UINT32_MAX);
}

static int by_size(const void *pa, const void *pb)
{
	const uint32_t *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

static double percentile_us(double share)
{
	return sample_count ? samples[(uint64_t)((double)(sample_count - 1) * share)] / 1000.0 : 0;
}

static void print_detail(uint64_t done, double seconds)
{
	struct timespec cpu;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	double cpu_s = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
	qsort(samples, sample_count, sizeof(*samples), by_size);
	printf("{\"ops\": %llu, \"iops\": %.1f, \"cpu_s\": %.6f, \"p50_us\": %.3f, \"p99_us\": %.3f, "
	       "\"p99_9_us\": %.3f}\n",
	       (unsigned long long)done, (double)done / seconds, cpu_s, percentile_us(0.5), percentile_us(0.99),
	       percentile_us(0.999));
}

static int fail(const char *what, int error)
{
	fprintf(stderr, "vhost-bench: %s: %s\n", what, strerror(error));
	exit(1);
}

static uint64_t next_offset(bool random, uint64_t bytes)
{
	static uint64_t position;
	uint64_t slots = area_bytes / bytes;

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
		if (samples)
			slot->user = (void *)(uintptr_t)now_ns();
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
		if (samples)
			keep_latency(slot);
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
	bool detail = argc == 7 && strcmp(argv[6], "detail") == 0;

	if (argc != 6 && !detail)
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

	if (detail)
		samples = malloc(SAMPLES_MAX * sizeof(*samples)); /* pages come as they are used */
	if (detail && !samples)
		return fail("no memory", ENOMEM);
	if (rc == 0)
		rc = front_connect(&front, 10000);
	if (rc < 0)
		return fail("connect", -rc);
	/* A server that does not tell its size is taken to have enough. */
	area_bytes = front.config.capacity ? MIN(AREA_BYTES_MAX, front.config.capacity * 512) : AREA_BYTES_MAX;
	load.want = fill ? area_bytes / load.bytes : UINT64_MAX;
	memset(front.mem + front.mem_bytes / 2, 0x5a, front.mem_bytes / 2);
	if (strcmp(argv[2], "idle") == 0) {
		sleep((unsigned)atoi(argv[5]));
	} else {
		double start = now_s();

		run(&load, fill ? start + 600 : start + atof(argv[5]));
		double ran = now_s() - start;
		if (detail)
			print_detail(load.done, ran);
		else if (!fill)
			printf("%.0f\n", (double)load.done / ran);
	}
	front_done(&front);
	return 0;
}
