/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE floor: a file served from memory. What it costs is what any FUSE
 * server on libfuse's own loop has to pay: the way through the kernel, the
 * thread switch, and one copy of the data. A server that also looks up a map
 * and drives a device is measured against it.
 *
 * The model: one anonymous mapping of the file's size. A read is answered
 * straight from it, a write is copied into it, a sync has nothing to do. Two
 * requests that overlap may be seen half done, as on a disk.
 *
 * The happy path: fuse_floor SIZE_BYTES MOUNTPOINT; the file is
 * MOUNTPOINT/data; umount(8) ends it.
 *
 * Failure modes: too little memory for the mapping is reported at start.
 * Memory is taken as the file is written, so a machine that runs short is
 * found when the file is filled, before anything is measured.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench/one_file.h"

static void floor_read(const struct bench_one_file *file, fuse_req_t req, size_t bytes, off_t offset)
{
	const char *memory = file->ctx;

	fuse_reply_buf(req, memory + offset, bytes);
}

static void floor_write(const struct bench_one_file *file, fuse_req_t req, const char *data, size_t bytes, off_t offset)
{
	char *memory = file->ctx;

	memcpy(memory + offset, data, bytes);
	fuse_reply_write(req, bytes);
}

static void floor_sync(const struct bench_one_file *file, fuse_req_t req)
{
	fuse_reply_err(req, 0);
}

static int serve(uint64_t size_bytes, const char *mountpoint)
{
	struct bench_one_file file = {
		.size_bytes = size_bytes,
		.source = "fuse_floor",
		.read = floor_read,
		.write = floor_write,
		.sync = floor_sync,
	};
	int status;

	file.ctx = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (file.ctx == MAP_FAILED) {
		fprintf(stderr, "fuse_floor: no memory for a file of %ju bytes: %s; give a smaller size\n",
			(uintmax_t)size_bytes, strerror(errno));
		return EXIT_FAILURE;
	}
	status = bench_one_file_serve(&file, mountpoint);
	munmap(file.ctx, size_bytes);
	return status;
}

int main(int argc, char **argv)
{
	uint64_t size_bytes;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		bench_print_version();
		return EXIT_SUCCESS;
	}
	if (argc != 3 || bench_parse_bytes(argv[1], &size_bytes)) {
		fprintf(stderr, "usage: fuse_floor SIZE_BYTES MOUNTPOINT\n");
		return 2;
	}
	return serve(size_bytes, argv[2]);
}
