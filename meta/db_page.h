/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One page of LMDB's file as a span of bytes: what it says, and whether that
 * keeps within the page. Nothing here follows a page number or trusts a byte.
 *
 * Context: any thread; pure. Private to meta/db_pages.c and the fuzzer.
 */
#ifndef META_DB_PAGE_H
#define META_DB_PAGE_H

#include "base/types.h"

/* LMDB 0.9 takes the page size of the machine that made the file, at most this. */
#define DB_PAGE_BYTES_MIN 4096u
#define DB_PAGE_BYTES_MAX 32768u
#define DB_PAGE_HEADER_BYTES 16u
#define DB_PAGE_KEY_BYTES_MAX 511u
#define DB_PAGE_NONE UINT64_MAX /* the root of an empty tree */

enum db_page_type {
	DB_PAGE_BRANCH = 0x01,
	DB_PAGE_LEAF = 0x02,
	DB_PAGE_OVERFLOW = 0x04,
	DB_PAGE_META = 0x08,
};

/* Flags of a node of a leaf. */
enum {
	DB_NODE_IN_PAGE = 0,
	DB_NODE_OVERFLOW = 0x01, /* the value is the number of the first page of an overflow run */
	DB_NODE_TREE = 0x02,     /* the value is a tree: a named database */
};

#define DB_TREE_BYTES 48u
#define DB_TREE_INTEGER_KEYS 0x08 /* flag */

/* What LMDB notes of one tree. */
struct db_tree {
	uint16_t flags, depth;
	uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct db_meta_page {
	uint32_t page_bytes;
	struct db_tree free, main;
	uint64_t last_page, transaction;
};

struct db_node {
	const uint8_t *key;
	unsigned key_bytes;
	unsigned flags;      /* of a leaf's */
	const uint8_t *data; /* of a leaf's, in the page */
	uint64_t data_bytes; /* of a leaf's; with DB_NODE_OVERFLOW those of the run */
	uint64_t child;      /* of a branch's */
};

struct db_tree db_page_tree(const uint8_t bytes[DB_TREE_BYTES]);

/* bytes: the first DB_PAGE_BYTES_MIN of meta page `number`. Return: NULL, or what is wrong with it. */
const char *db_page_decode_meta(const uint8_t *bytes, unsigned number, struct db_meta_page *ret);

/*
 * Whether a branch or leaf page is sound by itself: its number, its type, its bounds; each node within the page, of a
 * size that LMDB makes, and all together filling exactly what the bounds say. Only then may db_page_node() be called.
 * size_at: room for page_bytes / 2 elements, used here. Return: NULL, or what is wrong with it.
 */
const char *db_page_check(const uint8_t *page, unsigned page_bytes, uint64_t number, enum db_page_type type,
			  uint16_t *size_at);
/* The same of the first page of an overflow run, of which *ret_pages are said to be. */
const char *db_page_check_overflow(const uint8_t *page, uint64_t number, uint32_t *ret_pages);

unsigned db_page_nodes(const uint8_t *page);
struct db_node db_page_node(const uint8_t *page, enum db_page_type type, unsigned index);

/* Pages of a run that holds so many bytes. */
static inline uint64_t db_page_run(uint64_t data_bytes, unsigned page_bytes)
{
	return (DB_PAGE_HEADER_BYTES + data_bytes + page_bytes - 1) / page_bytes;
}

/* Native-endian words, as LMDB writes them. */
static inline uint64_t db_page_u64(const uint8_t *bytes)
{
	uint64_t value;

	__builtin_memcpy(&value, bytes, sizeof(value));
	return value;
}

#endif
