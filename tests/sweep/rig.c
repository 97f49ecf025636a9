/* SPDX-License-Identifier: Apache-2.0 */
/* See rig.h. No threads, so that the n-th call is the same one every time. */
#include "tests/sweep/rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sweep/points.h"

#define PV_BYTES (48 * MIB)
#define STEPS_MAX 20000
#define STEP_NS UINT64_C(50000000)

void rig_fail(const char *fmt, ...)
{
	va_list args;

	printf("sweep: FAILED: ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	_exit(1);
}

static void must(int rc, const struct base_error *err, const char *what)
{
	if (rc != 0)
		rig_fail("%s: %d (%s) %s", what, rc, strerror(-rc), err ? err->text : "");
}

/* ---- a device that does it at once -------------------------------------------------------- */

static void engine_submit(struct ioc_engine *engine, struct ioc_io *io)
{
	struct rig_engine *e = container_of(engine, struct rig_engine, base);

	io->next = NULL;
	*e->tail = io;
	e->tail = &io->next;
}

static int64_t carry_out(struct ioc_io *io)
{
	bool reads = io->kind == IOC_IO_READ;
	ssize_t n;
	int error;

	if (points_fail(reads ? "device read" : "device write", POINT_DEVICE, &error))
		return reads ? -EIO : -error;
	n = reads ? preadv(io->fd, io->iov, (int)io->iov_count, (off_t)io->offset)
		  : pwritev(io->fd, io->iov, (int)io->iov_count, (off_t)io->offset);
	return n < 0 ? -errno : n;
}

static int engine_run(struct ioc_engine *engine, int64_t timeout_ns)
{
	struct rig_engine *e = container_of(engine, struct rig_engine, base);
	struct ioc_io *io = e->first;
	int ran = 0;

	e->first = NULL;
	e->tail = &e->first;
	for (; io; ran++) {
		struct ioc_io *next = io->next;

		io->done(io, carry_out(io));
		io = next;
	}
	return ran;
}

static void engine_cancel(struct ioc_engine *engine, struct ioc_io *io)
{
}

static void engine_wake(struct ioc_engine *engine)
{
}

static const struct ioc_engine_ops engine_ops = { .name = "rig",
						  .submit = engine_submit,
						  .run = engine_run,
						  .cancel = engine_cancel,
						  .wake = engine_wake,
						  .close = engine_wake };

/* ---- open and close ----------------------------------------------------------------------- */

static void wake_nobody(void *ctx)
{
}

static int open_queue(struct rig *rig)
{
	rig->ioc = calloc(1, sizeof(*rig->ioc));
	if (!rig->ioc)
		return -ENOMEM;
	rig->ioc->queues = calloc(1, sizeof(*rig->ioc->queues));
	rig->ioc->meta = rig->pool;
	rig->ioc->queue_count = 1;
	pthread_mutex_init(&rig->ioc->lock, NULL);
	int rc = rig->ioc->queues ? queue_init(&rig->ioc->queues[0], rig->ioc, rig->pool, 0) : -ENOMEM;
	if (rc < 0) {
		free(rig->ioc->queues);
		free(rig->ioc);
		rig->ioc = NULL;
		return rc;
	}
	base_mailbox_init(&rig->ioc->queues[0].box, wake_nobody, NULL);
	rig->engine = (struct rig_engine){ .base.ops = &engine_ops };
	rig->engine.tail = &rig->engine.first;
	rig->ioc->queues[0].engine = &rig->engine.base;
	return 0;
}

static void close_queue(struct rig *rig)
{
	if (!rig->ioc)
		return;
	queue_done(&rig->ioc->queues[0]);
	pthread_mutex_destroy(&rig->ioc->lock);
	free(rig->ioc->queues);
	free(rig->ioc);
	rig->ioc = NULL;
}

int rig_open_disk(struct rig *rig, unsigned disk)
{
	struct rig_disk *d = &rig->disks[disk];
	int rc;

	d->meta = meta_disk_get_by_name(rig->pool, d->name);
	if (!d->meta)
		return -ENOENT;
	rc = ioc_disk_open(rig->ioc, d->meta, &d->bd, &rig->err);
	if (rc < 0) {
		meta_disk_put(d->meta);
		d->bd = NULL;
	}
	return rc;
}

void rig_close_disk(struct rig *rig, unsigned disk)
{
	struct rig_disk *d = &rig->disks[disk];

	if (!d->bd)
		return;
	ioc_disk_close(d->bd);
	meta_disk_put(d->meta);
	d->bd = NULL;
}

int rig_close(struct rig *rig)
{
	for (unsigned i = 0; i < ARRAY_LEN(rig->disks); i++)
		rig_close_disk(rig, i);
	close_queue(rig);
	int rc = rig->pool ? meta_pool_close(rig->pool, &rig->err) : 0;
	rig->pool = NULL;
	return rc;
}

int rig_open(struct rig *rig)
{
	struct meta_pool_open_args args = { .dir = rig->dir, .no_threads = true, .leaf_cache_leaves = 4 };
	int rc = meta_pool_open(&args, &rig->pool, &rig->err);

	if (rc < 0) {
		rig->pool = NULL;
		return rc;
	}
	rc = open_queue(rig);
	for (unsigned i = 0; i < ARRAY_LEN(rig->disks) && rc == 0; i++)
		rc = rig->disks[i].name[0] ? rig_open_disk(rig, i) : 0;
	if (rc < 0) {
		int ignored = rig_close(rig); /* the first error is the one to tell */

		(void)ignored;
	}
	return rc;
}

/* ---- requests ----------------------------------------------------------------------------- */

void rig_step(struct rig *rig)
{
	static struct db_txn *slot;

	queue_turn(&rig->ioc->queues[0], 0);
	lookup_step(rig->pool, &slot);
	db_read_free(slot);
	slot = NULL;
	mw_step(rig->pool, base_clock_ns() + rig->later_ns);
	bg_step(rig->pool, base_clock_ns() + rig->later_ns);
	rig->later_ns += STEP_NS;
}

void rig_settle(struct rig *rig)
{
	for (unsigned i = 0; i < 60; i++)
		rig_step(rig);
}

static void fill(const struct rig_disk *d, uint64_t sector, uint32_t version, uint64_t *words)
{
	uint64_t word = version ? (sector << 32 | version) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)d->name[0] : 0;

	for (unsigned i = 0; i < RIG_SECTOR / 8; i++)
		words[i] = word;
}

static void answered(struct ioc_request *req, int result)
{
	*(volatile int *)req->ctx = result;
}

static int run_request(struct rig *rig, struct rig_disk *d, enum ioc_op op, unsigned flags, uint64_t offset,
		       uint64_t length, void *data)
{
	static struct ioc_request req;
	struct iovec iov = { data, length };
	volatile int result = 1; /* set by answered() */

	req = (struct ioc_request){ .op = op,
				    .flags = flags,
				    .bd = d->bd,
				    .queue = &rig->ioc->queues[0],
				    .offset = offset,
				    .length = op == IOC_OP_RESIZE ? 0 : length,
				    .segments = data ? &iov : NULL,
				    .segment_count = data ? 1 : 0,
				    .done = answered,
				    .ctx = (void *)&result };
	ioc_bd_submit(&req);
	for (unsigned i = 0; result == 1; i++) {
		if (i > STEPS_MAX)
			rig_fail("request %d is never answered", op);
		rig_step(rig);
	}
	return result;
}

static void note_change(struct rig_disk *d, uint64_t first, uint64_t end, uint32_t version, int result, bool durable)
{
	for (uint64_t s = first; s < MIN(end, RIG_SECTORS); s++) {
		if (result < 0) {
			d->maybe[s] = version;
			continue;
		}
		d->latest[s] = version;
		d->maybe[s] = RIG_NONE;
		if (durable)
			d->durable[s] = version;
	}
}

static void note_flush(struct rig_disk *d)
{
	for (uint64_t s = 0; s < RIG_SECTORS; s++)
		if (d->maybe[s] == RIG_NONE)
			d->durable[s] = d->latest[s];
}

int rig_request(struct rig *rig, unsigned disk, enum ioc_op op, unsigned flags, uint64_t offset, uint64_t length,
		uint32_t version)
{
	static uint64_t data[IOC_DATA_BYTES_MAX / 8];
	struct rig_disk *d = &rig->disks[disk];
	uint64_t first = offset / RIG_SECTOR, end = (offset + length) / RIG_SECTOR;
	bool has_data = op == IOC_OP_WRITE || op == IOC_OP_READ;

	for (uint64_t s = first; op == IOC_OP_WRITE && s < end; s++)
		fill(d, s, version, data + (s - first) * RIG_SECTOR / 8);
	int result = run_request(rig, d, op, flags, offset, length, has_data ? data : NULL);
	if (op == IOC_OP_WRITE)
		note_change(d, first, end, version, result, flags & IOC_FUA);
	else if (op == IOC_OP_DISCARD || op == IOC_OP_WRITE_ZEROES)
		note_change(d, first, end, 0, result, false);
	else if (op == IOC_OP_RESIZE)
		note_change(d, first, RIG_SECTORS, 0, result, true);
	else if (op == IOC_OP_FLUSH && result == 0)
		note_flush(d);
	return result;
}

/* ---- judging ------------------------------------------------------------------------------ */

static bool is_version(const struct rig_disk *d, uint64_t sector, uint32_t version, const uint64_t *words)
{
	uint64_t expected[RIG_SECTOR / 8];

	if (version == RIG_NONE)
		return false;
	fill(d, sector, version, expected);
	return memcmp(expected, words, RIG_SECTOR) == 0;
}

static void judge_sector(const struct rig_disk *d, uint64_t s, const uint64_t *words, enum rig_judge judge)
{
	if (judge == RIG_FALLEN ? is_version(d, s, d->durable[s], words)
				: is_version(d, s, d->latest[s], words) || is_version(d, s, d->maybe[s], words))
		return;
	if (judge == RIG_DURABLE && is_version(d, s, d->durable[s], words))
		return;
	rig_fail("disk %s, sector %" PRIu64 ": neither version %u nor %d (durable: %u); zeros: %d", d->name, s,
		 d->latest[s], (int)d->maybe[s], d->durable[s], is_version(d, s, 0, words));
}

static bool is_unreadable(struct db_env *env)
{
	struct db_txn *txn = NULL;
	int rc = db_read_begin(env, &txn);

	if (rc == 0)
		db_read_end(txn);
	db_read_free(txn);
	return rc == -EIO && db_is_sealed(env);
}

static void judge_disk(struct rig *rig, struct rig_disk *d, enum rig_judge judge)
{
	static uint64_t data[MIB / 8];
	uint64_t size = meta_disk_size(d->meta);

	for (uint64_t at = 0; at < RIG_DISK_BYTES; at += MIB) {
		memset(data, 0xee, sizeof(data));
		/* Past the end there is nothing to read, and what was there must not come back. */
		int rc = at < size ? run_request(rig, d, IOC_OP_READ, 0, at, MIB, data) : 0;
		/* What is not in memory can't be read from metadata whose last page write failed. */
		if (rc == -EIO && is_unreadable(rig->pool->env))
			continue;
		must(rc, NULL, "a read without faults");
		if (at >= size)
			memset(data, 0, sizeof(data));
		for (uint64_t s = 0; s < MIB / RIG_SECTOR; s++)
			judge_sector(d, at / RIG_SECTOR + s, data + s * RIG_SECTOR / 8, judge);
	}
}

uint64_t rig_judge_readable(struct rig *rig)
{
	static uint64_t data[CHUNK_BYTES / 8];
	uint64_t errors = 0;

	for (unsigned i = 0; i < ARRAY_LEN(rig->disks); i++) {
		struct rig_disk *d = &rig->disks[i];
		uint64_t size = meta_disk_size(d->meta);

		if (size != (i == 0 ? 20 : 8) * MIB)
			rig_fail("disk %s has %" PRIu64 " bytes", d->name, size);
		for (uint64_t at = 0; at < size; at += CHUNK_BYTES) {
			if (run_request(rig, d, IOC_OP_READ, 0, at, CHUNK_BYTES, data) < 0) {
				errors++;
				continue;
			}
			for (uint64_t s = 0; s < CHUNK_BYTES / RIG_SECTOR; s++)
				judge_sector(d, at / RIG_SECTOR + s, data + s * RIG_SECTOR / 8, RIG_LATEST);
		}
	}
	return errors;
}

void rig_judge(struct rig *rig, enum rig_judge judge)
{
	for (unsigned i = 0; i < ARRAY_LEN(rig->disks); i++)
		if (rig->disks[i].bd)
			judge_disk(rig, &rig->disks[i], judge);
}

/* ---- the pool that all begin with --------------------------------------------------------- */

static void make_disks(struct rig *rig)
{
	struct meta_disk_spec specs[2] = { { .name = "a", .size_bytes = 20 * MIB },
					   { .name = "b", .size_bytes = 8 * MIB } };

	must(rig_open(rig), &rig->err, "opening the new pool");
	must(meta_disk_create(rig->pool, specs, 2, NULL, &rig->err), &rig->err, "making the disks");
	for (unsigned i = 0; i < 2; i++) {
		strcpy(rig->disks[i].name, specs[i].name);
		must(rig_open_disk(rig, i), &rig->err, "opening a new disk");
	}
}

static void fill_disks(struct rig *rig)
{
	must(rig_request(rig, 0, IOC_OP_WRITE, 0, 0, MIB, 1), NULL, "filling");
	must(rig_request(rig, 0, IOC_OP_WRITE, 0, 9 * MIB, 300 * KIB, 2), NULL, "filling");
	for (uint64_t i = 0; i < 6; i++)
		must(rig_request(rig, 0, IOC_OP_WRITE, 0, 17 * MIB + i * 192 * KIB, 4096, 3), NULL, "filling");
	must(rig_request(rig, 1, IOC_OP_WRITE, 0, 0, 512 * KIB, 4), NULL, "filling");
	for (unsigned i = 0; i < 2; i++)
		must(rig_request(rig, i, IOC_OP_FLUSH, 0, 0, 0, 0), NULL, "filling");
}

void rig_make(struct rig *rig, const char *dir)
{
	char pv[160];
	struct meta_pv_spec spec = { .path = pv, .size_bytes = PV_BYTES };
	struct meta_pool_create_args args = { .dir = dir, .name = "sweep", .pvs = &spec, .pv_count = 1 };

	snprintf(rig->dir, sizeof(rig->dir), "%s", dir);
	snprintf(pv, sizeof(pv), "%s/pv0", dir);
	for (unsigned i = 0; i < 2; i++)
		memset(rig->disks[i].maybe, 0xff, sizeof(rig->disks[i].maybe));
	must(meta_pool_create(&args, &rig->err), &rig->err, "making the pool");
	make_disks(rig);
	fill_disks(rig);
	must(rig_close(rig), &rig->err, "closing the new pool");
}

static void copy_file(const char *from, const char *to, const char *name)
{
	static char buf[64 * KIB];
	char path[256];
	off_t at = 0, size, n;

	snprintf(path, sizeof(path), "%s/%s", from, name);
	int in = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/%s", to, name);
	int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (in < 0 || out < 0 || (size = lseek(in, 0, SEEK_END)) < 0 || ftruncate(out, size) != 0)
		rig_fail("%s: %s", path, strerror(errno));
	while ((at = lseek(in, at, SEEK_DATA)) >= 0 && (n = pread(in, buf, sizeof(buf), at)) > 0) {
		if (pwrite(out, buf, (size_t)n, at) != n)
			rig_fail("%s: %s", path, strerror(errno));
		at += n;
	}
	close(in);
	close(out);
}

void rig_copy(struct rig *rig, const char *dir)
{
	if (mkdir(dir, 0700) != 0)
		rig_fail("%s: %s", dir, strerror(errno));
	copy_file(rig->dir, dir, "data.mdb");
	copy_file(rig->dir, dir, "pv0");
	snprintf(rig->dir, sizeof(rig->dir), "%s", dir);
}

void rig_remove_dir(const char *path)
{
	char file[512];
	struct dirent *entry;
	DIR *dir = opendir(path);

	while (dir && (entry = readdir(dir))) {
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		unlink(file);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}
