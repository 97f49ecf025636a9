/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening raw backing devices: claim, lock, share, close.
 *
 * A thing is opened and locked as a pv is (meta/pv.h: O_EXCL, flock, direct I/O, patience with the last requests of a
 * daemon that was killed); a file gets an OFD lock besides, which other programs look at. All of it hangs on the one
 * descriptor that the I/O uses, so it lasts until the last request has ended, whatever becomes of us.
 *
 * Happy path: look (raw_look.c) -> is it the one that was mapped -> has this pool it open already: one more opener ->
 * else open, read-only if it must be -> is it what was looked at -> lock -> the thread for ranges.
 *
 * A file whose file system wants direct I/O in larger pieces than 512 bytes is served through the page cache:
 * what is on it was made for sectors of 512 bytes. A device has the logical block that it has.
 *
 * Failure modes: gone (-ENOENT), another thing by its name (-ENODEV), held (-EBUSY). What was opened is closed again.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "iocore/raw_internal.h"

#define SECTOR_BYTES 512

static int check_identity(const char *path, const char *wanted, const struct ioc_raw_look *look, struct base_error *err)
{
	if (strcmp(wanted, look->identity) == 0)
		return 0;
	return base_error_set(err, -ENODEV,
			      "%s is not what was mapped: it was '%s', and there is '%s' now; if that is right, unmap "
			      "it and map it again",
			      path, wanted, look->identity);
}

/* Under raw_lock. */
static struct raw_disk *find_open(struct ioc_pool *pool, const struct ioc_raw_look *look)
{
	struct raw_disk *raw = pool->raws;

	while (raw && (raw->device != look->device || raw->inode != look->inode ||
		       raw->handle.is_file != look->is_file))
		raw = raw->next;
	return raw;
}

/* The name may lead elsewhere since it was looked at. */
static int check_same(const struct raw_disk *raw, const struct ioc_raw_look *look, struct base_error *err)
{
	struct stat st;

	if (fstat(raw->handle.fd, &st) < 0)
		return base_error_set_errno(err, -errno, "%s", raw->path);
	if (look->is_file ? st.st_dev == look->device && st.st_ino == look->inode : st.st_rdev == look->device)
		return 0;
	return base_error_set(err, -EAGAIN, "%s became something else while it was opened; try again", raw->path);
}

static int lock_file(struct raw_disk *raw, struct base_error *err)
{
	struct flock lock = { .l_type = raw->is_read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(raw->handle.fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return base_error_set(err, -EBUSY,
				      "%s is in use: another program has it locked (`lslocks` says more): end that "
				      "first",
				      raw->path);
	return base_error_set_errno(err, -errno, "%s can't be locked", raw->path);
}

static int open_handle(struct raw_disk *raw, struct base_error *err)
{
	int rc = meta_pv_real.open(NULL, raw->path, META_PV_RAW, 0, &raw->handle, err), read_only = 0;

	raw->is_read_only = rc == -EROFS || rc == -EACCES || rc == -EPERM;
	if (raw->is_read_only)
		return meta_pv_real.open(NULL, raw->path, META_PV_RAW | META_PV_READ_ONLY, 0, &raw->handle, err);
	/* Some devices let themselves be opened all the same, and then fail each write. */
	if (rc == 0 && !raw->handle.is_file && ioctl(raw->handle.fd, BLKROGET, &read_only) == 0)
		raw->is_read_only = read_only != 0;
	return rc;
}

static int use_small_sectors(struct raw_disk *raw, struct base_error *err)
{
	struct meta_pv_handle *handle = &raw->handle;

	if (!handle->is_file || handle->sector_bytes <= SECTOR_BYTES)
		return 0;
	int flags = fcntl(handle->fd, F_GETFL);
	if (flags < 0 || fcntl(handle->fd, F_SETFL, flags & ~O_DIRECT) < 0)
		return base_error_set_errno(err, -errno, "%s", raw->path);
	handle->direct = false;
	handle->sector_bytes = SECTOR_BYTES;
	handle->memory_align = 1;
	return 0;
}

static int check_size(const struct raw_disk *raw, struct base_error *err)
{
	if (raw->handle.size_bytes >= raw->handle.sector_bytes)
		return 0;
	return base_error_set(err, -EINVAL, "%s: has %llu bytes, which is less than one block", raw->path,
			      (unsigned long long)raw->handle.size_bytes);
}

/* A guest is told of blocks of 512 or 4096 bytes; there are devices with larger ones. */
static int check_blocks(const struct raw_disk *raw, struct base_error *err)
{
	int block = 0;

	if (raw->handle.is_file || ioctl(raw->handle.fd, BLKSSZGET, &block) < 0 ||
	    (unsigned)block == raw->handle.sector_bytes)
		return 0;
	return base_error_set(err, -EINVAL, "%s: has logical blocks of %d bytes; 512 and 4096 can be served", raw->path,
			      block);
}

static int prepare(struct raw_disk *raw, const struct ioc_raw_look *look, struct base_error *err)
{
	int rc = check_same(raw, look, err);

	if (rc == 0 && look->is_file)
		rc = lock_file(raw, err);
	if (rc == 0)
		rc = use_small_sectors(raw, err);
	if (rc == 0)
		rc = check_blocks(raw, err);
	if (rc == 0)
		rc = check_size(raw, err);
	if (rc < 0)
		return rc;
	rc = raw_range_start(raw);
	return rc < 0 ? base_error_set_errno(err, rc, "%s: can't start its thread", raw->path) : 0;
}

static int raw_new(struct ioc_pool *pool, const char *path, const struct ioc_raw_look *look, struct raw_disk **ret,
		   struct base_error *err)
{
	struct raw_disk *raw = calloc(1, sizeof(*raw));

	if (!raw)
		return base_error_set_errno(err, -ENOMEM, "%s", path);
	raw->bd.ops = &raw_ops;
	raw->pool = pool;
	raw->device = look->device;
	raw->inode = look->inode;
	snprintf(raw->path, sizeof(raw->path), "%s", path);
	int rc = open_handle(raw, err);
	if (rc == 0) {
		rc = prepare(raw, look, err);
		if (rc < 0)
			meta_pv_real.close(NULL, &raw->handle);
	}
	if (rc < 0) {
		free(raw);
		return rc;
	}
	if (!raw->handle.direct)
		log_info("%s is served through the page cache: direct I/O is not possible there in blocks of 512 bytes",
			 path);
	*ret = raw;
	return 0;
}

static int open_locked(struct ioc_pool *pool, const char *path, const struct ioc_raw_look *look,
		       struct raw_disk **ret, struct base_error *err)
{
	struct raw_disk *raw = find_open(pool, look);
	int rc = raw ? 0 : raw_new(pool, path, look, &raw, err);

	if (rc < 0)
		return rc;
	if (raw->opens++ == 0) {
		raw->next = pool->raws;
		pool->raws = raw;
	}
	*ret = raw;
	return 0;
}

int ioc_raw_open(struct ioc_pool *pool, const char *path, const char *identity, const char *mountpoint,
		 struct ioc_bd **ret, struct base_error *err)
{
	struct ioc_raw_look look;
	struct raw_disk *raw;
	int rc = ioc_raw_look(path, mountpoint, &look, err);

	if (rc == 0)
		rc = check_identity(path, identity, &look, err);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&pool->raw_lock);
	rc = open_locked(pool, path, &look, &raw, err);
	pthread_mutex_unlock(&pool->raw_lock);
	if (rc == 0)
		*ret = &raw->bd;
	return rc;
}

void ioc_raw_close(struct ioc_bd *bd)
{
	struct raw_disk *raw = container_of(bd, struct raw_disk, bd), **at;
	struct flock none = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
	struct ioc_pool *pool = raw->pool;

	pthread_mutex_lock(&pool->raw_lock);
	bool is_last = --raw->opens == 0;
	for (at = &pool->raws; is_last && *at != raw;)
		at = &(*at)->next;
	if (is_last) {
		*at = raw->next;
		raw_range_stop(raw);
		if (raw->handle.is_file)
			(void)fcntl(raw->handle.fd, F_OFD_SETLK, &none); /* as for flock, see meta/pv.c */
		meta_pv_real.close(NULL, &raw->handle);
		free(raw);
	}
	pthread_mutex_unlock(&pool->raw_lock);
}

void ioc_raw_info(const struct ioc_bd *bd, struct ioc_raw_info *ret)
{
	const struct raw_disk *raw = container_of(bd, const struct raw_disk, bd);

	*ret = (struct ioc_raw_info){
		.size_bytes = raw->handle.size_bytes,
		.logical_block_bytes = raw->handle.is_file ? SECTOR_BYTES : raw->handle.sector_bytes,
		.is_file = raw->handle.is_file,
		.is_direct = raw->handle.direct,
		.is_read_only = raw->is_read_only,
	};
}

bool ioc_raw_has_failed(const struct ioc_bd *bd)
{
	return atomic_load_explicit(&container_of(bd, const struct raw_disk, bd)->has_failed, memory_order_relaxed);
}
