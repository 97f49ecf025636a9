/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is to stay in memory: what the daemon needs to finish a write
 * while the kernel waits for that write to get memory back.
 *
 * Context: any thread, at start; may block.
 */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>

/*
 * Keeps [start, start + bytes) from being swapped or dropped once it has been touched; the first now_bytes are
 * touched at once. start is page-aligned. Where the limits do not allow it (RLIMIT_MEMLOCK) things go on without;
 * the first refusal is logged.
 */
void base_memory_lock(void *start, size_t bytes, size_t now_bytes);

/* The same for the stack of the calling thread, as far down as 64 KiB at once. */
void base_memory_lock_stack(void);

#endif
