/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that a user typed. Context: a command's own process, where its working directory is known. */
#ifndef CMD_PATHS_H
#define CMD_PATHS_H

#include <jansson.h>
#include <limits.h>

#include "base/error.h"

/*
 * The absolute path, with links resolved as far as it exists; its last component need not exist, and is
 * not looked into (a dead mount may lie there). Return: 0; -ENOENT and others with err.
 */
MUST_CHECK int cmd_path_absolute(const char *path, char ret[PATH_MAX], struct base_error *err);

/* Replaces the strings of list args[key], if it is there, by absolute paths. */
MUST_CHECK int cmd_paths_make_absolute(json_t *args, const char *key, struct base_error *err);

#endif
