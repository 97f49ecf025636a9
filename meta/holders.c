/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that are open as files of the mount, as far as mappings are concerned.
 *
 * A count of descriptors under catalog_lock, beside the opens that keep a disk from
 * being removed: an open of iocore may also be a VTD's own or a verb's. What mapping
 * does with the count is in targets_change.c.
 *
 * A loop device is a file of the mount too. The process that opens it for a VTD is
 * announced by its pid; the announcement is used up by one open, whoever of the two
 * comes first.
 */
#include <assert.h>
#include <errno.h>
#include <time.h>

#include "meta/internal.h"
#include "meta/targets.h"

int meta_disk_open_file(struct meta_disk *disk, pid_t pid)
{
	int rc = 0;

	pthread_mutex_lock(&disk->pool->catalog_lock);
	if (disk->announced != 0 && disk->announced == pid)
		disk->announced = 0;
	else if (disk->exclusive > 0)
		rc = -EBUSY;
	if (rc == 0)
		disk->files++;
	pthread_mutex_unlock(&disk->pool->catalog_lock);
	return rc;
}

void meta_disk_close_file(struct meta_disk *disk)
{
	pthread_mutex_lock(&disk->pool->catalog_lock);
	assert(disk->files > 0);
	disk->files--;
	pthread_cond_broadcast(&disk->pool->closed_cond);
	pthread_mutex_unlock(&disk->pool->catalog_lock);
}

unsigned meta_disk_files(struct meta_disk *disk)
{
	pthread_mutex_lock(&disk->pool->catalog_lock);
	unsigned files = disk->files;
	pthread_mutex_unlock(&disk->pool->catalog_lock);
	return files;
}

int meta_disk_wait_files(struct meta_disk *disk, unsigned allowed, uint64_t timeout_ns)
{
	uint64_t until = base_clock_ns() + timeout_ns;
	struct timespec deadline = { .tv_sec = (time_t)(until / 1000000000), .tv_nsec = (long)(until % 1000000000) };
	int rc = 0;

	pthread_mutex_lock(&disk->pool->catalog_lock);
	while (disk->files > allowed && rc == 0)
		rc = pthread_cond_timedwait(&disk->pool->closed_cond, &disk->pool->catalog_lock, &deadline);
	rc = disk->files > allowed ? -EBUSY : 0;
	pthread_mutex_unlock(&disk->pool->catalog_lock);
	return rc;
}

void meta_disk_announce(struct meta_disk *disk, pid_t pid)
{
	pthread_mutex_lock(&disk->pool->catalog_lock);
	disk->announced = pid;
	pthread_mutex_unlock(&disk->pool->catalog_lock);
}
