/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results, as they are printed.
 *
 * Four ways, in this order of choice: --json, the result as it came; -fmt, one
 * record a line; a table, for results that have a list; else the verb's own few
 * words, in the manner of VIOS (render_text.c), often none.
 *
 * Names are arbitrary bytes. In a table the library makes them safe for the
 * terminal; with -fmt a control character is written \xNN, so that a record is
 * one line whatever its name.
 *
 * Failure modes: a field that the list has not (-EINVAL, with those it has);
 * -fmt, -field or -header where there is no list; no memory.
 */
#include <errno.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <string.h>

#include "cli/render.h"
#include "cmd/text.h"

#define COLUMNS_MAX 32

struct columns {
	const struct cli_column *list[COLUMNS_MAX];
	size_t count;
};

static int refuse_field(const struct cli_view *view, const char *field, struct base_error *err)
{
	char list[400] = "";

	for (const struct cli_column *c = view->columns; c->field; c++) {
		size_t used = strlen(list);

		snprintf(list + used, sizeof(list) - used, " %s", c->field);
	}
	return base_error_set(err, -EINVAL, "-field %s: there is no such field; there are:%s", field, list);
}

static int choose_columns(const struct cli_view *view, const json_t *fields, struct columns *ret,
			  struct base_error *err)
{
	*ret = (struct columns){ 0 };
	if (!fields)
		for (const struct cli_column *c = view->columns; c->field; c++)
			if (!c->extra)
				ret->list[ret->count++] = c;
	for (size_t i = 0; i < json_array_size(fields); i++) {
		const char *field = json_string_value(json_array_get(fields, i));
		const struct cli_column *column = cli_view_column(view, field);

		if (!column)
			return refuse_field(view, field, err);
		if (ret->count == COLUMNS_MAX)
			return base_error_set(err, -EINVAL, "-field: more than %d fields", COLUMNS_MAX);
		ret->list[ret->count++] = column;
	}
	return 0;
}

static void print_escaped(const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < ' ' || c == 0x7f)
			printf("\\x%02x", c);
		else
			putchar(c);
	}
}

static void print_separated(const struct columns *columns, const char *delimiter, bool header, const json_t *records)
{
	char cell[CLI_CELL_BYTES_MAX];
	const json_t *record;
	size_t i;

	for (size_t c = 0; header && c < columns->count; c++)
		printf("%s%s%s", c ? delimiter : "", columns->list[c]->field, c + 1 == columns->count ? "\n" : "");
	json_array_foreach(records, i, record) {
		for (size_t c = 0; c < columns->count; c++) {
			columns->list[c]->cell(record, columns->list[c]->key, cell);
			fputs(c ? delimiter : "", stdout);
			print_escaped(cell);
		}
		putchar('\n');
	}
}

static int fill_table(struct libscols_table *table, const struct columns *columns, const json_t *records)
{
	char cell[CLI_CELL_BYTES_MAX];
	const json_t *record;
	size_t i;

	for (size_t c = 0; c < columns->count; c++)
		if (!scols_table_new_column(table, columns->list[c]->header, 0,
					    columns->list[c]->right ? SCOLS_FL_RIGHT : 0))
			return -ENOMEM;
	json_array_foreach(records, i, record) {
		struct libscols_line *line = scols_table_new_line(table, NULL);

		if (!line)
			return -ENOMEM;
		for (size_t c = 0; c < columns->count; c++) {
			columns->list[c]->cell(record, columns->list[c]->key, cell);
			if (scols_line_set_data(line, c, cell) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

static int print_table(const struct columns *columns, const json_t *records)
{
	struct libscols_table *table = scols_new_table();
	int r = table ? fill_table(table, columns, records) : -ENOMEM;

	if (r == 0) {
		scols_table_set_column_separator(table, "  ");
		r = scols_print_table(table);
	}
	scols_unref_table(table);
	return r;
}

static void print_stanzas(const struct columns *columns, const json_t *records)
{
	char cell[CLI_CELL_BYTES_MAX];
	const json_t *record;
	size_t i;

	json_array_foreach(records, i, record) {
		if (i)
			putchar('\n');
		for (size_t c = 0; c < columns->count; c++) {
			columns->list[c]->cell(record, columns->list[c]->key, cell);
			printf("%s: ", columns->list[c]->header);
			print_escaped(cell);
			putchar('\n');
		}
	}
}

static int print_list(const struct cmd_verb *verb, const struct cli_view *view, const struct cli_format *format,
		      const json_t *result, struct base_error *err)
{
	const json_t *records = json_object_get(result, view->key);
	struct columns columns;
	int r = choose_columns(view, format->fields, &columns, err);

	if (r < 0)
		return r;
	if (format->delimiter) {
		print_separated(&columns, format->delimiter, format->header, records);
		return 0;
	}
	if (!format->fields)
		cli_print_before(verb, result);
	if (view->stanza)
		print_stanzas(&columns, records);
	else if (json_array_size(records) || verb != &cmd_lssp || strcmp(view->key, "pools") != 0)
		r = print_table(&columns, records);
	else
		cli_complain(NULL, "there is no pool yet: make one with `bdfs mksp`");
	return r < 0 ? base_error_set(err, -ENOMEM, "out of memory for the table") : 0;
}

int cli_render(const struct cmd_verb *verb, const struct cli_format *format, const json_t *result,
	       struct base_error *err)
{
	const struct cli_view *view = cli_view_find(verb->name, result);
	bool as_list = format->delimiter || format->fields;

	if (format->json || verb == &cmd_dump) {
		json_dumpf(result, stdout, JSON_INDENT(2));
		putchar('\n');
		return 0;
	}
	if (format->header && !format->delimiter)
		return base_error_set(err, -EINVAL, "-header: goes with -fmt");
	if (format->delimiter && !format->delimiter[0])
		return base_error_set(err, -EINVAL, "-fmt: an empty delimiter");
	if (as_list && !view)
		return base_error_set(err, -EINVAL, "-fmt and -field: this has no list to print; use --json");
	if (view && (as_list || !cli_print_text(verb, result)))
		return print_list(verb, view, format, result, err);
	if (!view)
		cli_print_text(verb, result);
	return 0;
}
