/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool's side of receiving: the hidden disk that a stream is received into,
 * and what makes it visible at the end.
 *
 * Context: CTL, on the open pool in ctx.
 */
#ifndef CMD_RECEIVE_H
#define CMD_RECEIVE_H

#include "cmd/stream.h"
#include "cmd/verb.h"

struct meta_disk;

/* Of which stream a hidden disk holds how much: its labels. */
struct cmd_receive_mark {
	struct cmd_stream_token token; /* at_bytes: all before it is there, durably */
	uint64_t size_bytes;           /* of the stream's disk */
};
#define CMD_RECEIVE_MARK_BYTES 160
char *cmd_receive_mark_to_text(const struct cmd_receive_mark *mark, char buf[CMD_RECEIVE_MARK_BYTES]);
/* Return: 0; -EINVAL. */
MUST_CHECK int cmd_receive_mark_parse(const char *text, struct cmd_receive_mark *ret);

/* Durable when it returns 0. */
MUST_CHECK int cmd_receive_set_mark(struct meta_disk *disk, const struct cmd_receive_mark *mark,
				    struct base_error *err);

/* ".receive-" and 16 digits made from the name of the disk to be. */
#define CMD_RECEIVE_HIDDEN_BYTES 32
char *cmd_receive_hidden_name(const char *name, char buf[CMD_RECEIVE_HIDDEN_BYTES]);

/*
 * Finds or makes the hidden disk for a stream that is to become disk `name`, and judges whether it can be: nothing
 * is received that could not be made visible in the end. rolls_back: what was written to the disk since the base may
 * be given up. ret_at_bytes: how far an earlier stream of the same came, 0 = there was none.
 * Return: 0 with a reference; -EEXIST (disk or snapshot are there), -ENOENT (the base isn't), -EINVAL (the stream
 * does not begin where the hidden disk ends), -EBUSY (another receive is at it; the disk is in use or was changed).
 */
MUST_CHECK int cmd_receive_begin(struct cmd_context *ctx, const struct cmd_stream_header *header, const char *name,
				 bool rolls_back, struct meta_disk **ret, uint64_t *ret_at_bytes,
				 struct base_error *err);

/* The same judgement again, then: the snapshot, then the name. Gives {"disk", "snapshot", ...}. */
MUST_CHECK int cmd_receive_finish(struct cmd_context *ctx, const struct cmd_stream_header *header, const char *name,
				  bool rolls_back, json_t **ret_result, struct base_error *err);

/* What there is of a receive that broke off. Return: 0; -ENOENT. */
MUST_CHECK int cmd_receive_status(struct cmd_context *ctx, const char *name, struct cmd_receive_mark *ret,
				  struct base_error *err);
/* Removes it. Return: 0; -ENOENT; -EBUSY. */
MUST_CHECK int cmd_receive_discard(struct cmd_context *ctx, const char *name, struct base_error *err);

#endif
