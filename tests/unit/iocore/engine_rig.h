/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine tests share. ENGINE_TEST(property) makes one test for each
 * engine out of one body, which gets the engine's name. "null" takes part with
 * no data descriptors, so it is then a wrapper that has to pass everything on;
 * what it does with data has tests of its own. "fault" is the wrapper that injects
 * faults, with rules that delay each read and split each write: what nobody may
 * notice.
 *
 * The rig counts: every done function checks that it runs on the owner, outside
 * submit(), once for its submit, so all tests check that too. Nothing sleeps
 * for a while and hopes: rig_drive() runs the engine until what was submitted
 * is done, and fails at a deadline.
 */
#ifndef TESTS_ENGINE_RIG_H
#define TESTS_ENGINE_RIG_H

#include <criterion/criterion.h>
#include <pthread.h>
#include <sys/types.h>

#include "iocore/engine.h"

#define NS_PER_MS INT64_C(1000000)
#define DEADLINE_NS (20000 * NS_PER_MS)
#define DIRECT_ALIGN_BYTES 4096u
#define DEPTH_DEFAULT 16
#define IOVS_MAX 4

#define ENGINE_TEST_OF(engine, property)                                                                             \
	Test(ioc_engine_##engine, property, .timeout = 60)                                                           \
	{                                                                                                            \
		check_##property(#engine);                                                                           \
	}

/* For what depends on the order or on the name: not with faults. */
#define ENGINE_TEST_WITHOUT_FAULTS(property)                                                                         \
	static void check_##property(const char *name);                                                              \
	ENGINE_TEST_OF(uring, property)                                                                              \
	ENGINE_TEST_OF(threads, property)                                                                            \
	ENGINE_TEST_OF(null, property)                                                                               \
	static void check_##property(const char *name)

#define ENGINE_TEST(property)                                                                                        \
	static void check_##property(const char *name);                                                              \
	ENGINE_TEST_OF(uring, property)                                                                              \
	ENGINE_TEST_OF(threads, property)                                                                            \
	ENGINE_TEST_OF(null, property)                                                                               \
	ENGINE_TEST_OF(fault, property)                                                                              \
	static void check_##property(const char *name)

struct rig {
	struct ioc_engine *engine;
	pthread_t owner;
	bool is_submitting;
	unsigned outstanding;
	unsigned done_total;
	int fd; /* an unlinked file in the working directory */
};

struct op {
	struct ioc_io io;
	struct iovec iov[IOVS_MAX];
	struct rig *rig;
	int64_t result;
	unsigned submitted;
	unsigned done;
	unsigned done_at;            /* rig->done_total when it was done */
	void (*then)(struct op *op); /* called from done, may be NULL */
};

/* One io that submits itself again from done, left times in all. */
struct chain {
	struct op op;
	unsigned left;
	char byte;
};

int64_t rig_now_ns(void);

/* An unlinked file. flags: O_DIRECT or 0. Skips the test where the filesystem has no O_DIRECT. */
int rig_open_file(int flags);
/* Skips the test when it wants io_uring and the host has none. */
struct ioc_engine *rig_open_engine(const char *name, const struct ioc_engine_args *args);
void rig_open(struct rig *rig, const char *name, unsigned depth, int file_flags);
void rig_close(struct rig *rig);

/* Aligned for O_DIRECT, filled with 0xee; bytes is a multiple of DIRECT_ALIGN_BYTES. */
void *rig_buffer(size_t bytes);
/* With one iovec (SYNC: none). */
void op_set(struct op *op, enum ioc_io_kind kind, int fd, void *data, size_t bytes, uint64_t offset);
void rig_submit(struct rig *rig, struct op *op);
void chain_submit_next(struct op *op);

/* One run(); returns how many done functions ran. */
int rig_run(struct rig *rig, int64_t timeout_ns);
void rig_drive(struct rig *rig);
/* Runs until no more than left submitted ios are not done. */
void rig_drive_to(struct rig *rig, unsigned left);

/*
 * action: SECCOMP_RET_..., for one system call of this process from now on. It can't be taken back, so it
 * is for a child. Return: 0 or a negative errno.
 */
int rig_filter_system_call(unsigned number, unsigned action);
/* Waits for a child whose exit code is 0 or the number of the check that failed. */
void rig_check_child(pid_t child);

#endif
