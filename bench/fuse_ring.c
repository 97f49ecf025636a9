/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE floor without libfuse: a file served from nothing or from memory,
 * by a loop of our own on io_uring. Two transports under the same answers, so
 * that what differs between two runs is the way of a request alone:
 *
 *	device   requests are read from /dev/fuse by the ring and answered by a
 *	         write through it, as bdfs does it (fs/transport.c)
 *	ring     FUSE over io_uring (Linux 6.14): one queue for each processor, an
 *	         entry of it comes with a request and goes back with the answer
 *
 * The model: node 1 is the root, node 2 the file, as in one_file.c. A thread
 * has a ring of its own and serves its queues (queue i belongs to thread
 * i modulo threads); nothing is handed over. Over the ring, FORGET and
 * INTERRUPT still come by the device, and so does all that comes before the
 * last entry is registered: the main thread reads it there.
 *
 * The happy path: fuse_ring [OPTION...] SIZE_BYTES MOUNTPOINT; the file is
 * MOUNTPOINT/data; umount(8) ends it.
 *
 * Failure modes: without the kernel's leave (/sys/module/fuse/parameters/enable_uring
 * is N, or the kernel is older) --transport ring ends with status 3 and says
 * so. All else that fails ends the process with a line; the kernel then
 * aborts the mount.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <liburing.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/types.h"

/* Of <linux/fuse.h> from Linux 6.14, which Debian 12 does not have. */
#define OVER_IO_URING (UINT64_C(1) << 41)
#define CMD_REGISTER 1
#define CMD_COMMIT_AND_FETCH 2
#define OPEN_PARALLEL_DIRECT_WRITES (1u << 6)

struct ring_header {
	_Alignas(8) uint8_t in_out[128]; /* the request's header, later the answer's */
	_Alignas(8) uint8_t op_in[128];  /* the operation's struct */
	uint64_t flags, commit_id;
	uint32_t payload_bytes, padding;
	uint64_t reserved;
};

struct ring_command {
	uint64_t flags, commit_id;
	uint16_t queue;
	uint8_t padding[6];
};

#define FILE_NODE 2
#define DATA_BYTES_MAX (1u << 20)
/* Where the payload of a WRITE begins, so that it is page-aligned. */
#define WRITE_HEADER_BYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
#define SLOT_BYTES (4096 + DATA_BYTES_MAX)
#define DEVICE_SLOTS 192
#define DEVICE_READS 2
#define THREADS_MAX 64
#define MAX_BACKGROUND 1024
#define NOT_AVAILABLE 3

struct slot {
	struct thread *thread;
	uint8_t *data; /* page-aligned, DATA_BYTES_MAX; the device's message begins before it */
	bool replying; /* device: a reply is under way, else a read */
	struct fuse_out_header out;
	struct iovec iov[2];
	struct slot *next_free;
	/* ring */
	struct ring_header *header;
	uint16_t queue;
};

struct thread {
	pthread_t id;
	unsigned number;
	struct io_uring ring;
	struct slot *slots, *free;
	unsigned slot_count, reads;
};

static struct {
	bool ring, null, pin, defer;
	unsigned threads, depth, queues;
	unsigned spin_us;
	uint64_t size_bytes;
	uint8_t *memory;
	int fd;
	struct thread pool[THREADS_MAX];
} server = { .threads = 1, .depth = 32 };

static void die(const char *what, int error)
{
	fprintf(stderr, "fuse_ring: %s: %s\n", what, strerror(error));
	exit(EXIT_FAILURE);
}

/* ---- answers ------------------------------------------------------------------------------ */

static struct fuse_attr attr_of(uint64_t node)
{
	bool is_file = node == FILE_NODE;

	return (struct fuse_attr){ .ino = node,
				   .size = is_file ? server.size_bytes : 0,
				   .blocks = is_file ? server.size_bytes / 512 : 0,
				   .mode = is_file ? S_IFREG | 0600 : S_IFDIR | 0755,
				   .nlink = 1,
				   .blksize = 4096 };
}

static int answer_read(const struct fuse_read_in *in, uint8_t *out, size_t *ret_bytes)
{
	uint64_t left = in->offset < server.size_bytes ? server.size_bytes - in->offset : 0;

	*ret_bytes = MIN(in->size, left);
	if (!server.null)
		memcpy(out, server.memory + in->offset, *ret_bytes);
	return 0;
}

static int answer_write(const struct fuse_write_in *in, const uint8_t *data, uint8_t *out, size_t *ret_bytes)
{
	struct fuse_write_out done = { .size = in->size };

	if (in->offset > server.size_bytes || in->size > server.size_bytes - in->offset)
		return -EFBIG;
	if (!server.null)
		memcpy(server.memory + in->offset, data, in->size);
	memcpy(out, &done, sizeof(done));
	*ret_bytes = sizeof(done);
	return 0;
}

static int answer_struct(uint8_t *out, size_t *ret_bytes, const void *body, size_t bytes)
{
	memcpy(out, body, bytes);
	*ret_bytes = bytes;
	return 0;
}

static int answer_lookup(const char *name, uint8_t *out, size_t *ret_bytes)
{
	struct fuse_entry_out entry = { .nodeid = FILE_NODE,
					.entry_valid = 3600,
					.attr_valid = 3600,
					.attr = attr_of(FILE_NODE) };

	if (strcmp(name, "data") != 0)
		return -ENOENT;
	return answer_struct(out, ret_bytes, &entry, sizeof(entry));
}

/* The operation's struct and what follows it; the answer's body to out, which may be where data is. Return: 0 or
 * the error for the client. */
static int answer(const struct fuse_in_header *in, const void *op_in, const uint8_t *data, uint8_t *out,
		  size_t *ret_bytes)
{
	struct fuse_attr_out attr = { .attr_valid = 3600, .attr = attr_of(in->nodeid) };
	struct fuse_open_out opened = { .fh = in->nodeid };
	struct fuse_statfs_out statfs = { .st = { .bsize = 4096, .frsize = 4096, .namelen = 255 } };

	*ret_bytes = 0;
	switch (in->opcode) {
	case FUSE_READ:
		return answer_read(op_in, out, ret_bytes);
	case FUSE_WRITE:
		return answer_write(op_in, data, out, ret_bytes);
	case FUSE_LOOKUP:
		return answer_lookup((const char *)data, out, ret_bytes);
	case FUSE_GETATTR:
		return answer_struct(out, ret_bytes, &attr, sizeof(attr));
	case FUSE_OPEN:
		opened.open_flags = FOPEN_DIRECT_IO | OPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH;
		return answer_struct(out, ret_bytes, &opened, sizeof(opened));
	case FUSE_OPENDIR:
		return answer_struct(out, ret_bytes, &opened, sizeof(opened));
	case FUSE_STATFS:
		return answer_struct(out, ret_bytes, &statfs, sizeof(statfs));
	case FUSE_READDIR:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FSYNC:
	case FUSE_DESTROY:
		return 0;
	}
	return -ENOSYS;
}

static bool needs_no_answer(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
}

/* How long the operation's struct is in a message of the device; the rest is data. */
static size_t op_bytes(uint32_t opcode)
{
	if (opcode == FUSE_WRITE)
		return sizeof(struct fuse_write_in);
	return opcode == FUSE_READ ? sizeof(struct fuse_read_in) : 0;
}

/* A whole message of the device, answered into out. Return: the length of the answer's body, its header filled;
 * negative: there is none. */
static ssize_t answer_message(const uint8_t *message, uint8_t *out, struct fuse_out_header *ret)
{
	struct fuse_in_header in;
	size_t bytes;

	memcpy(&in, message, sizeof(in));
	if (needs_no_answer(in.opcode))
		return -1;

	const uint8_t *op_in = message + sizeof(in);
	int error = answer(&in, op_in, op_in + op_bytes(in.opcode), out, &bytes);

	bytes = error ? 0 : bytes;
	*ret = (struct fuse_out_header){ .len = (uint32_t)(sizeof(*ret) + bytes), .error = error, .unique = in.unique };
	return (ssize_t)bytes;
}

/* ---- the wait ----------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Hands over what there is and waits for one completion, by looking for a while first if --spin says so. */
static void submit_and_wait(struct io_uring *ring)
{
	if (server.spin_us > 0) {
		uint64_t end = now_ns() + server.spin_us * UINT64_C(1000);

		io_uring_submit(ring);
		while (io_uring_cq_ready(ring) == 0 && now_ns() < end)
			io_uring_get_events(ring);
		if (io_uring_cq_ready(ring) > 0)
			return;
	}
	int rc = io_uring_submit_and_wait(ring, 1);

	if (rc < 0 && rc != -EINTR && rc != -EAGAIN)
		die("io_uring_enter", -rc);
}

static void ring_init(struct thread *t, unsigned entries, unsigned flags)
{
	struct io_uring_params params = { .flags = flags | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
						   (server.defer ? IORING_SETUP_DEFER_TASKRUN :
								   IORING_SETUP_COOP_TASKRUN) };
	int rc = io_uring_queue_init_params(entries, &t->ring, &params);

	if (rc < 0)
		die("making an io_uring", -rc);
}

static void pin(const struct thread *t)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(t->number, &set);
	if (server.pin && sched_setaffinity(0, sizeof(set), &set) < 0)
		die("sched_setaffinity", errno);
}

/* Pages that are there, so that no measured request pays for them. */
static uint8_t *memory_new(size_t bytes)
{
	uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("no memory", errno);
	return memory;
}

static void slots_init(struct thread *t, unsigned count)
{
	uint8_t *memory = memory_new(count * (size_t)SLOT_BYTES);

	t->slots = calloc(count, sizeof(*t->slots));
	t->slot_count = count;
	if (!t->slots)
		die("no memory", ENOMEM);
	for (unsigned i = 0; i < count; i++) {
		t->slots[i] = (struct slot){ .thread = t,
					     .data = memory + i * (size_t)SLOT_BYTES + 4096,
					     .next_free = t->free };
		t->free = &t->slots[i];
	}
}

/* ---- the device --------------------------------------------------------------------------- */

static uint8_t *message_of(struct slot *slot)
{
	return slot->data - WRITE_HEADER_BYTES;
}

static void arm_reads(struct thread *t)
{
	while (t->reads < DEVICE_READS && t->free) {
		struct slot *slot = t->free;
		struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring);

		t->free = slot->next_free;
		slot->replying = false;
		io_uring_prep_read(sqe, server.fd, message_of(slot), WRITE_HEADER_BYTES + DATA_BYTES_MAX, (uint64_t)-1);
		io_uring_sqe_set_data(sqe, slot);
		t->reads++;
	}
}

static void reply_by_device(struct slot *slot)
{
	/* The answer of a READ goes where the data of a WRITE would be, that of all others too. */
	ssize_t bytes = answer_message(message_of(slot), slot->data, &slot->out);

	if (bytes < 0) {
		slot->next_free = slot->thread->free;
		slot->thread->free = slot;
		return;
	}

	struct io_uring_sqe *sqe = io_uring_get_sqe(&slot->thread->ring);

	slot->replying = true;
	slot->iov[0] = (struct iovec){ .iov_base = &slot->out, .iov_len = sizeof(slot->out) };
	slot->iov[1] = (struct iovec){ .iov_base = slot->data, .iov_len = (size_t)bytes };
	io_uring_prep_writev(sqe, server.fd, slot->iov, bytes ? 2 : 1, (uint64_t)-1);
	io_uring_sqe_set_data(sqe, slot);
}

/* Return: false at the end of the mount. */
static bool device_completion(struct slot *slot, int result)
{
	struct thread *t = slot->thread;

	if (!slot->replying) {
		t->reads--;
		if (result == -ENODEV || result == -ECONNABORTED)
			return false;
		if (result > 0) {
			arm_reads(t);
			reply_by_device(slot);
			return true;
		}
	}
	slot->next_free = t->free;
	t->free = slot;
	return true;
}

static void *device_main(void *arg)
{
	struct thread *t = arg;
	struct io_uring_cqe *cqe;

	pin(t);
	ring_init(t, DEVICE_SLOTS * 2, 0);
	slots_init(t, DEVICE_SLOTS);
	for (;;) {
		unsigned head, seen = 0;
		bool goes_on = true;

		arm_reads(t);
		submit_and_wait(&t->ring);
		io_uring_for_each_cqe(&t->ring, head, cqe) {
			goes_on &= device_completion(io_uring_cqe_get_data(cqe), cqe->res);
			seen++;
		}
		io_uring_cq_advance(&t->ring, seen);
		if (!goes_on)
			return NULL;
	}
}

/* ---- FUSE over io_uring ------------------------------------------------------------------- */

static void submit_command(struct slot *slot, uint32_t operation)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&slot->thread->ring);
	struct ring_command command = { .commit_id = operation == CMD_REGISTER ? 0 : slot->header->commit_id,
					.queue = slot->queue };

	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = server.fd;
	sqe->cmd_op = operation;
	if (operation == CMD_REGISTER) {
		slot->iov[0] = (struct iovec){ .iov_base = slot->header, .iov_len = sizeof(*slot->header) };
		slot->iov[1] = (struct iovec){ .iov_base = slot->data, .iov_len = DATA_BYTES_MAX };
		sqe->addr = (uintptr_t)slot->iov;
		sqe->len = 2;
	}
	memcpy((uint8_t *)sqe + offsetof(struct io_uring_sqe, cmd), &command, sizeof(command));
	io_uring_sqe_set_data(sqe, slot);
}

static void reply_by_ring(struct slot *slot)
{
	struct ring_header *header = slot->header;
	struct fuse_in_header in;
	struct fuse_out_header out;
	size_t bytes;

	memcpy(&in, header->in_out, sizeof(in));

	int error = answer(&in, header->op_in, slot->data, slot->data, &bytes);

	bytes = error ? 0 : bytes;
	out = (struct fuse_out_header){ .len = (uint32_t)(sizeof(out) + bytes), .error = error, .unique = in.unique };
	memcpy(header->in_out, &out, sizeof(out));
	header->payload_bytes = (uint32_t)bytes;
	submit_command(slot, CMD_COMMIT_AND_FETCH);
}

/* Return: false at the end of the mount. */
static bool ring_completion(struct slot *slot, int result)
{
	if (result == 0)
		reply_by_ring(slot);
	else if (result == -ENOTCONN || result == -ECONNABORTED)
		return false;
	else
		die("a queue's entry", -result);
	return true;
}

/* The entries of this thread's queues. */
static void register_entries(struct thread *t)
{
	unsigned next = 0;

	for (unsigned queue = t->number; queue < server.queues; queue += server.threads)
		for (unsigned i = 0; i < server.depth; i++) {
			struct slot *slot = &t->slots[next++];

			slot->queue = (uint16_t)queue;
			slot->header = calloc(1, sizeof(*slot->header));
			if (!slot->header)
				die("no memory", ENOMEM);
			submit_command(slot, CMD_REGISTER);
		}
}

static void *ring_main(void *arg)
{
	struct thread *t = arg;
	unsigned queues = (server.queues - t->number + server.threads - 1) / server.threads;
	struct io_uring_cqe *cqe;

	pin(t);
	ring_init(t, queues * server.depth * 2, IORING_SETUP_SQE128);
	slots_init(t, queues * server.depth);
	register_entries(t);
	for (;;) {
		unsigned head, seen = 0;
		bool goes_on = true;

		submit_and_wait(&t->ring);
		io_uring_for_each_cqe(&t->ring, head, cqe) {
			goes_on &= ring_completion(io_uring_cqe_get_data(cqe), cqe->res);
			seen++;
		}
		io_uring_cq_advance(&t->ring, seen);
		if (!goes_on)
			return NULL;
	}
}

/* What comes by the device all the same, until the mount ends. */
static void read_device(void)
{
	uint8_t *message = memory_new(2 * SLOT_BYTES), *out = message + SLOT_BYTES;
	struct pollfd pfd = { .fd = server.fd, .events = POLLIN };
	struct fuse_out_header header;

	for (;;) {
		poll(&pfd, 1, -1);

		ssize_t got = read(server.fd, message, SLOT_BYTES);

		if (got < 0 && (errno == ENODEV || errno == ECONNABORTED))
			return;
		if (got < 0)
			continue;

		ssize_t bytes = answer_message(message, out, &header);
		struct iovec iov[2] = { { &header, sizeof(header) }, { out, bytes > 0 ? (size_t)bytes : 0 } };

		if (bytes >= 0 && writev(server.fd, iov, 2) < 0 && errno != ENOENT)
			die("answering by the device", errno);
	}
}

/* ---- beginning ---------------------------------------------------------------------------- */

static unsigned possible_processors(void)
{
	unsigned first = 0, last = 0;
	FILE *file = fopen("/sys/devices/system/cpu/possible", "re");

	/* "0-1", or "0" on a machine with one. */
	if (!file || fscanf(file, "%u-%u", &first, &last) < 1)
		die("/sys/devices/system/cpu/possible", EIO);
	fclose(file);
	return last + 1;
}

static void answer_init(void)
{
	uint8_t message[16384];
	struct fuse_in_header in;
	struct fuse_init_in init;
	struct {
		struct fuse_out_header header;
		struct fuse_init_out body;
	} out = { 0 };
	ssize_t got = read(server.fd, message, sizeof(message));

	if (got < (ssize_t)(sizeof(in) + sizeof(init)))
		die("the kernel's INIT", got < 0 ? errno : EPROTO);
	memcpy(&in, message, sizeof(in));
	memcpy(&init, message + sizeof(in), sizeof(init));

	uint64_t offered = init.flags | (uint64_t)init.flags2 << 32;
	uint64_t wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
			  FUSE_INIT_EXT | (server.ring ? OVER_IO_URING : 0);

	out.header = (struct fuse_out_header){ .len = sizeof(out), .unique = in.unique };
	out.body = (struct fuse_init_out){ .major = FUSE_KERNEL_VERSION,
					   .minor = FUSE_KERNEL_MINOR_VERSION,
					   .max_readahead = init.max_readahead,
					   .flags = (uint32_t)(offered & wanted),
					   .flags2 = (uint32_t)((offered & wanted) >> 32),
					   .max_background = MAX_BACKGROUND,
					   .congestion_threshold = MAX_BACKGROUND / 4 * 3,
					   .max_write = DATA_BYTES_MAX,
					   .max_pages = DATA_BYTES_MAX / 4096,
					   .time_gran = 1 };
	if (server.ring && !(offered & OVER_IO_URING))
		die("the kernel does not offer FUSE over io_uring", EPROTO);
	if (write(server.fd, &out, sizeof(out)) < 0)
		die("answering the kernel's INIT", errno);
}

static void mount_at(const char *mountpoint)
{
	char options[128];

	server.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (server.fd < 0)
		die("/dev/fuse", errno);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", server.fd);
	if (mount("fuse_ring", mountpoint, "fuse.bdfs-bench", MS_NOSUID | MS_NODEV, options) < 0)
		die(mountpoint, errno);

	struct pollfd pfd = { .fd = server.fd, .events = POLLIN };

	poll(&pfd, 1, 10000);
	answer_init();
}

static void serve(void)
{
	for (unsigned i = 0; i < server.threads; i++) {
		struct thread *t = &server.pool[i];

		t->number = i;
		if (pthread_create(&t->id, NULL, server.ring ? ring_main : device_main, t))
			die("starting a thread", EAGAIN);
	}
	if (server.ring)
		read_device();
	for (unsigned i = 0; i < server.threads; i++)
		pthread_join(server.pool[i].id, NULL);
}

/* Before there is a mount: a kernel without it would leave one behind that nobody serves. */
static bool ring_is_allowed(void)
{
	FILE *file = fopen("/sys/module/fuse/parameters/enable_uring", "re");
	int c = file ? fgetc(file) : EOF;

	if (file)
		fclose(file);
	return c == 'Y';
}

static int refuse_ring(void)
{
	fprintf(stderr, "fuse_ring: FUSE over io_uring needs Linux 6.14 and, as root, "
			"echo 1 > /sys/module/fuse/parameters/enable_uring\n");
	return NOT_AVAILABLE;
}

static int usage(void)
{
	fprintf(stderr, "usage: fuse_ring [--transport device|ring] [--threads N] [--depth N] [--spin-us N] [--pin] "
			"[--defer] [--null] SIZE_BYTES MOUNTPOINT\n");
	return 2;
}

static bool parse(int argc, char **argv)
{
	static const struct option options[] = { { "transport", required_argument, NULL, 't' },
						 { "threads", required_argument, NULL, 'n' },
						 { "depth", required_argument, NULL, 'd' },
						 { "spin-us", required_argument, NULL, 's' },
						 { "pin", no_argument, NULL, 'p' },
						 { "defer", no_argument, NULL, 'f' },
						 { "null", no_argument, NULL, '0' },
						 { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 't': server.ring = strcmp(optarg, "ring") == 0; break;
		case 'n': server.threads = (unsigned)atoi(optarg); break;
		case 'd': server.depth = (unsigned)atoi(optarg); break;
		case 's': server.spin_us = (unsigned)atoi(optarg); break;
		case 'p': server.pin = true; break;
		case 'f': server.defer = true; break;
		case '0': server.null = true; break;
		default: return false;
		}
	}
	if (argc - optind != 2)
		return false;
	server.size_bytes = strtoull(argv[optind], NULL, 10);
	server.queues = possible_processors();
	return server.size_bytes > 0 && server.depth > 0 && server.depth <= 128 && server.threads > 0 &&
	       server.threads <= MIN(THREADS_MAX, server.queues);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		printf("bench server, no libfuse\n");
		return EXIT_SUCCESS;
	}
	if (!parse(argc, argv))
		return usage();
	if (server.ring && !ring_is_allowed())
		return refuse_ring();
	if (!server.null)
		server.memory = memory_new(server.size_bytes);
	mount_at(argv[optind + 1]);
	serve();
	return EXIT_SUCCESS;
}
