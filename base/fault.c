/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults on purpose, see fault.h.
 *
 * The rules are looked at in order; the first that fires decides. A rule that
 * is about the operation counts it, whether it fires or not, so "after=100
 * every=10" means what it says. Random numbers are one stream from a seed that
 * is logged, so that a run with one queue can be repeated.
 *
 * A file of rules is looked at again when an operation comes and the last look
 * is 50 ms old. A new content replaces the rules whole: counts and times begin
 * anew. A content that can't be understood, or a file that is gone, leaves no
 * rule in force, with a line in the log: faults never go on after they have
 * been taken away.
 *
 * Happy path: judge -> look at the file -> first rule that fires -> count, log.
 *
 * Failure modes: no memory for a changed file: no rule is in force until the
 * next change.
 */
#include "base/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fault_parse.h"
#include "base/log.h"
#include "base/park.h"

#define LOOK_AGAIN_NS UINT64_C(50000000)
#define FILE_BYTES_MAX (64 * KIB)
#define LINES_A_SECOND 5
#define DEVICES_MAX 64

struct base_fault {
	char *text;   /* const after open */
	bool is_file; /* const after open */
	_Atomic uint64_t count;
	pthread_mutex_t lock; /* of what follows */
	struct fault_rules rules;
	uint64_t random_state, began_ns, looked_ns;
	struct stat seen; /* of the file; st_ino 0: it was not there */
	uint64_t line_second, lines;
	int fds[DEVICES_MAX]; /* by number of the pv; -1 = none */
};

static const char *const kind_names[] = { [BASE_FAULT_NONE] = "delayed",
					  [BASE_FAULT_ERROR] = "failed",
					  [BASE_FAULT_TORN] = "torn",
					  [BASE_FAULT_SHORT] = "cut short",
					  [BASE_FAULT_DROP] = "dropped" };
static const char *const op_names[BASE_FAULT_OPS] = { "read", "write", "sync", "discard" };

static void take_rules(struct base_fault *fault, const struct fault_rules *rules)
{
	fault->rules = *rules;
	fault->began_ns = base_clock_ns();
	fault->random_state = rules->seed ? rules->seed : fault->began_ns;
	log_warning("FAULTS are injected into this pool's devices: %u rules from %s, seed %" PRIu64, rules->count,
		    fault->is_file ? fault->text : "the command line", fault->random_state);
}

/* ---- the file ----------------------------------------------------------------------------- */

static int read_file(const char *path, char **ret, struct base_error *err)
{
	FILE *file = fopen(path, "re");
	char *text = malloc(FILE_BYTES_MAX + 1);
	size_t got = 0;
	int rc = 0;

	if (!file)
		rc = base_error_set_errno(err, -errno, "faults: %s", path);
	else if (!text)
		rc = base_error_set(err, -ENOMEM, "out of memory");
	if (rc == 0) {
		got = fread(text, 1, FILE_BYTES_MAX + 1, file);
		if (got > FILE_BYTES_MAX)
			rc = base_error_set(err, -EINVAL, "faults: %s is larger than 64 KiB", path);
		else if (ferror(file))
			rc = base_error_set(err, -EIO, "faults: %s can't be read", path);
	}
	if (file)
		fclose(file);
	if (rc < 0) {
		free(text);
		return rc;
	}
	text[got] = '\0';
	*ret = text;
	return 0;
}

static int load(struct base_fault *fault, struct base_error *err)
{
	struct fault_rules *rules = malloc(sizeof(*rules));
	char *text = NULL;
	int rc = rules ? 0 : base_error_set(err, -ENOMEM, "out of memory");

	if (rc == 0 && fault->is_file)
		rc = read_file(fault->text, &text, err);
	if (rc == 0)
		rc = fault_parse(fault->is_file ? text : fault->text, rules, err);
	if (rc == 0)
		take_rules(fault, rules);
	free(text);
	free(rules);
	return rc;
}

static bool has_changed(struct base_fault *fault)
{
	struct stat now = { 0 };

	if (stat(fault->text, &now) != 0)
		now = (struct stat){ 0 };
	bool changed = now.st_ino != fault->seen.st_ino || now.st_size != fault->seen.st_size ||
		       now.st_mtim.tv_sec != fault->seen.st_mtim.tv_sec ||
		       now.st_mtim.tv_nsec != fault->seen.st_mtim.tv_nsec;
	fault->seen = now;
	return changed;
}

static void look_again(struct base_fault *fault, uint64_t now_ns)
{
	struct base_error err;

	if (!fault->is_file || now_ns < fault->looked_ns + LOOK_AGAIN_NS)
		return;
	fault->looked_ns = now_ns;
	if (!has_changed(fault))
		return;
	if (load(fault, &err) < 0) {
		fault->rules.count = 0;
		log_warning("%s; no faults are injected until it changes", err.text);
	}
}

/* ---- devices ------------------------------------------------------------------------------ */

void base_fault_name_device(struct base_fault *fault, int fd, unsigned number)
{
	pthread_mutex_lock(&fault->lock);
	for (unsigned i = 0; i < DEVICES_MAX; i++)
		if (fault->fds[i] == fd)
			fault->fds[i] = -1;
	if (number < DEVICES_MAX)
		fault->fds[number] = fd;
	pthread_mutex_unlock(&fault->lock);
}

/* UINT_MAX: nobody has named it; no pv=N is about it. */
static unsigned device_of(const struct base_fault *fault, int fd)
{
	for (unsigned i = 0; i < DEVICES_MAX; i++)
		if (fault->fds[i] == fd)
			return i;
	return UINT_MAX;
}

/* ---- the verdict -------------------------------------------------------------------------- */

static uint64_t next_random(struct base_fault *fault)
{
	/* splitmix64 */
	uint64_t z = (fault->random_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* rule->device UINT_MAX: any. */
static bool is_about(const struct fault_rule *rule, enum base_fault_op op, unsigned device, uint64_t offset,
		     uint64_t bytes)
{
	if (!(rule->ops & 1u << op) || (rule->device != UINT_MAX && rule->device != device))
		return false;
	/* A sync is of the whole pv. */
	return op == BASE_FAULT_SYNC || (offset < rule->to && offset + bytes > rule->from);
}

/* Counts what the rule is about, and says whether this one is hit. */
static bool fires(struct base_fault *fault, struct fault_rule *rule, uint64_t since_ns)
{
	if (since_ns < rule->begin_ns || since_ns >= rule->end_ns)
		return false;
	uint64_t nth = rule->matched++;
	if (nth < rule->skip || rule->ordered >= rule->count)
		return false;
	if (rule->every && (nth - rule->skip + 1) % rule->every != 0)
		return false;
	if (rule->rate < FAULT_RATE_ONE && next_random(fault) % FAULT_RATE_ONE >= rule->rate)
		return false;
	rule->ordered++;
	return true;
}

static void say(struct base_fault *fault, const struct fault_rule *rule, enum base_fault_op op, unsigned device,
		uint64_t offset, uint64_t bytes, uint64_t now_ns)
{
	uint64_t second = now_ns / 1000000000;

	if (second != fault->line_second) {
		if (fault->lines > LINES_A_SECOND)
			log_warning("fault: and %" PRIu64 " more", fault->lines - LINES_A_SECOND);
		fault->line_second = second;
		fault->lines = 0;
	}
	if (++fault->lines <= LINES_A_SECOND)
		log_warning("fault: %s of pv %d at %" PRIu64 ", %" PRIu64 " bytes: %s%s%s", op_names[op], (int)device,
			    offset, bytes, kind_names[rule->kind], rule->error ? " with " : "",
			    rule->error ? strerrorname_np(-rule->error) : "");
}

struct base_fault_verdict base_fault_judge(struct base_fault *fault, enum base_fault_op op, int fd, uint64_t offset,
					   uint64_t bytes)
{
	struct base_fault_verdict verdict = { .kind = BASE_FAULT_NONE };
	uint64_t now_ns = base_clock_ns();

	pthread_mutex_lock(&fault->lock);
	unsigned device = device_of(fault, fd);
	look_again(fault, now_ns);
	for (unsigned i = 0; i < fault->rules.count; i++) {
		struct fault_rule *rule = &fault->rules.rules[i];

		if (!is_about(rule, op, device, offset, bytes) || !fires(fault, rule, now_ns - fault->began_ns))
			continue;
		verdict = (struct base_fault_verdict){ rule->kind, rule->error, rule->delay_ns };
		atomic_fetch_add(&fault->count, 1);
		say(fault, rule, op, device, offset, bytes, now_ns);
		break;
	}
	pthread_mutex_unlock(&fault->lock);
	return verdict;
}

/* ---- life --------------------------------------------------------------------------------- */

int base_fault_open(const char *text, struct base_fault **ret, struct base_error *err)
{
	struct base_fault *fault = calloc(1, sizeof(*fault));

	if (!fault || !(fault->text = strdup(text))) {
		free(fault);
		return base_error_set(err, -ENOMEM, "out of memory");
	}
	pthread_mutex_init(&fault->lock, NULL);
	memset(fault->fds, -1, sizeof(fault->fds));
	fault->is_file = text[0] == '/';
	if (fault->is_file)
		(void)has_changed(fault);
	fault->looked_ns = base_clock_ns();
	int rc = load(fault, err);
	if (rc == 0 && !fault->is_file && fault->rules.count == 0)
		rc = base_error_set(err, -EINVAL, "faults: no rule is given");
	if (rc < 0)
		base_fault_close(fault);
	else
		*ret = fault;
	return rc;
}

void base_fault_close(struct base_fault *fault)
{
	if (!fault)
		return;
	pthread_mutex_destroy(&fault->lock);
	free(fault->text);
	free(fault);
}

const char *base_fault_text(const struct base_fault *fault)
{
	return fault->text;
}

uint64_t base_fault_count(struct base_fault *fault)
{
	return atomic_load(&fault->count);
}
