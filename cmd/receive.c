/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receive: makes a disk and its snapshot from a stream of `bdfs send`.
 *
 * The command reads the stream. For a mounted pool it has the daemon make the
 * hidden disk (cmd/receive_pool.c), writes that through the mount as any program
 * would, and has the daemon make it visible in the end. For a pool that is not
 * mounted run() has it open and does the same without a mount. Both are a
 * *target*: write, zero, flush, and note durably how far it is.
 *
 * Each record is judged before it is used. Every 256 MiB, and when the stream
 * ends in whatever way, what has been received is flushed and then noted; so the
 * token that is printed after a break is one from which nothing is missing.
 *
 * Steps of the command and of the daemon: begin -> (write, note)* -> finish.
 *
 * Failure modes: a stream that ends early, or has a wrong record, ends with 4 and
 * a token; no disk or snapshot that anybody sees has changed. So does Ctrl-C, and
 * a kill, after which -token prints it. A full pool is the same: what was
 * received stays hidden until the receive goes on or is discarded.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/uuid.h"
#include "cmd/args.h"
#include "cmd/execute.h"
#include "cmd/receive.h"
#include "cmd/text.h"
#include "cmd/transfer.h"
#include "iocore/snapshot.h"

#define NOTE_BYTES (256 * MIB)
#define NAME_ROOM (4 * NAME_BYTES_MAX)

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "lu", NULL, CMD_TEXT, 0, "NAME",
	  "the disk to make or to bring up to date; without it, that of the stream" },
	{ "rollback", NULL, CMD_FLAG, 0, NULL, "give up what was written to the disk since the base of the stream" },
	{ "file", NULL, CMD_TEXT, 0, "PATH", "read this file instead of standard input" },
	{ "token", NULL, CMD_FLAG, 0, NULL, "print the token of a receive of -lu that broke off" },
	{ "discard", NULL, CMD_FLAG, 0, NULL, "drop what a receive of -lu that broke off has left" },
	{ "begin", NULL, CMD_TEXT, CMD_HIDDEN, "HEADER", "make the hidden disk" },
	{ "finish", NULL, CMD_TEXT, CMD_HIDDEN, "HEADER", "make it visible" },
	{ 0 },
};

/* ---- targets ------------------------------------------------------------------------------ */

struct target {
	/* Return: 0; negative errno. */
	int (*write)(struct target *target, uint64_t offset, const void *data, size_t bytes);
	int (*zero)(struct target *target, uint64_t offset, uint64_t bytes);
	int (*flush)(struct target *target);
	int (*note)(struct target *target, const struct cmd_receive_mark *mark);
};

/* A file of the mount. */
struct file_target {
	struct target target;
	int fd;
};

static int write_file(struct target *target, uint64_t offset, const void *data, size_t bytes)
{
	int fd = container_of(target, struct file_target, target)->fd;

	for (size_t used = 0; used < bytes;) {
		ssize_t n = pwrite(fd, (const char *)data + used, bytes - used, (off_t)(offset + used));

		if (n < 0 && errno != EINTR)
			return -errno;
		used += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int zero_file(struct target *target, uint64_t offset, uint64_t bytes)
{
	int fd = container_of(target, struct file_target, target)->fd, r;

	do
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int flush_file(struct target *target)
{
	return fsync(container_of(target, struct file_target, target)->fd) < 0 ? -errno : 0;
}

static int note_file(struct target *target, const struct cmd_receive_mark *mark)
{
	int fd = container_of(target, struct file_target, target)->fd;
	char text[CMD_RECEIVE_MARK_BYTES];

	cmd_receive_mark_to_text(mark, text);
	return fsetxattr(fd, "user.bdfs.labels", text, strlen(text), 0) < 0 ? -errno : 0;
}

/* A disk of a pool that is open here. */
struct disk_target {
	struct target target;
	struct ioc_pool *ioc;
	struct ioc_bd *bd;
	struct meta_disk *disk;
};

static int call_disk(struct target *target, struct ioc_request *req)
{
	struct disk_target *disk = container_of(target, struct disk_target, target);

	req->bd = disk->bd;
	return ioc_bd_call(disk->ioc, req);
}

static int write_disk(struct target *target, uint64_t offset, const void *data, size_t bytes)
{
	struct iovec segment = { .iov_base = (void *)data, .iov_len = bytes };
	struct ioc_request req = {
		.op = IOC_OP_WRITE, .offset = offset, .length = bytes, .segments = &segment, .segment_count = 1
	};

	return call_disk(target, &req);
}

static int zero_disk(struct target *target, uint64_t offset, uint64_t bytes)
{
	struct ioc_request req = { .op = IOC_OP_DISCARD, .offset = offset, .length = bytes };

	return call_disk(target, &req);
}

static int flush_disk(struct target *target)
{
	struct ioc_request req = { .op = IOC_OP_FLUSH };

	return call_disk(target, &req);
}

static int note_disk(struct target *target, const struct cmd_receive_mark *mark)
{
	return cmd_receive_set_mark(container_of(target, struct disk_target, target)->disk, mark, NULL);
}

/* ---- receiving ---------------------------------------------------------------------------- */

struct receiving {
	int in;
	struct cmd_stream stream;
	struct cmd_stream_header header;
	struct cmd_meter meter;
	struct target *target;
	uint64_t floor_bytes; /* an earlier stream came this far, and the same bytes come again */
	uint64_t noted_bytes; /* data and zeros up to the last note */
	uint8_t *buf;         /* CMD_STREAM_DATA_BYTES_MAX, page-aligned */
	struct base_error *err;
};

static struct cmd_receive_mark mark_of(const struct receiving *r, uint64_t at_bytes)
{
	return (struct cmd_receive_mark){
		.token = { .snapshot = r->header.snapshot, .base = r->header.base, .at_bytes = at_bytes },
		.size_bytes = r->header.size_bytes
	};
}

/* How far the hidden disk is. A block's place, or the end of the disk. */
static uint64_t place_of(const struct receiving *r)
{
	return r->stream.has_ended ? r->header.size_bytes : MAX(r->stream.at_bytes, r->floor_bytes);
}

static int note(struct receiving *r)
{
	struct cmd_receive_mark mark = mark_of(r, place_of(r));
	int rc = r->target->flush(r->target);

	if (rc == 0)
		rc = r->target->note(r->target, &mark);
	if (rc < 0)
		return base_error_set_errno(r->err, rc, "making durable what was received");
	r->noted_bytes = r->stream.data_bytes;
	return 0;
}

/* Return: 0; -ENODATA: the stream ends here; -ECANCELED; other negative errno; all with err. */
static int read_exactly(struct receiving *r, void *buf, size_t count)
{
	ssize_t n = cmd_transfer_read(r->in, buf, count);

	if (n == (ssize_t)count)
		return 0;
	if (n >= 0)
		return base_error_set(r->err, -ENODATA, "the stream ends before its end");
	if (n == -EINTR)
		return base_error_set(r->err, -ECANCELED, "interrupted");
	return base_error_set_errno(r->err, (int)n, "reading the stream");
}

static int apply(struct receiving *r, const struct cmd_stream_record *record)
{
	int rc = 0;

	if (record->type == CMD_STREAM_DATA)
		rc = r->target->write(r->target, record->offset, r->buf, record->length);
	else if (record->type == CMD_STREAM_ZERO)
		rc = r->target->zero(r->target, record->offset, record->length);
	return rc < 0 ? base_error_set_errno(r->err, rc, "writing what was received at %llu",
					     (unsigned long long)record->offset)
		      : 0;
}

static int receive_record(struct receiving *r)
{
	uint8_t head[CMD_STREAM_HEAD_BYTES];
	struct cmd_stream after = r->stream;
	struct cmd_stream_record record;
	int rc = read_exactly(r, head, sizeof(head));

	if (rc == 0)
		rc = cmd_stream_take_head(&r->stream, head, &record, r->err);
	if (rc == 0)
		rc = read_exactly(r, r->buf, record.payload_bytes);
	if (rc == 0)
		rc = cmd_stream_take_payload(&after, head, &record, r->buf, NULL, r->err);
	if (rc == 0)
		rc = apply(r, &record);
	if (rc < 0)
		return rc;
	/* Only now: what could not be applied has not been received. */
	r->stream = after;
	if (r->stream.data_bytes - r->noted_bytes >= NOTE_BYTES)
		rc = note(r);
	if (rc == 0 && cmd_meter_report(&r->meter, r->stream.at_bytes, r->stream.data_bytes) < 0)
		rc = base_error_set(r->err, -ECANCELED, "interrupted");
	return rc;
}

static json_t *token_to_json(const struct receiving *r)
{
	struct cmd_stream_token token = mark_of(r, place_of(r)).token;
	char text[CMD_STREAM_TOKEN_BYTES];

	return json_pack("{s:s, s:I, s:I}", "token", cmd_stream_token_to_text(&token, text), "received_bytes",
			 (json_int_t)token.at_bytes, "size_bytes", (json_int_t)r->header.size_bytes);
}

/* Writes the stream to the target. Return: 0: all of it is there, durably; negative errno with err, and with the
 * token as result if there is something to go on from. */
static int receive_into(struct cmd_context *ctx, struct receiving *r, struct target *target, json_t **ret_result,
			struct base_error *err)
{
	struct base_error ignored = { 0 };
	int rc = 0;

	r->target = target;
	r->err = err;
	r->buf = aligned_alloc(BLOCK_BYTES, CMD_STREAM_DATA_BYTES_MAX);
	if (!r->buf)
		return base_error_set(err, -ENOMEM, "out of memory");
	cmd_meter_start(&r->meter, ctx->progress, "receive", r->header.start_bytes, r->header.size_bytes);
	while (rc == 0 && !r->stream.has_ended)
		rc = receive_record(r);
	if (rc == 0)
		rc = note(r);
	if (rc < 0) {
		r->err = &ignored;
		if (note(r) == 0)
			*ret_result = token_to_json(r);
		base_error_wrap(err,
				"%s@%s is not there yet, and nothing that was there has changed; `bdfs send "
				"-resume` goes on with the token",
				r->header.disk_name, r->header.snapshot_name);
	}
	free(r->buf);
	return rc;
}

/* Takes magic and header from the stream. */
static int receive_header(struct receiving *r, int in, struct base_error *err)
{
	uint8_t begin[CMD_STREAM_BEGIN_BYTES_MAX], *head = begin + CMD_STREAM_MAGIC_BYTES,
						   *payload = head + CMD_STREAM_HEAD_BYTES;
	struct cmd_stream_record record;
	int rc;

	*r = (struct receiving){ .in = in, .err = err };
	rc = read_exactly(r, begin, CMD_STREAM_MAGIC_BYTES + CMD_STREAM_HEAD_BYTES);
	if (rc == 0)
		rc = cmd_stream_start(&r->stream, begin, err);
	if (rc == 0)
		rc = cmd_stream_take_head(&r->stream, head, &record, err);
	if (rc == 0)
		rc = read_exactly(r, payload, record.payload_bytes);
	return rc < 0 ? rc : cmd_stream_take_payload(&r->stream, head, &record, payload, &r->header, err);
}

/* ---- on a pool that is open here ---------------------------------------------------------- */

/* local() reads the header before a pool is open, and run() reads on: the rest of the same stream. */
static struct receiving *here;

static int receive_here(struct cmd_context *ctx, const char *name, bool rolls_back, json_t **ret_result,
			struct base_error *err)
{
	struct disk_target to = { .target = { write_disk, zero_disk, flush_disk, note_disk }, .ioc = ctx->ioc };
	int r = cmd_receive_begin(ctx, &here->header, name, rolls_back, &to.disk, &here->floor_bytes, err);

	if (r < 0)
		return r;
	r = ioc_disk_open(ctx->ioc, to.disk, &to.bd, err);
	if (r == 0) {
		r = receive_into(ctx, here, &to.target, ret_result, err);
		ioc_disk_close(to.bd);
	}
	meta_disk_put(to.disk);
	return r < 0 ? r : cmd_receive_finish(ctx, &here->header, name, rolls_back, ret_result, err);
}

/* ---- the pool's side ---------------------------------------------------------------------- */

static int begin_for_command(struct cmd_context *ctx, const struct cmd_stream_header *header, const char *name,
			     bool rolls_back, json_t **ret_result, struct base_error *err)
{
	char uuid[BASE_UUID_TEXT_BYTES];
	struct meta_disk_info info;
	struct meta_disk *hidden;
	uint64_t at_bytes;
	int r = cmd_receive_begin(ctx, header, name, rolls_back, &hidden, &at_bytes, err);

	if (r < 0)
		return r;
	meta_disk_info(hidden, &info);
	meta_disk_put(hidden);
	*ret_result = json_pack("{s:o, s:o, s:s, s:I}", "mountpoint", cmd_text_to_json(ctx->service->mountpoint),
				"hidden", cmd_text_to_json(info.record.name), "uuid",
				base_uuid_to_text(info.record.uuid, uuid), "at_bytes", (json_int_t)at_bytes);
	return 0;
}

static int step(struct cmd_context *ctx, const json_t *args, const char *name, json_t **ret_result,
		struct base_error *err)
{
	bool rolls_back = cmd_arg_flag(args, "rollback"), begins = cmd_arg_is_set(args, "begin");
	struct cmd_stream_header header;
	struct cmd_stream ignored;
	int r = cmd_transfer_header_from_json(json_object_get(args, begins ? "begin" : "finish"), &ignored, &header,
					      err);

	if (r < 0)
		return r;
	if (!begins)
		return cmd_receive_finish(ctx, &header, name, rolls_back, ret_result, err);
	if (ctx->service)
		return begin_for_command(ctx, &header, name, rolls_back, ret_result, err);
	if (!here)
		return base_error_set(err, -EINVAL, "-begin is for the command's own use");
	return receive_here(ctx, name, rolls_back, ret_result, err);
}

static int show_token(struct cmd_context *ctx, const char *name, json_t **ret_result, struct base_error *err)
{
	char text[CMD_STREAM_TOKEN_BYTES];
	struct cmd_receive_mark mark;
	int r = cmd_receive_status(ctx, name, &mark, err);

	if (r == 0)
		*ret_result = json_pack("{s:s, s:I, s:I}", "token", cmd_stream_token_to_text(&mark.token, text),
					"received_bytes", (json_int_t)mark.token.at_bytes, "size_bytes",
					(json_int_t)mark.size_bytes);
	return r;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char name[NAME_ROOM];
	int r = cmd_arg_text(args, "lu", name, sizeof(name), err);

	if (r == CMD_ARG_ABSENT)
		return base_error_set(err, -EINVAL, "-lu is missing: say which disk");
	if (r == 0 && cmd_arg_flag(args, "token"))
		return show_token(ctx, name, ret_result, err);
	if (r == 0 && cmd_arg_flag(args, "discard")) {
		r = cmd_receive_discard(ctx, name, err);
		if (r == 0)
			*ret_result = json_object();
		return r;
	}
	if (r == 0 && ctx->service && ctx->service->read_only)
		return base_error_set(err, -EROFS, "%s: the pool is mounted read-only", name);
	return r < 0 ? r : step(ctx, args, name, ret_result, err);
}

/* ---- the command's side ------------------------------------------------------------------- */

static int call_step(struct cmd_context *ctx, const struct cmd_pool_ref *pool, const json_t *args, const char *which,
		     const struct cmd_stream_header *header, json_t **ret_result, struct base_error *err)
{
	json_t *step_args = json_pack("{s:O, s:o}", "lu", json_object_get(args, "lu"), which,
				      cmd_transfer_header_to_json(header));
	struct cmd_outcome outcome = { 0 };

	if (!step_args)
		return base_error_set(err, -ENOMEM, "out of memory");
	if (cmd_arg_flag(args, "rollback"))
		json_object_set_new(step_args, "rollback", json_true());
	cmd_execute_on(pool, &cmd_receive, step_args, ctx->progress, &outcome);
	json_decref(step_args);
	ctx->subject = outcome.subject;
	if (outcome.code < 0)
		*err = outcome.err;
	*ret_result = outcome.result;
	return outcome.code;
}

static int open_hidden(const json_t *plan, struct base_error *err)
{
	char mountpoint[PATH_MAX], hidden[NAME_BYTES_MAX + 1], suffix[2 * NAME_BYTES_MAX];
	const char *text = json_string_value(json_object_get(plan, "uuid"));
	struct base_uuid uuid;
	int fd;

	if (cmd_text_from_json(json_object_get(plan, "mountpoint"), mountpoint, sizeof(mountpoint)) < 0 ||
	    cmd_text_from_json(json_object_get(plan, "hidden"), hidden, sizeof(hidden)) < 0 || !text ||
	    base_uuid_parse(text, &uuid) < 0)
		return base_error_set(err, -EBADMSG, "no proper answer from the daemon");
	snprintf(suffix, sizeof(suffix), "disks/%s", hidden);
	fd = cmd_transfer_open(mountpoint, suffix, O_RDWR, uuid, err);
	/* Two commands may have come between the daemon's look and here. */
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return base_error_set(err, -EBUSY, "it is just being received by another command");
	}
	return fd;
}

static int receive_mounted(struct cmd_context *ctx, const struct cmd_pool_ref *pool, struct receiving *receiving,
			   const json_t *args, const json_t *plan, json_t **ret_result, struct base_error *err)
{
	struct file_target to = { .target = { write_file, zero_file, flush_file, note_file },
				  .fd = open_hidden(plan, err) };
	int r = MIN(to.fd, 0);

	receiving->floor_bytes = (uint64_t)json_integer_value(json_object_get(plan, "at_bytes"));
	if (r == 0) {
		r = receive_into(ctx, receiving, &to.target, ret_result, err);
		close(to.fd);
	}
	return r < 0 ? r : call_step(ctx, pool, args, "finish", &receiving->header, ret_result, err);
}

static int receive(struct cmd_context *ctx, struct receiving *receiving, json_t *args, json_t **ret_result,
		   struct base_error *err)
{
	struct cmd_pool_ref pool;
	json_t *plan = NULL;
	int r = cmd_execute_pool(ctx, args, &pool, err);

	if (r < 0)
		return r;
	if (!cmd_arg_is_set(args, "lu"))
		json_object_set_new(args, "lu", cmd_text_to_json(receiving->header.disk_name));
	here = receiving;
	r = call_step(ctx, &pool, args, "begin", &receiving->header, &plan, err);
	here = NULL;
	if (!json_object_get(plan, "mountpoint")) {
		*ret_result = plan;
		return r;
	}
	r = receive_mounted(ctx, &pool, receiving, args, plan, ret_result, err);
	json_decref(plan);
	return r;
}

/* -file or standard input. Return: a descriptor; negative errno with err. */
static int open_in(const json_t *args, struct base_error *err)
{
	char path[PATH_MAX];
	int r = cmd_arg_text(args, "file", path, sizeof(path), err), fd;

	if (r == CMD_ARG_ABSENT && isatty(STDIN_FILENO))
		return base_error_set(err, -EINVAL,
				      "a stream does not come from a terminal: redirect the input, or -file");
	if (r < 0 || r == CMD_ARG_ABSENT)
		return r < 0 ? r : STDIN_FILENO;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? base_error_set_errno(err, -errno, "%s", path) : fd;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct receiving receiving;
	int r, in;

	if (cmd_arg_is_set(args, "begin") || cmd_arg_is_set(args, "finish"))
		return base_error_set(err, -EINVAL, "-begin and -finish are for the command's own use");
	if (cmd_arg_flag(args, "token") && cmd_arg_flag(args, "discard"))
		return base_error_set(err, -EINVAL, "-token and -discard can't go together");
	if (cmd_arg_flag(args, "token") || cmd_arg_flag(args, "discard"))
		return CMD_ON_POOL;
	in = open_in(args, err);
	if (in < 0)
		return in;
	r = receive_header(&receiving, in, err);
	if (r == 0)
		r = receive(ctx, &receiving, args, ret_result, err);
	if (in != STDIN_FILENO)
		close(in);
	return r;
}

static unsigned needs(const json_t *args)
{
	return cmd_arg_flag(args, "token") ? 0 : CMD_CHANGES | CMD_IO;
}

const struct cmd_verb cmd_receive = {
	.name = "receive",
	.summary = "make a disk and its snapshot from a stream",
	.synopsis = "bdfs receive [-lu NAME] [-rollback] [-file PATH] [-sp POOL]\n"
		    "bdfs receive {-token | -discard} -lu NAME [-sp POOL]",
	.about =
		"Reads a stream of `bdfs send` from standard input. A full stream makes a new disk, an incremental one "
		"brings the disk that has its base up to date; if there is no disk of that name it makes a clone of "
		"the base. Either way the snapshot that was sent is there in the end.\n"
		"Until a stream has come to its end and all its checksums were right, nothing that was there changes. "
		"If it breaks off, a token is printed: `bdfs send -resume TOKEN` sends the rest, and another `bdfs "
		"receive` takes it. -token prints it again, -discard drops what was received.\n"
		"The disk must not be in use, and must be as it was at the base; -rollback gives up what was written "
		"since.",
	.examples = "ssh host bdfs send web1@monday -sp vms | bdfs receive -sp store\n"
		    "bdfs receive -sp store -lu web1-copy -file /backup/web1.bdfs",
	.options = options,
	.local = local,
	.run = run,
	.needs = needs,
};
