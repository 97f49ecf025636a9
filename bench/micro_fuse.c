/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Benchmarks of a whole request through the FUSE front end, from the bytes that
 * the kernel sends to the bytes of the answer, without the kernel and without a
 * device.
 *
 * The model: the rig (bench/rig.h) with a source of FUSE requests on its queue.
 * Each call is one request: the next message is read, decoded, looked up,
 * planned, carried out by a device that takes no time, and answered. 32 MiB of
 * the disk were written before, so nothing is allocated and no map changes.
 *
 * Failure modes: a request that was not answered, or by an answer of another
 * length (an error has no body), is a wrong result.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/micro.h"
#include "bench/rig.h"
#include "fs/internal.h"

#define AREA_BYTES (32 * MIB)
#define PV_BYTES (128 * MIB)

struct source {
	struct rig *rig;
	struct fs_mount fs;
	bool has_opens;
	uint64_t unique, fh;
	bool is_write;
};

/* The part of a message that is read; a WRITE's payload is whatever lies behind it. */
union message {
	uint8_t bytes[FS_WRITE_HEADER_BYTES];
	struct {
		struct fuse_in_header header;
		union {
			struct fuse_read_in read;
			struct fuse_write_in write;
		};
	};
};

static void request(struct source *source, uint64_t offset, uint32_t bytes)
{
	union message m = { .header = { .len = sizeof(m), .nodeid = FS_NODE_FIRST_DISK, .unique = ++source->unique } };
	size_t sent = sizeof(m);

	if (source->is_write) {
		m.header.opcode = FUSE_WRITE;
		m.write = (struct fuse_write_in){ .fh = source->fh, .offset = offset, .size = bytes };
		sent += bytes;
		m.header.len = (uint32_t)sent;
		source->rig->reply_bytes = sizeof(struct fuse_out_header) + sizeof(struct fuse_write_out);
	} else {
		m.header.opcode = FUSE_READ;
		m.read = (struct fuse_read_in){ .fh = source->fh, .offset = offset, .size = bytes };
		source->rig->reply_bytes = sizeof(struct fuse_out_header) + bytes;
	}
	rig_turn(source->rig, &m, sizeof(m), sent);
}

/* Return: whether all were answered as they should have been. */
static bool run_requests(struct source *source, uint64_t calls, uint32_t bytes)
{
	uint64_t replied = source->rig->replied, random = 1;

	for (uint64_t i = 0; i < calls; i++) {
		random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		request(source, (bytes == MIB ? i : random >> 32) % (AREA_BYTES / bytes) * bytes, bytes);
	}
	/* Those that go a longer way (allocations) and the last answer. */
	for (unsigned i = 0; i < 100000 && source->rig->replied - replied < calls; i++)
		rig_turn(source->rig, NULL, 0, 0);
	return source->rig->replied - replied == calls;
}

/* The rig's, not the table's. */
static void keep_open(struct ioc_bd *bd)
{
}

static void forget_modified(struct meta_disk *disk, uint64_t modified_s, void *ctx)
{
}

static void end_transport(void *arg)
{
	fs_transport_done(arg);
}

static void fuse_done(void *ctx)
{
	struct source *source = ctx;

	if (source->fs.queues)
		rig_call(source->rig, end_transport, &source->fs);
	if (source->has_opens)
		fs_open_table_done(&source->fs.opens, forget_modified, NULL);
	rig_close(source->rig);
	free(source);
}

static int fill(struct source *source)
{
	struct fs_mount *fs = &source->fs;
	int rc = rig_open_queue(source->rig);

	if (rc < 0)
		return rc;
	fs->meta = source->rig->meta;
	fs->ioc = &source->rig->ioc;
	fs->fd = -1;
	fs->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	pthread_mutex_init(&fs->lock, NULL);
	pthread_cond_init(&fs->ended, NULL);
	rc = fs_open_table_init(&fs->opens, 1, keep_open);
	if (rc < 0)
		return rc;
	source->has_opens = true;
	source->fh = meta_disk_number(source->rig->disk);
	rc = fs_open_add(&fs->opens, source->fh, source->rig->bd, source->rig->disk);
	if (rc == 0)
		rc = fs_transport_init(fs);
	if (rc < 0)
		return rc;
	fs_transport_start(fs);
	rig_turn(source->rig, NULL, 0, 0);
	source->is_write = true;
	return run_requests(source, AREA_BYTES / MIB, MIB) ? 0 : -EIO;
}

static int setup(bool is_write, void **ret_ctx)
{
	struct source *source = calloc(1, sizeof(*source));

	if (!source)
		return -ENOMEM;
	int rc = rig_open(PV_BYTES, AREA_BYTES, &source->rig);
	if (rc < 0) {
		free(source);
		return rc;
	}
	rc = fill(source);
	if (rc < 0) {
		fuse_done(source);
		return rc;
	}
	source->is_write = is_write;
	*ret_ctx = source;
	return 0;
}

static int setup_read(void **ret_ctx)
{
	return setup(false, ret_ctx);
}

static int setup_write(void **ret_ctx)
{
	return setup(true, ret_ctx);
}

static bool run_small(void *ctx, uint64_t calls)
{
	return run_requests(ctx, calls, BLOCK_BYTES);
}

static bool run_large(void *ctx, uint64_t calls)
{
	return run_requests(ctx, calls, MIB);
}

const struct micro_case micro_fuse_cases[] = {
	{ "fuse-read-4k", "4 KiB READ, from message to answer", setup_read, run_small, fuse_done, true },
	{ "fuse-write-4k", "4 KiB WRITE over valid blocks", setup_write, run_small, fuse_done, true },
	{ "fuse-read-1m", "1 MiB READ in order", setup_read, run_large, fuse_done, true },
};
const size_t micro_fuse_case_count = ARRAY_LEN(micro_fuse_cases);
