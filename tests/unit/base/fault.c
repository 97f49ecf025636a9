/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of faults: what they are about, which of those they hit, and a file of them that changes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/park.h"
#include "base/types.h"

static void quiet(void)
{
	base_log_set_level(BASE_LOG_ERROR);
}

TestSuite(base_fault, .init = quiet);

static struct base_fault *open_rules(const char *text)
{
	struct base_fault *fault = NULL;
	struct base_error err = { 0 };

	cr_assert_eq(base_fault_open(text, &fault, &err), 0, "%s", err.text);
	return fault;
}

static struct base_fault_verdict judge(struct base_fault *fault, enum base_fault_op op)
{
	return base_fault_judge(fault, op, 7, 0, 4096);
}

Test(base_fault, what_can_never_happen_is_refused_by_its_words)
{
	static const char *const texts[] = {
		"op=write",
		"error=EWHAT",
		"error=EIO op=wrote",
		"delay=20",
		"delay=0s",
		"short torn",
		"drop op=read",
		"torn op=sync",
		"short error=EIO",
		"error=EIO rate=0",
		"error=EIO rate=2",
		"error=EIO rate=1x",
		"error=EIO nth=0",
		"error=EIO every=0",
		"error=EIO range=5",
		"error=EIO range=9-4",
		"error=EIO after=3s until=2s",
		"error=EIO pv=-1",
		"errors",
		"error=EIO seed=1",
		"error=EIO,op=read",
		"/no/such/file",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct base_fault *fault = NULL;
		struct base_error err = { 0 };
		int rc = base_fault_open(texts[i], &fault, &err);

		cr_expect_eq(rc, texts[i][0] == '/' ? -ENOENT : -EINVAL, "%s: %d", texts[i], rc);
		cr_expect(strlen(err.text) > 10, "%s: %s", texts[i], err.text);
	}
}

Test(base_fault, no_rule_at_all_is_refused_on_the_command_line)
{
	struct base_fault *fault = NULL;
	struct base_error err = { 0 };

	cr_expect_eq(base_fault_open("", &fault, &err), -EINVAL);
	cr_expect_eq(base_fault_open("# nothing", &fault, &err), -EINVAL);
}

Test(base_fault, the_nth_and_only_the_nth)
{
	struct base_fault *fault = open_rules("error=ENOSPC op=write nth=3");

	for (unsigned i = 1; i <= 10; i++) {
		struct base_fault_verdict verdict = judge(fault, BASE_FAULT_WRITE);

		cr_expect_eq(verdict.kind, i == 3 ? BASE_FAULT_ERROR : BASE_FAULT_NONE, "%u", i);
		cr_expect_eq(verdict.error, i == 3 ? -ENOSPC : 0);
		cr_expect_eq(judge(fault, BASE_FAULT_READ).kind, BASE_FAULT_NONE, "another kind is not counted");
	}
	cr_expect_eq(base_fault_count(fault), 1);
	base_fault_close(fault);
}

Test(base_fault, after_every_and_count_go_together)
{
	struct base_fault *fault = open_rules("drop:op=sync:after=4:every=3:count=2");
	char got[21] = "";

	for (unsigned i = 0; i < 20; i++)
		got[i] = judge(fault, BASE_FAULT_SYNC).kind == BASE_FAULT_DROP ? 'x' : '.';
	cr_expect_str_eq(got, "......x..x..........");
	base_fault_close(fault);
}

Test(base_fault, the_first_rule_that_fires_decides)
{
	struct base_fault *fault = open_rules("error=EIO op=read nth=2 ; delay=5ms op=read+write");

	cr_expect_eq(judge(fault, BASE_FAULT_READ).delay_ns, 5000000);
	cr_expect_eq(judge(fault, BASE_FAULT_READ).kind, BASE_FAULT_ERROR);
	cr_expect_eq(judge(fault, BASE_FAULT_READ).kind, BASE_FAULT_NONE);
	cr_expect_eq(judge(fault, BASE_FAULT_SYNC).delay_ns, 0);
	base_fault_close(fault);
}

Test(base_fault, a_range_is_of_bytes_that_are_touched)
{
	struct base_fault *fault = open_rules("torn range=1M-2M");

	cr_expect_eq(base_fault_judge(fault, BASE_FAULT_WRITE, 7, MIB - 4096, 4096).kind, BASE_FAULT_NONE);
	cr_expect_eq(base_fault_judge(fault, BASE_FAULT_WRITE, 7, MIB - 4096, 4097).kind, BASE_FAULT_TORN);
	cr_expect_eq(base_fault_judge(fault, BASE_FAULT_WRITE, 7, 2 * MIB - 1, 4096).error, -EIO);
	cr_expect_eq(base_fault_judge(fault, BASE_FAULT_WRITE, 7, 2 * MIB, 4096).kind, BASE_FAULT_NONE);
	base_fault_close(fault);
}

Test(base_fault, a_pv_is_found_by_its_descriptor_as_long_as_it_is_named)
{
	struct base_fault *fault = open_rules("error=EIO pv=1");

	base_fault_name_device(fault, 7, 1);
	base_fault_name_device(fault, 8, 0);
	cr_expect_eq(base_fault_judge(fault, BASE_FAULT_READ, 8, 0, 1).kind, BASE_FAULT_NONE);
	cr_expect_eq(base_fault_judge(fault, BASE_FAULT_READ, 7, 0, 1).kind, BASE_FAULT_ERROR);
	base_fault_name_device(fault, 7, UINT32_MAX);
	cr_expect_eq(base_fault_judge(fault, BASE_FAULT_READ, 7, 0, 1).kind, BASE_FAULT_NONE);
	base_fault_close(fault);
}

static unsigned hits_of(const char *text)
{
	struct base_fault *fault = open_rules(text);
	unsigned hits = 0;

	for (unsigned i = 0; i < 20000; i++)
		hits += judge(fault, BASE_FAULT_READ).kind == BASE_FAULT_ERROR;
	base_fault_close(fault);
	return hits;
}

Test(base_fault, a_rate_is_about_that_share_and_a_seed_repeats_it)
{
	unsigned hits = hits_of("seed=5;error=EIO rate=1%");

	cr_expect(hits > 120 && hits < 280, "%u of 20,000", hits);
	cr_expect_eq(hits_of("seed=5;error=EIO rate=0.01"), hits);
	cr_expect_eq(hits_of("error=EIO rate=100%"), 20000);
}

static void write_rules(const char *path, const char *text)
{
	char next[300];

	snprintf(next, sizeof(next), "%s.next", path);
	FILE *file = fopen(next, "w");
	cr_assert_not_null(file);
	fputs(text, file);
	fclose(file);
	cr_assert_eq(rename(next, path), 0);
}

static void await_kind(struct base_fault *fault, enum base_fault_kind kind)
{
	uint64_t deadline = base_clock_ns() + UINT64_C(5000000000);

	while (judge(fault, BASE_FAULT_WRITE).kind != kind)
		cr_assert_lt(base_clock_ns(), deadline, "the changed file has no effect");
}

Test(base_fault, a_file_of_rules_is_followed)
{
	char dir[] = "/tmp/bdfs-fault-XXXXXX", path[64];

	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/rules", dir);
	write_rules(path, "# none yet\n");
	struct base_fault *fault = open_rules(path);
	cr_expect_eq(judge(fault, BASE_FAULT_WRITE).kind, BASE_FAULT_NONE);
	write_rules(path, "seed=1\nerror=EIO op=write # all of them\n");
	await_kind(fault, BASE_FAULT_ERROR);
	write_rules(path, "not a rule\n");
	await_kind(fault, BASE_FAULT_NONE);
	write_rules(path, "torn\n");
	await_kind(fault, BASE_FAULT_TORN);
	unlink(path);
	await_kind(fault, BASE_FAULT_NONE);
	base_fault_close(fault);
	rmdir(dir);
}
