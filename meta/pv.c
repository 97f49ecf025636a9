/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real pvs: regular files and block devices.
 *
 * The pool's exclusive lock is a flock on the very descriptors used for data
 * I/O, close-on-exec and never handed on, so the kernel lets it go only when
 * the last request of a dead daemon has ended: whoever gets the lock sees all
 * of what the dead one wrote. On a block device O_EXCL keeps mounts and other
 * exclusive users away too (another device node of it has another inode, so
 * flock alone would not).
 *
 * O_DIRECT is tried first. Where the file system refuses it (EINVAL), I/O is
 * buffered; the caller sees `direct` false and reports it. Alignment comes from
 * statx(STATX_DIOALIGN, 6.1) where the kernel has it, from BLKSSZGET for
 * devices, else 4096.
 *
 * Failure modes: held by another (EBUSY, names the pid), not there (ENOENT),
 * neither file nor device (EINVAL), too old to discard (EOPNOTSUPP).
 */
#include "meta/pv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/log.h"
#include "base/park.h"

#ifndef BLKGETDISKSEQ /* Linux 5.15 */
#define BLKGETDISKSEQ _IOR(0x12, 128, __u64)
#endif
#ifndef STATX_DIOALIGN /* Linux 6.1 */
#define STATX_DIOALIGN 0x00002000U
#endif

#define ALIGN_DEFAULT 4096

int meta_pv_holder_pid(const char *path)
{
	struct stat st;
	char line[256];
	int holder = 0;

	if (stat(path, &st) != 0)
		return 0;
	FILE *locks = fopen("/proc/locks", "re");
	if (!locks)
		return 0;
	/* "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF" */
	while (holder == 0 && fgets(line, sizeof(line), locks)) {
		unsigned major, minor;
		uint64_t inode;
		int pid;
		if (sscanf(line, "%*s FLOCK %*s %*s %d %x:%x:%" SCNu64, &pid, &major, &minor, &inode) == 4 &&
		    major == major(st.st_dev) && minor == minor(st.st_dev) && inode == st.st_ino)
			holder = pid;
	}
	fclose(locks);
	return holder;
}

int meta_pv_sync_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *parent = slash ? strndup(path, MAX((size_t)(slash - path), 1)) : strdup(".");

	if (!parent)
		return -ENOMEM;
	int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd >= 0 && fsync(fd) == 0 ? 0 : -errno;
	if (fd >= 0)
		close(fd);
	free(parent);
	return rc;
}

/* What a message calls it, before its path. */
static const char *noun(unsigned flags)
{
	return flags & META_PV_RAW ? "" : "pv ";
}

/* A zombie's descriptors are closed; whoever of its requests is still under way holds them a moment longer. */
static bool is_dead(int pid)
{
	char path[32], state = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	FILE *stat_file = fopen(path, "re");
	if (!stat_file)
		return true;
	bool read_ok = fscanf(stat_file, "%*d (%*[^)]) %c", &state) == 1;
	fclose(stat_file);
	return read_ok && (state == 'Z' || state == 'X');
}

/* How long to wait for the last requests of a dead holder, and how often to look. */
#define DEAD_HOLDER_WAIT_NS UINT64_C(5000000000)
#define DEAD_HOLDER_SLEEP_US 10000
/* Of an exclusive user of a block device who can't be seen: it may be what a descriptor that was closed just now has
 * left behind in the kernel. */
#define UNSEEN_HOLDER_WAIT_NS UINT64_C(300000000)

/* A pause of the service that is the kernel's, and is asked for afterwards. */
static void tell_wait(const char *path, uint64_t waited_ns)
{
	if (waited_ns > UNSEEN_HOLDER_WAIT_NS)
		log_info("%s: waited %.1f s for the last requests of a daemon that is dead", path,
			 (double)waited_ns / 1e9);
}

/* open() that waits while a block device is claimed by a process that is dead: its last requests are on their way. */
static int open_patiently(const char *path, int mode)
{
	uint64_t began_ns = base_clock_ns(), waited_ns = 0;
	int fd;

	while ((fd = open(path, mode)) < 0 && errno == EBUSY && waited_ns < DEAD_HOLDER_WAIT_NS) {
		int pid = meta_pv_holder_pid(path);
		bool may_go = pid != 0 ? is_dead(pid) : waited_ns <= UNSEEN_HOLDER_WAIT_NS;
		errno = EBUSY;
		if (!may_go)
			break;
		usleep(DEAD_HOLDER_SLEEP_US);
		waited_ns = base_clock_ns() - began_ns;
	}
	if (fd >= 0)
		tell_wait(path, waited_ns);
	return fd;
}

/* *ret_made: the file is new, also when it is an error then. */
static int open_fd(const char *path, unsigned flags, uint64_t create_bytes, bool *ret_direct, bool *ret_made,
		   struct base_error *err)
{
	int mode = (flags & META_PV_READ_ONLY) ? O_RDONLY : O_RDWR;
	struct stat st;

	if (stat(path, &st) != 0) {
		if (errno != ENOENT || !(flags & META_PV_CREATE))
			return base_error_set_errno(err, -errno, "%s%s", noun(flags), path);
		int made = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (made < 0)
			return base_error_set_errno(err, -errno, "can't create pool file %s", path);
		int rc = ftruncate(made, (off_t)create_bytes) == 0 ? 0 : -errno;
		close(made);
		if (rc < 0) {
			unlink(path);
			return base_error_set_errno(err, rc, "can't make pool file %s %" PRIu64 " bytes long", path,
						    create_bytes);
		}
		*ret_made = true;
	} else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		return base_error_set(err, -EINVAL, "%s%s is neither a regular file nor a block device", noun(flags),
				      path);
	} else if (S_ISBLK(st.st_mode) && (!(flags & META_PV_READ_ONLY) || (flags & META_PV_RAW))) {
		mode |= O_EXCL;
	}
	*ret_direct = true;
	int fd = open_patiently(path, mode | O_DIRECT | O_CLOEXEC);
	if (fd < 0 && errno == EINVAL) {
		*ret_direct = false;
		fd = open_patiently(path, mode | O_CLOEXEC);
	}
	if (fd < 0 && errno == EBUSY) {
		int pid = meta_pv_holder_pid(path); /* of another pool's daemon; a mount holds no flock */
		if (pid)
			return base_error_set(err, -EBUSY, "%s%s is in use by process %d", noun(flags), path, pid);
		return base_error_set(err, -EBUSY,
				      "%s%s is in use (mounted, or opened exclusively by another program)", noun(flags),
				      path);
	}
	if (fd < 0)
		return base_error_set_errno(err, -errno, "can't open %s%s", noun(flags), path);
	return fd;
}

static int lock_fd(int fd, const char *path, unsigned flags, struct base_error *err)
{
	int operation = ((flags & META_PV_READ_ONLY) ? LOCK_SH : LOCK_EX) | LOCK_NB, pid = 0;
	uint64_t began_ns = base_clock_ns(), deadline = began_ns + DEAD_HOLDER_WAIT_NS;

	for (unsigned i = 0; base_clock_ns() < deadline; i++) {
		if (flock(fd, operation) == 0) {
			tell_wait(path, base_clock_ns() - began_ns);
			return 0;
		}
		if (errno != EWOULDBLOCK)
			return base_error_set_errno(err, -errno, "can't lock %s%s", noun(flags), path);
		pid = meta_pv_holder_pid(path);
		if (pid == 0 && i >= 10) /* not seen from here, as in another pid namespace; a lock that goes this
					    moment isn't seen either */
			return base_error_set(err, -EBUSY,
					      "%s%s is in use by a process that can't be seen from here",
					      noun(flags), path);
		if (pid != 0 && !is_dead(pid))
			return base_error_set(err, -EBUSY, "%s%s is in use by process %d", noun(flags), path, pid);
		usleep(DEAD_HOLDER_SLEEP_US);
	}
	return base_error_set(
		err, -EBUSY,
		"%s%s is in use: process %d locked it and is dead, "
		"but its requests, or a process that it left behind, still hold it",
		noun(flags), path, pid);
}

static void look_at_alignment(struct meta_pv_handle *pv)
{
	struct statx stx;
	int sector = 0;

	pv->sector_bytes = ALIGN_DEFAULT;
	pv->memory_align = ALIGN_DEFAULT;
	if (!pv->direct) {
		pv->sector_bytes = 512; /* the page cache takes anything; 512 is what a guest may ask for */
		pv->memory_align = 1;
		return;
	}
	if (!pv->is_file && ioctl(pv->fd, BLKSSZGET, &sector) == 0 && sector >= 512 && sector <= 4096) {
		pv->sector_bytes = (uint32_t)sector;
		pv->memory_align = (uint32_t)sector;
	}
	/* Debian 12's headers name the mask but not always the fields, so they are read by offset:
	 * stx_dio_mem_align and stx_dio_offset_align follow stx_mnt_id at bytes 0x98 and 0x9c. */
	if (statx(pv->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 && (stx.stx_mask & STATX_DIOALIGN)) {
		uint32_t align[2];
		memcpy(align, (const char *)&stx + 0x98, sizeof(align));
		if (align[0] && align[1] && align[1] <= 4096) {
			pv->memory_align = align[0];
			pv->sector_bytes = MAX(align[1], 512);
		}
	}
}

static int look_at(struct meta_pv_handle *pv, const char *path, struct base_error *err)
{
	struct stat st;

	if (fstat(pv->fd, &st) != 0)
		return base_error_set_errno(err, -errno, "can't stat pv %s", path);
	pv->is_file = S_ISREG(st.st_mode);
	if (pv->is_file) {
		pv->size_bytes = (uint64_t)st.st_size;
		pv->instance = (uint64_t)st.st_ino ^ (uint64_t)st.st_dev << 40;
	} else {
		uint64_t seq = 0;
		if (ioctl(pv->fd, BLKGETSIZE64, &pv->size_bytes) != 0)
			return base_error_set_errno(err, -errno, "can't ask for the size of pv %s", path);
		if (ioctl(pv->fd, BLKGETDISKSEQ, &seq) != 0)
			seq = 0; /* before 5.15 the device number alone has to do */
		pv->instance = seq ^ (uint64_t)st.st_rdev << 40;
	}
	look_at_alignment(pv);
	return 0;
}

static int real_open(void *ctx, const char *path, unsigned flags, uint64_t create_bytes, struct meta_pv_handle *ret,
		     struct base_error *err)
{
	bool direct = false, made = false;
	int fd = open_fd(path, flags, create_bytes, &direct, &made, err);

	if (fd < 0 && made)
		unlink(path);
	if (fd < 0)
		return fd;
	*ret = (struct meta_pv_handle){ .fd = fd, .direct = direct };
	int rc = lock_fd(fd, path, flags, err);
	if (rc == 0)
		rc = look_at(ret, path, err);
	if (rc == 0 && made) {
		rc = meta_pv_sync_name(path);
		if (rc < 0)
			base_error_set_errno(err, rc, "the name of pool file %s can't be made stable", path);
	}
	if (rc < 0) {
		close(fd);
		ret->fd = -1;
		if (made)
			unlink(path);
	}
	return rc;
}

static void real_close(void *ctx, struct meta_pv_handle *pv)
{
	if (pv->fd >= 0) {
		/* Nothing is in flight any more, but a kernel worker may hold the file a moment longer than its
		 * request. */
		flock(pv->fd, LOCK_UN);
		close(pv->fd);
	}
	pv->fd = -1;
}

/* O_DIRECT wants aligned memory; labels are the only thing read and written here, so a copy costs nothing. */
static int transfer(struct meta_pv_handle *pv, void *buf, size_t bytes, uint64_t offset, bool writing)
{
	void *aligned;
	int rc = 0;

	if (posix_memalign(&aligned, 4096, bytes) != 0)
		return -ENOMEM;
	if (writing)
		memcpy(aligned, buf, bytes);
	ssize_t got = writing ? pwrite(pv->fd, aligned, bytes, (off_t)offset)
			      : pread(pv->fd, aligned, bytes, (off_t)offset);
	if (got < 0)
		rc = -errno;
	else if ((size_t)got != bytes)
		rc = -EIO;
	else if (!writing)
		memcpy(buf, aligned, bytes);
	free(aligned);
	return rc;
}

static int real_read(void *ctx, struct meta_pv_handle *pv, void *buf, size_t bytes, uint64_t offset)
{
	return transfer(pv, buf, bytes, offset, false);
}

static int real_write(void *ctx, struct meta_pv_handle *pv, const void *buf, size_t bytes, uint64_t offset)
{
	return transfer(pv, (void *)(uintptr_t)buf, bytes, offset, true);
}

static int real_sync(void *ctx, struct meta_pv_handle *pv)
{
	return fdatasync(pv->fd) == 0 ? 0 : -errno;
}

static int real_discard(void *ctx, struct meta_pv_handle *pv, uint64_t offset, uint64_t bytes)
{
	uint64_t range[2] = { offset, bytes };
	int rc;

	if (pv->is_file)
		rc = fallocate(pv->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
	else
		rc = ioctl(pv->fd, BLKDISCARD, range);
	return rc == 0 ? 0 : -errno;
}

static int real_resize(void *ctx, struct meta_pv_handle *pv, uint64_t new_bytes)
{
	if (pv->is_file && new_bytes > pv->size_bytes && ftruncate(pv->fd, (off_t)new_bytes) != 0)
		return -errno;
	return look_at(pv, "", NULL);
}

const struct meta_pv_ops meta_pv_real = {
	.open = real_open,
	.close = real_close,
	.read = real_read,
	.write = real_write,
	.sync = real_sync,
	.discard = real_discard,
	.resize = real_resize,
	.makes_files = true,
};
