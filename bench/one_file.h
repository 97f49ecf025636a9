/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FUSE mount with one file in it, for the servers that bdfs is measured
 * against. Those servers differ only in where the bytes come from.
 *
 * Context: main() of a bench server. Not part of the product.
 */
#ifndef BENCH_ONE_FILE_H
#define BENCH_ONE_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#define BENCH_FILE_NAME "data"
/* Twice what the kernel sends in one request to a server that asks for no more (256 pages). */
#define BENCH_REQUEST_BYTES_MAX (2u << 20)

/*
 * Where the bytes come from. Each function answers its request itself, exactly once, before it
 * returns; two threads call them at the same time. offset + bytes never passes size_bytes.
 */
struct bench_one_file {
	uint64_t size_bytes;
	const char *source; /* what /proc/mounts shows as the device */
	void (*read)(const struct bench_one_file *file, fuse_req_t req, size_t bytes, off_t offset);
	void (*write)(const struct bench_one_file *file, fuse_req_t req, const char *data, size_t bytes, off_t offset);
	void (*sync)(const struct bench_one_file *file, fuse_req_t req);
	void *ctx;
};

/*
 * Mounts and serves until umount(8) or SIGTERM, in the foreground, on two threads of libfuse's own
 * loop, each with a cloned descriptor. The file is opened as bdfs opens its disks.
 * Return: an exit status; libfuse has said on stderr what went wrong.
 */
int bench_one_file_serve(const struct bench_one_file *file, const char *mountpoint);

/*
 * The calling thread's own buffer: BENCH_REQUEST_BYTES_MAX bytes, aligned for O_DIRECT, freed when
 * the thread ends. Return: NULL when there is no memory.
 */
void *bench_thread_buffer(void);

/* Prints "bench server, libfuse X" on stdout, for the table's head. */
void bench_print_version(void);

/* A whole positive decimal number of bytes. Return: 0; -EINVAL. */
int bench_parse_bytes(const char *text, uint64_t *ret_bytes);

#endif
