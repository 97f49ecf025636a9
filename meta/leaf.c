/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of a leaf: 128 map entries to bytes and back (docs/format.md).
 *
 * The first byte of the record is the format version (high half) and the
 * encoding (low half):
 *
 *   0x11  raw:  128 words of 8 bytes, little-endian: 1,025 bytes in all
 *   0x12  runs: 10 bytes a run: first index, count, entry
 *
 * A run stands for `count` entries with equal masks. Where the entry has a
 * chunk, the chunk numbers go up by one; where it has none (zero bits only),
 * there is nothing to step. So the step needs no field, and two entries of one
 * leaf that name the same chunk, which no sound map has, can't hide in a run.
 * Entries outside every run are 0.
 *
 * Encoding is greedy: it takes the longest run from each non-empty entry on,
 * which is the least number of runs there is, since a run's tail is a run too.
 * From 103 runs on, raw is shorter. A leaf whose entries are all 0 has no
 * record: its index bit is cleared and the record deleted.
 *
 * Decoding trusts nothing. It refuses unknown first bytes, lengths that don't
 * fit, runs that are empty, out of order, overlapping or past the leaf's end,
 * chunk numbers that would wrap, entries that are not sound and leaves with
 * nothing in them. It writes the caller's array only when all of it is right.
 */
#include <assert.h>
#include <errno.h>

#include "meta/leaf.h"
#include "meta/wire.h"

#define KIND_RAW 0x11
#define KIND_RUNS 0x12
#define RUN_BYTES 10
/* The longest run list that is shorter than raw: 102 x 10 < 1,024 <= 103 x 10. */
#define RUNS_MAX ((META_LEAF_ENCODED_BYTES_MAX - 2) / RUN_BYTES)

_Static_assert(LEAF_CHUNKS <= UINT8_MAX, "index and count of a run are one byte each");

struct run {
	uint8_t first;
	uint8_t count;
	meta_entry entry;
};

/* The entry that a run starting with `entry` has `distance` places on. The caller knows that chunk + distance fits. */
static meta_entry run_entry(meta_entry entry, unsigned distance)
{
	return meta_entry_chunk(entry).n == 0 ? entry : entry + distance;
}

static bool run_fits(meta_entry entry, unsigned count)
{
	return meta_entry_chunk(entry).n <= UINT32_MAX - (count - 1);
}

static unsigned run_length(const meta_entry entries[LEAF_CHUNKS], unsigned first)
{
	unsigned count = 1;

	while (first + count < LEAF_CHUNKS && run_fits(entries[first], count + 1) &&
	       entries[first + count] == run_entry(entries[first], count))
		count++;
	return count;
}

/* Returns how many runs there are; stores the first RUNS_MAX. */
static unsigned find_runs(const meta_entry entries[LEAF_CHUNKS], struct run runs[RUNS_MAX])
{
	unsigned found = 0;

	for (unsigned i = 0; i < LEAF_CHUNKS;) {
		if (entries[i] == 0) {
			i++;
			continue;
		}

		unsigned count = run_length(entries, i);

		if (found < RUNS_MAX)
			runs[found] = (struct run){ (uint8_t)i, (uint8_t)count, entries[i] };
		found++;
		i += count;
	}
	return found;
}

static void put_raw(struct wire_out *out, const meta_entry entries[LEAF_CHUNKS])
{
	wire_put_u8(out, KIND_RAW);
	for (unsigned i = 0; i < LEAF_CHUNKS; i++)
		wire_put_u64(out, entries[i]);
}

static void put_runs(struct wire_out *out, const struct run *runs, unsigned count)
{
	wire_put_u8(out, KIND_RUNS);
	for (unsigned i = 0; i < count; i++) {
		wire_put_u8(out, runs[i].first);
		wire_put_u8(out, runs[i].count);
		wire_put_u64(out, runs[i].entry);
	}
}

size_t meta_leaf_encode(const meta_entry entries[LEAF_CHUNKS], uint8_t buf[META_LEAF_ENCODED_BYTES_MAX])
{
	struct wire_out out = wire_out_init(buf, META_LEAF_ENCODED_BYTES_MAX);
	struct run runs[RUNS_MAX];

	for (unsigned i = 0; i < LEAF_CHUNKS; i++)
		assert(meta_entry_is_sound(entries[i]));

	unsigned count = find_runs(entries, runs);

	if (count == 0)
		return 0;
	if (count > RUNS_MAX)
		put_raw(&out, entries);
	else
		put_runs(&out, runs, count);
	return wire_length(&out);
}

static int get_raw(struct wire_in *in, meta_entry entries[LEAF_CHUNKS])
{
	meta_entry any = 0;

	for (unsigned i = 0; i < LEAF_CHUNKS; i++) {
		entries[i] = wire_get_u64(in);
		any |= entries[i];
		if (!meta_entry_is_sound(entries[i]))
			return -EBADMSG;
	}
	return wire_end(in) && any != 0 ? 0 : -EBADMSG;
}

static int get_run(struct wire_in *in, unsigned *next, meta_entry entries[LEAF_CHUNKS])
{
	unsigned first = wire_get_u8(in);
	unsigned count = wire_get_u8(in);
	meta_entry entry = wire_get_u64(in);

	if (in->bad || first < *next || count == 0 || first + count > LEAF_CHUNKS)
		return -EBADMSG;
	if (entry == 0 || !meta_entry_is_sound(entry) || !run_fits(entry, count))
		return -EBADMSG;
	for (unsigned i = 0; i < count; i++)
		entries[first + i] = run_entry(entry, i);
	*next = first + count;
	return 0;
}

static int get_runs(struct wire_in *in, meta_entry entries[LEAF_CHUNKS])
{
	unsigned next = 0; /* the lowest index that the next run may start at */

	memset(entries, 0, LEAF_CHUNKS * sizeof(entries[0]));
	do {
		int rc = get_run(in, &next, entries);

		if (rc < 0)
			return rc;
	} while (in->left > 0);
	return 0;
}

int meta_leaf_decode(const uint8_t *bytes, size_t length, meta_entry entries[LEAF_CHUNKS])
{
	struct wire_in in = wire_in_init(bytes, length);
	meta_entry decoded[LEAF_CHUNKS];
	int rc = -EBADMSG;

	switch (wire_get_u8(&in)) {
	case KIND_RAW:
		rc = get_raw(&in, decoded);
		break;
	case KIND_RUNS:
		rc = get_runs(&in, decoded);
		break;
	}
	if (rc == 0)
		memcpy(entries, decoded, sizeof(decoded));
	return rc;
}
