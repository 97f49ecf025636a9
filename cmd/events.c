/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events: what happened to a mounted pool, or, with -follow, what happens.
 *
 * The daemon keeps the last 512 events (meta/event.h). A follower has a thread
 * and a cursor of his own in it: events are sent to him as long as his end of the
 * socket takes them. While it does not, nobody waits: his cursor stays behind,
 * and what the ring has meanwhile lost is told as one event "lost" with a count.
 *
 * Failure modes: a pool that is not mounted has no events (2). The stream ends
 * when the pool is unmounted, in order; when the daemon dies, with an error.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/units.h"
#include "cmd/args.h"
#include "cmd/event_text.h"
#include "cmd/text.h"
#include "meta/pool.h"

/* How often a follower looks whether he is still wanted, and whether he can send again. */
#define LOOK_NS UINT64_C(500000000)
#define FULL_NS UINT64_C(50000000)

static const struct cmd_option options[] = {
	CMD_OPTION_SP,
	{ "follow", NULL, CMD_FLAG, 0, NULL, "wait for events and print each as it comes, until interrupted" },
	{ 0 },
};

/* ---- words -------------------------------------------------------------------------------- */

const char *cmd_event_to_text(const struct meta_event *event, char buf[CMD_EVENT_TEXT_BYTES])
{
	char size[BASE_SIZE_TEXT_BYTES];
	const char *subject = event->subject;

#define SAY(...) snprintf(buf, CMD_EVENT_TEXT_BYTES, __VA_ARGS__)
	switch (event->kind) {
	case META_EVENT_THRESHOLD_RAISED:
		SAY("%" PRIu64 " %% free, below the threshold of %" PRIu64 " %%", event->value, event->limit);
		break;
	case META_EVENT_THRESHOLD_CLEARED:
		SAY("%" PRIu64 " %% free, no longer below the threshold", event->value);
		break;
	case META_EVENT_OVERCOMMIT_RAISED:
		SAY("over-committed by %" PRIu64 " %%, above the threshold of %" PRIu64 " %%", event->value,
		    event->limit);
		break;
	case META_EVENT_OVERCOMMIT_CLEARED:
		SAY("over-committed by %" PRIu64 " %%, no longer above the threshold", event->value);
		break;
	case META_EVENT_METADATA_LOW:
		SAY("the file system of the metadata is nearly full: %s left", base_size_to_text(event->value, size));
		break;
	case META_EVENT_METADATA_OK:
		SAY("the file system of the metadata has room again");
		break;
	case META_EVENT_HOLD_BEGIN:
		SAY("full: writes that need space are held, disk %s first", subject);
		break;
	case META_EVENT_HOLD_END:
		SAY("no write is held any more, after %" PRIu64 " ms", event->value);
		break;
	case META_EVENT_PV_FULL:
		SAY("the file system below the pv %s is full", subject);
		break;
	case META_EVENT_POOL_FAILED:
		SAY("failed: %s", subject);
		break;
	case META_EVENT_POOL_GROWN:
		SAY("now has %s, by %s", base_size_to_text(event->value, size), subject);
		break;
	case META_EVENT_DISK_CREATED:
		SAY("disk %s of %s created", subject, base_size_to_text(event->value, size));
		break;
	case META_EVENT_DISK_REMOVED:
		SAY("disk %s removed", subject);
		break;
	case META_EVENT_DISK_RENAMED:
		SAY("a disk is called %s now", subject);
		break;
	case META_EVENT_DISK_RESIZED:
		SAY("disk %s has %s now", subject, base_size_to_text(event->value, size));
		break;
	case META_EVENT_KINDS:
		SAY("?");
		break;
	}
#undef SAY
	return buf;
}

json_t *cmd_event_to_json(const struct meta_event *event)
{
	char text[CMD_EVENT_TEXT_BYTES];

	return json_pack("{s:I, s:I, s:s, s:o, s:I, s:I, s:o}", "number", (json_int_t)event->number, "time_s",
			 (json_int_t)event->when_s, "event", meta_event_kind_to_text(event->kind), "subject",
			 cmd_text_to_json(event->subject), "value", (json_int_t)event->value, "limit",
			 (json_int_t)event->limit, "text", cmd_text_to_json(cmd_event_to_text(event, text)));
}

json_t *cmd_event_lost(uint64_t count)
{
	return json_pack("{s:s, s:I, s:s}", "event", "lost", "value", (json_int_t)count, "text",
			 "events were lost: this follower was too slow");
}

/* ---- following ---------------------------------------------------------------------------- */

static int send_one(struct cmd_progress *progress, json_t *event)
{
	int r = event ? progress->event(progress, event) : -ENOMEM;

	json_decref(event);
	return r;
}

/* Return: 0: go on; -EPIPE: the follower has gone; -ECANCELED: the daemon ends. */
static int follow_step(struct cmd_context *ctx, uint64_t *cursor)
{
	struct meta_event event;
	uint64_t lost;
	int r = ctx->progress->ready(ctx->progress);

	if (r == -EAGAIN) {
		meta_event_wait(ctx->meta, UINT64_MAX, FULL_NS); /* never comes: a pause */
		return 0;
	}
	if (r < 0)
		return r;
	int found = meta_event_next(ctx->meta, cursor, &event, &lost);
	if (lost)
		r = send_one(ctx->progress, cmd_event_lost(lost));
	if (r == 0 && found == 0)
		r = send_one(ctx->progress, cmd_event_to_json(&event));
	if (found == META_EVENT_NONE)
		meta_event_wait(ctx->meta, *cursor, LOOK_NS);
	return r;
}

static int follow(struct cmd_context *ctx, json_t **ret_result, struct base_error *err)
{
	uint64_t cursor = meta_event_cursor(ctx->meta);
	int r;

	if (!ctx->progress || !ctx->progress->event)
		return base_error_set(err, -EOPNOTSUPP, "-follow: there is nobody to send events to");
	do
		r = follow_step(ctx, &cursor);
	while (r == 0);
	*ret_result = json_pack("{s:b}", "ended", r == -ECANCELED);
	return 0;
}

static int run(struct cmd_context *ctx, json_t *args, json_t **ret_result, struct base_error *err)
{
	struct meta_event event;
	uint64_t cursor = 0, lost;

	if (!ctx->service) {
		ctx->subject = CMD_SUBJECT_POOL;
		return base_error_set(err, -ENOENT, "the pool is not mounted: events are those of a mounted pool");
	}
	if (cmd_arg_flag(args, "follow"))
		return follow(ctx, ret_result, err);

	json_t *list = json_array();

	while (meta_event_next(ctx->meta, &cursor, &event, &lost) == 0)
		json_array_append_new(list, cmd_event_to_json(&event));
	*ret_result = json_pack("{s:o}", "events", list);
	return 0;
}

static unsigned needs(const json_t *args)
{
	return cmd_arg_flag(args, "follow") ? CMD_LONG : 0;
}

const struct cmd_verb cmd_events = {
	.name = "events",
	.summary = "show what happens to a mounted pool",
	.synopsis = "bdfs events [-sp POOL] [-follow]",
	.about =
		"Shows the last events of a mounted pool, 512 at most: alarms that went on or off, writes "
		"that are held "
		"and released, a pv without room, a failed pool, little room for metadata, disks that were made, "
		"removed, renamed or resized. With -follow it shows what comes from now on, a line each, until it is "
		"interrupted or the pool is unmounted; with --json each line is an object. A follower who does not "
		"read fast enough misses events and is told how many; the pool never waits for him.",
	.examples = "bdfs events -sp vms\n"
		    "bdfs events -sp vms -follow --json",
	.options = options,
	.run = run,
	.needs = needs,
};
