/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stamped sectors and the log of acknowledgements, shared by the writer and the verifier.
 *
 * A version is a number that grows with every write and punch of a disk: the round (one run of the
 * writer) in the bits above STAMP_ROUND_SHIFT, a counter below, and in bit 0 whether the sector is
 * zero with it (a punch). Version 0 is a sector that nobody wrote.
 *
 * Context: the log's descriptor is O_APPEND and every record is one write: any thread.
 */
#ifndef TESTS_STAMP_H
#define TESTS_STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STAMP_SECTOR_BYTES 512u
#define STAMP_ROUND_SHIFT 40

enum record_type {
	RECORD_HEAD = 'H',        /* version = disk id, first_sector = sectors of the disk */
	RECORD_START = 'S',       /* a run of the writer begins; version = its round */
	RECORD_WRITE = 'W',       /* completed */
	RECORD_DURABLE = 'D',     /* completed, with O_DSYNC */
	RECORD_PUNCH_BEGIN = 'p', /* the one operation whose result proves nothing about who did it */
	RECORD_PUNCH = 'P',       /* completed */
	RECORD_FLUSH_BEGIN = 'f', /* version = id of the flush */
	RECORD_FLUSH = 'F',       /* completed; covers what completed before its 'f' */
	RECORD_OBSERVED = 'O',    /* a verifier found this version, and it is durable */
	RECORD_CLOSED =
	    'C', /* a verifier went through after a restart: nothing up to version is in flight, all is durable */
};

struct stamp_record {
	uint32_t magic;
	uint32_t type; /* enum record_type */
	uint64_t version;
	uint64_t first_sector;
	uint64_t sectors;
	uint64_t checksum; /* of the fields before */
};

/* What is known of one sector. */
struct sector_state {
	uint64_t acked;       /* version completed last */
	uint64_t flushed;     /* version known to be on stable storage */
	uint64_t punch_begun; /* newest punch that was begun, completed or not */
};

struct stamp_log {
	uint64_t disk_id, sectors, rounds;
	uint64_t closed; /* versions up to here are settled: no other than acked can turn up */
	uint64_t records;
	struct sector_state *state; /* one a sector */
};

static inline bool version_is_zero(uint64_t version)
{
	return version == 0 || (version & 1);
}

/* Fills 512 bytes that say whose they are; returns false for bytes that no stamp_make made. */
void stamp_make(uint8_t *sector_data, uint64_t disk_id, uint64_t sector, uint64_t version);
bool stamp_read(const uint8_t *sector_data, uint64_t *ret_disk_id, uint64_t *ret_sector, uint64_t *ret_version);

/* Opens for appending; returns the descriptor or negative errno. */
int stamp_log_open(const char *path);
/* One write(2): the record is in the log or it is not. Returns 0 or negative errno. */
int stamp_log_append(int fd, enum record_type type, uint64_t version, uint64_t first_sector, uint64_t sectors);
/* Reads the log from the start. A file that is empty gives 0 sectors. Returns 0, -EBADMSG with a message, negative
 * errno. */
int stamp_log_load(const char *path, struct stamp_log *ret);
void stamp_log_done(struct stamp_log *log);

/* May the sector hold found_version (is_zero: all zero, and its version is unknown), if base is what must be there? */
bool stamp_accepts(const struct stamp_log *log, const struct sector_state *state, uint64_t base, bool is_zero,
		   uint64_t found_version);

#endif
