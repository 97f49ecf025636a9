/* SPDX-License-Identifier: Apache-2.0 */
/* See sim_device.h. Writes take effect when they complete; until then any part of them may be on the device after a
 * cut. */
#include "tests/model/sim_device.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

void sim_device_init(struct sim_device *device, uint64_t bytes, uint32_t sector_bytes, uint64_t (*random)(void *ctx),
		     void (*event)(void *ctx, const char *what), void *ctx)
{
	*device = (struct sim_device){
		.bytes = bytes, .sector_bytes = sector_bytes, .random = random, .event = event, .ctx = ctx
	};
	device->now = must(malloc(bytes));
	device->stable = must(malloc(bytes));
	memset(device->now, 0xdd, bytes);
	memset(device->stable, 0xdd, bytes);
	device->ended_tail = &device->ended;
}

void sim_device_free(struct sim_device *device)
{
	for (size_t i = 0; i < device->log_count; i++)
		free(device->log[i].data);
	free(device->log);
	free(device->flying);
	free(device->now);
	free(device->stable);
}

/* ---- what a cut leaves -------------------------------------------------------------------- */

/* A random part of the write, sector by sector; often none or all of it. */
static void land_partly(struct sim_device *device, const struct sim_write *write)
{
	unsigned mood = device->random(device->ctx) % 4;

	for (uint64_t at = 0; at < write->bytes; at += device->sector_bytes)
		if (mood == 0 || (mood >= 2 && device->random(device->ctx) % 2))
			memcpy(device->stable + write->offset + at, write->data + at, device->sector_bytes);
}

static void gather(const struct ioc_io *io, char *to)
{
	for (unsigned i = 0; i < io->iov_count; i++) {
		memcpy(to, io->iov[i].iov_base, io->iov[i].iov_len);
		to += io->iov[i].iov_len;
	}
}

static uint64_t io_bytes(const struct ioc_io *io)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < io->iov_count; i++)
		bytes += io->iov[i].iov_len;
	return bytes;
}

static void add_log(struct sim_device *device, uint64_t offset, uint64_t bytes, char *data)
{
	if (device->log_count == device->log_room) {
		device->log_room = device->log_room ? device->log_room * 2 : 64;
		device->log = must(realloc(device->log, device->log_room * sizeof(*device->log)));
	}
	device->log[device->log_count++] = (struct sim_write){ offset, bytes, data };
}

void sim_device_cut(struct sim_device *device)
{
	for (size_t i = 0; i < device->flying_count; i++) {
		struct ioc_io *io = device->flying[i];
		if (io->kind != IOC_IO_WRITE)
			continue;
		char *data = must(malloc(io_bytes(io)));
		gather(io, data);
		add_log(device, io->offset, io_bytes(io), data);
	}
	device->flying_count = 0;
	device->ended = NULL;
	device->ended_tail = &device->ended;
	/* Any subset, in any order. */
	while (device->log_count > 0) {
		size_t i = device->random(device->ctx) % device->log_count;
		land_partly(device, &device->log[i]);
		free(device->log[i].data);
		device->log[i] = device->log[--device->log_count];
	}
	memcpy(device->now, device->stable, device->bytes);
}

void sim_device_kill(struct sim_device *device)
{
	for (size_t i = 0; i < device->flying_count; i++)
		if (device->flying[i]->kind == IOC_IO_WRITE)
			gather(device->flying[i], device->now + device->flying[i]->offset);
	device->flying_count = 0;
	device->ended = NULL;
	device->ended_tail = &device->ended;
	/* The cache is the machine's: it stays, and a later cut may still lose it. The test that kills does not cut
	 * afterwards. */
	while (device->log_count > 0)
		free(device->log[--device->log_count].data);
	memcpy(device->stable, device->now, device->bytes);
}

/* ---- as a pv ------------------------------------------------------------------------------ */

static int pv_open(void *ctx, const char *path, unsigned flags, uint64_t create_bytes, struct meta_pv_handle *ret,
		   struct base_error *err)
{
	struct sim_device *device = ctx;

	*ret = (struct meta_pv_handle){ .fd = -1,
					.priv = device,
					.size_bytes = device->bytes,
					.is_file = true,
					.direct = true,
					.sector_bytes = device->sector_bytes,
					.memory_align = 1,
					.instance = 42 };
	return 0;
}

static void pv_close(void *ctx, struct meta_pv_handle *pv)
{
}

static int pv_read(void *ctx, struct meta_pv_handle *pv, void *buf, size_t bytes, uint64_t offset)
{
	struct sim_device *device = ctx;

	memcpy(buf, device->now + offset, bytes);
	return 0;
}

static int pv_write(void *ctx, struct meta_pv_handle *pv, const void *buf, size_t bytes, uint64_t offset)
{
	struct sim_device *device = ctx;
	char *data = must(malloc(bytes));

	memcpy(data, buf, bytes);
	memcpy(device->now + offset, buf, bytes);
	add_log(device, offset, bytes, data);
	device->event(device->ctx, "label written");
	return 0;
}

static int pv_sync(void *ctx, struct meta_pv_handle *pv)
{
	struct sim_device *device = ctx;

	device->event(device->ctx, "before sync");
	/* What flies is in neither. */
	while (device->log_count > 0) {
		const struct sim_write *write = &device->log[--device->log_count];

		memcpy(device->stable + write->offset, device->now + write->offset, write->bytes);
		free(write->data);
	}
	device->event(device->ctx, "after sync");
	return 0;
}

static int pv_discard(void *ctx, struct meta_pv_handle *pv, uint64_t offset, uint64_t bytes)
{
	struct sim_device *device = ctx;
	char *data = must(malloc(bytes));

	memset(data, 0xdd, bytes);
	memcpy(device->now + offset, data, bytes);
	add_log(device, offset, bytes, data);
	device->event(device->ctx, "discarded");
	return 0;
}

static int pv_resize(void *ctx, struct meta_pv_handle *pv, uint64_t new_bytes)
{
	return -EOPNOTSUPP;
}

const struct meta_pv_ops sim_pv_ops = {
	.open = pv_open,
	.close = pv_close,
	.read = pv_read,
	.write = pv_write,
	.sync = pv_sync,
	.discard = pv_discard,
	.resize = pv_resize,
};

/* ---- as an engine ------------------------------------------------------------------------- */

static void end(struct sim_device *device, struct ioc_io *io, int64_t result)
{
	io->bytes_done = (uint64_t)result;
	io->next = NULL;
	*device->ended_tail = io;
	device->ended_tail = &io->next;
}

static void sim_submit(struct ioc_engine *engine, struct ioc_io *io)
{
	struct sim_device *device = container_of(engine, struct sim_engine, base)->device;

	assert(io->kind == IOC_IO_READ || io->kind == IOC_IO_WRITE);
	assert(io->offset % device->sector_bytes == 0 && io_bytes(io) % device->sector_bytes == 0);
	if (device->flying_count == device->flying_room) {
		device->flying_room = device->flying_room ? device->flying_room * 2 : 64;
		device->flying = must(realloc(device->flying, device->flying_room * sizeof(struct ioc_io *)));
	}
	device->flying[device->flying_count++] = io;
}

static bool fails_now(unsigned *countdown)
{
	return *countdown > 0 && --*countdown == 0;
}

bool sim_device_complete_one(struct sim_device *device)
{
	if (device->flying_count == 0)
		return false;
	size_t i = device->random(device->ctx) % device->flying_count;
	struct ioc_io *io = device->flying[i];
	if (io->kind == IOC_IO_WRITE)
		device->event(device->ctx, "before write");
	device->flying[i] = device->flying[--device->flying_count];
	if (fails_now(io->kind == IOC_IO_WRITE ? &device->fail_writes_in : &device->fail_reads_in)) {
		end(device, io, -EIO);
		return true;
	}
	uint64_t bytes = io_bytes(io);
	if (io->kind == IOC_IO_WRITE) {
		char *data = must(malloc(bytes));
		gather(io, data);
		memcpy(device->now + io->offset, data, bytes);
		add_log(device, io->offset, bytes, data);
	} else {
		const char *from = device->now + io->offset;
		for (unsigned k = 0; k < io->iov_count; from += io->iov[k++].iov_len)
			memcpy(io->iov[k].iov_base, from, io->iov[k].iov_len);
	}
	end(device, io, (int64_t)bytes);
	if (io->kind == IOC_IO_WRITE)
		device->event(device->ctx, "after write");
	return true;
}

static int sim_run(struct ioc_engine *engine, int64_t timeout_ns)
{
	struct sim_device *device = container_of(engine, struct sim_engine, base)->device;
	int ran = 0;

	while (device->ended) {
		struct ioc_io *io = device->ended;
		device->ended = io->next;
		if (!device->ended)
			device->ended_tail = &device->ended;
		io->done(io, (int64_t)io->bytes_done);
		ran++;
	}
	return ran;
}

static void sim_wake(struct ioc_engine *engine)
{
}

static void sim_close(struct ioc_engine *engine)
{
}

static const struct ioc_engine_ops sim_engine_ops = {
	.name = "sim", .submit = sim_submit, .run = sim_run, .wake = sim_wake, .close = sim_close
};

void sim_engine_init(struct sim_engine *engine, struct sim_device *device)
{
	engine->base.ops = &sim_engine_ops;
	engine->device = device;
}
