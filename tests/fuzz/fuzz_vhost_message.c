/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of vhost-user messages: whatever the bytes, what passes is within the message's own memory. */
#include <assert.h>
#include <string.h>

#include "vtd/vhost_user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vtd_msg msg = { 0 };
	const char *why = NULL;

	if (size < sizeof(msg.header) + 1)
		return 0;
	msg.fd_count = data[0] % (VTD_REGIONS_MAX + 1);
	memcpy(&msg.header, data + 1, sizeof(msg.header));
	/* Half the inputs would end at the version otherwise. */
	if (data[0] & 0x80)
		msg.header.flags = VTD_FLAG_VERSION;
	int rc = vtd_msg_check(&msg.header, msg.fd_count, &why);
	if (rc < 0) {
		assert(why);
		return 0;
	}
	assert(msg.header.size <= sizeof(msg.body));
	size_t left = size - 1 - sizeof(msg.header);
	memcpy(&msg.body, data + 1 + sizeof(msg.header), MIN(left, (size_t)msg.header.size));
	if (rc == 0 && vtd_msg_check_body(&msg, &why) == 0) {
		if (msg.header.request == VTD_GET_CONFIG || msg.header.request == VTD_SET_CONFIG)
			assert((uint64_t)msg.body.config.offset + msg.body.config.size <= VTD_CONFIG_BYTES_MAX);
		if (msg.header.request == VTD_SET_MEM_TABLE)
			assert(msg.body.table.count <= VTD_REGIONS_MAX);
	}
	assert(vtd_msg_name(msg.header.request));
	return 0;
}
