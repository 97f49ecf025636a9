/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool mounted in the foreground, by the libraries alone: what the tests of
 * the file system use where the commands are not the subject.
 *
 *	fsd DIR MOUNTPOINT SIZE [ENGINE|-] [QUEUES] [OPTIONS]
 *
 * DIR/pool is the pool and DIR/data its physical volume of SIZE; both are made
 * when they are not there. Prints "ready" when the mount answers. Ends when it
 * is unmounted; SIGTERM and SIGINT unmount it, by force if files are open.
 *
 * Exit status: 0 when all was closed in order, 1 with a message otherwise.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/units.h"
#include "fs/fs.h"
#include "iocore/pool.h"
#include "meta/pool.h"

static int fail(const char *what, const struct base_error *err)
{
	fprintf(stderr, "fsd: %s: %s\n", what, err->text);
	return 1;
}

static int make_pool(const char *dir, const char *data, const char *size_text, struct base_error *err)
{
	struct meta_pv_spec pv = { .path = data };
	struct meta_pool_create_args args = { .dir = dir, .name = "fsd", .pvs = &pv, .pv_count = 1 };
	struct base_size size;
	int rc = base_size_parse(size_text, 1, &size, err);

	pv.size_bytes = size.bytes;
	args.owner_uid = geteuid();
	return rc < 0 ? rc : meta_pool_create(&args, err);
}

static int open_pool(const char *base, const char *size_text, struct meta_pool **ret, struct base_error *err)
{
	char dir[4096], data[4096];
	struct meta_pool_open_args args = { .dir = dir };
	struct stat st;
	int rc = 0;

	snprintf(dir, sizeof(dir), "%s/pool", base);
	snprintf(data, sizeof(data), "%s/data", base);
	if (stat(dir, &st) < 0)
		rc = make_pool(dir, data, size_text, err);
	return rc < 0 ? rc : meta_pool_open(&args, ret, err);
}

/* Takes the signals that end the program; all other threads have them blocked. */
static void *take_signals(void *arg)
{
	struct fs_mount *fs = arg;
	sigset_t set;
	int signal_number;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	while (sigwait(&set, &signal_number) == 0) {
		if (fs_unmount(fs, FS_UNMOUNT) == -EBUSY && fs_unmount(fs, FS_UNMOUNT_FORCE) < 0)
			fprintf(stderr, "fsd: can't unmount\n");
	}
	return NULL;
}

static int serve(const struct fs_mount_args *args, struct base_error *err)
{
	struct fs_mount *fs;
	pthread_t thread;

	if (fs_mount(args, &fs, err) < 0)
		return fail("mount", err);
	if (pthread_create(&thread, NULL, take_signals, fs) != 0)
		return 1;
	printf("ready%s\n", fs_has_shared_mmap(fs) ? " mmap" : "");
	fflush(stdout);
	fs_wait(fs);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	fs_free(fs);
	return 0;
}

static int run(int argc, char **argv, struct meta_pool *meta, struct base_error *err)
{
	struct ioc_pool_args ioc_args = { .engine = argc > 4 && strcmp(argv[4], "-") != 0 ? argv[4] : NULL,
					  .queues = argc > 5 ? (unsigned)atoi(argv[5]) : 0 };
	struct fs_mount_args args = {
		.handles_fd = -1,
		.device_fd = -1,
		.meta = meta, .mountpoint = argv[2], .source = "fsd", .options = argc > 6 ? argv[6] : NULL
	};
	int status;

	if (ioc_pool_open(meta, &ioc_args, &args.ioc, err) < 0)
		return fail("engine", err);
	status = serve(&args, err);
	ioc_pool_close(args.ioc);
	return status;
}

int main(int argc, char **argv)
{
	struct base_error err = { 0 };
	struct meta_pool *meta;
	sigset_t set;
	int status;

	if (argc < 4 || argc > 7) {
		fprintf(stderr, "usage: fsd DIR MOUNTPOINT SIZE [ENGINE|-] [QUEUES] [OPTIONS]\n");
		return 1;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGXFSZ, SIG_IGN);
	if (open_pool(argv[1], argv[3], &meta, &err) < 0)
		return fail("pool", &err);
	status = run(argc, argv, meta, &err);
	if (meta_pool_close(meta, &err) < 0)
		return fail("close", &err);
	return status;
}
