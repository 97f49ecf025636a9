/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding FUSE requests: what a good message becomes, and that nothing else
 * than a good message gets through, whatever is cut off it or changed in it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fs/decode.h"
#include "fs/proto.h"
#include "tests/unit/random.h"

#define MESSAGE_BYTES_MAX 512

struct message {
	size_t bytes;
	uint8_t b[MESSAGE_BYTES_MAX];
};

static struct message message_of(uint32_t opcode, const void *body, size_t body_bytes, size_t payload_bytes)
{
	struct message m = { .bytes = sizeof(struct fuse_in_header) + body_bytes + payload_bytes };
	struct fuse_in_header header = { .len = (uint32_t)m.bytes, .opcode = opcode, .unique = 42, .nodeid = 17,
					.pid = 4711 };

	memcpy(m.b, &header, sizeof(header));
	memcpy(m.b + sizeof(header), body, body_bytes);
	for (size_t i = 0; i < payload_bytes; i++)
		m.b[sizeof(header) + body_bytes + i] = (uint8_t)i;
	return m;
}

static struct message write_message(void)
{
	struct fuse_write_in in = { .fh = 7, .offset = 4096, .size = 100, .flags = O_RDWR };

	return message_of(FUSE_WRITE, &in, sizeof(in), in.size);
}

static struct message read_message(void)
{
	struct fuse_read_in in = { .fh = 7, .offset = 123, .size = 456 };

	return message_of(FUSE_READ, &in, sizeof(in), 0);
}

/* From memory of exactly that size, so that the sanitizer sees a byte too many. */
static int decode_exact(const void *bytes, size_t count, struct fs_request *ret)
{
	uint8_t *copy = malloc(count ? count : 1);
	int rc;

	memcpy(copy, bytes, count);
	rc = fs_decode(copy, count, ret);
	if (rc == 0 && ret->op == FS_OP_WRITE) {
		cr_assert((const uint8_t *)ret->data >= copy);
		cr_assert_leq((size_t)((const uint8_t *)ret->data - copy) + ret->length, count);
	}
	free(copy);
	return rc;
}

Test(fs_decode, read_has_its_range_and_handle)
{
	struct message m = read_message();
	struct fs_request r;

	cr_assert_eq(fs_decode(m.b, m.bytes, &r), 0);
	cr_expect_eq(r.op, FS_OP_READ);
	cr_expect_eq(r.unique, 42);
	cr_expect_eq(r.node, 17);
	cr_expect_eq(r.client, 4711);
	cr_expect_eq(r.fh, 7);
	cr_expect_eq(r.offset, 123);
	cr_expect_eq(r.length, 456);
}

Test(fs_decode, write_payload_follows_the_header)
{
	struct message m = write_message();
	struct fs_request r;

	cr_assert_eq(fs_decode(m.b, m.bytes, &r), 0);
	cr_expect_eq(r.op, FS_OP_WRITE);
	cr_expect_eq(r.length, 100);
	cr_expect_eq((const uint8_t *)r.data, m.b + FS_WRITE_HEADER_BYTES);
	cr_expect_not(r.is_sync);
	cr_expect_not(r.is_write_back);
}

Test(fs_decode, write_of_a_synchronous_descriptor_is_sync)
{
	static const uint32_t flags[] = { O_DSYNC, O_SYNC, O_RDWR | O_DIRECT | O_DSYNC };

	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		struct fuse_write_in in = { .size = 8, .flags = flags[i] };
		struct message m = message_of(FUSE_WRITE, &in, sizeof(in), in.size);
		struct fs_request r;

		cr_assert_eq(fs_decode(m.b, m.bytes, &r), 0);
		cr_expect(r.is_sync, "flags %x", flags[i]);
	}
}

Test(fs_decode, write_of_mapped_pages_is_known_as_such)
{
	struct fuse_write_in in = { .size = 8, .write_flags = FUSE_WRITE_CACHE };
	struct message m = message_of(FUSE_WRITE, &in, sizeof(in), in.size);
	struct fs_request r;

	cr_assert_eq(fs_decode(m.b, m.bytes, &r), 0);
	cr_expect(r.is_write_back);
}

Test(fs_decode, fallocate_lseek_fsync_release_have_their_fields)
{
	struct fuse_fallocate_in fallocate_in = { .fh = 1, .offset = 2, .length = 3, .mode = 0x13 };
	struct fuse_lseek_in lseek_in = { .fh = 4, .offset = 5, .whence = 3 };
	struct fuse_fsync_in fsync_in = { .fh = 6, .fsync_flags = 1 };
	struct fuse_release_in release_in = { .fh = 7 };
	struct message m;
	struct fs_request r;

	m = message_of(FUSE_FALLOCATE, &fallocate_in, sizeof(fallocate_in), 0);
	cr_assert_eq(fs_decode(m.b, m.bytes, &r), 0);
	cr_expect(r.op == FS_OP_FALLOCATE && r.fh == 1 && r.offset == 2 && r.length == 3 && r.mode == 0x13);
	m = message_of(FUSE_LSEEK, &lseek_in, sizeof(lseek_in), 0);
	cr_assert_eq(fs_decode(m.b, m.bytes, &r), 0);
	cr_expect(r.op == FS_OP_LSEEK && r.fh == 4 && r.offset == 5 && r.whence == 3);
	m = message_of(FUSE_FSYNC, &fsync_in, sizeof(fsync_in), 0);
	cr_assert_eq(fs_decode(m.b, m.bytes, &r), 0);
	cr_expect(r.op == FS_OP_FSYNC && r.fh == 6);
	m = message_of(FUSE_RELEASE, &release_in, sizeof(release_in), 0);
	cr_assert_eq(fs_decode(m.b, m.bytes, &r), 0);
	cr_expect(r.op == FS_OP_RELEASE && r.fh == 7);
}

Test(fs_decode, other_operations_are_passed_on_whatever_their_body)
{
	static const struct {
		uint32_t opcode;
		enum fs_op op;
	} all[] = {
		{ FUSE_LOOKUP, FS_OP_OTHER },        { FUSE_SETATTR, FS_OP_OTHER }, { 0, FS_OP_OTHER },
		{ UINT32_MAX, FS_OP_OTHER },         { FUSE_FORGET, FS_OP_FORGET }, { FUSE_BATCH_FORGET, FS_OP_FORGET },
		{ FUSE_INTERRUPT, FS_OP_INTERRUPT },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct message m = message_of(all[i].opcode, "", 0, 0);
		struct fs_request r;

		cr_assert_eq(fs_decode(m.b, m.bytes, &r), 0);
		cr_expect_eq(r.op, all[i].op);
	}
}

Test(fs_decode, refuses_less_than_a_header)
{
	struct message m = read_message();
	struct fs_request r;

	for (size_t n = 0; n < sizeof(struct fuse_in_header); n++)
		cr_assert_eq(decode_exact(m.b, n, &r), -EBADMSG);
}

Test(fs_decode, refuses_a_length_that_is_not_what_was_read)
{
	struct message m = read_message();
	struct fs_request r;

	cr_expect_eq(fs_decode(m.b, m.bytes - 1, &r), -EBADMSG);
	cr_expect_eq(fs_decode(m.b, m.bytes + 1, &r), -EBADMSG);
}

Test(fs_decode, refuses_a_body_that_is_too_short_and_can_still_answer)
{
	static const uint32_t opcodes[] = {
		FUSE_READ, FUSE_WRITE, FUSE_FSYNC, FUSE_FALLOCATE, FUSE_LSEEK, FUSE_RELEASE
	};

	for (size_t i = 0; i < ARRAY_LEN(opcodes); i++) {
		uint8_t body[15] = { 0 };

		for (size_t n = 0; n < sizeof(body); n++) {
			struct message m = message_of(opcodes[i], body, n, 0);
			struct fs_request r;

			cr_assert_eq(decode_exact(m.b, m.bytes, &r), FS_DECODE_BAD_BODY);
			cr_assert_eq(r.unique, 42);
		}
	}
}

Test(fs_decode, refuses_a_write_that_claims_more_than_it_brings)
{
	struct fuse_write_in in = { .size = 101 };
	struct message m = message_of(FUSE_WRITE, &in, sizeof(in), 100);
	struct fs_request r;

	cr_expect_eq(decode_exact(m.b, m.bytes, &r), FS_DECODE_BAD_BODY);
}

Test(fs_decode, refuses_ranges_beyond_what_a_file_offset_can_hold)
{
	struct fuse_read_in read_in = { .offset = INT64_MAX, .size = 1 };
	struct fuse_read_in large = { .offset = 0, .size = FS_DATA_BYTES_MAX + 1 };
	struct fuse_fallocate_in fallocate_in = { .offset = 1, .length = UINT64_MAX };
	struct fuse_lseek_in lseek_in = { .offset = UINT64_MAX };
	struct message m[] = {
		message_of(FUSE_READ, &read_in, sizeof(read_in), 0),
		message_of(FUSE_READ, &large, sizeof(large), 0),
		message_of(FUSE_FALLOCATE, &fallocate_in, sizeof(fallocate_in), 0),
		message_of(FUSE_LSEEK, &lseek_in, sizeof(lseek_in), 0),
	};
	struct fs_request r;

	for (size_t i = 0; i < ARRAY_LEN(m); i++)
		cr_expect_eq(fs_decode(m[i].b, m[i].bytes, &r), FS_DECODE_BAD_BODY, "message %zu", i);
}

Test(fs_decode, whatever_gets_through_is_within_bounds)
{
	uint64_t seed = test_seed(), state = seed;

	for (int i = 0; i < 200000; i++) {
		struct message m = test_random_below(&state, 2) ? write_message() : read_message();
		size_t cut = sizeof(struct fuse_in_header) +
			     test_random_below(&state, m.bytes - sizeof(struct fuse_in_header) + 1);
		uint32_t opcode = (uint32_t)test_random_below(&state, 52), len = (uint32_t)cut;
		struct fs_request r;

		memcpy(m.b + offsetof(struct fuse_in_header, opcode), &opcode, sizeof(opcode));
		memcpy(m.b + offsetof(struct fuse_in_header, len), &len, sizeof(len));
		for (int k = 0; k < 3; k++)
			m.b[8 + test_random_below(&state, m.bytes - 8)] = (uint8_t)test_random(&state);
		if (decode_exact(m.b, cut, &r) != 0)
			continue;
		cr_assert_leq(r.offset, (uint64_t)INT64_MAX, "seed %llu", (unsigned long long)seed);
		cr_assert_leq(r.length, (uint64_t)INT64_MAX - r.offset, "seed %llu", (unsigned long long)seed);
		if (r.op == FS_OP_READ || r.op == FS_OP_WRITE)
			cr_assert_leq(r.length, FS_DATA_BYTES_MAX, "seed %llu", (unsigned long long)seed);
	}
}
