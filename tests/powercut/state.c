/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See state.h.
 *
 * Happy path: state_init; state_next until the position of interest; fork;
 * state_cut in the child, which looks at what is left and goes; state_next again.
 *
 * What a cut keeps is chosen at three levels, or the mixed cases would hide the
 * pure ones: for the whole cut nothing, everything or each file for itself; for a
 * file nothing, everything or each change for itself; for a change nothing, all,
 * or each sector (or each block) by itself. Changes land in any order.
 *
 * Failure modes: a recording that makes no sense is a bug of the recorder: abort.
 */
#include "tests/powercut/state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILE_BYTES_MAX (512 * MIB)

uint64_t random_next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* ---- files -------------------------------------------------------------------------------- */

void file_set_size(struct file *file, uint64_t size)
{
	if (size > FILE_BYTES_MAX)
		abort();
	if (size < file->size)
		memset(file->data + size, 0, file->size - size);
	file->size = size;
}

void file_put(struct file *file, uint64_t offset, const void *data, uint64_t bytes)
{
	if (offset > FILE_BYTES_MAX || bytes > FILE_BYTES_MAX - offset)
		abort();
	if (!data && offset >= file->size)
		return; /* a hole stays within the file */
	if (!data)
		memset(file->data + offset, 0, MIN(bytes, file->size - offset));
	else
		memcpy(file->data + offset, data, bytes);
	if (data)
		file->size = MAX(file->size, offset + bytes);
}

static struct file *new_file(struct state *state, unsigned number, const char *name)
{
	struct file *file = &state->files[number];

	if (number >= STATE_FILES_MAX || strlen(name) >= sizeof(file->name))
		abort();
	snprintf(file->name, sizeof(file->name), "%s", name);
	if (!file->data)
		file->data = mmap(NULL, FILE_BYTES_MAX, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (file->data == MAP_FAILED)
		abort();
	return file;
}

struct file *state_find(struct state *state, const char *name)
{
	for (unsigned i = 0; i < STATE_FILES_MAX; i++)
		if (state->files[i].name[0] && strcmp(state->files[i].name, name) == 0)
			return &state->files[i];
	return NULL;
}

static void load(struct file *file, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (size < 0) {
		perror(path);
		exit(2);
	}
	file_set_size(file, (uint64_t)size);
	/* Holes stay holes in memory too. */
	for (off_t at = lseek(fd, 0, SEEK_DATA); at >= 0;) {
		off_t end = lseek(fd, at, SEEK_HOLE);
		while (at < end) {
			ssize_t got = pread(fd, file->data + at, (size_t)(end - at), at);
			if (got <= 0)
				abort();
			at += got;
		}
		at = lseek(fd, at, SEEK_DATA);
	}
	close(fd);
	file->name_stable = true;
}

/* The base's files are numbered from the end, so that those of the recording find their numbers free; a file gets its
 * content when the recording names it. */
static void load_base(struct state *state, const char *dir)
{
	unsigned number = STATE_FILES_MAX;
	char path[8192], name[512];
	struct dirent *entry;
	DIR *pool;

	snprintf(path, sizeof(path), "%s/pool", dir);
	pool = opendir(path);
	if (!pool)
		return;
	while ((entry = readdir(pool))) {
		if (entry->d_name[0] == '.' || strncmp(entry->d_name, "log", 3) == 0)
			continue;
		snprintf(name, sizeof(name), "pool/%s", entry->d_name);
		snprintf(path, sizeof(path), "%s/%s", dir, name);
		load(new_file(state, --number, name), path);
	}
	closedir(pool);
}

void state_init(struct state *state, const char *recording, size_t bytes, const char *dir)
{
	*state = (struct state){ .recording = recording, .bytes = bytes };
	if (dir)
		load_base(state, dir);
}

int file_write_out(const struct file *file, const char *path)
{
	static const uint8_t zeros[4096];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc = fd >= 0 && ftruncate(fd, (off_t)file->size) == 0 ? 0 : -errno;

	for (uint64_t at = 0; rc == 0 && at < file->size; at += sizeof(zeros)) {
		size_t n = MIN(sizeof(zeros), file->size - at);
		if (memcmp(file->data + at, zeros, n) != 0 && pwrite(fd, file->data + at, n, (off_t)at) != (ssize_t)n)
			rc = -EIO;
	}
	if (fd >= 0)
		close(fd);
	return rc;
}

/* ---- changes ------------------------------------------------------------------------------ */

static void apply(struct file *file, const struct record *record)
{
	if (record->kind == RECORD_SIZE)
		file_set_size(file, record->offset);
	else
		file_put(file, record->offset, record->kind == RECORD_WRITE ? record_data(record) : NULL,
			 record->length);
}

static void add_change(struct file *file, const struct record *record)
{
	if (file->count == file->room) {
		file->room = file->room ? file->room * 2 : 64;
		file->pending = realloc(file->pending, file->room * sizeof(*file->pending));
		if (!file->pending)
			abort();
	}
	file->pending[file->count++] = (struct change){ .record = record };
}

static void change_done(struct file *file, uint64_t id, uint64_t position)
{
	size_t i = file->done;

	while (i < file->count && file->pending[i].record->id != id)
		i++;
	if (i == file->count)
		abort();
	struct change change = file->pending[i];
	change.done_at = position;
	file->pending[i] = file->pending[file->done];
	file->pending[file->done++] = change;
}

/* The flush `id` has worked: what was done before it was received is stable. */
static void flushed(struct state *state, struct file *file, uint64_t id)
{
	size_t flush = file->count, keep = 0;

	for (size_t i = file->done; i < file->count; i++)
		if (file->pending[i].record->id == id)
			flush = i;
	if (flush == file->count)
		abort();
	/* Until here the flush was kept among the changes under way, with its position. */
	uint64_t received = file->pending[flush].done_at;
	for (size_t i = 0; i < file->count; i++) {
		if (i < file->done && file->pending[i].done_at < received)
			apply(file, file->pending[i].record);
		else if (i != flush)
			file->pending[keep++] = file->pending[i];
	}
	size_t gone = file->count - keep - 1;
	file->done -= gone;
	file->count = keep;
}

static void rename_file(struct state *state, struct file *to, struct file *from)
{
	struct file old = *to;

	*to = *from;
	snprintf(to->name, sizeof(to->name), "%s", old.name);
	*from = (struct file){ .data = old.data };
	if (old.data)
		memset(old.data, 0, old.size);
}

/* A name that the base has already: its content moves to the number of the recording. */
static void name_file(struct state *state, unsigned number, const char *name)
{
	struct file *from = state_find(state, name);

	if (!from) {
		new_file(state, number, name);
		return;
	}
	state->files[number] = *from;
	*from = (struct file){ 0 };
}

static void remove_file(struct file *file)
{
	file_set_size(file, 0);
	file->count = file->done = 0;
	file->name_stable = false;
}

static void take(struct state *state, const struct record *record)
{
	struct file *file = &state->files[record->file < STATE_FILES_MAX ? record->file : 0];

	switch (record->kind) {
	case RECORD_NAME:
		name_file(state, record->file, record_data(record));
		break;
	case RECORD_WRITE:
	case RECORD_PUNCH:
	case RECORD_SIZE:
		add_change(file, record);
		break;
	case RECORD_DONE:
		change_done(file, record->id, state->position);
		break;
	case RECORD_FLUSH:
		add_change(file, record);
		file->pending[file->count - 1].done_at = state->position;
		break;
	case RECORD_FLUSHED:
		flushed(state, file, record->id);
		break;
	case RECORD_UNLINK:
		remove_file(file);
		break;
	case RECORD_RENAME:
		rename_file(state, file, &state->files[record->offset]);
		break;
	case RECORD_DIR_FLUSHED:
		for (unsigned i = 0; i < STATE_FILES_MAX; i++)
			state->files[i].name_stable = true;
		break;
	}
}

const struct record *state_next(struct state *state)
{
	const struct record *record = (const struct record *)(state->recording + state->at);

	if (state->bytes - state->at < sizeof(*record))
		return NULL;
	if (record->magic != RECORD_MAGIC)
		abort();
	uint64_t bytes = sizeof(*record) + round_up_to(record->data_bytes, 8);
	if (bytes > state->bytes - state->at)
		return NULL;
	state->at += bytes;
	state->position++;
	take(state, record);
	return record;
}

/* ---- the cut ------------------------------------------------------------------------------ */

enum mood { NOTHING, EVERYTHING, SOME };

static enum mood pick_mood(uint64_t *random)
{
	static const enum mood moods[] = { NOTHING, EVERYTHING, SOME, SOME };

	return moods[random_next(random) % ARRAY_LEN(moods)];
}

static void land_partly(struct file *file, const struct record *record, uint64_t *random)
{
	uint64_t step = random_next(random) % 2 ? 512 : 4096;

	for (uint64_t at = 0; at < record->length;) {
		uint64_t n = MIN(step - (record->offset + at) % step, record->length - at);
		if (random_next(random) % 2)
			file_put(file, record->offset + at,
				 record->kind == RECORD_WRITE ? (const char *)record_data(record) + at : NULL, n);
		at += n;
	}
}

static void land(struct file *file, const struct record *record, enum mood mood, uint64_t *random)
{
	if (record->kind == RECORD_FLUSH || mood == NOTHING)
		return;
	if (mood == EVERYTHING || record->kind == RECORD_SIZE)
		apply(file, record);
	else
		land_partly(file, record, random);
}

static void cut_file(struct file *file, enum mood mood, uint64_t *random)
{
	if (!file->name_stable && (mood == NOTHING || (mood == SOME && random_next(random) % 2))) {
		remove_file(file);
		file->name[0] = '\0';
		return;
	}
	for (size_t left = file->count; left > 0; left--) {
		/* All of it lands in the order in which it was done; else in any. */
		size_t i = mood == SOME ? random_next(random) % left : 0;
		struct change change = file->pending[i];
		if (mood == SOME)
			file->pending[i] = file->pending[left - 1];
		else
			memmove(file->pending, file->pending + 1, (left - 1) * sizeof(*file->pending));
		land(file, change.record, mood == SOME ? pick_mood(random) : mood, random);
	}
	file->count = file->done = 0;
}

void state_cut(struct state *state, uint64_t seed)
{
	uint64_t random = seed;
	enum mood mood = pick_mood(&random);

	for (unsigned i = 0; i < STATE_FILES_MAX; i++)
		if (state->files[i].name[0])
			cut_file(&state->files[i], mood == SOME ? pick_mood(&random) : mood, &random);
}
