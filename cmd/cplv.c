/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cplv: copies a logical volume.
 *
 * To a new one (-lv NAME, or a generated name), of the same size; or, with -f,
 * onto one that is there and is large enough. Unlike VIOS, which copies a large
 * volume over a small one and ruins both, that is refused. Neither may be in
 * use, since a copy of what is being written is of no moment.
 *
 * Where the source was never written, or was discarded, the target is zeroed
 * without a copy. A new volume is removed again when copying fails.
 *
 * Failure modes: no such volume (2); in use, no space, too small (4).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/args.h"
#include "cmd/disks.h"
#include "cmd/volumes.h"
#include "iocore/pool.h"
#include "meta/pool.h"

#define COPY_BYTES MIB
#define PAGE_BYTES 4096

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "lv", NULL, CMD_TEXT, 0, "NAME", "the name of the new volume" },
	{ "prefix", NULL, CMD_TEXT, 0, "PREFIX", "or: a name of this and the lowest free number (lv)" },
	{ "overwrite", "f", CMD_FLAG, 0, NULL, "copy onto TARGET, whose data is lost" },
	{ "source", NULL, CMD_TEXT, CMD_POSITIONAL | CMD_REQUIRED, "SOURCE", "the logical volume to copy" },
	{ "target", NULL, CMD_TEXT, CMD_POSITIONAL, "TARGET", "with -f: the logical volume to overwrite" },
	{ 0 },
};

struct copy {
	struct cmd_context *ctx;
	struct ioc_bd *from, *to;
	uint64_t bytes;
	void *memory;
};

static int io(struct copy *c, struct ioc_bd *bd, enum ioc_op op, unsigned flags, uint64_t offset, uint64_t length,
	      uint64_t *ret_offset)
{
	struct iovec segment = { .iov_base = c->memory, .iov_len = length };
	struct ioc_request req = { .op = op, .flags = flags, .bd = bd, .offset = offset, .length = length };
	bool data = op == IOC_OP_READ || op == IOC_OP_WRITE;

	req.segments = &segment;
	req.segment_count = data ? 1 : 0;
	int r = ioc_bd_call(c->ctx->ioc, &req);
	if (ret_offset)
		*ret_offset = req.result_offset;
	return r;
}

static int tell(struct copy *c, uint64_t done)
{
	struct cmd_progress *progress = c->ctx->progress;

	return progress && progress->report ? progress->report(progress, "copying", done, c->bytes) : 0;
}

/* Data from `at` up to the next hole is copied, what lies before it zeroed. */
static int copy_data(struct copy *c)
{
	uint64_t at = 0, data, hole;
	int r = 0;

	while (at < c->bytes && r == 0) {
		r = io(c, c->from, IOC_OP_SEEK_DATA, 0, at, 0, &data);
		if (r == -ENXIO)
			return io(c, c->to, IOC_OP_WRITE_ZEROES, IOC_KEEP_SPACE, at, c->bytes - at, NULL);
		if (r == 0 && data > at)
			r = io(c, c->to, IOC_OP_WRITE_ZEROES, IOC_KEEP_SPACE, at, data - at, NULL);
		if (r == 0)
			r = io(c, c->from, IOC_OP_SEEK_HOLE, 0, data, 0, &hole);
		for (at = data; r == 0 && at < MIN(hole, c->bytes);) {
			uint64_t length = MIN(COPY_BYTES, MIN(hole, c->bytes) - at);
			r = io(c, c->from, IOC_OP_READ, 0, at, length, NULL);
			if (r == 0)
				r = io(c, c->to, IOC_OP_WRITE, 0, at, length, NULL);
			at += length;
			if (r == 0 && tell(c, at))
				r = -ECANCELED;
		}
	}
	return r;
}

static int copy_open(struct copy *c, struct base_error *err)
{
	int r;

	c->memory = aligned_alloc(PAGE_BYTES, COPY_BYTES);
	if (!c->memory)
		return base_error_set(err, -ENOMEM, "out of memory");
	r = copy_data(c);
	if (r == 0)
		r = io(c, c->to, IOC_OP_FLUSH, 0, 0, 0, NULL);
	free(c->memory);
	return r < 0 ? base_error_set_errno(err, r, "copying failed") : 0;
}

static int copy(struct cmd_context *ctx, struct meta_disk *from, struct meta_disk *to, struct base_error *err)
{
	struct copy c = { .ctx = ctx, .bytes = meta_disk_size(from) };
	uint64_t rest = meta_disk_size(to) - c.bytes;
	int r = ioc_disk_open(ctx->ioc, from, &c.from, err);

	if (r < 0)
		return r;
	r = ioc_disk_open(ctx->ioc, to, &c.to, err);
	if (r == 0) {
		r = copy_open(&c, err);
		if (r == 0 && rest)
			r = io(&c, c.to, IOC_OP_WRITE_ZEROES, IOC_KEEP_SPACE, c.bytes, rest, NULL);
		ioc_disk_close(c.to);
	}
	ioc_disk_close(c.from);
	return r;
}

static int check_unused(struct meta_disk *disk, const char *name, struct base_error *err)
{
	if (meta_disk_opens(disk) == 0)
		return 0;
	return base_error_set(err, -EBUSY, "%s: in use (open %u times): close it first", name, meta_disk_opens(disk));
}

static int copy_onto(struct cmd_context *ctx, struct meta_disk *from, const char *target, struct meta_disk **ret,
		     struct base_error *err)
{
	int r = cmd_volume_find(ctx, target, ret, err);

	if (r < 0)
		return r;
	if (*ret == from)
		r = base_error_set(err, -EINVAL, "%s: onto itself", target);
	if (r == 0)
		r = check_unused(*ret, target, err);
	if (r == 0 && meta_disk_size(*ret) < meta_disk_size(from))
		r = base_error_set(err, -ENOSPC, "%s: is smaller than the source: extend it first, with extendlv",
				   target);
	if (r == 0)
		r = copy(ctx, from, *ret, err);
	if (r < 0)
		meta_disk_put(*ret);
	return r;
}

static int copy_to_new(struct cmd_context *ctx, struct meta_disk *from, const char *name, struct meta_disk **ret,
		       struct base_error *err)
{
	struct base_error ignored; /* the first error is the one to tell */
	int r = cmd_volume_create(ctx, name, meta_disk_size(from), ret, err);

	if (r < 0)
		return r;
	r = copy(ctx, from, *ret, err);
	if (r < 0) {
		int undo = cmd_disk_remove(ctx, *ret, false, &ignored);

		(void)undo;
		meta_disk_put(*ret);
	}
	return r;
}

static int new_name(struct cmd_context *ctx, const json_t *args, char *name, size_t room, struct base_error *err)
{
	int r = cmd_arg_text(args, "lv", name, room, err);

	return r == CMD_ARG_ABSENT ? cmd_volume_name(ctx, args, name, room, err) : r;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	char source[4 * NAME_BYTES_MAX], name[4 * NAME_BYTES_MAX];
	struct meta_disk *from, *to;
	bool onto = cmd_arg_is_set(args, "target");
	int r = cmd_arg_text(args, "source", source, sizeof(source), err);

	if (r == 0 && onto != cmd_arg_flag(args, "overwrite"))
		r = base_error_set(err, -EINVAL,
				   onto ? "copying onto a volume destroys its data: add -f to do that"
					: "-f goes with the volume to overwrite");
	if (r == 0)
		r = onto ? cmd_arg_text(args, "target", name, sizeof(name), err)
			 : new_name(ctx, args, name, sizeof(name), err);
	if (r == 0)
		r = cmd_volume_find(ctx, source, &from, err);
	if (r < 0)
		return r;
	ctx->subject = CMD_SUBJECT_NONE;
	r = check_unused(from, source, err);
	if (r == 0)
		r = onto ? copy_onto(ctx, from, name, &to, err) : copy_to_new(ctx, from, name, &to, err);
	meta_disk_put(from);
	if (r < 0)
		return r;
	*ret_result = json_pack("{s:o}", "lv", cmd_volume_to_json(to));
	meta_disk_put(to);
	return 0;
}

static unsigned needs(const json_t *args)
{
	(void)args;
	return CMD_CHANGES | CMD_IO;
}

const struct cmd_verb cmd_cplv = {
	.name = "cplv",
	.summary = "copy a logical volume",
	.synopsis = "bdfs cplv [-sp POOL] [-lv NAME | -prefix PREFIX] SOURCE\n"
		    "bdfs cplv [-sp POOL] -f SOURCE TARGET",
	.about =
		"Copies a logical volume to a new one of the same size, or, with -f, onto one that is there and is not "
		"smaller; what that has beyond the end of SOURCE is zeroed. Both must not be in use. Other verbs that "
		"change this pool wait meanwhile.",
	.examples = "bdfs cplv -sp vms -lv db1copy db1\n"
		    "bdfs cplv -sp vms -f db1 db2",
	.options = options,
	.run = run,
	.needs = needs,
};
