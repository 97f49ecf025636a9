/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier of the stamp mode: holds a disk against the log of what was acknowledged.
 *
 * After a kill every sector must hold the version that completed last, or a
 * newer one that was on its way. After a power cut it must hold the version
 * that was flushed last, or a newer one. Never anything else: stamp_log.c has
 * the table.
 *
 * What the verifier finds of operations that were on their way is durable
 * once it could be read after a restart: the server syncs before it answers.
 * It is put into the log, so that a later round fails when it changes again.
 * A disk whose server was not restarted is verified with --no-record.
 *
 * Failure modes: each wrong sector is named with what it holds and what it
 * should hold, the first 20 of them; the status is 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exerciser.h"
#include "stamp.h"

#define READ_BYTES (1u << 20)
#define WRONG_SHOWN 20

struct verifier {
	const struct stamp_args *args;
	struct stamp_log log;
	int fd, fd_log;
	uint64_t stamped, zero, newer, older, wrong;
	uint64_t run_first, run_sectors, run_version; /* neighbours with the same news, to be put into the log */
};

static void flush_run(struct verifier *verifier)
{
	if (verifier->run_sectors && verifier->args->record)
		stamp_log_append(verifier->fd_log, RECORD_OBSERVED, verifier->run_version, verifier->run_first,
				 verifier->run_sectors);
	verifier->run_sectors = 0;
}

static void note(struct verifier *verifier, uint64_t sector, uint64_t version)
{
	if (verifier->run_sectors && verifier->run_version == version &&
	    verifier->run_first + verifier->run_sectors == sector) {
		verifier->run_sectors++;
		return;
	}
	flush_run(verifier);
	verifier->run_first = sector;
	verifier->run_sectors = 1;
	verifier->run_version = version;
}

static void tell_wrong(struct verifier *verifier, uint64_t sector, const char *what, uint64_t base)
{
	const struct sector_state *state = &verifier->log.state[sector];

	if (verifier->wrong++ >= WRONG_SHOWN)
		return;
	printf("WRONG: sector %" PRIu64 " (byte %" PRIu64 ", chunk %" PRIu64 ") %s; it must hold version %" PRIx64
	       " or newer (completed %" PRIx64 ", flushed %" PRIx64 ", punch begun %" PRIx64 ", settled %" PRIx64 ")\n",
	       sector, sector * STAMP_SECTOR_BYTES, sector * STAMP_SECTOR_BYTES / 65536, what, base, state->acked,
	       state->flushed, state->punch_begun, verifier->log.closed);
}

static void check_stamp(struct verifier *verifier, uint64_t sector, const uint8_t *data, uint64_t base)
{
	const struct sector_state *state = &verifier->log.state[sector];
	uint64_t disk_id, at, version;
	char what[128];

	verifier->stamped++;
	if (!stamp_read(data, &disk_id, &at, &version)) {
		tell_wrong(verifier, sector, "holds bytes that are no stamp", base);
	} else if (disk_id != verifier->log.disk_id || at != sector) {
		snprintf(what, sizeof(what), "holds sector %" PRIu64 " of disk %" PRIu64 ", version %" PRIx64, at,
			 disk_id, version);
		tell_wrong(verifier, sector, what, base);
	} else if (!stamp_accepts(&verifier->log, state, base, false, version)) {
		snprintf(what, sizeof(what), "holds version %" PRIx64, version);
		tell_wrong(verifier, sector, what, base);
	} else if (version != state->acked) {
		*(version > state->acked ? &verifier->newer : &verifier->older) += 1;
		note(verifier, sector, version);
	}
}

static void check_sector(struct verifier *verifier, uint64_t sector, const uint8_t *data)
{
	const struct sector_state *state = &verifier->log.state[sector];
	uint64_t base = verifier->args->powercut ? state->flushed : state->acked;

	if (data[0] || memcmp(data, data + 1, STAMP_SECTOR_BYTES - 1)) {
		check_stamp(verifier, sector, data, base);
		return;
	}
	verifier->zero++;
	if (!stamp_accepts(&verifier->log, state, base, true, 0)) {
		tell_wrong(verifier, sector, "holds zeros", base);
	} else if (!version_is_zero(state->acked)) {
		*(state->punch_begun > state->acked ? &verifier->newer : &verifier->older) += 1;
		note(verifier, sector, state->punch_begun > base ? state->punch_begun : base);
	}
}

static int read_disk(struct verifier *verifier)
{
	uint8_t *data = aligned_alloc(PAGE_BYTES, READ_BYTES);
	uint64_t bytes = verifier->log.sectors * STAMP_SECTOR_BYTES;
	int code = data ? 0 : -ENOMEM;

	for (uint64_t at = 0; at < bytes && !code;) {
		uint64_t want = bytes - at < READ_BYTES ? bytes - at : READ_BYTES;
		ssize_t n = pread(verifier->fd, data, want, (off_t)at);

		if (n < 0)
			code = -errno;
		else if (n == 0 || n % STAMP_SECTOR_BYTES)
			code = -ENODATA;
		for (ssize_t i = 0; i < n && !code; i += STAMP_SECTOR_BYTES)
			check_sector(verifier, (at + (uint64_t)i) / STAMP_SECTOR_BYTES, data + i);
		if (n > 0)
			at += (uint64_t)n;
	}
	free(data);
	return code;
}

static int fail(const char *what, int code)
{
	fprintf(stderr, "exerciser: %s: %s\n", what, strerror(-code));
	return 1;
}

int stamp_verify(const struct stamp_args *args)
{
	struct verifier verifier = { .args = args };
	int code = stamp_log_load(args->log_path, &verifier.log);

	if (!code && (verifier.log.sectors == 0 || verifier.log.disk_id != args->disk_id))
		code = -EINVAL;
	if (code)
		return fail(args->log_path, code);
	verifier.fd_log = stamp_log_open(args->log_path);
	if (verifier.fd_log < 0)
		return fail(args->log_path, verifier.fd_log);
	verifier.fd = open(args->path, O_RDONLY | O_CLOEXEC);
	code = verifier.fd < 0 ? -errno : read_disk(&verifier);
	flush_run(&verifier);
	if (!code && !verifier.wrong && args->record)
		code = stamp_log_append(verifier.fd_log, RECORD_CLOSED,
					((verifier.log.rounds + 1) << STAMP_ROUND_SHIFT) - 1, 0, 0);
	if (verifier.fd >= 0)
		close(verifier.fd);
	close(verifier.fd_log);
	printf("%s: %" PRIu64 " sectors stamped, %" PRIu64 " zero; %" PRIu64 " newer than acknowledged, %" PRIu64
	       " older; %" PRIu64 " wrong (%" PRIu64 " log records, round %" PRIu64 ", %s)\n",
	       args->path, verifier.stamped, verifier.zero, verifier.newer, verifier.older, verifier.wrong,
	       verifier.log.records, verifier.log.rounds, args->powercut ? "power cut" : "kill");
	stamp_log_done(&verifier.log);
	return code ? fail(args->path, code) : verifier.wrong != 0;
}
