/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flipped bits: what becomes of a pool when one bit of its metadata, or of its
 * pv's label, is not what was written.
 *
 *   flips [--count N] [--seed N] [--only N]
 *
 * Each flip is tried in a process of its own, on a copy of one pool: check looks
 * at it, it is opened, and every sector of its disks is read. A flip may have no
 * effect; or the pool is refused; or a disk does not open; or a read is an error;
 * or check says what is wrong. What may not be: a wrong byte, a disk that is gone
 * without check saying so, a crash, a hang. An eighth of the flips is in the
 * label's page, one in LMDB's two meta pages, one anywhere in the file, the others
 * in bytes of it that are not 0.
 *
 * --seed 0 takes one from the clock. The count in CI is small; docs/claims.md has what long runs found.
 *
 * The last line counts how they ended. --only N repeats one of a seed. FLIPS in
 * the environment is the count.
 */
#include <errno.h>
#include <fcntl.h>
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
#include "tests/sweep/rig.h"

#define LABEL_BYTES 4096
#define META_PAGES_BYTES 8192
#define CASE_SECONDS_MAX 60

struct flip {
	const char *file;
	uint64_t byte;
	unsigned bit;
};

/* Shared with the case. */
struct found {
	bool check_reports, refused;
	uint64_t read_errors;
};

struct flips {
	struct rig rig;
	char scratch[64];
	struct found *found;
	uint8_t *metadata; /* as it is before the flip */
	uint64_t metadata_bytes, state;
	uint64_t harmless, refused, by_read, by_check, bad;
};

static uint64_t below(struct flips *flips, uint64_t n)
{
	/* splitmix64 */
	uint64_t z = (flips->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % n;
}

static struct flip choose(struct flips *flips)
{
	uint64_t where = below(flips, 8), byte;
	unsigned bit = (unsigned)below(flips, 8);

	if (where == 0)
		return (struct flip){ "pv0", below(flips, LABEL_BYTES), bit };
	if (where == 1)
		return (struct flip){ "data.mdb", below(flips, META_PAGES_BYTES), bit };
	do /* for most of them, a byte that is not just empty */
		byte = below(flips, flips->metadata_bytes);
	while (where > 2 && flips->metadata[byte] == 0);
	return (struct flip){ "data.mdb", byte, bit };
}

static void carry_out(const struct rig *rig, const struct flip *flip)
{
	char path[256];
	uint8_t byte;

	snprintf(path, sizeof(path), "%s/%s", rig->dir, flip->file);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || pread(fd, &byte, 1, (off_t)flip->byte) != 1)
		rig_fail("%s: %s", path, strerror(errno));
	byte ^= (uint8_t)(1u << flip->bit);
	if (pwrite(fd, &byte, 1, (off_t)flip->byte) != 1)
		rig_fail("%s: %s", path, strerror(errno));
	close(fd);
}

static bool check_reports(struct rig *rig)
{
	struct meta_check_args args = { 0 };
	struct meta_check_report report = { 0 };
	int rc = meta_check_dir(rig->dir, &args, &report, &rig->err);

	return rc != 0 || report.problems > 0 || report.not_judged > 0;
}

static void run_case(struct flips *flips, const struct flip *flip, const char *dir)
{
	struct found *found = flips->found;
	struct rig *rig = &flips->rig;

	alarm(CASE_SECONDS_MAX);
	rig_copy(rig, dir);
	carry_out(rig, flip);
	found->check_reports = check_reports(rig);
	int rc = rig_open(rig);
	found->refused = rc != 0;
	if (rc == -ENOENT && !found->check_reports)
		rig_fail("a disk is gone, and check finds nothing");
	if (rc != 0)
		_exit(0);
	found->read_errors = rig_judge_readable(rig);
	rc = rig_close(rig); /* may meet what is damaged, and say so */
	(void)rc;
	_exit(0);
}

static void sort_out(struct flips *flips)
{
	const struct found *found = flips->found;

	if (found->refused)
		flips->refused++;
	else if (found->read_errors > 0)
		flips->by_read++;
	else if (found->check_reports)
		flips->by_check++;
	else
		flips->harmless++;
}

static void try_flip(struct flips *flips, uint64_t seed, uint64_t number, const struct flip *flip)
{
	char dir[100];
	int status;

	snprintf(dir, sizeof(dir), "%s/case", flips->scratch);
	*flips->found = (struct found){ 0 };
	fflush(stdout);
	pid_t child = fork();
	if (child == 0)
		run_case(flips, flip, dir);
	if (child < 0 || waitpid(child, &status, 0) != child)
		abort();
	rig_remove_dir(dir);
	if (status == 0) {
		sort_out(flips);
		return;
	}
	if (WIFSIGNALED(status))
		printf("flips: died of signal %d\n", WTERMSIG(status));
	printf("  bit %u of byte %" PRIu64 " of %s; again: flips --seed %" PRIu64 " --only %" PRIu64 "\n", flip->bit,
	       flip->byte, flip->file, seed, number);
	flips->bad++;
}

static void begin(struct flips *flips)
{
	char path[160];
	struct stat st;

	snprintf(flips->scratch, sizeof(flips->scratch), "%s/bdfs-flips-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(flips->scratch))
		abort();
	flips->found = mmap(NULL, sizeof(*flips->found), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(path, sizeof(path), "%s/pool", flips->scratch);
	rig_make(&flips->rig, path);
	snprintf(path, sizeof(path), "%s/pool/data.mdb", flips->scratch);
	if (flips->found == MAP_FAILED || stat(path, &st) != 0)
		abort();
	flips->metadata_bytes = (uint64_t)st.st_size;
	flips->metadata = malloc(flips->metadata_bytes);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (!flips->metadata || fd < 0 || pread(fd, flips->metadata, flips->metadata_bytes, 0) != st.st_size)
		abort();
	close(fd);
}

int main(int argc, char **argv)
{
	static struct flips flips;
	uint64_t total = 500, seed = 1, only = 0;
	const char *from_env = getenv("FLIPS");
	char path[100];

	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t n = strtoull(argv[i + 1], NULL, 0);

		if (strcmp(argv[i], "--count") == 0)
			total = n;
		else if (strcmp(argv[i], "--seed") == 0)
			seed = n;
		else if (strcmp(argv[i], "--only") == 0)
			only = n;
		else
			return fprintf(stderr, "flips: what is %s? See the top of flips.c\n", argv[i]), 2;
	}
	if (seed == 0)
		seed = base_clock_ns() / 1000 % 1000000 + 1;
	if (from_env)
		total = strtoull(from_env, NULL, 0);
	base_log_set_level(only ? BASE_LOG_INFO : 0);
	begin(&flips);
	flips.state = seed;
	for (uint64_t number = 1; number <= MAX(total, only) && flips.bad < 20; number++) {
		struct flip flip = choose(&flips);

		if (!only || number == only)
			try_flip(&flips, seed, number, &flip);
	}
	snprintf(path, sizeof(path), "%s/pool", flips.scratch);
	rig_remove_dir(path);
	rmdir(flips.scratch);
	free(flips.metadata);
	printf("flips: seed %" PRIu64 ": %" PRIu64 " without effect, %" PRIu64 " refused at the opening, %" PRIu64
	       " by a read, %" PRIu64 " reported by check alone; %" PRIu64 " wrong\n",
	       seed, flips.harmless, flips.refused, flips.by_read, flips.by_check, flips.bad);
	return flips.bad > 0;
}
