/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving, as the pool sees it: begin, finish, discard.
 *
 * A stream is received into a hidden disk, `.receive-` and a hash of the name
 * that it is to get. Its labels say of which stream it holds how much, so that a
 * receive can go on after any break, this host's included. Nothing else of the
 * pool changes before the stream has come to its end:
 *
 *   full           new empty disk -> receive -> snapshot it -> give it the name
 *   incremental    clone of the base -> receive -> snapshot it -> give it the name,
 *                  or, if the disk of that name has the base, let that disk take
 *                  over head and snapshot
 *
 * The snapshot gets the UUID of the sender's; by that the next incremental stream
 * finds its base. Each arrow is durable and whole; a finish that was interrupted
 * between two of them is done again from where it was.
 *
 * A disk that takes over must be as it was at the base: not in use, and nothing
 * written since, unless the user gives that up.
 *
 * Failure modes: all are found at the beginning as far as they can be, and once
 * more at the end, where others may have changed the pool. A hidden disk without
 * sound labels (made by a receive that was killed right then) is made anew. One
 * of another stream stands in the way until it is discarded.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checksum.h"
#include "base/uuid.h"
#include "cmd/disks.h"
#include "cmd/receive.h"
#include "cmd/snapshots.h"
#include "cmd/text.h"
#include "iocore/snapshot.h"
#include "meta/snapshot.h"

#define MARK_WORD "bdfs-receive "
#define RELEASE_PATIENCE_NS UINT64_C(300000000)

char *cmd_receive_hidden_name(const char *name, char buf[CMD_RECEIVE_HIDDEN_BYTES])
{
	snprintf(buf, CMD_RECEIVE_HIDDEN_BYTES, ".receive-%016" PRIx64, base_checksum(name, strlen(name)));
	return buf;
}

char *cmd_receive_mark_to_text(const struct cmd_receive_mark *mark, char buf[CMD_RECEIVE_MARK_BYTES])
{
	char token[CMD_STREAM_TOKEN_BYTES];

	snprintf(buf, CMD_RECEIVE_MARK_BYTES, MARK_WORD "%s %" PRIu64, cmd_stream_token_to_text(&mark->token, token),
		 mark->size_bytes);
	return buf;
}

int cmd_receive_mark_parse(const char *text, struct cmd_receive_mark *ret)
{
	char token[CMD_STREAM_TOKEN_BYTES], *end;
	const char *blank;

	if (strncmp(text, MARK_WORD, strlen(MARK_WORD)) != 0)
		return -EINVAL;
	text += strlen(MARK_WORD);
	blank = strchr(text, ' ');
	if (!blank || (size_t)(blank - text) >= sizeof(token) || blank[1] < '0' || blank[1] > '9')
		return -EINVAL;
	snprintf(token, sizeof(token), "%.*s", (int)(blank - text), text);
	ret->size_bytes = strtoull(blank + 1, &end, 10);
	return *end ? -EINVAL : cmd_stream_token_parse(token, &ret->token);
}

/* ---- judging ------------------------------------------------------------------------------ */

/* Who plays a part. All are referenced, or NULL. */
struct cast {
	struct meta_disk *disk;     /* of the name; NULL: it is to be made */
	struct meta_snapshot *base; /* of an incremental stream */
	struct meta_disk *hidden;
};

static void cast_done(struct cast *cast)
{
	if (cast->disk)
		meta_disk_put(cast->disk);
	if (cast->base)
		meta_snapshot_put(cast->base);
	if (cast->hidden)
		meta_disk_put(cast->hidden);
}

static int find_base(struct cmd_context *ctx, const struct cmd_stream_header *header, struct cast *cast,
		     struct base_error *err)
{
	if (!cmd_stream_is_incremental(header))
		return 0;
	cast->base = meta_snapshot_get_by_uuid(ctx->meta, header->base);
	if (cast->base)
		return 0;
	return base_error_set(err, -ENOENT,
			      "the stream is what changed since %s@%s, and that snapshot has not been received here: "
			      "send it first, or a full stream",
			      header->disk_name, header->base_name);
}

/* Return: 0: nothing was written since the base; 1: something was; negative errno with err. */
static int is_changed(struct cmd_context *ctx, const struct cast *cast, struct base_error *err)
{
	struct meta_diff_side older = { .snapshot = cast->base }, newer = { .disk = cast->disk };
	struct meta_snapshot_info base;
	struct meta_extent extent;
	struct meta_diff *diff;
	int r = meta_snapshot_open(cast->base, err);

	if (r < 0)
		return r;
	meta_snapshot_info(cast->base, &base);
	r = meta_disk_open(cast->disk, err);
	if (r == 0) {
		r = meta_diff_begin(ctx->meta, &older, &newer, &diff, err);
		if (r == 0) {
			r = meta_diff_next(diff, &extent);
			meta_diff_end(diff);
			if (r < 0)
				base_error_set_errno(err, r, "the difference to the base could not be read");
			else
				r = r == 0 || meta_disk_size(cast->disk) != base.size_bytes;
		}
		meta_disk_close(cast->disk);
	}
	meta_snapshot_close(cast->base);
	return r;
}

/* Whether the disk that is there can take over. */
static int judge_disk(struct cmd_context *ctx, const struct cmd_stream_header *header, const char *name,
		      bool rolls_back, const struct cast *cast, struct base_error *err)
{
	struct meta_snapshot *same;
	struct meta_snapshot_info base;
	int r;

	if (!cast->base)
		return base_error_set(
			err, -EEXIST,
			"%s: is there already; a full stream makes a new disk: choose another name with "
			"-lu, or send what changed since a snapshot (-i)",
			name);
	meta_snapshot_info(cast->base, &base);
	if (base.disk != meta_disk_number(cast->disk))
		return base_error_set(
			err, -EEXIST,
			"%s: is there already, and the base of the stream is %s@%s: choose another name "
			"with -lu",
			name, base.disk_name, base.name);
	same = meta_snapshot_get_by_name(cast->disk, header->snapshot_name);
	if (same) {
		meta_snapshot_put(same);
		return base_error_set(err, -EEXIST, "%s@%s: is there already", name, header->snapshot_name);
	}
	if (meta_disk_wait_closed(cast->disk, RELEASE_PATIENCE_NS) < 0)
		return base_error_set(err, -EBUSY, "%s: in use (open %u times): close what uses it first", name,
				      meta_disk_opens(cast->disk));
	r = rolls_back ? 0 : is_changed(ctx, cast, err);
	if (r == 1)
		return base_error_set(err, -EBUSY,
				      "%s: was changed since %s, so it can't become what the stream says: add "
				      "-rollback to give those changes up",
				      name, base.name);
	return r;
}

static int judge(struct cmd_context *ctx, const struct cmd_stream_header *header, const char *name, bool rolls_back,
		 struct cast *ret, struct base_error *err)
{
	char hidden[CMD_RECEIVE_HIDDEN_BYTES];
	int r = meta_name_check(name, err);

	*ret = (struct cast){ .disk = NULL };
	if (r == 0)
		r = cmd_snapshot_check_name(header->snapshot_name, err);
	if (r < 0)
		return base_error_wrap(err, "%s", name);
	ret->disk = meta_disk_get_by_name(ctx->meta, name);
	ret->hidden = meta_disk_get_by_name(ctx->meta, cmd_receive_hidden_name(name, hidden));
	r = find_base(ctx, header, ret, err);
	if (r == 0 && ret->disk)
		r = judge_disk(ctx, header, name, rolls_back, ret, err);
	return r;
}

/* A snapshot with the stream's UUID may be there only below the hidden disk: of a finish that was interrupted. */
static int judge_uuid(struct cmd_context *ctx, const struct cmd_stream_header *header, const struct cast *cast,
		      bool *ret_is_taken, struct base_error *err)
{
	struct meta_snapshot *same = meta_snapshot_get_by_uuid(ctx->meta, header->snapshot);
	struct meta_snapshot_info info;

	*ret_is_taken = false;
	if (!same)
		return 0;
	meta_snapshot_info(same, &info);
	meta_snapshot_put(same);
	*ret_is_taken = cast->hidden && info.disk == meta_disk_number(cast->hidden);
	return *ret_is_taken ? 0
			     : base_error_set(err, -EEXIST, "this pool has the snapshot already: %s@%s",
					      info.disk_name, info.name);
}

/* ---- begin -------------------------------------------------------------------------------- */

static struct cmd_receive_mark mark_of(const struct cmd_stream_header *header, uint64_t at_bytes)
{
	return (struct cmd_receive_mark){
		.token = { .snapshot = header->snapshot, .base = header->base, .at_bytes = at_bytes },
		.size_bytes = header->size_bytes,
	};
}

int cmd_receive_set_mark(struct meta_disk *disk, const struct cmd_receive_mark *mark, struct base_error *err)
{
	struct meta_disk_attr attr = { .modified_s = 0 };

	cmd_receive_mark_to_text(mark, attr.labels);
	return meta_disk_set_attr(disk, META_ATTR_LABELS, &attr, err);
}

static void fill_owner(struct cmd_context *ctx, struct meta_disk_spec *spec)
{
	struct stat st;

	if (stat(ctx->directory, &st) == 0) {
		spec->uid = st.st_uid;
		spec->gid = st.st_gid;
	}
}

/* Labels come with the disk, so there is none without. */
static int make_hidden(struct cmd_context *ctx, const struct cmd_stream_header *header, const char *name,
		       struct cast *cast, struct base_error *err)
{
	struct meta_disk_spec spec = { .logical_block_bytes = header->logical_block_bytes, .kind = META_DISK_THIN };
	struct cmd_receive_mark mark = mark_of(header, 0);
	uint64_t number;
	int r;

	cmd_receive_hidden_name(name, spec.name);
	cmd_receive_mark_to_text(&mark, spec.labels);
	fill_owner(ctx, &spec);
	if (cast->base) {
		r = meta_snapshot_clone(cast->base, &spec, &number, err);
	} else {
		spec.size_bytes = header->size_bytes;
		r = meta_disk_create(ctx->meta, &spec, 1, &number, err);
	}
	if (r < 0)
		return base_error_wrap(err, "%s: can't be received", name);
	cast->hidden = meta_disk_get_by_number(ctx->meta, number);
	return cast->hidden ? 0 : base_error_set(err, -ENOENT, "%s: the hidden disk is gone again", name);
}

/* A clone has the base's size until this. */
static int fit_size(struct cmd_context *ctx, const struct cmd_stream_header *header, struct meta_disk *hidden,
		    struct base_error *err)
{
	struct ioc_request req = { .op = IOC_OP_RESIZE, .offset = header->size_bytes };
	int r;

	if (meta_disk_size(hidden) == header->size_bytes)
		return 0;
	r = ioc_disk_open(ctx->ioc, hidden, &req.bd, err);
	if (r < 0)
		return r;
	r = ioc_bd_call(ctx->ioc, &req);
	ioc_disk_close(req.bd);
	return r < 0 ? base_error_set_errno(err, r, "setting the size of the hidden disk") : 0;
}

static int read_mark(struct meta_disk *hidden, struct cmd_receive_mark *ret)
{
	struct meta_disk_info info;

	meta_disk_info(hidden, &info);
	return cmd_receive_mark_parse(info.record.labels, ret);
}

static int remove_hidden(struct cmd_context *ctx, struct cast *cast, struct base_error *err)
{
	int r = cmd_disk_remove(ctx, cast->hidden, true, err);

	if (r == 0) {
		meta_disk_put(cast->hidden);
		cast->hidden = NULL;
	}
	return r;
}

/* Whether the hidden disk that is there is this stream's, and the stream begins where that ends or before. */
static int judge_hidden(const struct cmd_stream_header *header, const char *name, const struct cmd_receive_mark *mark,
			struct base_error *err)
{
	char text[CMD_STREAM_TOKEN_BYTES];

	if (!base_uuid_equal(mark->token.snapshot, header->snapshot) ||
	    !base_uuid_equal(mark->token.base, header->base) || mark->size_bytes != header->size_bytes)
		return base_error_set(
			err, -EEXIST,
			"%s: a part of another stream was received: go on with that (its token is %s), or "
			"drop it with `bdfs receive -discard -lu %s`",
			name, cmd_stream_token_to_text(&mark->token, text), name);
	if (header->start_bytes > mark->token.at_bytes)
		return base_error_set(err, -EINVAL, "%s: the stream begins behind what was received; its token is %s",
				      name, cmd_stream_token_to_text(&mark->token, text));
	return 0;
}

static int use_hidden(struct cmd_context *ctx, const struct cmd_stream_header *header, const char *name,
		      struct cast *cast, struct base_error *err)
{
	struct cmd_receive_mark mark;

	if (cast->hidden && meta_disk_wait_closed(cast->hidden, RELEASE_PATIENCE_NS) < 0)
		return base_error_set(err, -EBUSY, "%s: is just being received by another command", name);
	if (cast->hidden && read_mark(cast->hidden, &mark) < 0 && remove_hidden(ctx, cast, err) < 0)
		return err ? err->code : -EIO;
	if (cast->hidden)
		return judge_hidden(header, name, &mark, err);
	if (header->start_bytes > 0)
		return base_error_set(
			err, -EINVAL,
			"%s: the stream goes on with one that broke off, and nothing of that was received "
			"here",
			name);
	return make_hidden(ctx, header, name, cast, err);
}

int cmd_receive_begin(struct cmd_context *ctx, const struct cmd_stream_header *header, const char *name,
		      bool rolls_back, struct meta_disk **ret, uint64_t *ret_at_bytes, struct base_error *err)
{
	struct cmd_receive_mark mark;
	struct cast cast;
	bool is_taken;
	int r = judge(ctx, header, name, rolls_back, &cast, err);

	if (r == 0)
		r = judge_uuid(ctx, header, &cast, &is_taken, err);
	if (r == 0)
		r = use_hidden(ctx, header, name, &cast, err);
	if (r == 0)
		r = fit_size(ctx, header, cast.hidden, err);
	if (r == 0) {
		*ret_at_bytes = read_mark(cast.hidden, &mark) == 0 ? mark.token.at_bytes : 0;
		*ret = cast.hidden;
		cast.hidden = NULL;
	}
	cast_done(&cast);
	return r;
}

/* ---- finish ------------------------------------------------------------------------------- */

static int take_snapshot(struct cmd_context *ctx, const struct cmd_stream_header *header, const struct cast *cast,
			 struct base_error *err)
{
	struct ioc_snapshot_spec spec = { .disk = cast->hidden,
					  .name = header->snapshot_name,
					  .uuid = header->snapshot };
	bool is_taken;
	int r = judge_uuid(ctx, header, cast, &is_taken, err);

	if (r == 0 && !is_taken)
		r = ioc_snapshot_create(ctx->ioc, &spec, 1, NULL, err);
	return r;
}

static int make_visible(struct cmd_context *ctx, const char *name, const struct cast *cast, struct base_error *err)
{
	struct meta_disk_attr no_labels = { .modified_s = 0 };
	char hidden[CMD_RECEIVE_HIDDEN_BYTES];
	uint64_t number = meta_disk_number(cast->hidden);
	int r;

	cmd_receive_hidden_name(name, hidden);
	r = cast->disk ? meta_disk_take_over(cast->disk, cast->hidden, err)
		       : meta_disk_rename(cast->hidden, name, err);
	/* Last: until it is visible the mark is what a finish that was killed is made again from. */
	if (r == 0 && !cast->disk)
		r = meta_disk_set_attr(cast->hidden, META_ATTR_LABELS, &no_labels, err);
	if (r < 0 || !ctx->service)
		return r;
	if (cast->disk) {
		ctx->service->disk_removed(ctx->service, number, hidden);
		ctx->service->disk_replaced(ctx->service, meta_disk_number(cast->disk));
	} else {
		ctx->service->disk_renamed(ctx->service, number, hidden);
	}
	return 0;
}

static int check_whole(const struct cast *cast, const char *name, struct base_error *err)
{
	struct cmd_receive_mark mark;

	if (!cast->hidden || read_mark(cast->hidden, &mark) < 0)
		return base_error_set(err, -ENOENT, "%s: nothing was received", name);
	if (mark.token.at_bytes != mark.size_bytes)
		return base_error_set(err, -EINVAL, "%s: the stream has not come to its end", name);
	if (meta_disk_wait_closed(cast->hidden, RELEASE_PATIENCE_NS) < 0)
		return base_error_set(err, -EBUSY, "%s: what was received is still open", name);
	return 0;
}

int cmd_receive_finish(struct cmd_context *ctx, const struct cmd_stream_header *header, const char *name,
		       bool rolls_back, json_t **ret_result, struct base_error *err)
{
	struct cast cast;
	int r = judge(ctx, header, name, rolls_back, &cast, err);

	if (r == 0)
		r = check_whole(&cast, name, err);
	if (r == 0)
		r = take_snapshot(ctx, header, &cast, err);
	if (r == 0)
		r = make_visible(ctx, name, &cast, err);
	if (r < 0)
		base_error_wrap(err, "%s: received, but not made visible", name);
	else
		*ret_result = json_pack("{s:o, s:o}", "disk", cmd_disk_to_json(cast.disk ? cast.disk : cast.hidden),
					"snapshot", cmd_text_to_json(header->snapshot_name));
	cast_done(&cast);
	return r;
}

/* ---- what broke off ----------------------------------------------------------------------- */

static int find_hidden(struct cmd_context *ctx, const char *name, struct cast *ret, struct base_error *err)
{
	char hidden[CMD_RECEIVE_HIDDEN_BYTES];

	*ret = (struct cast){ .hidden = meta_disk_get_by_name(ctx->meta, cmd_receive_hidden_name(name, hidden)) };
	return ret->hidden ? 0 : base_error_set(err, -ENOENT, "%s: nothing of it was received", name);
}

int cmd_receive_status(struct cmd_context *ctx, const char *name, struct cmd_receive_mark *ret,
		       struct base_error *err)
{
	struct cast cast;
	int r = find_hidden(ctx, name, &cast, err);

	if (r == 0 && read_mark(cast.hidden, ret) < 0)
		r = base_error_set(err, -ENOENT, "%s: nothing of it was received", name);
	cast_done(&cast);
	return r;
}

int cmd_receive_discard(struct cmd_context *ctx, const char *name, struct base_error *err)
{
	struct cast cast;
	int r = find_hidden(ctx, name, &cast, err);

	if (r == 0)
		r = remove_hidden(ctx, &cast, err);
	cast_done(&cast);
	return r;
}
