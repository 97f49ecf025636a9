/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the transport "loop" share: the daemon's (loop.c) and the helper's (loop_helper.c). */
#ifndef VTD_LOOP_H
#define VTD_LOOP_H

#include <limits.h>

#include "vtd/transport.h"

/* In the pool's directory: the boot's id, then a line "loopN SEQUENCE VTD" for each device that was made. */
#define VTD_LOOP_LIST_NAME "loops"

/* Detaches what an earlier mount of this pool left behind. Before the first start. */
void vtd_loop_sweep(const struct vtd_env *env);

/*
 * The kernel's number of what a loop device is just now (diskseq, Linux 5.15): another one after each attachment, so
 * it tells our device from the next one of that name. 0: it can't be read, or nothing is attached.
 */
uint64_t vtd_loop_sequence(const char *device);
bool vtd_loop_boot_id(char ret[40]);

/* Where a block device ("/dev/sda") is mounted in our namespace: the first place, as a text for people. False: nowhere.
 */
bool vtd_loop_find_mount(const char *device, char *ret, size_t room);

/* The helper's commands. Print the answer. Return: the exit status. */
int vtd_loop_attach(int argc, char *argv[]); /* FILE BLOCK-BYTES ro|rw LIST VTD: the device */
int vtd_loop_detach(int argc, char *argv[]); /* DEVICE SEQUENCE gently|force: "gone", or "later" */
int vtd_loop_resize(int argc, char *argv[]); /* DEVICE SEQUENCE FILE: "" */
int vtd_loop_clean(int argc, char *argv[]);  /* LIST: "0", or the devices that were detached; the list is removed */

/* "ok TEXT" or "error ERRNO TEXT", and the exit status for it. code: negative errno or 0. */
int vtd_helper_answer(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
