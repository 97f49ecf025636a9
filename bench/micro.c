/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times single functions of the data path: what one call costs on this machine,
 * in nanoseconds, with everything it needs in the cache. It is for seeing what a
 * change of one function did; what a request costs as a whole is bench/run's.
 *
 * The model: a case is called in batches. The batch is doubled until it takes
 * long enough for the clock not to matter; then it is timed a number of times
 * and median, lowest and highest are printed. The clock is the thread's
 * processor time, so that other work on the machine shows in the spread (cold
 * caches, a slower core) but not as waiting.
 *
 * The happy path: micro [--quick] [NAME ...]; a name selects the cases that
 * begin with it. --quick takes short batches: it shows that each case runs and
 * gets the right result, its figures are rough.
 *
 * micro --count CALLS [NAME ...] is for bench/budget: each case is called that
 * often to warm up and then once more so inside count_case(), which callgrind
 * is told to look for; nothing is timed.
 *
 * Failure modes: a case that can't be set up, or whose results are wrong, is
 * named on stderr and the exit status is 1; no figure is printed for it. No
 * case of that name: status 2.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/micro.h"

#define SAMPLES_MAX 15

struct plan {
	uint64_t batch_ns; /* at least */
	unsigned samples;
	uint64_t count_calls; /* nothing is timed */
};

static const struct plan full_plan = { .batch_ns = 20000000, .samples = SAMPLES_MAX };
static const struct plan quick_plan = { .batch_ns = 200000, .samples = 3 };

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Return: false when the case says that its results were wrong. */
static bool timed(const struct micro_case *the_case, void *ctx, uint64_t calls, uint64_t *ret_ns)
{
	uint64_t start = cpu_ns();
	bool right = the_case->run(ctx, calls);

	*ret_ns = cpu_ns() - start;
	return right;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Fills ns_per_call, sorted. */
static bool measure(const struct micro_case *the_case, void *ctx, const struct plan *plan, double *ns_per_call)
{
	uint64_t calls = 1, ns;

	for (;;) {
		if (!timed(the_case, ctx, calls, &ns))
			return false;
		if (ns >= plan->batch_ns)
			break;
		calls *= 2;
	}
	for (unsigned i = 0; i < plan->samples; i++) {
		if (!timed(the_case, ctx, calls, &ns))
			return false;
		ns_per_call[i] = (double)ns / (double)calls;
	}
	qsort(ns_per_call, plan->samples, sizeof(ns_per_call[0]), compare);
	return true;
}

/* Callgrind counts by the names of these. Not inlined, and not made one with each other. */
#ifdef __clang__
#define BY_NAME __attribute__((noinline))
#else
#define BY_NAME __attribute__((noipa))
#endif

static BY_NAME bool micro_whole_case(const struct micro_case *the_case, void *ctx, uint64_t calls)
{
	return the_case->run(ctx, calls);
}

static BY_NAME bool micro_count_case(const struct micro_case *the_case, void *ctx, uint64_t calls)
{
	return the_case->plays_peer ? the_case->run(ctx, calls) : micro_whole_case(the_case, ctx, calls);
}

static BY_NAME bool micro_warm_up(const struct micro_case *the_case, void *ctx, uint64_t calls)
{
	return the_case->run(ctx, calls);
}

static bool count(const struct micro_case *the_case, void *ctx, uint64_t calls)
{
	if (!micro_warm_up(the_case, ctx, calls) || !micro_count_case(the_case, ctx, calls))
		return false;
	printf("%s %" PRIu64 "\n", the_case->name, calls);
	fflush(stdout);
	return true;
}

static bool run_case(const struct micro_case *the_case, const struct plan *plan)
{
	double ns[SAMPLES_MAX];
	void *ctx = NULL;
	int rc = the_case->setup ? the_case->setup(&ctx) : 0;

	if (rc < 0) {
		fprintf(stderr, "micro: %s: can't be set up: %s\n", the_case->name, strerror(-rc));
		return false;
	}
	bool right = plan->count_calls ? count(the_case, ctx, plan->count_calls) : measure(the_case, ctx, plan, ns);
	if (the_case->done)
		the_case->done(ctx);
	if (!right) {
		fprintf(stderr, "micro: %s: a wrong result\n", the_case->name);
		return false;
	}
	if (plan->count_calls)
		return true;
	printf("%-24s %9.1f  %9.1f - %9.1f  %s\n", the_case->name, ns[plan->samples / 2], ns[0], ns[plan->samples - 1],
	       the_case->what);
	return true;
}

static bool is_wanted(const struct micro_case *the_case, char **names, int name_count)
{
	for (int i = 0; i < name_count; i++)
		if (strncmp(the_case->name, names[i], strlen(names[i])) == 0)
			return true;
	return name_count == 0;
}

struct tally {
	unsigned ran, wrong;
};

static void run_cases(const struct micro_case *cases, size_t count, char **names, int name_count,
		      const struct plan *plan, struct tally *tally)
{
	for (size_t i = 0; i < count; i++) {
		if (!is_wanted(&cases[i], names, name_count))
			continue;
		tally->ran++;
		if (!run_case(&cases[i], plan))
			tally->wrong++;
	}
}

static void run_all(char **names, int name_count, const struct plan *plan, struct tally *tally)
{
	run_cases(micro_base_cases, micro_base_case_count, names, name_count, plan, tally);
	run_cases(micro_meta_cases, micro_meta_case_count, names, name_count, plan, tally);
	run_cases(micro_map_cases, micro_map_case_count, names, name_count, plan, tally);
	run_cases(micro_plan_cases, micro_plan_case_count, names, name_count, plan, tally);
	run_cases(micro_vring_cases, micro_vring_case_count, names, name_count, plan, tally);
	run_cases(micro_fuse_cases, micro_fuse_case_count, names, name_count, plan, tally);
	run_cases(micro_vhost_cases, micro_vhost_case_count, names, name_count, plan, tally);
}

int main(int argc, char **argv)
{
	bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
	bool counts = argc > 2 && strcmp(argv[1], "--count") == 0;
	struct plan plan = quick ? quick_plan : full_plan;
	int first = quick ? 2 : counts ? 3 : 1;
	struct tally tally = { 0 };

	if (counts) {
		plan.count_calls = strtoull(argv[2], NULL, 10);
		printf("compiler %s\n", __VERSION__);
	} else {
		printf("%-24s %9s  %9s - %9s\n", "ns per call", "median", "lowest", "highest");
	}
	run_all(argv + first, argc - first, &plan, &tally);
	if (tally.ran == 0) {
		fprintf(stderr, "usage: micro [--quick | --count CALLS] [NAME ...]\n");
		return 2;
	}
	return tally.wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
