/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send: a snapshot, or what lies between two, as a stream (docs/stream.md).
 *
 * Two ways lead to the same stream. In a mounted pool the daemon is asked what
 * the stream is about (run() below gives the header and the mount point), then
 * the command reads snapshots/DISK/NAME in the mount, and asks page by page for
 * what differs. Of a pool that is not mounted run() has the pool open itself and
 * writes the stream right there. Both are a *source*: the next range that
 * differs, and the bytes of a place.
 *
 * Only what differs is read, by pieces of a mebibyte. Chunks that read as zero
 * are sent as zero, so that a stream is as sparse as the data.
 *
 * The snapshots are open while they are sent, so they can't be removed meanwhile.
 *
 * Failure modes: a terminal as the target is refused. A reader that goes away,
 * or Ctrl-C, ends it; the stream has no end record then, and whoever received it
 * can go on with the token that `bdfs receive` prints. A token that is of another
 * snapshot is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/uuid.h"
#include "cmd/args.h"
#include "cmd/diff.h"
#include "cmd/execute.h"
#include "cmd/snapshots.h"
#include "cmd/text.h"
#include "cmd/transfer.h"
#include "iocore/snapshot.h"
#include "meta/snapshot.h"

#define NAME_ROOM (2 * NAME_BYTES_MAX + 2)

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "snapshot", NULL, CMD_TEXT, CMD_POSITIONAL | CMD_REQUIRED, "DISK@SNAPSHOT", "what to send" },
	{ "i", NULL, CMD_TEXT, 0, "BASE", "only what changed since this snapshot of the disk: BASE or DISK@BASE" },
	{ "resume", NULL, CMD_TEXT, 0, "TOKEN", "go on where a stream broke off, as `bdfs receive` said" },
	{ "file", NULL, CMD_TEXT, 0, "PATH", "write to this file instead of standard output" },
	{ 0 },
};

/* ---- what is sent ------------------------------------------------------------------------- */

struct subject {
	struct meta_snapshot *snapshot, *base; /* referenced and open; base may be NULL */
	struct cmd_stream_header header;
};

static void subject_done(struct subject *subject)
{
	struct meta_snapshot *both[] = { subject->snapshot, subject->base };

	for (size_t i = 0; i < ARRAY_LEN(both); i++) {
		if (!both[i])
			continue;
		meta_snapshot_close(both[i]);
		meta_snapshot_put(both[i]);
	}
	*subject = (struct subject){ .snapshot = NULL };
}

static int open_found(struct meta_snapshot *snapshot, struct meta_snapshot **ret, struct base_error *err)
{
	int r = meta_snapshot_open(snapshot, err);

	if (r < 0)
		meta_snapshot_put(snapshot);
	else
		*ret = snapshot;
	return r;
}

/* BASE alone is a snapshot of the same disk. */
static int find_base(struct cmd_context *ctx, const char *base, const char *disk, struct meta_snapshot **ret,
		     struct base_error *err)
{
	char text[2 * NAME_ROOM];

	if (strchr(base, '@'))
		return cmd_snapshot_find(ctx, base, ret, err);
	snprintf(text, sizeof(text), "%s@%s", disk, base);
	return cmd_snapshot_find(ctx, text, ret, err);
}

static int apply_token(const json_t *args, struct cmd_stream_header *header, struct base_error *err)
{
	char text[CMD_STREAM_TOKEN_BYTES];
	struct cmd_stream_token token;
	int r = cmd_arg_text(args, "resume", text, sizeof(text), err);

	if (r == CMD_ARG_ABSENT)
		return 0;
	if (r < 0 || cmd_stream_token_parse(text, &token) < 0)
		return base_error_set(err, -EINVAL, "-resume: not a token; it is what `bdfs receive` printed");
	if (!base_uuid_equal(token.snapshot, header->snapshot) || !base_uuid_equal(token.base, header->base))
		return base_error_set(
			err, -EINVAL,
			"-resume: the token is of another snapshot or another base than %s@%s%s%s: give "
			"those with which the stream began",
			header->disk_name, header->snapshot_name, header->base_name[0] ? " -i " : "",
			header->base_name);
	if (token.at_bytes > header->size_bytes ||
	    (token.at_bytes % BLOCK_BYTES != 0 && token.at_bytes != header->size_bytes))
		return base_error_set(err, -EINVAL, "-resume: the token's place is not one of this snapshot");
	header->start_bytes = token.at_bytes;
	return 0;
}

static void fill_header(struct cmd_context *ctx, struct subject *subject)
{
	struct cmd_stream_header *header = &subject->header;
	struct meta_snapshot_info info, base_info = { .size_bytes = 0 };
	struct meta_pool_info pool;
	struct meta_disk *disk;

	meta_pool_info(ctx->meta, &pool);
	meta_snapshot_info(subject->snapshot, &info);
	if (subject->base)
		meta_snapshot_info(subject->base, &base_info);
	*header = (struct cmd_stream_header){ .pool = pool.uuid,
					      .snapshot = info.uuid,
					      .base = base_info.uuid,
					      .size_bytes = info.size_bytes,
					      .base_size_bytes = base_info.size_bytes,
					      .created_s = info.created_s,
					      .logical_block_bytes = 512 };
	memcpy(header->disk_name, info.disk_name, sizeof(header->disk_name));
	memcpy(header->snapshot_name, info.name, sizeof(header->snapshot_name));
	memcpy(header->base_name, base_info.name, sizeof(header->base_name));
	disk = meta_disk_get_by_number(ctx->meta, info.disk);
	if (disk) {
		struct meta_disk_info disk_info;

		meta_disk_info(disk, &disk_info);
		meta_disk_put(disk);
		header->disk = disk_info.record.uuid;
		header->logical_block_bytes = disk_info.record.logical_block_bytes;
	}
}

/* subject_done in every case. */
static int find_subject(struct cmd_context *ctx, const json_t *args, struct subject *ret, struct base_error *err)
{
	char text[NAME_ROOM], base[NAME_ROOM];
	struct meta_snapshot_info info;
	struct meta_snapshot *found;
	int r = cmd_arg_text(args, "snapshot", text, sizeof(text), err), has_base;

	*ret = (struct subject){ .snapshot = NULL };
	if (r == 0)
		r = cmd_snapshot_find(ctx, text, &found, err);
	if (r == 0)
		r = open_found(found, &ret->snapshot, err);
	if (r < 0)
		return r;
	meta_snapshot_info(ret->snapshot, &info);
	has_base = cmd_arg_text(args, "i", base, sizeof(base), err);
	if (has_base == 0)
		r = find_base(ctx, base, info.disk_name, &found, err);
	if (has_base == 0 && r == 0)
		r = open_found(found, &ret->base, err);
	if (r < 0 || has_base < 0)
		return MIN(r, has_base);
	fill_header(ctx, ret);
	if (ret->base && base_uuid_equal(ret->header.base, ret->header.snapshot))
		return base_error_set(err, -EINVAL, "-i %s: is the snapshot itself", base);
	return apply_token(args, &ret->header, err);
}

/* ---- sources ------------------------------------------------------------------------------ */

struct range {
	uint64_t offset, bytes;
	bool is_zero;
};

struct source {
	/* The first range that ends behind offset. Return: 0; 1: there is none; negative errno with err. */
	int (*next)(struct source *source, uint64_t offset, struct range *ret, struct base_error *err);
	/* Return: 0; negative errno. Within the snapshot. */
	int (*read)(struct source *source, uint64_t offset, void *buf, size_t bytes);
};

/* Of a mounted pool. */
struct file_source {
	struct source source;
	const struct cmd_pool_ref *pool;
	const struct cmd_stream_header *header;
	char older[NAME_ROOM], newer[NAME_ROOM];
	int fd, base_fd;
	json_t *page; /* NULL: none yet */
	size_t at;    /* in its extents */
};

static int read_file(struct source *source, uint64_t offset, void *buf, size_t bytes)
{
	struct file_source *file = container_of(source, struct file_source, source);

	for (size_t used = 0; used < bytes;) {
		ssize_t n = pread(file->fd, (char *)buf + used, bytes - used, (off_t)(offset + used));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -EIO;
		used += n > 0 ? (size_t)n : 0;
	}
	/* It is read once: the page cache has better things to keep. */
	posix_fadvise(file->fd, (off_t)offset, (off_t)bytes, POSIX_FADV_DONTNEED);
	return 0;
}

static bool page_is_about(const json_t *page, const char *key, struct base_uuid uuid)
{
	const char *text = json_string_value(json_object_get(page, key));
	struct base_uuid found = { 0 };

	return (!text || base_uuid_parse(text, &found) == 0) && base_uuid_equal(found, uuid);
}

/* Pages are asked for by name, and a disk can get another name while it is sent. */
static int fetch_page(struct file_source *file, uint64_t offset, struct base_error *err)
{
	int r;

	json_decref(file->page);
	file->page = NULL;
	file->at = 0;
	r = cmd_diff_fetch(file->pool, file->older, file->newer, offset, &file->page, err);
	if (r == 0 && (!page_is_about(file->page, "newer_uuid", file->header->snapshot) ||
		       !page_is_about(file->page, "older_uuid", file->header->base)))
		r = base_error_set(err, -ESTALE, "%s: has become another snapshot while it was sent", file->newer);
	return r;
}

static int next_in_pages(struct source *source, uint64_t offset, struct range *ret, struct base_error *err)
{
	struct file_source *file = container_of(source, struct file_source, source);
	int r = file->page ? 0 : fetch_page(file, offset, err);

	while (r == 0) {
		const json_t *it = json_array_get(json_object_get(file->page, "extents"), file->at);
		const json_t *more = json_object_get(file->page, "next_offset");
		const char *kind = json_string_value(json_object_get(it, "kind"));

		if (!it && !more)
			return 1;
		if (!it) {
			r = fetch_page(file, MAX(offset, (uint64_t)json_integer_value(more)), err);
			continue;
		}
		file->at++;
		*ret = (struct range){ .offset = (uint64_t)json_integer_value(json_object_get(it, "offset")),
				       .bytes = (uint64_t)json_integer_value(json_object_get(it, "bytes")),
				       .is_zero = kind && strcmp(kind, "zero") == 0 };
		if (ret->offset + ret->bytes > offset)
			return 0;
	}
	return r;
}

/* Of a pool that is open here. */
struct pool_source {
	struct source source;
	struct ioc_pool *ioc;
	struct ioc_bd *bd;
	struct meta_diff *diff;
};

static int read_bd(struct source *source, uint64_t offset, void *buf, size_t bytes)
{
	struct pool_source *pool = container_of(source, struct pool_source, source);
	struct iovec segment = { .iov_base = buf, .iov_len = bytes };
	struct ioc_request req = { .op = IOC_OP_READ,
				   .bd = pool->bd,
				   .offset = offset,
				   .length = bytes,
				   .segments = &segment,
				   .segment_count = 1 };

	return ioc_bd_call(pool->ioc, &req);
}

static int next_in_diff(struct source *source, uint64_t offset, struct range *ret, struct base_error *err)
{
	struct pool_source *pool = container_of(source, struct pool_source, source);
	struct meta_extent extent = { .offset = 0 };
	int r;

	do
		r = meta_diff_next(pool->diff, &extent);
	while (r == 0 && extent.offset + extent.bytes <= offset);
	if (r < 0)
		return base_error_set_errno(err, r, "the difference could not be read");
	*ret = (struct range){ .offset = extent.offset,
			       .bytes = extent.bytes,
			       .is_zero = extent.kind == META_EXTENT_ZERO };
	return r;
}

/* ---- sending ------------------------------------------------------------------------------ */

struct sending {
	struct source *source;
	const struct cmd_stream_header *header;
	struct cmd_stream stream;
	struct cmd_meter meter;
	int out;
	uint8_t *buf; /* CMD_STREAM_DATA_BYTES_MAX, page-aligned */
	struct base_error *err;
};

static int put_out(struct sending *s, const void *bytes, size_t count)
{
	int r = cmd_transfer_write(s->out, bytes, count);

	if (r == -EPIPE)
		return base_error_set(s->err, r, "whoever read the stream is gone");
	if (r == -EINTR)
		return base_error_set(s->err, -ECANCELED, "interrupted");
	return r < 0 ? base_error_set_errno(s->err, r, "writing the stream") : 0;
}

/* data NULL: zeros. */
static int put_range(struct sending *s, uint64_t offset, uint64_t length, const uint8_t *data)
{
	uint8_t head[CMD_STREAM_HEAD_BYTES];
	int r;

	cmd_stream_put(&s->stream, offset, length, data, head);
	r = put_out(s, head, sizeof(head));
	if (r == 0 && data)
		r = put_out(s, data, length);
	return r;
}

static bool is_zero(const uint8_t *bytes, size_t count)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0;
}

/* How much of buf from at on is alike: chunks that are zero, or chunks that are not. */
static size_t run_of(const uint8_t *buf, size_t at, size_t count, bool *ret_zero)
{
	size_t end = at;
	bool zero = false;

	while (end < count) {
		size_t step = MIN(CHUNK_BYTES, count - end);
		bool this_zero = is_zero(buf + end, step);

		if (end > at && this_zero != zero)
			break;
		zero = this_zero;
		end += step;
	}
	*ret_zero = zero;
	return end - at;
}

static int send_piece(struct sending *s, uint64_t offset, size_t count)
{
	bool incremental = cmd_stream_is_incremental(s->header), zero;
	int r = s->source->read(s->source, offset, s->buf, count);

	if (r < 0)
		return base_error_set_errno(s->err, r, "reading the snapshot at %llu", (unsigned long long)offset);
	for (size_t at = 0, n; r == 0 && at < count; at += n) {
		n = run_of(s->buf, at, count, &zero);
		if (!zero)
			r = put_range(s, offset + at, n, s->buf + at);
		else if (incremental) /* what a full stream leaves out is zero */
			r = put_range(s, offset + at, n, NULL);
	}
	return r;
}

static int report(struct sending *s, uint64_t at_bytes)
{
	return cmd_meter_report(&s->meter, at_bytes, s->stream.data_bytes) < 0
		       ? base_error_set(s->err, -ECANCELED, "interrupted")
		       : 0;
}

static int send_one(struct sending *s, const struct range *range, uint64_t from)
{
	uint64_t offset = MAX(range->offset, from), end = range->offset + range->bytes;
	int r = 0;

	if (range->is_zero && cmd_stream_is_incremental(s->header))
		r = put_range(s, offset, end - offset, NULL);
	while (r == 0 && !range->is_zero && offset < end) {
		/* By whole mebibytes of the disk: how ranges are cut above does not show in the stream. */
		size_t count = MIN(end - offset, CMD_STREAM_DATA_BYTES_MAX - offset % CMD_STREAM_DATA_BYTES_MAX);

		r = send_piece(s, offset, count);
		offset += count;
		if (r == 0)
			r = report(s, offset);
	}
	return r;
}

static int send_all(struct sending *s)
{
	uint8_t begin[CMD_STREAM_BEGIN_BYTES_MAX], end[CMD_STREAM_END_BYTES];
	uint64_t from = s->header->start_bytes;
	struct range range;
	int r = put_out(s, begin, cmd_stream_begin(&s->stream, s->header, begin));

	while (r == 0 && from < s->header->size_bytes) {
		r = s->source->next(s->source, from, &range, s->err);
		if (r == 0)
			r = send_one(s, &range, from);
		from = range.offset + range.bytes;
	}
	if (r < 0)
		return r;
	cmd_stream_put_end(&s->stream, end);
	return put_out(s, end, sizeof(end));
}

/* -file or standard output. Return: a descriptor; negative errno with err. */
static int open_out(const json_t *args, bool *ret_is_file, struct base_error *err)
{
	char path[PATH_MAX];
	int r = cmd_arg_text(args, "file", path, sizeof(path), err), fd;

	*ret_is_file = r == 0;
	if (r < 0 || r == CMD_ARG_ABSENT)
		return r < 0 ? r : STDOUT_FILENO;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return fd < 0 ? base_error_set_errno(err, -errno, "%s", path) : fd;
}

static int close_out(int fd, struct base_error *err)
{
	int r = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;

	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r < 0 ? base_error_set_errno(err, r, "writing the file of the stream") : 0;
}

static json_t *sent_to_json(const struct sending *s)
{
	return json_pack("{s:o, s:o, s:I, s:I, s:I, s:I}", "disk", cmd_text_to_json(s->header->disk_name), "snapshot",
			 cmd_text_to_json(s->header->snapshot_name), "size_bytes", (json_int_t)s->header->size_bytes,
			 "data_bytes", (json_int_t)s->stream.data_bytes, "zero_bytes",
			 (json_int_t)s->stream.zero_bytes, "records", (json_int_t)s->stream.records);
}

/* Gives {"disk", "snapshot", "data_bytes" ...} when it went to a file; nothing beside a stream on standard output. */
static int send_from(struct cmd_context *ctx, struct source *source, const struct cmd_stream_header *header,
		     const json_t *args, json_t **ret_result, struct base_error *err)
{
	struct sending s = { .source = source, .header = header, .err = err };
	bool is_file;
	int r;

	s.out = open_out(args, &is_file, err);
	if (s.out < 0)
		return s.out;
	s.buf = aligned_alloc(BLOCK_BYTES, CMD_STREAM_DATA_BYTES_MAX);
	r = s.buf ? 0 : base_error_set(err, -ENOMEM, "out of memory");
	signal(SIGPIPE, SIG_IGN);
	cmd_meter_start(&s.meter, ctx->progress, "send", header->start_bytes, header->size_bytes);
	if (r == 0)
		r = send_all(&s);
	if (is_file && close_out(s.out, r == 0 ? err : NULL) < 0 && r == 0)
		r = err->code;
	if (r == 0)
		*ret_result = is_file ? sent_to_json(&s) : json_object();
	free(s.buf);
	return r;
}

/* ---- from here, from there ---------------------------------------------------------------- */

static int send_here(struct cmd_context *ctx, const struct subject *subject, const json_t *args, json_t **ret_result,
		     struct base_error *err)
{
	struct pool_source pool = { .source = { next_in_diff, read_bd }, .ioc = ctx->ioc };
	struct meta_diff_side older = { .snapshot = subject->base }, newer = { .snapshot = subject->snapshot };
	int r = ioc_snapshot_open(ctx->ioc, subject->snapshot, &pool.bd, err);

	if (r < 0)
		return r;
	r = meta_diff_begin(ctx->meta, &older, &newer, &pool.diff, err);
	if (r == 0) {
		r = send_from(ctx, &pool.source, &subject->header, args, ret_result, err);
		meta_diff_end(pool.diff);
	}
	ioc_snapshot_close(pool.bd);
	return r;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct subject subject;
	int r = find_subject(ctx, args, &subject, err);

	if (r == 0 && ctx->service)
		*ret_result = json_pack("{s:o, s:o}", "mountpoint", cmd_text_to_json(ctx->service->mountpoint),
					"header", cmd_transfer_header_to_json(&subject.header));
	else if (r == 0)
		r = send_here(ctx, &subject, args, ret_result, err);
	subject_done(&subject);
	return r;
}

static int open_files(struct file_source *file, const char *mountpoint, const struct cmd_stream_header *header,
		      struct base_error *err)
{
	char suffix[3 * NAME_ROOM];

	/* The base's disk may be another one; its file is open only to keep it there. */
	snprintf(file->newer, sizeof(file->newer), "%s@%s", header->disk_name, header->snapshot_name);
	snprintf(suffix, sizeof(suffix), "snapshots/%s/%s", header->disk_name, header->snapshot_name);
	file->fd = cmd_transfer_open(mountpoint, suffix, O_RDONLY, header->snapshot, err);
	if (file->fd < 0 || !header->base_name[0])
		return MIN(file->fd, 0);
	snprintf(suffix, sizeof(suffix), "snapshots/%.*s/%s", (int)(strrchr(file->older, '@') - file->older),
		 file->older, header->base_name);
	file->base_fd = cmd_transfer_open(mountpoint, suffix, O_RDONLY, header->base, err);
	return MIN(file->base_fd, 0);
}

/* What -i said, whole. */
static void name_base(const json_t *args, const struct cmd_stream_header *header, char older[NAME_ROOM])
{
	char base[NAME_ROOM];

	if (cmd_arg_text(args, "i", base, sizeof(base), NULL) != 0)
		snprintf(older, NAME_ROOM, "-");
	else if (strchr(base, '@'))
		snprintf(older, NAME_ROOM, "%s", base);
	else
		snprintf(older, NAME_ROOM, "%s@%s", header->disk_name, header->base_name);
}

static int send_mounted(struct cmd_context *ctx, const struct cmd_pool_ref *pool, const json_t *plan,
			const json_t *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_stream_header header;
	struct file_source file = { .source = { next_in_pages, read_file },
				    .pool = pool,
				    .header = &header,
				    .fd = -1,
				    .base_fd = -1 };
	struct cmd_stream ignored;
	char mountpoint[PATH_MAX];
	int r = cmd_text_from_json(json_object_get(plan, "mountpoint"), mountpoint, sizeof(mountpoint));

	if (r < 0)
		return base_error_set(err, -EBADMSG, "no proper answer from the daemon");
	r = cmd_transfer_header_from_json(json_object_get(plan, "header"), &ignored, &header, err);
	if (r < 0)
		return r;
	name_base(args, &header, file.older);
	r = open_files(&file, mountpoint, &header, err);
	if (r == 0)
		r = send_from(ctx, &file.source, &header, args, ret_result, err);
	json_decref(file.page);
	if (file.fd >= 0)
		close(file.fd);
	if (file.base_fd >= 0)
		close(file.base_fd);
	return r;
}

static int local(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct cmd_outcome outcome = { 0 };
	struct cmd_pool_ref pool;
	int r;

	if (!cmd_arg_is_set(args, "file") && isatty(STDOUT_FILENO))
		return base_error_set(err, -EINVAL,
				      "a stream is nothing for a terminal: redirect the output, or -file");
	r = cmd_execute_pool(ctx, args, &pool, err);
	if (r < 0)
		return r;
	cmd_execute_on(&pool, &cmd_send, args, ctx->progress, &outcome);
	ctx->subject = outcome.subject;
	r = outcome.code;
	if (r < 0)
		*err = outcome.err;
	else if (json_object_get(outcome.result, "mountpoint"))
		r = send_mounted(ctx, &pool, outcome.result, args, ret_result, err);
	else
		*ret_result = json_incref(outcome.result);
	cmd_outcome_done(&outcome);
	/* Behind a stream on standard output there is nothing to say. */
	if (r == 0 && !cmd_arg_is_set(args, "file")) {
		json_decref(*ret_result);
		*ret_result = NULL;
	}
	return r;
}

static unsigned needs(const json_t *args)
{
	return CMD_CHANGES | CMD_IO | CMD_ONLY_READS;
}

const struct cmd_verb cmd_send = {
	.name = "send",
	.summary = "write a snapshot, or what changed between two, as a stream",
	.synopsis = "bdfs send DISK@SNAPSHOT [-i BASE] [-resume TOKEN] [-file PATH] [-sp POOL]",
	.about =
		"Writes the snapshot to standard output, for `bdfs receive` in another pool or on another host. With "
		"-i only what changed since the snapshot BASE, which the receiver must have received before. Nothing "
		"that is zero or unchanged is read or sent.\n"
		"A stream carries checksums: a receiver refuses one that was cut or altered. It is not encrypted; send "
		"it through ssh. If it breaks off, the receiver prints a token, and -resume goes on from there.",
	.examples = "bdfs send web1@monday -sp vms | ssh backup bdfs receive -sp store\n"
		    "bdfs send web1@tuesday -i monday -sp vms | ssh backup bdfs receive -sp store\n"
		    "bdfs send web1@monday -sp vms -file /backup/web1.bdfs",
	.options = options,
	.local = local,
	.run = run,
	.needs = needs,
};
