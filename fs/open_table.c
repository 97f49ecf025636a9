/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open table.
 *
 * Opens, releases and waits are rare and take the table's lock. What is not
 * rare, finding the bd of a READ, must not touch a cache line that another
 * queue thread writes: a queue keeps a small direct-mapped cache of entries and
 * counts its requests in flight in its own cache line of the entry.
 *
 * States of an entry:
 *
 *	free      number 0, bd NULL; on the free list
 *	open      number, bd set, opens > 0; in its bucket
 *	closing   number, bd NULL, closing set, opens 0; in its bucket
 *	leaving   as closing, but close_bd is being called; beside open it can be, too
 *	resting   number, bd NULL, opens 0; its time of change is still to be recorded
 *
 * Pinning against closing: a queue writes its pin count, then reads number and
 * bd; the last release clears bd, then reads all pin counts. Both pairs are
 * sequentially consistent, so at least one side sees the other. Whoever takes
 * away a pin and finds no bd looks under the lock whether it was the last.
 * Entries are recycled, never freed, while the table lives: an outdated cache
 * can pin a stranger for a moment, sees so by the number, and lets go.
 *
 * Recording a time costs a transaction, so it is put off for a moment after the
 * last close and done by one thread, the recorder. Until then it is shown from
 * here, and a disk that is opened again, or removed, in the meantime needs none.
 * Whoever sets another time waits for a recording of that disk that is under way.
 *
 * Happy path: add -> (pin -> unpin)* -> release -> close_bd -> recorded -> free.
 *
 * Failure modes: a request for a disk that is not open (a kernel bug, or a
 * handle from before a restart) finds no entry. A disk opened again while its
 * last close still waits for requests: the entry goes back to open and the old
 * open is given back at once, since the new one keeps the bd alive.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/park.h"
#include "fs/open_table.h"

static struct fs_open **bucket_of(struct fs_open_table *table, uint64_t number)
{
	return &table->buckets[number % FS_OPEN_BUCKETS];
}

static struct fs_open *find(struct fs_open_table *table, uint64_t number)
{
	struct fs_open *open = *bucket_of(table, number);

	while (open && atomic_load(&open->number) != number)
		open = open->next;
	return open;
}

static struct fs_open *make_entry(struct fs_open_table *table)
{
	size_t bytes = sizeof(struct fs_open) + table->queues * sizeof(struct fs_pins);
	struct fs_open *open = aligned_alloc(_Alignof(struct fs_open), round_up_to(bytes, _Alignof(struct fs_open)));

	if (!open)
		return NULL;
	*open = (struct fs_open){ .next_made = table->made };
	for (unsigned i = 0; i < table->queues; i++)
		atomic_init(&open->pins[i].count, 0);
	table->made = open;
	return open;
}

static struct fs_open *take_entry(struct fs_open_table *table)
{
	struct fs_open *open = table->free;

	if (!open)
		return make_entry(table);
	table->free = open->next;
	return open;
}

static void put_entry(struct fs_open_table *table, struct fs_open *open)
{
	struct fs_open **link = bucket_of(table, atomic_load(&open->number));

	while (*link != open)
		link = &(*link)->next;
	*link = open->next;
	atomic_store(&open->number, 0);
	open->next = table->free;
	table->free = open;
}

/* Under the lock. */
static void put_if_idle(struct fs_open_table *table, struct fs_open *open)
{
	if (!open->opens && !open->closing && !open->leaving && !open->is_unrecorded && table->recording != open)
		put_entry(table, open);
}

static bool is_pinned(const struct fs_open_table *table, struct fs_open *open)
{
	for (unsigned i = 0; i < table->queues; i++) {
		if (atomic_load(&open->pins[i].count) != 0)
			return true;
	}
	return false;
}

/* Under the lock. Return: the bd for give_back, now that nothing is in flight; NULL: there is none, or something is.
 */
static struct ioc_bd *finish_closing(struct fs_open_table *table, struct fs_open *open)
{
	struct ioc_bd *bd = open->closing;

	if (!bd || is_pinned(table, open))
		return NULL;
	open->closing = NULL;
	open->leaving++;
	return bd;
}

static void close_one(const struct fs_open_table *table, const struct fs_open *open, struct ioc_bd *bd)
{
	if (open->disk)
		table->close_bd(bd);
	else
		table->close_snapshot(bd);
}

/*
 * Closes bd (NULL: nothing) with no lock held. The open counts until that is done: who waits for it asks the
 * catalogue next, which must know already.
 */
static void give_back(struct fs_open_table *table, struct fs_open *open, struct ioc_bd *bd)
{
	if (!bd)
		return;
	close_one(table, open, bd);
	pthread_mutex_lock(&table->lock);
	open->leaving--;
	put_if_idle(table, open);
	if (table->waiters > 0)
		pthread_cond_broadcast(&table->changed);
	pthread_mutex_unlock(&table->lock);
}

static int init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	int rc = pthread_condattr_init(&attr);

	if (rc == 0) {
		pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		rc = pthread_cond_init(cond, &attr);
		pthread_condattr_destroy(&attr);
	}
	return rc == 0 ? 0 : -ENOMEM;
}

int fs_open_table_init(struct fs_open_table *table, unsigned queues, void (*close_bd)(struct ioc_bd *bd))
{
	int rc;

	*table = (struct fs_open_table){ .queues = queues, .close_bd = close_bd };
	table->unrecorded_last = &table->unrecorded_first;
	rc = init_cond(&table->changed);
	if (rc == 0)
		rc = init_cond(&table->to_record);
	if (rc == 0)
		pthread_mutex_init(&table->lock, NULL);
	return rc;
}

void fs_open_table_done(struct fs_open_table *table,
			void (*keep_modified)(struct meta_disk *disk, uint64_t modified_s, void *ctx), void *ctx)
{
	struct fs_open *open = table->made;

	while (open) {
		struct fs_open *next = open->next_made;
		struct ioc_bd *bd = atomic_load(&open->bd);
		uint64_t modified_s = atomic_load(&open->modified_s);

		assert(!is_pinned(table, open));
		if (bd && modified_s)
			keep_modified(open->disk, modified_s, ctx);
		for (unsigned i = 0; bd && i < open->opens; i++)
			close_one(table, open, bd);
		free(open);
		open = next;
	}
	pthread_cond_destroy(&table->to_record);
	pthread_cond_destroy(&table->changed);
	pthread_mutex_destroy(&table->lock);
}

static void fill_entry(struct fs_open_table *table, struct fs_open *open, uint64_t number)
{
	struct fs_open **bucket = bucket_of(table, number);

	open->opens = 0;
	atomic_store(&open->modified_s, 0);
	atomic_store(&open->number, number);
	open->next = *bucket;
	*bucket = open;
}

int fs_open_add(struct fs_open_table *table, uint64_t number, struct ioc_bd *bd, struct meta_disk *disk)
{
	struct ioc_bd *old = NULL;
	struct fs_open *open;

	pthread_mutex_lock(&table->lock);
	open = find(table, number);
	if (!open) {
		open = take_entry(table);
		if (open)
			fill_entry(table, open, number);
	}
	if (open) {
		old = open->closing;
		open->closing = NULL;
		open->leaving += old != NULL;
		open->opens++;
		if (open->disk != disk) /* else: who has it pinned reads it without the lock */
			open->disk = disk;
		atomic_store(&open->bd, bd);
	}
	pthread_mutex_unlock(&table->lock);
	give_back(table, open, old);
	return open ? 0 : -ENOMEM;
}

/* Under the lock. */
static void note_unrecorded(struct fs_open_table *table, struct fs_open *open)
{
	if (!atomic_load(&open->modified_s) || open->is_unrecorded)
		return;
	open->is_unrecorded = true;
	open->record_at_ns = base_clock_ns() + FS_RECORD_DELAY_NS;
	open->unrecorded_next = NULL;
	*table->unrecorded_last = open;
	table->unrecorded_last = &open->unrecorded_next;
	pthread_cond_signal(&table->to_record);
}

/* Under the lock. Return: the bd to close, if it can be now. */
static struct ioc_bd *release_one(struct fs_open_table *table, struct fs_open *open)
{
	struct ioc_bd *bd = atomic_load(&open->bd);

	if (--open->opens > 0) {
		open->leaving++;
		return bd;
	}
	note_unrecorded(table, open);
	atomic_store(&open->bd, NULL);
	open->closing = bd;
	return finish_closing(table, open);
}

int fs_open_release(struct fs_open_table *table, uint64_t number)
{
	struct ioc_bd *bd = NULL;
	struct fs_open *open;
	bool is_open;

	pthread_mutex_lock(&table->lock);
	open = find(table, number);
	is_open = open && open->opens > 0;
	if (is_open)
		bd = release_one(table, open);
	pthread_mutex_unlock(&table->lock);
	if (!is_open)
		return -EBADF;
	give_back(table, open, bd);
	return 0;
}

static void count_pins(struct fs_open *open, unsigned queue, int change)
{
	_Atomic uint32_t *count = &open->pins[queue].count;

	/* One writer, so no read-modify-write is needed; the store is what has to be ordered. */
	atomic_store(count, atomic_load_explicit(count, memory_order_relaxed) + (uint32_t)change);
}

static struct fs_open *pin(struct fs_open_table *table, unsigned queue, struct fs_open *open, uint64_t number,
			   struct ioc_bd **ret_bd)
{
	struct ioc_bd *bd;

	count_pins(open, queue, 1);
	bd = atomic_load(&open->bd);
	if (bd && atomic_load(&open->number) == number) {
		*ret_bd = bd;
		return open;
	}
	fs_open_unpin(table, queue, open);
	return NULL;
}

struct fs_open *fs_open_pin(struct fs_open_table *table, struct fs_open_cache *cache, unsigned queue, uint64_t number,
			    struct ioc_bd **ret_bd)
{
	struct fs_open **cached = &cache->entries[number % FS_OPEN_CACHE_ENTRIES];
	struct fs_open *open = *cached;

	if (open && atomic_load_explicit(&open->number, memory_order_relaxed) == number) {
		open = pin(table, queue, open, number, ret_bd);
		if (open)
			return open;
	}
	pthread_mutex_lock(&table->lock);
	open = number ? find(table, number) : NULL;
	pthread_mutex_unlock(&table->lock);
	if (!open)
		return NULL;
	*cached = open;
	return pin(table, queue, open, number, ret_bd);
}

void fs_open_unpin(struct fs_open_table *table, unsigned queue, struct fs_open *open)
{
	struct ioc_bd *bd;

	count_pins(open, queue, -1);
	if (atomic_load(&open->bd))
		return;
	pthread_mutex_lock(&table->lock);
	bd = finish_closing(table, open);
	pthread_mutex_unlock(&table->lock);
	give_back(table, open, bd);
}

void fs_open_mark_modified(struct fs_open *open, uint64_t now_s)
{
	/* A store only when the second is another: the line is shared by the queues. */
	if (atomic_load_explicit(&open->modified_s, memory_order_relaxed) != now_s)
		atomic_store_explicit(&open->modified_s, now_s, memory_order_relaxed);
}

void fs_open_note_modified(struct fs_open_table *table, uint64_t number, uint64_t now_s)
{
	struct fs_open *open;

	pthread_mutex_lock(&table->lock);
	open = find(table, number);
	if (open && open->opens > 0)
		fs_open_mark_modified(open, now_s);
	pthread_mutex_unlock(&table->lock);
}

uint64_t fs_open_modified(struct fs_open_table *table, uint64_t number)
{
	struct fs_open *open;
	uint64_t modified_s;

	pthread_mutex_lock(&table->lock);
	open = find(table, number);
	modified_s = open ? atomic_load(&open->modified_s) : 0;
	pthread_mutex_unlock(&table->lock);
	return modified_s;
}

void fs_open_clear_modified(struct fs_open_table *table, uint64_t number)
{
	struct fs_open *open;

	pthread_mutex_lock(&table->lock);
	table->waiters++;
	while ((open = find(table, number)) && table->recording == open)
		pthread_cond_wait(&table->changed, &table->lock);
	table->waiters--;
	if (open)
		atomic_store(&open->modified_s, 0);
	pthread_mutex_unlock(&table->lock);
}

static unsigned count_locked(struct fs_open_table *table, uint64_t number)
{
	struct fs_open *open = find(table, number);

	/* A close that is not done yet still holds the disk. */
	return open ? open->opens + open->leaving + (open->closing != NULL) : 0;
}

unsigned fs_open_count(struct fs_open_table *table, uint64_t number)
{
	unsigned count;

	pthread_mutex_lock(&table->lock);
	count = count_locked(table, number);
	pthread_mutex_unlock(&table->lock);
	return count;
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };
}

int fs_open_wait(struct fs_open_table *table, uint64_t number, unsigned allowed, uint64_t timeout_ns)
{
	struct timespec deadline = to_timespec(base_clock_ns() + timeout_ns);
	int rc = 0;

	pthread_mutex_lock(&table->lock);
	table->waiters++;
	while (rc == 0 && count_locked(table, number) > allowed)
		rc = pthread_cond_timedwait(&table->changed, &table->lock, &deadline);
	table->waiters--;
	rc = count_locked(table, number) > allowed ? -EBUSY : 0;
	pthread_mutex_unlock(&table->lock);
	return rc;
}

/* ---- the recorder's ----------------------------------------------------------------------- */

static struct fs_open *pop_unrecorded(struct fs_open_table *table)
{
	struct fs_open *open = table->unrecorded_first;

	table->unrecorded_first = open->unrecorded_next;
	if (!table->unrecorded_first)
		table->unrecorded_last = &table->unrecorded_first;
	open->is_unrecorded = false;
	return open;
}

/* Under the lock: takes those off the list that need no recording now. One that is open comes back when it is closed.
 */
static void drop_needless(struct fs_open_table *table)
{
	struct fs_open *open;

	while ((open = table->unrecorded_first) && (open->opens > 0 || !atomic_load(&open->modified_s)))
		put_if_idle(table, pop_unrecorded(table));
}

/* Under the lock. Return: false when there is nothing left and will not be. */
static bool await_unrecorded(struct fs_open_table *table)
{
	for (;;) {
		struct timespec due;

		drop_needless(table);
		if (!table->unrecorded_first) {
			if (table->is_ending)
				return false;
			pthread_cond_wait(&table->to_record, &table->lock);
			continue;
		}
		if (table->is_ending || base_clock_ns() >= table->unrecorded_first->record_at_ns)
			return true;
		due = to_timespec(table->unrecorded_first->record_at_ns);
		pthread_cond_timedwait(&table->to_record, &table->lock, &due);
	}
}

bool fs_open_next_to_record(struct fs_open_table *table, uint64_t *ret_number, uint64_t *ret_modified_s)
{
	bool found;

	pthread_mutex_lock(&table->lock);
	found = await_unrecorded(table);
	if (found) {
		table->recording = pop_unrecorded(table);
		*ret_number = atomic_load(&table->recording->number);
		*ret_modified_s = atomic_load(&table->recording->modified_s);
	}
	pthread_mutex_unlock(&table->lock);
	return found;
}

void fs_open_recorded(struct fs_open_table *table, uint64_t modified_s)
{
	struct fs_open *open;

	pthread_mutex_lock(&table->lock);
	open = table->recording;
	table->recording = NULL;
	/* A later change has been noted since if it is another time: that one is recorded after the next close. */
	atomic_compare_exchange_strong(&open->modified_s, &modified_s, 0);
	put_if_idle(table, open);
	if (table->waiters > 0)
		pthread_cond_broadcast(&table->changed);
	pthread_mutex_unlock(&table->lock);
}

void fs_open_end_recording(struct fs_open_table *table)
{
	pthread_mutex_lock(&table->lock);
	table->is_ending = true;
	pthread_cond_signal(&table->to_record);
	pthread_mutex_unlock(&table->lock);
}
