/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One order of events that chance seldom finds: a power cut between a resize and the next sync of the pv.
 *
 * A disk is written and cut down to the middle of a block, durably; what was in that block above the end is still in
 * the chunk. Then a write past the end makes it longer, which zeroes the rest of that block. Nobody flushes. Then the
 * size is set once more, so that it is durable, and the power goes, and with it every write that was not synced.
 *
 * What must not be seen: the old bytes. The cuts of tests/powercut found it so.
 *
 *	resize-cut       each line of `cases`, exit status 0 or 1
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "iocore/internal.h"
#include "meta/internal.h"
#include "tests/model/sim_device.h"

#define SECTOR 512
#define FILL_SECTORS 256
#define OLD 0x4f
#define NEW 0x4e

/* In sectors. */
static const struct {
	uint64_t shrunk, written_at, then_resized;
} cases[] = {
	{ 58, 64, 70 },   /* a growing write, then shorter, and still longer than before */
	{ 58, 200, 210 }, /* the growing write lies in another chunk */
	{ 58, 64, 90 },   /* then longer */
	{ 58, 59, 60 },   /* all in the one block */
	{ 58, 0, 64 },    /* no write: the resize zeroes itself */
};

static struct {
	char scratch[40], dir[64];
	struct sim_device device;
	struct sim_engine engine;
	struct meta_pool *pool;
	struct ioc_pool ioc;
	struct meta_disk *disk;
	struct ioc_bd *bd;
	struct base_error err;
} t;

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	printf("resize-cut: FAILED: %s: %s\n", what, t.err.text);
	exit(1);
}

/* ---- pool --------------------------------------------------------------------------------- */

/* No sector of a write that was not synced is left by a cut: sim_device.c, land_partly. */
static uint64_t nothing_lands(void *ctx)
{
	return 1;
}

static void no_event(void *ctx, const char *what)
{
}

static void wake_nobody(void *ctx)
{
}

static void open_all(void)
{
	struct meta_pool_open_args args = {
		.dir = t.dir, .no_threads = true, .pv_ops = &sim_pv_ops, .pv_ctx = &t.device
	};

	must(meta_pool_open(&args, &t.pool, &t.err) == 0, "opening the pool");
	t.ioc = (struct ioc_pool){ .queues = calloc(1, sizeof(struct ioc_queue)), .meta = t.pool, .queue_count = 1 };
	pthread_mutex_init(&t.ioc.lock, NULL);
	must(t.ioc.queues && queue_init(&t.ioc.queues[0], &t.ioc, t.pool, 0) == 0, "a queue");
	base_mailbox_init(&t.ioc.queues[0].box, wake_nobody, NULL);
	sim_engine_init(&t.engine, &t.device);
	t.ioc.queues[0].engine = &t.engine.base;
	t.disk = meta_disk_get_by_name(t.pool, "disk");
	must(t.disk && ioc_disk_open(&t.ioc, t.disk, &t.bd, &t.err) == 0, "opening the disk");
}

static void make_all(void)
{
	struct meta_pv_spec pv = { .path = "sim" };
	struct meta_pool_create_args create = {
		.dir = t.dir, .name = "sim", .pvs = &pv, .pv_count = 1, .pv_ops = &sim_pv_ops, .pv_ctx = &t.device
	};
	struct meta_pool_open_args open = {
		.dir = t.dir, .no_threads = true, .pv_ops = &sim_pv_ops, .pv_ctx = &t.device
	};
	struct meta_disk_spec spec = { .name = "disk", .size_bytes = FILL_SECTORS * SECTOR };

	snprintf(t.dir, sizeof(t.dir), "%s/before", t.scratch);
	must(mkdir(t.dir, 0700) == 0, "a directory");
	sim_device_init(&t.device, 12 * MIB, SECTOR, nothing_lands, no_event, NULL);
	must(meta_pool_create(&create, &t.err) == 0, "making the pool");
	must(meta_pool_open(&open, &t.pool, &t.err) == 0, "opening the pool");
	must(meta_disk_create(t.pool, &spec, 1, NULL, &t.err) == 0, "making the disk");
	must(meta_pool_close(t.pool, &t.err) == 0, "closing the pool");
}

/* The power goes: nothing is closed, the metadata is as of its last commit, and its log is of another boot. */
static void cut(void)
{
	char command[256];

	sim_device_cut(&t.device);
	snprintf(t.dir, sizeof(t.dir), "%s/after", t.scratch);
	snprintf(command, sizeof(command), "mkdir %s/after && cp %s/before/data.mdb %s/after/", t.scratch, t.scratch,
		 t.scratch);
	must(system(command) == 0, "copying the metadata");
}

/* ---- requests ----------------------------------------------------------------------------- */

static void store_result(struct ioc_request *req, int result)
{
	*(int *)req->ctx = result;
}

static void turn(struct db_txn **slot)
{
	queue_turn(&t.ioc.queues[0], 0);
	sim_device_complete_one(&t.device);
	lookup_step(t.pool, slot);
	mw_step(t.pool, base_clock_ns()); /* what is asked for; no timer comes due in the time that this takes */
}

static void request(enum ioc_op op, unsigned flags, uint64_t first, uint64_t count, void *buf)
{
	struct iovec iov = { buf, count * SECTOR };
	struct db_txn *slot = NULL;
	int result = 1;
	static struct ioc_request req;

	req = (struct ioc_request){ .op = op,
				    .flags = flags,
				    .bd = t.bd,
				    .queue = &t.ioc.queues[0],
				    .offset = first * SECTOR,
				    .length = count * SECTOR,
				    .segments = buf ? &iov : NULL,
				    .segment_count = buf ? 1 : 0,
				    .done = store_result,
				    .ctx = &result };
	ioc_bd_submit(&req);
	while (result == 1)
		turn(&slot);
	db_read_free(slot);
	must(result == 0, "a request");
}

static void settle_trim(void)
{
	struct db_txn *slot = NULL;

	while (meta_is_trimming(t.disk)) {
		turn(&slot);
		/* Only here: what it does of its own accord syncs the pv, and would hide what is looked for. */
		bg_step(t.pool, base_clock_ns());
	}
	db_read_free(slot);
}

/* ---- cases -------------------------------------------------------------------------------- */

static void up_to_the_cut(uint64_t shrunk, uint64_t written_at, uint64_t then_resized)
{
	static char buf[FILL_SECTORS * SECTOR];

	memset(buf, OLD, sizeof(buf));
	request(IOC_OP_WRITE, 0, 0, FILL_SECTORS, buf);
	request(IOC_OP_FLUSH, 0, 0, 0, NULL);
	request(IOC_OP_RESIZE, 0, shrunk, 0, NULL);
	settle_trim();
	memset(buf, NEW, sizeof(buf));
	if (written_at != 0)
		request(IOC_OP_WRITE, IOC_GROW, written_at, 16, buf);
	request(IOC_OP_RESIZE, 0, then_resized, 0, NULL);
}

static void judge(uint64_t shrunk, uint64_t resized)
{
	static char buf[FILL_SECTORS * SECTOR * 2];
	uint64_t sectors = meta_disk_size(t.disk) / SECTOR;

	if (sectors != resized)
		printf("resize-cut: FAILED: the size is of %" PRIu64 " sectors\n", sectors), exit(1);
	request(IOC_OP_READ, 0, 0, sectors, buf);
	for (uint64_t s = 0; s < sectors; s++) {
		char byte = buf[s * SECTOR];
		if (s < shrunk ? byte == OLD : byte == 0 || byte == NEW)
			continue;
		printf("resize-cut: FAILED: cut down to %" PRIu64 ", then made %" PRIu64
		       " sectors long: sector %" PRIu64 " holds 0x%02x after the cut\n",
		       shrunk, resized, s, (unsigned char)byte);
		exit(1);
	}
}

static void run_case(unsigned i)
{
	make_all();
	open_all();
	up_to_the_cut(cases[i].shrunk, cases[i].written_at, cases[i].then_resized);
	cut();
	open_all();
	judge(cases[i].shrunk, cases[i].then_resized);
}

static int run_in_child(unsigned i)
{
	char command[64];
	int status;

	snprintf(t.scratch, sizeof(t.scratch), "/tmp/bdfs-resize-cut-XXXXXX");
	must(mkdtemp(t.scratch), "a directory");
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		run_case(i);
		fflush(stdout);
		_exit(0); /* what was cut leaves its memory behind */
	}
	waitpid(child, &status, 0);
	snprintf(command, sizeof(command), "rm -r %s", t.scratch);
	return system(command) != 0 || status != 0;
}

int main(void)
{
	int bad = 0;

	base_log_set_level(BASE_LOG_ERROR);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
		bad += run_in_child(i);
	printf("resize-cut: %zu passed, %d failed, 0 skipped\n", ARRAY_LEN(cases) - (size_t)bad, bad);
	return bad != 0;
}
