/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of faults, from text.
 *
 *   error=NAME   torn   short   drop   delay=TIME      what happens, at least one; of the
 *                                                      first four at most one, but torn
 *                                                      may have an error=
 *   op=read+write+sync+discard   pv=N   range=A-B      which operations
 *   nth=N   every=N   after=N|TIME   until=TIME        which of those
 *   count=N   rate=R
 *   seed=N                                             a line of its own: of rate
 *
 * A rule that could never do what it says (a drop of reads, a torn sync) is
 * refused: who rehearses must not believe in a fault that does not come. For the
 * same reason an unknown word is refused, and a rule that says nothing.
 *
 * Failure modes: -EINVAL with the word; -E2BIG for too many rules.
 */
#include "base/fault_parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"

#define RULE_BYTES_MAX 1024
#define RW (1u << BASE_FAULT_READ | 1u << BASE_FAULT_WRITE)
#define ALL_OPS ((1u << BASE_FAULT_OPS) - 1)

static const struct {
	const char *name;
	int error;
} errors[] = {
	{ "EIO", EIO },         { "ENOSPC", ENOSPC },       { "EROFS", EROFS },   { "ENOMEM", ENOMEM },
	{ "EDQUOT", EDQUOT },   { "EFBIG", EFBIG },         { "EINVAL", EINVAL }, { "ETIMEDOUT", ETIMEDOUT },
	{ "ENODEV", ENODEV },   { "EREMOTEIO", EREMOTEIO }, { "EILSEQ", EILSEQ }, { "EOPNOTSUPP", EOPNOTSUPP },
	{ "EBADMSG", EBADMSG }, { "ENOLINK", ENOLINK },
};

static const char *const op_names[BASE_FAULT_OPS] = { "read", "write", "sync", "discard" };

static int take_error(struct fault_rule *rule, const char *value)
{
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		if (strcmp(errors[i].name, value) == 0) {
			rule->error = -errors[i].error;
			return 0;
		}
	}
	return -EINVAL;
}

static int take_number(const char *value, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(value, &end, 10);
	return value[0] < '0' || value[0] > '9' || *end || errno ? -EINVAL : 0;
}

/* "20ms", "1.5s", "300us". */
static int take_time(const char *value, uint64_t *ret_ns)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = { { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 }, { "m", 60e9 } };
	char *end;
	double n = strtod(value, &end);

	if (value[0] < '0' || value[0] > '9' || n < 0 || n > 1e6)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (strcmp(end, units[i].unit) == 0) {
			*ret_ns = (uint64_t)(n * units[i].ns);
			return 0;
		}
	}
	return -EINVAL;
}

static int take_ops(struct fault_rule *rule, char *value)
{
	char *rest = value, *name;

	rule->ops = 0;
	while ((name = strsep(&rest, "+"))) {
		unsigned op = 0;

		while (op < BASE_FAULT_OPS && strcmp(op_names[op], name) != 0)
			op++;
		if (op == BASE_FAULT_OPS)
			return -EINVAL;
		rule->ops |= 1u << op;
	}
	return 0;
}

/* "1M-2M", "4096-", "-1G": bytes of the pv, the second not included. */
static int take_range(struct fault_rule *rule, char *value)
{
	struct base_size from = { 0 }, to = { .bytes = UINT64_MAX };
	char *dash = strchr(value, '-');
	int rc = 0;

	if (!dash)
		return -EINVAL;
	*dash = '\0';
	if (value[0])
		rc = base_size_parse(value, 1, &from, NULL);
	if (rc == 0 && dash[1])
		rc = base_size_parse(dash + 1, 1, &to, NULL);
	*dash = '-';
	rule->from = from.bytes;
	rule->to = to.bytes;
	return rc < 0 || rule->from >= rule->to ? -EINVAL : 0;
}

static int take_rate(struct fault_rule *rule, const char *value)
{
	char *end;
	double n = strtod(value, &end);

	if (*end == '%') {
		n /= 100;
		end++;
	}
	rule->rate = (uint64_t)(n * (double)FAULT_RATE_ONE + 0.5);
	return value[0] < '0' || value[0] > '9' || *end || !(n > 0 && n <= 1) ? -EINVAL : 0;
}

static int take_nth(struct fault_rule *rule, const char *value)
{
	int rc = take_number(value, &rule->skip);

	if (rc < 0 || rule->skip == 0)
		return -EINVAL;
	rule->skip--;
	rule->count = 1;
	return 0;
}

static int take_after(struct fault_rule *rule, const char *value)
{
	return take_number(value, &rule->skip) == 0 ? 0 : take_time(value, &rule->begin_ns);
}

static int take_value(struct fault_rule *rule, const char *key, char *value)
{
	uint64_t n;

	if (strcmp(key, "error") == 0)
		return take_error(rule, value);
	if (strcmp(key, "delay") == 0)
		return take_time(value, &rule->delay_ns) < 0 || rule->delay_ns == 0 ? -EINVAL : 0;
	if (strcmp(key, "op") == 0)
		return take_ops(rule, value);
	if (strcmp(key, "range") == 0)
		return take_range(rule, value);
	if (strcmp(key, "rate") == 0)
		return take_rate(rule, value);
	if (strcmp(key, "nth") == 0)
		return take_nth(rule, value);
	if (strcmp(key, "after") == 0)
		return take_after(rule, value);
	if (strcmp(key, "until") == 0)
		return take_time(value, &rule->end_ns);
	if (strcmp(key, "every") == 0)
		return take_number(value, &rule->every) < 0 || rule->every == 0 ? -EINVAL : 0;
	if (strcmp(key, "count") == 0)
		return take_number(value, &rule->count) < 0 || rule->count == 0 ? -EINVAL : 0;
	if (strcmp(key, "pv") == 0) {
		int rc = take_number(value, &n);

		rule->device = (unsigned)n;
		return rc < 0 || n > 4095 ? -EINVAL : 0;
	}
	return -EINVAL;
}

static int take_kind(struct fault_rule *rule, const char *word)
{
	enum base_fault_kind kind = strcmp(word, "torn") == 0    ? BASE_FAULT_TORN
				    : strcmp(word, "short") == 0 ? BASE_FAULT_SHORT
				    : strcmp(word, "drop") == 0  ? BASE_FAULT_DROP
								 : BASE_FAULT_NONE;

	if (kind == BASE_FAULT_NONE || rule->kind != BASE_FAULT_NONE)
		return -EINVAL;
	rule->kind = kind;
	return 0;
}

static int take_word(struct fault_rule *rule, char *word)
{
	char *equals = strchr(word, '=');

	if (!equals)
		return take_kind(rule, word);
	*equals = '\0';
	int rc = take_value(rule, word, equals + 1);
	*equals = '=';
	return rc;
}

/* What is left open by the words, and whether they go together. */
static int complete_rule(struct fault_rule *rule, const char *text, struct base_error *err)
{
	unsigned able = rule->kind == BASE_FAULT_TORN    ? 1u << BASE_FAULT_WRITE
			: rule->kind == BASE_FAULT_SHORT ? RW
			: rule->kind == BASE_FAULT_DROP  ? ALL_OPS & ~(1u << BASE_FAULT_READ)
							 : ALL_OPS;

	if (rule->kind == BASE_FAULT_NONE && rule->error != 0)
		rule->kind = BASE_FAULT_ERROR;
	if (rule->kind == BASE_FAULT_NONE && rule->delay_ns == 0)
		return base_error_set(
			err, -EINVAL,
			"faults: '%s' says nothing that is to happen: error=, torn, short, drop or delay=", text);
	if ((rule->kind == BASE_FAULT_SHORT || rule->kind == BASE_FAULT_DROP) && rule->error != 0)
		return base_error_set(err, -EINVAL, "faults: '%s': an error= goes with neither short nor drop", text);
	if (rule->kind == BASE_FAULT_TORN && rule->error == 0)
		rule->error = -EIO;
	if (rule->ops == 0)
		rule->ops = able;
	if (rule->ops & ~able)
		return base_error_set(
			err, -EINVAL,
			"faults: '%s': torn is of writes, short of reads and writes, drop of all but reads", text);
	if (rule->end_ns <= rule->begin_ns)
		return base_error_set(err, -EINVAL, "faults: '%s' ends before it begins", text);
	return 0;
}

static int parse_rule(const char *text, struct fault_rules *rules, struct base_error *err)
{
	struct fault_rule *rule = &rules->rules[rules->count];
	char copy[RULE_BYTES_MAX], *rest = copy, *word;

	*rule = (struct fault_rule){ .device = UINT_MAX,
				     .to = UINT64_MAX,
				     .count = UINT64_MAX,
				     .end_ns = UINT64_MAX,
				     .rate = FAULT_RATE_ONE };
	strcpy(copy, text);
	while ((word = strsep(&rest, " \t:"))) {
		if (!word[0])
			continue;
		if (strncmp(word, "seed=", 5) == 0) {
			if (take_number(word + 5, &rules->seed) == 0 && strcmp(word, text) == 0)
				return 0;
			return base_error_set(err, -EINVAL, "faults: '%s': seed=NUMBER stands alone", text);
		}
		if (take_word(rule, word) < 0)
			return base_error_set(err, -EINVAL, "faults: '%s' in '%s' can't be understood", word, text);
	}
	rules->count++;
	return complete_rule(rule, text, err);
}

static char *trim(char *text)
{
	size_t length;

	text += strspn(text, " \t:");
	length = strlen(text);
	while (length > 0 && strchr(" \t:\r", text[length - 1]))
		text[--length] = '\0';
	return text;
}

int fault_parse(const char *text, struct fault_rules *ret, struct base_error *err)
{
	char *copy = strdup(text), *rest = copy, *line;
	int rc = copy ? 0 : base_error_set(err, -ENOMEM, "out of memory");

	*ret = (struct fault_rules){ 0 };
	while (rc == 0 && (line = strsep(&rest, "\n"))) {
		char *one;

		line[strcspn(line, "#")] = '\0';
		while (rc == 0 && (one = strsep(&line, ";"))) {
			one = trim(one);
			if (!one[0])
				continue;
			if (strlen(one) >= RULE_BYTES_MAX)
				rc = base_error_set(err, -EINVAL, "faults: a rule is longer than %d bytes",
						    RULE_BYTES_MAX - 1);
			else if (ret->count == FAULT_RULES_MAX)
				rc = base_error_set(err, -E2BIG, "faults: more than %d rules", FAULT_RULES_MAX);
			else
				rc = parse_rule(one, ret, err);
		}
	}
	free(copy);
	return rc;
}
