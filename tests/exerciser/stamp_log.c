/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of acknowledgements, and what may be read given what it says.
 *
 * The log lies on another filesystem than the disk under test and is written
 * with O_APPEND, one write a record, after the operation completed: when the
 * server of the disk is killed, the log holds what the writer had been told.
 * It need not survive a power cut of the machine it is on; in a power-cut
 * test it lies outside the machine that loses power.
 *
 * What one sector may hold after a crash, base being the version that must be
 * there at least (kill: the last completed; power cut: the last flushed):
 *
 *   found                 allowed when
 *   base itself           always
 *   a newer version       it was issued after the last verification
 *   zeros                 base is a punch, or nothing was ever written,
 *                         or a newer punch was begun after the last verification
 *   anything else         never: lost, too old, another sector's, another disk's
 *
 * A version that is newer than base and bears a good checksum was issued by
 * the writer, since nobody else can make one: so writes need no record of
 * their beginning. Zeros prove nothing, so punches have one.
 *
 * Failure modes: a last record that is cut short is left out; any other
 * record that is damaged ends the load with -EBADMSG.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checksum.h"
#include "exerciser.h"
#include "stamp.h"

#define RECORD_MAGIC 0x53544d50u
#define STAMP_MAGIC UINT64_C(0x62646673746d7031)

struct stamp {
	uint64_t magic, disk_id, sector, version;
	uint8_t fill[STAMP_SECTOR_BYTES - 5 * sizeof(uint64_t)];
	uint64_t checksum;
};

_Static_assert(sizeof(struct stamp) == STAMP_SECTOR_BYTES, "a stamp is one sector");

void stamp_make(uint8_t *sector_data, uint64_t disk_id, uint64_t sector, uint64_t version)
{
	struct stamp stamp = { .magic = STAMP_MAGIC, .disk_id = disk_id, .sector = sector, .version = version };

	fill_random(stamp.fill, sizeof(stamp.fill), disk_id ^ sector << 20 ^ version);
	stamp.checksum = base_checksum(&stamp, offsetof(struct stamp, checksum));
	memcpy(sector_data, &stamp, sizeof(stamp));
}

bool stamp_read(const uint8_t *sector_data, uint64_t *ret_disk_id, uint64_t *ret_sector, uint64_t *ret_version)
{
	struct stamp stamp;

	memcpy(&stamp, sector_data, sizeof(stamp));
	if (stamp.magic != STAMP_MAGIC || stamp.checksum != base_checksum(&stamp, offsetof(struct stamp, checksum)))
		return false;
	*ret_disk_id = stamp.disk_id;
	*ret_sector = stamp.sector;
	*ret_version = stamp.version;
	return true;
}

bool stamp_accepts(const struct stamp_log *log, const struct sector_state *state, uint64_t base, bool is_zero,
		   uint64_t found_version)
{
	if (is_zero)
		return version_is_zero(base) || (state->punch_begun > base && state->punch_begun > log->closed);
	return found_version == base || (found_version > base && found_version > log->closed);
}

/* ---- the file -------------------------------------------------------------------------------- */

int stamp_log_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

int stamp_log_append(int fd, enum record_type type, uint64_t version, uint64_t first_sector, uint64_t sectors)
{
	struct stamp_record record = { RECORD_MAGIC, type, version, first_sector, sectors, 0 };
	ssize_t n;

	record.checksum = base_checksum(&record, offsetof(struct stamp_record, checksum));
	n = write(fd, &record, sizeof(record));
	return n == (ssize_t)sizeof(record) ? 0 : n < 0 ? -errno : -ENOSPC;
}

static int check_record(const struct stamp_log *log, const struct stamp_record *record)
{
	if (record->magic != RECORD_MAGIC)
		return -EBADMSG;
	if (record->checksum != base_checksum(record, offsetof(struct stamp_record, checksum)))
		return -EBADMSG;
	if ((record->type == RECORD_HEAD) != (log->sectors == 0))
		return -EBADMSG;
	if (record->type == RECORD_HEAD)
		return record->first_sector && record->first_sector < UINT64_C(1) << 32 ? 0 : -EBADMSG;
	return record->first_sector <= log->sectors && record->sectors <= log->sectors - record->first_sector
		   ? 0
		   : -EBADMSG;
}

static void apply_range(struct stamp_log *log, const struct stamp_record *record, bool before_flush)
{
	for (uint64_t i = 0; i < record->sectors; i++) {
		struct sector_state *state = &log->state[record->first_sector + i];

		if (record->type == RECORD_PUNCH_BEGIN) {
			state->punch_begun = record->version;
			continue;
		}
		state->acked = record->version;
		if (before_flush || record->type == RECORD_DURABLE || record->type == RECORD_OBSERVED)
			state->flushed = record->version;
	}
}

static int apply(struct stamp_log *log, const struct stamp_record *record, bool before_flush)
{
	switch ((enum record_type)record->type) {
	case RECORD_HEAD:
		log->disk_id = record->version;
		log->sectors = record->first_sector;
		log->state = calloc(log->sectors, sizeof(*log->state));
		return log->state ? 0 : -ENOMEM;
	case RECORD_START:
		log->rounds = record->version;
		return 0;
	case RECORD_CLOSED:
		log->closed = record->version;
		for (uint64_t i = 0; i < log->sectors; i++)
			log->state[i].flushed = log->state[i].acked;
		return 0;
	case RECORD_FLUSH_BEGIN:
	case RECORD_FLUSH:
		return 0;
	case RECORD_WRITE:
	case RECORD_DURABLE:
	case RECORD_PUNCH_BEGIN:
	case RECORD_PUNCH:
	case RECORD_OBSERVED:
		apply_range(log, record, before_flush);
		return 0;
	}
	return -EBADMSG;
}

/* Where in the log the last flush that completed had begun: what completed before that is on stable storage. */
static size_t flushed_up_to(const struct stamp_record *records, size_t count)
{
	size_t up_to = 0;

	for (size_t done = count; done > 0; done--) {
		if (records[done - 1].type != RECORD_FLUSH)
			continue;
		for (size_t begun = done - 1; begun > up_to; begun--) {
			if (records[begun - 1].type == RECORD_FLUSH_BEGIN &&
			    records[begun - 1].version == records[done - 1].version) {
				up_to = begun;
				break;
			}
		}
		if (done <= up_to)
			break;
	}
	return up_to;
}

static int read_all(const char *path, struct stamp_record **ret_records, size_t *ret_count)
{
	FILE *in = fopen(path, "r");
	struct stamp_record *records;
	long bytes;

	if (!in)
		return -errno;
	fseek(in, 0, SEEK_END);
	bytes = ftell(in);
	rewind(in);
	*ret_count = (size_t)bytes / sizeof(*records);
	records = calloc(*ret_count + 1, sizeof(*records));
	if (!records || fread(records, sizeof(*records), *ret_count, in) != *ret_count) {
		free(records);
		fclose(in);
		return -EIO;
	}
	fclose(in);
	*ret_records = records;
	return 0;
}

int stamp_log_load(const char *path, struct stamp_log *ret)
{
	struct stamp_record *records = NULL;
	size_t count = 0, up_to;
	int code = read_all(path, &records, &count);

	*ret = (struct stamp_log){ 0 };
	if (code)
		return code;
	up_to = flushed_up_to(records, count);
	for (size_t i = 0; i < count && !code; i++) {
		code = check_record(ret, &records[i]);
		if (!code)
			code = apply(ret, &records[i], i < up_to);
		if (code)
			fprintf(stderr, "exerciser: %s: record %zu of %zu is damaged\n", path, i, count);
	}
	ret->records = count;
	free(records);
	if (code)
		stamp_log_done(ret);
	return code;
}

void stamp_log_done(struct stamp_log *log)
{
	free(log->state);
	log->state = NULL;
}
