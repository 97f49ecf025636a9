/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exerciser: random operations on one file against a copy in memory.
 *
 *     exerciser [--seed N] [--ops N | --seconds N] [--size-max S] [--io-max S] [--threads N]
 *               [--weights read=10,punch=50,...] [--verify-every N] [--log FILE] FILE
 *     exerciser --replay LOG FILE
 *     exerciser --stamp LOG [--disk-id N] [--size-max S] [--threads N] [--seconds N | --ops N] FILE
 *     exerciser --verify-stamps LOG [--mode kill|powercut] [--disk-id N] [--size-max S] FILE
 *
 * The first form is what this file is about. The file is emptied, then each
 * of the workers draws operations in its own region and compares what it
 * reads with the shadow; every --verify-every operations, and at the end, it
 * compares its whole region. The seed is printed first, so that a run can be
 * had again; with one thread a seed decides everything. --log saves the
 * operations of a run that failed, and --replay carries such a file out.
 *
 * The other forms are in stamp.c.
 *
 * Exit status: 0 nothing wrong, 1 a mismatch or a call that failed, 2 usage.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/units.h"
#include "exerciser.h"

#define THREADS_MAX 64

struct options {
	const char *path, *log_path, *replay_path, *stamp_path, *verify_path;
	uint64_t seed, ops, size_max_bytes, io_max_bytes, verify_every, log_ops, disk_id;
	unsigned seconds, threads;
	bool powercut, record;
	struct weights weights;
};

/* ---- running --------------------------------------------------------------------------------- */

static int worker_init(struct worker *worker, struct target *target, const struct options *options, unsigned number)
{
	uint64_t region = options->size_max_bytes / options->threads / PAGE_BYTES * PAGE_BYTES;
	struct rng rng = { options->seed + number };

	memset(worker, 0, sizeof(*worker));
	worker->target = target;
	worker->number = number;
	worker->owns_end = number == options->threads - 1;
	worker->start_bytes = number * region;
	worker->end_bytes = worker->owns_end ? options->size_max_bytes : (number + 1) * region;
	worker->size_bytes = worker->start_bytes;
	worker->rng.state = rng_next(&rng);
	worker->weights = options->weights;
	worker->ops = options->ops / options->threads;
	worker->io_max_bytes = options->io_max_bytes;
	worker->verify_every = options->verify_every;
	worker->buffer = aligned_alloc(PAGE_BYTES, IO_BYTES_MAX + 2 * PAGE_BYTES);
	if (!worker->buffer)
		return -ENOMEM;
	return oplog_init(&worker->log, options->log_ops < worker->ops ? options->log_ops : worker->ops + 1);
}

static void worker_done(struct worker *worker)
{
	oplog_done(&worker->log);
	free(worker->buffer);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct op op;

	for (uint64_t i = 0; i < worker->ops && !atomic_load(&worker->target->stop); i++) {
		op_draw(worker, &op);
		if (op_run(worker, &op))
			return NULL;
		if (worker->verify_every && (i + 1) % worker->verify_every == 0 && verify_region(worker, VIA_BUFFERED))
			return NULL;
	}
	if (!worker->target->failed && !verify_region(worker, VIA_BUFFERED))
		(void)verify_region(worker, VIA_DIRECT); /* a failure is in target->failed */
	return NULL;
}

/* Ends the run when the time is up; sleeps between looks at the workers' progress. */
static void *timer_main(void *arg)
{
	const struct timespec step = { 0, 20 * 1000 * 1000 };
	struct target *target = ((void **)arg)[0];
	time_t end = time(NULL) + *(unsigned *)((void **)arg)[1];

	while (time(NULL) < end && !atomic_load(&target->stop))
		nanosleep(&step, NULL);
	atomic_store(&target->stop, true);
	return NULL;
}

static int run_workers(struct worker *workers, const struct options *options, struct target *target)
{
	void *timer_arg[2] = { target, (void *)&options->seconds };
	pthread_t timer;

	if (options->seconds && pthread_create(&timer, NULL, timer_main, timer_arg))
		return -EAGAIN;
	for (unsigned i = 0; i < options->threads; i++) {
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i])) {
			fprintf(stderr, "exerciser: no thread %u\n", i);
			exit(1);
		}
	}
	for (unsigned i = 0; i < options->threads; i++)
		pthread_join(workers[i].thread, NULL);
	atomic_store(&target->stop, true);
	if (options->seconds)
		pthread_join(timer, NULL);
	return 0;
}

static int replay(struct worker *worker, const char *path, const struct op *ops, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct op op = ops[i];

		if (op.offset_bytes > worker->end_bytes || op.length_bytes > worker->end_bytes - op.offset_bytes) {
			fprintf(stderr, "exerciser: %s: operation %zu leaves the file\n", path, i);
			return -EINVAL;
		}
		if (op_run(worker, &op))
			return -1;
	}
	return verify_region(worker, VIA_BUFFERED);
}

static void print_counts(const char *title, atomic_uint_fast64_t counts[OP_KINDS])
{
	uint64_t sum = 0;

	for (unsigned kind = 0; kind < OP_KINDS; kind++)
		sum += counts[kind];
	printf("%s %" PRIu64, title, sum);
	for (unsigned kind = 0; kind < OP_KINDS && sum; kind++) {
		if (counts[kind])
			printf(" %s=%" PRIu64, op_kind_name(kind), (uint64_t)counts[kind]);
	}
	printf("\n");
}

static void print_summary(struct target *target, const struct options *options, const struct worker *workers)
{
	print_counts("ran", target->ran);
	print_counts("skipped", target->skipped);
	printf("O_DIRECT alignment %u, shrink %s, retries of a shrink %" PRIu64 "\n", target->direct_align_bytes,
	       target->shrink_needs_alone ? "only when alone" : "at any time", (uint64_t)target->shrink_retries);
	if (!target->failed) {
		printf("exerciser: no mismatch (seed %" PRIu64 ")\n", options->seed);
		return;
	}
	if (options->log_path) {
		int code = oplog_save(options->log_path, workers, options->threads, target);

		printf("operations %s %s\n", code ? "could not be saved to" : "saved to", options->log_path);
	}
	printf("exerciser: FAILED; again with --seed %" PRIu64 " --threads %u --ops %" PRIu64 " --size-max %" PRIu64
	       "\n",
	       options->seed, options->threads, options->ops, options->size_max_bytes);
}

static int exercise(struct options *options)
{
	struct worker *workers = calloc(options->threads, sizeof(*workers));
	struct target target;
	struct op *ops = NULL;
	size_t count = 0;
	int code = 0;

	if (!workers)
		return 1;
	if (options->replay_path) {
		code = oplog_load(options->replay_path, &ops, &count, &options->size_max_bytes);
		options->threads = 1;
		options->ops = count;
	}
	printf("exerciser: seed %" PRIu64 ", %" PRIu64 " operations or %u s, %u threads, up to %" PRIu64
	       " bytes of %s\n",
	       options->seed, options->ops, options->seconds, options->threads, options->size_max_bytes, options->path);
	fflush(stdout);
	if (code || target_open(&target, options->path, options->size_max_bytes)) {
		free(workers);
		free(ops);
		return 1;
	}
	for (unsigned i = 0; i < options->threads && !code; i++)
		code = worker_init(&workers[i], &target, options, i);
	if (!code && ftruncate(target.fd[VIA_BUFFERED], (off_t)workers[options->threads - 1].start_bytes) < 0)
		code = -errno;
	if (code)
		fprintf(stderr, "exerciser: %s: %s\n", options->path, strerror(-code));
	else if (options->replay_path)
		code = replay(&workers[0], options->replay_path, ops, count);
	else
		code = run_workers(workers, options, &target);
	print_summary(&target, options, workers);
	code = code || target.failed;
	for (unsigned i = 0; i < options->threads; i++)
		worker_done(&workers[i]);
	target_close(&target);
	free(workers);
	free(ops);
	return code;
}

/* ---- options --------------------------------------------------------------------------------- */

static const struct option long_options[] = {
	{ "seed", required_argument, NULL, 's' },
	{ "ops", required_argument, NULL, 'n' },
	{ "seconds", required_argument, NULL, 'd' },
	{ "size-max", required_argument, NULL, 'z' },
	{ "io-max", required_argument, NULL, 'i' },
	{ "threads", required_argument, NULL, 't' },
	{ "weights", required_argument, NULL, 'w' },
	{ "verify-every", required_argument, NULL, 'e' },
	{ "log", required_argument, NULL, 'l' },
	{ "log-ops", required_argument, NULL, 'L' },
	{ "replay", required_argument, NULL, 'r' },
	{ "stamp", required_argument, NULL, 'S' },
	{ "verify-stamps", required_argument, NULL, 'V' },
	{ "mode", required_argument, NULL, 'm' },
	{ "disk-id", required_argument, NULL, 'D' },
	{ "no-record", no_argument, NULL, 'R' },
	{ NULL, 0, NULL, 0 },
};

static int usage(const char *why)
{
	fprintf(stderr,
		"exerciser: %s\n"
		"usage: exerciser [--seed N] [--ops N] [--seconds N] [--size-max S] [--io-max S] [--threads N]\n"
		"                 [--weights KIND=N,...] [--verify-every N] [--log FILE] [--log-ops N] FILE\n"
		"       exerciser --replay LOG FILE\n"
		"       exerciser --stamp LOG [--disk-id N] [--size-max S] [--threads N] [--seconds N] [--ops N] FILE\n"
		"       exerciser --verify-stamps LOG [--mode kill|powercut] [--disk-id N] [--size-max S] "
		"[--no-record] FILE\n",
		why);
	return 2;
}

/* Numbers and sizes are written the same way: 5000, 64K, 1G. */
static int set_number(const char *text, uint64_t *ret)
{
	struct base_error err = { 0 };
	struct base_size size;

	if (base_size_parse(text, 1, &size, &err) < 0) {
		fprintf(stderr, "exerciser: %s\n", err.text);
		return -EINVAL;
	}
	*ret = size.bytes;
	return 0;
}

static int set_unsigned(const char *text, unsigned *ret)
{
	uint64_t value;

	if (set_number(text, &value) < 0 || value > UINT32_MAX)
		return -EINVAL;
	*ret = (unsigned)value;
	return 0;
}

static int set_option(struct options *options, int letter, const char *text)
{
	switch (letter) {
	case 's':
		return set_number(text, &options->seed);
	case 'n':
		return set_number(text, &options->ops);
	case 'd':
		return set_unsigned(text, &options->seconds);
	case 'z':
		return set_number(text, &options->size_max_bytes);
	case 'i':
		return set_number(text, &options->io_max_bytes);
	case 't':
		return set_unsigned(text, &options->threads);
	case 'w':
		return weights_parse(text, &options->weights);
	case 'e':
		return set_number(text, &options->verify_every);
	case 'L':
		return set_number(text, &options->log_ops);
	case 'D':
		return set_number(text, &options->disk_id);
	case 'm':
		options->powercut = !strcmp(text, "powercut");
		return options->powercut || !strcmp(text, "kill") ? 0 : -EINVAL;
	case 'R':
		options->record = false;
		return 0;
	case 'l':
		options->log_path = text;
		return 0;
	case 'r':
		options->replay_path = text;
		return 0;
	case 'S':
		options->stamp_path = text;
		return 0;
	case 'V':
		options->verify_path = text;
		return 0;
	default:
		return -EINVAL;
	}
}

static const char *check_options(struct options *options)
{
	if (options->threads < 1 || options->threads > THREADS_MAX)
		return "--threads is 1 to 64";
	if (options->size_max_bytes / options->threads < 16 * PAGE_BYTES || options->size_max_bytes % PAGE_BYTES)
		return "--size-max is a multiple of 4096, and at least 64 KiB a thread";
	if (options->io_max_bytes < 512 || options->io_max_bytes > IO_BYTES_MAX)
		return "--io-max is 512 to 4 MiB";
	if (options->stamp_path && options->verify_path)
		return "--stamp and --verify-stamps are two runs";
	if (options->seconds && !options->ops)
		options->ops = 1000000000;
	if (!options->ops)
		options->ops = 100000;
	return NULL;
}

static int stamp_mode(const struct options *options)
{
	struct stamp_args args = {
		.path = options->path,
		.log_path = options->stamp_path ? options->stamp_path : options->verify_path,
		.disk_id = options->disk_id,
		.size_bytes = options->size_max_bytes,
		.seed = options->seed,
		.ops = options->ops,
		.seconds = options->seconds,
		.threads = options->threads,
		.io_max_bytes = (unsigned)options->io_max_bytes,
		.powercut = options->powercut,
		.record = options->record,
	};

	return options->stamp_path ? stamp_write(&args) : stamp_verify(&args);
}

int main(int argc, char **argv)
{
	struct options options = {
		.seed = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid(),
		.size_max_bytes = 32u << 20,
		.io_max_bytes = 256u << 10,
		.verify_every = 20000,
		.log_ops = 1000000,
		.threads = 1,
		.disk_id = 1,
		.record = true,
		.weights = weights_default,
	};
	const char *wrong;
	int letter;

	while ((letter = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
		if (letter == '?' || set_option(&options, letter, optarg) < 0)
			return usage("an option or its value is not known");
	}
	if (optind != argc - 1)
		return usage("one FILE is needed");
	options.path = argv[optind];
	wrong = check_options(&options);
	if (wrong)
		return usage(wrong);
	return options.stamp_path || options.verify_path ? stamp_mode(&options) : exercise(&options);
}
