/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuts: replays a recording of recordfs, cuts the power at many places of it, and
 * judges what each cut has left.
 *
 *	cuts --recording FILE [--base DIR] [--seed N] [--cuts N] [--jobs N]
 *	     [--only POSITION:VARIANT] [--write-out DIR]
 *
 * --base is what lay below recordfs when the recording began, when that was not
 * nothing. A cut is POSITION (the number of the last record that happened) and
 * VARIANT (the seed of what it keeps); with the recording it is the same for ever.
 * --only judges that cut alone; with --write-out its files are left in DIR, for
 * another daemon to start from.
 *
 * Half of the positions are anywhere; the others are near the end of a flush, where
 * things are about to be believed durable, or near the end of an operation that
 * changes disks or the pool as a whole. One in sixteen cuts also gives the
 * pool an old pv: it must be refused.
 *
 * The recording is walked once, in order; each cut is a forked child, which sees
 * the state and the judge as they were there and changes its own copy.
 *
 * Exit status: 0, or 1 when a cut or a live read was judged wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "meta/records.h"
#include "tests/powercut/judge.h"

#define JOBS_MAX 16
#define FAILURES_MAX 3
#define CHILD_SECONDS 120
#define OLD_PV_EVERY 16
#define CUTS_A_CHANGE 12 /* where few things happen, they must not draw all cuts */

struct cut {
	uint64_t position, variant;
};

/* A copy of the first pv as it was at some time. */
struct old_pv {
	uint8_t *data;
	uint64_t size, labels; /* how many labels had become stable then */
};

/* Positions of interest. */
struct places {
	uint64_t *at, count, room;
};

static struct {
	const char *recording, *base, *write_out;
	uint64_t seed, cuts, jobs;
	struct cut only;
	char scratch[128];
	struct state state;
	struct judge judge;
	struct old_pv old;
	uint64_t labels, last_label; /* distinct stable labels seen; the last one's commit */
	uint64_t ready, end;
	struct places flushes, changes;
	pid_t children[JOBS_MAX];
	struct cut running[JOBS_MAX];
	uint64_t done, failed;
	struct {
		_Atomic uint64_t sectors, old_pvs;
	} * shared;
} run = { .seed = 1, .cuts = 100, .jobs = 1 };

/* ---- one cut, in a child ------------------------------------------------------------------ */

static void write_out(void)
{
	char path[8192];

	snprintf(path, sizeof(path), "%s/pool", run.write_out);
	mkdir(run.write_out, 0700);
	mkdir(path, 0700);
	for (unsigned i = 0; i < STATE_FILES_MAX; i++) {
		snprintf(path, sizeof(path), "%s/%s", run.write_out, run.state.files[i].name);
		if (run.state.files[i].name[0] && file_write_out(&run.state.files[i], path) < 0)
			exit(2);
	}
}

/* An old pv beside newer metadata must be refused. */
static bool refuses_old_pv(const char *dir)
{
	struct file *pv = state_find(&run.state, "pool/pv0");
	struct base_error err = { 0 };

	file_set_size(pv, 0);
	file_put(pv, 0, run.old.data, run.old.size);
	struct cutpool *pool = cutpool_new(&run.state, dir, false);
	atomic_fetch_add(&run.shared->old_pvs, 1);
	int rc = cutpool_open(pool, &err);
	if (rc == -ESTALE)
		return true;
	snprintf(run.judge.why, sizeof(run.judge.why),
		 "a pv of an earlier day was not refused (%d %.100s): %" PRIu64 " labels have become stable since",
		 rc, err.text, run.labels - run.old.labels);
	return false;
}

static int child(const struct cut *cut, unsigned slot, bool old_pv)
{
	uint64_t sectors = 0;
	char dir[256];

	alarm(CHILD_SECONDS);
	base_log_set_level(BASE_LOG_ERROR);
	snprintf(dir, sizeof(dir), "%s/%u", run.scratch, slot);
	mkdir(dir, 0700);
	state_cut(&run.state, cut->variant);
	if (run.write_out)
		write_out();
	bool ok = old_pv ? refuses_old_pv(dir)
			 : judge_cut(&run.judge, cutpool_new(&run.state, dir, cut->variant % 4 == 0),
				     cut->variant % 3 == 0, cut->variant % 5 < 2, &sectors);
	atomic_fetch_add(&run.shared->sectors, sectors);
	cutpool_clean(dir);
	if (!ok)
		printf("cuts: FAILED, %" PRIu64 ":%" PRIu64 ":%" PRIu64 ": %s\n"
		       "  again: cuts --recording %s%s%s --seed %" PRIu64 " --only %" PRIu64 ":%" PRIu64 "\n",
		       run.seed, cut->position, cut->variant, run.judge.why, run.recording,
		       run.base ? " --base " : "", run.base ? run.base : "", run.seed, cut->position, cut->variant);
	fflush(stdout);
	return !ok;
}

static void reap(unsigned slot)
{
	int status = 0;

	if (run.children[slot] <= 0)
		return;
	waitpid(run.children[slot], &status, 0);
	run.children[slot] = 0;
	run.done++;
	if (status == 0)
		return;
	run.failed++;
	if (WIFSIGNALED(status))
		printf("cuts: FAILED, %" PRIu64 ":%" PRIu64 ":%" PRIu64 ": died of signal %d%s\n", run.seed,
		       run.running[slot].position, run.running[slot].variant, WTERMSIG(status),
		       WTERMSIG(status) == SIGALRM ? " (it hung)" : "");
}

static void judge_one(const struct cut *cut, uint64_t number)
{
	unsigned slot = (unsigned)(number % run.jobs);
	bool old_pv = cut->variant % OLD_PV_EVERY == 0 && run.old.data && run.labels >= run.old.labels + 2;

	reap(slot);
	fflush(stdout);
	run.running[slot] = *cut;
	run.children[slot] = fork();
	if (run.children[slot] == 0)
		_exit(child(cut, slot, old_pv));
}

/* ---- along the recording ------------------------------------------------------------------ */

/* Labels of the first pv that became stable; a quarter of the way in, and again later, the pv is kept as it is. */
static void watch_label(void)
{
	struct file *pv = state_find(&run.state, "pool/pv0");
	struct meta_label label;

	if (!pv || pv->size < META_LABEL_BYTES || meta_label_decode(pv->data, &label) != 0 ||
	    label.commit == run.last_label)
		return;
	run.last_label = label.commit;
	run.labels++;
	uint64_t quarter = (run.end - run.ready) / 4;
	bool take = !run.old.data ? run.state.position > run.ready + quarter / 4
				  : run.state.position > run.ready + 2 * quarter && run.old.labels * 4 < run.labels;
	if (!take)
		return;
	free(run.old.data);
	run.old = (struct old_pv){ malloc(pv->size), pv->size, run.labels };
	if (!run.old.data)
		abort();
	memcpy(run.old.data, pv->data, pv->size);
}

static void settle(void)
{
	int fd = memfd_create("settled", MFD_CLOEXEC), status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		char dir[256];
		snprintf(dir, sizeof(dir), "%s/settle", run.scratch);
		mkdir(dir, 0700);
		base_log_set_level(BASE_LOG_ERROR);
		for (unsigned i = 0; i < STATE_FILES_MAX; i++)
			run.state.files[i].name_stable |= run.base == NULL;
		state_cut(&run.state, 0);
		bool ok = judge_settle(&run.judge, cutpool_new(&run.state, dir, false), fd);
		if (!ok)
			printf("cuts: FAILED: the pool that the recording began with: %s\n", run.judge.why);
		cutpool_clean(dir);
		rmdir(dir);
		fflush(stdout);
		_exit(!ok);
	}
	waitpid(pid, &status, 0);
	if (status != 0)
		exit(1);
	lseek(fd, 0, SEEK_SET);
	judge_load(&run.judge, fd);
	close(fd);
}

static bool step(void)
{
	const struct record *record = state_next(&run.state);

	if (!record)
		return false;
	if (record->kind == RECORD_FLUSHED)
		watch_label();
	if (run.state.position == run.ready && !run.base)
		settle();
	else if (record->kind == RECORD_MARK && run.state.position > run.ready &&
		 !judge_mark(&run.judge, record_data(record), record->data_bytes, run.state.position)) {
		printf("cuts: FAILED, %" PRIu64 ":%" PRIu64 ":live: %s\n", run.seed, run.state.position,
		       run.judge.why);
		run.failed++;
	}
	return run.failed < FAILURES_MAX;
}

static void walk(const struct cut *cuts, uint64_t count)
{
	if (run.base)
		settle();
	for (uint64_t i = 0; i < count && run.failed < FAILURES_MAX; i++) {
		while (run.state.position < cuts[i].position)
			if (!step())
				break;
		if (run.state.position == cuts[i].position)
			judge_one(&cuts[i], i);
	}
	/* The reads to the end are judged too. */
	while (run.only.position == 0 && step())
		;
	for (unsigned i = 0; i < run.jobs; i++)
		reap(i);
}

/* ---- the plan ----------------------------------------------------------------------------- */

static void add_place(struct places *places, uint64_t position)
{
	if (places->count == places->room) {
		places->room = places->room ? places->room * 2 : 1024;
		places->at = realloc(places->at, places->room * sizeof(*places->at));
		if (!places->at)
			abort();
	}
	places->at[places->count++] = position;
}

static bool is_change(const struct mark *mark)
{
	return mark->phase == MARK_COMPLETED && mark->kind >= MARK_RESIZE && mark->kind != MARK_READ_SNAP;
}

/* Where the recording is ready, ends, and what is of interest in it. */
static void survey(const char *at, size_t bytes)
{
	uint64_t position = 0;

	for (size_t offset = 0; bytes - offset >= sizeof(struct record);) {
		const struct record *record = (const struct record *)(at + offset);
		const struct mark *mark = record_data(record);
		uint64_t whole = sizeof(*record) + round_up_to(record->data_bytes, 8);
		if (whole > bytes - offset)
			break;
		position++;
		if (record->kind == RECORD_MARK && mark->kind == MARK_READY && run.ready == 0)
			run.ready = position;
		if (record->kind == RECORD_FLUSHED)
			add_place(&run.flushes, position);
		if (record->kind == RECORD_MARK && is_change(mark))
			add_place(&run.changes, position);
		offset += whole;
	}
	run.end = position;
}

static int by_position(const void *pa, const void *pb)
{
	const struct cut *a = pa, *b = pb;

	return a->position < b->position ? -1 : a->position > b->position;
}

/* A place among those of interest, up to `before` records ahead of it or `after` behind it; 0: there is none. */
static uint64_t near(const struct places *places, uint64_t *random, uint64_t before, uint64_t after)
{
	if (places->count == 0)
		return 0;
	uint64_t at = places->at[random_next(random) % places->count] + random_next(random) % (before + after + 1);
	return at > before ? at - before : 0;
}

/* A recording that continues another is judged from its beginning: there the pool recovers. */
static uint64_t pick_position(uint64_t number, uint64_t *random)
{
	uint64_t from = run.base ? 1 : run.ready + 1, position = 0, dice = random_next(random) % 8;

	/* A quarter of the cuts of a continued recording fall into its recovery. */
	if (run.base && run.ready > 1 && number % 4 == 0)
		return 1 + random_next(random) % run.ready;
	if (dice < 3)
		position = near(&run.flushes, random, 2, 4);
	else if (dice < 5 && number < run.changes.count * CUTS_A_CHANGE)
		position = near(&run.changes, random, 100, 40);
	if (position < from || position > run.end)
		position = from + random_next(random) % (run.end - from + 1);
	return position;
}

static struct cut *plan(void)
{
	struct cut *cuts = calloc(run.cuts, sizeof(*cuts));
	uint64_t random = run.seed;

	if (!cuts)
		abort();
	for (uint64_t i = 0; i < run.cuts; i++) {
		uint64_t position = pick_position(i, &random);
		cuts[i] = (struct cut){ position, random_next(&random) % 1000000 + 1 };
	}
	qsort(cuts, run.cuts, sizeof(*cuts), by_position);
	return cuts;
}

static int usage(void)
{
	fprintf(stderr, "usage: cuts --recording FILE [--base DIR] [--seed N] [--cuts N] [--jobs N]\n"
			"            [--only POSITION:VARIANT] [--write-out DIR]\n");
	return 2;
}

static bool parse(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		const char *value = argv[i + 1];
		if (strcmp(argv[i], "--recording") == 0)
			run.recording = value;
		else if (strcmp(argv[i], "--base") == 0)
			run.base = value;
		else if (strcmp(argv[i], "--write-out") == 0)
			run.write_out = value;
		else if (strcmp(argv[i], "--seed") == 0)
			run.seed = strtoull(value, NULL, 0);
		else if (strcmp(argv[i], "--cuts") == 0)
			run.cuts = strtoull(value, NULL, 0);
		else if (strcmp(argv[i], "--jobs") == 0)
			run.jobs = MAX(1, MIN(JOBS_MAX, strtoull(value, NULL, 0)));
		else if (strcmp(argv[i], "--only") != 0 ||
			 sscanf(value, "%" SCNu64 ":%" SCNu64, &run.only.position, &run.only.variant) != 2)
			return false;
	}
	return argc % 2 == 1 && run.recording && run.cuts > 0;
}

static const char *map_recording(size_t *ret_bytes)
{
	int fd = open(run.recording, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0) {
		fprintf(stderr, "cuts: %s can't be read, or is empty\n", run.recording);
		exit(2);
	}
	const char *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		exit(2);
	*ret_bytes = (size_t)st.st_size;
	close(fd);
	return at;
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double began = seconds_now();
	size_t bytes;

	if (!parse(argc, argv))
		return usage();
	const char *recording = map_recording(&bytes);
	survey(recording, bytes);
	if (run.ready == 0 || run.ready == run.end) {
		fprintf(stderr, "cuts: %s ends before the writer was ready\n", run.recording);
		return 2;
	}
	run.shared = mmap(NULL, sizeof(*run.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(run.scratch, sizeof(run.scratch), "%s/bdfs-cuts-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (run.shared == MAP_FAILED || !mkdtemp(run.scratch))
		return 2;
	state_init(&run.state, recording, bytes, run.base);
	if (run.only.position)
		walk(&run.only, 1);
	else
		walk(plan(), run.cuts);
	for (unsigned i = 0; i < run.jobs; i++) {
		char dir[256];
		snprintf(dir, sizeof(dir), "%s/%u", run.scratch, i);
		cutpool_clean(dir); /* of a child that died */
		rmdir(dir);
	}
	rmdir(run.scratch);
	printf("cuts: %" PRIu64 " cuts in %" PRIu64 " records, seed %" PRIu64 ": %" PRIu64 " failed; %" PRIu64
	       " sectors, %" PRIu64 " live reads judged, %" PRIu64 " old pvs refused; %.1f s\n",
	       run.done, run.end, run.seed, run.failed, atomic_load(&run.shared->sectors), run.judge.reads,
	       atomic_load(&run.shared->old_pvs), seconds_now() - began);
	return run.failed != 0;
}
