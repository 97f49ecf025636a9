/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines to JSON, as tables: what is typed and what the verb gets, or
 * what is complained about.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "cli/cli.h"

#define WORDS_MAX 16

/* Words stand between blanks. */
static int split(char *text, char *words[WORDS_MAX])
{
	char *rest = NULL;
	int count = 0;

	for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		words[count++] = word;
	return count;
}

static int parse(const struct cmd_verb *verb, const char *line, char *copy, struct cli_request *request,
		 struct base_error *err)
{
	char *words[WORDS_MAX];

	strcpy(copy, line);
	return cli_parse(verb, split(copy, words), words, request, err);
}

static const struct {
	const struct cmd_verb *verb;
	const char *line, *args;
} good[] = {
	{ &cmd_lssp, "", "{}" },
	{ &cmd_lssp, "-bd -sp vms", "{\"bd\": true, \"sp\": \"vms\"}" },
	{ &cmd_lssp, "--bd --sp vms", "{\"bd\": true, \"sp\": \"vms\"}" },
	{ &cmd_lssp, "--bd --sp=vms", "{\"bd\": true, \"sp\": \"vms\"}" },
	{ &cmd_lssp, "-sp=vms", "{\"sp\": \"vms\"}" },
	{ &cmd_lssp, "-occupancy -cells 10", "{\"occupancy\": true, \"cells\": 10}" },
	/* Sizes: a bare number counts megabytes. */
	{ &cmd_mkbdsp, "-sp vms 20G -bd web1",
	  "{\"sp\": \"vms\", \"size\": {\"bytes\": 21474836480, \"increment\": false}, \"bd\": \"web1\"}" },
	{ &cmd_mkbdsp, "5 -bd a", "{\"size\": {\"bytes\": 5242880, \"increment\": false}, \"bd\": \"a\"}" },
	{ &cmd_mkbdsp, "4096B -bd a", "{\"size\": {\"bytes\": 4096, \"increment\": false}, \"bd\": \"a\"}" },
	{ &cmd_mkbdsp, "64k -bd a", "{\"size\": {\"bytes\": 65536, \"increment\": false}, \"bd\": \"a\"}" },
	{ &cmd_mkbdsp, "1.5T -bd a", "{\"size\": {\"bytes\": 1649267441664, \"increment\": false}, \"bd\": \"a\"}" },
	{ &cmd_mkbdsp, "1P -bd a", "{\"size\": {\"bytes\": 1125899906842624, \"increment\": false}, \"bd\": \"a\"}" },
	{ &cmd_chbdsp, "-bd a -size +10G", "{\"bd\": \"a\", \"size\": {\"bytes\": 10737418240, \"increment\": true}}" },
	{ &cmd_chbdsp, "-bd a -size 10G", "{\"bd\": \"a\", \"size\": {\"bytes\": 10737418240, \"increment\": false}}" },
	{ &cmd_mksp, "vms -size 1G /a /b",
	  "{\"name\": \"vms\", \"size\": {\"bytes\": 1073741824, \"increment\": false}, \"path\": [\"/a\", \"/b\"]}" },
	{ &cmd_mksp, "vms /a -f /b", "{\"name\": \"vms\", \"path\": [\"/a\", \"/b\"], \"take-over\": true}" },
	{ &cmd_mksp, "vms -- -f", "{\"name\": \"vms\", \"path\": [\"-f\"]}" },
	{ &cmd_rmbdsp, "-bd a -f", "{\"bd\": \"a\", \"yes\": true}" },
	{ &cmd_rmbdsp, "-bd a --yes", "{\"bd\": \"a\", \"yes\": true}" },
	{ &cmd_rmbdsp, "-bd -", "{\"bd\": \"-\"}" },
	{ &cmd_rmbdsp, "--bd=-all", "{\"bd\": \"-all\"}" },
	{ &cmd_mount, "vms /mnt -o ro,allow_other",
	  "{\"pool\": \"vms\", \"mountpoint\": \"/mnt\", \"o\": \"ro,allow_other\"}" },
	{ &cmd_lu, "-create -lu a -size 7",
	  "{\"create\": true, \"lu\": \"a\", \"size\": {\"bytes\": 7340032, \"increment\": false}}" },
	{ &cmd_rmbdsp, "-bd \xff", "{\"bd\": \"\xf4\x8f\xbf\xbf\"}" }, /* cmd/text.h */
};

Test(cli_parse, lines_become_arguments)
{
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		char copy[256];
		struct cli_request request;
		struct base_error err = { 0 };
		json_t *expected = json_loads(good[i].args, 0, NULL);

		cr_assert_not_null(expected, "%s", good[i].args);
		cr_assert_eq(parse(good[i].verb, good[i].line, copy, &request, &err), 0, "%s: %s", good[i].line,
			     err.text);

		char *got = json_dumps(request.args, 0);

		cr_assert(json_equal(request.args, expected), "%s: got %s", good[i].line, got);
		free(got);
		json_decref(expected);
		cli_request_done(&request);
	}
}

static const struct {
	const struct cmd_verb *verb;
	const char *line, *complaint;
} bad[] = {
	{ &cmd_lssp, "-sp", "-sp: needs a value (POOL)" },
	{ &cmd_lssp, "-sp -bd", "-sp: needs a value" },
	{ &cmd_lssp, "-sp a -sp b", "-sp: given twice" },
	{ &cmd_lssp, "-bd -bd", "-bd: given twice" },
	{ &cmd_lssp, "-bd=yes", "no value" },
	{ &cmd_lssp, "-detial", "did you mean -detail?" },
	{ &cmd_lssp, "--sq vms", "did you mean -sp?" },
	{ &cmd_lssp, "-completely-else", "unknown option; see `bdfs help lssp`" },
	{ &cmd_lssp, "-deta", "unknown option" }, /* no abbreviations */
	{ &cmd_lssp, "vms", "one word too many" },
	{ &cmd_lssp, "-cells ten", "'ten' is not a number" },
	{ &cmd_lssp, "-cells 10x", "not a number" },
	{ &cmd_lssp, "-cells 99999999999999999999", "not a number" },
	{ &cmd_lssp, "-field", "-field: needs a value" },
	{ &cmd_lssp, "-field -bd", "-field: needs a value" },
	{ &cmd_mkbdsp, "20X -bd a", "20X" },
	{ &cmd_mkbdsp, "9223372036854775808B -bd a", "too large" },
	{ &cmd_mkbdsp, "20G 30G -bd a", "one word too many" },
	{ &cmd_chbdsp, "-bd a -size -5G", "-size" },
	{ &cmd_chbdsp, "-bd a -size 0.3K", "0.3K" },
};

Test(cli_parse, mistakes_are_refused_with_the_word)
{
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char copy[256];
		struct cli_request request;
		struct base_error err = { 0 };

		cr_assert_eq(parse(bad[i].verb, bad[i].line, copy, &request, &err), -EINVAL, "%s", bad[i].line);
		cr_assert_not_null(strstr(err.text, bad[i].complaint), "%s: %s", bad[i].line, err.text);
		cli_request_done(&request);
	}
}

Test(cli_parse, output_options_are_kept_apart)
{
	char copy[256];
	struct cli_request request;
	struct base_error err = { 0 };

	cr_assert_eq(parse(&cmd_lssp, "-field pool size -fmt : -header --json", copy, &request, &err), 0, "%s",
		     err.text);
	cr_assert_eq(json_object_size(request.args), 0);
	cr_assert_eq(json_array_size(request.format.fields), 2);
	cr_assert_str_eq(json_string_value(json_array_get(request.format.fields, 1)), "size");
	cr_assert_str_eq(request.format.delimiter, ":");
	cr_assert(request.format.header);
	cr_assert(request.format.json);
	cli_request_done(&request);
}

Test(cli_parse, a_delimiter_may_be_a_dash_or_stand_behind_an_equals_sign)
{
	char copy[256];
	struct cli_request request;

	cr_assert_eq(parse(&cmd_lssp, "-fmt -", copy, &request, NULL), 0);
	cr_assert_str_eq(request.format.delimiter, "-");
	cli_request_done(&request);
	cr_assert_eq(parse(&cmd_lssp, "--fmt=,", copy, &request, NULL), 0);
	cr_assert_str_eq(request.format.delimiter, ",");
	cli_request_done(&request);
}

Test(cli_parse, help_is_understood_everywhere)
{
	for (size_t i = 0; cmd_verbs[i]; i++) {
		char copy[16];
		struct cli_request request;

		cr_assert_eq(parse(cmd_verbs[i], "--help", copy, &request, NULL), 0);
		cr_assert(request.format.help, "%s", cmd_verbs[i]->name);
		cli_request_done(&request);
	}
}
