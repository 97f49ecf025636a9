/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The restart log, see restart.h; byte-exact layout in docs/format.md.
 *
 * All of a segment's bookkeeping is one 64-bit word, so that reserving and
 * appending are one atomic operation each and slot, segment and reservations
 * can never disagree:
 *
 *   bit  63      which of the two segments is current
 *   bits 32..62  slots used in it
 *   bits  0..31  slots reserved and not yet used
 *
 * restart_switch() flips bit 63 and clears `used` but keeps the reservations:
 * they will be used in the new segment. `ended[]` counts finished appends per
 * segment; the switch waits until it equals the slots that were used.
 *
 * Failure modes: the file can't be made or its space not be had (open fails,
 * the pool does not open); a file of another boot, generation or pv (ignored);
 * torn or stale slots (skipped one by one).
 */
#include "meta/restart.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/log.h"
#include "base/uuid.h"

#define MAGIC UINT64_C(0x31545253534644ff) /* "\xffDFSSRT1" as a little-endian word */
#define VERSION 1

struct slot {
	uint64_t segment; /* sequence number of the segment that the record belongs to */
	uint32_t kind, zero;
	uint64_t id, at, value, from;
	uint64_t spare;
	uint64_t checksum; /* of all that stands before it */
};
_Static_assert(sizeof(struct slot) == 64, "a slot is a cache line");

struct header {
	uint64_t magic;
	uint64_t version;
	struct restart_tag tag;
	uint64_t checksum;            /* of all that stands before it */
	_Atomic uint64_t failed;      /* not 0: a data sync failed */
	_Atomic uint64_t sequence[2]; /* of each segment; 0 = empty */
};
#define HEADER_BYTES 4096
_Static_assert(sizeof(struct header) <= HEADER_BYTES, "the header is one page");

#define SEGMENT_BYTES ((size_t)RESTART_SLOTS * sizeof(struct slot))
#define FILE_BYTES (HEADER_BYTES + 2 * SEGMENT_BYTES)

struct restart_log {
	struct header *header;     /* the mapping */
	struct slot *slots[2];     /* const */
	_Atomic uint64_t word;     /* see above */
	_Atomic uint32_t ended[2]; /* appends finished, per segment */
	uint64_t next_sequence;    /* MW */
};

#define WORD_SEGMENT(w) ((unsigned)((w) >> 63))
#define WORD_USED(w) ((uint32_t)((w) >> 32) & 0x7fffffffu)
#define WORD_RESERVED(w) ((uint32_t)(w))
#define ONE_USED (UINT64_C(1) << 32)

int restart_boot_id(struct base_uuid *ret)
{
	char text[64] = "";
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	*ret = (struct base_uuid){ 0 };
	if (!file)
		return errno == ENOENT ? 0 : -errno;
	bool is_read = fgets(text, sizeof(text), file) != NULL;
	fclose(file);
	text[strcspn(text, "\n")] = '\0';
	return is_read && base_uuid_parse(text, ret) == 0 ? 0 : -EIO;
}

static uint64_t header_checksum(const struct header *header)
{
	return base_checksum(header, offsetof(struct header, checksum));
}

static uint64_t slot_checksum(const struct slot *slot)
{
	return base_checksum(slot, offsetof(struct slot, checksum));
}

/* ---- replay ------------------------------------------------------------------------------- */

static const char *why_not_ours(const struct header *header, const struct restart_tag *tag)
{
	if (header->magic != MAGIC || header->version != VERSION || header->checksum != header_checksum(header))
		return "the restart log's header is damaged";
	if (!base_uuid_equal(header->tag.pool, tag->pool))
		return "the restart log is another pool's";
	if (!base_uuid_equal(header->tag.boot, tag->boot))
		return "the machine was restarted since: what was not flushed went with its memory";
	if (header->tag.generation != tag->generation)
		return "the restart log is of another opening of the pool";
	if (header->tag.pv_instances != tag->pv_instances)
		return "a pv is not the one that the restart log was written for";
	if (atomic_load(&((struct header *)(uintptr_t)header)->failed))
		return "a data sync had failed: the pool stands on its last commit";
	return NULL;
}

static int replay_segment(const struct slot *slots, uint64_t sequence,
			  int (*fn)(const struct restart_record *rec, void *ctx), void *ctx, uint64_t *records)
{
	for (size_t i = 0; i < RESTART_SLOTS; i++) {
		const struct slot *slot = &slots[i];
		if (slot->segment != sequence || slot->checksum != slot_checksum(slot))
			continue;
		struct restart_record rec = {
			.kind = slot->kind, .id = slot->id, .at = slot->at, .value = slot->value, .from = slot->from
		};
		int rc = fn(&rec, ctx);
		if (rc != 0)
			return rc;
		++*records;
	}
	return 0;
}

static int replay_mapped(struct header *header, const struct restart_tag *tag,
			 int (*fn)(const struct restart_record *rec, void *ctx), void *ctx, uint64_t *records,
			 const char **ret_why)
{
	const struct slot *base = (const struct slot *)((const char *)header + HEADER_BYTES);
	uint64_t sequence[2] = { atomic_load(&header->sequence[0]), atomic_load(&header->sequence[1]) };
	unsigned older = sequence[0] < sequence[1] ? 0 : 1;
	int rc = 0;

	*ret_why = why_not_ours(header, tag);
	for (unsigned turn = 0; *ret_why == NULL && rc == 0 && turn < 2; turn++) {
		unsigned i = turn == 0 ? older : !older;
		if (sequence[i] != 0)
			rc = replay_segment(base + (size_t)i * RESTART_SLOTS, sequence[i], fn, ctx, records);
	}
	return rc;
}

int restart_replay(const char *dir, const struct restart_tag *tag,
		   int (*fn)(const struct restart_record *rec, void *ctx), void *ctx, uint64_t *ret_records,
		   const char **ret_why)
{
	char path[4096];
	struct stat st;
	int rc = 0;

	*ret_records = 0;
	*ret_why = "there is no restart log";
	if (snprintf(path, sizeof(path), "%s/restart", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) != 0) {
		rc = -errno;
	} else if (st.st_size != (off_t)FILE_BYTES) {
		*ret_why = "the restart log has another size than this version writes";
	} else {
		void *map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		rc = map == MAP_FAILED ? -errno : replay_mapped(map, tag, fn, ctx, ret_records, ret_why);
		if (map != MAP_FAILED)
			munmap(map, FILE_BYTES);
	}
	close(fd);
	return rc;
}

/* ---- open, close -------------------------------------------------------------------------- */

static int map_new_file(const char *dir, void **ret)
{
	char path[4096];

	if (snprintf(path, sizeof(path), "%s/restart", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	/* Allocated now: a store into a hole of a shared mapping is SIGBUS when the file system is full. */
	int rc = -posix_fallocate(fd, 0, (off_t)FILE_BYTES);
	if (rc == 0 && ftruncate(fd, (off_t)FILE_BYTES) != 0)
		rc = -errno;
	if (rc == 0) {
		*ret = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (*ret == MAP_FAILED)
			rc = -errno;
	}
	close(fd);
	return rc;
}

int restart_open(const char *dir, const struct restart_tag *tag, struct restart_log **ret, struct base_error *err)
{
	struct restart_log *log = calloc(1, sizeof(*log));
	void *map = NULL;

	if (!log)
		return base_error_set_errno(err, -ENOMEM, "restart log");
	int rc = map_new_file(dir, &map);
	if (rc < 0) {
		free(log);
		return base_error_set_errno(err, rc, "can't make the restart log %s/restart (%zu MiB)", dir,
					    FILE_BYTES / MIB);
	}
	log->header = map;
	log->slots[0] = (struct slot *)((char *)map + HEADER_BYTES);
	log->slots[1] = log->slots[0] + RESTART_SLOTS;
	/* Empty first, then new tag: a death in between leaves a log without records. */
	atomic_store(&log->header->sequence[0], 0);
	atomic_store(&log->header->sequence[1], 0);
	atomic_store(&log->header->failed, 0);
	log->header->magic = MAGIC;
	log->header->version = VERSION;
	log->header->tag = *tag;
	log->header->checksum = header_checksum(log->header);
	/* The generation is in the upper half, so that a slot left by an earlier opening never matches. */
	log->next_sequence = tag->generation << 32 | 1;
	atomic_store(&log->header->sequence[0], log->next_sequence++);
	*ret = log;
	return 0;
}

void restart_close(struct restart_log *log)
{
	if (!log)
		return;
	munmap(log->header, FILE_BYTES);
	free(log);
}

/* ---- writing ------------------------------------------------------------------------------ */

bool restart_reserve(struct restart_log *log, uint32_t n)
{
	uint64_t word = atomic_load(&log->word);

	do {
		if ((uint64_t)WORD_USED(word) + WORD_RESERVED(word) + n > RESTART_SLOTS)
			return false;
	} while (!atomic_compare_exchange_weak(&log->word, &word, word + n));
	return true;
}

void restart_unreserve(struct restart_log *log, uint32_t n)
{
	atomic_fetch_sub(&log->word, n);
}

unsigned restart_append(struct restart_log *log, const struct restart_record *rec)
{
	uint64_t word = atomic_fetch_add(&log->word, ONE_USED - 1);
	unsigned segment = WORD_SEGMENT(word);
	struct slot *slot = &log->slots[segment][WORD_USED(word)];

	assert(WORD_RESERVED(word) > 0);
	/* A killed process leaves all, some or none of these words; the checksum tells. */
	slot->segment = atomic_load_explicit(&log->header->sequence[segment], memory_order_relaxed);
	slot->kind = rec->kind;
	slot->zero = 0;
	slot->id = rec->id;
	slot->at = rec->at;
	slot->value = rec->value;
	slot->from = rec->from;
	slot->spare = 0;
	slot->checksum = slot_checksum(slot);
	return segment;
}

void restart_append_end(struct restart_log *log, unsigned token)
{
	atomic_fetch_add(&log->ended[token], 1);
}

unsigned restart_percent_used(struct restart_log *log)
{
	uint64_t word = atomic_load(&log->word);

	return (unsigned)(((uint64_t)WORD_USED(word) + WORD_RESERVED(word)) * 100 / RESTART_SLOTS);
}

static void wait_for_appends(struct restart_log *log, unsigned segment, uint32_t used)
{
	/* An appender holds a mutex for some 100 ns and calls nothing that blocks; yielding is for the case that it
	 * was preempted. */
	while (atomic_load(&log->ended[segment]) < used)
		sched_yield();
}

bool restart_switch(struct restart_log *log)
{
	uint64_t word = atomic_load(&log->word);
	unsigned old = WORD_SEGMENT(word), new = !old;

	if (atomic_load(&log->header->sequence[new]) != 0) {
		wait_for_appends(log, old, WORD_USED(atomic_load(&log->word)));
		return false;
	}
	atomic_store(&log->ended[new], 0);
	atomic_store(&log->header->sequence[new], log->next_sequence++);
	do {
	} while (!atomic_compare_exchange_weak(&log->word, &word, (uint64_t) new << 63 | WORD_RESERVED(word)));
	wait_for_appends(log, old, WORD_USED(word));
	return true;
}

void restart_drop_old(struct restart_log *log)
{
	unsigned old = !WORD_SEGMENT(atomic_load(&log->word));

	atomic_store(&log->header->sequence[old], 0);
}

void restart_mark_failed(struct restart_log *log)
{
	atomic_store(&log->header->failed, 1);
}

bool restart_is_marked_failed(struct restart_log *log)
{
	return atomic_load(&log->header->failed) != 0;
}

void restart_void(const char *dir)
{
	const uint64_t failed = 1;
	char path[4096];

	if (snprintf(path, sizeof(path), "%s/restart", dir) >= (int)sizeof(path))
		return;
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 &&
		    pwrite(fd, &failed, sizeof(failed), offsetof(struct header, failed)) == (ssize_t)sizeof(failed);
	if (fd >= 0)
		close(fd);
	if (!done && unlink(path) != 0 && errno != ENOENT)
		log_error("%s can't be marked as void (%s): remove it before the pool is opened again", path,
			  strerror(errno));
}
