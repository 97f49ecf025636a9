/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a recording at one position, and what a power cut there leaves of them.
 *
 *   stable    what is there for certain: every change that a flush of its file covered
 *   pending   changes that took effect or are under way, and that no flush covered: a cut keeps any subset of
 *             them, in any order, torn at sectors of 512 or at blocks of 4,096 bytes
 *
 * The device is honest: a flush makes stable all that was done before it was received. A name is stable when its
 * directory was flushed, and not before: POSIX promises no more, though some file systems keep more.
 *
 * Files live in private memory: a child that is forked for a cut changes its own copy only.
 */
#ifndef TESTS_POWERCUT_STATE_H
#define TESTS_POWERCUT_STATE_H

#include "tests/powercut/recording.h"

#define STATE_FILES_MAX 64

struct change {
	const struct record *record; /* in the mapped recording */
	uint64_t done_at;            /* position; 0: under way */
};

struct file {
	char name[256]; /* "" = no such file */
	uint8_t *data;
	uint64_t size;
	bool name_stable;
	struct change *pending; /* those done first, in the order in which they were; then those under way */
	size_t count, room, done;
};

struct state {
	struct file files[STATE_FILES_MAX];
	const char *recording;
	size_t bytes, at;  /* of the recording */
	uint64_t position; /* records taken so far */
};

/* Loads the files below dir as they were before the first record; dir NULL: there were none. */
void state_init(struct state *state, const char *recording, size_t bytes, const char *dir);
/* Takes the next record. NULL at the end (a record that was cut short is the end). */
const struct record *state_next(struct state *state);
static inline const void *record_data(const struct record *record)
{
	return record + 1;
}

/* In a child: turns the state into one that a cut at this position may leave; the variant chooses which. */
void state_cut(struct state *state, uint64_t seed);

struct file *state_find(struct state *state, const char *name);
/* Writes file to a real one; sparse. Returns 0 or negative errno. */
int file_write_out(const struct file *file, const char *path);

/* Changes to a file's memory, for those who play the device afterwards. */
void file_put(struct file *file, uint64_t offset, const void *data, uint64_t bytes); /* data NULL: zeros */
void file_set_size(struct file *file, uint64_t size);

uint64_t random_next(uint64_t *state); /* splitmix64 */

#endif
