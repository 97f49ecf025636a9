/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The common half of the bench servers: a low-level FUSE server whose root
 * directory holds one regular file of fixed size.
 *
 * The model: node 1 is the root, node 2 the file; nothing is created, removed
 * or resized, attributes never change and are cached for an hour. The file is
 * opened with the flags that bdfs uses (direct I/O, parallel direct writes, no
 * FLUSH at close), and max_background is as high as bdfs's, so that a ratio
 * between the two compares what the servers do and not what they asked the
 * kernel for. The OPEN reply is sent as a raw body because libfuse 3.14.0
 * (Debian 12) drops the parallel-writes flag from its own.
 *
 * The happy path: main() fills struct bench_one_file and calls
 * bench_one_file_serve(); libfuse's loop runs two threads, each of which reads
 * one request, calls read or write, answers, and comes back. Nothing is
 * handed over between threads.
 *
 * Splicing is off: at 4 KiB the pipe costs more than the copy that it saves.
 *
 * Failure modes: a mount that fails is reported by libfuse and ends the
 * process with status 1; requests past the end of the file are cut short
 * (read) or refused with EFBIG (write); there is no other input to get wrong.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/one_file.h"

#include <linux/fuse.h>

/* Linux 6.2; the headers of Debian 12 are older than the kernels it is run on. */
#ifndef FOPEN_PARALLEL_DIRECT_WRITES
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif
#ifndef FOPEN_NOFLUSH
#define FOPEN_NOFLUSH (1 << 5)
#endif

#define FILE_NODE 2
#define ATTR_SECONDS 3600.0
#define THREADS 2
/* The kernel's default of 12 covers the whole mount and flattens every queue depth above it. */
#define MAX_BACKGROUND 1024

static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;
static int buffer_key_error;

static void make_buffer_key(void)
{
	buffer_key_error = pthread_key_create(&buffer_key, free);
}

void *bench_thread_buffer(void)
{
	void *buffer;

	pthread_once(&buffer_once, make_buffer_key);
	if (buffer_key_error)
		return NULL;
	buffer = pthread_getspecific(buffer_key);
	if (buffer)
		return buffer;
	if (posix_memalign(&buffer, 4096, BENCH_REQUEST_BYTES_MAX))
		return NULL;
	/* Touched now, so that no measured request pays for the page faults. */
	memset(buffer, 0x5a, BENCH_REQUEST_BYTES_MAX);
	if (pthread_setspecific(buffer_key, buffer)) {
		free(buffer);
		return NULL;
	}
	return buffer;
}

static const struct bench_one_file *file_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Return: 0; -ENOENT. */
static int fill_attr(const struct bench_one_file *file, fuse_ino_t node, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = node;
	if (node == FUSE_ROOT_ID) {
		st->st_mode = S_IFDIR | 0755;
		st->st_nlink = 2;
		return 0;
	}
	if (node != FILE_NODE)
		return -ENOENT;
	st->st_mode = S_IFREG | 0600;
	st->st_nlink = 1;
	st->st_size = (off_t)file->size_bytes;
	st->st_blocks = (blkcnt_t)(file->size_bytes / 512);
	st->st_blksize = 4096;
	return 0;
}

static void one_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND / 4 * 3;
}

static void one_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .ino = FILE_NODE,
					  .attr_timeout = ATTR_SECONDS,
					  .entry_timeout = ATTR_SECONDS };

	if (parent != FUSE_ROOT_ID || strcmp(name, BENCH_FILE_NAME) != 0 ||
	    fill_attr(file_of(req), FILE_NODE, &entry.attr)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fuse_reply_entry(req, &entry);
}

static void one_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct stat st;

	if (fill_attr(file_of(req), node, &st))
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_attr(req, &st, ATTR_SECONDS);
}

static void one_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct fuse_open_out out = {
		.fh = node,
		.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH,
	};

	if (node != FILE_NODE)
		fuse_reply_err(req, EISDIR);
	else
		fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

static void one_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

static void one_read(fuse_req_t req, fuse_ino_t node, size_t bytes, off_t offset, struct fuse_file_info *fi)
{
	const struct bench_one_file *file = file_of(req);

	if (offset < 0 || (uint64_t)offset >= file->size_bytes) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	if (bytes > file->size_bytes - (uint64_t)offset)
		bytes = file->size_bytes - (uint64_t)offset;
	if (bytes > BENCH_REQUEST_BYTES_MAX)
		fuse_reply_err(req, EIO);
	else
		file->read(file, req, bytes, offset);
}

static void one_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t bytes, off_t offset,
		      struct fuse_file_info *fi)
{
	const struct bench_one_file *file = file_of(req);

	if (offset < 0 || (uint64_t)offset > file->size_bytes || bytes > file->size_bytes - (uint64_t)offset)
		fuse_reply_err(req, EFBIG);
	else if (bytes > BENCH_REQUEST_BYTES_MAX)
		fuse_reply_err(req, EIO);
	else
		file->write(file, req, data, bytes, offset);
}

static void one_fsync(fuse_req_t req, fuse_ino_t node, int data_only, struct fuse_file_info *fi)
{
	file_of(req)->sync(file_of(req), req);
}

static const struct fuse_lowlevel_ops one_file_ops = {
	.init = one_init,
	.lookup = one_lookup,
	.getattr = one_getattr,
	.open = one_open,
	.release = one_release,
	.read = one_read,
	.write = one_write,
	.fsync = one_fsync,
};

static int run_loop(struct fuse_session *session)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int rc;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, THREADS);
	rc = fuse_session_loop_mt(session, config);
	fuse_loop_cfg_destroy(config);
	/* A signal that asked for the end is reported as its number. */
	return rc < 0 ? rc : 0;
}

static int mount_and_run(struct fuse_session *session, const char *mountpoint)
{
	int rc = fuse_set_signal_handlers(session);

	if (rc)
		return rc;
	rc = fuse_session_mount(session, mountpoint);
	if (rc == 0) {
		rc = run_loop(session);
		fuse_session_unmount(session);
	}
	fuse_remove_signal_handlers(session);
	return rc;
}

int bench_one_file_serve(const struct bench_one_file *file, const char *mountpoint)
{
	char options[256];
	char *argv[] = { (char *)"bench", (char *)"-o", options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fuse_session *session;
	int rc;

	snprintf(options, sizeof(options), "fsname=%s,subtype=bdfs-bench,default_permissions", file->source);
	/* libfuse asks for a pointer to non-const, and only hands it back to us. */
	session = fuse_session_new(&args, &one_file_ops, sizeof(one_file_ops), (void *)file);
	if (!session)
		return EXIT_FAILURE;
	rc = mount_and_run(session, mountpoint);
	fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

void bench_print_version(void)
{
	printf("bench server, libfuse %s\n", fuse_pkgversion());
}

int bench_parse_bytes(const char *text, uint64_t *ret_bytes)
{
	char *end;
	unsigned long long bytes;

	errno = 0;
	bytes = strtoull(text, &end, 10);
	/* strtoull takes a sign and turns -1 into a huge number. */
	if (errno || end == text || *end || *text < '0' || *text > '9' || bytes == 0 || bytes > INT64_MAX)
		return -EINVAL;
	*ret_bytes = bytes;
	return 0;
}
