/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of a pool behind vhost-user sockets, by the libraries alone: what the
 * tests of vhost-user-blk use where the verbs are not the subject.
 *
 *	vhostd DIR SIZE [ENGINE|-] [QUEUES|0] NAME:BYTES:SOCKET[:OPTION]... ...
 *
 * DIR/pool is the pool and DIR/data its physical volume of SIZE; both are made
 * when they are not there, and so are the disks; a volume that is smaller grows.
 * With VHOSTD_HOLD in the environment a full pool holds its writers. OPTION: ro, 4k (logical
 * blocks), qN (virtqueues). Prints "ready" and how long that took, then obeys lines on standard input:
 *
 *	resize NAME BYTES    of the disk, while it is served
 *	space NAME           prints the bytes that are allocated
 *	held NAME            prints how many writes the full pool holds
 *	info NAME            prints what vtd_vhost_info() and _stats() know
 *
 * Ends by SIGTERM or SIGINT, in order. Exit status: 0, or 1 with a message.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/park.h"
#include "base/units.h"
#include "iocore/pool.h"
#include "meta/pool.h"
#include "vtd/vhost.h"

#define TARGETS_MAX 16

struct target {
	char name[64];
	struct meta_disk *disk;
	struct ioc_bd *bd;
	struct vtd_vhost *vhost;
};

static struct meta_pool *meta;
static struct ioc_pool *ioc;
static struct target targets[TARGETS_MAX];
static unsigned target_count;
static struct base_error err;
static uint64_t began_ns;
static double pool_s; /* how long its opening took, after a kill with a replay and syncs */

static double seconds_since(uint64_t then_ns)
{
	return (double)(base_clock_ns() - then_ns) / 1e9;
}

static int fail(const char *what)
{
	fprintf(stderr, "vhostd: %s: %s\n", what, err.text);
	return 1;
}

static int make_pool(const char *dir, const char *data, const char *size_text)
{
	struct meta_pv_spec pv = { .path = data };
	struct meta_pool_create_args args = { .dir = dir, .name = "vhostd", .pvs = &pv, .pv_count = 1 };
	struct base_size size;
	int rc = base_size_parse(size_text, 1, &size, &err);

	pv.size_bytes = size.bytes;
	args.owner_uid = geteuid();
	return rc < 0 ? rc : meta_pool_create(&args, &err);
}

static void find_pv(const struct meta_pv_info *pv, void *ctx)
{
	*(struct meta_pv_info *)ctx = *pv;
}

static int grow_pool(const char *size_text)
{
	struct meta_pool_settings hold = { .which = META_SET_FULL_POLICY | META_SET_HOLD_LIMIT,
					   .full_policy = META_FULL_HOLD,
					   .hold_limit_s = 600 };
	struct meta_pv_info pv = { 0 };
	struct base_size size;
	int rc = base_size_parse(size_text, 1, &size, &err);

	meta_pool_each_pv(meta, find_pv, &pv);
	if (rc == 0 && pv.size_bytes < size.bytes)
		rc = meta_pool_grow_pv(meta, pv.number, size.bytes, &err);
	if (rc == 0 && getenv("VHOSTD_HOLD"))
		rc = meta_pool_set(meta, &hold, &err);
	return rc;
}

static int open_pool(const char *base, const char *size_text)
{
	char dir[4096], data[4096];
	struct meta_pool_open_args args = { .dir = dir };
	struct stat st;
	int rc = 0;

	snprintf(dir, sizeof(dir), "%s/pool", base);
	snprintf(data, sizeof(data), "%s/data", base);
	if (stat(dir, &st) < 0)
		rc = make_pool(dir, data, size_text);
	if (rc == 0)
		rc = meta_pool_open(&args, &meta, &err);
	return rc < 0 ? rc : grow_pool(size_text);
}

static int open_disk(struct target *t, uint64_t size_bytes)
{
	struct meta_disk_spec spec = { .size_bytes = size_bytes };
	int rc = 0;

	snprintf(spec.name, sizeof(spec.name), "%s", t->name);
	t->disk = meta_disk_get_by_name(meta, t->name);
	if (!t->disk)
		rc = meta_disk_create(meta, &spec, 1, NULL, &err);
	if (!t->disk && rc == 0)
		t->disk = meta_disk_get_by_name(meta, t->name);
	return t->disk ? ioc_disk_open(ioc, t->disk, &t->bd, &err) : rc;
}

static int add_target(char *words)
{
	struct target *t = &targets[target_count];
	char *save, *name = strtok_r(words, ":", &save), *bytes = strtok_r(NULL, ":", &save);
	char *socket = strtok_r(NULL, ":", &save), *option;
	struct vtd_vhost_args args = { .pool = ioc, .name = name, .socket_path = socket };
	struct meta_disk_info info;

	if (!socket || target_count == TARGETS_MAX)
		return base_error_set(&err, -EINVAL, "a disk is NAME:BYTES:SOCKET, and there are at most %d",
				      TARGETS_MAX);
	snprintf(t->name, sizeof(t->name), "%s", name);
	int rc = open_disk(t, strtoull(bytes, NULL, 0));
	if (rc < 0)
		return rc;
	while ((option = strtok_r(NULL, ":", &save))) {
		args.read_only |= strcmp(option, "ro") == 0;
		if (strcmp(option, "4k") == 0)
			args.logical_block_bytes = 4096;
		if (*option == 'q')
			args.queues = (unsigned)atoi(option + 1);
	}
	meta_disk_info(t->disk, &info);
	args.bd = t->bd;
	args.disk = t->disk;
	args.size_bytes = info.size_bytes;
	args.first_queue = target_count++;
	vtd_vhost_id(info.record.uuid, args.id);
	return vtd_vhost_start(&args, &t->vhost, &err);
}

static void stop_targets(void)
{
	for (unsigned i = 0; i < target_count; i++) {
		if (targets[i].vhost)
			vtd_vhost_stop(targets[i].vhost);
		if (targets[i].bd)
			ioc_disk_close(targets[i].bd);
		if (targets[i].disk)
			meta_disk_put(targets[i].disk);
	}
}

/* ---- commands ----------------------------------------------------------------------------- */

static void print_info(struct target *t)
{
	struct vtd_vhost_info info;
	struct vtd_io_stats s;

	vtd_vhost_info(t->vhost, &info);
	vtd_vhost_stats(t->vhost, &s);
	printf("connected=%d connections=%llu bad=%llu running=%u packed=%d event_idx=%d inflight_region=%d wb=%d "
	       "reads=%llu writes=%llu flushes=%llu discards=%llu zeroes=%llu errors=%llu resubmitted=%llu "
	       "inflight=%llu "
	       "error=%s\n",
	       info.is_connected, (unsigned long long)info.connections, (unsigned long long)info.ended_badly,
	       info.queues_running, info.has_packed, info.has_event_idx, info.has_inflight, info.is_write_back,
	       (unsigned long long)s.reads, (unsigned long long)s.writes, (unsigned long long)s.flushes,
	       (unsigned long long)s.discards, (unsigned long long)s.write_zeroes, (unsigned long long)s.errors,
	       (unsigned long long)s.resubmitted, (unsigned long long)s.inflight, info.last_error);
}

static void resize(struct target *t, uint64_t bytes)
{
	struct ioc_request req = { .op = IOC_OP_RESIZE, .bd = t->bd, .offset = bytes };
	int rc = ioc_bd_call(ioc, &req);

	if (rc == 0)
		vtd_vhost_resized(t->vhost, bytes);
	printf("resized %d\n", rc);
}

static void print_held(void)
{
	struct meta_pool_info info;

	meta_pool_info(meta, &info);
	printf("%llu\n", (unsigned long long)info.held_writes);
}

static void print_space(struct target *t)
{
	struct meta_disk_info info;

	if (meta_pool_commit(meta) < 0)
		printf("failed\n");
	meta_disk_info(t->disk, &info);
	printf("%llu\n", (unsigned long long)info.allocated_bytes);
}

static void *obey(void *arg)
{
	char line[256], word[32], name[64];
	unsigned long long number;

	while (fgets(line, sizeof(line), stdin)) {
		number = 0;
		struct target *t = NULL;
		if (sscanf(line, "%31s %63s %llu", word, name, &number) < 2)
			continue;
		for (unsigned i = 0; i < target_count; i++)
			if (strcmp(targets[i].name, name) == 0)
				t = &targets[i];
		if (!t)
			printf("no disk %s\n", name);
		else if (strcmp(word, "resize") == 0)
			resize(t, number);
		else if (strcmp(word, "space") == 0)
			print_space(t);
		else if (strcmp(word, "held") == 0)
			print_held();
		else
			print_info(t);
		fflush(stdout);
	}
	return NULL;
}

/* ------------------------------------------------------------------------------------------- */

static int serve(int argc, char **argv, sigset_t *signals)
{
	struct ioc_pool_args args = { .engine = strcmp(argv[3], "-") != 0 ? argv[3] : NULL,
				      .queues = (unsigned)atoi(argv[4]) };
	int rc = 0, signal_number;
	pthread_t thread;

	if (ioc_pool_open(meta, &args, &ioc, &err) < 0)
		return fail("engine");
	for (int i = 5; i < argc && rc == 0; i++)
		rc = add_target(argv[i]);
	if (rc < 0) {
		fail("disk");
	} else if (pthread_create(&thread, NULL, obey, NULL) == 0) {
		printf("ready after %.3f s, the pool after %.3f s\n", seconds_since(began_ns), pool_s);
		fflush(stdout);
		sigwait(signals, &signal_number);
		pthread_cancel(thread);
		pthread_join(thread, NULL);
	}
	stop_targets();
	ioc_pool_close(ioc);
	return rc < 0;
}

int main(int argc, char **argv)
{
	sigset_t set;

	if (argc < 6) {
		fprintf(stderr, "usage: vhostd DIR SIZE ENGINE|- QUEUES|0 NAME:BYTES:SOCKET[:ro][:4k][:qN] ...\n");
		return 1;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	began_ns = base_clock_ns();
	if (open_pool(argv[1], argv[2]) < 0)
		return fail("pool");
	pool_s = seconds_since(began_ns);
	int status = serve(argc, argv, &set);
	if (meta_pool_close(meta, &err) < 0)
		return fail("close");
	return status;
}
