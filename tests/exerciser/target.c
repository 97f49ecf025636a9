/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file under test: one file, open in four ways at once.
 *
 * Buffered, O_DIRECT, O_DSYNC and O_APPEND descriptors of the same file are
 * used side by side, since that is what a host with a loop device, a backup
 * program and a careless administrator does.
 *
 * What the filesystem can do is found by trying, so that the same exerciser
 * runs on ext4, on tmpfs and on the mount that it is for:
 *   O_DIRECT at any byte, or only at multiples of 512 or 4096;
 *   shared mappings (found by the first use);
 *   FALLOC_FL_ZERO_RANGE, SEEK_DATA (found by the first use);
 *   a shrink while other descriptors are open (found by the first refusal:
 *   from then on the others are closed around each shrink).
 *
 * Failure modes: a file that can't be opened in all four ways is refused, and
 * so is one that can't be made empty.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exerciser.h"

static const int via_flags[VIA_COUNT] = {
	[VIA_BUFFERED] = 0,
	[VIA_DIRECT] = O_DIRECT,
	[VIA_DSYNC] = O_DSYNC,
	[VIA_APPEND] = O_APPEND,
};

static int say(const struct target *target, const char *what, int code)
{
	fprintf(stderr, "exerciser: %s: %s: %s\n", target->path, what, strerror(-code));
	return code;
}

void target_close_others(struct target *target, enum via keep)
{
	for (unsigned via = 0; via < VIA_COUNT; via++) {
		if (via == keep || target->fd[via] < 0)
			continue;
		close(target->fd[via]);
		target->fd[via] = -1;
	}
}

int target_reopen(struct target *target)
{
	for (unsigned via = 0; via < VIA_COUNT; via++) {
		if (target->fd[via] >= 0)
			continue;
		target->fd[via] = open(target->path, O_RDWR | O_CLOEXEC | via_flags[via]);
		if (target->fd[via] < 0)
			return say(target, "open", -errno);
	}
	return 0;
}

/* The smallest unit that O_DIRECT takes here: a filesystem that wants alignment says EINVAL. */
static int find_direct_align(struct target *target)
{
	static const unsigned candidates[] = { 1, 512, 4096 };
	uint8_t *page = aligned_alloc(PAGE_BYTES, 2 * PAGE_BYTES);

	if (!page)
		return -ENOMEM;
	memset(page, 0, 2 * PAGE_BYTES);
	if (ftruncate(target->fd[VIA_BUFFERED], 2 * PAGE_BYTES) < 0) {
		free(page);
		return say(target, "ftruncate", -errno);
	}
	for (unsigned i = 0; i < sizeof(candidates) / sizeof(candidates[0]) && !target->direct_align_bytes; i++) {
		unsigned unit = candidates[i];
		/* Offset, length and memory all off by one unit: the hardest case that must work. */
		ssize_t n = pwrite(target->fd[VIA_DIRECT], page + unit % PAGE_BYTES, unit, unit);

		if (n == (ssize_t)unit)
			target->direct_align_bytes = unit;
	}
	free(page);
	if (!target->direct_align_bytes)
		return say(target, "no alignment that O_DIRECT takes", -EINVAL);
	if (ftruncate(target->fd[VIA_BUFFERED], 0) < 0) {
		int code = -errno;

		/* A disk that others hold is not shrunk: be alone, and ask again. */
		target_close_others(target, VIA_BUFFERED);
		for (int tries = 0; code == -EBUSY && tries < 1000; tries++) {
			usleep(1000); /* the close of the others is on its way */
			code = ftruncate(target->fd[VIA_BUFFERED], 0) < 0 ? -errno : 0;
		}
		if (code < 0)
			return say(target, "ftruncate to 0", code);
		atomic_store(&target->shrink_needs_alone, true);
	}
	return target_reopen(target);
}

static int make_empty(struct target *target)
{
	int fd = open(target->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0)
		return say(target, "create", -errno);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return say(target, "not a regular file", -EINVAL);
	}
	target->fd[VIA_BUFFERED] = fd;
	return 0;
}

int target_open(struct target *target, const char *path, uint64_t size_max_bytes)
{
	int code;

	memset(target, 0, sizeof(*target));
	target->path = path;
	target->size_max_bytes = size_max_bytes;
	for (unsigned via = 0; via < VIA_COUNT; via++)
		target->fd[via] = -1;
	pthread_rwlock_init(&target->fd_lock, NULL);
	pthread_mutex_init(&target->report_lock, NULL);
	atomic_store(&target->mmap_works, true);
	atomic_store(&target->zero_works, true);
	atomic_store(&target->seek_works, true);
	atomic_store(&target->allocate_works, true);
	target->shadow = calloc(1, size_max_bytes);
	if (!target->shadow)
		return say(target, "shadow copy", -ENOMEM);
	code = make_empty(target);
	if (!code)
		code = target_reopen(target);
	if (!code)
		code = find_direct_align(target);
	return code;
}

void target_close(struct target *target)
{
	target_close_others(target, VIA_COUNT);
	free(target->shadow);
	pthread_rwlock_destroy(&target->fd_lock);
	pthread_mutex_destroy(&target->report_lock);
}
