/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and paths in JSON.
 *
 * A file name is any bytes but '/' and NUL; a JSON string is UTF-8. What is
 * UTF-8 stands as it is. A byte that is no part of valid UTF-8 stands as the
 * code point U+10FF00 + byte, of the last private plane; a name that really
 * holds such a code point has its four bytes written that way, so every name
 * has one spelling and every spelling one name.
 *
 * Context: any thread, pure.
 */
#ifndef CMD_TEXT_H
#define CMD_TEXT_H

#include <jansson.h>

#include "base/error.h"

/* A new reference, or NULL when memory is short. NULL text gives JSON null. */
json_t *cmd_text_to_json(const char *bytes);

/* The bytes of a JSON string. Return: 0; -EINVAL (not a string, or a byte 0); -ENAMETOOLONG (not in room with its
 * NUL). */
MUST_CHECK int cmd_text_from_json(const json_t *text, char *buf, size_t room);

/* As cmd_text_from_json for a string's own bytes, which must be valid UTF-8. */
MUST_CHECK int cmd_text_decode(const char *utf8, char *buf, size_t room);

#endif
