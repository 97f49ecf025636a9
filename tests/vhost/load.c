/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A verified random load on a vhost-user-blk device, over any number of deaths of its daemon.
 *
 *	vhost-load SOCKET [--packed] [--indirect] [--no-event-idx] [--small-inflight] [--queues N] [--depth N]
 *	           [--ops N] [--blocks N] [--seed N]
 *
 * Blocks of 4 KiB each carry their number and a version in every sector. A
 * request takes 1 to 16 blocks that no other request in flight touches; writes
 * raise the version, discards and write zeroes set it to 0 (zeros), reads and the
 * last pass compare. When the connection is lost it is made again, with the
 * inflight region, and what was in flight has to be answered, once, without an
 * error. Prints a line for each lost connection and the longest pause.
 *
 * Exit status: 0; 1 with a message: a mismatch, an error status, an answer too
 * much, or no answer for 60 s. The seed is printed. The disk was not
 * written before.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/vhost/front.h"

#define BLOCK 4096u
#define SPAN_MAX 16
#define PATIENCE_MS 60000

struct block {
	uint32_t version;
	bool busy;
};

static struct front front;
static struct block *blocks;
static uint64_t block_count = 4096, ops = 20000, done, seed, state;
static unsigned depth = 32, inflight, lost;
static double longest_pause_s, pause_began_s, connected_s;
static bool is_paused;

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t draw(uint64_t bound)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state * UINT64_C(0x2545f4914f6cdd1d) >> 11) % bound;
}

static void die(const char *what, uint64_t block)
{
	fprintf(stderr, "vhost-load: seed %llu, after %llu requests, block %llu: %s\n", (unsigned long long)seed,
		(unsigned long long)done, (unsigned long long)block, what);
	exit(1);
}

static void fill(uint8_t *at, uint64_t block, uint32_t version)
{
	for (unsigned i = 0; i < BLOCK / 8; i++) {
		uint64_t word =
			version == 0 ? 0 : (block + 1) * UINT64_C(0x9e3779b97f4a7c15) + ((uint64_t)version << 20) + i;
		memcpy(at + i * 8, &word, 8);
	}
}

static void check(const uint8_t *at, uint64_t block, uint32_t version)
{
	uint8_t expected[BLOCK];

	fill(expected, block, version);
	if (memcmp(at, expected, BLOCK) != 0)
		die(version ? "not what was written" : "not zeros", block);
}

static bool claim(uint64_t first, unsigned span)
{
	for (unsigned i = 0; i < span; i++)
		if (blocks[first + i].busy)
			return false;
	for (unsigned i = 0; i < span; i++)
		blocks[first + i].busy = true;
	return true;
}

static void submit(unsigned q, struct front_slot *slot, uint32_t type, uint64_t first, unsigned span)
{
	uint32_t bytes = span * BLOCK;

	for (unsigned i = 0; i < span; i++) {
		struct block *b = &blocks[first + i];
		if (type == VIRTIO_BLK_T_OUT)
			fill(slot->buffer + i * BLOCK, first + i, ++b->version);
		else if (type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES)
			b->version = 0;
	}
	if (type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES) {
		struct virtio_blk_discard_write_zeroes range = { .sector = first * 8, .num_sectors = span * 8 };
		memcpy(slot->buffer, &range, sizeof(range));
		bytes = sizeof(range);
	}
	if (type == VIRTIO_BLK_T_FLUSH)
		bytes = 0;
	slot->user = (void *)(uintptr_t)(first << 8 | span);
	front_submit(&front, q, slot, type, type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_OUT ? first * 8 : 0,
		     bytes);
	inflight++;
}

static uint32_t draw_type(void)
{
	uint64_t n = draw(100);

	return n < 45   ? VIRTIO_BLK_T_OUT
	       : n < 88 ? VIRTIO_BLK_T_IN
	       : n < 92 ? VIRTIO_BLK_T_FLUSH
	       : n < 96 ? VIRTIO_BLK_T_DISCARD
			: VIRTIO_BLK_T_WRITE_ZEROES;
}

static void submit_random(void)
{
	unsigned q = (unsigned)draw(front.o.queues), span = 1 + (unsigned)draw(draw(4) == 0 ? SPAN_MAX : 2);
	struct front_slot *slot = front_slot(&front, q);
	uint32_t type = draw_type();
	uint64_t first = draw(block_count - span + 1);

	if (!slot || (type != VIRTIO_BLK_T_FLUSH && !claim(first, span)))
		return;
	submit(q, slot, type, first, type == VIRTIO_BLK_T_FLUSH ? 0 : span);
}

static void finish(struct front_slot *slot)
{
	uint64_t first = (uintptr_t)slot->user >> 8;
	unsigned span = (uintptr_t)slot->user & 0xff;

	if (*slot->status != VIRTIO_BLK_S_OK)
		die("answered with an error", first);
	for (unsigned i = 0; i < span; i++) {
		if (slot->type == VIRTIO_BLK_T_IN)
			check(slot->buffer + i * BLOCK, first + i, blocks[first + i].version);
		blocks[first + i].busy = false;
	}
	inflight--;
	done++;
}

/* The pause ends with the first answer; there is one, as something is in flight or will be. */
static void end_pause(void)
{
	double pause = now_s() - pause_began_s;

	is_paused = false;
	if (pause > longest_pause_s)
		longest_pause_s = pause;
	printf("connection %u lost after %llu requests: connected again after %.3f s, first answer after %.3f s\n",
	       lost, (unsigned long long)done, connected_s - pause_began_s, pause);
	fflush(stdout);
}

static bool reap(void)
{
	const char *error = NULL;
	struct front_slot *slot;
	bool any = false;

	for (unsigned q = 0; q < front.o.queues; q++) {
		while ((slot = front_complete(&front, q, &error))) {
			if (is_paused)
				end_pause();
			finish(slot);
			any = true;
		}
		if (error)
			die(error, 0);
	}
	return any;
}

static void reconnect(void)
{
	/* Lost again before the first answer, it is one pause. */
	if (!is_paused)
		pause_began_s = now_s();
	is_paused = true;
	int rc = front_connect(&front, PATIENCE_MS);

	if (rc < 0)
		die(strerror(-rc), 0);
	for (unsigned q = 0; q < front.o.queues; q++)
		front.queues[q].added = 0;
	connected_s = now_s();
	lost++;
}

static void wait_for_answers(void)
{
	for (unsigned q = 0; q < front.o.queues; q++)
		front_kick(&front, q);
	if (reap())
		return;
	if (inflight == 0)
		return;
	int rc = front_wait(&front, PATIENCE_MS);
	if (rc == -ECONNRESET)
		reconnect();
	else if (rc < 0)
		die(rc == -ETIMEDOUT ? "no answer" : strerror(-rc), 0);
}

static void read_all(void)
{
	for (uint64_t first = 0; first < block_count || inflight > 0;) {
		struct front_slot *slot = front_slot(&front, 0);
		unsigned span = (unsigned)MIN(block_count - first, (uint64_t)SPAN_MAX);

		if (first < block_count && slot && inflight < depth) {
			if (!claim(first, span))
				die("still in flight at the end", first);
			submit(0, slot, VIRTIO_BLK_T_IN, first, span);
			first += span;
		} else {
			wait_for_answers();
		}
	}
}

static void parse(int argc, char **argv, struct front_options *o)
{
	static const struct option options[] = {
		{ "packed", 0, NULL, 'p' }, { "indirect", 0, NULL, 'i' }, { "no-event-idx", 0, NULL, 'e' },
		{ "queues", 1, NULL, 'q' }, { "depth", 1, NULL, 'd' },    { "ops", 1, NULL, 'o' },
		{ "blocks", 1, NULL, 'b' }, { "seed", 1, NULL, 's' },     { "small-inflight", 0, NULL, 'm' },
		{ 0 }
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			o->packed = true;
			break;
		case 'i':
			o->indirect = true;
			break;
		case 'e':
			o->no_event_idx = true;
			break;
		case 'm':
			o->small_inflight = true;
			break;
		case 'q':
			o->queues = (unsigned)atoi(optarg);
			break;
		case 'd':
			depth = (unsigned)atoi(optarg);
			break;
		case 'o':
			ops = strtoull(optarg, NULL, 0);
			break;
		case 'b':
			block_count = strtoull(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		default:
			exit(2);
		}
	}
	if (optind + 1 != argc)
		exit(2);
	o->socket_path = argv[optind];
}

int main(int argc, char **argv)
{
	struct front_options o = { .queues = 1, .num = FRONT_NUM_MAX, .buffer_bytes = SPAN_MAX * BLOCK };

	seed = (uint64_t)time(NULL);
	parse(argc, argv, &o);
	state = seed * 2 + 1;
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	blocks = calloc(block_count, sizeof(*blocks));
	int rc = blocks ? front_init(&front, &o) : -ENOMEM;
	if (rc == 0)
		rc = front_connect(&front, 10000);
	if (rc < 0)
		die(strerror(-rc), 0);
	while (done + inflight < ops) {
		for (unsigned tries = 0; inflight < depth && tries < 2 * depth && done + inflight < ops; tries++)
			submit_random();
		wait_for_answers();
	}
	while (inflight > 0)
		wait_for_answers();
	read_all();
	printf("%llu requests, %u connections lost, longest pause %.3f s\n", (unsigned long long)done, lost,
	       longest_pause_s);
	front_done(&front);
	free(blocks);
	return 0;
}
