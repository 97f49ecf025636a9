/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Micro-benchmarks of base/: the checksum that every record read pays for, and
 * the mailbox that every hand-over between threads pays for.
 *
 * The model: the checksum is taken over 1 KiB, about the size of a raw leaf
 * record. The mailbox is used by one thread, which is its floor: producer and
 * consumer on two cores also move a cache line each way. Its wake function
 * counts, as the real ones do more.
 *
 * Failure modes: a checksum that differs from the first, a message that did
 * not run or a wake too many is a wrong result.
 */
#include "base/checksum.h"
#include "base/mailbox.h"
#include "bench/micro.h"

#define CHECKSUM_BYTES 1024

static bool run_checksum(void *ctx, uint64_t calls)
{
	static uint8_t data[CHECKSUM_BYTES];
	bool right = true;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	uint64_t expected = base_checksum(data, sizeof(data));
	for (uint64_t i = 0; i < calls; i++) {
		micro_touch(data);
		right &= base_checksum(data, sizeof(data)) == expected;
	}
	return right;
}

struct counted {
	struct base_msg msg;
	uint64_t *runs;
};

static void count_run(struct base_msg *msg)
{
	++*container_of(msg, struct counted, msg)->runs;
}

static void count_wake(void *ctx)
{
	++*(uint64_t *)ctx;
}

#define MESSAGES_MAX 16

/* rounds times: post `messages` messages, run them all. */
static bool post_and_run(uint64_t rounds, unsigned messages)
{
	struct counted counted[MESSAGES_MAX];
	struct base_mailbox box;
	uint64_t runs = 0, wakes = 0;

	base_mailbox_init(&box, count_wake, &wakes);
	for (unsigned i = 0; i < messages; i++)
		counted[i] = (struct counted){ .msg.run = count_run, .runs = &runs };
	for (uint64_t round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < messages; i++)
			base_mailbox_post(&box, &counted[i].msg);
		base_mailbox_run(&box);
	}
	return runs == rounds * messages && wakes == rounds;
}

static bool run_mailbox_one(void *ctx, uint64_t calls)
{
	return post_and_run(calls, 1);
}

static bool run_mailbox_burst(void *ctx, uint64_t calls)
{
	return post_and_run(calls, MESSAGES_MAX);
}

const struct micro_case micro_base_cases[] = {
	{ "checksum-1k", "XXH3-64 of 1 KiB", NULL, run_checksum, NULL, false },
	{ "mailbox-1", "one message posted and run, same thread", NULL, run_mailbox_one, NULL, false },
	{ "mailbox-16", "16 messages posted, then all run", NULL, run_mailbox_burst, NULL, false },
};
const size_t micro_base_case_count = ARRAY_LEN(micro_base_cases);
