/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine alone, on a device in memory, in one thread: random requests,
 * random interleaving of every thread's steps, and the power (or the process)
 * gone at a random event. One child process a case; a case is its seed.
 *
 *   model [--seed N] [--cases N] [--steps N] [--mode cut|kill|none] [--receive] [--deep] [--soak REQUESTS]
 *         [--verbose]
 *
 * --receive: disks are taken over by clones too, as `bdfs receive` does. --soak: one case of up to 64 disks and 500
 * snapshots that goes on, from one cut or kill to the next, until so many requests have been answered.
 * --deep: the first disk has forty snapshots, one above the other, before it begins, and the cache of maps has room
 * for two leaves: far fewer than the requests in flight ask for.
 *
 * A case: make a pool and three disks; run; end it at event number `stop`;
 * open what is left; check the metadata; read every sector of every disk and let
 * the oracle judge; go on from there, and end it a second time, sometimes while
 * it is still recovering from the first.
 *
 * What is held: everything flushed is there; every other sector is old or new;
 * never another disk's bytes, discarded space or rubbish; after a kill every
 * completed byte is there; live reads never go back; the space bitmap equals the
 * owned chunks; and an import from the copy of the metadata on the device would show no
 * disk another's bytes, and every snapshot as it was.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "iocore/internal.h"
#include "meta/check.h"
#include "meta/internal.h"
#include "tests/model/sim.h"

static const struct scale small = { .disks = 3,
				    .snaps = 10,
				    .disk_sectors = 24 * MIB / SECTOR, /* three leaves */
				    .cache_leaves = 40,
				    .rarely = 1 };
static const struct scale large = { .disks = DISKS_MAX,
				    .snaps = SNAPS_MAX,
				    .disk_sectors = 9 * MIB / SECTOR,
				    .cache_leaves = 300,
				    .rarely = 2,
				    .receives = true };
static const struct scale deep = { .disks = 3,
				   .snaps = 64,
				   .disk_sectors = 24 * MIB / SECTOR,
				   .cache_leaves = 8, /* a quarter of it: the tables count too */
				   .rarely = 1,
				   .deep = 40 };
#define SOAK_STEPS 60000 /* between two ends, at most */

/* ---- random, time, the end ---------------------------------------------------------------- */

static uint64_t next_random(struct sim *sim)
{
	/* splitmix64 */
	uint64_t z = (sim->state += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t below(struct sim *sim, uint64_t n)
{
	return next_random(sim) % n;
}

static uint64_t random_of_device(void *ctx)
{
	return next_random(ctx);
}

void sim_fail(struct sim *sim, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	printf("model: FAILED, seed %" PRIu64 ", event %" PRIu64 ": ", sim->seed, sim->events);
	vprintf(fmt, args);
	printf("\n  again: model --seed %" PRIu64 " --cases 1 --verbose %s\n", sim->seed, sim->again);
	va_end(args);
	fflush(stdout);
	_exit(1);
}

static void event(void *ctx, const char *what)
{
	struct sim *sim = ctx;

	sim->now++;
	sim->events++;
	if (sim->stop_at == 0 || sim->events < sim->stop_at || (sim->stop_what && strcmp(what, sim->stop_what) != 0))
		return;
	if (sim->verbose)
		printf("  ends at event %" PRIu64 " (%s)\n", sim->events, what);
	longjmp(sim->gone, 1);
}

/* ---- life --------------------------------------------------------------------------------- */

void must(struct sim *sim, int rc, const struct base_error *err, const char *what)
{
	if (rc != 0)
		sim_fail(sim, "%s: %d %s", what, rc, err->text);
}

static void wake_nobody(void *ctx)
{
}

static void open_queue(struct sim *sim)
{
	sim->ioc = calloc(1, sizeof(*sim->ioc));
	sim->ioc->queues = calloc(1, sizeof(*sim->ioc->queues));
	sim->ioc->meta = sim->pool;
	sim->ioc->queue_count = 1;
	pthread_mutex_init(&sim->ioc->lock, NULL);
	if (queue_init(&sim->ioc->queues[0], sim->ioc, sim->pool, 0) < 0)
		abort();
	base_mailbox_init(&sim->ioc->queues[0].box, wake_nobody, NULL);
	sim_engine_init(&sim->engine, &sim->device);
	sim->ioc->queues[0].engine = &sim->engine.base;
}

void open_disk(struct sim *sim, struct disk *disk)
{
	struct base_error err = { 0 };

	disk->meta = meta_disk_get_by_name(sim->pool, disk->name);
	if (!disk->meta)
		sim_fail(sim, "disk %s is gone", disk->name);
	must(sim, ioc_disk_open(sim->ioc, disk->meta, &disk->bd, &err), &err, "opening a disk");
	disk->flying = 0;
	disk->resizing = disk->taking = false;
}

static void open_pool(struct sim *sim)
{
	struct meta_pool_open_args args = { .dir = sim->dir[sim->where],
					    .no_threads = true,
					    .pv_ops = &sim_pv_ops,
					    .pv_ctx = &sim->device,
					    .leaf_cache_leaves = sim->scale.cache_leaves };
	struct base_error err = { 0 };

	must(sim, meta_pool_open(&args, &sim->pool, &err), &err, "opening the pool");
	sim->pool_uuid = sim->pool->record.uuid;
	open_queue(sim);
	base_mailbox_init(&sim->ctl_box, wake_nobody, NULL);
}

static void new_disk(struct sim *sim, struct disk *disk)
{
	struct meta_disk_spec spec = { .size_bytes = below(sim, sim->scale.disk_sectors + 1) * SECTOR };
	struct base_error err = { 0 };

	disk->id = disk->number = ++sim->next_disk_id;
	lineage_disk(&sim->lineage, disk->number, disk->id, NULL);
	snprintf(disk->name, sizeof(disk->name), "disk%u", disk->id);
	snprintf(spec.name, sizeof(spec.name), "%s", disk->name);
	oracle_init(&disk->oracle, disk->id, sim->scale.disk_sectors);
	disk->size_count = 1;
	disk->sizes[0] = (struct size_version){ spec.size_bytes, 0, 0, 0, 0, true };
	must(sim, meta_disk_create(sim->pool, &spec, 1, NULL, &err), &err, "creating a disk");
	open_disk(sim, disk);
}

void replace_disk(struct sim *sim, struct disk *disk)
{
	struct base_error err = { 0 };

	if (disk->flying > 0 || disk->taking || clones_hold(sim, (unsigned)(disk - sim->disks)))
		return;
	for (unsigned i = 0; i < sim->scale.snaps; i++)
		if (sim->snaps[i].used && &sim->disks[sim->snaps[i].disk] == disk && sim->snaps[i].flying > 0)
			return;
	snaps_forget(sim, (unsigned)(disk - sim->disks));
	ioc_disk_close(disk->bd);
	must(sim, meta_disk_remove_with_snapshots(disk->meta, &err), &err, "removing a disk");
	meta_disk_put(disk->meta);
	oracle_free(&disk->oracle);
	new_disk(sim, disk);
}

static void turn(struct sim *sim)
{
	queue_turn(&sim->ioc->queues[0], 0);
}

/* Copies come as in minutes of real time, some of them between any two steps; in some cases seldom, so that much
 * happens that the last one does not know of. */
static void background(struct sim *sim)
{
	sim->pool->copy.next_at_ns = below(sim, sim->copy_every) == 0 ? 0 : UINT64_MAX;
	bg_step(sim->pool, base_clock_ns());
}

static void one_step(struct sim *sim, struct db_txn **slot)
{
	uint64_t dice = below(sim, 1000);

	if (dice < 300)
		requests_submit(sim);
	else if (dice < 560)
		sim_device_complete_one(&sim->device);
	else if (dice < 780)
		turn(sim);
	else if (dice < 860)
		mw_step(sim->pool, base_clock_ns() + (below(sim, 4) == 0 ? 2 * COMMIT_INTERVAL_NS : 0));
	else if (dice < 920)
		lookup_step(sim->pool, slot);
	else if (dice < 980)
		background(sim);
	else if (dice < (sim->scale.deep ? 984 : 990))
		base_mailbox_run(&sim->ctl_box);
	else if (!sim->scale.deep && dice < 992)
		(void)clones_turn(sim);
	else if (sim->scale.rarely > 1 && below(sim, sim->scale.rarely) != 0)
		return;
	else if (!sim->scale.deep && dice >= 996 && dice < 998)
		clones_step(sim);
	else if (dice < 998)
		snaps_step(sim);
	else if (!sim->scale.deep)
		replace_disk(sim, &sim->disks[below(sim, sim->scale.disks)]);
}

static bool anything_flies(struct sim *sim)
{
	if (sim->taking || clones_turn(sim))
		return true;
	for (unsigned i = 0; i < SLOTS; i++)
		if (sim->slots[i].busy)
			return true;
	return false;
}

void do_step(struct sim *sim)
{
	struct db_txn *slot = NULL;

	sim_device_complete_one(&sim->device);
	turn(sim);
	lookup_step(sim->pool, &slot);
	mw_step(sim->pool, base_clock_ns());
	background(sim);
	base_mailbox_run(&sim->ctl_box);
	(void)clones_turn(sim);
	db_read_free(slot);
}

/* Until all that was asked is answered. */
static void drain(struct sim *sim)
{
	for (unsigned i = 0; anything_flies(sim); i++) {
		if (i > 2000000)
			sim_fail(sim, "requests hang");
		do_step(sim);
	}
}

/* ---- after the end ------------------------------------------------------------------------ */

static void copy_file(struct sim *sim, const char *name)
{
	char from[128], to[128], buf[65536];
	ssize_t n;

	snprintf(from, sizeof(from), "%s/%s", sim->dir[sim->where], name);
	snprintf(to, sizeof(to), "%s/%s", sim->dir[!sim->where], name);
	unlink(to);
	int in = open(from, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return;
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, (size_t)n) != n)
			abort();
	close(in);
	close(out);
}

/* LMDB's file is as of its last commit: nothing of the device happens while one is written. The old environment stays
 * open on the old file, as a dead process's memory would, until the copy is made. */
static void move_metadata(struct sim *sim, bool with_log)
{
	char path[128];

	copy_file(sim, "data.mdb");
	snprintf(path, sizeof(path), "%s/lock.mdb", sim->dir[!sim->where]);
	unlink(path);
	snprintf(path, sizeof(path), "%s/restart", sim->dir[!sim->where]);
	unlink(path);
	if (with_log)
		copy_file(sim, "restart");
	sim->where = !sim->where;
}

static void check_metadata(struct sim *sim)
{
	struct meta_check_report report;
	struct base_error err = { 0 };
	struct meta_check_args args = { .pool = sim->pool };

	must(sim, meta_check(&args, &report, &err), &err, "check");
	if (report.problems != 0)
		sim_fail(sim, "check found %" PRIu64 " problems; the first: %s", report.problems,
		     report.findings[0].text);
}

static void check_size(struct sim *sim, struct disk *disk, enum oracle_mode mode)
{
	uint64_t size = meta_disk_size(disk->meta);

	for (unsigned i = 0; i < disk->size_count; i++) {
		struct size_version *f = &disk->sizes[i];
		bool ok = f->bytes == size;
		for (unsigned k = 0; ok && k < disk->size_count; k++) {
			struct size_version *b = &disk->sizes[k];
			bool counts = mode == ORACLE_CUT ? b->durable != ORACLE_NEVER : b->completed != ORACLE_NEVER;
			/* A growth never makes a disk smaller: only a resize replaces a larger size. */
			ok = !(counts && f->completed < b->submitted && (b->bytes > f->bytes || b->resize));
		}
		if (ok)
			return;
	}
	for (unsigned i = 0; i < disk->size_count; i++)
		printf("  size %" PRIu64 " submitted %" PRIu64 " completed %" PRIu64 " durable %" PRIu64
		       " op %" PRIu64 "\n",
		       disk->sizes[i].bytes, disk->sizes[i].submitted, disk->sizes[i].completed,
		       disk->sizes[i].durable, disk->sizes[i].op);
	sim_fail(sim, "%s has an impossible size: %" PRIu64, disk->name, size);
}

static void call_done(struct ioc_request *req, int result)
{
	*(int *)req->ctx = result;
}

void read_now(struct sim *sim, struct ioc_bd *bd, const char *name, uint64_t first, uint64_t count, char *buf)
{
	static struct ioc_request req;
	struct iovec iov = { buf, count * SECTOR };
	struct db_txn *slot = NULL;
	unsigned turns = 0;
	int result = 1;

	req = (struct ioc_request){ .op = IOC_OP_READ,
				    .bd = bd,
				    .queue = &sim->ioc->queues[0],
				    .offset = first * SECTOR,
				    .length = count * SECTOR,
				    .segments = &iov,
				    .segment_count = 1,
				    .done = call_done,
				    .ctx = &result };
	ioc_bd_submit(&req);
	while (result == 1) {
		if (++turns > 2000000)
			sim_fail(sim, "reading all of %s hangs", name);
		turn(sim);
		sim_device_complete_one(&sim->device);
		lookup_step(sim->pool, &slot);
		if (sim->scale.deep) /* whatever it may, between any two look-ups */
			(void)cache_evict(sim->pool, base_clock_ns());
	}
	db_read_free(slot);
	if (result < 0)
		sim_fail(sim, "reading all of %s: %s", name, strerror(-result));
}

static void judge_disk(struct sim *sim, struct disk *disk, enum oracle_mode mode)
{
	uint64_t sectors = size_sectors(disk), step = 2048;
	char *buf = malloc(step * SECTOR);

	check_size(sim, disk, mode);
	for (uint64_t first = 0; first < sectors; first += step) {
		uint64_t count = MIN(step, sectors - first);
		read_now(sim, disk->bd, disk->name, first, count, buf);
		for (uint64_t i = 0; i < count; i++) {
			const char *why = oracle_judge(&disk->oracle, first + i, buf + i * SECTOR, mode, 0);
			if (why)
				oracle_print(&disk->oracle, first + i, buf + i * SECTOR);
			if (why)
				sim_fail(sim, "%s, sector %" PRIu64 " after the %s: %s", disk->name, first + i,
				     mode == ORACLE_CUT      ? "power cut"
				     : mode == ORACLE_KILLED ? "kill"
							     : "run",
				     why);
			if (mode != ORACLE_LIVE)
				oracle_settle(&disk->oracle, first + i, buf + i * SECTOR);
		}
		sim->checked_sectors += count;
	}
	/* What is past the end is zeros, whenever the disk grows again. */
	memset(buf, 0, SECTOR);
	for (uint64_t s = sectors; mode != ORACLE_LIVE && s < sim->scale.disk_sectors; s++)
		oracle_settle(&disk->oracle, s, buf);
	disk->size_count = 1;
	disk->sizes[0] = (struct size_version){ meta_disk_size(disk->meta), 1, 1, 1, 0, true };
	free(buf);
}

/* As if the directory had been lost at this moment. */
static void judge_copy(struct sim *sim)
{
	uint64_t sectors;
	struct copy_truth truth = lineage_truth(&sim->lineage);
	const char *why = copy_judge(&sim->device, sim->pool_uuid, &truth, &sectors);

	if (why)
		sim_fail(sim, "the copy of the metadata: %s", why);
	sim->copied_sectors += sectors;
}

/* The map of the old environment is huge: after some hundred ends there would be no room for another. The environment
 * itself can't be closed, as the end may have come within a transaction. */
static void let_go_of_map(struct sim *sim)
{
	char line[512], name[128];
	uintptr_t first, end;
	FILE *maps = fopen("/proc/self/maps", "re");

	snprintf(name, sizeof(name), "%s/data.mdb", sim->dir[!sim->where]);
	while (maps && fgets(line, sizeof(line), maps))
		if (strstr(line, name) && sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &first, &end) == 2)
			munmap((void *)first, end - first);
	if (maps)
		fclose(maps);
}

static void recover(struct sim *sim)
{
	bool cut = sim->ending == END_CUT;

	if (cut)
		sim_device_cut(&sim->device);
	else
		sim_device_kill(&sim->device);
	judge_copy(sim);
	sim->moved += atomic_load(&sim->pool->moved_leaves);
	move_metadata(sim, !cut);
	let_go_of_map(sim);
	for (unsigned i = 0; i < SLOTS; i++)
		sim->slots[i].busy = false;
	clones_forget(sim);
	sim->stop_what = NULL;
	/* A third of the recoveries are themselves cut or killed. */
	sim->stop_at = below(sim, 3) == 0 ? sim->events + 1 + below(sim, 8) : 0;
	if (setjmp(sim->gone) != 0) {
		if (cut)
			sim_device_cut(&sim->device);
		else
			sim_device_kill(&sim->device);
		judge_copy(sim);
		move_metadata(sim, !cut);
		sim->stop_at = 0;
	}
	open_pool(sim);
	sim->stop_at = 0;
	for (unsigned i = 0; i < sim->scale.disks; i++)
		open_disk(sim, &sim->disks[i]);
	receive_recover(sim);
	check_metadata(sim);
	snaps_recover(sim);
	for (unsigned i = 0; i < sim->scale.disks; i++)
		judge_disk(sim, &sim->disks[i], cut ? ORACLE_CUT : ORACLE_KILLED);
}

static void close_in_order(struct sim *sim)
{
	struct base_error err = { 0 };

	drain(sim);
	snaps_check_all(sim);
	clones_check_space(sim);
	snaps_check_all(sim);
	snaps_close_all(sim);
	for (unsigned i = 0; i < sim->scale.disks; i++) {
		judge_disk(sim, &sim->disks[i], ORACLE_LIVE);
		ioc_disk_close(sim->disks[i].bd);
		meta_disk_put(sim->disks[i].meta);
	}
	queue_done(&sim->ioc->queues[0]);
	sim->moved += atomic_load(&sim->pool->moved_leaves);
	must(sim, meta_pool_close(sim->pool, &err), &err, "closing the pool");
	judge_copy(sim);
	open_pool(sim);
	check_metadata(sim);
}

/* ---- a case ------------------------------------------------------------------------------- */

static void make_pool(struct sim *sim)
{
	static const uint64_t sizes[] = { 6 * MIB, 12 * MIB, 40 * MIB, GIB }, copy_every[] = { 8, 20, 200 };
	struct meta_pv_spec pv = { .path = "sim" };
	struct meta_pool_create_args args = { .dir = sim->dir[0],
					      .name = "sim",
					      .pvs = &pv,
					      .pv_count = 1,
					      .pv_ops = &sim_pv_ops,
					      .pv_ctx = &sim->device };
	struct base_error err = { 0 };

	sim->copy_every = copy_every[below(sim, 3)];
	uint64_t bytes = sizes[sim->scale.disks > 3 ? 3 : below(sim, 3)];
	if (sim->scale.deep)
		bytes = 48 * MIB;
	sim_device_init(&sim->device, bytes, below(sim, 4) ? 512 : 4096, random_of_device, event, sim);
	must(sim, meta_pool_create(&args, &err), &err, "making the pool");
	open_pool(sim);
	for (unsigned i = 0; i < sim->scale.disks; i++)
		new_disk(sim, &sim->disks[i]);
}

/*
 * Any event may be the last. Two kinds of end are likelier than chance would have them: while freed chunks are being
 * discarded, which is right after a copy of the metadata, and soon after an opening, before there was time for another
 * copy.
 */
static uint64_t pick_end(struct sim *sim, uint64_t steps)
{
	sim->stop_what = below(sim, 4) == 0 ? "discarded" : NULL;
	return sim->events + 1 + below(sim, below(sim, 4) == 0 ? 250 : steps / 2);
}

static void run(struct sim *sim, uint64_t steps)
{
	struct db_txn *slot = NULL;

	if (setjmp(sim->gone) != 0) {
		recover(sim);
		return;
	}
	sim->stop_at = sim->ending == END_NONE ? 0 : pick_end(sim, steps);
	for (uint64_t i = 0; i < steps; i++)
		one_step(sim, &slot);
	/* The event was not reached: end it here. */
	sim->stop_at = 0;
	if (sim->ending == END_NONE)
		drain(sim);
	else
		recover(sim);
}

struct options {
	uint64_t seed, steps, soak;
	enum ending ending;
	bool receives, deep, verbose;
};

static void say_how_far(const struct sim *sim)
{
	printf("  %" PRIu64 " requests, %" PRIu64 " of them ENOSPC, %" PRIu64 " events, %" PRIu64
	       " sectors judged, %" PRIu64 " of copies, %" PRIu64 " snapshots, %" PRIu64 " removed, %" PRIu64
	       " clones, %" PRIu64 " rollbacks, %" PRIu64 " received, %" PRIu64 " entries moved, %" PRIu64
	       " attached, %" PRIu64 " inflated, %" PRIu64 " figures of space compared, %" PRIu64
	       " chunks given back\n",
	       sim->done_ops, sim->enospc, sim->events, sim->checked_sectors, sim->copied_sectors, sim->snaps_taken,
	       sim->snaps_removed, sim->clones, sim->rollbacks, sim->received, sim->moved, sim->attached, sim->inflated,
	       sim->space_rows, sim->space_gains);
	fflush(stdout);
}

static void soak(struct sim *sim, uint64_t requests)
{
	while (sim->done_ops < requests) {
		unsigned used = 0;

		sim->ending = (enum ending)below(sim, 3);
		run(sim, SOAK_STEPS);
		for (unsigned i = 0; i < sim->scale.snaps; i++)
			used += sim->snaps[i].used;
		if (sim->verbose)
			printf("  %s, %u snapshots are there:\n",
			       sim->ending == END_CUT    ? "a power cut"
			       : sim->ending == END_KILL ? "a kill"
							 : "no end",
			       used);
		if (sim->verbose)
			say_how_far(sim);
	}
}

/* Some writes, a snapshot, and so on. */
static void build_deep(struct sim *sim)
{
	struct db_txn *slot = NULL;

	while (sim->snaps_taken < sim->scale.deep) {
		for (unsigned i = 0; i < 100; i++)
			one_step(sim, &slot);
		if (!sim->taking)
			snaps_take(sim);
		drain(sim);
	}
	db_read_free(slot);
}

static int run_case(const char *scratch, const struct options *options)
{
	struct sim *sim = calloc(1, sizeof(*sim));

	sim->scale = options->soak ? large : options->deep ? deep : small;
	sim->scale.receives |= options->receives;
	sim->seed = sim->state = options->seed;
	sim->ending = options->ending;
	sim->verbose = options->verbose;
	sim->again = options->soak ? "--soak" : options->receives ? "--receive" : options->deep ? "--deep" : "";
	base_log_set_level(options->verbose && !options->soak ? BASE_LOG_INFO : BASE_LOG_ERROR);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(sim->dir[i], sizeof(sim->dir[i]), "%s/%u", scratch, i);
		mkdir(sim->dir[i], 0700);
	}
	for (unsigned i = 0; i < SLOTS; i++) {
		sim->slots[i].sim = sim;
		sim->slots[i].buf = malloc(IO_SECTORS_MAX * SECTOR);
	}
	make_pool(sim);
	build_deep(sim);
	for (unsigned round = 0; !options->soak && round < 2; round++)
		run(sim, options->steps);
	soak(sim, options->soak);
	close_in_order(sim);
	if (sim->verbose)
		say_how_far(sim);
	return sim->done_ops == 0; /* a case that did nothing proves nothing */
}

static void remove_tree(const char *scratch)
{
	static const char *const names[] = { "0/data.mdb", "0/lock.mdb", "0/restart",
					     "1/data.mdb", "1/lock.mdb", "1/restart",
					     "0",          "1",          "" };
	char path[128];

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", scratch, names[i]);
		if (unlink(path) != 0)
			rmdir(path);
	}
}

static const char *scratch_base(void)
{
	/* In memory: a case opens and copies LMDB files many times, and their durability is not what is tested here.
	 */
	return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

static int run_in_child(const struct options *options)
{
	char scratch[40];
	int status;

	snprintf(scratch, sizeof(scratch), "%s/bdfs-model-XXXXXX", scratch_base());
	if (!mkdtemp(scratch))
		return 2;
	fflush(stdout);
	pid_t child = fork();
	if (child == 0)
		_exit(run_case(scratch, options));
	waitpid(child, &status, 0);
	remove_tree(scratch);
	if (WIFSIGNALED(status)) {
		printf("model: seed %" PRIu64 " died of signal %d\n  again: model --seed %" PRIu64
		       " --cases 1 --verbose%s\n",
		       options->seed, WTERMSIG(status), options->seed,
		       options->soak	   ? " --soak REQUESTS"
		       : options->receives ? " --receive"
		       : options->deep	   ? " --deep"
					   : "");
		return 1;
	}
	return WEXITSTATUS(status);
}

static void usage(void)
{
	fprintf(stderr, "model [--seed N] [--cases N] [--steps N] [--mode cut|kill|none] [--receive] [--deep] "
			"[--soak REQUESTS] [--verbose]\n");
	exit(2);
}

static enum ending parse_ending(const char *text)
{
	return strcmp(text, "kill") == 0 ? END_KILL : strcmp(text, "none") == 0 ? END_NONE : END_CUT;
}

static void parse(int argc, char **argv, struct options *options, uint64_t *cases)
{
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--verbose") == 0)
			options->verbose = true;
		else if (strcmp(argv[i], "--receive") == 0)
			options->receives = true;
		else if (strcmp(argv[i], "--deep") == 0)
			options->deep = true;
		else if (!value)
			usage();
		else if (strcmp(argv[i], "--seed") == 0)
			options->seed = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--cases") == 0)
			*cases = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--steps") == 0)
			options->steps = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--soak") == 0)
			options->soak = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--mode") == 0)
			options->ending = parse_ending(argv[++i]);
		else
			usage();
	}
}

int main(int argc, char **argv)
{
	struct options options = { .seed = 1, .steps = 6000, .ending = END_CUT };
	uint64_t cases = 0, bad = 0, first;

	parse(argc, argv, &options, &cases);
	cases = cases ? cases : options.soak ? 1 : 100;
	first = options.seed;
	for (uint64_t i = 0; i < cases && bad < 5; i++) {
		options.seed = first + i;
		bad += run_in_child(&options) != 0;
	}
	printf("model: %" PRIu64 " cases from seed %" PRIu64 ", %s each: %" PRIu64 " failed\n", cases, first,
	       options.soak                 ? "many ends"
	       : options.ending == END_CUT  ? "two power cuts"
	       : options.ending == END_KILL ? "two kills"
					    : "two runs without an end",
	       bad);
	return bad != 0;
}
