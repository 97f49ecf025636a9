/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who wrote what, for a judge who comes later: an import may bring back disks and
 * snapshots that have long been removed.
 *
 * Versions are numbered over all disks, and each is one disk's. A disk may show its
 * own, and, if it is a clone, what its origin's snapshot showed at that sector; it
 * stays so through rollbacks and snapshots, which only go back to either. What a
 * snapshot has shown when it was first read it shows for ever.
 */
#include "tests/model/lineage.h"

#include <stdlib.h>
#include <string.h>

static void *make_room(void *array, unsigned *room, unsigned want, size_t element_bytes)
{
	unsigned grown = MAX(want + 1, *room * 2);

	if (want < *room)
		return array;
	array = realloc(array, grown * element_bytes);
	if (!array)
		abort();
	memset((char *)array + *room * element_bytes, 0, (grown - *room) * element_bytes);
	*room = grown;
	return array;
}

void lineage_disk(struct lineage *lineage, uint32_t disk, uint32_t stamp, const uint32_t *origin)
{
	lineage->disks = make_room(lineage->disks, &lineage->disk_room, disk, sizeof(*lineage->disks));
	lineage->disks[disk] = (struct lineage_disk){ stamp, origin, 0 };
}

void lineage_heir(struct lineage *lineage, uint32_t disk, uint32_t heir)
{
	lineage->disks[disk].heir = heir;
}

void lineage_write(struct lineage *lineage, uint32_t version, uint32_t disk)
{
	lineage->writers = make_room(lineage->writers, &lineage->writer_room, version, sizeof(*lineage->writers));
	lineage->writers[version] = disk;
}

void lineage_snapshot(struct lineage *lineage, uint32_t snapshot, uint32_t stamp, const uint32_t *shadow)
{
	lineage->snapshots =
		make_room(lineage->snapshots, &lineage->snapshot_room, snapshot, sizeof(*lineage->snapshots));
	lineage->snapshots[snapshot] = (struct lineage_disk){ stamp, shadow, 0 };
}

static bool is_version(const char *sector, uint32_t stamp, uint64_t number, uint32_t version)
{
	char expected[512];

	oracle_fill(stamp, number, 1, version, expected);
	return memcmp(expected, sector, sizeof(expected)) == 0;
}

static const char *of_disk(void *ctx, const char *name, uint64_t number, const char *sector)
{
	const struct lineage *lineage = ctx;
	uint32_t disk = (uint32_t)strtoul(name + strlen("disk"), NULL, 10), version;

	if (disk >= lineage->disk_room || !lineage->disks[disk].stamp)
		return "a disk that never was";
	const struct lineage_disk *known = &lineage->disks[disk];
	memcpy(&version, sector, sizeof(version));
	if (!is_version(sector, known->stamp, number, version))
		return "another disk's or another sector's bytes, or rubbish";
	if (version == 0)
		return NULL;
	uint32_t writer = version < lineage->writer_room ? lineage->writers[version] : 0;
	if (writer == disk || (writer != 0 && lineage->disks[writer].heir == disk))
		return NULL;
	return known->shadow && known->shadow[number] == version ? NULL : "a relative's bytes";
}

static const char *of_snapshot(void *ctx, const char *name, uint64_t number, const char *sector)
{
	const struct lineage *lineage = ctx;
	uint32_t snapshot = (uint32_t)strtoul(name + strlen("snap"), NULL, 10);

	if (snapshot >= lineage->snapshot_room || !lineage->snapshots[snapshot].shadow)
		return NULL; /* nobody has been told that it is there */
	const struct lineage_disk *known = &lineage->snapshots[snapshot];
	return is_version(sector, known->stamp, number, known->shadow[number]) ? NULL : "not what the snapshot showed";
}

struct copy_truth lineage_truth(struct lineage *lineage)
{
	return (struct copy_truth){ lineage, of_disk, of_snapshot };
}
