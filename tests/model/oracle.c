/* SPDX-License-Identifier: Apache-2.0 */
/* See oracle.h. A stamped sector is 64 words of 8 bytes: disk and version, sector number, alternating; so that any
 * mixture shows. */
#include "tests/model/oracle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void oracle_init(struct oracle *oracle, uint32_t disk, uint64_t sectors)
{
	oracle->disk = disk;
	oracle->sectors = sectors;
	oracle->all = calloc(sectors, sizeof(*oracle->all));
	if (!oracle->all)
		abort();
}

void oracle_free(struct oracle *oracle)
{
	for (uint64_t i = 0; i < oracle->sectors; i++)
		free(oracle->all[i].versions);
	free(oracle->all);
}

void oracle_fill(uint32_t disk, uint64_t first, uint64_t count, uint32_t version, char *buf)
{
	for (uint64_t s = 0; s < count; s++) {
		uint64_t words[2] = { (uint64_t)disk << 32 | version, (first + s) ^ UINT64_C(0x5ec70a0000000000) };
		if (version == 0)
			words[0] = words[1] = 0;
		for (unsigned i = 0; i < 512; i += 16)
			memcpy(buf + s * 512 + i, words, 16);
	}
}

/* Forgets what can't matter any more: versions that a durable one had replaced before any read under way began. */
static void prune(const struct oracle *oracle, struct oracle_sector *sector)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < sector->count; i++) {
		const struct oracle_version *f = &sector->versions[i];
		bool replaced = false;
		for (unsigned k = 0; k < sector->count && !replaced; k++) {
			const struct oracle_version *b = &sector->versions[k];
			replaced = b->durable != ORACLE_NEVER && b->completed < oracle->horizon &&
				   f->completed != ORACLE_NEVER && f->completed < b->submitted;
		}
		if (!replaced)
			sector->versions[kept++] = *f;
	}
	sector->count = kept;
}

void oracle_submit(struct oracle *oracle, uint64_t first, uint64_t count, uint32_t version, uint64_t op, uint64_t now)
{
	for (uint64_t s = first; s < first + count; s++) {
		struct oracle_sector *sector = &oracle->all[s];
		if (sector->count == sector->room) {
			prune(oracle, sector);
			sector->room = sector->room ? sector->room * 2 : 4;
			sector->versions = realloc(sector->versions, sector->room * sizeof(*sector->versions));
			if (!sector->versions)
				abort();
		}
		sector->versions[sector->count++] =
			(struct oracle_version){ version, now, ORACLE_NEVER, ORACLE_NEVER, op };
	}
}

void oracle_complete(struct oracle *oracle, uint64_t first, uint64_t count, uint64_t op, uint64_t now, bool durable)
{
	for (uint64_t s = first; s < first + count; s++) {
		for (unsigned i = 0; i < oracle->all[s].count; i++) {
			struct oracle_version *v = &oracle->all[s].versions[i];
			if (v->op != op)
				continue;
			v->completed = now;
			if (durable)
				v->durable = now;
		}
	}
}

void oracle_flushed(struct oracle *oracle, uint64_t submitted, uint64_t now)
{
	for (uint64_t s = 0; s < oracle->sectors; s++)
		for (unsigned i = 0; i < oracle->all[s].count; i++)
			if (oracle->all[s].versions[i].completed < submitted &&
			    oracle->all[s].versions[i].durable == ORACLE_NEVER)
				oracle->all[s].versions[i].durable = now;
}

/* Does b count as done, for a reader of this mode? */
static bool counts(const struct oracle_version *b, enum oracle_mode mode, uint64_t submitted)
{
	if (mode == ORACLE_CUT)
		return b->durable != ORACLE_NEVER;
	return b->completed != ORACLE_NEVER && (mode == ORACLE_KILLED || b->completed < submitted);
}

static bool possible(const struct oracle_sector *sector, const struct oracle_version *f, enum oracle_mode mode,
		     uint64_t submitted)
{
	for (unsigned i = 0; i < sector->count; i++) {
		const struct oracle_version *b = &sector->versions[i];
		if (counts(b, mode, submitted) && f->completed != ORACLE_NEVER && f->completed < b->submitted)
			return false;
	}
	return true;
}

static bool decode(uint32_t disk, uint64_t sector, const char *buf, uint32_t *ret_version, const char **ret_why)
{
	uint64_t words[2];
	char expected[512];

	memcpy(words, buf, sizeof(words));
	*ret_version = (uint32_t)words[0];
	if (words[0] != 0 && words[0] >> 32 != disk) {
		*ret_why =
			(words[0] & 0xffff) == 0xdddd ? "discarded space shows" : "another disk's bytes, or rubbish";
		return false;
	}
	oracle_fill(disk, sector, 1, *ret_version, expected);
	*ret_why = "torn within a sector, or another sector's bytes";
	return memcmp(expected, buf, 512) == 0;
}

bool oracle_was_in_flight(const struct oracle *oracle, uint64_t number, uint64_t since)
{
	const struct oracle_sector *sector = &oracle->all[number];

	for (unsigned i = 0; i < sector->count; i++) {
		if (sector->versions[i].completed >= since) /* ORACLE_NEVER too */
			return true;
	}
	return false;
}

const char *oracle_judge(const struct oracle *oracle, uint64_t number, const char *buf, enum oracle_mode mode,
			 uint64_t submitted)
{
	const struct oracle_sector *sector = &oracle->all[number];
	static const struct oracle_version first = { 0, 0, 0, 0, 0 };
	bool known = false;
	const char *why;
	uint32_t version;

	if (!decode(oracle->disk, number, buf, &version, &why))
		return why;
	for (unsigned i = 0; i < sector->count; i++) {
		if (sector->versions[i].version != version)
			continue;
		known = true;
		if (possible(sector, &sector->versions[i], mode, submitted))
			return NULL;
	}
	if (version == 0 && possible(sector, &first, mode, submitted))
		return NULL;
	return known          ? "an old version: a later one should be there"
	       : version == 0 ? "zeros where data should be"
			      : "a version that never was";
}

void oracle_print(const struct oracle *oracle, uint64_t number, const char *buf)
{
	uint64_t words[2];

	memcpy(words, buf, sizeof(words));
	printf("  disk %u, sector %" PRIu64 ": read %016" PRIx64 " %016" PRIx64 "\n", oracle->disk, number, words[0],
	       words[1]);
	for (unsigned i = 0; i < oracle->all[number].count; i++) {
		const struct oracle_version *v = &oracle->all[number].versions[i];
		printf("  version %x by op %" PRIu64 ": submitted %" PRIu64 ", completed %" PRId64
		       ", durable %" PRId64 "\n",
		       v->version, v->op, v->submitted, (int64_t)v->completed, (int64_t)v->durable);
	}
}

void oracle_settle(struct oracle *oracle, uint64_t number, const char *buf)
{
	struct oracle_sector *sector = &oracle->all[number];
	uint32_t version;

	memcpy(&version, buf, sizeof(version));
	sector->count = 0;
	if (version != 0) {
		oracle_submit(oracle, number, 1, version, 0, 1);
		sector->versions[0].completed = sector->versions[0].durable = 1;
	}
}
