/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of descriptors, in a memfd.
 *
 * A row is one descriptor: the number of what it has open, and the number of
 * the request that opened it. The row is valid while the latter is not 0, and
 * that is the last word written when a row is taken and the only one when it is given
 * back, so a daemon that is killed at any point leaves it done or not done.
 *
 * After a takeover the kernel sends again what was not answered. An OPEN that
 * had been carried out is known by the request's number, a RELEASE by its row
 * being free: neither is counted twice. Free rows are used in turn, the one that has
 * been free longest first, so that a row is not somebody else's by the time its RELEASE is sent again.
 *
 * Row 0 is never used: a handle without a row (a mount without a supervisor) has 0 there.
 *
 * Failure modes: a table of another version (a daemon that was replaced by one
 * which keeps it differently) is refused; the mount then ends as it would without a supervisor.
 */
#include "fs/handles.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x3148534644424653) /* and the version */

struct row {
	uint64_t number;
	_Atomic uint64_t unique; /* without FS_UNIQUE_RESENT; 0 = free */
};

struct table {
	uint64_t magic;
	uint32_t init_bytes;
	uint32_t reserved;
	uint8_t init[FS_HANDLES_INIT_BYTES_MAX];
	struct row rows[FS_HANDLES_MAX + 1];
};

struct fs_handles {
	struct table *table;
	pthread_mutex_t lock;
	uint32_t next; /* lock; the row to look at first */
	uint32_t used; /* lock */
};

int fs_handles_make(void)
{
	uint64_t magic = MAGIC;
	int fd = memfd_create("bdfs-handles", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, sizeof(struct table)) < 0 || pwrite(fd, &magic, sizeof(magic), 0) != sizeof(magic)) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

static struct table *map_table(int fd)
{
	struct stat st;
	void *map;

	if (fstat(fd, &st) < 0 || st.st_size != sizeof(struct table))
		return NULL;
	map = mmap(NULL, sizeof(struct table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return map == MAP_FAILED ? NULL : map;
}

int fs_handles_map(int fd, struct fs_handles **ret)
{
	struct fs_handles *handles = calloc(1, sizeof(*handles));

	if (!handles)
		return -ENOMEM;
	handles->table = map_table(fd);
	if (!handles->table || handles->table->magic != MAGIC ||
	    handles->table->init_bytes > FS_HANDLES_INIT_BYTES_MAX) {
		if (handles->table)
			munmap(handles->table, sizeof(*handles->table));
		free(handles);
		return -EBADMSG;
	}
	for (uint32_t i = 1; i <= FS_HANDLES_MAX; i++)
		handles->used += atomic_load(&handles->table->rows[i].unique) != 0;
	pthread_mutex_init(&handles->lock, NULL);
	*ret = handles;
	return 0;
}

void fs_handles_unmap(struct fs_handles *handles)
{
	if (!handles)
		return;
	munmap(handles->table, sizeof(*handles->table));
	pthread_mutex_destroy(&handles->lock);
	free(handles);
}

void fs_handles_keep_init(struct fs_handles *handles, const void *message, size_t bytes)
{
	if (!handles || bytes > FS_HANDLES_INIT_BYTES_MAX)
		return;
	memcpy(handles->table->init, message, bytes);
	handles->table->init_bytes = (uint32_t)bytes;
}

size_t fs_handles_init(const struct fs_handles *handles, void *buf)
{
	memcpy(buf, handles->table->init, handles->table->init_bytes);
	return handles->table->init_bytes;
}

static uint64_t make_fh(uint32_t row, uint64_t number)
{
	return (uint64_t)row << FS_HANDLE_NUMBER_BITS | number;
}

/* Under the lock. Return: 0: no such row. */
static uint32_t find_row(const struct fs_handles *handles, uint64_t unique, uint64_t number)
{
	for (uint32_t i = 1; i <= FS_HANDLES_MAX; i++) {
		const struct row *row = &handles->table->rows[i];

		if (atomic_load(&row->unique) == unique && row->number == number)
			return i;
	}
	return 0;
}

/* Under the lock; there is a free one. */
static uint32_t take_row(struct fs_handles *handles)
{
	uint32_t row;

	do {
		row = handles->next % FS_HANDLES_MAX + 1;
		handles->next = row;
	} while (atomic_load(&handles->table->rows[row].unique) != 0);
	handles->used++;
	return row;
}

int fs_handles_add(struct fs_handles *handles, uint64_t unique, uint64_t number, uint64_t *ret_fh)
{
	uint32_t row = 0;

	if (!handles) {
		*ret_fh = number;
		return 0;
	}
	if (fs_handle_number(number) != number)
		return -ENFILE;
	pthread_mutex_lock(&handles->lock);
	if (handles->used < FS_HANDLES_MAX) {
		row = take_row(handles);
		handles->table->rows[row].number = number;
		atomic_store(&handles->table->rows[row].unique, unique & ~FS_UNIQUE_RESENT);
	}
	pthread_mutex_unlock(&handles->lock);
	*ret_fh = make_fh(row, number);
	return row ? 0 : -ENFILE;
}

bool fs_handles_find(struct fs_handles *handles, uint64_t unique, uint64_t number, uint64_t *ret_fh)
{
	uint32_t row;

	if (!handles || !(unique & FS_UNIQUE_RESENT))
		return false;
	pthread_mutex_lock(&handles->lock);
	row = find_row(handles, unique & ~FS_UNIQUE_RESENT, number);
	pthread_mutex_unlock(&handles->lock);
	*ret_fh = make_fh(row, number);
	return row != 0;
}

bool fs_handles_remove(struct fs_handles *handles, uint64_t fh)
{
	uint32_t index = (uint32_t)(fh >> FS_HANDLE_NUMBER_BITS);
	bool valid;

	if (!handles)
		return true;
	if (index == 0)
		return false;
	pthread_mutex_lock(&handles->lock);
	struct row *row = &handles->table->rows[index];
	valid = atomic_load(&row->unique) != 0 && row->number == fs_handle_number(fh);
	if (valid) {
		atomic_store(&row->unique, 0);
		handles->used--;
	}
	pthread_mutex_unlock(&handles->lock);
	return valid;
}

void fs_handles_each(struct fs_handles *handles, int (*fn)(void *ctx, uint64_t number), void *ctx)
{
	for (uint32_t i = 1; i <= FS_HANDLES_MAX; i++) {
		struct row *row = &handles->table->rows[i];

		if (atomic_load(&row->unique) == 0)
			continue;
		if (fn(ctx, row->number) < 0) {
			atomic_store(&row->unique, 0);
			handles->used--;
		}
	}
}
