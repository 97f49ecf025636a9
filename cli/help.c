/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Help that teaches, from the verbs' own tables.
 *
 * `bdfs help` is the list of verbs; `bdfs help VERB` and `bdfs VERB --help` are
 * one page: how it is written, what it does, its options, examples, exit
 * statuses. The text is data of the verb, so it can't lag behind its options.
 *
 * `bdfs help --list` and `bdfs help VERB --list` print bare words for shells to
 * complete.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

#define OPTION_COLUMN 26
#define WIDTH 79

void cli_help_overview(void)
{
	printf("bdfs: thin virtual disks in a storage pool, shown as files\n\n");
	printf("usage: bdfs VERB [OPTION...]\n\n");
	for (size_t i = 0; cmd_verbs[i]; i++)
		printf("  %-8s %s\n", cmd_verbs[i]->name, cmd_verbs[i]->summary);
	printf("  %-8s %s\n\n", "help", "explain a verb: `bdfs help mksp`");
	printf("Options are written with one dash or two (-sp vms, --sp vms, --sp=vms). Every verb has --json.\n");
	printf("To begin: bdfs mksp vms -size 20G; bdfs mount vms /mnt; bdfs mkbdsp -sp vms 5G -bd web1\n");
}

/* Each line of text, indented. */
static void print_lines(const char *text)
{
	while (*text) {
		size_t length = strcspn(text, "\n");

		printf("  %.*s\n", (int)length, text);
		text += length + (text[length] == '\n');
	}
}

/* Text whose lines are paragraphs, broken at blanks; the first line begins at column at, the others at indent. */
static void print_wrapped(const char *text, size_t at, size_t indent)
{
	while (*text) {
		size_t word = strcspn(text, " \n");

		if (at > indent && at + 1 + word > WIDTH) {
			putchar('\n');
			at = 0;
		}
		/* A blank between words, or all the blanks before the first of a line. */
		printf("%*s%.*s", at > indent ? 1 : (int)(indent - at), "", (int)word, text);
		at = MAX(at + (at > indent), indent) + word;
		text += word;
		if (*text == '\n') {
			putchar('\n');
			at = 0;
		}
		text += *text != '\0';
	}
	putchar('\n');
}

static void print_section(const char *title, const char *text)
{
	printf("\n%s\n", title);
	print_lines(text);
}

static void print_option(const struct cmd_option *o)
{
	bool place = o->flags & CMD_POSITIONAL;
	char left[64];

	snprintf(left, sizeof(left), "%s%s%s%s%s%s", place ? "" : "-", place ? o->value : o->name,
		 o->alias ? ", -" : "", o->alias ? o->alias : "", !place && o->value ? " " : "",
		 !place && o->value ? o->value : "");
	printf("  %s", left);
	if (strlen(left) >= OPTION_COLUMN)
		putchar('\n');
	print_wrapped(o->help, strlen(left) < OPTION_COLUMN ? 2 + strlen(left) : 0, 3 + OPTION_COLUMN);
}

static void print_options(const struct cmd_option *table)
{
	for (const struct cmd_option *o = table; o->name; o++)
		if (!(o->flags & (CMD_LATER | CMD_HIDDEN)))
			print_option(o);
}

void cli_help_verb(const struct cmd_verb *verb)
{
	printf("bdfs %s: %s\n", verb->name, verb->summary);
	print_section("How it is written", verb->synopsis);
	printf("\nWhat it does\n");
	print_wrapped(verb->about, 0, 2);
	printf("\nOptions\n");
	print_options(verb->options);
	print_options(cli_output_options);
	print_section("Examples", verb->examples);
	printf("\nExit status\n");
	printf("  0 done; 1 wrong usage; 2 not found; 3 no access; 4 not completed; 18 out of memory\n");
	if (verb->exits)
		print_lines(verb->exits);
}

static void list_options(const struct cmd_option *table)
{
	for (const struct cmd_option *o = table; o->name; o++)
		if (!(o->flags & (CMD_POSITIONAL | CMD_LATER | CMD_HIDDEN)))
			printf("-%s\n", o->name);
}

void cli_help_list(const struct cmd_verb *verb)
{
	if (verb) {
		list_options(verb->options);
		list_options(cli_output_options);
		return;
	}
	for (size_t i = 0; cmd_verbs[i]; i++)
		printf("%s\n", cmd_verbs[i]->name);
	printf("help\n");
}
