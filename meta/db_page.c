/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One page of LMDB's file.
 *
 * Layout, 64-bit, in the byte order of the machine:
 *
 *   0   8  number of the page
 *   8   2  padding (nothing of ours has a use for it, and LMDB leaves it unset)
 *  10   2  type, exactly one bit
 *  12   2  lower: end of the table of nodes   (overflow: 4 bytes, pages of the run)
 *  14   2  upper: start of the nodes
 *  16      table: 2 bytes a node, its place in the page, in the order of the keys
 *
 *   node:  2+2 low and high half of the value's size, 2 flags, 2 size of the key; key; value.
 *          In a branch those six bytes before the key's size are the child's page number.
 *
 *   meta page, behind the header: 4 magic, 4 version, 8 address, 8 map size, the trees of free pages and of names,
 *          8 last page, 8 number of the transaction. The first tree's padding is the page size.
 *
 * Nodes lie without gaps from upper to the end of the page, each rounded up to an
 * even size, since LMDB moves them together whenever one goes. It relies on that:
 * to take a node away it moves all that lie below it by the node's size, as it
 * stands in the node. A size that is wrong by one bit is therefore not only wrong
 * data but a write outside of the page, so the tiling is what is checked.
 *
 * Failure modes: every one is a sentence about the page, for a person.
 */
#include "meta/db_page.h"

#include <string.h>

_Static_assert(sizeof(size_t) == 8, "the page format is that of 64-bit machines");

#define MAGIC 0xBEEFC0DEu
#define VERSION 1u
#define NODE_HEADER_BYTES 8u
/* LMDB notes in the free pages' flags that the file was made by its own name, not its directory's. It reads it never.
 */
#define MADE_BY_NAME 0x4000

static uint16_t u16(const uint8_t *bytes)
{
	uint16_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

static uint32_t u32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

struct db_tree db_page_tree(const uint8_t bytes[DB_TREE_BYTES])
{
	return (struct db_tree){ .flags = u16(bytes + 4),
				 .depth = u16(bytes + 6),
				 .branch_pages = db_page_u64(bytes + 8),
				 .leaf_pages = db_page_u64(bytes + 16),
				 .overflow_pages = db_page_u64(bytes + 24),
				 .entries = db_page_u64(bytes + 32),
				 .root = db_page_u64(bytes + 40) };
}

const char *db_page_decode_meta(const uint8_t *bytes, unsigned number, struct db_meta_page *ret)
{
	const uint8_t *meta = bytes + DB_PAGE_HEADER_BYTES;

	if (u16(bytes + 10) != DB_PAGE_META || db_page_u64(bytes) != number)
		return "it is no meta page of LMDB";
	if (u32(meta) != MAGIC)
		return "it has not LMDB's magic number";
	if (u32(meta + 4) != VERSION)
		return "it is of a version of LMDB's format that is not known here";
	*ret = (struct db_meta_page){ .page_bytes = u32(meta + 24),
				      .free = db_page_tree(meta + 24),
				      .main = db_page_tree(meta + 24 + DB_TREE_BYTES),
				      .last_page = db_page_u64(meta + 24 + 2 * DB_TREE_BYTES),
				      .transaction = db_page_u64(meta + 32 + 2 * DB_TREE_BYTES) };
	if (ret->page_bytes < DB_PAGE_BYTES_MIN || ret->page_bytes > DB_PAGE_BYTES_MAX ||
	    (ret->page_bytes & (ret->page_bytes - 1)))
		return "its page size is none";
	if ((ret->free.flags & ~MADE_BY_NAME) != DB_TREE_INTEGER_KEYS || ret->main.flags != 0)
		return "the flags of its trees are none that bdfs uses";
	/* Transaction N goes to page N % 2; a new file has 0 in both. */
	if (ret->transaction != 0 && ret->transaction % 2 != number)
		return "the number of its transaction belongs into the other one";
	return NULL;
}

unsigned db_page_nodes(const uint8_t *page)
{
	return (u16(page + 12) - DB_PAGE_HEADER_BYTES) / 2;
}

static const uint8_t *node_at(const uint8_t *page, unsigned index)
{
	return page + u16(page + DB_PAGE_HEADER_BYTES + (size_t)2 * index);
}

struct db_node db_page_node(const uint8_t *page, enum db_page_type type, unsigned index)
{
	const uint8_t *at = node_at(page, index);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint64_t low = u16(at), high = u16(at + 2);
#else
	uint64_t low = u16(at + 2), high = u16(at);
#endif
	struct db_node node = { .key = at + NODE_HEADER_BYTES, .key_bytes = u16(at + 6) };

	if (type == DB_PAGE_BRANCH) {
		node.child = low | high << 16 | (uint64_t)u16(at + 4) << 32;
		return node;
	}
	node.flags = u16(at + 4);
	node.data = node.key + node.key_bytes;
	node.data_bytes = low | high << 16;
	return node;
}

/* Half of a page less what is noted of each: two nodes fit into every page. */
static unsigned node_bytes_max(unsigned page_bytes)
{
	return (page_bytes - DB_PAGE_HEADER_BYTES) / 2 / 2 * 2 - 2;
}

/* What the node takes of its page, or 0 if no node of LMDB's is like that. The header lies within the page. */
static uint64_t size_of(const struct db_node *node, enum db_page_type type, unsigned page_bytes)
{
	uint64_t bytes = NODE_HEADER_BYTES + node->key_bytes;

	if (node->key_bytes > DB_PAGE_KEY_BYTES_MAX || (type == DB_PAGE_LEAF && node->key_bytes == 0))
		return 0;
	if (type == DB_PAGE_LEAF)
		bytes += node->flags & DB_NODE_OVERFLOW ? sizeof(uint64_t) : node->data_bytes;
	return bytes > node_bytes_max(page_bytes) ? 0 : (bytes + 1) / 2 * 2;
}

/* Notes the size of each node at its place. */
static const char *measure(const uint8_t *page, unsigned page_bytes, enum db_page_type type, uint16_t *size_at)
{
	unsigned upper = u16(page + 14);

	memset(size_at, 0, page_bytes / 2 * sizeof(size_at[0]));
	for (unsigned i = 0; i < db_page_nodes(page); i++) {
		unsigned place = u16(page + DB_PAGE_HEADER_BYTES + (size_t)2 * i);

		if (place < upper || place % 2 || place + NODE_HEADER_BYTES > page_bytes)
			return "a node lies outside of its bounds";
		struct db_node node = db_page_node(page, type, i);
		uint64_t bytes = size_of(&node, type, page_bytes);
		if (bytes == 0 || place + bytes > page_bytes)
			return "a node has a size that none can have";
		size_at[place / 2] = (uint16_t)bytes;
	}
	return NULL;
}

/* From upper to the end, one node behind the other, and all of them. */
static bool is_tiled(const uint8_t *page, unsigned page_bytes, const uint16_t *size_at)
{
	unsigned place = u16(page + 14), nodes = 0;

	for (; place < page_bytes && size_at[place / 2]; nodes++)
		place += size_at[place / 2];
	return place == page_bytes && nodes == db_page_nodes(page);
}

const char *db_page_check(const uint8_t *page, unsigned page_bytes, uint64_t number, enum db_page_type type,
			  uint16_t *size_at)
{
	unsigned lower = u16(page + 12), upper = u16(page + 14);

	if (db_page_u64(page) != number)
		return "it has another page's number";
	if (u16(page + 10) != type)
		return type == DB_PAGE_LEAF ? "it is no leaf page" : "it is no branch page";
	if (lower <= DB_PAGE_HEADER_BYTES || lower % 2 || upper % 2 || lower > upper || upper > page_bytes)
		return "its bounds are none";
	const char *wrong = measure(page, page_bytes, type, size_at);
	if (wrong)
		return wrong;
	return is_tiled(page, page_bytes, size_at) ? NULL : "its nodes overlap or leave gaps";
}

const char *db_page_check_overflow(const uint8_t *page, uint64_t number, uint32_t *ret_pages)
{
	if (db_page_u64(page) != number)
		return "it has another page's number";
	if (u16(page + 10) != DB_PAGE_OVERFLOW)
		return "it is no overflow page";
	*ret_pages = u32(page + 12);
	return *ret_pages == 0 ? "it is the start of a run of no pages" : NULL;
}
