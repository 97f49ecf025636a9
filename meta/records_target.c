/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codecs of adapters and VTDs; see records.c for the rules that all codecs follow: one rule a kind for both
 * directions, a version byte first, exactly the bytes of the fields, *ret written on success only.
 *
 * A path is taken as it is: whether it leads anywhere is found out when it is opened. It has to be absolute, since the
 * daemon's working directory is nobody's business, and without control characters, since it is printed.
 */
#include "meta/records_target.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/uuid.h"
#include "meta/records.h"
#include "meta/wire.h"

static const char *const transports[] = {
	[META_TRANSPORT_VHOST_USER] = "vhost-user",
	[META_TRANSPORT_LOOP] = "loop",
	[META_TRANSPORT_LIO] = "lio",
};

const char *meta_transport_to_text(uint8_t transport)
{
	return transport < ARRAY_LEN(transports) ? transports[transport] : "unknown";
}

int meta_transport_parse(const char *text, uint8_t *ret, struct base_error *err)
{
	for (size_t i = 0; i < ARRAY_LEN(transports); i++) {
		if (strcmp(transports[i], text) == 0) {
			*ret = (uint8_t)i;
			return 0;
		}
	}
	return base_error_set(err, -EINVAL, "%.64s: no transport; there are vhost-user, loop and lio", text);
}

/* ---- names and LUNs ----------------------------------------------------------------------- */

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static int device_name_rule(const char *name)
{
	size_t length = strnlen(name, META_DEVICE_NAME_BYTES_MAX + 1);

	if (length > META_DEVICE_NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (length == 0 || !is_alphanumeric(name[0]))
		return -EINVAL;
	for (size_t i = 0; i < length; i++)
		if (!is_alphanumeric(name[i]) && !strchr("._-", name[i]))
			return -EINVAL;
	return 0;
}

int meta_device_name_check(const char *name, struct base_error *err)
{
	int rc = device_name_rule(name);

	if (rc == -ENAMETOOLONG)
		return base_error_set(err, rc, "the name '%.40s...' is too long: a device's name has at most %d bytes",
				      name, META_DEVICE_NAME_BYTES_MAX);
	if (rc < 0)
		return base_error_set(err, rc,
				      "'%s' can't be a device's name: letters, digits, '.', '_' and '-', the first a "
				      "letter or digit",
				      name);
	return 0;
}

uint64_t meta_lun_of_index(uint32_t index)
{
	uint64_t target = index & 0x3f, unit = index >> 6 & 0x1f, bus = index >> 11;

	assert(index > 0 && index < META_LUN_COUNT);
	return (UINT64_C(2) << 14 | target << 8 | bus << 5 | unit) << 48;
}

uint32_t meta_lun_to_index(uint64_t lun)
{
	uint64_t top = lun >> 48;

	if (lun << 16 != 0 || top >> 14 != 2)
		return 0;
	return (uint32_t)((top >> 8 & 0x3f) | (top & 0x1f) << 6 | (top >> 5 & 7) << 11);
}

/* ---- adapter ------------------------------------------------------------------------------ */

/* No byte of a string may be one that breaks a line of output. */
static bool is_printable(const char *text, size_t room)
{
	size_t length = strnlen(text, room);

	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return false;
	return length < room;
}

static bool adapter_is_sound(const struct meta_adapter_record *rec)
{
	return rec->transport < ARRAY_LEN(transports) && is_printable(rec->physloc, sizeof(rec->physloc)) &&
	       is_printable(rec->client, sizeof(rec->client));
}

size_t meta_adapter_encode(const struct meta_adapter_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX])
{
	struct wire_out out = wire_out_init(buf, DB_VALUE_BYTES_MAX);

	assert(adapter_is_sound(rec));
	wire_put_u8(&out, META_FORMAT_VERSION);
	wire_put_u8(&out, rec->transport);
	wire_put_string(&out, rec->physloc);
	wire_put_string(&out, rec->client);
	wire_put_u64(&out, rec->created_s);
	return wire_length(&out);
}

int meta_adapter_decode(const uint8_t *b, size_t n, struct meta_adapter_record *ret)
{
	struct wire_in in = wire_in_init(b, n);
	struct meta_adapter_record rec = { 0 };

	in.bad = wire_get_u8(&in) != META_FORMAT_VERSION;
	rec.transport = wire_get_u8(&in);
	wire_get_string(&in, rec.physloc, sizeof(rec.physloc));
	wire_get_string(&in, rec.client, sizeof(rec.client));
	rec.created_s = wire_get_u64(&in);
	if (!wire_end(&in) || !adapter_is_sound(&rec))
		return -EBADMSG;
	*ret = rec;
	return 0;
}

/* ---- vtd ---------------------------------------------------------------------------------- */

/* One spelling of a UUID only, so that two records of one snapshot are the same text. */
static bool snapshot_is_sound(const struct meta_vtd_record *rec)
{
	char text[BASE_UUID_TEXT_BYTES];
	struct base_uuid uuid;

	return rec->disk == 0 && rec->path[0] == '\0' && rec->read_only == 1 && rec->shared == 1 &&
	       base_uuid_parse(rec->identity, &uuid) == 0 &&
	       strcmp(base_uuid_to_text(uuid, text), rec->identity) == 0;
}

static bool backing_is_sound(const struct meta_vtd_record *rec)
{
	if (rec->backing == META_BACKING_DISK)
		return rec->disk != 0 && rec->path[0] == '\0' && rec->identity[0] == '\0';
	if (rec->backing == META_BACKING_SNAPSHOT)
		return snapshot_is_sound(rec);
	return rec->backing <= META_BACKING_FILE && rec->disk == 0 && rec->path[0] == '/' &&
	       is_printable(rec->path, sizeof(rec->path)) && rec->identity[0] != '\0' &&
	       is_printable(rec->identity, sizeof(rec->identity));
}

static bool vtd_is_sound(const struct meta_vtd_record *rec)
{
	return device_name_rule(rec->adapter) == 0 && meta_lun_to_index(rec->lun) != 0 && backing_is_sound(rec) &&
	       rec->read_only <= 1 && rec->shared <= 1;
}

size_t meta_vtd_encode(const struct meta_vtd_record *rec, uint8_t buf[DB_VALUE_BYTES_MAX])
{
	struct wire_out out = wire_out_init(buf, DB_VALUE_BYTES_MAX);

	assert(vtd_is_sound(rec));
	wire_put_u8(&out, META_FORMAT_VERSION);
	wire_put_string(&out, rec->adapter);
	wire_put_u64(&out, rec->lun);
	wire_put_u8(&out, rec->backing);
	wire_put_u64(&out, rec->disk);
	wire_put_string(&out, rec->path);
	if (rec->backing != META_BACKING_DISK)
		wire_put_string(&out, rec->identity);
	wire_put_u8(&out, rec->read_only);
	wire_put_u8(&out, rec->shared);
	wire_put_u64(&out, rec->created_s);
	return wire_length(&out);
}

int meta_vtd_decode(const uint8_t *b, size_t n, struct meta_vtd_record *ret)
{
	struct wire_in in = wire_in_init(b, n);
	struct meta_vtd_record rec = { 0 };

	in.bad = wire_get_u8(&in) != META_FORMAT_VERSION;
	wire_get_string(&in, rec.adapter, sizeof(rec.adapter));
	rec.lun = wire_get_u64(&in);
	rec.backing = wire_get_u8(&in);
	rec.disk = wire_get_u64(&in);
	wire_get_string(&in, rec.path, sizeof(rec.path));
	if (rec.backing != META_BACKING_DISK)
		wire_get_string(&in, rec.identity, sizeof(rec.identity));
	rec.read_only = wire_get_u8(&in);
	rec.shared = wire_get_u8(&in);
	rec.created_s = wire_get_u64(&in);
	if (!wire_end(&in) || !vtd_is_sound(&rec))
		return -EBADMSG;
	*ret = rec;
	return 0;
}
