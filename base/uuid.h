/* SPDX-License-Identifier: Apache-2.0 */
/* 128-bit identities (RFC 9562 version 4), shown as 8-4-4-4-12 hexadecimal digits. Context: any thread. */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include "base/types.h"

#define BASE_UUID_TEXT_BYTES 37

struct base_uuid base_uuid_new(void);
char *base_uuid_to_text(struct base_uuid uuid, char buf[BASE_UUID_TEXT_BYTES]);
/* Returns 0, or -EINVAL when text is not a UUID (with or without dashes). */
int base_uuid_parse(const char *text, struct base_uuid *ret);
bool base_uuid_equal(struct base_uuid a, struct base_uuid b);

#endif
