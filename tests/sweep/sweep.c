/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fail the nth, for every n.
 *
 *   sweep [--share PERCENT] [--seed N] [--operation NAME] [--mode M] [--at N] [--jobs N] [--verbose]
 *
 * For each operation of operations.c, each mode of points.h and each n: a process
 * of its own takes a copy of one pool, does the operation while its n-th call
 * fails (a device I/O, an allocation, a system call, a call of LMDB or one that
 * LMDB makes), and then without faults looks at what is left:
 *
 *   - what an operation said that it did is done, at once and after an opening;
 *     what it said it could not is done whole or not at all (data: by sector);
 *   - everything else is as it was, above all what was flushed before;
 *   - a failed sync or commit has made the pool failed: writes and changes of the
 *     catalogue are refused, reads go on. Any other pool goes on working;
 *   - nothing is leaked: memory, mappings, descriptors;
 *   - the pool opens again, and check finds it clean.
 *
 * n goes up until the operation ends without reaching it. The last line has the
 * number of points swept. --share 100 (the default) is the whole of it;
 * SWEEP_SHARE in the environment is the same. A failure prints the words that
 * repeat it.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "meta/check.h"
#include "tests/sweep/operations.h"
#include "tests/sweep/points.h"

#define CASE_SECONDS_MAX 60

static const char *const mode_names[POINTS_MODES] = { "once", "for-good", "once-no-space", "for-good-no-space",
						      "after" };

/* Shared by a case and the sweep. */
struct case_result {
	struct points_result points;
	int rc;
	bool behind_commit; /* what failed was the copy of the metadata: the opening's own commit was durable before */
};

struct sweep {
	struct rig rig; /* as the pool is that all begin with */
	char scratch[64];
	struct case_result *result;
	uint64_t seed, share; /* percent */
	bool verbose;
	uint64_t cases, points, skipped, bad;
};

/* ---- after the faults --------------------------------------------------------------------- */

static size_t open_descriptors(void)
{
	size_t count = 0;
	DIR *dir = opendir("/proc/self/fd");

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

struct before {
	size_t live, descriptors;
};

static struct before look_before(void)
{
	return (struct before){ points_live(false), open_descriptors() };
}

static void expect_no_leak(const struct before *before, const char *when)
{
	size_t live = points_live(false), descriptors = open_descriptors();

	if (live != before->live)
		points_live(true);
	if (live != before->live || descriptors != before->descriptors)
		rig_fail("%s: %zu things of memory and files are left over, %zu descriptors", when,
			 live - before->live, descriptors - before->descriptors);
}

static void check_clean(struct rig *rig)
{
	struct meta_check_args args = { .pool = rig->pool };
	struct meta_check_report report;
	int rc = meta_check(&args, &report, &rig->err);

	if (rc != 0)
		rig_fail("check: %s", rig->err.text);
	if (report.problems > 0)
		rig_fail("check finds %" PRIu64 " problems; the first: %s", report.problems, report.findings[0].text);
}

static void expect_failed_for_good(struct rig *rig)
{
	struct meta_disk_spec spec = { .name = "never", .size_bytes = MIB };
	int rc = meta_disk_create(rig->pool, &spec, 1, NULL, &rig->err);

	if (rc != -EROFS)
		rig_fail("a failed pool made a disk: %d", rc);
	if (!rig->disks[0].bd)
		return;
	rc = rig_request(rig, 0, IOC_OP_WRITE, 0, 15 * MIB, 64 * KIB, 90);
	if (rc != -EIO)
		rig_fail("a failed pool took a write: %d", rc);
	rc = rig_request(rig, 0, IOC_OP_FLUSH, 0, 0, 0, 0);
	if (rc != -EIO)
		rig_fail("a failed pool was flushed: %d", rc);
}

static void expect_it_works(struct rig *rig)
{
	struct meta_disk_spec spec = { .name = "later", .size_bytes = MIB };
	int rc;

	rc = meta_disk_create(rig->pool, &spec, 1, NULL, &rig->err);
	if (rc != 0)
		rig_fail("with the faults gone no disk can be made: %s", rig->err.text);
	if (!rig->disks[0].bd || meta_disk_size(rig->disks[0].meta) < MIB)
		return;
	rc = rig_request(rig, 0, IOC_OP_WRITE, 0, 64 * KIB, 128 * KIB, 91);
	if (rc == 0)
		rc = rig_request(rig, 0, IOC_OP_FLUSH, 0, 0, 0, 0);
	if (rc != 0)
		rig_fail("with the faults gone a write and a flush end with %d (%s)", rc, strerror(-rc));
}

/* The pool is open, as the operation left it. Return: whether it is failed. */
static bool look_at_open_pool(struct rig *rig, const struct operation *operation, const struct case_result *result)
{
	struct meta_pool_info info;

	meta_pool_info(rig->pool, &info);
	bool own = (operation->flags & OPERATION_OWN_SYNC) && strcmp(result->points.what, "pv fdatasync") == 0;
	if (result->points.sync_failed && !info.failed && !own)
		rig_fail("%s failed, and the pool is not failed", result->points.what);
	if (operation->judge && !info.failed)
		operation->judge(rig, result->rc);
	rig_judge(rig, RIG_LATEST);
	if (info.failed)
		expect_failed_for_good(rig);
	else
		expect_it_works(rig);
	return info.failed;
}

static enum rig_judge how_to_judge(const struct operation *operation, const struct case_result *result, bool failed)
{
	/* A data sync that failed makes the restart log void, also when it failed at the opening that replays it. */
	if ((operation->flags & OPERATION_UNFLUSHED) && result->rc < 0 &&
	    strcmp(result->points.what, "pv fdatasync") == 0 && result->points.sync_failed && !result->behind_commit)
		return RIG_FALLEN;
	return failed || result->points.sync_failed ? RIG_DURABLE : RIG_LATEST;
}

static void look_after_opening(struct rig *rig, const struct operation *operation, const struct case_result *result,
			       bool failed)
{
	int rc = rig_open(rig);

	if (rc != 0)
		rig_fail("the pool does not open again: %d %s", rc, rig->err.text);
	check_clean(rig);
	if (operation->judge)
		operation->judge(rig, failed && result->rc == 0 ? -EIO : result->rc);
	rig_judge(rig, how_to_judge(operation, result, failed));
	rc = rig_close(rig);
	if (rc != 0)
		rig_fail("the pool does not close: %d %s", rc, rig->err.text);
}

/* mksp: nothing that the call made is left, or all of it. */
static void look_at_made_pool(struct rig *rig, const struct operation *operation, int rc)
{
	const char *const names[] = { "data.mdb", "pv0", "pv1" };
	char path[256];

	for (size_t i = 0; i < ARRAY_LEN(names) && rc < 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", rig->dir, names[i]);
		if (access(path, F_OK) == 0)
			rig_fail("%s is left behind", names[i]);
	}
	if (rc < 0 && operation->run(rig) != 0)
		rig_fail("with the faults gone no pool can be made: %s", rig->err.text);
	memset(rig->disks, 0, sizeof(rig->disks));
	rc = rig_open(rig);
	if (rc != 0)
		rig_fail("the pool that was made does not open: %s", rig->err.text);
	check_clean(rig);
	if (rig_close(rig) != 0)
		rig_fail("the pool that was made does not close: %s", rig->err.text);
}

/* ---- one case ----------------------------------------------------------------------------- */

static void begin(struct rig *rig, const struct operation *operation, const char *dir)
{
	if (operation->flags & OPERATION_NO_POOL) {
		snprintf(rig->dir, sizeof(rig->dir), "%s", dir);
		return;
	}
	rig_copy(rig, dir);
	if (!(operation->flags & OPERATION_CLOSED) && rig_open(rig) != 0)
		rig_fail("the pool does not open: %s", rig->err.text);
	if (operation->prepare)
		operation->prepare(rig);
}

static void run_case(struct sweep *sweep, const struct operation *operation, enum points_mode mode, uint64_t at,
		     const char *dir)
{
	struct case_result *result = sweep->result;
	struct rig *rig = &sweep->rig;
	struct before before = look_before();
	bool failed = false;

	alarm(CASE_SECONDS_MAX);
	begin(rig, operation, dir);
	points_arm(mode, at);
	result->rc = operation->run(rig);
	result->points = points_disarm();
	result->behind_commit = result->rc < 0 && strstr(rig->err.text, "the copy of the metadata on pv");
	if (sweep->verbose)
		printf("  %s: %s, answered %d (%s) %s\n", operation->name,
		       result->points.hit ? result->points.what : "nothing failed", result->rc, strerror(-result->rc),
		       result->rc < 0 ? rig->err.text : "");
	if (operation->flags & OPERATION_NO_POOL) {
		expect_no_leak(&before, "after the operation");
		look_at_made_pool(rig, operation, result->rc);
		_exit(0);
	}
	if (rig->pool) {
		failed = look_at_open_pool(rig, operation, result);
		int rc = rig_close(rig);
		if (rc != 0 && !failed)
			rig_fail("with the faults gone the pool does not close: %d %s", rc, rig->err.text);
	} else if (result->points.sync_failed && result->rc == 0) {
		rig_fail("%s failed, and nobody was told", result->points.what);
	}
	expect_no_leak(&before, "after the close");
	look_after_opening(rig, operation, result, failed);
	expect_no_leak(&before, "after the second close");
	_exit(0);
}

/* Return: whether point `at` was reached, or the case ended so badly that it is not known. */
static bool try_case(struct sweep *sweep, const struct operation *operation, enum points_mode mode, uint64_t at)
{
	char dir[100];
	int status;

	snprintf(dir, sizeof(dir), "%s/case", sweep->scratch);
	*sweep->result = (struct case_result){ 0 };
	fflush(stdout);
	pid_t child = fork();
	if (child == 0)
		run_case(sweep, operation, mode, at, dir);
	if (child < 0 || waitpid(child, &status, 0) != child)
		abort();
	rig_remove_dir(dir);
	sweep->cases++;
	if (status == 0)
		return sweep->result->points.hit;
	if (WIFSIGNALED(status))
		printf("sweep: FAILED: died of signal %d%s\n", WTERMSIG(status),
		       WTERMSIG(status) == SIGALRM ? ": it hangs" : "");
	printf("  what failed: %s, answered %d\n  again: sweep --operation %s --mode %s --at %" PRIu64 " --verbose\n",
	       sweep->result->points.what, sweep->result->rc, operation->name, mode_names[mode], at);
	sweep->bad++;
	return true;
}

/* ---- the sweep ---------------------------------------------------------------------------- */

static bool is_chosen(const struct sweep *sweep, unsigned operation, unsigned mode, uint64_t at)
{
	uint64_t z = sweep->seed + (((uint64_t)operation << 8 | mode) << 32) + at;

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % 100 < sweep->share;
}

/* How many points the operation has in this mode, by a run in which none fails. */
static uint64_t count_points(struct sweep *sweep, const struct operation *operation, enum points_mode mode)
{
	uint64_t bad = sweep->bad;

	(void)try_case(sweep, operation, mode, 0);
	if (sweep->bad != bad)
		printf("  (without any fault)\n");
	return sweep->result->points.count;
}

static void sweep_operation(struct sweep *sweep, unsigned o, int only_mode)
{
	const struct operation *operation = &operations[o];
	uint64_t points = 0;

	for (unsigned mode = 0; mode < POINTS_MODES; mode++) {
		if (only_mode >= 0 && mode != (unsigned)only_mode)
			continue;
		uint64_t count = count_points(sweep, operation, mode);
		for (uint64_t at = 1; at <= count && sweep->bad < 20; at++) {
			if (!is_chosen(sweep, o, mode, at)) {
				sweep->skipped++;
				continue;
			}
			points += try_case(sweep, operation, mode, at);
		}
	}
	printf("%-18s %6" PRIu64 " points\n", operation->name, points);
	sweep->points += points;
}

static void sweep_init(struct sweep *sweep)
{
	char dir[100];

	snprintf(sweep->scratch, sizeof(sweep->scratch), "%s/bdfs-sweep-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(sweep->scratch))
		abort();
	sweep->result = mmap(NULL, sizeof(*sweep->result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sweep->result == MAP_FAILED)
		abort();
	snprintf(dir, sizeof(dir), "%s/pool", sweep->scratch);
	rig_make(&sweep->rig, dir);
}

static void sweep_done(struct sweep *sweep)
{
	char dir[100];

	snprintf(dir, sizeof(dir), "%s/pool", sweep->scratch);
	rig_remove_dir(dir);
	rmdir(sweep->scratch);
}

static int mode_by_name(const char *name)
{
	for (int mode = 0; mode < POINTS_MODES; mode++)
		if (strcmp(mode_names[mode], name) == 0)
			return mode;
	return -1;
}

int main(int argc, char **argv)
{
	static struct sweep sweep = { .share = 100, .seed = 1 };
	const char *name = NULL, *share = getenv("SWEEP_SHARE"), *seed = getenv("SWEEP_SEED");
	uint64_t at = 0;
	int mode = -1;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--verbose") == 0)
			sweep.verbose = true;
		else if (i + 1 < argc && strcmp(argv[i], "--share") == 0)
			sweep.share = strtoull(argv[++i], NULL, 0);
		else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
			sweep.seed = strtoull(argv[++i], NULL, 0);
		else if (i + 1 < argc && strcmp(argv[i], "--operation") == 0)
			name = argv[++i];
		else if (i + 1 < argc && strcmp(argv[i], "--mode") == 0)
			mode = mode_by_name(argv[++i]);
		else if (i + 1 < argc && strcmp(argv[i], "--at") == 0)
			at = strtoull(argv[++i], NULL, 0);
		else
			return fprintf(stderr, "sweep: what is %s? See the top of sweep.c\n", argv[i]), 2;
	}
	if (share)
		sweep.share = strtoull(share, NULL, 0);
	if (seed)
		sweep.seed = strtoull(seed, NULL, 0);
	base_log_set_level(sweep.verbose ? BASE_LOG_INFO : 0);
	sweep_init(&sweep);
	for (unsigned o = 0; o < operation_count && sweep.bad < 20; o++) {
		if (name && strcmp(name, operations[o].name) != 0)
			continue;
		if (at)
			(void)try_case(&sweep, &operations[o], mode < 0 ? 0 : (enum points_mode)mode, at);
		else
			sweep_operation(&sweep, o, mode);
	}
	sweep_done(&sweep);
	printf("sweep: %" PRIu64 " points of %u operations, each failed in a pool of its own (seed %" PRIu64
	       ", %" PRIu64 " %% of the points, %" PRIu64 " left out): %" PRIu64 " failed\n",
	       sweep.points, operation_count, sweep.seed, sweep.share, sweep.skipped, sweep.bad);
	return sweep.bad > 0 || sweep.cases == 0;
}
