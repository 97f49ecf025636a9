/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import: brings a pool back from its physical volumes, when its directory is lost.
 *
 * meta/import.h does it, with the copy of the metadata that the pool keeps on its
 * first physical volume; where the directory goes is restore's choice
 * (cmd/bring_back.h), by the name that the copy has.
 *
 * What can be said of what is lost: when the copy was taken, the disks that it
 * has, whether the pool was closed in order with it; else how many commits came
 * after it, as the labels tell, and which disks those changed, as far as the first
 * pv has a list of them (meta/changed.h); without one it may be any.
 *
 * Failure modes: no copy, or a damaged one; a physical volume that is missing, in
 * use, or of another pool; a pool in the directory.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/args.h"
#include "cmd/bring_back.h"
#include "cmd/text.h"
#include "meta/import.h"

#define NAMES_TOLD 20 /* in the text; the JSON has all */
#define TEXT_BYTES ((2 * NAMES_TOLD + 8) * (size_t)(NAME_BYTES_MAX * 6 + 2))

static const struct cmd_option options[] = {
	{ "pv", NULL, CMD_LIST, CMD_POSITIONAL | CMD_REQUIRED, "PV",
	  "all physical volumes of the pool, in any order" },
	{ "dir", NULL, CMD_TEXT, 0, "DIRECTORY", "where the metadata goes" },
	{ 0 },
};

static bool is_of(const struct meta_import_report *report, unsigned i, enum meta_changed_what what)
{
	bool in_copy = report->names[i][0];

	return report->changed.entries[i].what == what && in_copy == (what != META_CHANGED_MADE);
}

/* The names of those disks of the copy, or (made since) only how many, as nobody knows what they were called. */
static json_t *changed_disks(const struct meta_import_report *report, enum meta_changed_what what)
{
	json_t *names = json_array();

	for (unsigned i = 0; report->changed_known && i < report->changed.count; i++)
		if (is_of(report, i, what))
			json_array_append_new(names, cmd_text_to_json(report->names[i]));
	return names;
}

/* "a, b and 7 more" */
static void append_names(char *text, size_t room, const json_t *names)
{
	const json_t *name;
	size_t i;

	json_array_foreach(names, i, name) {
		size_t used = strlen(text);
		if (i < NAMES_TOLD)
			snprintf(text + used, room - used, "%s%.*s", i > 0 ? ", " : " ", NAME_BYTES_MAX,
				 json_string_value(name));
		else if (i == NAMES_TOLD)
			snprintf(text + used, room - used, " and %zu more", json_array_size(names) - i);
	}
}

static void append_changed(char *text, size_t room, const struct meta_import_report *report)
{
	json_t *changed = changed_disks(report, META_CHANGED_DATA), *made = changed_disks(report, META_CHANGED_MADE),
	       *gone = changed_disks(report, META_CHANGED_GONE);
	size_t used = strlen(text);

	if (json_array_size(changed) > 0)
		snprintf(text + used, room - used, " what was changed since is lost, in the disks");
	else
		snprintf(text + used, room - used, " no disk that is in the copy was changed since");
	append_names(text, room, changed);
	used = strlen(text);
	if (json_array_size(made) > 0)
		snprintf(text + used, room - used, "; %zu disks made since are lost", json_array_size(made));
	used = strlen(text);
	if (json_array_size(gone) > 0)
		snprintf(text + used, room - used, "; removed since, and back:");
	append_names(text, room, gone);
	used = strlen(text);
	snprintf(text + used, room - used,
		 "; what nobody had flushed in the last second, or was changed last before a loss of power, is lost in "
		 "any disk");
	json_decref(changed);
	json_decref(made);
	json_decref(gone);
}

static json_t *what_is_lost(const struct meta_import_report *report)
{
	char when[64] = "", commits[64] = "", text[TEXT_BYTES];
	time_t made_s = (time_t)report->copy_made_s;
	struct tm tm;

	if (report->closed)
		return json_null();
	if (localtime_r(&made_s, &tm))
		strftime(when, sizeof(when), "%F %T", &tm);
	uint64_t since = report->restore.label_commit > report->copy_commit
				 ? report->restore.label_commit - report->copy_commit
				 : 0;
	if (since > 0)
		snprintf(commits, sizeof(commits), " (at least %" PRIu64 " commits)", since);
	snprintf(text, sizeof(text), "the pool was in use after its metadata was copied (%s, commit %" PRIu64 ")%s:",
		 when, report->copy_commit, commits);
	if (report->changed_known)
		append_changed(text, sizeof(text), report);
	else
		strcat(text, " what was changed since is lost, in any of the disks listed; disks made since are lost, "
			     "disks removed since are back");
	return json_string(text);
}

static json_t *report_to_json(const struct meta_import_report *report, const struct cmd_bring_back *to, json_t *disks)
{
	json_t *lost = what_is_lost(report);
	json_t *result = json_pack(
		"{s:o, s:o, s:I, s:I, s:I, s:b, s:O, s:O}", "pool", cmd_text_to_json(report->restore.name),
		"directory", cmd_text_to_json(to->directory), "commit", (json_int_t)report->copy_commit, "made_s",
		(json_int_t)report->copy_made_s, "label_commit", (json_int_t)report->restore.label_commit, "whole",
		report->closed, "lost", lost, "disks", disks);

	if (json_is_string(lost))
		json_object_set(result, "warning", lost);
	json_decref(lost);
	if (report->closed || !report->changed_known)
		return result;
	json_t *made = changed_disks(report, META_CHANGED_MADE);
	json_object_set_new(result, "changed_since", changed_disks(report, META_CHANGED_DATA));
	json_object_set_new(result, "removed_since", changed_disks(report, META_CHANGED_GONE));
	json_object_set_new(result, "made_since", json_integer((json_int_t)json_array_size(made)));
	json_decref(made);
	return result;
}

static int import(struct cmd_bring_back *to, const json_t *args, json_t **ret_result, struct base_error *err)
{
	json_t *disks = json_array();
	struct meta_restore_args restore_args = { .disk = cmd_bring_back_note_disk, .disk_ctx = disks };
	struct meta_import_report report = { .names = NULL };
	char name[NAME_BYTES_MAX + 1];
	int r = cmd_bring_back_open_pvs(to, args, err);

	if (r == 0)
		r = meta_import_name(to->pvs, to->pv_count, NULL, NULL, name, err);
	if (r == 0)
		r = cmd_bring_back_begin(to, name, args, err);
	if (r == 0) {
		restore_args.dir = to->directory;
		restore_args.pvs = to->pvs;
		restore_args.pv_count = to->pv_count;
		r = meta_import(&restore_args, &report, err);
	}
	if (r == 0)
		r = cmd_bring_back_register(to, err);
	if (r == 0)
		*ret_result = report_to_json(&report, to, disks);
	free(report.names);
	json_decref(disks);
	return r;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_bring_back to = { 0 };
	int r = import(&to, args, ret_result, err);

	cmd_bring_back_end(&to, r == 0);
	return r;
}

const struct cmd_verb cmd_import = {
	.name = "import",
	.summary = "bring a pool back from its physical volumes",
	.synopsis = "bdfs import [-dir DIRECTORY] PV...",
	.about =
		"Brings back a pool whose directory is lost, from the copy of the metadata that it keeps on its first "
		"physical volume. All physical volumes of the pool have to be given, in any order. The metadata goes "
		"to DIRECTORY, by default where the pool was.\n"
		"A pool that was closed in order is back as it was. Of one that was in use, changes since the last "
		"copy are lost: copies are taken some seconds after a change, less often if they are large, and the "
		"result says when, and names the disks that were changed, removed or made since. "
		"No disk ever shows another disk's data. `bdfs lssp -detail` shows the state of the "
		"copy; a pool with more than some MiB of metadata has none.",
	.examples = "bdfs import /dev/sdc /dev/sdb\n"
		    "bdfs import -dir /srv/pools/vms /backup/pv0",
	.options = options,
	.local = local,
};
