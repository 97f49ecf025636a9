/* SPDX-License-Identifier: Apache-2.0 */
/* What restore and import share: where a pool that comes back lives, and its physical volumes. Context: CTL. */
#ifndef CMD_BRING_BACK_H
#define CMD_BRING_BACK_H

#include "cmd/registry.h"
#include "cmd/verb.h"
#include "meta/restore.h"

struct cmd_bring_back {
	char name[NAME_BYTES_MAX + 1];
	char directory[PATH_MAX]; /* is there from cmd_bring_back_begin() on */
	bool made_directory, registered;
	struct meta_restore_pv *pvs;
	unsigned pv_count;
};

/*
 * Chooses the directory: args' "dir", else the one that the name is registered with, else STATE/NAME; and makes it.
 * Return: 0; -EEXIST: the name is registered with another directory; others of the file system.
 */
MUST_CHECK int cmd_bring_back_begin(struct cmd_bring_back *to, const char *name, const json_t *args,
				    struct base_error *err);
/* Opens and locks those of args' list "pv". */
MUST_CHECK int cmd_bring_back_open_pvs(struct cmd_bring_back *to, const json_t *args, struct base_error *err);
MUST_CHECK int cmd_bring_back_register(struct cmd_bring_back *to, struct base_error *err);
/* Closes the pvs; unless it is done, removes a directory that was made. */
void cmd_bring_back_end(struct cmd_bring_back *to, bool done);

/* A meta_restore_args.disk; ctx is the JSON array that it adds to. */
void cmd_bring_back_note_disk(const struct meta_disk_record *rec, void *ctx);

#endif
