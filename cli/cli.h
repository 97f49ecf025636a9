/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of bdfs: from words to a verb's JSON arguments, and from its
 * JSON result to what people and scripts read.
 *
 * Context: the one thread of a command.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "cmd/outcome.h"
#include "cmd/verb.h"

/* How a result is to be shown: options that every verb has. */
struct cli_format {
	bool help;
	bool json;
	bool header;           /* with -fmt */
	const char *delimiter; /* -fmt, or NULL; argv's */
	json_t *fields;        /* -field: array of strings, or NULL; owned */
};

struct cli_request {
	json_t *args; /* owned */
	struct cli_format format;
};

/* Ends with { 0 }. */
extern const struct cmd_option cli_output_options[];

/* parse.c. words: what follows the verb. Return: 0; -EINVAL and others with err. cli_request_done in every case. */
MUST_CHECK int cli_parse(const struct cmd_verb *verb, int count, char *const words[], struct cli_request *ret,
			 struct base_error *err);
void cli_request_done(struct cli_request *request);

/* suggest.c. */
/* The verb or option nearest to a mistyped one, or NULL when none is near. */
const char *cli_nearest_verb(const char *typed);
const char *cli_nearest_option(const struct cmd_verb *verb, const char *typed);
/* Why a verb that VIOS has is not here yet, or NULL. */
const char *cli_verb_of_later(const char *typed);

/* help.c; all to standard output. */
void cli_help_overview(void);
void cli_help_verb(const struct cmd_verb *verb);
/* For completion: one word a line. verb NULL: the verbs; else its options. */
void cli_help_list(const struct cmd_verb *verb);

/* render.c. Return: 0; -EINVAL (a field that there is not; -fmt for what is no list) with err; -ENOMEM. */
MUST_CHECK int cli_render(const struct cmd_verb *verb, const struct cli_format *format, const json_t *result,
			  struct base_error *err);

/* mount_helper.c. mount(8)'s helper; returns its exit status. */
int cli_mount_helper(int argc, char *argv[]);

/* terminal.c. */
/* Asks on the terminal. Return: true for yes. */
bool cli_confirm(const char *question);
bool cli_can_ask(void);
/* Progress on the terminal, and Ctrl-C as a wish to stop (the second one kills). */
void cli_progress_begin(struct cmd_progress *progress);
void cli_progress_end(void);
/* follow.c. For a stream of events: prints each as it comes, as a line of text or of JSON. Ctrl-C just ends it. */
void cli_follow_begin(struct cmd_progress *progress, bool json);
/* viostat.c. Reports at an interval, until args' count or an error, which is in *ret. */
void cli_viostat(json_t *args, struct cmd_outcome *ret);
/* To standard error, safe on a terminal: "bdfs VERB: text". verb may be NULL. */
void cli_complain(const char *verb, const char *text);

#endif
