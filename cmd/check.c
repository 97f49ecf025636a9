/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: whether a pool's metadata says one and the same thing everywhere, and with -repair what can be done about it.
 *
 * The looking is meta/check.h's; here it is asked for and its report made JSON.
 * On a mounted pool it runs in the daemon, beside all other work. On one that is
 * not mounted the pool is not opened either: check reads the directory itself,
 * since a damaged record may be just why the pool can't be opened.
 *
 * The result says what was read and what was found, in numbers, with the first
 * hundred findings in words. If anything is wrong the verb fails (4) and gives
 * that result beside the error.
 *
 * Progress goes to whoever asked; if he does not want to hear more (Ctrl-C, a
 * connection that is gone, a daemon that ends), the check is given up.
 *
 * -repair (meta/repair.h) needs the pool to itself: a mounted one is refused. The
 * result is that of the check afterwards, with the changes that were made and how
 * many problems there were before.
 *
 * Failure modes: problems were found (-EUCLEAN), or are left after a repair; given
 * up (-ECANCELED); the pool is open elsewhere (-EBUSY, with the pid); what can't be
 * read at all.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd/args.h"
#include "cmd/text.h"
#include "meta/check.h"
#include "meta/repair.h"

/* Changes that the result lists; more are counted. */
#define CHANGES_LISTED 10000

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "repair", NULL, CMD_FLAG, 0, NULL, "put right what follows from sound records; not while it is mounted" },
	{ "dry-run", NULL, CMD_FLAG, 0, NULL, "-repair: list the changes, and make none" },
	{ "yes", "f", CMD_FLAG, 0, NULL, "-repair: don't ask; needed where there is no terminal to ask" },
	{ 0 },
};

struct watch {
	struct cmd_progress *progress; /* or NULL */
	atomic_bool cancel;
};

static void report_progress(uint64_t done, uint64_t total, void *arg)
{
	struct watch *watch = arg;

	if (watch->progress && watch->progress->report(watch->progress, "checking", done, total))
		atomic_store(&watch->cancel, true);
}

static void set_count(json_t *object, const char *key, uint64_t n)
{
	json_object_set_new(object, key, json_integer((json_int_t)n));
}

/* Only what the finding names. */
static void set_place(json_t *object, const char *key, uint64_t n)
{
	if (n != META_CHECK_NONE)
		set_count(object, key, n);
}

static json_t *finding_to_json(const struct meta_check_finding *finding)
{
	const struct meta_check_place *at = &finding->place;
	json_t *object = json_pack("{s:s, s:o}", "kind", meta_check_kind_to_text(finding->kind), "text",
				   cmd_text_to_json(finding->text));

	if (at->database < DB_KINDS)
		json_object_set_new(object, "database", json_string(db_kind_to_text((enum db_kind)at->database)));
	set_place(object, "pv", at->pv);
	set_place(object, "disk", at->disk);
	set_place(object, "layer", at->layer);
	set_place(object, "store", at->store);
	set_place(object, "leaf", at->leaf);
	set_place(object, "entry", at->entry);
	set_place(object, "chunk", at->chunk);
	set_place(object, "page", at->page);
	return object;
}

static json_t *records_to_json(const struct meta_check_report *report)
{
	json_t *all = json_object();

	for (unsigned kind = 0; kind < DB_KINDS; kind++) {
		json_t *one = json_object();

		set_count(one, "read", report->records[kind]);
		set_count(one, "bad_checksum", report->bad_checksum[kind]);
		set_count(one, "bad_content", report->bad_content[kind]);
		json_object_set_new(all, db_kind_to_text((enum db_kind)kind), one);
	}
	return all;
}

static json_t *found_to_json(const struct meta_check_report *report)
{
	json_t *found = json_object();

	for (unsigned kind = 0; kind < META_CHECK_KINDS; kind++)
		if (report->found[kind])
			set_count(found, meta_check_kind_to_text((enum meta_check_kind)kind), report->found[kind]);
	return found;
}

static json_t *report_to_json(const struct meta_check_report *report, bool live)
{
	json_t *result = json_object(), *findings = json_array();

	for (unsigned i = 0; i < report->finding_count; i++)
		json_array_append_new(findings, finding_to_json(&report->findings[i]));
	json_object_set_new(result, "live", json_boolean(live));
	json_object_set_new(result, "unclean", json_boolean(report->unclean));
	set_count(result, "problems", report->problems);
	set_count(result, "not_judged", report->not_judged);
	set_count(result, "pvs", report->pvs);
	set_count(result, "disks", report->disks);
	set_count(result, "layers", report->layers);
	set_count(result, "snapshots", report->snapshots);
	set_count(result, "leaves", report->leaves);
	set_count(result, "chunks_owned", report->chunks_owned);
	if (report->copy != META_CHECK_COPY_UNKNOWN)
		json_object_set_new(result, "copy",
				    json_string(report->copy == META_CHECK_COPY_THERE ? "there" : "none"));
	set_count(result, "copy_room_bytes", report->copy_room_bytes);
	json_object_set_new(result, "records", records_to_json(report));
	json_object_set_new(result, "found", found_to_json(report));
	json_object_set_new(result, "findings", findings);
	return result;
}

static int check(struct cmd_context *ctx, struct meta_check_report *report, json_t **ret_result, struct base_error *err)
{
	struct watch watch = { .progress = ctx->progress };
	struct meta_check_args args = {
		.pool = ctx->meta,
		.progress = report_progress,
		.ctx = &watch,
		.cancel = &watch.cancel,
	};
	int r = ctx->meta ? meta_check(&args, report, err) : meta_check_dir(ctx->directory, &args, report, err);

	if (r < 0)
		return r;
	*ret_result = report_to_json(report, ctx->service != NULL);
	if (report->problems)
		return base_error_set(err, -EUCLEAN,
				      "%llu problems found: the pool is damaged; keep a copy of its directory",
				      (unsigned long long)report->problems);
	return 0;
}

/* ---- repair -------------------------------------------------------------------------------- */

struct listing {
	json_t *changes;
};

static void list_change(enum meta_repair_kind kind, const char *text, void *arg)
{
	struct listing *listing = arg;

	if (json_array_size(listing->changes) < CHANGES_LISTED)
		json_array_append_new(listing->changes, json_pack("{s:s, s:o}", "kind", meta_repair_kind_to_text(kind),
								  "text", cmd_text_to_json(text)));
}

static json_t *repair_to_json(const struct meta_repair_report *report, json_t *changes, bool dry_run)
{
	json_t *result = report_to_json(&report->after, false), *counts = json_object();

	for (unsigned kind = 0; kind < META_REPAIR_KINDS; kind++)
		set_count(counts, meta_repair_kind_to_text((enum meta_repair_kind)kind), report->changes[kind]);
	json_object_set_new(result, "repair",
			    json_pack("{s:b, s:I, s:I, s:o, s:O}", "dry_run", dry_run, "problems_before",
				      (json_int_t)report->before.problems, "changed", (json_int_t)report->total,
				      "counts", counts, "changes", changes));
	return result;
}

static int judge_repair(const struct meta_repair_report *report, bool dry_run, struct base_error *err)
{
	if (report->after.problems == 0)
		return 0;
	if (dry_run)
		return base_error_set(err, -EUCLEAN, "%llu problems found, and %llu changes would be made: nothing was",
				      (unsigned long long)report->after.problems, (unsigned long long)report->total);
	return base_error_set(err, -EUCLEAN,
			      "%llu of %llu problems are left: what is right can't be proven; keep a copy of the "
			      "pool's directory",
			      (unsigned long long)report->after.problems, (unsigned long long)report->before.problems);
}

static int repair(struct cmd_context *ctx, const json_t *args, struct meta_repair_report *report, json_t **ret_result,
		  struct base_error *err)
{
	struct watch watch = { .progress = ctx->progress };
	struct listing listing = { .changes = json_array() };
	struct meta_repair_args repair_args = {
		.check = { .progress = report_progress, .ctx = &watch, .cancel = &watch.cancel },
		.dry_run = cmd_arg_flag(args, "dry-run"),
		.change = list_change,
		.change_ctx = &listing,
	};
	int r = meta_repair_dir(ctx->directory, &repair_args, report, err);

	if (r == 0) {
		*ret_result = repair_to_json(report, listing.changes, repair_args.dry_run);
		r = judge_repair(report, repair_args.dry_run, err);
	}
	json_decref(listing.changes);
	return r;
}

static int run_repair(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_repair_report *report;

	if (ctx->service)
		return base_error_set(err, -EBUSY,
				      "-repair: the pool is mounted on %s; unmount it first (without -repair it can be "
				      "checked as it is)",
				      ctx->service->mountpoint);
	if (!cmd_arg_flag(args, "yes") && !cmd_arg_flag(args, "dry-run"))
		return base_error_set(err, -EINVAL,
				      "not confirmed, nothing was changed: look at it with --dry-run, then add --yes");
	report = calloc(1, sizeof(*report));
	if (!report)
		return base_error_set(err, -ENOMEM, "out of memory");
	int r = repair(ctx, args, report, ret_result, err);

	free(report);
	return r;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	if (cmd_arg_flag(args, "repair"))
		return run_repair(ctx, args, ret_result, err);
	if (cmd_arg_flag(args, "dry-run"))
		return base_error_set(err, -EINVAL, "-dry-run: goes with -repair");

	struct meta_check_report *report = calloc(1, sizeof(*report));

	if (!report)
		return base_error_set(err, -ENOMEM, "out of memory");

	int r = check(ctx, report, ret_result, err);

	free(report);
	return r;
}

static unsigned needs(const json_t *args)
{
	return CMD_CLOSED;
}

static bool question(const json_t *args, char *buf, size_t room)
{
	const char *sp = json_string_value(json_object_get(args, "sp"));

	if (!cmd_arg_flag(args, "repair") || cmd_arg_flag(args, "yes") || cmd_arg_flag(args, "dry-run"))
		return false;
	snprintf(buf, room, "Change the metadata of %s%s where that is proven to be right?",
		 sp ? "pool " : "the default pool", sp ? sp : "");
	return true;
}

const struct cmd_verb cmd_check = {
	.name = "check",
	.summary = "check a pool's metadata, repair it",
	.synopsis = "bdfs check [-sp POOL]\n"
		    "bdfs check [-sp POOL] -repair {-dry-run | -yes}",
	.about = "Checks every record's checksum and content, that every chunk of the pool is owned once and marked "
		 "as owned, that disks, layers and indexes agree, and that the labels of the physical volumes belong "
		 "to this pool and this day. It works on a mounted pool while it is in use, and on one that is not "
		 "mounted, even if that can't be opened. Without -repair it changes nothing. Ctrl-C ends it.\n"
		 "It succeeds if nothing is wrong. --json has the numbers, of what was read and of each kind of "
		 "problem.\n"
		 "-repair works on a pool that is not mounted. It writes only what follows from sound records: bits of "
		 "the space bitmap and of the index, counters. What can't be proven stays as it is and is still "
		 "reported; a lost part of a disk never becomes a hole. -dry-run lists the changes and makes none. "
		 "Without -dry-run it asks on a terminal, and needs -yes elsewhere.",
	.examples = "bdfs check -sp vms\n"
		    "bdfs check -sp vms -repair -dry-run\n"
		    "bdfs check -sp vms --json",
	.exits = "4 also if problems were found, or are left after -repair",
	.options = options,
	.run = run,
	.needs = needs,
	.question = question,
};
