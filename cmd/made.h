/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mksp made beside the metadata, so that rmsp knows what to remove: a small
 * JSON file `made-by-mksp` in the pool's directory. Files that were there before
 * are the user's and stay.
 */
#ifndef CMD_MADE_H
#define CMD_MADE_H

#include "base/error.h"
#include "base/types.h"

#include <jansson.h>

/* rmsp's mark of a pool that is being removed; goes last of all. */
#define CMD_MADE_MARK_NAME "being-removed"

/* files: absolute paths as cmd/text.h writes them. Return: 0; negative errno with err. */
MUST_CHECK int cmd_made_write(const char *directory, bool made_directory, json_t *files, struct base_error *err);
/* New reference; an object without members when there is no such file or it can't be read. */
json_t *cmd_made_read(const char *directory);
bool cmd_made_has_file(const json_t *made, const char *path);
bool cmd_made_has_directory(const json_t *made);

/*
 * Removes a pool's metadata and our own files from directory, and directory itself when mksp made it.
 * Names that are not ours stay; ret_left: a name that stayed in a directory that should have gone, or "".
 */
MUST_CHECK int cmd_made_remove(const char *directory, const json_t *made, char ret_left[NAME_BYTES_MAX + 1],
			       struct base_error *err);

#endif
