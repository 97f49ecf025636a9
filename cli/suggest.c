/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Did you mean": the name nearest to a mistyped one.
 *
 * Nearness is the number of letters to insert, drop, change or swap with their
 * neighbour (the optimal string alignment distance), at most a third of the
 * name and never more than two: a guess that is far off confuses more than none.
 *
 * Verbs that VIOS has and this release has not are named as such instead.
 */
#include <string.h>

#include "cli/cli.h"

#define NAME_MAX_LETTERS 32

static const char *const later_verbs[] = { "mkrep",  "chrep",  "rmrep",   "lsrep",     "mkvopt", "rmvopt",
					   "lsvopt", "chvopt", "loadopt", "unloadopt", "viosbr", "lsvdev" };

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	return MIN(MIN(a, b), c);
}

static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][NAME_MAX_LETTERS + 1];
	size_t a_length = strlen(a), b_length = strlen(b);

	if (a_length > NAME_MAX_LETTERS || b_length > NAME_MAX_LETTERS)
		return NAME_MAX_LETTERS;
	for (size_t j = 0; j <= b_length; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= a_length; i++) {
		unsigned *now = rows[i % 3], *one_up = rows[(i + 2) % 3], *two_up = rows[(i + 1) % 3];

		now[0] = (unsigned)i;
		for (size_t j = 1; j <= b_length; j++) {
			now[j] = min3(one_up[j] + 1, now[j - 1] + 1, one_up[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = MIN(now[j], two_up[j - 2] + 1);
		}
	}
	return rows[a_length % 3][b_length];
}

struct nearest {
	const char *typed;
	const char *name;
	unsigned distance;
};

static void consider(struct nearest *best, const char *name)
{
	unsigned d = distance(best->typed, name);
	unsigned limit = MIN(2, MAX(1, (unsigned)strlen(name) / 3));

	if (d <= limit && (!best->name || d < best->distance)) {
		best->name = name;
		best->distance = d;
	}
}

const char *cli_nearest_verb(const char *typed)
{
	struct nearest best = { .typed = typed };

	for (size_t i = 0; cmd_verbs[i]; i++)
		consider(&best, cmd_verbs[i]->name);
	consider(&best, "help");
	return best.name;
}

static void consider_table(struct nearest *best, const struct cmd_option *table)
{
	for (const struct cmd_option *o = table; o->name; o++)
		if (!(o->flags & (CMD_POSITIONAL | CMD_LATER | CMD_HIDDEN)))
			consider(best, o->name);
}

const char *cli_nearest_option(const struct cmd_verb *verb, const char *typed)
{
	struct nearest best = { .typed = typed };

	consider_table(&best, verb->options);
	consider_table(&best, cli_output_options);
	return best.name;
}

const char *cli_verb_of_later(const char *typed)
{
	for (size_t i = 0; i < ARRAY_LEN(later_verbs); i++)
		if (strcmp(later_verbs[i], typed) == 0)
			return "not in this release, which has pools, disks and targets but no media";
	return NULL;
}
