/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk may hold: for each sector of 512 bytes the versions that were
 * written to it, with when each was submitted, completed and made durable.
 *
 * One rule judges every read. Version f is impossible when some other version B
 * was submitted after f had completed, and B counts: it had completed before the
 * read was submitted (a live read, or after a kill), or it is known to be durable
 * (after a power cut). Versions in flight together may land in either order.
 *
 * Times are the simulation's event numbers. Version 0 is "reads as zero".
 */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#include "base/types.h"

#define ORACLE_NEVER UINT64_MAX

struct oracle_version {
	uint32_t version; /* 0: zeros */
	uint64_t submitted, completed, durable;
	uint64_t op; /* which request */
};

struct oracle_sector {
	struct oracle_version *versions;
	unsigned count, room;
};

struct oracle {
	uint32_t disk;
	uint64_t sectors;
	struct oracle_sector *all;
	uint64_t horizon; /* no read that is under way was submitted before this time: what was replaced before it can
			     be forgotten */
};

void oracle_init(struct oracle *oracle, uint32_t disk, uint64_t sectors);
void oracle_free(struct oracle *oracle);

/* Fills buf with what version `version` of the sectors [first, first + count) looks like. */
void oracle_fill(uint32_t disk, uint64_t first, uint64_t count, uint32_t version, char *buf);

void oracle_submit(struct oracle *oracle, uint64_t first, uint64_t count, uint32_t version, uint64_t op,
		   uint64_t now);
void oracle_complete(struct oracle *oracle, uint64_t first, uint64_t count, uint64_t op, uint64_t now, bool durable);
/* A flush that was submitted at `submitted` has been answered. */
void oracle_flushed(struct oracle *oracle, uint64_t submitted, uint64_t now);

enum oracle_mode { ORACLE_LIVE, ORACLE_KILLED, ORACLE_CUT };
/* Judges one sector; submitted: when the read was (LIVE). Returns NULL when it may be, else a static text. */
const char *oracle_judge(const struct oracle *oracle, uint64_t sector, const char *buf, enum oracle_mode mode,
			 uint64_t submitted);
/* Whether a write of the sector was in flight at any time from `since` on. */
bool oracle_was_in_flight(const struct oracle *oracle, uint64_t number, uint64_t since);
/* What was read and what is known of the sector, for a failure's report. */
void oracle_print(const struct oracle *oracle, uint64_t sector, const char *buf);
/* After a restart: what was read is the only version there is. */
void oracle_settle(struct oracle *oracle, uint64_t sector, const char *buf);

#endif
