/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of events on standard output, a line each.
 *
 * Lines go out at once, so that whoever reads a pipe sees them when they come.
 * Ctrl-C has its usual meaning here: there is nothing to end in order.
 *
 * Failure modes: output that can't be written ends the stream.
 */
#include <stdio.h>
#include <time.h>

#include "cli/cli.h"
#include "cmd/text.h"

static void print_text(const json_t *event)
{
	time_t when = (time_t)json_integer_value(json_object_get(event, "time_s"));
	const char *kind = json_string_value(json_object_get(event, "event"));
	char text[1024] = "", time_text[32] = "";
	struct tm tm;

	if (when)
		strftime(time_text, sizeof(time_text), "%Y-%m-%d %H:%M:%S ", localtime_r(&when, &tm));
	if (cmd_text_from_json(json_object_get(event, "text"), text, sizeof(text)) < 0)
		text[0] = '\0';
	printf("%s%s: ", time_text, kind ? kind : "?");
	for (const char *p = text; *p; p++)
		putchar((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
	if (!when)
		printf(" (%lld)", (long long)json_integer_value(json_object_get(event, "value")));
	putchar('\n');
}

static int show_text(struct cmd_progress *progress, const json_t *event)
{
	(void)progress;
	print_text(event);
	return fflush(stdout);
}

static int show_json(struct cmd_progress *progress, const json_t *event)
{
	(void)progress;
	json_dumpf(event, stdout, JSON_COMPACT);
	putchar('\n');
	return fflush(stdout);
}

static int no_report(struct cmd_progress *progress, const char *what, uint64_t done, uint64_t total)
{
	(void)progress;
	(void)what;
	(void)done;
	(void)total;
	return 0;
}

void cli_follow_begin(struct cmd_progress *progress, bool json)
{
	progress->report = no_report;
	progress->event = json ? show_json : show_text;
}
