/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words of a command line to a verb's JSON arguments.
 *
 * The verb's option table says what there is. A word that starts with one dash
 * or two is an option: -sp and --sp are the same, and so are "-sp vms" and
 * "--sp=vms". Other words are taken by place. "--" ends the options.
 *
 * This is not getopt_long_only(): that takes abbreviations, so that a script's
 * -s works until an option is added, it has no options with several values
 * (-field a b c), and it can't say "did you mean".
 *
 * A list option takes words up to the next option. A value that is itself the
 * name of one of the verb's options is taken for a forgotten value: "-sp -bd
 * web1" is refused instead of looking for a pool called "-bd".
 *
 * Failure modes: unknown, repeated, without its value, not a number or size, too
 * many words: -EINVAL with the word as it was typed. Which options go together
 * is the verb's business.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cli/cli.h"
#include "cmd/args.h"
#include "cmd/text.h"

const struct cmd_option cli_output_options[] = {
	{ "json", NULL, CMD_FLAG, 0, NULL, "print the result as JSON, sizes in bytes" },
	{ "fmt", NULL, CMD_TEXT, 0, "D", "lists: one record a line, fields joined by D, no header" },
	{ "field", NULL, CMD_LIST, 0, "FIELD...", "lists: these fields, in this order" },
	{ "header", NULL, CMD_FLAG, 0, NULL, "-fmt: names of the fields in the first line" },
	{ "help", "h", CMD_FLAG, 0, NULL, "print this text" },
	{ 0 },
};

struct parser {
	const struct cmd_verb *verb;
	int count;
	char *const *words;
	int at;
	struct cli_request *request;
	struct base_error *err;
};

static const struct cmd_option *find_in(const struct cmd_option *table, const char *name, size_t length)
{
	for (const struct cmd_option *o = table; o->name; o++) {
		if (o->flags & CMD_POSITIONAL)
			continue;
		if ((strlen(o->name) == length && memcmp(o->name, name, length) == 0) ||
		    (o->alias && strlen(o->alias) == length && memcmp(o->alias, name, length) == 0))
			return o;
	}
	return NULL;
}

/* The name within an option word: behind its dashes, up to '='. NULL: the word is no option. */
static const char *option_name(const char *word, size_t *ret_length)
{
	if (word[0] != '-' || word[1] == '\0')
		return NULL;

	const char *name = word + (word[1] == '-' ? 2 : 1);

	*ret_length = strcspn(name, "=");
	return name;
}

static const struct cmd_option *find_option(const struct parser *p, const char *word)
{
	size_t length;
	const char *name = option_name(word, &length);
	const struct cmd_option *option = name ? find_in(p->verb->options, name, length) : NULL;

	return option || !name ? option : find_in(cli_output_options, name, length);
}

static int refuse_unknown(const struct parser *p, const char *word)
{
	const char *near = cli_nearest_option(p->verb, word + strspn(word, "-"));

	if (near)
		return base_error_set(p->err, -EINVAL, "%s: unknown option; did you mean -%s?", word, near);
	return base_error_set(p->err, -EINVAL, "%s: unknown option; see `bdfs help %s`", word, p->verb->name);
}

static json_t *parse_size(const char *text, struct base_error *err)
{
	struct base_size size;

	return base_size_parse(text, MIB, &size, err) < 0 ? NULL : cmd_size_to_json(&size);
}

static json_t *parse_number(const char *text, struct base_error *err)
{
	char *end;

	errno = 0;

	long long n = strtoll(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || errno) {
		base_error_set(err, -EINVAL, "'%s' is not a number", text);
		return NULL;
	}
	return json_integer(n);
}

/* New reference, or NULL with err. */
static json_t *parse_value(const struct parser *p, const struct cmd_option *option, const char *text)
{
	if (option->kind == CMD_SIZE)
		return parse_size(text, p->err);
	if (option->kind == CMD_NUMBER)
		return parse_number(text, p->err);
	return cmd_text_to_json(text);
}

/* NULL, without err, when there is none. */
static json_t *parse_list(struct parser *p)
{
	json_t *list = json_array();

	while (p->at < p->count && (p->words[p->at][0] != '-' || p->words[p->at][1] == '\0'))
		json_array_append_new(list, cmd_text_to_json(p->words[p->at++]));
	if (json_array_size(list))
		return list;
	json_decref(list);
	return NULL;
}

static json_t *refuse_valueless(const struct parser *p, const struct cmd_option *option, const char *word)
{
	base_error_set(p->err, -EINVAL, "%s: needs a value (%s)", word, option->value);
	return NULL;
}

/* What stands behind an option: after '=' or in the words that follow. New reference, or NULL with err. */
static json_t *take_value(struct parser *p, const struct cmd_option *option, const char *word)
{
	const char *inline_value = strchr(word, '=');

	if (option->kind == CMD_FLAG && !inline_value)
		return json_true();
	if (option->kind == CMD_FLAG) {
		base_error_set(p->err, -EINVAL, "%s: this option has no value", word);
		return NULL;
	}
	if (option->kind == CMD_LIST) {
		json_t *list = inline_value ? json_pack("[o]", cmd_text_to_json(inline_value + 1)) : parse_list(p);

		return list ? list : refuse_valueless(p, option, word);
	}
	if (!inline_value && (p->at == p->count || find_option(p, p->words[p->at])))
		return refuse_valueless(p, option, word);
	return parse_value(p, option, inline_value ? inline_value + 1 : p->words[p->at++]);
}

static bool is_output_option(const struct cmd_option *option)
{
	for (const struct cmd_option *o = cli_output_options; o->name; o++)
		if (o == option)
			return true;
	return false;
}

/* Takes value. */
static int store_output(struct parser *p, const struct cmd_option *option, const char *word, json_t *value)
{
	struct cli_format *format = &p->request->format;

	if (strcmp(option->name, "field") == 0) {
		json_decref(format->fields);
		format->fields = value;
		return 0;
	}
	if (strcmp(option->name, "fmt") == 0) /* the word itself lives longer than its JSON */
		format->delimiter = strchr(word, '=') ? strchr(word, '=') + 1 : p->words[p->at - 1];
	else if (strcmp(option->name, "json") == 0)
		format->json = true;
	else if (strcmp(option->name, "header") == 0)
		format->header = true;
	else
		format->help = true;
	json_decref(value);
	return 0;
}

static int take_option(struct parser *p, const struct cmd_option *option)
{
	const char *word = p->words[p->at++];

	if (!is_output_option(option) && json_object_get(p->request->args, option->name))
		return base_error_set(p->err, -EINVAL, "%s: given twice", word);

	json_t *value = take_value(p, option, word);

	if (!value)
		return p->err && p->err->code ? base_error_wrap(p->err, "-%s", option->name) : -ENOMEM;
	if (is_output_option(option))
		return store_output(p, option, word, value);
	return json_object_set_new(p->request->args, option->name, value) ? -ENOMEM : 0;
}

/* The first by-place option that has nothing yet; a list always takes more. */
static const struct cmd_option *next_place(const struct parser *p)
{
	for (const struct cmd_option *o = p->verb->options; o->name; o++)
		if ((o->flags & CMD_POSITIONAL) && (o->kind == CMD_LIST || !json_object_get(p->request->args, o->name)))
			return o;
	return NULL;
}

static int take_place(struct parser *p)
{
	const char *word = p->words[p->at++];
	const struct cmd_option *option = next_place(p);
	json_t *args = p->request->args;

	if (!option)
		return base_error_set(p->err, -EINVAL, "'%s': one word too many; see `bdfs help %s`", word,
				      p->verb->name);
	if (option->kind == CMD_LIST) {
		json_t *list = json_object_get(args, option->name);

		if (!list) {
			list = json_array();
			json_object_set_new(args, option->name, list);
		}
		return json_array_append_new(list, cmd_text_to_json(word)) ? -ENOMEM : 0;
	}

	json_t *value = parse_value(p, option, word);

	if (!value)
		return p->err && p->err->code ? base_error_wrap(p->err, "%s", option->value) : -ENOMEM;
	return json_object_set_new(args, option->name, value) ? -ENOMEM : 0;
}

int cli_parse(const struct cmd_verb *verb, int count, char *const words[], struct cli_request *ret,
	      struct base_error *err)
{
	struct parser p = { .verb = verb, .count = count, .words = words, .request = ret, .err = err };
	bool options_ended = false;
	int r = 0;

	*ret = (struct cli_request){ .args = json_object() };
	while (p.at < count && r == 0) {
		const char *word = words[p.at];
		const struct cmd_option *option = options_ended ? NULL : find_option(&p, word);

		if (option) {
			r = take_option(&p, option);
		} else if (options_ended || word[0] != '-' || word[1] == '\0') {
			r = take_place(&p);
		} else if (strcmp(word, "--") == 0) {
			options_ended = true;
			p.at++;
		} else {
			r = refuse_unknown(&p, word);
		}
	}
	return r;
}

void cli_request_done(struct cli_request *request)
{
	json_decref(request->args);
	json_decref(request->format.fields);
	*request = (struct cli_request){ 0 };
}
