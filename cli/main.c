/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bdfs: the command.
 *
 * `bdfs VERB [OPTION...]`: look the verb up, parse its words, ask if it wants to
 * be asked, carry it out (cmd/execute.h knows where), print its result, and turn
 * how it ended into an exit status. Nothing is decided here that a verb could
 * decide.
 *
 * Called as mount.bdfs it is mount(8)'s helper.
 *
 * Failure modes: every error is one line on standard error, "bdfs VERB: what was
 * asked: what stands against it"; with --json it is also an object on standard
 * output. A result that can't be written (a full disk behind the redirection) is
 * "not completed".
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cmd/execute.h"
#include "cmd/text.h"
#include "vtd/run_helper.h"

static int fail(const struct cmd_verb *verb, const struct cli_format *format, const struct cmd_outcome *outcome)
{
	if (format->json && !outcome->result) {
		json_t *error = cmd_outcome_to_json(outcome);

		json_dumpf(error, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(error);
	}
	cli_complain(verb->name, outcome->err.text);
	return cmd_exit_status(verb->name, outcome->code, outcome->subject);
}

static void warn(const struct cmd_verb *verb, const json_t *result)
{
	const json_t *unavailable = json_object_get(result, "unavailable"), *it;
	char text[BASE_ERROR_TEXT_BYTES], line[BASE_ERROR_TEXT_BYTES + 32];
	size_t i;

	if (cmd_text_from_json(json_object_get(result, "warning"), text, sizeof(text)) == 0) {
		snprintf(line, sizeof(line), "warning: %s", text);
		cli_complain(verb->name, line);
	}
	json_array_foreach(unavailable, i, it)
		if (cmd_text_from_json(json_object_get(it, "error"), text, sizeof(text)) == 0)
			cli_complain(verb->name, text);
}

/* Return: false when the user said no. */
static bool ask(const struct cmd_verb *verb, json_t *args)
{
	char question[1024];

	if (!verb->question || !cli_can_ask() || !verb->question(args, question, sizeof(question)))
		return true;
	if (!cli_confirm(question))
		return false;
	json_object_set_new(args, "yes", json_true());
	return true;
}

static int print_outcome(const struct cmd_verb *verb, const struct cli_format *format, const json_t *args,
			 struct cmd_outcome *outcome)
{
	struct base_error err = { 0 };

	/* What a stream had to say it has said. */
	if (outcome->result && !(cmd_verb_needs(verb, args) & CMD_LONG)) {
		int r = cli_render(verb, format, outcome->result, &err);

		if (r < 0) {
			cli_complain(verb->name, err.text);
			return cmd_exit_status(verb->name, r, CMD_SUBJECT_NONE);
		}
		warn(verb, outcome->result);
	}
	return outcome->code < 0 ? fail(verb, format, outcome) : CMD_EXIT_OK;
}

static int report_at_interval(const struct cmd_verb *verb, struct cli_request *request)
{
	const struct cli_format *format = &request->format;
	struct cmd_outcome outcome = { 0 };

	if (format->json || format->delimiter || format->fields)
		outcome.code = base_error_set(&outcome.err, -EINVAL,
					      "-json, -fmt and -field go without INTERVAL: they give the sums");
	else
		cli_viostat(request->args, &outcome);

	int status = outcome.code < 0 ? fail(verb, format, &outcome) : CMD_EXIT_OK;

	cmd_outcome_done(&outcome);
	return status;
}

static int carry_out(const struct cmd_verb *verb, struct cli_request *request)
{
	struct cmd_progress progress = { 0 };
	struct cmd_outcome outcome = { 0 };

	if (!ask(verb, request->args)) {
		cli_complain(verb->name, "nothing was done");
		return CMD_EXIT_NOT_COMPLETED;
	}
	if (verb == &cmd_viostat && json_object_get(request->args, "interval"))
		return report_at_interval(verb, request);
	if (cmd_verb_needs(verb, request->args) & CMD_LONG)
		cli_follow_begin(&progress, request->format.json);
	else
		cli_progress_begin(&progress);
	cmd_execute(verb, request->args, &progress, &outcome);
	cli_progress_end();

	int status = print_outcome(verb, &request->format, request->args, &outcome);

	cmd_outcome_done(&outcome);
	return status;
}

static int run_verb(const struct cmd_verb *verb, int count, char *words[])
{
	struct cmd_outcome outcome = { 0 };
	struct cli_request request;
	int status;

	outcome.code = cli_parse(verb, count, words, &request, &outcome.err);
	if (outcome.code < 0) {
		if (!outcome.err.code)
			base_error_set(&outcome.err, outcome.code, "out of memory");
		status = fail(verb, &request.format, &outcome);
	} else if (request.format.help) {
		cli_help_verb(verb);
		status = CMD_EXIT_OK;
	} else {
		status = carry_out(verb, &request);
	}
	cli_request_done(&request);
	return status;
}

static int refuse_verb(const char *typed)
{
	const char *why = cli_verb_of_later(typed), *near = cli_nearest_verb(typed);
	char text[256];

	if (why)
		snprintf(text, sizeof(text), "%s", why);
	else if (near)
		snprintf(text, sizeof(text), "unknown verb; did you mean `bdfs %s`?", near);
	else
		snprintf(text, sizeof(text), "unknown verb; `bdfs help` lists them");
	cli_complain(typed, text);
	return CMD_EXIT_USAGE;
}

static int help(int count, char *words[])
{
	bool list = count > 0 && strcmp(words[count - 1], "--list") == 0;
	int names = list ? count - 1 : count;
	const struct cmd_verb *verb = names > 0 ? cmd_verb_find(words[0]) : NULL;

	if (names > 1) {
		cli_complain("help", "one verb at a time");
		return CMD_EXIT_USAGE;
	}
	if (names == 1 && !verb)
		return refuse_verb(words[0]);
	if (list)
		cli_help_list(verb);
	else if (verb)
		cli_help_verb(verb);
	else
		cli_help_overview();
	return CMD_EXIT_OK;
}

#ifdef BDFS_PLANTED_BUGS
static const char planted_note[] = " (with planted bugs: for tests, never for data)";
#else
static const char planted_note[] = "";
#endif

static int dispatch(int argc, char *argv[])
{
	const char *word = argc > 1 ? argv[1] : "";
	const struct cmd_verb *verb = cmd_verb_find(word);

	if (strcmp(word, VTD_HELPER_WORD) == 0) /* the daemon's, of itself */
		return vtd_helper_main(argc - 2, argv + 2);
	if (verb)
		return run_verb(verb, argc - 2, argv + 2);
	if (strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-help") == 0 ||
	    strcmp(word, "-h") == 0)
		return help(argc - 2, argv + 2);
	if (strcmp(word, "--version") == 0 || strcmp(word, "-version") == 0) {
		printf("bdfs %s%s\n", BDFS_VERSION, planted_note);
		return CMD_EXIT_OK;
	}
	if (word[0])
		return refuse_verb(word);
	cli_complain(NULL, "which verb? `bdfs help` lists them");
	return CMD_EXIT_USAGE;
}

int main(int argc, char *argv[])
{
	const char *name = argc > 0 && strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];

	if (name && strcmp(name, "mount.bdfs") == 0)
		return cli_mount_helper(argc, argv);

	int status = dispatch(argc, argv);

	if (fflush(stdout) != 0 || ferror(stdout)) {
		cli_complain(NULL, "the output could not be written");
		return status == CMD_EXIT_OK ? CMD_EXIT_NOT_COMPLETED : status;
	}
	return status;
}
