/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer: threads that work on the disks of a mount and say so in the
 * recording that goes on below its pool.
 *
 *	writer --scenario NAME --disks DIR --marks FILE --bdfs PROGRAM
 *	       [--seed N] [--seconds N] [--round N] [--grow COMMAND]
 *	writer --show NAME      prints "POOL_MIB WRITE_US FLUSH_US READ_US"
 *	writer --list
 *
 * Every sector that is written carries disk, version and sector number. Before
 * each operation a mark says that it is submitted, after it one that it has
 * completed, or failed; a read's says which version it found in each sector. What
 * was right is judged later, by cuts, from the marks alone.
 *
 * Disks are the files d<number> in DIR. Those that are there are gone on with
 * (the pool came back from a cut); versions begin at round << 24, so that none is
 * used twice. Data operations of a disk go on at once, in any number; resizing,
 * appending, deleting have the disk to themselves.
 *
 * What is done to snapshots is done by the command: writer_snaps.c.
 *
 * Failure modes: ENOSPC is an answer; any other error of an operation, also that
 * the mount has gone, ends the writer with 1, and so does a mark that can't be
 * written. What was marked as submitted and never as completed may have happened.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/model/oracle.h"
#include "tests/powercut/writer.h"

#define DISK_SECTORS_MAX (8 * MIB / SECTOR)
#define TIMER_SECONDS 4 /* the commit is due after one; the rest is for a busy machine */

struct writer w = { .seed = 1, .seconds = 2, .marks_fd = -1 };

void writer_fail(const char *what)
{
	fprintf(stderr, "writer: %s: %s\n", what, strerror(errno));
	atomic_store(&w.status, 1);
	atomic_store(&w.stop, true);
}

/* ---- marks -------------------------------------------------------------------------------- */

void mark_put(struct thread *t, enum mark_phase phase)
{
	size_t bytes = sizeof(*t->mark);

	t->mark->phase = (uint8_t)phase;
	if (MARK_HAS_VERSIONS(t->mark->kind, phase))
		bytes += t->mark->count * sizeof(uint32_t);
	if (pwrite(w.marks_fd, t->mark, bytes, 0) != (ssize_t)bytes)
		writer_fail("marks");
}

void mark_begin(struct thread *t, enum mark_kind kind, const struct disk *disk)
{
	t->mark->kind = (uint8_t)kind;
	t->mark->disk = disk ? disk->id : 0;
	t->mark->op = atomic_fetch_add(&w.next_op, 1) + 1;
	mark_put(t, MARK_SUBMITTED);
}

/* ok: it did what was asked. The errno of what failed is still there. */
void mark_end(struct thread *t, bool ok, const char *what)
{
	int error = errno;

	if (ok) {
		mark_put(t, MARK_COMPLETED);
		t->ops++;
		return;
	}
	mark_put(t, MARK_FAILED);
	errno = error;
	if (error != ENOSPC)
		writer_fail(what);
}

void mark_new(struct thread *t)
{
	*t->mark = (struct mark){ 0 };
}

/* ---- data --------------------------------------------------------------------------------- */

static void do_write_at(struct thread *t, struct disk *disk, uint64_t first, uint64_t count)
{
	bool dsync = below(t, 100) < w.scenario->dsync_percent;

	mark_new(t);
	t->mark->first = first;
	t->mark->count = (uint32_t)count;
	t->mark->version = atomic_fetch_add(&w.next_version, 1) + 1;
	t->mark->durable = dsync;
	oracle_fill(disk->id, first, count, t->mark->version, t->buf);
	mark_begin(t, MARK_WRITE, disk);
	ssize_t done = pwrite(dsync ? disk->dsync_fd : disk->fd, t->buf, count * SECTOR, (off_t)(first * SECTOR));
	if (done >= 0 && done != (ssize_t)(count * SECTOR))
		errno = ENOSPC;
	mark_end(t, done == (ssize_t)(count * SECTOR), "write");
}

/* Most of the work in the span, so that operations meet. */
static bool pick(struct thread *t, const struct disk *disk, uint64_t count, uint64_t align, uint64_t *ret_first)
{
	uint64_t limit = disk->sectors, span = w.scenario->span_kib * KIB / SECTOR;

	if (span && below(t, 8) != 0)
		limit = MIN(limit, span);
	if (count > limit)
		return false;
	*ret_first = round_down_to(below(t, limit - count + 1), align);
	return true;
}

static void do_once(struct thread *t, struct disk *disk)
{
	uint64_t first = atomic_fetch_add(&disk->next_block, 2) * 8;

	if (first + 16 <= disk->sectors)
		do_write_at(t, disk, first, 16);
}

static void do_write(struct thread *t, struct disk *disk, enum action action)
{
	uint64_t first, count = 1 + below(t, 7), align = 1;

	if (w.scenario->once) {
		do_once(t, disk);
		return;
	}
	if (action == DO_BLOCKS)
		count = 8 * (1 + below(t, 8)), align = 8;
	else if (action == DO_LARGE)
		count = 128 * (1 + below(t, 8)), align = below(t, 2) ? 8 : 128;
	if (pick(t, disk, count, align, &first))
		do_write_at(t, disk, first, count);
}

/* A clone has what its origin wrote, so any disk's stamp is taken: a version is only ever written to one. */
uint32_t version_in(uint64_t sector, const char *buf)
{
	char expected[SECTOR];
	uint64_t words[2];

	memcpy(words, buf, sizeof(words));
	oracle_fill((uint32_t)(words[0] >> 32), sector, 1, (uint32_t)words[0], expected);
	return memcmp(buf, expected, SECTOR) == 0 ? (uint32_t)words[0] : MARK_BAD_SECTOR;
}

static void do_read(struct thread *t, struct disk *disk)
{
	uint32_t *versions = (uint32_t *)(t->mark + 1);
	uint64_t first, count = below(t, 4) ? 8 * (1 + below(t, 4)) : 1 + below(t, 200);

	if (!pick(t, disk, count, 1, &first))
		return;
	mark_new(t);
	t->mark->first = first;
	t->mark->count = (uint32_t)count;
	mark_begin(t, MARK_READ, disk);
	ssize_t got = pread(disk->fd, t->buf, count * SECTOR, (off_t)(first * SECTOR));
	bool ok = got == (ssize_t)(count * SECTOR);
	if (!ok && got >= 0)
		errno = ERANGE; /* shorter than the disk is known to be */
	for (uint64_t i = 0; ok && i < count; i++)
		versions[i] = version_in(first + i, t->buf + i * SECTOR);
	mark_end(t, ok, "read");
}

static void do_flush(struct thread *t, struct disk *disk)
{
	mark_new(t);
	mark_begin(t, MARK_FLUSH, disk);
	mark_end(t, (below(t, 2) ? fsync : fdatasync)(disk->fd) == 0, "fsync");
}

static void do_zeroes(struct thread *t, struct disk *disk, enum action action)
{
	uint64_t first, count = 8 * (1 + below(t, 8)), align = 8;
	int mode = FALLOC_FL_KEEP_SIZE | (action == DO_ZERO ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);

	if (action == DO_RANGE)
		count = 128 * (1 + below(t, 16)), align = below(t, 2) ? 8 : 128;
	else if (below(t, 4) == 0)
		align = 1;
	if (!pick(t, disk, count, align, &first))
		return;
	mark_new(t);
	t->mark->first = first;
	t->mark->count = (uint32_t)count;
	mark_begin(t, MARK_ZERO, disk);
	mark_end(t, fallocate(disk->fd, mode, (off_t)(first * SECTOR), (off_t)(count * SECTOR)) == 0, "fallocate");
}

/* ---- disks: the caller has the disk to itself --------------------------------------------- */

static bool open_dsync(struct disk *disk)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/d%u", w.dir, disk->id);
	disk->dsync_fd = open(path, O_RDWR | O_DSYNC | O_CLOEXEC);
	return disk->dsync_fd >= 0;
}

static void set_size(struct thread *t, struct disk *disk, uint64_t sectors)
{
	mark_new(t);
	t->mark->value = sectors * SECTOR;
	mark_begin(t, MARK_RESIZE, disk);
	close(disk->dsync_fd); /* who has a disk open twice is refused */
	bool ok = ftruncate(disk->fd, (off_t)(sectors * SECTOR)) == 0;
	if (ok)
		disk->sectors = sectors;
	mark_end(t, ok, "ftruncate");
	if (!open_dsync(disk))
		writer_fail("open");
}

static void do_resize(struct thread *t, struct disk *disk)
{
	set_size(t, disk, below(t, w.scenario->disk_kib * KIB / SECTOR + 1));
}

static void do_append(struct thread *t, struct disk *disk)
{
	uint64_t count = 1 + below(t, 128), first = disk->sectors + (below(t, 2) ? below(t, 300) : 0);
	struct stat st;

	if (first + count > w.scenario->disk_kib * KIB / SECTOR)
		return;
	do_write_at(t, disk, first, count);
	if (fstat(disk->fd, &st) == 0)
		disk->sectors = (uint64_t)st.st_size / SECTOR;
}

bool disk_open(struct disk *disk, uint32_t id, int flags)
{
	char path[4200];
	struct stat st;

	snprintf(path, sizeof(path), "%s/d%u", w.dir, id);
	disk->id = id;
	disk->fd = open(path, O_RDWR | O_CLOEXEC | flags, 0600);
	if (disk->fd < 0)
		return false;
	if (!open_dsync(disk) || fstat(disk->fd, &st) != 0)
		return false;
	disk->sectors = (uint64_t)st.st_size / SECTOR;
	return true;
}

void disk_close(struct disk *disk)
{
	close(disk->fd);
	close(disk->dsync_fd);
	disk->fd = disk->dsync_fd = -1;
}

uint32_t disk_new_id(void)
{
	return atomic_fetch_add(&w.next_disk, 1) + 1;
}

static void make_disk(struct thread *t, struct disk *disk)
{
	disk->fd = disk->dsync_fd = -1;
	disk->id = disk_new_id();
	mark_new(t);
	mark_begin(t, MARK_CREATE, disk);
	bool ok = disk_open(disk, disk->id, O_CREAT | O_EXCL);
	mark_end(t, ok, "create");
	if (ok)
		set_size(t, disk, w.scenario->disk_kib * KIB / SECTOR);
}

static void do_recreate(struct thread *t, struct disk *disk)
{
	if (disk_delete(t, disk))
		make_disk(t, disk);
}

static void do_grow(struct thread *t)
{
	char command[4096];
	uint64_t number = atomic_fetch_add(&w.grown, 1);

	if (!w.grow || number >= 4)
		return;
	mark_new(t);
	t->mark->value = 4 * MIB;
	mark_begin(t, MARK_GROW, NULL);
	snprintf(command, sizeof(command), "%s %" PRIu64 " >/dev/null", w.grow, number);
	/* The status of a command is no errno. */
	errno = ECHILD;
	mark_end(t, system(command) == 0, "grow");
}

/* ---- threads ------------------------------------------------------------------------------ */

static enum action pick_action(struct thread *t)
{
	uint64_t sum = 0, dice;
	unsigned i;

	for (i = 0; i < ACTIONS; i++)
		sum += w.scenario->weights[i];
	dice = below(t, sum);
	for (i = 0; dice >= w.scenario->weights[i]; i++)
		dice -= w.scenario->weights[i];
	return (enum action)i;
}

static void act(struct thread *t, struct disk *disk, enum action action)
{
	switch (action) {
	case DO_READ:
		return do_read(t, disk);
	case DO_FLUSH:
		return do_flush(t, disk);
	case DO_PUNCH:
	case DO_RANGE:
	case DO_ZERO:
		return do_zeroes(t, disk, action);
	case DO_RESIZE:
		return do_resize(t, disk);
	case DO_APPEND:
		return do_append(t, disk);
	case DO_RECREATE:
		return do_recreate(t, disk);
	case DO_ROLLBACK:
		return snap_roll_back(t, disk);
	case DO_CLONE:
		return snap_clone(t, disk);
	case DO_RECEIVE:
		return snap_receive(t, disk);
	default:
		return do_write(t, disk, action);
	}
}

static bool needs_all(enum action action)
{
	return action == DO_RESIZE || action == DO_APPEND || action == DO_RECREATE || action == DO_ROLLBACK ||
	       action == DO_CLONE || action == DO_RECEIVE;
}

/* Those that are not about one disk. */
static bool act_alone(struct thread *t, enum action action)
{
	switch (action) {
	case DO_GROW:
		do_grow(t);
		return true;
	case DO_PAUSE:
		usleep((useconds_t)(1000 + below(t, 20000)));
		return true;
	case DO_SNAP:
		snap_take(t);
		return true;
	case DO_UNSNAP:
		snap_remove(t);
		return true;
	case DO_READ_SNAP:
		snap_read(t);
		return true;
	default:
		return false;
	}
}

static void *work(void *arg)
{
	struct thread *t = arg;

	while (!atomic_load(&w.stop)) {
		struct disk *disk = &w.disks[below(t, w.scenario->disks)];
		enum action action = pick_action(t);
		if (act_alone(t, action))
			continue;
		if (needs_all(action))
			pthread_rwlock_wrlock(&disk->lock);
		else
			pthread_rwlock_rdlock(&disk->lock);
		if (disk->fd >= 0 && !atomic_load(&w.stop))
			act(t, disk, action);
		pthread_rwlock_unlock(&disk->lock);
	}
	return NULL;
}

static void thread_init(struct thread *t, unsigned number)
{
	*t = (struct thread){ .random = w.seed * 1000 + number };
	if (posix_memalign((void **)&t->buf, 4096, MARK_SECTORS_MAX * SECTOR) != 0)
		abort();
	t->mark = calloc(1, sizeof(*t->mark) + MARK_SECTORS_MAX * sizeof(uint32_t));
	if (!t->mark)
		abort();
}

/* ---- before and after --------------------------------------------------------------------- */

/* Who wants a lock alone would wait for ever behind those who come and go. */
static void init_lock(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

/* Disks that a cut has left are gone on with; what is missing is made. */
static void find_disks(struct thread *t)
{
	DIR *dir = opendir(w.dir);
	struct dirent *entry;
	uint64_t disk_sectors = w.scenario->disk_kib * KIB / SECTOR;
	unsigned found = 0;

	for (unsigned i = 0; i < DISKS_MAX; i++) {
		init_lock(&w.disks[i].lock);
		w.disks[i].fd = -1;
	}
	while (dir && (entry = readdir(dir))) {
		uint32_t id = entry->d_name[0] == 'd' ? (uint32_t)strtoul(entry->d_name + 1, NULL, 10) : 0;
		if (id == 0 || found == w.scenario->disks)
			continue;
		if (!disk_open(&w.disks[found], id, 0))
			writer_fail(entry->d_name);
		/* The cut fell between its making and its first size; or all of it has to go into a mark. */
		if (w.disks[found].sectors == 0 || (w.scenario->snaps && w.disks[found].sectors > disk_sectors))
			set_size(t, &w.disks[found], disk_sectors);
		found++;
	}
	if (dir)
		closedir(dir);
	init_lock(&w.snaps.lock);
	snaps_find();
	/* Above any number of earlier rounds. */
	atomic_init(&w.next_disk, (uint32_t)w.round * 100000);
	/* What is to be written once must not have been written before the cut either. */
	for (unsigned i = 0; w.scenario->once && i < found; i++)
		do_recreate(t, &w.disks[i]);
	for (; found < w.scenario->disks; found++)
		make_disk(t, &w.disks[found]);
}

static void fill(struct thread *t)
{
	for (unsigned i = 0; i < w.scenario->disks && !atomic_load(&w.stop); i++) {
		for (uint64_t s = 0; s + 512 <= w.disks[i].sectors; s += 512)
			do_write_at(t, &w.disks[i], s, 512);
		do_flush(t, &w.disks[i]);
	}
}

/* Nobody flushed. What was written first, and is older than the commit's interval, must be durable all the same:
 * marked as if a flush had been submitted before the wait. */
static void await_timer(struct thread *t)
{
	for (unsigned i = 0; i < w.scenario->disks; i++) {
		mark_new(t);
		mark_begin(t, MARK_FLUSH, &w.disks[i]);
		sleep(i == 0 ? TIMER_SECONDS : 0);
		mark_end(t, true, "timer");
	}
}

static int run(void)
{
	struct thread threads[64], first;
	uint64_t ops = 0;

	thread_init(&first, 99);
	mark_new(&first);
	first.mark->kind = MARK_READY;
	mark_put(&first, MARK_COMPLETED);
	find_disks(&first);
	if (w.scenario->filled)
		fill(&first);
	for (unsigned i = 0; i < w.scenario->threads; i++) {
		thread_init(&threads[i], i);
		if (pthread_create(&threads[i].thread, NULL, work, &threads[i]) != 0)
			abort();
	}
	for (uint64_t ms = 0; ms < w.seconds * 1000 && !atomic_load(&w.stop); ms += 20)
		usleep(20000);
	bool ended = atomic_exchange(&w.stop, true);
	for (unsigned i = 0; i < w.scenario->threads; i++) {
		pthread_join(threads[i].thread, NULL);
		ops += threads[i].ops;
	}
	if (w.scenario->once && !ended)
		await_timer(&first);
	printf("writer: %s, seed %" PRIu64 ": %" PRIu64 " operations", w.scenario->name, w.seed, ops);
	if (w.scenario->snaps > 0)
		printf(", %" PRIu64 " commands", atomic_load(&w.commands));
	printf("\n");
	return atomic_load(&w.status);
}

static int usage(void)
{
	fprintf(stderr, "usage: writer --scenario NAME --disks DIR --marks FILE --bdfs PROGRAM\n"
			"              [--seed N] [--seconds N] [--round N] [--grow COMMAND]\n"
			"       writer --show NAME\n"
			"       writer --list x\n");
	return 2;
}

static int show(const char *name)
{
	const struct scenario *scenario = scenario_find(name);

	if (!scenario)
		return usage();
	printf("%u %u %u %u\n", scenario->pool_mib, scenario->write_us, scenario->flush_us, scenario->read_us);
	return 0;
}

static int list(void)
{
	for (unsigned i = 0; i < scenario_count; i++)
		printf("%s\n", scenarios[i].name);
	return 0;
}

int main(int argc, char **argv)
{
	const char *marks = NULL;

	if (argc == 2 && strcmp(argv[1], "--list") == 0)
		return list();
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--scenario") == 0)
			w.scenario = scenario_find(argv[i + 1]);
		else if (strcmp(argv[i], "--disks") == 0)
			w.dir = argv[i + 1];
		else if (strcmp(argv[i], "--marks") == 0)
			marks = argv[i + 1];
		else if (strcmp(argv[i], "--seed") == 0)
			w.seed = strtoull(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--seconds") == 0)
			w.seconds = strtoull(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--round") == 0)
			w.round = strtoull(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--grow") == 0)
			w.grow = argv[i + 1];
		else if (strcmp(argv[i], "--bdfs") == 0)
			w.bdfs = argv[i + 1];
		else if (strcmp(argv[i], "--show") == 0)
			return show(argv[i + 1]);
		else
			return usage();
	}
	if (!w.scenario || !w.dir || !marks || !w.bdfs)
		return usage();
	atomic_init(&w.next_version, (uint32_t)w.round << 24);
	w.marks_fd = open(marks, O_WRONLY | O_CLOEXEC);
	if (w.marks_fd < 0) {
		perror(marks);
		return 1;
	}
	return run();
}
