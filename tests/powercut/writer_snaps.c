/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the writer does with snapshots, see writer.h for the locks. The operations are the command's, run as a user
 * would; the content of a snapshot is read through its file.
 *
 * A snapshot's number is in its name and never used again; two disks whose snapshots have one number were asked for by
 * one command. Before anything is made of a snapshot it has been read, so its content is marked: who judges knows
 * what a clone, a rolled-back disk and a received one have to hold.
 *
 * snap_receive() sends two snapshots of a disk to files, removes both (a pool has a snapshot's UUID once), and
 * receives them in place of another disk: the first makes a disk, the second brings it up to date.
 *
 * Failure modes: a command that fails ends the writer, but for a receive into a full pool.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tests/powercut/writer.h"

/* ---- commands and names ------------------------------------------------------------------- */

/* Runs `bdfs WORDS`. The status of a command is no errno: what fails has ECHILD. */
__attribute__((format(printf, 1, 2))) static bool command(const char *fmt, ...)
{
	char line[8192];
	va_list args;
	int used = snprintf(line, sizeof(line), "%s ", w.bdfs);

	va_start(args, fmt);
	used += vsnprintf(line + used, sizeof(line) - (size_t)used, fmt, args);
	va_end(args);
	snprintf(line + used, sizeof(line) - (size_t)used, " >/dev/null");
	atomic_fetch_add(&w.commands, 1);
	if (system(line) == 0)
		return true;
	fprintf(stderr, "writer: failed: %s\n", line);
	errno = ECHILD;
	return false;
}

static void snap_path(const struct snap *snap, char path[4200])
{
	snprintf(path, 4200, "%s/../snapshots/d%u/s%u", w.dir, snap->disk, snap->number);
}

/* ---- the table: snaps.lock ---------------------------------------------------------------- */

static unsigned count(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SNAPS_MAX; i++)
		n += w.snaps.all[i].number != 0;
	return n;
}

static struct snap *add(uint32_t disk, uint32_t number, uint64_t sectors)
{
	for (unsigned i = 0; i < SNAPS_MAX; i++) {
		if (w.snaps.all[i].number != 0)
			continue;
		w.snaps.all[i] = (struct snap){ .disk = disk, .number = number, .sectors = sectors };
		return &w.snaps.all[i];
	}
	return NULL;
}

static void forget(struct snap *snap)
{
	free(snap->versions);
	*snap = (struct snap){ 0 };
}

/* One of those that fit, at random. of, not: ids of disks; 0: any, none. */
static struct snap *pick(struct thread *t, uint32_t of, uint32_t not, uint32_t above)
{
	struct snap *found = NULL;
	unsigned fit = 0;

	for (unsigned i = 0; i < SNAPS_MAX; i++) {
		struct snap *snap = &w.snaps.all[i];
		if (snap->number > above && (of == 0 || snap->disk == of) && snap->disk != not &&
		    below(t, ++fit) == 0)
			found = snap;
	}
	return found;
}

static void mark_snap(struct thread *t, const struct snap *snap)
{
	mark_new(t);
	t->mark->value = snap->number;
	t->mark->first = snap->disk;
	t->mark->count = (uint32_t)snap->sectors;
}

/* ---- reading ------------------------------------------------------------------------------ */

static bool read_versions(struct thread *t, const struct snap *snap)
{
	uint32_t *versions = (uint32_t *)(t->mark + 1);
	struct stat st;
	char path[4200];

	snap_path(snap, path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* the kernel keeps pages of snapshots */
	size_t bytes = snap->sectors * SECTOR;
	bool ok = fstat(fd, &st) == 0 && pread(fd, t->buf, bytes, 0) == (ssize_t)bytes;
	if (ok && (uint64_t)st.st_size != bytes) {
		errno = ERANGE;
		ok = false;
	}
	int error = errno;
	close(fd);
	errno = error;
	for (uint64_t i = 0; ok && i < snap->sectors; i++)
		versions[i] = version_in(i, t->buf + i * SECTOR);
	return ok;
}

/* snaps.lock, shared or alone. */
static bool read_it(struct thread *t, const struct snap *snap)
{
	struct disk of = { .id = snap->disk };

	mark_snap(t, snap);
	mark_begin(t, MARK_READ_SNAP, &of);
	bool ok = read_versions(t, snap);
	mark_end(t, ok, "reading a snapshot");
	return ok;
}

/* snaps.lock alone. False: it can't be read. */
static bool know(struct thread *t, struct snap *snap)
{
	size_t bytes = snap->sectors * sizeof(uint32_t);

	if (snap->versions)
		return true;
	if (!read_it(t, snap))
		return false;
	snap->versions = malloc(bytes + 1);
	if (!snap->versions)
		abort();
	memcpy(snap->versions, t->mark + 1, bytes);
	return true;
}

void snap_read(struct thread *t)
{
	pthread_rwlock_rdlock(&w.snaps.lock);
	const struct snap *snap = pick(t, 0, 0, 0);
	if (snap)
		read_it(t, snap);
	pthread_rwlock_unlock(&w.snaps.lock);
}

/* ---- taking, removing --------------------------------------------------------------------- */

/* The disks are held, shared. */
static void take(struct thread *t, struct disk **disks, unsigned disk_count)
{
	struct mark marks[2];
	char words[64] = "";
	uint32_t number = ++w.snaps.next;

	for (unsigned i = 0; i < disk_count; i++) {
		mark_new(t);
		t->mark->value = number;
		t->mark->first = disks[i]->sectors;
		mark_begin(t, MARK_SNAP, disks[i]);
		marks[i] = *t->mark;
		snprintf(words + strlen(words), sizeof(words) - strlen(words), " d%u", disks[i]->id);
	}
	bool ok = command("snapshot -create s%u -sp pool -lu%s", number, words);
	for (unsigned i = 0; i < disk_count; i++) {
		*t->mark = marks[i];
		if (ok)
			add(disks[i]->id, number, disks[i]->sectors);
		errno = ECHILD;
		mark_end(t, ok, "taking a snapshot");
	}
}

void snap_take(struct thread *t)
{
	unsigned slots = w.scenario->disks, first = (unsigned)below(t, slots), second = (unsigned)below(t, slots);
	struct disk *disks[2] = { &w.disks[MIN(first, second)], &w.disks[MAX(first, second)] }, *there[2];
	unsigned locked = first == second ? 1 : 2, found = 0;

	for (unsigned i = 0; i < locked; i++) {
		pthread_rwlock_rdlock(&disks[i]->lock);
		if (disks[i]->fd >= 0)
			there[found++] = disks[i];
	}
	pthread_rwlock_wrlock(&w.snaps.lock);
	if (found > 0 && count() + found <= w.scenario->snaps && !atomic_load(&w.stop))
		take(t, there, found);
	pthread_rwlock_unlock(&w.snaps.lock);
	while (locked > 0)
		pthread_rwlock_unlock(&disks[--locked]->lock);
}

/* snaps.lock alone. */
static bool remove_it(struct thread *t, struct snap *snap)
{
	struct disk of = { .id = snap->disk };

	mark_snap(t, snap);
	mark_begin(t, MARK_UNSNAP, &of);
	bool ok = command("snapshot -remove s%u -sp pool -lu d%u --yes", snap->number, snap->disk);
	mark_end(t, ok, "removing a snapshot");
	if (ok)
		forget(snap);
	return ok;
}

void snap_remove(struct thread *t)
{
	pthread_rwlock_wrlock(&w.snaps.lock);
	struct snap *snap = pick(t, 0, 0, 0);
	if (snap && !atomic_load(&w.stop))
		remove_it(t, snap);
	pthread_rwlock_unlock(&w.snaps.lock);
}

/* ---- disks of snapshots: the caller has the disk to itself --------------------------------- */

/* snaps.lock alone. */
static bool delete_it(struct thread *t, struct disk *disk)
{
	char path[4200];
	bool ok;

	disk_close(disk);
	mark_new(t);
	mark_begin(t, MARK_DELETE, disk);
	if (pick(t, disk->id, 0, 0)) {
		ok = command("rmbdsp -sp pool -bd d%u --with-snapshots --yes", disk->id);
	} else {
		snprintf(path, sizeof(path), "%s/d%u", w.dir, disk->id);
		ok = unlink(path) == 0;
	}
	mark_end(t, ok, "deleting a disk");
	for (unsigned i = 0; ok && i < SNAPS_MAX; i++)
		if (w.snaps.all[i].number && w.snaps.all[i].disk == disk->id)
			forget(&w.snaps.all[i]);
	return ok;
}

bool disk_delete(struct thread *t, struct disk *disk)
{
	pthread_rwlock_wrlock(&w.snaps.lock);
	bool ok = delete_it(t, disk);
	pthread_rwlock_unlock(&w.snaps.lock);
	return ok;
}

static void reopen(struct disk *disk, const char *what)
{
	if (!disk_open(disk, disk->id, 0))
		writer_fail(what);
}

static void roll_back(struct thread *t, struct disk *disk, const struct snap *snap)
{
	disk_close(disk);
	mark_snap(t, snap);
	mark_begin(t, MARK_ROLLBACK, disk);
	mark_end(t, command("snapshot -rollback s%u -sp pool -lu d%u --yes", snap->number, disk->id), "rolling back");
	reopen(disk, "a disk that was rolled back");
}

void snap_roll_back(struct thread *t, struct disk *disk)
{
	pthread_rwlock_wrlock(&w.snaps.lock);
	struct snap *snap = pick(t, disk->id, 0, 0);
	if (snap && know(t, snap))
		roll_back(t, disk, snap);
	pthread_rwlock_unlock(&w.snaps.lock);
}

static void make_clone(struct thread *t, struct disk *disk, const struct snap *snap)
{
	mark_snap(t, snap);
	disk->id = disk_new_id();
	mark_begin(t, MARK_CLONE, disk);
	mark_end(t, command("mkbdsp -sp pool -bd d%u -from d%u@s%u", disk->id, snap->disk, snap->number), "cloning");
	reopen(disk, "a clone");
}

void snap_clone(struct thread *t, struct disk *disk)
{
	pthread_rwlock_wrlock(&w.snaps.lock);
	struct snap *snap = pick(t, 0, disk->id, 0);
	if (snap && know(t, snap) && delete_it(t, disk))
		make_clone(t, disk, snap);
	pthread_rwlock_unlock(&w.snaps.lock);
}

/* ---- send and receive --------------------------------------------------------------------- */

#define STREAM_PATH_BYTES 1024

struct streams {
	char full[STREAM_PATH_BYTES], increment[STREAM_PATH_BYTES]; /* files; "": none yet */
	struct snap snaps[2];         /* what is in them; they own versions */
};

static bool new_file(char *path)
{
	const char *dir = getenv("TMPDIR");

	snprintf(path, STREAM_PATH_BYTES, "%s/stream-XXXXXX", dir ? dir : "/tmp");
	int fd = mkstemp(path);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static bool send_both(const struct streams *streams)
{
	const struct snap *one = &streams->snaps[0], *two = &streams->snaps[1];

	return command("send d%u@s%u -sp pool -file %s", one->disk, one->number, streams->full) &&
	       command("send d%u@s%u -i s%u -sp pool -file %s", two->disk, two->number, one->number,
		       streams->increment);
}

static bool pool_is_full(void)
{
	struct statvfs st;

	return statvfs(w.dir, &st) == 0 && st.f_bavail * st.f_frsize < 4 * MIB;
}

/* snap: what the disk gets. False: it can't be gone on. */
static bool receive_one(struct thread *t, struct disk *disk, const struct snap *snap, const char *path)
{
	mark_snap(t, snap);
	memcpy(t->mark + 1, snap->versions, snap->sectors * sizeof(uint32_t));
	mark_begin(t, MARK_RECEIVE, disk);
	bool ok = command("receive -sp pool -lu d%u -file %s", disk->id, path);
	errno = pool_is_full() ? ENOSPC : ECHILD;
	mark_end(t, ok, "receiving");
	if (ok)
		add(disk->id, snap->number, snap->sectors);
	return ok;
}

static void receive_both(struct thread *t, struct disk *disk, const struct streams *streams)
{
	disk->id = disk_new_id();
	if (receive_one(t, disk, &streams->snaps[0], streams->full)) {
		(void)receive_one(t, disk, &streams->snaps[1], streams->increment);
		reopen(disk, "a disk that was received");
	}
}

/* The table's entries go with the snapshots. */
static bool take_out(struct thread *t, struct snap *one, struct snap *two, struct streams *streams)
{
	streams->snaps[0] = *one;
	streams->snaps[1] = *two;
	one->versions = two->versions = NULL;
	if (!new_file(streams->full) || !new_file(streams->increment) || !send_both(streams)) {
		writer_fail("sending");
		return false;
	}
	return remove_it(t, one) && remove_it(t, two);
}

/* The full stream makes the disk, so there is none left if the pool is too full for it: its slot stays empty. */
void snap_receive(struct thread *t, struct disk *disk)
{
	struct streams streams = { .full = "", .increment = "" };

	pthread_rwlock_wrlock(&w.snaps.lock);
	struct snap *one = pick(t, 0, disk->id, 0), *two = one ? pick(t, one->disk, 0, one->number) : NULL;
	if (two && know(t, one) && know(t, two) && take_out(t, one, two, &streams) && delete_it(t, disk))
		receive_both(t, disk, &streams);
	for (unsigned i = 0; i < 2; i++)
		free(streams.snaps[i].versions);
	if (streams.full[0])
		unlink(streams.full);
	if (streams.increment[0])
		unlink(streams.increment);
	pthread_rwlock_unlock(&w.snaps.lock);
}

/* ---- before ------------------------------------------------------------------------------- */

static void find_of(uint32_t disk, const char *path)
{
	char name[8500];
	DIR *dir = opendir(path);
	struct dirent *entry;
	struct stat st;

	while (dir && (entry = readdir(dir))) {
		uint32_t number = entry->d_name[0] == 's' ? (uint32_t)strtoul(entry->d_name + 1, NULL, 10) : 0;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (number != 0 && stat(name, &st) == 0)
			add(disk, number, (uint64_t)st.st_size / SECTOR);
	}
	if (dir)
		closedir(dir);
}

void snaps_find(void)
{
	char path[4200], of[4500];
	struct dirent *entry;

	w.snaps.next = (uint32_t)w.round * 100000;
	snprintf(path, sizeof(path), "%s/../snapshots", w.dir);
	DIR *dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		uint32_t disk = entry->d_name[0] == 'd' ? (uint32_t)strtoul(entry->d_name + 1, NULL, 10) : 0;
		snprintf(of, sizeof(of), "%s/%s", path, entry->d_name);
		if (disk != 0)
			find_of(disk, of);
	}
	if (dir)
		closedir(dir);
}
