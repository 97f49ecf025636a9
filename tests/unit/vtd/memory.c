/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: only what is mapped is reached, only files that can't stall are mapped, a file cut short kills
 * nobody. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vtd/memory.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif

#define PAGE 4096u

static _Atomic bool broken;
static const char *why;

static int memfd(size_t bytes)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	cr_assert(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	return fd;
}

static int add(struct vtd_memory *m, uint64_t guest, uint64_t size, uint64_t offset, int fd)
{
	struct vtd_region r = { guest, size, 0x10000000 + guest, offset };

	return vtd_memory_add(m, &r, fd, &broken, &why);
}

Test(vtd_memory, length_is_cut_at_the_end_of_a_slot)
{
	struct vtd_memory m = { 0 };
	int fd = memfd(4 * PAGE);
	uint64_t length = 3 * PAGE;

	cr_assert_eq(add(&m, PAGE, 2 * PAGE, PAGE, fd), 0);
	cr_assert_null(vtd_memory_guest(&m, 0, &length));
	cr_assert_null(vtd_memory_guest(&m, 3 * PAGE, &length));
	cr_assert_not_null(vtd_memory_guest(&m, 2 * PAGE, &length));
	cr_assert_eq(length, PAGE);
	length = UINT64_MAX;
	cr_assert_not_null(vtd_memory_guest(&m, PAGE + 1, &length));
	cr_assert_eq(length, 2 * PAGE - 1);
	cr_assert_null(vtd_memory_user(&m, 0x10000000 + 2 * PAGE, PAGE + 1), "not all of it is there");
	cr_assert_not_null(vtd_memory_user(&m, 0x10000000 + 2 * PAGE, PAGE));
	cr_assert_null(vtd_memory_user(&m, 0x10000000 + 2 * PAGE, UINT64_MAX));
	vtd_memory_clear(&m);
	close(fd);
}

Test(vtd_memory, bad_regions_are_refused)
{
	struct vtd_memory m = { 0 };
	int fd = memfd(4 * PAGE), zero = open("/dev/zero", O_RDWR | O_CLOEXEC), dir = open("/", O_RDONLY | O_CLOEXEC);

	cr_assert_eq(add(&m, 0, 4 * PAGE + 1, 0, fd), -EPROTO, "past the file");
	cr_assert_eq(add(&m, 0, 2 * PAGE, UINT64_MAX - PAGE, fd), -EPROTO, "offset wraps");
	cr_assert_eq(add(&m, UINT64_MAX - PAGE, 2 * PAGE, 0, fd), -EPROTO, "address wraps");
	cr_assert_eq(add(&m, 0, 0, 0, fd), -EPROTO, "empty");
	cr_assert_eq(add(&m, 0, PAGE, 0, zero), -EPROTO, "a device");
	cr_assert_eq(add(&m, 0, PAGE, 0, dir), -EPROTO, "a directory");
	cr_assert_eq(add(&m, 0, 2 * PAGE, 0, fd), 0);
	cr_assert_eq(add(&m, PAGE, PAGE, 0, fd), -EPROTO, "overlap");
	for (unsigned i = 1; i < VTD_SLOTS_MAX; i++)
		cr_assert_eq(add(&m, i * MIB, PAGE, 0, fd), 0);
	cr_assert_eq(add(&m, GIB, PAGE, 0, fd), -EPROTO, "too many");
	struct vtd_region r = { 4711, PAGE, 4711, 0 };
	cr_assert_eq(vtd_memory_remove(&m, &r, &why), -EPROTO, "not there");
	vtd_memory_clear(&m);
}

Test(vtd_memory, access_to_a_file_cut_short_meets_zeros_and_a_flag)
{
	struct vtd_memory m = { 0 };
	int fd = memfd(4 * PAGE);
	uint64_t length = 4 * PAGE;

	cr_assert_eq(add(&m, 0, 4 * PAGE, 0, fd), 0);
	volatile uint8_t *p = vtd_memory_guest(&m, 0, &length);
	p[3 * PAGE] = 7;
	cr_assert_not(atomic_load(&broken));
	cr_assert_eq(ftruncate(fd, PAGE), 0);
	cr_assert_eq(p[3 * PAGE], 0);
	cr_assert(atomic_load(&broken));
	p[2 * PAGE] = 1;
	vtd_memory_clear(&m);
	close(fd);
}

/* The address sanitizer makes another signal of it, after a report. */
#if !defined(__SANITIZE_ADDRESS__) && !__has_feature(address_sanitizer)
Test(vtd_memory, bus_error_elsewhere_is_still_fatal, .signal = SIGBUS)
{
	struct vtd_memory m = { 0 };
	int fd = memfd(PAGE), other = memfd(PAGE);

	cr_assert_eq(add(&m, 0, PAGE, 0, fd), 0);
	volatile uint8_t *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
	cr_assert_eq(ftruncate(other, 0), 0);
	p[0] = 1;
}
#endif
