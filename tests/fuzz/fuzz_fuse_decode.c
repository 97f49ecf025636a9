/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The FUSE decoder against arbitrary bytes: whatever gets through is within
 * the bytes and within the bounds that the rest of fs/ relies on.
 *
 * The header's length is set to what there is, or hardly any input would get
 * past the first check; its first byte says when it is left alone.
 */
#include "fs/decode.h"
#include "fs/proto.h"
#include "tests/fuzz/fuzz.h"

static void check(const struct fs_request *r, const uint8_t *bytes, size_t count)
{
	const uint8_t *payload = r->data;

	require(r->offset <= INT64_MAX && r->length <= INT64_MAX - r->offset);
	if (r->op == FS_OP_READ || r->op == FS_OP_WRITE)
		require(r->length <= FS_DATA_BYTES_MAX);
	if (r->op == FS_OP_WRITE)
		require(payload >= bytes && r->length <= count - (size_t)(payload - bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	uint8_t *copy = malloc(count ? count : 1);
	uint32_t len = (uint32_t)count;
	struct fs_request request;

	if (!copy)
		return 0;
	if (count > 0)
		memcpy(copy, bytes, count);
	if (count >= sizeof(len) && copy[0] != 0xff)
		memcpy(copy, &len, sizeof(len));
	if (fs_decode(copy, count, &request) == 0)
		check(&request, copy, count);
	free(copy);
	return 0;
}
