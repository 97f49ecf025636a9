/* SPDX-License-Identifier: Apache-2.0 */
/* The rig of the engine tests; see engine_rig.h. */
#include "engine_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int64_t rig_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int rig_open_file(int flags)
{
	char path[] = "engine-test-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC), direct_fd;

	cr_assert_geq(fd, 0, "mkostemp: %s", strerror(errno));
	if (!flags) {
		unlink(path);
		return fd;
	}
	direct_fd = open(path, O_RDWR | O_CLOEXEC | flags);
	unlink(path);
	close(fd);
	if (direct_fd < 0)
		cr_skip_test("no O_DIRECT in the working directory: %s", strerror(errno));
	return direct_fd;
}

/* Never closed: engines may use it to the end of the test. */
static struct base_fault *faults_of_the_test(void)
{
	static struct base_fault *faults;
	struct base_error err = { 0 };

	if (!faults)
		cr_assert_eq(base_fault_open("delay=10us:op=read+sync;short:op=write", &faults, &err), 0, "%s",
			     err.text);
	return faults;
}

struct ioc_engine *rig_open_engine(const char *name, const struct ioc_engine_args *args)
{
	struct ioc_engine *engine = NULL;
	struct base_error err = { 0 };
	struct ioc_engine_args with_faults = *args;
	bool faulty = strcmp(name, "fault") == 0;

	if (faulty)
		with_faults.fault = faults_of_the_test();
	int rc = ioc_engine_open(faulty ? NULL : name, &with_faults, &engine, NULL, &err);

	if ((rc == -EPERM || rc == -ENOSYS) && strcmp(name, "uring") == 0)
		cr_skip_test("no io_uring on this host: %s", err.text);
	cr_assert_eq(rc, 0, "%s", err.text);
	return engine;
}

void rig_open(struct rig *rig, const char *name, unsigned depth, int file_flags)
{
	struct ioc_engine_args args = { .depth = depth };

	*rig = (struct rig){ .owner = pthread_self(), .fd = rig_open_file(file_flags) };
	args.data_fds = &rig->fd;
	args.data_fd_count = strcmp(name, "null") != 0;
	rig->engine = rig_open_engine(name, &args);
	cr_assert_eq(strncmp(rig->engine->ops->name, name, strlen(name)), 0);
}

void rig_close(struct rig *rig)
{
	rig->engine->ops->close(rig->engine);
	close(rig->fd);
}

static void op_done(struct ioc_io *io, int64_t result)
{
	struct op *op = container_of(io, struct op, io);

	cr_assert(!op->rig->is_submitting, "done ran inside submit");
	cr_assert(pthread_equal(pthread_self(), op->rig->owner), "done ran on another thread");
	cr_assert_eq(++op->done, op->submitted, "done ran twice");
	op->result = result;
	op->rig->outstanding--;
	op->done_at = op->rig->done_total++;
	if (op->then)
		op->then(op);
}

void rig_submit(struct rig *rig, struct op *op)
{
	op->rig = rig;
	op->io.done = op_done;
	op->submitted++;
	rig->outstanding++;
	rig->is_submitting = true;
	rig->engine->ops->submit(rig->engine, &op->io);
	rig->is_submitting = false;
}

void op_set(struct op *op, enum ioc_io_kind kind, int fd, void *data, size_t bytes, uint64_t offset)
{
	op->iov[0] = (struct iovec){ .iov_base = data, .iov_len = bytes };
	op->io.kind = kind;
	op->io.fd = fd;
	op->io.iov = op->iov;
	op->io.iov_count = kind == IOC_IO_SYNC ? 0 : 1;
	op->io.offset = offset;
}

int rig_run(struct rig *rig, int64_t timeout_ns)
{
	int rc = rig->engine->ops->run(rig->engine, timeout_ns);

	cr_assert_geq(rc, 0, "run: %s", strerror(-rc));
	return rc;
}

void rig_drive_to(struct rig *rig, unsigned left)
{
	int64_t deadline_ns = rig_now_ns() + DEADLINE_NS;
	unsigned before = rig->done_total;
	unsigned ran = 0;

	while (rig->outstanding > left) {
		cr_assert_lt(rig_now_ns(), deadline_ns, "%u ios never done", rig->outstanding - left);
		ran += (unsigned)rig_run(rig, 100 * NS_PER_MS);
	}
	cr_assert_eq(ran, rig->done_total - before, "run() does not return how many done functions ran");
}

void rig_drive(struct rig *rig)
{
	rig_drive_to(rig, 0);
}

void *rig_buffer(size_t bytes)
{
	void *buffer = aligned_alloc(DIRECT_ALIGN_BYTES, bytes);

	cr_assert_not_null(buffer);
	memset(buffer, 0xee, bytes);
	return buffer;
}

void chain_submit_next(struct op *op)
{
	struct chain *chain = container_of(op, struct chain, op);

	if (chain->left-- == 0)
		return;
	op_set(op, IOC_IO_WRITE, op->rig->fd, &chain->byte, 1, chain->left);
	rig_submit(op->rig, op);
}

int rig_filter_system_call(unsigned number, unsigned action)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_LEN(filter), .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return -errno;
	return 0;
}

void rig_check_child(pid_t child)
{
	int status = 0;

	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status), "the child died, status 0x%x", (unsigned)status);
	cr_assert_eq(WEXITSTATUS(status), 0, "check %d of the child failed", WEXITSTATUS(status));
}
