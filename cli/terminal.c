/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal: a question, a progress line, complaints, Ctrl-C.
 *
 * Questions and progress go to standard error and only if that is a terminal, so
 * that standard output is always just the result.
 *
 * Ctrl-C sets a flag. Work that reports progress sees it at its next report and
 * ends in order; a verb that is about to finish finishes. The second Ctrl-C has
 * its usual meaning: the process ends at once, which is no danger either (the
 * pool is opened after it as after any death of its process).
 *
 * A complaint may quote a name, and a name may hold control characters: those
 * come out as '?', so that no name can drive the terminal.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

#define REDRAW_NS 100000000

static volatile sig_atomic_t interrupted;

static struct {
	struct timespec drawn;
	bool on_screen;
} line;

bool cli_can_ask(void)
{
	return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

static void print_safely(const char *text)
{
	for (; *text; text++)
		fputc((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text, stderr);
}

bool cli_confirm(const char *question)
{
	char answer[16];

	print_safely(question);
	fputs(" [y/N] ", stderr);
	if (!fgets(answer, sizeof(answer), stdin))
		return false;
	answer[strcspn(answer, "\n")] = '\0';
	return strcmp(answer, "y") == 0 || strcmp(answer, "Y") == 0 || strcmp(answer, "yes") == 0;
}

static void on_interrupt(int number)
{
	interrupted = 1;
}

static bool is_time_to_draw(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	int64_t since_ns = (int64_t)(now.tv_sec - line.drawn.tv_sec) * 1000000000 + now.tv_nsec - line.drawn.tv_nsec;

	if (line.on_screen && since_ns < REDRAW_NS)
		return false;
	line.drawn = now;
	return true;
}

static int report(struct cmd_progress *progress, const char *what, uint64_t done, uint64_t total)
{
	if (isatty(STDERR_FILENO) && is_time_to_draw()) {
		fputs("\r\033[K", stderr);
		print_safely(what);
		if (total)
			fprintf(stderr, ": %llu %%", (unsigned long long)(100.0 * (double)done / (double)total));
		fflush(stderr);
		line.on_screen = true;
	}
	return interrupted;
}

void cli_progress_begin(struct cmd_progress *progress)
{
	struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND };

	progress->report = report;
	sigaction(SIGINT, &action, NULL);
}

void cli_progress_end(void)
{
	if (line.on_screen)
		fputs("\r\033[K", stderr);
	line.on_screen = false;
}

void cli_complain(const char *verb, const char *text)
{
	fflush(stdout);
	fprintf(stderr, "bdfs%s%s: ", verb ? " " : "", verb ? verb : "");
	print_safely(text);
	fputc('\n', stderr);
}
