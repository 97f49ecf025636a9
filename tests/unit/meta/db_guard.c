/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard: a fault in its range comes back as a value, all others keep their
 * meaning. What must end a process is tried in a child.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "meta/db_guard.h"

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))

/* Two pages of a file that has one: the second can't be read. */
static volatile uint8_t *short_mapping(void)
{
	FILE *file = tmpfile();
	void *map;

	cr_assert(file && ftruncate(fileno(file), (off_t)PAGE) == 0);
	map = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fileno(file), 0);
	cr_assert_neq(map, MAP_FAILED);
	fclose(file);
	return map;
}

static struct db_guard_range range_of(volatile uint8_t *map)
{
	return (struct db_guard_range){ (uintptr_t)map, (uintptr_t)map + 2 * PAGE };
}

static int touch(void *arg)
{
	return *(volatile uint8_t *)arg + 17;
}

Test(meta_db_guard, what_the_function_returns_comes_through)
{
	volatile uint8_t *map = short_mapping();
	struct db_guard_range range = range_of(map);

	cr_expect_eq(db_guard_run(&range, touch, (void *)map), 17);
}

Test(meta_db_guard, a_fault_in_the_range_comes_back_again_and_again)
{
	volatile uint8_t *map = short_mapping();
	struct db_guard_range range = range_of(map);

	for (int i = 0; i < 1000; i++) {
		cr_assert_eq(db_guard_run(&range, touch, (void *)(map + PAGE)), DB_GUARD_FAULT);
		cr_assert_eq(db_guard_run(&range, touch, (void *)map), 17);
	}
}

Test(meta_db_guard, a_wild_access_in_the_range_comes_back_too)
{
	volatile uint8_t *map = short_mapping();
	struct db_guard_range range = range_of(map);

	cr_assert_eq(mprotect((void *)map, PAGE, PROT_NONE), 0);
	cr_expect_eq(db_guard_run(&range, touch, (void *)map), DB_GUARD_FAULT);
}

Test(meta_db_guard, without_a_range_any_bus_error_comes_back)
{
	volatile uint8_t *map = short_mapping();

	cr_expect_eq(db_guard_run(NULL, touch, (void *)(map + PAGE)), DB_GUARD_FAULT);
}

static int escape(void *arg)
{
	db_guard_escape();
	return 0;
}

Test(meta_db_guard, escape_ends_the_guard_and_is_nothing_without_one)
{
	db_guard_escape();
	cr_expect_eq(db_guard_run(NULL, escape, NULL), DB_GUARD_FAULT);
	db_guard_escape();
}

static volatile uint8_t *elsewhere;

static int touch_elsewhere(void *arg)
{
	return *elsewhere;
}

/* The byte that can't be read is right before the range, or right behind it. */
static void fault_before_the_range(void)
{
	struct db_guard_range range = range_of(short_mapping());

	elsewhere = (volatile uint8_t *)range.start + PAGE;
	range.start += PAGE + 1;
	(void)!db_guard_run(&range, touch_elsewhere, NULL);
}

static void fault_behind_the_range(void)
{
	struct db_guard_range range = range_of(short_mapping());

	elsewhere = (volatile uint8_t *)range.start + PAGE;
	range.end = range.start + PAGE;
	(void)!db_guard_run(&range, touch_elsewhere, NULL);
}

static void fault_after_the_guard(void)
{
	volatile uint8_t *map = short_mapping();
	struct db_guard_range range = range_of(map);

	(void)!db_guard_run(&range, touch, (void *)map);
	(void)touch((void *)(map + PAGE));
}

static int kill_myself(void *arg)
{
	raise(SIGBUS);
	return 0;
}

static void signal_from_a_process(void)
{
	struct db_guard_range everything = { 0, UINTPTR_MAX };

	(void)!db_guard_run(&everything, kill_myself, NULL);
}

/* How a child ends that runs fn with the default action in place; sanitizers' own handlers out of the way. */
static int ends_with_signal(void (*fn)(void))
{
	int status;
	pid_t child = fork();

	cr_assert_geq(child, 0);
	if (child == 0) {
		signal(SIGBUS, SIG_DFL);
		signal(SIGSEGV, SIG_DFL);
		fn();
		_exit(0);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

Test(meta_db_guard, a_fault_elsewhere_is_still_fatal)
{
	cr_expect_eq(ends_with_signal(fault_before_the_range), SIGBUS);
	cr_expect_eq(ends_with_signal(fault_behind_the_range), SIGBUS);
	cr_expect_eq(ends_with_signal(fault_after_the_guard), SIGBUS);
}

Test(meta_db_guard, a_signal_that_is_sent_is_no_fault)
{
	cr_expect_eq(ends_with_signal(signal_from_a_process), SIGBUS);
}

static volatile sig_atomic_t earlier_calls;

static void earlier_handler(int sig)
{
	earlier_calls++;
}

static void earlier_siginfo_handler(int sig, siginfo_t *info, void *context)
{
	earlier_calls += info->si_signo == SIGBUS && info->si_pid == getpid() ? 1 : 100;
}

static int in_child(void (*fn)(void))
{
	int status;
	pid_t child = fork();

	cr_assert_geq(child, 0);
	if (child == 0) {
		fn();
		_exit((int)earlier_calls);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void with_earlier_handler(void)
{
	signal(SIGBUS, earlier_handler);
	(void)!db_guard_run(NULL, kill_myself, NULL);
	raise(SIGBUS);
}

static void with_earlier_siginfo_handler(void)
{
	struct sigaction action = { .sa_sigaction = earlier_siginfo_handler, .sa_flags = SA_SIGINFO };

	sigaction(SIGBUS, &action, NULL);
	(void)!db_guard_run(NULL, kill_myself, NULL);
	raise(SIGBUS);
}

static void with_the_signal_ignored(void)
{
	signal(SIGBUS, SIG_IGN);
	(void)!db_guard_run(NULL, kill_myself, NULL);
	raise(SIGBUS);
	earlier_calls = 7; /* still alive */
}

Test(meta_db_guard, an_earlier_handler_still_gets_what_is_not_the_guards)
{
	cr_expect_eq(in_child(with_earlier_handler), 2);
	cr_expect_eq(in_child(with_earlier_siginfo_handler), 2);
	cr_expect_eq(in_child(with_the_signal_ignored), 7);
}

Test(meta_db_guard, finds_the_mapping_that_an_address_lies_in)
{
	volatile uint8_t *map = short_mapping();
	struct db_guard_range range;

	cr_assert_eq(db_guard_find_mapping((void *)(map + 5), 2 * PAGE, &range), 0);
	cr_expect_eq(range.start, (uintptr_t)map);
	cr_expect_eq(range.end, (uintptr_t)map + 2 * PAGE);
	munmap((void *)map, 2 * PAGE);
	cr_expect_eq(db_guard_find_mapping((void *)(map + 5), 2 * PAGE, &range), -ENOENT);
}
