/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump: a pool's metadata, in short or whole.
 *
 * Without an option: the pool, its physical volumes, its disks as one JSON
 * object, what a bug report or a script needs in one piece. On a mounted pool it
 * is answered by the daemon, with figures of that moment.
 *
 * -records: every record there is. That can be gigabytes, so it is the one
 * result that a verb writes to standard output itself, in the command's own
 * process, which reads the metadata beside the daemon: no object, no frame of the
 * control socket would hold it.
 *
 * -stream: the same records as bytes for `bdfs restore`, of a pool that is not
 * mounted. A file is written beside its name and renamed when it is whole and on
 * stable storage, so a dump that fails leaves the one before.
 *
 * Failure modes: those of opening the pool; with -records those of reading its
 * directory, and an output that can't be written; with -stream a pool that is in
 * use, and damaged records.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/dump_records.h"
#include "cmd/execute.h"
#include "cmd/pools.h"
#include "cmd/registry.h"
#include "cmd/text.h"
#include "meta/save.h"

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "records", NULL, CMD_FLAG, 0, NULL, "every record of the metadata, one a line" },
	{ "stream", NULL, CMD_TEXT, 0, "FILE",
	  "the metadata for `bdfs restore`, to FILE or (-) standard output; the pool must not be mounted" },
	{ 0 },
};

/* ---- a stream ------------------------------------------------------------------------------ */

static int write_to_file(void *ctx, const void *bytes, size_t count)
{
	return fwrite(bytes, 1, count, ctx) == count ? 0 : errno > 0 ? -errno : -EIO;
}

static int save(const char *directory, FILE *file, json_t **ret_result, struct base_error *err)
{
	struct meta_save_args args = { .dir = directory, .write = write_to_file, .ctx = file };
	struct meta_save_report report;
	int r = meta_save_dir(&args, &report, err);

	if (r == 0 && fflush(file) != 0)
		r = base_error_set_errno(err, -errno, "the stream could not be written");
	if (r < 0)
		return r;
	*ret_result = json_pack("{s:I, s:I, s:I, s:b}", "commit", (json_int_t)report.header.commit, "records",
				(json_int_t)report.records, "bytes", (json_int_t)report.bytes, "clean", report.clean);
	if (!report.clean)
		json_object_set_new(
			*ret_result, "warning",
			json_string("the pool was not closed in order: the stream has its last commit, and "
				    "not what its restart log has; mount and unmount it first, if it can "
				    "be mounted"));
	return 0;
}

static int save_to_path(const char *directory, const char *path, json_t **ret_result, struct base_error *err)
{
	char part[PATH_MAX];

	if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
		return base_error_set(err, -ENAMETOOLONG, "%s: the path is too long", path);
	int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (!file)
		return base_error_set_errno(err, -errno, "can't write %s", part);
	int r = save(directory, file, ret_result, err);

	if (r == 0 && fsync(fd) != 0)
		r = base_error_set_errno(err, -errno, "%s could not be written", part);
	fclose(file);
	if (r == 0 && rename(part, path) != 0)
		r = base_error_set_errno(err, -errno, "can't rename %s", part);
	if (r < 0)
		unlink(part);
	return r;
}

static int dump_stream(const char *directory, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char path[PATH_MAX];
	int r = cmd_arg_text(args, "stream", path, sizeof(path), err);

	if (r < 0)
		return r;
	if (strcmp(path, "-") != 0)
		return save_to_path(directory, path, ret_result, err);
	if (isatty(STDOUT_FILENO))
		return base_error_set(err, -EINVAL,
				      "-stream -: standard output is a terminal, and a stream is no text");
	json_t *result = NULL;

	r = save(directory, stdout, &result, err);
	/* Standard output has the stream: a word about it would be part of it. */
	const char *warning = r == 0 ? json_string_value(json_object_get(result, "warning")) : NULL;

	if (warning)
		fprintf(stderr, "bdfs dump: warning: %s\n", warning);
	json_decref(result);
	return r;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_pool_ref pool;

	if (!cmd_arg_flag(args, "records") && !cmd_arg_is_set(args, "stream"))
		return CMD_ON_POOL;
	if (cmd_arg_flag(args, "records") && cmd_arg_is_set(args, "stream"))
		return base_error_set(err, -EINVAL, "-records and -stream can't go together");

	int r = cmd_execute_pool(ctx, args, &pool, err);

	if (r < 0)
		return r;
	if (cmd_arg_is_set(args, "stream"))
		r = dump_stream(pool.directory, args, ret_result, err);
	else
		r = cmd_dump_records(pool.directory, stdout, err);
	return r < 0 ? base_error_wrap(err, "%s", pool.name) : 0;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	if (cmd_arg_flag(args, "records") || cmd_arg_is_set(args, "stream"))
		return base_error_set(err, -EINVAL,
				      "-records, -stream: the command reads the metadata, not the daemon");
	*ret_result =
		json_pack("{s:i, s:o, s:o, s:o, s:o}", "format", 1, "pool", cmd_pool_to_json(ctx), "pvs",
			  cmd_pvs_to_json(ctx), "disks", cmd_disks_to_json(ctx), "daemon", cmd_service_to_json(ctx));
	return 0;
}

const struct cmd_verb cmd_dump = {
	.name = "dump",
	.summary = "print a pool's metadata as JSON",
	.synopsis = "bdfs dump [-sp POOL] [-records]\n"
		    "bdfs dump [-sp POOL] -stream {FILE | -}",
	.about =
		"Prints the pool, its physical volumes and its disks as one JSON object. Sizes are bytes, times are "
		"seconds since 1970.\n"
		"-records prints every record of the metadata instead: one JSON object with an array \"records\", in "
		"which each record is a line. It holds little in memory however large the pool is, and works whether "
		"the pool is mounted, can be opened, or neither. Records of a pool that changes meanwhile are of "
		"different moments.\n"
		"-stream writes the metadata of a pool that is not mounted as a stream with checksums, from which "
		"`bdfs restore` makes it again. It has no data of the disks: keep it with the physical volumes as they "
		"are at that time.",
	.examples = "bdfs dump -sp vms > vms.json\n"
		    "bdfs dump -sp vms -stream /backup/vms.meta\n"
		    "bdfs dump -sp vms -records | grep '\"database\":\"disk\"'",
	.options = options,
	.local = local,
	.run = run,
};
