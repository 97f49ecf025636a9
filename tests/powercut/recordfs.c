/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recordfs: passes a directory through and records every change below it.
 *
 *	recordfs BACKING RECORDING MOUNTPOINT [SEED [WRITE_US [FLUSH_US [READ_US [buffered]]]]]
 *
 * A pool directory lies below MOUNTPOINT, with its pvs and its metadata, and the
 * real daemon with its real engines runs on it. What it writes, punches,
 * truncates and flushes goes to BACKING, and in one order to RECORDING
 * (recording.h), from which the replayer builds what a power cut could leave.
 *
 * Writes, punches, flushes and direct reads take a random time, up to WRITE_US,
 * FLUSH_US and READ_US: requests overlap and complete in another order than they
 * came, as on a device. A change takes effect, and its end is recorded, in one
 * step under one lock, so the order of the ends is the order in which changes of
 * one place won.
 *
 * `buffered` refuses O_DIRECT, as some file systems do.
 *
 * The file MARKS_NAME in the root takes the marks of the writer: it holds nothing.
 * The daemon's log is passed through and not recorded.
 *
 * Failure modes: a recording that can't be written (full) is aborted on the spot:
 * a record that is missing would be a lie.
 */
#define FUSE_USE_VERSION 312
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/powercut/recording.h"

#define FILES_MAX 64
#define NOT_RECORDED UINT16_MAX

static struct {
	char backing[4096];
	int fd;
	pthread_mutex_t lock;
	char *names[FILES_MAX]; /* lock */
	unsigned files;         /* lock */
	uint64_t next_id;       /* lock */
	_Atomic uint64_t random;
	unsigned write_us, flush_us, read_us;
	bool buffered;
} fs = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the recording ------------------------------------------------------------------------ */

static void put(const struct record *record, const void *data)
{
	static const char zeros[8];
	struct iovec iov[3] = { { (void *)(uintptr_t)record, sizeof(*record) },
				{ (void *)(uintptr_t)data, record->data_bytes },
				{ (void *)(uintptr_t)zeros, -record->data_bytes & 7 } };
	size_t bytes = iov[0].iov_len + iov[1].iov_len + iov[2].iov_len;

	if (writev(fs.fd, iov, 3) != (ssize_t)bytes) {
		perror("recordfs: recording");
		abort();
	}
}

static uint16_t file_number(const char *path)
{
	const char *name = path + 1, *last = strrchr(path, '/') + 1;

	if (strncmp(last, "log", 3) == 0 || strstr(last, "sock"))
		return NOT_RECORDED;
	for (unsigned i = 0; i < fs.files; i++)
		if (strcmp(fs.names[i], name) == 0)
			return (uint16_t)i;
	if (fs.files == FILES_MAX)
		abort();
	fs.names[fs.files] = strdup(name);
	struct record record = {
		.magic = RECORD_MAGIC, .kind = RECORD_NAME, .file = (uint16_t)fs.files, .data_bytes = strlen(name) + 1
	};
	put(&record, name);
	return (uint16_t)fs.files++;
}

/* Returns the record's id; 0: its file is not recorded. */
static uint64_t begin(enum record_kind kind, const char *path, uint64_t offset, uint64_t length, const void *data)
{
	pthread_mutex_lock(&fs.lock);
	uint16_t file = file_number(path);
	uint64_t id = file == NOT_RECORDED ? 0 : ++fs.next_id;
	struct record record = { .magic = RECORD_MAGIC,
				 .kind = (uint16_t)kind,
				 .file = file,
				 .id = id,
				 .offset = offset,
				 .length = length,
				 .data_bytes = data ? length : 0 };
	if (id)
		put(&record, data);
	pthread_mutex_unlock(&fs.lock);
	return id;
}

static void end_locked(enum record_kind kind, const char *path, uint64_t id)
{
	struct record record = { .magic = RECORD_MAGIC, .kind = (uint16_t)kind, .id = id };

	if (id == 0)
		return;
	record.file = file_number(path);
	put(&record, NULL);
}

static void linger(unsigned most_us)
{
	uint64_t z = atomic_fetch_add(&fs.random, UINT64_C(0x9e3779b97f4a7c15));

	if (most_us == 0)
		return;
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	z ^= z >> 31;
	/* Half are quick. */
	if (z & 1)
		usleep((useconds_t)((z >> 8) % most_us + 1));
}

/* ---- files -------------------------------------------------------------------------------- */

static bool is_marks(const char *path)
{
	return strcmp(path, "/" MARKS_NAME) == 0;
}

static const char *real(const char *path, char *buf)
{
	snprintf(buf, 8192, "%s%s", fs.backing, path);
	return buf;
}

static int rc_of(int rc)
{
	return rc < 0 ? -errno : 0;
}

static int do_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	char buf[8192];

	if (is_marks(path)) {
		*st = (struct stat){ .st_mode = S_IFREG | 0600, .st_nlink = 1 };
		return 0;
	}
	return rc_of(lstat(real(path, buf), st));
}

static int do_open(const char *path, struct fuse_file_info *fi)
{
	char buf[8192];

	if (is_marks(path)) {
		fi->direct_io = 1;
		return 0;
	}
	if (fs.buffered && (fi->flags & O_DIRECT))
		return -EINVAL;
	int fd = open(real(path, buf), (fi->flags & ~(O_DIRECT | O_APPEND)) | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	fi->fh = (uint64_t)fd;
	fi->keep_cache = 1;
	return 0;
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	char buf[8192];

	if (fs.buffered && (fi->flags & O_DIRECT))
		return -EINVAL;
	int fd = open(real(path, buf), (fi->flags & ~(O_DIRECT | O_APPEND)) | O_CREAT | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	fi->fh = (uint64_t)fd;
	fi->keep_cache = 1;
	pthread_mutex_lock(&fs.lock);
	(void)file_number(path);
	pthread_mutex_unlock(&fs.lock);
	return 0;
}

static int do_release(const char *path, struct fuse_file_info *fi)
{
	if (!is_marks(path))
		close((int)fi->fh);
	return 0;
}

static int do_read(const char *path, char *buf, size_t bytes, off_t offset, struct fuse_file_info *fi)
{
	if (fi->flags & O_DIRECT)
		linger(fs.read_us);
	ssize_t got = pread((int)fi->fh, buf, bytes, offset);

	return got < 0 ? -errno : (int)got;
}

static int do_mark(const char *buf, size_t bytes)
{
	struct record record = { .magic = RECORD_MAGIC, .kind = RECORD_MARK, .length = bytes, .data_bytes = bytes };

	pthread_mutex_lock(&fs.lock);
	put(&record, buf);
	pthread_mutex_unlock(&fs.lock);
	return (int)bytes;
}

static int do_write(const char *path, const char *buf, size_t bytes, off_t offset, struct fuse_file_info *fi)
{
	if (is_marks(path))
		return do_mark(buf, bytes);
	uint64_t id = begin(RECORD_WRITE, path, (uint64_t)offset, bytes, buf);
	if (id)
		linger(fs.write_us);
	pthread_mutex_lock(&fs.lock);
	ssize_t put_bytes = pwrite((int)fi->fh, buf, bytes, offset);
	int error = errno;
	if (id && put_bytes != (ssize_t)bytes)
		abort(); /* the backing is full: no part of what was recorded may be missing */
	end_locked(RECORD_DONE, path, id);
	pthread_mutex_unlock(&fs.lock);
	return put_bytes < 0 ? -error : (int)put_bytes;
}

static int do_fallocate(const char *path, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	bool punch = mode & FALLOC_FL_PUNCH_HOLE;
	struct stat st;

	if (!punch && (mode & ~FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (!punch && fstat((int)fi->fh, &st) == 0 && ((mode & FALLOC_FL_KEEP_SIZE) || offset + length <= st.st_size))
		return rc_of(fallocate((int)fi->fh, mode, offset, length));
	uint64_t id = begin(punch ? RECORD_PUNCH : RECORD_SIZE, path, (uint64_t)(punch ? offset : offset + length),
			    (uint64_t)length, NULL);
	linger(fs.write_us);
	pthread_mutex_lock(&fs.lock);
	int rc = rc_of(fallocate((int)fi->fh, mode, offset, length));
	end_locked(RECORD_DONE, path, id);
	pthread_mutex_unlock(&fs.lock);
	return rc;
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	char buf[8192];

	if (is_marks(path))
		return 0;
	uint64_t id = begin(RECORD_SIZE, path, (uint64_t)size, 0, NULL);
	pthread_mutex_lock(&fs.lock);
	int rc = rc_of(truncate(real(path, buf), size));
	end_locked(RECORD_DONE, path, id);
	pthread_mutex_unlock(&fs.lock);
	return rc;
}

static int do_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	if (is_marks(path))
		return 0;
	uint64_t id = begin(RECORD_FLUSH, path, 0, 0, NULL);
	linger(fs.flush_us);
	pthread_mutex_lock(&fs.lock);
	end_locked(RECORD_FLUSHED, path, id);
	pthread_mutex_unlock(&fs.lock);
	return 0;
}

/* ---- names -------------------------------------------------------------------------------- */

static int do_unlink(const char *path)
{
	char buf[8192];

	(void)begin(RECORD_UNLINK, path, 0, 0, NULL);
	return rc_of(unlink(real(path, buf)));
}

static int do_rename(const char *from, const char *to, unsigned flags)
{
	char buf_from[8192], buf_to[8192];

	if (flags)
		return -EINVAL;
	pthread_mutex_lock(&fs.lock);
	struct record record = { .magic = RECORD_MAGIC, .kind = RECORD_RENAME, .file = file_number(to) };
	record.offset = file_number(from);
	if (record.file != NOT_RECORDED && record.offset != NOT_RECORDED)
		put(&record, NULL);
	pthread_mutex_unlock(&fs.lock);
	return rc_of(rename(real(from, buf_from), real(to, buf_to)));
}

static int do_mkdir(const char *path, mode_t mode)
{
	char buf[8192];

	return rc_of(mkdir(real(path, buf), mode));
}

/* The daemon's control socket: no part of what a cut leaves. */
static int do_mknod(const char *path, mode_t mode, dev_t device)
{
	char buf[8192];

	return S_ISSOCK(mode) ? rc_of(mknod(real(path, buf), mode, device)) : -EPERM;
}

static int do_rmdir(const char *path)
{
	char buf[8192];

	return rc_of(rmdir(real(path, buf)));
}

static int do_readdir(const char *path, void *to, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *fi,
		      enum fuse_readdir_flags flags)
{
	char buf[8192];
	DIR *dir = opendir(real(path, buf));
	struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (fill(to, entry->d_name, NULL, 0, 0))
			break;
	closedir(dir);
	return 0;
}

static int do_fsyncdir(const char *path, int datasync, struct fuse_file_info *fi)
{
	struct record record = { .magic = RECORD_MAGIC, .kind = RECORD_DIR_FLUSHED };

	pthread_mutex_lock(&fs.lock);
	put(&record, NULL);
	pthread_mutex_unlock(&fs.lock);
	return 0;
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	char buf[8192];

	return rc_of(chmod(real(path, buf), mode));
}

static int do_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	char buf[8192];

	return rc_of(lchown(real(path, buf), uid, gid));
}

static int do_statfs(const char *path, struct statvfs *st)
{
	return rc_of(statvfs(fs.backing, st));
}

static void *do_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
	conn->want &= ~(unsigned)FUSE_CAP_ATOMIC_O_TRUNC; /* else a truncation is hidden in an open */
	/* Buffered: else the kernel drops a page for the new time of a write that is still on its way to us, fetches
	 * it anew, and shows what was there before for good. */
	conn->want &= ~(unsigned)FUSE_CAP_AUTO_INVAL_DATA;
	config->hard_remove = 1;
	config->use_ino = 1;
	config->attr_timeout = config->entry_timeout = 3600; /* nobody changes BACKING beside us */
	conn->max_background = 256;
	conn->congestion_threshold = 256;
	return NULL;
}

static const struct fuse_operations operations = {
	.init = do_init,
	.getattr = do_getattr,
	.open = do_open,
	.create = do_create,
	.release = do_release,
	.read = do_read,
	.write = do_write,
	.fallocate = do_fallocate,
	.truncate = do_truncate,
	.fsync = do_fsync,
	.unlink = do_unlink,
	.rename = do_rename,
	.mkdir = do_mkdir,
	.mknod = do_mknod,
	.rmdir = do_rmdir,
	.readdir = do_readdir,
	.fsyncdir = do_fsyncdir,
	.chmod = do_chmod,
	.chown = do_chown,
	.statfs = do_statfs,
};

static int serve(char *program, const char *mountpoint)
{
	char *words[] = { program, "-o", "fsname=recordfs" };
	struct fuse_args args = FUSE_ARGS_INIT(3, words);
	struct fuse *fuse = fuse_new(&args, &operations, sizeof(operations), NULL);
	struct fuse_loop_config *loop = fuse_loop_cfg_create();

	if (!fuse || !loop || fuse_mount(fuse, mountpoint) != 0)
		return 1;
	fuse_loop_cfg_set_max_threads(loop, 64);
	fuse_loop_cfg_set_idle_threads(loop, 64);
	int rc = fuse_loop_mt(fuse, loop);
	fuse_loop_cfg_destroy(loop);
	fuse_destroy(fuse);
	fuse_opt_free_args(&args);
	return rc != 0;
}

int main(int argc, char **argv)
{
	if (argc < 4 || argc > 9) {
		fprintf(stderr,
			"usage: recordfs BACKING RECORDING MOUNTPOINT\n"
			"                [SEED [WRITE_US [FLUSH_US [READ_US [buffered]]]]]\n");
		return 2;
	}
	if (!realpath(argv[1], fs.backing)) {
		perror(argv[1]);
		return 2;
	}
	fs.fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (fs.fd < 0) {
		perror(argv[2]);
		return 2;
	}
	atomic_init(&fs.random, argc > 4 ? strtoull(argv[4], NULL, 0) : 1);
	fs.write_us = argc > 5 ? (unsigned)atoi(argv[5]) : 0;
	fs.flush_us = argc > 6 ? (unsigned)atoi(argv[6]) : 0;
	fs.read_us = argc > 7 ? (unsigned)atoi(argv[7]) : 0;
	fs.buffered = argc > 8;
	return serve(argv[0], argv[3]);
}
