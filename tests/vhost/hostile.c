/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Front ends and guests that mean harm.
 *
 *	vhost-hostile SOCKET PID [--rounds N] [--seed N] [ATTACK]
 *
 * Each attack is made on a connection of its own, on split and packed rings. It
 * must end that connection (or, where the table says so, be answered with an
 * error), and after it the server, process PID, is alive, has as many descriptors
 * and mappings as before, and serves a well-behaved front end. The last part
 * fills rings, descriptors and inflight regions with chance, --rounds times: any
 * outcome is good but a server that is gone, stuck, or leaks.
 *
 * The attacks are in hostile_messages.c and hostile_rings.c. Most are lessons of
 * others: the CVE is named where there is one.
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

#include "tests/vhost/hostile.h"

#define PATIENCE_MS 10000

struct front guest;
struct front_options options = { .queues = 1, .num = 64, .buffer_bytes = 65536 };
static pid_t server;
static const char *attack_name = "";
static uint64_t seed = 1;
static unsigned maps_before; /* of other guests, who stay or go */

void hostile_die(const char *what)
{
	fprintf(stderr, "vhost-hostile: %s (%s ring): %s\n", attack_name, options.packed ? "packed" : "split", what);
	exit(1);
}

uint64_t hostile_draw(uint64_t bound)
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
		hostile_die("the server is gone");
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
		hostile_die("the server is gone");
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
	hostile_die("descriptors or mappings are left behind");
}

static void begin(void)
{
	if (front_init(&guest, &options) < 0 || front_connect(&guest, PATIENCE_MS) < 0)
		hostile_die("can't connect");
}

static void expect_closed(void)
{
	struct pollfd p = { .fd = guest.socket, .events = POLLIN };
	char byte[64];

	for (;;) {
		if (poll(&p, 1, PATIENCE_MS) <= 0)
			hostile_die("the connection stays, and nothing happens");
		ssize_t n = recv(guest.socket, byte, sizeof(byte), 0);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return; /* an acknowledgement that says no may come first */
		if (n < 0)
			hostile_die("the socket fails");
	}
}

struct front_slot *hostile_slot(void)
{
	struct front_slot *s = front_slot(&guest, 0);

	if (!s)
		hostile_die("no slot");
	return s;
}

uint8_t hostile_request(uint32_t type, uint64_t sector, uint32_t bytes)
{
	const char *error = NULL;
	struct front_slot *s = hostile_slot();

	front_submit(&guest, 0, s, type, sector, bytes);
	front_kick(&guest, 0);
	while (!front_complete(&guest, 0, &error)) {
		if (error)
			hostile_die(error);
		if (front_wait(&guest, PATIENCE_MS) < 0)
			hostile_die("no answer");
	}
	return *s->status;
}

void hostile_kick(void)
{
	const uint64_t one = 1;

	(void)!write(guest.queues[0].kick_fd, &one, sizeof(one));
}

void hostile_send_raw(uint32_t id, uint32_t flags, uint32_t size, const void *body, uint32_t bytes)
{
	uint8_t all[1024] = { 0 };
	struct vtd_header header = { id, flags, size };

	memcpy(all, &header, sizeof(header));
	if (bytes)
		memcpy(all + sizeof(header), body, bytes);
	(void)!send(guest.socket, all, sizeof(header) + bytes, MSG_NOSIGNAL);
}

/* ---- what is answered ------------------------------------------------------------------------ */

static void expect_status(uint32_t type, uint64_t sector, uint32_t bytes, uint8_t status)
{
	if (hostile_request(type, sector, bytes) != status)
		hostile_die("another status than expected");
}

static void answered_requests(void)
{
	uint64_t sectors = guest.config.capacity;
	struct virtio_blk_discard_write_zeroes bad = { .sector = sectors - 8, .num_sectors = 16 };

	expect_status(VIRTIO_BLK_T_IN, sectors, 512, VIRTIO_BLK_S_IOERR);
	expect_status(VIRTIO_BLK_T_IN, UINT64_MAX, 4096, VIRTIO_BLK_S_IOERR);
	expect_status(VIRTIO_BLK_T_OUT, UINT64_MAX / 512, 4096, VIRTIO_BLK_S_IOERR);
	expect_status(VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, 4096, VIRTIO_BLK_S_IOERR);
	expect_status(VIRTIO_BLK_T_IN, sectors - 1, 1024, VIRTIO_BLK_S_IOERR);
	expect_status(VIRTIO_BLK_T_IN, 0, 100, VIRTIO_BLK_S_IOERR); /* CVE-2011-1750 */
	expect_status(VIRTIO_BLK_T_OUT, 0, 513, VIRTIO_BLK_S_IOERR);
	expect_status(4711, 0, 512, VIRTIO_BLK_S_UNSUPP);
	memcpy(hostile_slot()->buffer, &bad, sizeof(bad));
	expect_status(VIRTIO_BLK_T_DISCARD, 0, 16, VIRTIO_BLK_S_IOERR);
	memcpy(hostile_slot()->buffer, &bad, sizeof(bad));
	expect_status(VIRTIO_BLK_T_DISCARD, 0, 15, VIRTIO_BLK_S_IOERR);
	bad = (struct virtio_blk_discard_write_zeroes){ .sector = 0, .num_sectors = 8, .flags = 1 };
	memcpy(hostile_slot()->buffer, &bad, sizeof(bad));
	expect_status(VIRTIO_BLK_T_DISCARD, 0, 16, VIRTIO_BLK_S_UNSUPP);
	expect_status(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK);
	expect_status(VIRTIO_BLK_T_GET_ID, 0, 20, VIRTIO_BLK_S_OK);
	front_disconnect(&guest);
}

/* CVE-2022-0669, CVE-2020-10726: each repetition costs a descriptor and a mapping, for ever. */
static void repeated_messages(void)
{
	for (unsigned i = 0; i < 300; i++) {
		struct vtd_inflight d = { .num_queues = 1, .queue_size = 64 };
		int fd = -1;

		if (front_send(&guest, VTD_GET_INFLIGHT_FD, 0, &d, sizeof(d), NULL, 0) < 0 ||
		    front_receive(&guest, VTD_GET_INFLIGHT_FD, &d, sizeof(d), &fd) < 0 || fd < 0)
			hostile_die("no inflight region");
		if (front_send(&guest, VTD_SET_INFLIGHT_FD, 0, &d, sizeof(d), &fd, 1) < 0)
			hostile_die("the region is refused");
		close(fd);
		if (front_share_memory(&guest) < 0)
			hostile_die("the same memory again is refused");
	}
	if (count_fds() > 200 || count_shared_maps() > maps_before + 8)
		hostile_die("each repetition costs something");
	expect_status(VIRTIO_BLK_T_IN, 0, 512, VIRTIO_BLK_S_OK);
	front_disconnect(&guest);
}

static void vanishes_with_requests(void)
{
	for (unsigned i = 0; i < 15; i++)
		front_submit(&guest, 0, hostile_slot(), i % 3 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_FLUSH, i * 128,
			     i % 3 ? 65536 : 0);
	hostile_kick();
	front_disconnect(&guest);
}

static void never_reads_answers(void)
{
	struct pollfd p = { .fd = guest.socket, .events = POLLOUT };

	/* Until neither side can send: the server gives up after its own patience, or we go first. */
	for (unsigned i = 0; i < 100000 && poll(&p, 1, 200) == 1; i++)
		hostile_send_raw(VTD_GET_FEATURES, VTD_FLAG_VERSION, 0, NULL, 0);
	front_disconnect(&guest);
}

#define ANSWERED(name)                                                                                               \
	{                                                                                                            \
#name, name, false                                                                                   \
	}

static const struct attack answered[] = {
	ANSWERED(answered_requests),
	ANSWERED(repeated_messages),
	ANSWERED(vanishes_with_requests),
	ANSWERED(never_reads_answers),
	{ 0 },
};

/* ---- chance ---------------------------------------------------------------------------------- */

static void scribble(void *at, size_t bytes, unsigned changes)
{
	uint8_t *p = at;

	for (unsigned i = 0; i < changes; i++)
		p[hostile_draw(bytes)] = hostile_draw(3) ? (uint8_t)hostile_draw(256) : (uint8_t)hostile_draw(4);
}

static void chance(void)
{
	struct front_queue *q = &guest.queues[0];
	uint8_t *region = mmap(NULL, guest.inflight.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			       guest.inflight_fd, 0);

	for (unsigned i = 0; i < 12; i++) {
		struct front_slot *s = front_slot(&guest, 0);
		if (s)
			front_submit(&guest, 0, s, (uint32_t)hostile_draw(5), hostile_draw(1000),
				     (uint32_t)hostile_draw(65536));
	}
	scribble(q->desc, 64 * 16, (unsigned)hostile_draw(20));
	scribble(q->driver, 134, (unsigned)hostile_draw(3));
	scribble(q->slots[0].header, 4096, (unsigned)hostile_draw(40));
	hostile_kick();
	front_share_memory(&guest); /* waits until the rings have looked */
	if (region != MAP_FAILED) {
		scribble(region, guest.inflight.mmap_size, (unsigned)hostile_draw(200));
		munmap(region, guest.inflight.mmap_size);
	}
	/* Again, with the region and the rings as they are now. */
	if (front_connect(&guest, PATIENCE_MS) == 0)
		hostile_kick();
	front_share_memory(&guest);
	front_disconnect(&guest);
}

/* ---- the run --------------------------------------------------------------------------------- */

static void behave(void)
{
	begin();
	if (hostile_request(VIRTIO_BLK_T_IN, 0, 4096) != VIRTIO_BLK_S_OK)
		hostile_die("afterwards a read fails");
	front_done(&guest);
}

static void run(const struct attack *a, unsigned fds)
{
	attack_name = a->name;
	begin();
	a->run();
	if (a->ends)
		expect_closed();
	front_done(&guest);
	expect_as_before(fds);
	behave();
	expect_as_before(fds);
}

/* Return: how many were made. */
static unsigned run_table(const struct attack *a, const char *only, unsigned fds)
{
	unsigned count = 0;

	for (; a->name; a++) {
		if ((only && strcmp(only, a->name) != 0) ||
		    (options.packed && strncmp(a->name, "split_only", 10) == 0))
			continue;
		run(a, fds);
		count++;
	}
	return count;
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
		count += run_table(message_attacks, only, fds);
		count += run_table(ring_attacks, only, fds);
		count += run_table(answered, only, fds);
		attack_name = "chance";
		for (unsigned i = 0; i < rounds && !only; i++) {
			options.indirect = hostile_draw(2);
			begin();
			chance();
			front_done(&guest);
			if (i % 20 == 0)
				behave();
		}
		options.indirect = true;
		expect_as_before(fds);
	}
	printf("%u attacks, %u rounds of chance, and the server serves\n", count, only ? 0 : 2 * rounds);
	return 0;
}
