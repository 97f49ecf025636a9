/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `snapshot -diff`, on the pool and in the command.
 *
 * The difference is read from the maps alone. A pool answers in pages, since a
 * large disk can have millions of extents and an answer is built in memory; the
 * command asks page after page and joins them, `bdfs send` uses each as it
 * comes. Pages agree with each other when both sides are snapshots, which never
 * change; of a disk in use each page tells what was there when it was made.
 *
 * Neighbours of one kind are joined, across what the core hands out in pieces.
 *
 * Failure modes: a side that is not there names itself; a damaged map is the
 * core's error. Both sides are open while a page is made, so neither goes away.
 */
#include <errno.h>
#include <string.h>

#include "base/uuid.h"
#include "cmd/args.h"
#include "cmd/diff.h"
#include "cmd/disks.h"
#include "cmd/snapshots.h"
#include "cmd/text.h"
#include "meta/snapshot.h"

#define PAGE_EXTENTS 100000
#define TEXT_BYTES (2 * NAME_BYTES_MAX + 2)

/* ---- one side ----------------------------------------------------------------------------- */

struct side {
	struct meta_diff_side is; /* both NULL: nothing */
	uint64_t size_bytes;
};

static int open_snapshot(struct cmd_context *ctx, const char *text, struct side *ret, struct base_error *err)
{
	struct meta_snapshot_info info;
	struct meta_snapshot *snapshot;
	int r = cmd_snapshot_find(ctx, text, &snapshot, err);

	if (r < 0)
		return r;
	r = meta_snapshot_open(snapshot, err);
	if (r < 0) {
		meta_snapshot_put(snapshot);
		return base_error_wrap(err, "%s", text);
	}
	meta_snapshot_info(snapshot, &info);
	*ret = (struct side){ .is.snapshot = snapshot, .size_bytes = info.size_bytes };
	return 0;
}

static int open_side(struct cmd_context *ctx, const char *text, struct side *ret, struct base_error *err)
{
	struct meta_disk *disk;
	int r;

	*ret = (struct side){ .size_bytes = 0 };
	if (strcmp(text, "-") == 0)
		return 0;
	disk = meta_disk_get_by_name(ctx->meta, text);
	if (!disk && strchr(text, '@'))
		return open_snapshot(ctx, text, ret, err);
	if (!disk)
		return cmd_disk_find(ctx, text, &disk, err);
	r = meta_disk_open(disk, err);
	if (r < 0) {
		meta_disk_put(disk);
		return base_error_wrap(err, "%s", text);
	}
	*ret = (struct side){ .is.disk = disk, .size_bytes = meta_disk_size(disk) };
	return 0;
}

static void close_side(struct side *side)
{
	if (side->is.snapshot) {
		meta_snapshot_close(side->is.snapshot);
		meta_snapshot_put(side->is.snapshot);
	} else if (side->is.disk) {
		meta_disk_close(side->is.disk);
		meta_disk_put(side->is.disk);
	}
}

/* ---- a page ------------------------------------------------------------------------------- */

struct page {
	json_t *extents;
	uint64_t offset, limit;
	struct meta_extent last; /* not in extents yet, as it may grow; no bytes: none */
	uint64_t data_bytes, zero_bytes;
	uint64_t next_offset;
	bool is_full;
};

static int page_flush(struct page *page)
{
	const struct meta_extent *last = &page->last;
	bool zero = last->kind == META_EXTENT_ZERO;

	if (last->bytes == 0)
		return 0;
	*(zero ? &page->zero_bytes : &page->data_bytes) += last->bytes;
	return json_array_append_new(page->extents,
				     json_pack("{s:I, s:I, s:s}", "offset", (json_int_t)last->offset, "bytes",
					       (json_int_t)last->bytes, "kind", zero ? "zero" : "data"))
		       ? -ENOMEM
		       : 0;
}

static int page_add(struct page *page, const struct meta_extent *extent)
{
	struct meta_extent it = *extent;
	int r;

	if (it.offset + it.bytes <= page->offset)
		return 0;
	if (it.offset < page->offset) {
		it.bytes -= page->offset - it.offset;
		it.offset = page->offset;
	}
	if (page->last.bytes > 0 && page->last.kind == it.kind && page->last.offset + page->last.bytes == it.offset) {
		page->last.bytes += it.bytes;
		return 0;
	}
	if (json_array_size(page->extents) + (page->last.bytes > 0) >= page->limit) {
		page->is_full = true;
		page->next_offset = it.offset;
		return 0;
	}
	r = page_flush(page);
	page->last = it;
	return r;
}

static int fill_page(struct cmd_context *ctx, const struct side sides[2], struct page *page, struct base_error *err)
{
	const struct meta_diff_side *older = sides[0].is.snapshot || sides[0].is.disk ? &sides[0].is : NULL;
	struct meta_diff_side nothing = { 0 };
	struct meta_extent extent;
	struct meta_diff *diff;
	int r = meta_diff_begin(ctx->meta, older ? older : &nothing, &sides[1].is, &diff, err);

	if (r < 0)
		return r;
	while (!page->is_full && (r = meta_diff_next(diff, &extent)) == 0) {
		r = page_add(page, &extent);
		if (r < 0)
			break;
	}
	meta_diff_end(diff);
	if (r >= 0)
		r = page_flush(page);
	return r < 0 ? base_error_set_errno(err, r, "the difference could not be read") : 0;
}

/* null for what is no snapshot. */
static json_t *uuid_to_json(const struct side *side)
{
	char text[BASE_UUID_TEXT_BYTES];
	struct meta_snapshot_info info;

	if (!side->is.snapshot)
		return json_null();
	meta_snapshot_info(side->is.snapshot, &info);
	return json_string(base_uuid_to_text(info.uuid, text));
}

static int make_page(struct cmd_context *ctx, const struct side sides[2], const json_t *args, json_t **ret_result,
		     struct base_error *err)
{
	struct page page = { .extents = json_array(),
			     .offset = (uint64_t)cmd_arg_number(args, "offset", 0),
			     .limit = MIN((uint64_t)cmd_arg_number(args, "limit", PAGE_EXTENTS), PAGE_EXTENTS) };
	int r = fill_page(ctx, sides, &page, err);

	if (r < 0) {
		json_decref(page.extents);
		return r;
	}
	*ret_result = json_pack("{s:O, s:O, s:o, s:o, s:I, s:I, s:I, s:o}", "older", json_object_get(args, "name"),
				"newer", json_object_get(args, "other"), "older_uuid", uuid_to_json(&sides[0]),
				"newer_uuid", uuid_to_json(&sides[1]), "size_bytes", (json_int_t)sides[1].size_bytes,
				"data_bytes", (json_int_t)page.data_bytes, "zero_bytes", (json_int_t)page.zero_bytes,
				"extents", page.extents);
	if (page.is_full)
		json_object_set_new(*ret_result, "next_offset", json_integer((json_int_t)page.next_offset));
	return 0;
}

int cmd_diff_page(struct cmd_context *ctx, const json_t *args, json_t **ret_result, struct base_error *err)
{
	char older[TEXT_BYTES], newer[TEXT_BYTES];
	struct side sides[2] = { 0 };
	int r = cmd_arg_text(args, "name", older, sizeof(older), err);

	if (r == 0)
		r = cmd_arg_text(args, "other", newer, sizeof(newer), err);
	if (r == CMD_ARG_ABSENT)
		return base_error_set(err, -EINVAL,
				      "-diff needs two sides: DISK@SNAPSHOT, or DISK for what it has now");
	if (r == 0 && strcmp(newer, "-") == 0)
		return base_error_set(err, -EINVAL, "-: only the older side can be nothing");
	if (r == 0 && cmd_arg_number(args, "limit", 1) == 0)
		return base_error_set(err, -EINVAL, "-limit 0 would list nothing");
	if (r == 0)
		r = open_side(ctx, older, &sides[0], err);
	if (r == 0) {
		r = open_side(ctx, newer, &sides[1], err);
		if (r == 0)
			r = make_page(ctx, sides, args, ret_result, err);
		close_side(&sides[1]);
	}
	close_side(&sides[0]);
	return r;
}

/* ---- all pages ---------------------------------------------------------------------------- */

static int fetch(const struct cmd_pool_ref *pool, json_t *args, json_t **ret_result, enum cmd_subject *ret_subject,
		 struct base_error *err)
{
	struct cmd_outcome outcome = { 0 };

	cmd_execute_on(pool, &cmd_snapshot, args, NULL, &outcome);
	*ret_subject = outcome.subject;
	if (outcome.code < 0) {
		*err = outcome.err;
		cmd_outcome_done(&outcome);
		return outcome.code;
	}
	*ret_result = outcome.result;
	return 0;
}

int cmd_diff_fetch(const struct cmd_pool_ref *pool, const char *older, const char *newer, uint64_t offset,
		   json_t **ret_result, struct base_error *err)
{
	json_t *args = json_pack("{s:b, s:o, s:o, s:I}", "diff", 1, "name", cmd_text_to_json(older), "other",
				 cmd_text_to_json(newer), "offset", (json_int_t)offset);
	enum cmd_subject ignored;
	int r = args ? fetch(pool, args, ret_result, &ignored, err) : base_error_set(err, -ENOMEM, "out of memory");

	json_decref(args);
	return r;
}

static void add_to(json_t *whole, const json_t *part, const char *key)
{
	json_int_t sum =
		json_integer_value(json_object_get(whole, key)) + json_integer_value(json_object_get(part, key));

	json_object_set_new(whole, key, json_integer(sum));
}

/* Appends what part has to whole. */
static int join(json_t *whole, json_t *part)
{
	json_t *next = json_object_get(part, "next_offset");

	add_to(whole, part, "data_bytes");
	add_to(whole, part, "zero_bytes");
	if (next)
		json_object_set(whole, "next_offset", next);
	else
		json_object_del(whole, "next_offset");
	return json_array_extend(json_object_get(whole, "extents"), json_object_get(part, "extents")) ? -ENOMEM : 0;
}

int cmd_diff_collect(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	json_int_t limit = cmd_arg_number(args, "limit", INT64_MAX);
	struct cmd_pool_ref pool;
	json_t *whole = NULL;
	int r = cmd_execute_pool(ctx, args, &pool, err);

	if (r == 0)
		r = fetch(&pool, args, &whole, &ctx->subject, err);
	while (r == 0 && json_object_get(whole, "next_offset") &&
	       (json_int_t)json_array_size(json_object_get(whole, "extents")) < limit) {
		json_t *part;

		json_object_set(args, "offset", json_object_get(whole, "next_offset"));
		json_object_set_new(
			args, "limit",
			json_integer(limit - (json_int_t)json_array_size(json_object_get(whole, "extents"))));
		r = fetch(&pool, args, &part, &ctx->subject, err);
		if (r == 0) {
			if (join(whole, part) < 0)
				r = base_error_set(err, -ENOMEM, "out of memory for the extents");
			json_decref(part);
		}
	}
	if (r == 0)
		*ret_result = whole;
	else
		json_decref(whole);
	return r;
}
