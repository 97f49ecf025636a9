/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of databases, and keys of records: building them, and reading the
 * numbers back in a scan.
 *
 * Numbers are big-endian, so that LMDB's order, which compares bytes, is the
 * order of the numbers, and the records of one store (store id, leaf number)
 * lie one after the other. Names and UUIDs are their bytes.
 *
 * Unused bytes of a key are zero, so keys may be compared and copied as a
 * whole. Failure modes: none for building (a key that is too long is a
 * caller's bug: names are checked before they get here); reading says false
 * for a key of another length, which is what a damaged database looks like.
 */
#include <assert.h>
#include <string.h>

#include "meta/db.h"

static const char *const kind_names[DB_KINDS] = {
	[DB_POOL] = "pool",         [DB_PV] = "pv",       [DB_DISK] = "disk", [DB_LAYER] = "layer",
	[DB_SNAPSHOT] = "snapshot", [DB_INDEX] = "index", [DB_MAP] = "map",   [DB_SPACE] = "space",
	[DB_ADAPTER] = "adapter",   [DB_VTD] = "vtd",
};

const char *db_kind_to_text(enum db_kind kind)
{
	return kind_names[kind];
}

static void put_big_endian(uint8_t *at, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		at[i] = (uint8_t)(value >> 8 * (7 - i));
}

static uint64_t get_big_endian(const uint8_t *at)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value = value << 8 | at[i];
	return value;
}

struct db_key db_key_u64(uint64_t a)
{
	struct db_key key = { .bytes = 8 };

	put_big_endian(key.b, a);
	return key;
}

struct db_key db_key_u64_u64(uint64_t a, uint64_t b)
{
	struct db_key key = { .bytes = 16 };

	put_big_endian(key.b, a);
	put_big_endian(key.b + 8, b);
	return key;
}

struct db_key db_key_bytes(const void *bytes, size_t length)
{
	struct db_key key = { .bytes = length };

	assert(length > 0 && length <= DB_KEY_BYTES_MAX);
	memcpy(key.b, bytes, length);
	return key;
}

bool db_key_to_u64(const struct db_key *key, uint64_t *ret_a)
{
	if (key->bytes != 8)
		return false;
	*ret_a = get_big_endian(key->b);
	return true;
}

bool db_key_to_u64_u64(const struct db_key *key, uint64_t *ret_a, uint64_t *ret_b)
{
	if (key->bytes != 16)
		return false;
	*ret_a = get_big_endian(key->b);
	*ret_b = get_big_endian(key->b + 8);
	return true;
}
