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
 * after it, as the labels tell. Which disks those changed is nowhere written down,
 * so every disk is named as one that may lack its latest changes.
 *
 * Failure modes: no copy, or a damaged one; a physical volume that is missing, in
 * use, or of another pool; a pool in the directory.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cmd/args.h"
#include "cmd/bring_back.h"
#include "cmd/text.h"
#include "meta/import.h"

static const struct cmd_option options[] = {
	{ "pv", NULL, CMD_LIST, CMD_POSITIONAL | CMD_REQUIRED, "PV",
	  "all physical volumes of the pool, in any order" },
	{ "dir", NULL, CMD_TEXT, 0, "DIRECTORY", "where the metadata goes" },
	{ 0 },
};

static json_t *what_is_lost(const struct meta_import_report *report)
{
	char when[64] = "", commits[64] = "", text[512];
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
	snprintf(text, sizeof(text),
		 "the pool was in use after its metadata was copied (%s, commit %" PRIu64
		 "): what was changed since is lost, in any of the disks listed%s; disks made since are lost, disks "
		 "removed since are back",
		 when, report->copy_commit, commits);
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
	return result;
}

static int import(struct cmd_bring_back *to, const json_t *args, json_t **ret_result, struct base_error *err)
{
	json_t *disks = json_array();
	struct meta_restore_args restore_args = { .disk = cmd_bring_back_note_disk, .disk_ctx = disks };
	struct meta_import_report report;
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
		"result says when. No disk ever shows another disk's data. `bdfs lssp -detail` shows the state of the "
		"copy; a pool with more than some MiB of metadata has none.",
	.examples = "bdfs import /dev/sdc /dev/sdb\n"
		    "bdfs import -dir /srv/pools/vms /backup/pv0",
	.options = options,
	.local = local,
};
