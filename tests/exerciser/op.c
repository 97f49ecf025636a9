/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: their names, their weights, and the draw of the next one.
 *
 * A worker draws every parameter from its own random numbers, in the same
 * order whatever the filesystem can do, so that a seed gives the same
 * operations everywhere as long as sizes are the same.
 *
 * Where bugs live is not spread evenly: offsets are drawn near the edges of
 * blocks, chunks and map leaves as often as anywhere, near the end of the
 * file, and around one hot spot that moves; lengths are small, block-like or
 * large in equal shares. That is what makes two operations meet in one block.
 *
 * Limits: a worker stays in its region. The last one owns the end of the
 * file: only it appends, truncates, and writes beyond the end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exerciser.h"

static const char *const kind_names[OP_KINDS] = {
	[OP_READ] = "read",           [OP_WRITE] = "write",         [OP_WRITEV] = "writev",
	[OP_APPEND] = "append",       [OP_PUNCH] = "punch",         [OP_ZERO] = "zero",
	[OP_ZERO_KEEP] = "zero-keep", [OP_ALLOCATE] = "allocate",   [OP_ALLOCATE_KEEP] = "allocate-keep",
	[OP_TRUNCATE] = "truncate",   [OP_MMAP_READ] = "mmap-read", [OP_MMAP_WRITE] = "mmap-write",
	[OP_FSYNC] = "fsync",         [OP_FDATASYNC] = "fdatasync", [OP_SEEK] = "seek",
	[OP_REOPEN] = "reopen",
};

/* Syncs and reopens are dear and find little when frequent; a shrink throws away what others built up. */
const struct weights weights_default = { .of = {
					     [OP_READ] = 300,
					     [OP_WRITE] = 300,
					     [OP_WRITEV] = 60,
					     [OP_APPEND] = 10,
					     [OP_PUNCH] = 60,
					     [OP_ZERO] = 20,
					     [OP_ZERO_KEEP] = 20,
					     [OP_ALLOCATE] = 15,
					     [OP_ALLOCATE_KEEP] = 15,
					     [OP_TRUNCATE] = 10,
					     [OP_MMAP_READ] = 40,
					     [OP_MMAP_WRITE] = 40,
					     [OP_FSYNC] = 2,
					     [OP_FDATASYNC] = 3,
					     [OP_SEEK] = 30,
					     [OP_REOPEN] = 1,
					 } };

const char *op_kind_name(enum op_kind kind)
{
	return kind_names[kind];
}

const char *via_name(enum via via)
{
	static const char *const names[VIA_COUNT] = { "buffered", "direct", "dsync", "append" };

	return names[via];
}

static int weight_set(struct weights *weights, const char *name, const char *value)
{
	char *end;
	unsigned long weight = strtoul(value, &end, 10);

	if (end == value || *end || weight > 1000000)
		return -EINVAL;
	for (unsigned kind = 0; kind < OP_KINDS; kind++) {
		if (!strcmp(kind_names[kind], name) || !strcmp("all", name)) {
			weights->of[kind] = (unsigned)weight;
			if (strcmp("all", name))
				return 0;
		}
	}
	return strcmp("all", name) ? -EINVAL : 0;
}

int weights_parse(const char *text, struct weights *weights)
{
	char *copy = strdup(text), *save = NULL;
	int code = copy ? 0 : -ENOMEM;

	for (char *item = copy ? strtok_r(copy, ",", &save) : NULL; item && !code; item = strtok_r(NULL, ",", &save)) {
		char *equals = strchr(item, '=');

		if (!equals) {
			code = -EINVAL;
			break;
		}
		*equals = 0;
		code = weight_set(weights, item, equals + 1);
	}
	free(copy);
	return code;
}

void fill_random(uint8_t *data, size_t bytes, uint64_t seed)
{
	struct rng rng = { seed };
	size_t i = 0;

	for (; i + 8 <= bytes; i += 8) {
		uint64_t value = rng_next(&rng);

		memcpy(data + i, &value, 8);
	}
	for (uint64_t value = rng_next(&rng); i < bytes; i++, value >>= 8)
		data[i] = (uint8_t)value;
}

static enum op_kind draw_kind(struct worker *worker)
{
	uint64_t sum = 0, at;

	for (unsigned kind = 0; kind < OP_KINDS; kind++)
		sum += worker->weights.of[kind];
	at = rng_below(&worker->rng, sum);
	for (unsigned kind = 0; kind < OP_KINDS; kind++) {
		if (at < worker->weights.of[kind])
			return (enum op_kind)kind;
		at -= worker->weights.of[kind];
	}
	return OP_READ;
}

static uint64_t draw_length(struct worker *worker)
{
	struct rng *rng = &worker->rng;
	uint64_t length;

	switch (rng_below(rng, 4)) {
	case 0:
		length = 1 + rng_below(rng, 600);
		break;
	case 1:
		length = 512 * (1 + rng_below(rng, 32));
		break;
	case 2:
		length = PAGE_BYTES * (1 + rng_below(rng, 32));
		break;
	default:
		length = 1 + rng_below(rng, worker->io_max_bytes);
		break;
	}
	return length < worker->io_max_bytes ? length : worker->io_max_bytes;
}

static uint64_t draw_offset(struct worker *worker, uint64_t span_bytes)
{
	static const uint64_t edges[] = { 512, 4096, 4096, 65536, 65536, 8u << 20 };
	struct rng *rng = &worker->rng;
	uint64_t offset = rng_below(rng, span_bytes);
	uint64_t choice = rng_below(rng, 4), edge = edges[rng_below(rng, 6)];
	uint64_t slip = rng_below(rng, 9);

	if (choice == 0) /* on an edge, or a few bytes beside it */
		offset = offset / edge * edge + slip;
	else if (choice == 1) /* the hot spot: one megabyte that moves every 4,096 operations */
		offset = (worker->log.count / 4096 * UINT64_C(7340033) + offset % (1u << 20)) % span_bytes;
	else if (choice == 2 && slip == 8) /* near the end */
		offset = span_bytes - 1 - offset % 8192 % span_bytes;
	return offset < span_bytes ? offset : span_bytes - 1;
}

/* Rounds the range to what O_DIRECT takes; never out of the region, whose ends are page-aligned. */
static void align_direct(const struct worker *worker, struct op *op)
{
	uint64_t unit = worker->target->direct_align_bytes;

	if (unit == 1)
		return;
	op->offset_bytes -= op->offset_bytes % unit;
	op->length_bytes = (op->length_bytes + unit - 1) / unit * unit;
	if (op->offset_bytes + op->length_bytes > worker->end_bytes)
		op->length_bytes = worker->end_bytes - op->offset_bytes;
	op->skew = 0;
}

void op_draw(struct worker *worker, struct op *ret)
{
	struct rng *rng = &worker->rng;
	uint64_t span = worker->end_bytes - worker->start_bytes, roll;

	memset(ret, 0, sizeof(*ret));
	ret->worker = (uint16_t)worker->number;
	ret->kind = (uint8_t)draw_kind(worker);
	roll = rng_below(rng, 16);
	ret->via = roll < 8 ? VIA_BUFFERED : roll < 15 ? VIA_DIRECT : VIA_DSYNC;
	ret->length_bytes = draw_length(worker);
	ret->offset_bytes = worker->start_bytes + draw_offset(worker, span);
	ret->data_seed = rng_next(rng);
	ret->pattern = rng_below(rng, 32) == 0 ? PATTERN_ZERO : PATTERN_RANDOM;
	ret->skew = (uint8_t)(rng_below(rng, 2) ? rng_below(rng, 64) : 0);
	ret->sync = rng_below(rng, 4) == 0;
	if (ret->offset_bytes + ret->length_bytes > worker->end_bytes)
		ret->length_bytes = worker->end_bytes - ret->offset_bytes;
	if (ret->via == VIA_DIRECT && (ret->kind == OP_READ || ret->kind == OP_WRITE || ret->kind == OP_WRITEV))
		align_direct(worker, ret);
	if (!worker->owns_end && (ret->kind == OP_APPEND || ret->kind == OP_TRUNCATE))
		ret->kind = OP_MMAP_WRITE;
	if (ret->kind == OP_APPEND) {
		uint64_t room = worker->end_bytes - worker->size_bytes;

		ret->via = VIA_APPEND;
		ret->offset_bytes = worker->size_bytes;
		ret->length_bytes = ret->length_bytes < room ? ret->length_bytes : room;
	}
}
