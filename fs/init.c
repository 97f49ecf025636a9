/* SPDX-License-Identifier: Apache-2.0 */
/*
 * INIT: what the kernel and we agree on when a mount begins.
 *
 * The kernel sends INIT first and nothing else before it has the answer, so the
 * thread that mounts deals with it alone, before any queue reads.
 *
 * The answer is ours: libfuse 3.14 leaves out what it does not know, and we
 * need DIRECT_IO_ALLOW_MMAP. libfuse must see the request all the same, or it
 * would refuse every other one. It gets a copy under a number that no request
 * has; its own answer to that is refused by the kernel with ENOENT, which
 * libfuse takes for an interrupted request and ignores (3.14, 3.17 and later).
 * It goes first: if it does not like what it sees, the mount fails before it
 * has begun.
 *
 * What is asked for, of what is offered:
 *
 *	ASYNC_READ, ASYNC_DIO, PARALLEL_DIROPS   more than one request of a file at a time
 *	BIG_WRITES, MAX_PAGES                    requests of up to 1 MiB
 *	ATOMIC_O_TRUNC                           OPEN truncates, so a busy disk can refuse it
 *	DO_READDIRPLUS, READDIRPLUS_AUTO         ls -l of 10,000 disks without 10,000 look-ups
 *	AUTO_INVAL_DATA                          pages of a shared mapping go when the disk was changed elsewhere
 *	DIRECT_IO_ALLOW_MMAP                     shared mappings of direct files (Linux 6.6; before it: ENODEV)
 *	EXPORT_SUPPORT                           node ids are good for ever, so file handles are
 *
 * Never WRITEBACK_CACHE: acknowledged data would live in the kernel, and guests
 * write the same disks behind its back. Never splice: for small requests the
 * pipe costs more than the copy.
 *
 * A mount that is taken over from a dead daemon sends no INIT: libfuse is told
 * of the one that the mount began with.
 *
 * Failure modes: no INIT before the deadline, a kernel of another major
 * protocol, libfuse refusing an option: the mount fails with a message.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/internal.h"

/* The mount-wide limit of asynchronous requests; the default of 12 would be shared by all disks. */
#define BACKGROUND_MAX 1024
#define BACKGROUND_CONGESTED (BACKGROUND_MAX * 3 / 4)
/* Times are kept in seconds. */
#define TIME_GRANULARITY_NS 1000000000
/* The youngest protocol whose INIT has the fields used here (Linux 4.20); everything older lacks what we need. */
#define MINOR_MIN 28
/* Request numbers count up from 2. */
#define UNIQUE_OF_NOBODY (UINT64_C(1) << 62)

#define FLAGS_WANTED                                                                                                   \
	(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_EXPORT_SUPPORT | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA |        \
	 FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |        \
	 FUSE_INIT_EXT | FUSE_DIRECT_IO_ALLOW_MMAP)

/* Return: bytes read, or a negative errno. */
static ssize_t read_message(int fd, void *buf, size_t bytes)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int ready = poll(&pfd, 1, FS_START_DEADLINE_MS);
	ssize_t got;

	if (ready == 0)
		return -ETIMEDOUT;
	got = ready < 0 ? -1 : read(fd, buf, bytes);
	return got < 0 ? -errno : got;
}

/* Returns false when the message is no INIT that we understand. */
static bool parse_init(const void *message, size_t bytes, struct fuse_in_header *ret_header, struct fuse_init_in *ret)
{
	/* Protocols before 7.36 send the first 16 bytes only. */
	const size_t short_bytes = offsetof(struct fuse_init_in, flags2);
	size_t body_bytes;

	if (bytes < sizeof(*ret_header) + short_bytes)
		return false;
	memcpy(ret_header, message, sizeof(*ret_header));
	body_bytes = MIN(bytes - sizeof(*ret_header), sizeof(*ret));
	*ret = (struct fuse_init_in){ 0 };
	memcpy(ret, (const char *)message + sizeof(*ret_header), body_bytes);
	return ret_header->opcode == FUSE_INIT && ret_header->len == bytes;
}

static struct fuse_init_out make_answer(struct fs_mount *fs, const struct fuse_init_in *in)
{
	uint64_t offered = in->flags | (in->flags & FUSE_INIT_EXT ? (uint64_t)in->flags2 << 32 : 0);
	uint64_t flags = offered & FLAGS_WANTED;

	fs->has_shared_mmap = flags & FUSE_DIRECT_IO_ALLOW_MMAP;
	return (struct fuse_init_out){
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.flags = (uint32_t)flags,
		.flags2 = (uint32_t)(flags >> 32),
		.max_background = BACKGROUND_MAX,
		.congestion_threshold = BACKGROUND_CONGESTED,
		.max_write = FS_DATA_BYTES_MAX,
		.max_pages = (uint16_t)(FS_DATA_BYTES_MAX / fs->page_bytes),
		.time_gran = TIME_GRANULARITY_NS,
	};
}

static int tell_libfuse(struct fs_mount *fs, void *message, size_t bytes)
{
	struct fuse_buf buf = { .mem = message, .size = bytes };
	struct fuse_in_header header;

	memcpy(&header, message, sizeof(header));
	header.unique |= UNIQUE_OF_NOBODY;
	memcpy(message, &header, sizeof(header));
	fuse_session_process_buf(fs->session, &buf);
	return fuse_session_exited(fs->session) ? -EPROTO : 0;
}

static int check_resend(const struct fs_mount *fs, const struct fuse_init_in *in, struct base_error *err)
{
	uint64_t offered = in->flags & FUSE_INIT_EXT ? (uint64_t)in->flags2 << 32 : 0;

	if (fs->handles && !(offered & FUSE_HAS_RESEND))
		return base_error_set(err, -EOPNOTSUPP,
				      "this kernel can't send requests again after the death of a daemon, which "
				      "needs Linux 6.9: mount without \"survive\"");
	return 0;
}

static int write_answer(int fd, uint64_t unique, const struct fuse_init_out *answer)
{
	struct fuse_out_header header = { .len = sizeof(header) + sizeof(*answer), .unique = unique };
	char buf[sizeof(header) + sizeof(*answer)];

	memcpy(buf, &header, sizeof(header));
	memcpy(buf + sizeof(header), answer, sizeof(*answer));
	return write(fd, buf, sizeof(buf)) < 0 ? -errno : 0;
}

static int answer(struct fs_mount *fs, void *message, size_t bytes, struct base_error *err)
{
	struct fuse_in_header header;
	struct fuse_init_in in;
	struct fuse_init_out out;
	int rc;

	if (!parse_init(message, bytes, &header, &in))
		return base_error_set(err, -EPROTO, "the kernel did not begin with a FUSE INIT that can be understood");
	if (in.major != FUSE_KERNEL_VERSION || in.minor < MINOR_MIN)
		return base_error_set(err, -EPROTO,
				      "the kernel speaks FUSE %u.%u; 7.%u (Linux 4.20) or later is needed", in.major,
				      in.minor, MINOR_MIN);
	rc = check_resend(fs, &in, err);
	if (rc < 0)
		return rc;
	rc = tell_libfuse(fs, message, bytes);
	if (rc < 0)
		return base_error_set(err, rc, "libfuse refused to begin: %s", fs_libfuse_said());
	out = make_answer(fs, &in);
	rc = write_answer(fs->fd, header.unique, &out);
	if (rc < 0)
		return base_error_set_errno(err, rc, "answering the kernel's FUSE INIT");
	fs_handles_keep_init(fs->handles, message, bytes);
	return 0;
}

int fs_init_repeat(struct fs_mount *fs, struct base_error *err)
{
	_Alignas(8) char message[FS_HANDLES_INIT_BYTES_MAX];
	size_t bytes = fs_handles_init(fs->handles, message);
	struct fuse_in_header header;
	struct fuse_init_in in;

	if (!parse_init(message, bytes, &header, &in))
		return base_error_set(err, -EBADMSG, "the mount to be taken over never came to life");
	if (tell_libfuse(fs, message, bytes) < 0)
		return base_error_set(err, -EPROTO, "libfuse refused to take over: %s", fs_libfuse_said());
	(void)make_answer(fs, &in); /* what was agreed on then */
	return 0;
}

int fs_init_answer(struct fs_mount *fs, struct base_error *err)
{
	/* The device wants room for the largest message it may have, INIT or not. */
	void *message = malloc(FS_MESSAGE_BYTES_MAX);
	ssize_t bytes;
	int rc;

	if (!message)
		return base_error_set(err, -ENOMEM, "no memory for a FUSE message");
	bytes = read_message(fs->fd, message, FS_MESSAGE_BYTES_MAX);
	if (bytes < 0)
		rc = base_error_set_errno(err, (int)bytes, "waiting for the kernel's FUSE INIT");
	else
		rc = answer(fs, message, (size_t)bytes, err);
	free(message);
	return rc;
}
