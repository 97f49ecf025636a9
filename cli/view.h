/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists, as VIOS lays them out: which columns a result's array has.
 *
 * A view belongs to one verb and one key of its result. Its columns are fields
 * for -field; those that are not shown by default are at the end.
 */
#ifndef CLI_VIEW_H
#define CLI_VIEW_H

#include <jansson.h>

#include "base/types.h"

#define CLI_CELL_BYTES_MAX 4096

struct cli_column {
	const char *field;  /* what -field calls it; NULL ends the list */
	const char *header; /* as VIOS prints it */
	bool right;         /* a number */
	bool extra;         /* only by -field */
	/* Writes what the record has in this column. Raw bytes of names, not yet safe for a terminal. */
	void (*cell)(const json_t *record, const char *key, char buf[CLI_CELL_BYTES_MAX]);
	const char *key; /* cell's, or NULL */
};

struct cli_view {
	const char *verb;
	const char *key;
	bool stanza; /* by default a paragraph a record instead of a line */
	const struct cli_column *columns;
};

/* NULL: the result has no list. */
const struct cli_view *cli_view_find(const char *verb, const json_t *result);
/* -field is not particular about case. NULL: no such field. */
const struct cli_column *cli_view_column(const struct cli_view *view, const char *field);

#endif
