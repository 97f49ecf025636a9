/* SPDX-License-Identifier: Apache-2.0 */
/* The two halves of rendering: lists (render.c) and a verb's own words (render_text.c). */
#ifndef CLI_RENDER_H
#define CLI_RENDER_H

#include "cli/cli.h"
#include "cli/view.h"

/* The verb's own words for a result. Return: false when it has none and a list is to be printed. */
bool cli_print_text(const struct cmd_verb *verb, const json_t *result);
/* render_map.c: adapters and their VTDs, a stanza each. */
bool cli_print_map(const json_t *result);
/* What stands above a list. */
void cli_print_before(const struct cmd_verb *verb, const json_t *result);

#endif
