/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was done: each worker's operations in a ring, in the order they began.
 *
 * A mismatch prints those whose range holds the wrong byte. With --log all
 * workers' rings are saved, merged in order of start, as text:
 *
 *     exerciser-log 1 <size-max> <first size>
 *     <seq> <worker> <kind> <via> <offset> <length> <seed> <pattern> <skew> <sync>
 *
 * --replay carries such a file out with one worker. Regions of workers do not
 * overlap, so their operations commute and one order stands for all.
 *
 * Failure modes: a ring that has wrapped has lost its oldest operations; the
 * saved file says so in its last line, and its replay starts in the middle.
 * A line that does not parse is refused with its number.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exerciser.h"

int oplog_init(struct oplog *log, size_t capacity)
{
	*log = (struct oplog){ .ops = calloc(capacity, sizeof(struct op)), .capacity = capacity };
	return log->ops ? 0 : -ENOMEM;
}

void oplog_done(struct oplog *log)
{
	free(log->ops);
}

void oplog_add(struct oplog *log, const struct op *op)
{
	log->ops[log->count++ % log->capacity] = *op;
}

void op_print(FILE *out, const struct op *op)
{
	fprintf(out, "#%llu worker %u %s %s offset %llu length %llu (to %llu)%s%s\n", (unsigned long long)op->seq,
		op->worker, op_kind_name(op->kind), via_name(op->via), (unsigned long long)op->offset_bytes,
		(unsigned long long)op->length_bytes, (unsigned long long)(op->offset_bytes + op->length_bytes),
		op->pattern == PATTERN_ZERO ? " zeros" : "", op->sync && op->kind == OP_MMAP_WRITE ? " msync" : "");
}

static bool touches(const struct op *op, uint64_t byte)
{
	switch ((enum op_kind)op->kind) {
	case OP_FSYNC:
	case OP_FDATASYNC:
	case OP_SEEK:
	case OP_REOPEN:
		return false;
	case OP_TRUNCATE: /* cuts the byte off */
		return op->offset_bytes <= byte;
	default:
		return byte >= op->offset_bytes && byte - op->offset_bytes < op->length_bytes;
	}
}

static uint64_t oldest(const struct oplog *log)
{
	return log->count > log->capacity ? log->count - log->capacity : 0;
}

void oplog_print_touching(const struct oplog *log, uint64_t byte, unsigned limit, FILE *out)
{
	for (uint64_t i = log->count; i > oldest(log) && limit > 0; i--) {
		const struct op *op = &log->ops[(i - 1) % log->capacity];

		if (!touches(op, byte))
			continue;
		fprintf(out, "  ");
		op_print(out, op);
		limit--;
	}
}

/* ---- saving and loading ---------------------------------------------------------------------- */

static int by_seq(const void *a, const void *b)
{
	const struct op *x = a, *y = b;

	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static struct op *merge(const struct worker *workers, unsigned count, size_t *ret_total)
{
	size_t total = 0;
	struct op *all;

	for (unsigned i = 0; i < count; i++)
		total += workers[i].log.count - oldest(&workers[i].log);
	all = calloc(total + 1, sizeof(*all));
	*ret_total = 0;
	for (unsigned i = 0; all && i < count; i++) {
		const struct oplog *log = &workers[i].log;

		for (uint64_t n = oldest(log); n < log->count; n++)
			all[(*ret_total)++] = log->ops[n % log->capacity];
	}
	if (all)
		qsort(all, total, sizeof(*all), by_seq);
	return all;
}

int oplog_save(const char *path, const struct worker *workers, unsigned count, const struct target *target)
{
	bool wrapped = false;
	size_t total;
	struct op *all = merge(workers, count, &total);
	FILE *out = fopen(path, "w");

	if (!all || !out) {
		int code = all ? -errno : -ENOMEM;

		free(all);
		if (out)
			fclose(out);
		return code;
	}
	for (unsigned i = 0; i < count; i++)
		wrapped = wrapped || workers[i].log.count > workers[i].log.capacity;
	fprintf(out, "exerciser-log 1 %llu %llu\n", (unsigned long long)target->size_max_bytes,
		(unsigned long long)workers[count - 1].start_bytes);
	for (size_t i = 0; i < total; i++) {
		const struct op *op = &all[i];

		fprintf(out, "%llu %u %s %s %llu %llu %llu %u %u %u\n", (unsigned long long)op->seq, op->worker,
			op_kind_name(op->kind), via_name(op->via), (unsigned long long)op->offset_bytes,
			(unsigned long long)op->length_bytes, (unsigned long long)op->data_seed, op->pattern, op->skew,
			op->sync);
	}
	if (wrapped)
		fprintf(out, "# the oldest operations are lost: give a larger --log-ops\n");
	free(all);
	return fclose(out) ? -errno : 0;
}

static int parse_line(const char *line, struct op *op)
{
	unsigned long long seq, offset, length, seed;
	unsigned worker, pattern, skew, sync;
	char kind[24], via[16];

	memset(op, 0, sizeof(*op));
	if (sscanf(line, "%llu %u %23s %15s %llu %llu %llu %u %u %u", &seq, &worker, kind, via, &offset, &length, &seed,
		   &pattern, &skew, &sync) != 10)
		return -EINVAL;
	while (op->kind < OP_KINDS && strcmp(op_kind_name(op->kind), kind))
		op->kind++;
	while (op->via < VIA_COUNT && strcmp(via_name(op->via), via))
		op->via++;
	if (op->kind == OP_KINDS || op->via == VIA_COUNT || pattern >= PATTERN_COUNT || skew >= 64 ||
	    length > IO_BYTES_MAX)
		return -EINVAL;
	op->seq = seq;
	op->offset_bytes = offset;
	op->length_bytes = length;
	op->data_seed = seed;
	op->pattern = (uint8_t)pattern;
	op->skew = (uint8_t)skew;
	op->sync = sync;
	return 0;
}

int oplog_load(const char *path, struct op **ret_ops, size_t *ret_count, uint64_t *ret_size_max_bytes)
{
	unsigned long long size_max, first_size;
	struct op *ops = NULL;
	size_t count = 0, room = 0;
	char line[256];
	FILE *in = fopen(path, "r");
	int code = in ? 0 : -errno;

	if (in &&
	    (!fgets(line, sizeof(line), in) || sscanf(line, "exerciser-log 1 %llu %llu", &size_max, &first_size) != 2))
		code = -EINVAL;
	/* The regions of the other workers are there from the start: a truncate stands for that. */
	for (bool first = true; !code && (first || fgets(line, sizeof(line), in)); first = false) {
		if (count == room) {
			room = room ? 2 * room : 4096;
			ops = reallocarray(ops, room, sizeof(*ops));
			if (!ops)
				abort();
		}
		if (first) {
			ops[count++] = (struct op){ .kind = OP_TRUNCATE, .offset_bytes = first_size };
			continue;
		}
		if (line[0] == '#')
			continue;
		code = parse_line(line, &ops[count]);
		if (code)
			fprintf(stderr, "exerciser: %s: operation %zu: not a log line\n", path, count);
		count++;
	}
	if (in)
		fclose(in);
	if (code) {
		free(ops);
		return code;
	}
	*ret_ops = ops;
	*ret_count = count;
	*ret_size_max_bytes = size_max;
	return 0;
}
