/* SPDX-License-Identifier: Apache-2.0 */
/* What the rooms below answer, as the errno that a user of the mount sees. Context: any thread, pure. */
#ifndef FS_RESULT_H
#define FS_RESULT_H

/* result: 0, a positive outcome, or a negative errno. Return: 0 or a negative errno that FUSE can carry. */
int fs_result_to_errno(int result);

#endif
