/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viostat with an interval: asks the daemon again and again, and prints what came in
 * between, in the manner of iostat.
 *
 * The first report is of all since each VTD is served, as iostat's first is of all since
 * the start of the machine; its rates are averages over the time that bdfs can't know
 * (a VTD does not say since when it is served), so they are left out.
 *
 * A counter that is smaller than before is that of a VTD that was served anew: then what
 * it has now is what came in between.
 *
 * Failure modes: a daemon that goes away ends it with the error of that call.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/park.h"
#include "cli/cli.h"
#include "cmd/args.h"
#include "cmd/execute.h"

static uint64_t figure(const json_t *row, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(json_object_get(row, "stats"), key));
}

static const json_t *row_of(const json_t *rows, const char *vtd)
{
	const json_t *it;
	size_t i;

	json_array_foreach(rows, i, it)
		if (strcmp(json_string_value(json_object_get(it, "vtd")), vtd) == 0)
			return it;
	return NULL;
}

static uint64_t since(const json_t *row, const json_t *before, const char *key)
{
	uint64_t now = figure(row, key), then = before ? figure(before, key) : 0;

	return now >= then ? now - then : now;
}

static uint64_t requests_since(const json_t *row, const json_t *before)
{
	static const char *const kinds[] = { "reads", "writes", "flushes", "discards", "write_zeroes" };
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		sum += since(row, before, kinds[i]);
	return sum;
}

/* seconds: since the last report, 0 = this is the first. */
static void print_row(const json_t *row, const json_t *before, double seconds)
{
	uint64_t read_kb = since(row, before, "read_bytes") / 1024, write_kb = since(row, before, "write_bytes") / 1024;

	printf("%-20s ", json_string_value(json_object_get(row, "vtd")));
	if (seconds > 0)
		printf("%10.1f %10.1f ", (double)(read_kb + write_kb) / seconds,
		       (double)requests_since(row, before) / seconds);
	else
		printf("%10s %10s ", "-", "-");
	printf("%12llu %12llu %6llu\n", (unsigned long long)read_kb, (unsigned long long)write_kb,
	       (unsigned long long)figure(row, "inflight"));
}

static void print_report(const json_t *rows, const json_t *before, double seconds)
{
	const json_t *it;
	size_t i;

	printf("%-20s %10s %10s %12s %12s %6s\n", "VTD:", "Kbps", "tps", "Kb_read", "Kb_wrtn", "queue");
	json_array_foreach(rows, i, it)
		if (json_is_object(json_object_get(it, "stats")))
			print_row(it, before ? row_of(before, json_string_value(json_object_get(it, "vtd"))) : NULL,
				  seconds);
	printf("\n");
	fflush(stdout);
}

void cli_viostat(json_t *args, struct cmd_outcome *ret)
{
	int64_t interval = cmd_arg_number(args, "interval", 0), count = cmd_arg_number(args, "count", 0);
	uint64_t then_ns = 0;
	json_t *before = NULL;

	for (int64_t n = 0; count == 0 || n < count; n++) {
		struct timespec pause = { .tv_sec = interval };

		if (n > 0)
			nanosleep(&pause, NULL);
		cmd_execute(&cmd_viostat, args, NULL, ret);
		if (ret->code < 0)
			break;

		uint64_t now_ns = base_clock_ns();
		json_t *rows = json_object_get(ret->result, "stats");

		print_report(rows, before, n > 0 ? (double)(now_ns - then_ns) / 1e9 : 0);
		json_decref(before);
		before = json_incref(rows);
		then_ns = now_ns;
		cmd_outcome_done(ret);
	}
	json_decref(before);
}
