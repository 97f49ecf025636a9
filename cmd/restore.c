/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore: makes a pool's metadata again from what `bdfs dump -stream` wrote.
 *
 * meta/restore.h does it; here it is decided where to. The pool's name is at the
 * beginning of the stream, so that is read ahead: the directory is the one given,
 * else the one that the name is registered with, else STATE/NAME. If the name is
 * on the list with another directory, nothing is done: two pools would have it.
 *
 * Physical volumes are looked for where they were; given ones are told apart by
 * their labels, in any order.
 *
 * Failure modes: those of meta_restore, of which a stream older than its pvs is
 * the one that -force is for. A directory that was made for nothing is removed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/bring_back.h"
#include "cmd/text.h"
#include "meta/restore.h"

static const struct cmd_option options[] = {
	{ "file", NULL, CMD_TEXT, CMD_POSITIONAL | CMD_REQUIRED, "FILE", "the stream; - for standard input" },
	{ "pv", NULL, CMD_LIST, CMD_POSITIONAL, "PV", "where the pool's physical volumes are now; all or none" },
	{ "dir", NULL, CMD_TEXT, 0, "DIRECTORY", "where the metadata goes" },
	{ "force", NULL, CMD_FLAG, 0, NULL,
	  "restore although the physical volumes are not of the day of the stream" },
	{ 0 },
};

/* The beginning of the file, read ahead, and the file. */
struct source {
	FILE *file;
	uint8_t head[META_STREAM_HEADER_BYTES + META_STREAM_RECORD_BYTES_MAX];
	size_t have, at;
};

static int read_head(void *ctx, void *bytes, size_t count)
{
	struct source *source = ctx;

	if (count > source->have - source->at)
		return -ENODATA;
	memcpy(bytes, source->head + source->at, count);
	source->at += count;
	return 0;
}

static int read_source(void *ctx, void *bytes, size_t count)
{
	struct source *source = ctx;
	size_t ahead = MIN(count, source->have - source->at);

	memcpy(bytes, source->head + source->at, ahead);
	source->at += ahead;
	if (fread((char *)bytes + ahead, 1, count - ahead, source->file) == count - ahead)
		return 0;
	return ferror(source->file) ? -EIO : -ENODATA;
}

/* The name of the pool that the stream is of. */
static int peek_name(struct source *source, char name[NAME_BYTES_MAX + 1], struct base_error *err)
{
	struct meta_stream_in in = { .read = read_head, .ctx = source };
	struct meta_stream_header header;
	struct meta_pool_record pool;
	struct db_value value;
	enum db_kind kind;
	struct db_key key;

	source->have = fread(source->head, 1, sizeof(source->head), source->file);
	int r = meta_stream_open(&in, &header);
	if (r == 0)
		r = meta_stream_next(&in, &kind, &key, &value);
	source->at = 0;
	if (r != 0 || kind != DB_POOL || meta_pool_decode(value.b, value.bytes, &pool) < 0)
		return base_error_set(err, -EBADMSG, "this is no stream of a pool's metadata, or a damaged one");
	strcpy(name, pool.name);
	return 0;
}

static json_t *report_to_json(const struct meta_restore_report *report, const struct cmd_bring_back *to,
			      json_t *disks)
{
	json_t *result = json_pack(
		"{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:O}", "pool", cmd_text_to_json(report->name), "directory",
		cmd_text_to_json(to->directory), "commit", (json_int_t)report->header.commit, "made_s",
		(json_int_t)report->header.made_s, "label_commit", (json_int_t)report->label_commit, "records",
		(json_int_t)report->records, "problems", (json_int_t)report->problems, "disks", disks);

	if (report->label_commit > report->header.commit)
		json_object_set_new(
			result, "warning",
			json_string("the physical volumes have gone on since the stream was made: disks may "
				    "show old data, and other disks' data; check what is on them"));
	return result;
}

static int restore(struct source *source, const json_t *args, json_t **ret_result, struct base_error *err)
{
	json_t *disks = json_array();
	struct meta_restore_args restore_args = {
		.read = read_source,
		.ctx = source,
		.force = cmd_arg_flag(args, "force"),
		.disk = cmd_bring_back_note_disk,
		.disk_ctx = disks,
	};
	struct meta_restore_report report;
	char name[NAME_BYTES_MAX + 1];
	struct cmd_bring_back to = { 0 };
	int r = peek_name(source, name, err);

	if (r == 0)
		r = cmd_bring_back_begin(&to, name, args, err);
	if (r == 0)
		r = cmd_bring_back_open_pvs(&to, args, err);
	if (r == 0) {
		restore_args.dir = to.directory;
		restore_args.pvs = to.pvs;
		restore_args.pv_count = to.pv_count;
		r = meta_restore(&restore_args, &report, err);
	}
	if (r == 0)
		r = cmd_bring_back_register(&to, err);
	if (r == 0)
		*ret_result = report_to_json(&report, &to, disks);
	cmd_bring_back_end(&to, r == 0);
	json_decref(disks);
	return r;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct source source = { 0 };
	char path[PATH_MAX];
	int r = cmd_arg_text(args, "file", path, sizeof(path), err);

	if (r < 0)
		return r;
	bool from_stdin = strcmp(path, "-") == 0;
	source.file = from_stdin ? stdin : fopen(path, "re");
	if (!source.file)
		return base_error_set_errno(err, -errno, "%s", path);
	r = restore(&source, args, ret_result, err);
	if (!from_stdin)
		fclose(source.file);
	return r < 0 ? base_error_wrap(err, "%s", path) : 0;
}

const struct cmd_verb cmd_restore = {
	.name = "restore",
	.summary = "make a pool's metadata again from a dump",
	.synopsis = "bdfs restore FILE [-dir DIRECTORY] [-force] [PV...]",
	.about =
		"Makes the metadata of a pool again from what `bdfs dump -stream` wrote, for the physical volumes that "
		"the pool has: where they were, or at the paths given, in any order. They are not written to. The "
		"metadata goes to DIRECTORY, by default where the pool was.\n"
		"If the labels say that the physical volumes have not gone on since the stream was made, the pool is "
		"as it was. If they have, space that was freed since may have been given to other disks, so that a "
		"disk would show another's data, and nobody can know which: that is refused without -force.",
	.examples = "bdfs restore /backup/vms.meta\n"
		    "bdfs restore /backup/vms.meta -dir /srv/pools/vms /dev/sdc /dev/sdb",
	.options = options,
	.local = local,
};
