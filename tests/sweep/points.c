/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counting points of failure and failing them, see points.h.
 *
 * Three layers of wrappers: __wrap_NAME for the project's calls; NAME for those
 * of LMDB (only without sanitizers, which have their own there); both ask
 * points_fail(). The real ones are __real_NAME, or, for NAME, what the next
 * library has.
 *
 * A failing call of LMDB fails as LMDB's own calls do: mdb_txn_commit ends its
 * transaction. In the mode POINTS_AFTER a commit is done and then called failed:
 * the caller can't tell, and must not claim either.
 *
 * Threads: the counter is atomic, so points of several threads are counted
 * together; which thread gets number n is then up to the scheduler.
 */
#undef _FILE_OFFSET_BITS /* here open and open64 are two functions: LMDB calls the one, the project the other */
#include "tests/sweep/points.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

static struct {
	_Atomic bool armed;
	enum points_mode mode;
	uint64_t fail_at;
	_Atomic uint64_t count;
	struct points_result result;
	pthread_mutex_t lock;
} points = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* What a failing call prints or allocates on its way is not a point. */
static _Thread_local unsigned inside;

static bool no_space(void)
{
	return points.mode == POINTS_ONCE_NO_SPACE || points.mode == POINTS_FOR_GOOD_NO_SPACE;
}

static bool is_hit(uint64_t n)
{
	if (points.fail_at == 0 || n < points.fail_at)
		return false;
	return n == points.fail_at || points.mode == POINTS_FOR_GOOD || points.mode == POINTS_FOR_GOOD_NO_SPACE;
}

bool points_fail(const char *what, enum points_class class, int *ret_error)
{
	if (!atomic_load(&points.armed) || inside)
		return false;
	if (class == POINT_MEMORY && no_space())
		return false;
	if (points.mode == POINTS_AFTER && class != POINT_SYNC)
		return false;
	if (!is_hit(atomic_fetch_add(&points.count, 1) + 1))
		return false;
	*ret_error = class == POINT_MEMORY ? ENOMEM : no_space() ? ENOSPC : EIO;
	pthread_mutex_lock(&points.lock);
	if (!points.result.hit)
		snprintf(points.result.what, sizeof(points.result.what), "%s", what);
	points.result.hit = true;
	points.result.sync_failed |= class == POINT_SYNC;
	pthread_mutex_unlock(&points.lock);
	return true;
}

void points_arm(enum points_mode mode, uint64_t fail_at)
{
	points.mode = mode;
	points.fail_at = fail_at;
	points.result = (struct points_result){ 0 };
	atomic_store(&points.count, 0);
	atomic_store(&points.armed, true);
}

struct points_result points_disarm(void)
{
	atomic_store(&points.armed, false);
	points.result.count = atomic_load(&points.count);
	return points.result;
}

/* ---- what is live ------------------------------------------------------------------------- */

#define LIVE_MAX 65536

static struct live {
	const void *where; /* memory; or the descriptor plus one */
	const char *what;
	const void *caller;
} live[LIVE_MAX];
static size_t live_count;
static pthread_mutex_t live_lock = PTHREAD_MUTEX_INITIALIZER;

static void live_add(const void *where, const char *what, const void *caller)
{
	if (!where)
		return;
	pthread_mutex_lock(&live_lock);
	if (live_count == LIVE_MAX)
		abort();
	live[live_count++] = (struct live){ where, what, caller };
	pthread_mutex_unlock(&live_lock);
}

/* What is not ours is not in the list. */
static void live_remove(const void *where)
{
	pthread_mutex_lock(&live_lock);
	for (size_t i = live_count; where && i-- > 0;) {
		if (live[i].where == where) {
			live[i] = live[--live_count];
			break;
		}
	}
	pthread_mutex_unlock(&live_lock);
}

size_t points_live(bool print)
{
	for (size_t i = 0; print && i < live_count; i++) {
		Dl_info info = { 0 };

		dladdr(live[i].caller, &info);
		printf("  left: %s %p, made at %s+0x%lx\n", live[i].what, live[i].where,
		       info.dli_fname ? info.dli_fname : "?",
		       (unsigned long)((const char *)live[i].caller - (const char *)info.dli_fbase));
	}
	return live_count;
}

#define CALLER __builtin_return_address(0)

/* ---- memory ------------------------------------------------------------------------------- */

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
int __real_posix_memalign(void **ret, size_t align, size_t bytes);
int __wrap_posix_memalign(void **ret, size_t align, size_t bytes);
void __real_free(void *memory);
void __wrap_free(void *memory);

static bool no_memory(const char *what)
{
	int error;

	if (!points_fail(what, POINT_MEMORY, &error))
		return false;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t bytes)
{
	if (no_memory("malloc"))
		return NULL;
	inside++;
	void *memory = __real_malloc(bytes);
	inside--;
	live_add(memory, "memory", CALLER);
	return memory;
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	if (no_memory("calloc"))
		return NULL;
	inside++;
	void *memory = __real_calloc(count, bytes);
	inside--;
	live_add(memory, "memory", CALLER);
	return memory;
}

void *__wrap_realloc(void *old, size_t bytes)
{
	if (no_memory("realloc"))
		return NULL;
	inside++;
	live_remove(old);
	void *memory = __real_realloc(old, bytes);
	inside--;
	live_add(memory, "memory", CALLER);
	return memory;
}

char *__wrap_strdup(const char *text)
{
	if (no_memory("strdup"))
		return NULL;
	inside++;
	char *copy = __real_strdup(text);
	inside--;
	live_add(copy, "memory", CALLER);
	return copy;
}

int __wrap_posix_memalign(void **ret, size_t align, size_t bytes)
{
	if (no_memory("posix_memalign"))
		return ENOMEM;
	inside++;
	int rc = __real_posix_memalign(ret, align, bytes);
	inside--;
	if (rc == 0)
		live_add(*ret, "memory", CALLER);
	return rc;
}

void __wrap_free(void *memory)
{
	live_remove(memory);
	__real_free(memory);
}

/* ---- system calls of the project ---------------------------------------------------------- */

static bool fails(const char *what)
{
	int error;

	if (!points_fail(what, POINT_SYSTEM, &error))
		return false;
	errno = error;
	return true;
}

/* RETURNS NAME(PARAMETERS) that fails with -1 and errno. */
#define WRAP(type, name, failure, parameters, arguments)                                                             \
	type __real_##name parameters;                                                                               \
	type __wrap_##name parameters;                                                                               \
	type __wrap_##name parameters                                                                                \
	{                                                                                                            \
		if (fails(#name))                                                                                    \
			return failure;                                                                              \
		return __real_##name arguments;                                                                      \
	}

WRAP(ssize_t, pread64, -1, (int fd, void *buf, size_t bytes, off64_t offset), (fd, buf, bytes, offset))
WRAP(ssize_t, pwrite64, -1, (int fd, const void *buf, size_t bytes, off64_t offset), (fd, buf, bytes, offset))
WRAP(int, ftruncate64, -1, (int fd, off64_t bytes), (fd, bytes))
WRAP(int, fallocate64, -1, (int fd, int mode, off64_t offset, off64_t bytes), (fd, mode, offset, bytes))
WRAP(int, flock, -1, (int fd, int operation), (fd, operation))
WRAP(int, stat64, -1, (const char *path, struct stat64 *st), (path, st))
WRAP(int, fstat64, -1, (int fd, struct stat64 *st), (fd, st))
WRAP(int, mkdir, -1, (const char *path, mode_t mode), (path, mode))
WRAP(char *, realpath, NULL, (const char *path, char *resolved), (path, resolved))

int __real_posix_fallocate64(int fd, off64_t offset, off64_t bytes);
int __wrap_posix_fallocate64(int fd, off64_t offset, off64_t bytes);
int __wrap_posix_fallocate64(int fd, off64_t offset, off64_t bytes)
{
	return fails("posix_fallocate") ? errno : __real_posix_fallocate64(fd, offset, bytes);
}

static const void *fd_token(int fd)
{
	return (const void *)(intptr_t)(fd + 1);
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	va_list args;

	va_start(args, flags);
	mode_t mode = va_arg(args, mode_t);
	va_end(args);
	if (fails("open"))
		return -1;
	int fd = __real_open64(path, flags, mode);
	if (fd >= 0)
		live_add(fd_token(fd), "descriptor", CALLER);
	return fd;
}

int __real_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags)
{
	if (fails("eventfd"))
		return -1;
	int fd = __real_eventfd(count, flags);
	if (fd >= 0)
		live_add(fd_token(fd), "descriptor", CALLER);
	return fd;
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
	live_remove(fd_token(fd));
	return __real_close(fd);
}

FILE *__real_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode)
{
	if (fails("fopen"))
		return NULL;
	inside++;
	FILE *file = __real_fopen64(path, mode);
	inside--;
	live_add(file, "stream", CALLER);
	return file;
}

int __real_fclose(FILE *file);
int __wrap_fclose(FILE *file);
int __wrap_fclose(FILE *file)
{
	live_remove(file);
	return __real_fclose(file);
}

void *__real_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off64_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off64_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off64_t offset)
{
	if (no_memory("mmap"))
		return MAP_FAILED;
	void *map = __real_mmap64(at, bytes, protection, flags, fd, offset);
	if (map != MAP_FAILED)
		live_add(map, "mapping", CALLER);
	return map;
}

int __real_munmap(void *map, size_t bytes);
int __wrap_munmap(void *map, size_t bytes);
int __wrap_munmap(void *map, size_t bytes)
{
	live_remove(map);
	return __real_munmap(map, bytes);
}

int __real_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	return fails("pthread_create") ? EAGAIN : __real_pthread_create(ret, attr, fn, arg);
}

/* Done, or not, before it is said that it failed. */
#define WRAP_SYNC(name)                                                                                              \
	int __real_##name(int fd);                                                                                   \
	int __wrap_##name(int fd);                                                                                   \
	int __wrap_##name(int fd)                                                                                    \
	{                                                                                                            \
		int error;                                                                                           \
                                                                                                                     \
		if (!points_fail("pv " #name, POINT_SYNC, &error))                                                   \
			return __real_##name(fd);                                                                    \
		if (points.mode == POINTS_AFTER)                                                                     \
			(void)__real_##name(fd);                                                                     \
		errno = error;                                                                                       \
		return -1;                                                                                           \
	}
WRAP_SYNC(fdatasync)

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	return fails("fsync of a directory") ? -1 : __real_fsync(fd);
}

/* ---- LMDB --------------------------------------------------------------------------------- */

/* EIO with errno 0 is LMDB's word for a short write, so errno is set. */
static int lmdb_fails(const char *what)
{
	int error;

	if (!points_fail(what, POINT_SYSTEM, &error))
		return 0;
	errno = error;
	return error;
}

#define WRAP_LMDB(name, parameters, arguments)                                                                       \
	int __real_##name parameters;                                                                                \
	int __wrap_##name parameters;                                                                                \
	int __wrap_##name parameters                                                                                 \
	{                                                                                                            \
		int error = lmdb_fails(#name);                                                                       \
                                                                                                                     \
		return error ? error : __real_##name arguments;                                                      \
	}

WRAP_LMDB(mdb_env_create, (MDB_env * *env), (env))
WRAP_LMDB(mdb_env_set_mapsize, (MDB_env * env, size_t bytes), (env, bytes))
WRAP_LMDB(mdb_env_open, (MDB_env * env, const char *path, unsigned flags, mdb_mode_t mode), (env, path, flags, mode))
WRAP_LMDB(mdb_env_info, (MDB_env * env, MDB_envinfo *info), (env, info))
WRAP_LMDB(mdb_env_get_fd, (MDB_env * env, int *fd), (env, fd))
WRAP_LMDB(mdb_reader_check, (MDB_env * env, int *dead), (env, dead))
WRAP_LMDB(mdb_dbi_open, (MDB_txn * txn, const char *name, unsigned flags, MDB_dbi *dbi), (txn, name, flags, dbi))
WRAP_LMDB(mdb_txn_begin, (MDB_env * env, MDB_txn *parent, unsigned flags, MDB_txn **txn), (env, parent, flags, txn))
WRAP_LMDB(mdb_txn_renew, (MDB_txn * txn), (txn))
WRAP_LMDB(mdb_get, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *value), (txn, dbi, key, value))
WRAP_LMDB(mdb_put, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags),
	  (txn, dbi, key, value, flags))
WRAP_LMDB(mdb_del, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *value), (txn, dbi, key, value))
WRAP_LMDB(mdb_stat, (MDB_txn * txn, MDB_dbi dbi, MDB_stat *stat), (txn, dbi, stat))
WRAP_LMDB(mdb_cursor_open, (MDB_txn * txn, MDB_dbi dbi, MDB_cursor **cursor), (txn, dbi, cursor))
WRAP_LMDB(mdb_cursor_get, (MDB_cursor * cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op),
	  (cursor, key, value, op))

int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn)
{
	int error;
	enum points_class class = no_space() ? POINT_SYSTEM : POINT_SYNC; /* no room is no failure of the pool */

	if (!points_fail("mdb_txn_commit", class, &error))
		return __real_mdb_txn_commit(txn);
	if (points.mode == POINTS_AFTER)
		(void)__real_mdb_txn_commit(txn);
	else
		mdb_txn_abort(txn);
	errno = error;
	return error;
}

/* ---- LMDB's own calls --------------------------------------------------------------------- */

#ifndef SANITIZED

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);

static bool called_by_lmdb(const void *caller)
{
	static _Atomic(const void *) base;
	Dl_info info;

	/* dladdr takes the loader's lock, so it is only asked while something may fail. */
	if (!atomic_load(&points.armed) || inside)
		return false;
	inside++;
	if (!atomic_load(&base) && dladdr((const void *)mdb_version, &info))
		atomic_store(&base, info.dli_fbase);
	bool yes = dladdr(caller, &info) && info.dli_fbase == atomic_load(&base);
	inside--;
	return yes;
}

static bool lmdb_call_fails(const char *what, enum points_class class, const void *caller)
{
	int error;

	if (!called_by_lmdb(caller) || !points_fail(what, class, &error))
		return false;
	errno = error;
	return true;
}

static void *next(const char *name)
{
	inside++;
	void *found = dlsym(RTLD_NEXT, name);
	inside--;
	return found;
}

void *malloc(size_t bytes)
{
	return lmdb_call_fails("LMDB's malloc", POINT_MEMORY, CALLER) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
	return lmdb_call_fails("LMDB's calloc", POINT_MEMORY, CALLER) ? NULL : __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
	return lmdb_call_fails("LMDB's realloc", POINT_MEMORY, CALLER) ? NULL : __libc_realloc(old, bytes);
}

ssize_t pwrite(int fd, const void *buf, size_t bytes, off_t offset)
{
	static ssize_t (*real)(int, const void *, size_t, off_t);

	if (!real)
		real = next("pwrite");
	/* Half of it may be there. */
	if (lmdb_call_fails("LMDB's pwrite", POINT_SYSTEM, CALLER)) {
		int error = errno;

		(void)real(fd, buf, bytes / 2, offset);
		errno = error;
		return -1;
	}
	return real(fd, buf, bytes, offset);
}

ssize_t pread(int fd, void *buf, size_t bytes, off_t offset)
{
	static ssize_t (*real)(int, void *, size_t, off_t);

	if (!real)
		real = next("pread");
	return lmdb_call_fails("LMDB's pread", POINT_SYSTEM, CALLER) ? -1 : real(fd, buf, bytes, offset);
}

ssize_t write(int fd, const void *buf, size_t bytes)
{
	static ssize_t (*real)(int, const void *, size_t);

	if (!real)
		real = next("write");
	return lmdb_call_fails("LMDB's write", POINT_SYSTEM, CALLER) ? -1 : real(fd, buf, bytes);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
	static ssize_t (*real)(int, const struct iovec *, int);

	if (!real)
		real = next("writev");
	return lmdb_call_fails("LMDB's writev", POINT_SYSTEM, CALLER) ? -1 : real(fd, iov, count);
}

int fdatasync(int fd)
{
	static int (*real)(int);

	if (!real)
		real = next("fdatasync");
	/* LMDB writes all pages of a commit anew when it is tried again, so ENOSPC from here is no failure. */
	return lmdb_call_fails("LMDB's fdatasync", no_space() ? POINT_SYSTEM : POINT_SYNC, CALLER) ? -1 : real(fd);
}

int ftruncate(int fd, off_t bytes)
{
	static int (*real)(int, off_t);

	if (!real)
		real = next("ftruncate");
	return lmdb_call_fails("LMDB's ftruncate", POINT_SYSTEM, CALLER) ? -1 : real(fd, bytes);
}

int open(const char *path, int flags, ...)
{
	static int (*real)(const char *, int, ...);
	va_list args;

	va_start(args, flags);
	mode_t mode = va_arg(args, mode_t);
	va_end(args);
	if (!real)
		real = next("open");
	return lmdb_call_fails("LMDB's open", POINT_SYSTEM, CALLER) ? -1 : real(path, flags, mode);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	static void *(*real)(void *, size_t, int, int, int, off_t);

	if (!real)
		real = next("mmap");
	return lmdb_call_fails("LMDB's mmap", POINT_MEMORY, CALLER) ? MAP_FAILED
								    : real(at, bytes, protection, flags, fd, offset);
}

#endif
