/* SPDX-License-Identifier: Apache-2.0 */
/* The error table: what FUSE can't carry, or would take amiss, never leaves. */
#include <criterion/criterion.h>
#include <errno.h>

#include "fs/result.h"

Test(fs_result, codes_that_mean_the_same_outside_pass)
{
	cr_expect_eq(fs_result_to_errno(0), 0);
	cr_expect_eq(fs_result_to_errno(-ENOSPC), -ENOSPC);
	cr_expect_eq(fs_result_to_errno(-EBUSY), -EBUSY);
	cr_expect_eq(fs_result_to_errno(-ENXIO), -ENXIO);
	cr_expect_eq(fs_result_to_errno(-EROFS), -EROFS);
}

Test(fs_result, a_damaged_record_is_an_io_error)
{
	cr_expect_eq(fs_result_to_errno(-EBADMSG), -EIO);
}

Test(fs_result, no_code_makes_a_caller_try_again_or_the_kernel_give_up_asking)
{
	for (int code = -4095; code <= 0; code++) {
		int out = fs_result_to_errno(code);

		cr_assert(out <= 0 && out > -512, "%d became %d", code, out);
		cr_assert(out != -EAGAIN && out != -EINTR && out != -ENOSYS && out != -ESTALE, "%d became %d", code,
			  out);
		cr_assert_eq(out == 0, code == 0);
	}
}
