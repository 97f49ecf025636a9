/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier of LMDB's file.
 *
 * LMDB believes its pages. An offset or a size with one bit flipped makes it read
 * or write outside of its copy of a page, which ends the process, or worse, goes
 * unnoticed. So before LMDB sees a file, all that it could reach is walked here
 * with bounds checked everywhere (db_page.c has what is checked within a page):
 *
 *   - both meta pages are ones, of one page size, of neighbouring transactions, so
 *     that LMDB takes the one that was written last;
 *   - each tree (free pages, names, and the databases that the names lead to) is as
 *     deep everywhere as its record says, and has as many pages and entries;
 *   - every page number leads to a page of the right type, within the file, that
 *     was not reached before: no rings, nothing shared, nothing free in use;
 *   - the keys of each page lie between those that lead to it, in order;
 *   - a list of free pages is in order and within the run or node that holds it.
 *
 * Pages that nothing refers to and pages that are free are not looked at: LMDB
 * writes a page whole before it reads it. Pages that are neither in use nor free
 * are lost space and no danger.
 *
 * The order is depth first; a page is read once, into the buffer of its level,
 * after the kernel was told to read the file ahead in one go. Memory: a bit a
 * page, and a page a level.
 *
 * While another process has the pool open, its commits may use pages again that
 * the walk has yet to come to. That looks like damage, so damage counts only when
 * the newest transaction is still the one that was walked; else the walk begins
 * anew. (Pages that a transaction frees are written at the earliest by the third
 * one after it, so if the newest is the same, nothing was.)
 *
 * Failure modes: see db_pages.h. Of much damage the first findings are kept.
 */
#include "meta/db_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/db_page.h"

#define META_PAGES 2
/* LMDB's cursors have room for 32 levels, and a tree may grow yet. Eight branches a page at least: never reached. */
#define LEVELS_MAX 24
#define READ_AHEAD_BYTES_MAX GIB
#define TRIES 20

struct span {
	const uint8_t *bytes; /* NULL: no bound */
	size_t length;
};

struct walk {
	int fd;
	struct db_meta_page meta;
	uint64_t *reached;           /* a bit a page */
	uint8_t *levels[LEVELS_MAX]; /* a page each, made when first needed */
	uint8_t *run;                /* a page of an overflow run */
	uint16_t *size_at;           /* see db_page_check() */
	struct db_pages_report *report;

	/* The tree that is walked. */
	const char *name;
	bool holds_trees, holds_free_lists;
	struct db_tree expected, found;
};

/* ---- findings ------------------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static void damaged(struct walk *walk, uint64_t page, const char *fmt, ...)
{
	struct db_pages_report *report = walk->report;
	va_list args;

	report->damaged++;
	if (report->damage_count == DB_PAGES_DAMAGE_MAX)
		return;
	struct db_page_damage *damage = &report->damage[report->damage_count++];
	damage->page = page;
	int n = walk->name ? snprintf(damage->text, sizeof(damage->text), "%s: ", walk->name) : 0;
	va_start(args, fmt);
	vsnprintf(damage->text + n, sizeof(damage->text) - (size_t)n, fmt, args);
	va_end(args);
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Return: 0; -ERANGE: the file ends before that; negative errno. */
static int read_at(int fd, uint64_t offset, void *bytes, size_t count)
{
	while (count > 0) {
		ssize_t n = pread(fd, bytes, count, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ERANGE;
		bytes = (uint8_t *)bytes + n;
		offset += (uint64_t)n;
		count -= (size_t)n;
	}
	return 0;
}

/* Return: 0; 1: it is damaged, and noted; negative errno. */
static int read_page(struct walk *walk, uint64_t page, uint8_t *bytes)
{
	int rc = read_at(walk->fd, page * walk->meta.page_bytes, bytes, walk->meta.page_bytes);

	if (rc != -ERANGE)
		return rc;
	damaged(walk, page, "the page lies beyond the end of the file");
	return 1;
}

static bool is_page(const struct walk *walk, uint64_t page)
{
	return page >= META_PAGES && page <= walk->meta.last_page;
}

/* Every page has one use only. Return: false: it is no page or has another use already; that is noted. */
static bool claim(struct walk *walk, uint64_t page, uint64_t referrer)
{
	if (!is_page(walk, page)) {
		damaged(walk, referrer, "it refers to page %llu, which there is not", (unsigned long long)page);
		return false;
	}
	uint64_t *word = &walk->reached[page / 64], bit = UINT64_C(1) << page % 64;
	if (*word & bit) {
		damaged(walk, page, "the page is used twice, here by page %llu", (unsigned long long)referrer);
		return false;
	}
	*word |= bit;
	return true;
}

/* ---- lists of free pages ------------------------------------------------------------------- */

/*
 * A list: how many there are, then their numbers, each less than the one before. It comes in pieces, as a run of
 * pages is read page by page.
 */
struct free_list {
	uint64_t page;  /* where it starts */
	uint64_t room;  /* numbers that it has room for */
	uint64_t count; /* that it says it has */
	uint64_t seen;  /* words so far, the count included */
	uint64_t last;
};

/* Return: 0; 1: damaged. */
static int take_numbers(struct walk *walk, struct free_list *list, const uint8_t *bytes, uint64_t words)
{
	for (; words > 0 && (list->seen == 0 || list->seen <= list->count); words--, bytes += 8, list->seen++) {
		uint64_t number = db_page_u64(bytes);

		if (list->seen == 0) {
			list->count = number;
			if (number > list->room) {
				damaged(walk, list->page, "a list of free pages is longer than its record");
				return 1;
			}
			continue;
		}
		if (number >= list->last) {
			damaged(walk, list->page, "a list of free pages is not in order");
			return 1;
		}
		list->last = number;
		if (!claim(walk, number, list->page))
			return 1;
		walk->report->free_pages++;
	}
	return 0;
}

/* The pages of a value that is too long for its own; the first is then in walk->run. Return: 0; 1: damaged; -errno.
 */
static int claim_run(struct walk *walk, const struct db_node *node, uint64_t referrer)
{
	uint64_t page = db_page_u64(node->data);
	uint32_t pages;

	if (!is_page(walk, page)) {
		damaged(walk, referrer, "it refers to page %llu, which there is not", (unsigned long long)page);
		return 1;
	}
	int rc = read_page(walk, page, walk->run);
	if (rc != 0)
		return rc;
	const char *wrong = db_page_check_overflow(walk->run, page, &pages);
	if (!wrong &&
	    (pages < db_page_run(node->data_bytes, walk->meta.page_bytes) || !is_page(walk, page + pages - 1)))
		wrong = "the run of pages that starts with it can't be so long";
	if (wrong) {
		damaged(walk, page, "%s", wrong);
		return 1;
	}
	for (uint64_t n = 0; n < pages; n++)
		if (!claim(walk, page + n, referrer))
			return 1;
	walk->found.overflow_pages += pages;
	return 0;
}

static int walk_run(struct walk *walk, const struct db_node *node, uint64_t referrer)
{
	uint64_t page = db_page_u64(node->data), left = node->data_bytes / 8;
	struct free_list list = { .page = page, .room = left - 1, .last = UINT64_MAX };
	int rc = claim_run(walk, node, referrer);

	for (uint64_t n = 0; left > 0 && rc == 0; n++) {
		unsigned header = n == 0 ? DB_PAGE_HEADER_BYTES : 0;
		uint64_t words = MIN(left, (walk->meta.page_bytes - header) / 8);

		if (n > 0)
			rc = read_page(walk, page + n, walk->run);
		if (rc == 0)
			rc = take_numbers(walk, &list, walk->run + header, words);
		left -= words;
	}
	return rc;
}

static int walk_free_list(struct walk *walk, uint64_t page, const struct db_node *node)
{
	uint64_t transaction;

	if (node->key_bytes == sizeof(transaction))
		transaction = db_page_u64(node->key);
	if (node->key_bytes != sizeof(transaction) || transaction == 0 || transaction > walk->meta.transaction) {
		damaged(walk, page, "a list of free pages is of no transaction that there was");
		return 1;
	}
	if ((node->flags & ~DB_NODE_OVERFLOW) || node->data_bytes < 8 || node->data_bytes % 8) {
		damaged(walk, page, "a node is no list of free pages");
		return 1;
	}
	if (node->flags & DB_NODE_OVERFLOW)
		return walk_run(walk, node, page);
	struct free_list list = { .page = page, .room = node->data_bytes / 8 - 1, .last = UINT64_MAX };
	return take_numbers(walk, &list, node->data, node->data_bytes / 8);
}

/* ---- trees --------------------------------------------------------------------------------- */

/* As LMDB compares: transactions as numbers, all else byte by byte, the shorter before the longer. */
static int compare(const struct walk *walk, struct span a, struct span b)
{
	if (walk->holds_free_lists && a.length == 8 && b.length == 8) {
		uint64_t x = db_page_u64(a.bytes), y = db_page_u64(b.bytes);

		return (x > y) - (x < y);
	}
	int rc = memcmp(a.bytes, b.bytes, MIN(a.length, b.length));
	return rc != 0 ? rc : (a.length > b.length) - (a.length < b.length);
}

static struct span key_of(const struct db_node *node)
{
	return (struct span){ node->key, node->key_bytes };
}

/* Keys ascend, the first is not below low, the last below high. The first key of a branch says nothing. */
static bool is_in_order(const struct walk *walk, const uint8_t *page, enum db_page_type type, struct span low,
			struct span high)
{
	struct span before = low;

	for (unsigned i = type == DB_PAGE_BRANCH ? 1 : 0; i < db_page_nodes(page); i++) {
		struct db_node node = db_page_node(page, type, i);
		struct span key = key_of(&node);

		if (walk->holds_free_lists && key.length != sizeof(uint64_t))
			return false; /* LMDB reads so much of it, whatever there is */
		if (before.bytes && compare(walk, key, before) < (before.bytes == low.bytes ? 0 : 1))
			return false;
		before = key;
	}
	return !before.bytes || before.bytes == low.bytes || !high.bytes || compare(walk, before, high) < 0;
}

static int walk_named(struct walk *walk, uint64_t page, const struct db_node *node);

static int walk_leaf(struct walk *walk, uint64_t page, const uint8_t *bytes)
{
	unsigned nodes = db_page_nodes(bytes);
	int rc = 0;

	walk->found.leaf_pages++;
	walk->found.entries += nodes;
	for (unsigned i = 0; i < nodes && rc >= 0; i++) {
		struct db_node node = db_page_node(bytes, DB_PAGE_LEAF, i);

		if (walk->holds_free_lists)
			rc = walk_free_list(walk, page, &node);
		else if (walk->holds_trees)
			rc = walk_named(walk, page, &node);
		else if (node.flags == DB_NODE_OVERFLOW)
			rc = claim_run(walk, &node, page); /* no record of ours is so long: the look-up says so */
		else if (node.flags != DB_NODE_IN_PAGE)
			damaged(walk, page, "a record has flags that bdfs does not use");
	}
	return MIN(rc, 0);
}

static int walk_page(struct walk *walk, uint64_t page, uint64_t referrer, unsigned level, struct span low,
		     struct span high);

static int walk_branch(struct walk *walk, uint64_t page, const uint8_t *bytes, unsigned level, struct span low,
		       struct span high)
{
	unsigned nodes = db_page_nodes(bytes);
	int rc = 0;

	walk->found.branch_pages++;
	/* LMDB asserts it, but not of the free pages, where it may come to pass. */
	if (nodes < 2 && !walk->holds_free_lists)
		damaged(walk, page, "it is a branch to one page only");
	for (unsigned i = 0; i < nodes && rc == 0; i++) {
		struct db_node node = db_page_node(bytes, DB_PAGE_BRANCH, i), next;
		struct span from = i == 0 ? low : key_of(&node), to = high;

		if (i + 1 < nodes) {
			next = db_page_node(bytes, DB_PAGE_BRANCH, i + 1);
			to = key_of(&next);
		}
		rc = walk_page(walk, node.child, page, level + 1, from, to);
	}
	return rc;
}

/* The page of its level; levels are numbered through from the tree of names to those below it. */
static uint8_t *level_buffer(struct walk *walk, unsigned level)
{
	if (!walk->levels[level])
		walk->levels[level] = malloc(walk->meta.page_bytes);
	return walk->levels[level];
}

/* level: 1 = the root. low, high: what its keys lie between. Return: 0, also for damage; negative errno. */
static int walk_page(struct walk *walk, uint64_t page, uint64_t referrer, unsigned level, struct span low,
		     struct span high)
{
	enum db_page_type type = level == walk->expected.depth ? DB_PAGE_LEAF : DB_PAGE_BRANCH;
	uint8_t *bytes = level_buffer(walk, level - 1);

	if (!bytes)
		return -ENOMEM;
	if (!claim(walk, page, referrer))
		return 0;
	int rc = read_page(walk, page, bytes);
	if (rc != 0)
		return MIN(rc, 0);
	const char *wrong = db_page_check(bytes, walk->meta.page_bytes, page, type, walk->size_at);
	if (!wrong && !is_in_order(walk, bytes, type, low, high))
		wrong = "its keys are not in order";
	if (wrong) {
		damaged(walk, page, "%s", wrong);
		return 0;
	}
	walk->report->tree_pages++;
	return type == DB_PAGE_LEAF ? walk_leaf(walk, page, bytes) : walk_branch(walk, page, bytes, level, low, high);
}

static void compare_counts(struct walk *walk, uint64_t referrer)
{
	const struct db_tree *expected = &walk->expected, *found = &walk->found;

	if (expected->branch_pages != found->branch_pages || expected->leaf_pages != found->leaf_pages ||
	    expected->overflow_pages != found->overflow_pages)
		damaged(walk, referrer, "%llu pages belong to it, and %llu were found",
			(unsigned long long)(expected->branch_pages + expected->leaf_pages +
					     expected->overflow_pages),
			(unsigned long long)(found->branch_pages + found->leaf_pages + found->overflow_pages));
	if (expected->entries != found->entries)
		damaged(walk, referrer, "%llu records belong to it, and %llu were found",
			(unsigned long long)expected->entries, (unsigned long long)found->entries);
}

/* referrer: the page that has the tree's record. */
static int walk_tree(struct walk *walk, const struct db_tree *tree, uint64_t referrer)
{
	static const struct span none;
	uint64_t damage_before = walk->report->damaged;
	int rc = 0;

	walk->expected = *tree;
	walk->found = (struct db_tree){ 0 };
	if (tree->depth > LEVELS_MAX || (tree->depth == 0) != (tree->root == DB_PAGE_NONE)) {
		damaged(walk, referrer, "a tree of %u levels whose root is page %lld", tree->depth,
			(long long)tree->root);
		return 0;
	}
	if (tree->depth > 0)
		rc = walk_page(walk, tree->root, referrer, 1, none, none);
	/* What could not be read is not counted twice. */
	if (rc == 0 && walk->report->damaged == damage_before)
		compare_counts(walk, referrer);
	walk->report->tree_pages += walk->found.overflow_pages;
	return rc;
}

/* A record of the tree of names. The walk of what it leads to uses buffers of its own. */
static int walk_named(struct walk *walk, uint64_t page, const struct db_node *node)
{
	struct walk inner = *walk;
	char name[40];

	if (node->flags != DB_NODE_TREE || node->data_bytes != DB_TREE_BYTES) {
		damaged(walk, page, "a node is no record of a database");
		return 0;
	}
	struct db_tree tree = db_page_tree(node->data);
	snprintf(name, sizeof(name), "database %.*s", (int)MIN(node->key_bytes, 16), (const char *)node->key);
	inner.name = name;
	inner.holds_trees = false;
	memset(inner.levels, 0, sizeof(inner.levels));
	if (tree.flags != 0) {
		damaged(&inner, page, "its record has flags that bdfs does not use");
		return 0;
	}
	int rc = walk_tree(&inner, &tree, page);
	if (rc == 0)
		walk->report->entries += inner.found.entries;
	for (unsigned i = 0; i < LEVELS_MAX; i++)
		free(inner.levels[i]);
	return rc;
}

/* ---- the whole ----------------------------------------------------------------------------- */

static int wrong_meta(struct walk *walk, unsigned page, const char *wrong)
{
	damaged(walk, page, "meta page: %s", wrong);
	return 1;
}

/* *ret_newest: number of the one that LMDB takes. Return: 0; 1: damaged; negative errno. */
static int read_metas(struct walk *walk, struct db_meta_page metas[META_PAGES], unsigned *ret_newest)
{
	uint8_t bytes[DB_PAGE_BYTES_MIN];

	for (unsigned i = 0; i < META_PAGES; i++) {
		int rc = read_at(walk->fd, i == 0 ? 0 : metas[0].page_bytes, bytes, sizeof(bytes));
		const char *wrong = rc == -ERANGE ? "the file is too short for it" : NULL;

		if (rc < 0 && !wrong)
			return rc;
		if (!wrong)
			wrong = db_page_decode_meta(bytes, i, &metas[i]);
		if (!wrong && metas[i].page_bytes != metas[0].page_bytes)
			wrong = "its page size is not that of the other one";
		if (wrong)
			return wrong_meta(walk, i, wrong);
	}
	uint64_t a = metas[0].transaction, b = metas[1].transaction;

	*ret_newest = a < b ? 1 : 0;
	if (MAX(a, b) - MIN(a, b) > 1)
		return wrong_meta(walk, *ret_newest, "its transaction is not the one after the other meta page's");
	return 0;
}

static int prepare(struct walk *walk)
{
	const struct db_meta_page *meta = &walk->meta;

	/* LMDB would try to map so much. */
	if (meta->last_page < META_PAGES - 1 || meta->last_page >= DB_FILE_BYTES_MAX / meta->page_bytes)
		return wrong_meta(walk, meta->transaction % META_PAGES, "the number of its last page is none");
	walk->report->page_bytes = meta->page_bytes;
	walk->report->pages = meta->last_page + 1;
	walk->reached = calloc(meta->last_page / 64 + 1, sizeof(walk->reached[0]));
	walk->size_at = malloc(meta->page_bytes / 2 * sizeof(walk->size_at[0]));
	walk->run = malloc(meta->page_bytes);
	return walk->reached && walk->size_at && walk->run ? 0 : -ENOMEM;
}

static int walk_trees(struct walk *walk)
{
	uint64_t page = walk->meta.transaction % META_PAGES;

	walk->name = "names of databases";
	walk->holds_trees = true;
	int rc = walk_tree(walk, &walk->meta.main, page);
	walk->holds_trees = false;
	walk->name = "free pages";
	walk->holds_free_lists = true;
	if (rc == 0)
		rc = walk_tree(walk, &walk->meta.free, page);
	walk->holds_free_lists = false;
	walk->name = NULL;
	return rc;
}

static void walk_done(struct walk *walk)
{
	for (unsigned i = 0; i < LEVELS_MAX; i++)
		free(walk->levels[i]);
	free(walk->reached);
	free(walk->size_at);
	free(walk->run);
}

/* Whether the meta pages are of other transactions than before. One that is being written can be half of two. */
static bool was_written(const struct walk *walk, const struct db_meta_page before[META_PAGES])
{
	struct db_meta_page after[META_PAGES] = { 0 };
	struct db_pages_report ignored = { 0 };
	struct walk again = { .fd = walk->fd, .report = &ignored };
	unsigned newest;

	return read_metas(&again, after, &newest) >= 0 &&
	       (after[0].transaction != before[0].transaction || after[1].transaction != before[1].transaction);
}

/* Return: 0; -EAGAIN: what was found is of no account, since the file was written; other negative errno. */
static int walk_once(int fd, uint64_t transaction, struct db_pages_report *report)
{
	struct walk walk = { .fd = fd, .report = report };
	struct db_meta_page metas[META_PAGES] = { 0 };
	bool newest = transaction == DB_PAGES_NEWEST;
	unsigned page;

	*report = (struct db_pages_report){ 0 };
	int rc = read_metas(&walk, metas, &page);
	if (rc == 1)
		return was_written(&walk, metas) ? -EAGAIN : 0;
	if (rc < 0)
		return rc;
	walk.meta = metas[newest ? page : transaction % META_PAGES];
	report->transaction = walk.meta.transaction;
	if (!newest && walk.meta.transaction != transaction)
		return -EAGAIN;
	rc = prepare(&walk);
	if (rc == 0)
		rc = walk_trees(&walk);
	walk_done(&walk);
	if (rc >= 0 && report->damaged > 0 && newest && was_written(&walk, metas))
		return -EAGAIN;
	return MIN(rc, 0);
}

int db_pages_walk(int fd, uint64_t transaction, struct db_pages_report *ret)
{
	/* A transaction whose meta page is gone stays so. */
	unsigned tries = transaction == DB_PAGES_NEWEST ? TRIES : 1;
	struct stat st;
	int rc = fstat(fd, &st) == 0 ? -EAGAIN : -errno;

	if (rc == -EAGAIN) /* a hint; whether it is taken makes no difference but in time */
		(void)!posix_fadvise(fd, 0, (off_t)MIN((uint64_t)st.st_size, READ_AHEAD_BYTES_MAX),
				     POSIX_FADV_WILLNEED);
	for (unsigned i = 0; i < tries && rc == -EAGAIN; i++)
		rc = walk_once(fd, transaction, ret);
	return rc == -EAGAIN ? -EBUSY : rc;
}

int db_pages_walk_dir(const char *dir, uint64_t transaction, struct db_pages_report *ret)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/data.mdb", dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = db_pages_walk(fd, transaction, ret);
	close(fd);
	return rc;
}

int db_verify_dir(const char *dir, struct db_pages_report *ret)
{
	return db_pages_walk_dir(dir, DB_PAGES_NEWEST, ret);
}
