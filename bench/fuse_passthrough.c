/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plain pass-through: one raw file shown as a FUSE file, the shortest way
 * that libfuse's own loop offers. bdfs is measured against it as the server
 * that does device I/O and nothing else: no map, no allocation, no io_uring.
 *
 * The model: the raw file is opened O_DIRECT; each of libfuse's two threads
 * takes a request, does one pread or pwrite itself, answers, and comes back,
 * so at most two requests are at the device. A sync is fdatasync.
 *
 * O_DIRECT wants aligned memory. Reads go to the thread's own aligned buffer.
 * A write's data lies in libfuse's buffer, which is aligned from libfuse 3.17
 * on; with older ones it is copied first, as any such server has to.
 *
 * The happy path: fuse_passthrough RAW_FILE MOUNTPOINT; the file is
 * MOUNTPOINT/data; umount(8) ends it.
 *
 * With --null SIZE_BYTES instead of the raw file there is no pread, no pwrite
 * and no copy: the server's own cost with a device that takes no time.
 *
 * Failure modes: a raw file that can't be opened O_DIRECT is refused at start.
 * A request that is not aligned to the device's sectors is answered with what
 * the kernel says to it (EINVAL): the bench sends none.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/one_file.h"

#define DIRECT_ALIGN 4096

static int fd_of(const struct bench_one_file *file)
{
	return *(const int *)file->ctx;
}

/* Whole, or a negative errno; short only at the end of the file. */
static ssize_t read_all(int fd, char *buffer, size_t bytes, off_t offset)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pread(fd, buffer + done, bytes - done, offset + (off_t)done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		if (n > 0)
			done += (size_t)n;
	}
	return (ssize_t)done;
}

static ssize_t write_all(int fd, const char *buffer, size_t bytes, off_t offset)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pwrite(fd, buffer + done, bytes - done, offset + (off_t)done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return (ssize_t)done;
}

static void raw_read(const struct bench_one_file *file, fuse_req_t req, size_t bytes, off_t offset)
{
	char *buffer = bench_thread_buffer();
	ssize_t n;

	if (!buffer) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	n = read_all(fd_of(file), buffer, bytes, offset);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, buffer, (size_t)n);
}

static void raw_write(const struct bench_one_file *file, fuse_req_t req, const char *data, size_t bytes, off_t offset)
{
	ssize_t n;

	if ((uintptr_t)data % DIRECT_ALIGN != 0) {
		char *buffer = bench_thread_buffer();

		if (!buffer) {
			fuse_reply_err(req, ENOMEM);
			return;
		}
		data = memcpy(buffer, data, bytes);
	}
	n = write_all(fd_of(file), data, bytes, offset);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, (size_t)n);
}

static void raw_sync(const struct bench_one_file *file, fuse_req_t req)
{
	fuse_reply_err(req, fdatasync(fd_of(file)) ? errno : 0);
}

static void null_read(const struct bench_one_file *file, fuse_req_t req, size_t bytes, off_t offset)
{
	char *buffer = bench_thread_buffer();

	if (buffer)
		fuse_reply_buf(req, buffer, bytes);
	else
		fuse_reply_err(req, ENOMEM);
}

static void null_write(const struct bench_one_file *file, fuse_req_t req, const char *data, size_t bytes, off_t offset)
{
	fuse_reply_write(req, bytes);
}

static void null_sync(const struct bench_one_file *file, fuse_req_t req)
{
	fuse_reply_err(req, 0);
}

static int serve_null(uint64_t size_bytes, const char *mountpoint)
{
	const struct bench_one_file file = {
		.size_bytes = size_bytes,
		.source = "fuse_passthrough_null",
		.read = null_read,
		.write = null_write,
		.sync = null_sync,
	};

	return bench_one_file_serve(&file, mountpoint);
}

static int serve_fd(int fd, uint64_t size_bytes, const char *mountpoint)
{
	const struct bench_one_file file = {
		.size_bytes = size_bytes,
		.source = "fuse_passthrough",
		.read = raw_read,
		.write = raw_write,
		.sync = raw_sync,
		.ctx = &fd,
	};

	return bench_one_file_serve(&file, mountpoint);
}

static int serve_raw(const char *path, bool read_only, const char *mountpoint)
{
	int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
	int status = EXIT_FAILURE;
	off_t size_bytes;
	struct stat st;

	if (fd < 0) {
		fprintf(stderr, "fuse_passthrough: %s can't be opened with O_DIRECT: %s\n", path, strerror(errno));
		return EXIT_FAILURE;
	}
	size_bytes = lseek(fd, 0, SEEK_END);
	if (fstat(fd, &st) || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) || size_bytes <= 0)
		fprintf(stderr, "fuse_passthrough: %s is no regular file or block device with data in it\n", path);
	else
		status = serve_fd(fd, (uint64_t)size_bytes, mountpoint);
	close(fd);
	return status;
}

int main(int argc, char **argv)
{
	uint64_t size_bytes;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		bench_print_version();
		return EXIT_SUCCESS;
	}
	if (argc == 4 && strcmp(argv[1], "--null") == 0 && bench_parse_bytes(argv[2], &size_bytes) == 0)
		return serve_null(size_bytes, argv[3]);
	if (argc == 4 && strcmp(argv[1], "--read-only") == 0)
		return serve_raw(argv[2], true, argv[3]);
	if (argc == 3 && argv[1][0] != '-')
		return serve_raw(argv[1], false, argv[2]);
	fprintf(stderr, "usage: fuse_passthrough [--read-only] RAW_FILE_OR_DEVICE MOUNTPOINT\n"
			"       fuse_passthrough --null SIZE_BYTES MOUNTPOINT\n");
	return 2;
}
