/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of verbs: the one place that knows them all.
 *
 * Everything that goes over verbs (the command's look-up and its suggestions,
 * the help, completion, the daemon's dispatch, the test that each verb has its
 * section in the man page) goes over this table, so a new verb is one file and
 * one line here.
 *
 * The order is the order of the help: pools, then disks, then who has them, then care.
 */
#include <string.h>

#include "cmd/verb.h"

const struct cmd_verb *const cmd_verbs[] = {
	&cmd_mksp,   &cmd_lssp, &cmd_chsp,  &cmd_rmsp, &cmd_mount,   &cmd_umount, &cmd_mkbdsp, &cmd_chbdsp,
	&cmd_rmbdsp, &cmd_lu, &cmd_snapshot, &cmd_inflate, &cmd_jobs, &cmd_send, &cmd_receive,
	&cmd_mkvdev, &cmd_rmvdev, &cmd_lsmap, &cmd_lsdev, &cmd_chdev,   &cmd_rmdev,  &cmd_viostat,
	&cmd_mklv, &cmd_lslv, &cmd_extendlv, &cmd_rmlv, &cmd_cplv,
	&cmd_check, &cmd_dump, &cmd_restore, &cmd_import, &cmd_alert,  &cmd_events,
	&cmd_bench, NULL,
};

const struct cmd_verb *cmd_verb_find(const char *name)
{
	for (size_t i = 0; cmd_verbs[i]; i++)
		if (strcmp(cmd_verbs[i]->name, name) == 0)
			return cmd_verbs[i];
	return NULL;
}

const struct cmd_option *cmd_option_find(const struct cmd_verb *verb, const char *name)
{
	for (const struct cmd_option *o = verb->options; o->name; o++)
		if (strcmp(o->name, name) == 0)
			return o;
	return NULL;
}

unsigned cmd_verb_needs(const struct cmd_verb *verb, const json_t *args)
{
	return verb->needs ? verb->needs(args) : 0;
}
