/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What any disk or snapshot there ever was in a case may show, whenever a copy of the metadata brings it back. Kept to
 * the end of the case. Disks and snapshots are known by the numbers in their names: disk7, snap3.
 */
#ifndef TESTS_LINEAGE_H
#define TESTS_LINEAGE_H

#include "tests/model/copy_judge.h"
#include "tests/model/oracle.h"

struct lineage_disk {
	uint32_t stamp;         /* what is stamped on its sectors; 0: there is none */
	const uint32_t *shadow; /* version of each sector: of its origin, or of itself if it is a snapshot; or NULL */
	uint32_t heir; /* the disk that takes it over, and may show what was written to it; 0: none */
};

struct lineage {
	struct lineage_disk *disks, *snapshots; /* by number */
	uint32_t *writers;                      /* of each version: number of the disk */
	unsigned disk_room, snapshot_room, writer_room;
};

/* A new disk. origin: what it begins with, NULL: empty; stays as long as the lineage. */
void lineage_disk(struct lineage *lineage, uint32_t disk, uint32_t stamp, const uint32_t *origin);
/* `heir` may take over what was written to the disk. */
void lineage_heir(struct lineage *lineage, uint32_t disk, uint32_t heir);
/* Before the write of this version is submitted. */
void lineage_write(struct lineage *lineage, uint32_t version, uint32_t disk);
/* A snapshot that was read for the first time. shadow stays as long as the lineage. */
void lineage_snapshot(struct lineage *lineage, uint32_t snapshot, uint32_t stamp, const uint32_t *shadow);
struct copy_truth lineage_truth(struct lineage *lineage);

#endif
