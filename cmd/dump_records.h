/* SPDX-License-Identifier: Apache-2.0 */
/* All records of a pool's metadata as JSON, one record a line. Context: CTL; blocks. */
#ifndef CMD_DUMP_RECORDS_H
#define CMD_DUMP_RECORDS_H

#include <stdio.h>

#include "base/error.h"

/*
 * Writes {"format": 1, "records": [...]} for the metadata in directory, whether its pool is mounted, can be opened, or
 * neither; it holds a few records in memory at a time. A record whose checksum is wrong is written with "bad": true,
 * one that does not decode with its bytes.
 * Return: 0; -ENOENT, -EBADMSG: no metadata there; -EIO: it can't be read on; what a failed write to `out` gave.
 */
MUST_CHECK int cmd_dump_records(const char *directory, FILE *out, struct base_error *err);

#endif
