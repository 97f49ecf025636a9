/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arguments of verbs: the check against the option table, and the readers.
 *
 * A verb's table says which keys there are and of which type. The check walks
 * the arguments once: each key must be in the table, each value of its type,
 * each required option present. What passes can be read without looking at
 * types again; a reader tells only "absent" and "does not fit".
 *
 * Whether options go together (-size with -mv, say) is the verb's own business
 * and stays in its run().
 *
 * Failure modes: all of them are a user's or a peer's mistake, answered with
 * -EINVAL and a text that names the option the way it is typed.
 */
#include <errno.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/text.h"

static bool is_count(const json_t *value)
{
	return json_is_integer(value) && json_integer_value(value) >= 0;
}

static bool is_size(const json_t *value)
{
	const json_t *increment = json_object_get(value, "increment");

	if (is_count(value))
		return true;
	return is_count(json_object_get(value, "bytes")) && (!increment || json_is_boolean(increment));
}

static bool is_list_of_strings(const json_t *value)
{
	size_t i;
	const json_t *item;

	if (!json_is_array(value) || json_array_size(value) == 0)
		return false;
	json_array_foreach(value, i, item)
		if (!json_is_string(item))
			return false;
	return true;
}

static bool has_kind(const json_t *value, enum cmd_kind kind)
{
	switch (kind) {
	case CMD_FLAG:
		return json_is_boolean(value);
	case CMD_TEXT:
		return json_is_string(value);
	case CMD_SIZE:
		return is_size(value);
	case CMD_NUMBER:
		return is_count(value);
	case CMD_LIST:
		return is_list_of_strings(value);
	}
	return false;
}

static const char *kind_words(enum cmd_kind kind)
{
	static const char *const words[] = {
		[CMD_FLAG] = "true or false", [CMD_TEXT] = "a string",          [CMD_SIZE] = "a size in bytes",
		[CMD_NUMBER] = "a number",    [CMD_LIST] = "a list of strings",
	};

	return words[kind];
}

static const char *dash(const struct cmd_option *option)
{
	return option->flags & CMD_POSITIONAL ? "" : "-";
}

static int check_one(const struct cmd_verb *verb, const char *key, const json_t *value, struct base_error *err)
{
	const struct cmd_option *option = cmd_option_find(verb, key);

	if (!option)
		return base_error_set(err, -EINVAL, "%s: unknown option; see `bdfs help %s`", key, verb->name);
	if (option->flags & CMD_LATER)
		return base_error_set(err, -EOPNOTSUPP, "%s%s: %s", dash(option), option->name, option->help);
	if (!has_kind(value, option->kind))
		return base_error_set(err, -EINVAL, "%s%s: must be %s", dash(option), option->name,
				      kind_words(option->kind));
	return 0;
}

int cmd_args_check(const struct cmd_verb *verb, const json_t *args, struct base_error *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(args))
		return base_error_set(err, -EINVAL, "arguments must be an object");
	json_object_foreach((json_t *)args, key, value) {
		int r = check_one(verb, key, value, err);

		if (r < 0)
			return r;
	}
	for (const struct cmd_option *o = verb->options; o->name; o++)
		if ((o->flags & CMD_REQUIRED) && !json_object_get(args, o->name))
			return base_error_set(err, -EINVAL, "%s%s%s%s is missing; see `bdfs help %s`", dash(o),
					      o->flags & CMD_POSITIONAL ? o->value : o->name,
					      o->flags & CMD_POSITIONAL ? "" : " ",
					      o->flags & CMD_POSITIONAL ? "" : o->value, verb->name);
	return 0;
}

bool cmd_arg_is_set(const json_t *args, const char *name)
{
	return json_object_get(args, name) != NULL;
}

bool cmd_arg_flag(const json_t *args, const char *name)
{
	return json_is_true(json_object_get(args, name));
}

static int read_text(const json_t *text, const char *name, char *buf, size_t room, struct base_error *err)
{
	int r = cmd_text_from_json(text, buf, room);

	if (r == -ENAMETOOLONG)
		return base_error_set(err, r, "%s: longer than %zu bytes", name, room - 1);
	if (r < 0)
		return base_error_set(err, r, "%s: not a text", name);
	return 0;
}

int cmd_arg_text(const json_t *args, const char *name, char *buf, size_t room, struct base_error *err)
{
	const json_t *text = json_object_get(args, name);

	buf[0] = '\0';
	return text ? read_text(text, name, buf, room, err) : CMD_ARG_ABSENT;
}

int cmd_arg_size(const json_t *args, const char *name, struct base_size *ret)
{
	const json_t *value = json_object_get(args, name);

	if (!value)
		return CMD_ARG_ABSENT;
	if (json_is_integer(value)) {
		*ret = (struct base_size){ .bytes = (uint64_t)json_integer_value(value) };
		return 0;
	}
	ret->bytes = (uint64_t)json_integer_value(json_object_get(value, "bytes"));
	ret->is_increment = json_is_true(json_object_get(value, "increment"));
	return 0;
}

int64_t cmd_arg_number(const json_t *args, const char *name, int64_t if_absent)
{
	const json_t *value = json_object_get(args, name);

	return value ? (int64_t)json_integer_value(value) : if_absent;
}

size_t cmd_arg_list_count(const json_t *args, const char *name)
{
	return json_array_size(json_object_get(args, name));
}

int cmd_arg_list_item(const json_t *args, const char *name, size_t i, char *buf, size_t room, struct base_error *err)
{
	return read_text(json_array_get(json_object_get(args, name), i), name, buf, room, err);
}

int cmd_arg_one_of(const json_t *args, const char *const names[], struct base_error *err)
{
	char list[200] = "";
	int found = -1;

	for (int i = 0; names[i]; i++) {
		size_t used = strlen(list);

		const char *between = names[i + 1] ? ", " : " or ";

		snprintf(list + used, sizeof(list) - used, "%s-%s", i == 0 ? "" : between, names[i]);
		if (!cmd_arg_is_set(args, names[i]))
			continue;
		if (found >= 0)
			return base_error_set(err, -EINVAL, "-%s and -%s can't go together: give one of them",
					      names[found], names[i]);
		found = i;
	}
	if (found < 0)
		return base_error_set(err, -EINVAL, "one of %s is needed", list);
	return found;
}

json_t *cmd_size_to_json(const struct base_size *size)
{
	return json_pack("{s:I, s:b}", "bytes", (json_int_t)size->bytes, "increment", size->is_increment);
}
