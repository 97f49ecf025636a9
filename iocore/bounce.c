/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounce buffers of a queue: two sizes, preallocated, first come first served.
 *
 * A request gets its buffer when it already holds its stripes of the gate. That
 * is safe: whoever has a buffer needs nothing more to finish, so buffers always
 * come back.
 *
 * Failure modes: none after init. When all are taken the request waits in line.
 */
#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#include "base/memory.h"
#include "iocore/internal.h"

int bounce_pool_init(struct bounce_pool *pool)
{
	*pool = (struct bounce_pool){ 0 };
	pool->map_bytes = BOUNCE_SMALL_COUNT * BOUNCE_SMALL_BYTES + BOUNCE_LARGE_COUNT * BOUNCE_LARGE_BYTES;
	pool->map = mmap(NULL, pool->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pool->map == MAP_FAILED)
		return -ENOMEM;
	/* Who holds a buffer always comes to an end: with the small ones and one large there is always progress. */
	base_memory_lock(pool->map, pool->map_bytes, BOUNCE_SMALL_COUNT * BOUNCE_SMALL_BYTES + BOUNCE_LARGE_BYTES);
	char *at = pool->map;
	for (unsigned i = 0; i < ARRAY_LEN(pool->all); i++) {
		struct bounce *bounce = &pool->all[i];
		bounce->large = i >= BOUNCE_SMALL_COUNT;
		bounce->memory = at;
		at += bounce->large ? BOUNCE_LARGE_BYTES : BOUNCE_SMALL_BYTES;
		struct bounce **list = bounce->large ? &pool->large : &pool->small;
		bounce->next = *list;
		*list = bounce;
	}
	pool->waiting_small_tail = &pool->waiting_small;
	pool->waiting_large_tail = &pool->waiting_large;
	return 0;
}

void bounce_pool_done(struct bounce_pool *pool)
{
	assert(!pool->waiting_small && !pool->waiting_large);
	munmap(pool->map, pool->map_bytes);
}

bool bounce_get(struct ioc_request *req, size_t bytes, void (*next)(struct ioc_request *req))
{
	struct bounce_pool *pool = &req->queue->bounces;
	bool large = bytes > BOUNCE_SMALL_BYTES;
	struct bounce **list = large ? &pool->large : &pool->small;

	assert(bytes <= BOUNCE_LARGE_BYTES && !req->thin.bounce);
	if (*list) {
		req->thin.bounce = *list;
		*list = req->thin.bounce->next;
		return true;
	}
	struct ioc_request ***tail = large ? &pool->waiting_large_tail : &pool->waiting_small_tail;
	req->thin.next = next;
	req->thin.list_next = NULL;
	**tail = req;
	*tail = &req->thin.list_next;
	return false;
}

static void run_got(struct base_msg *msg)
{
	struct ioc_request *req = container_of(msg, struct ioc_request, thin.msg);

	req->thin.next(req);
}

void bounce_put(struct ioc_request *req)
{
	struct bounce_pool *pool = &req->queue->bounces;
	struct bounce *bounce = req->thin.bounce;

	if (!bounce)
		return;
	req->thin.bounce = NULL;
	struct ioc_request **waiting = bounce->large ? &pool->waiting_large : &pool->waiting_small;
	struct ioc_request *first = *waiting;
	if (!first) {
		struct bounce **list = bounce->large ? &pool->large : &pool->small;
		bounce->next = *list;
		*list = bounce;
		return;
	}
	*waiting = first->thin.list_next;
	if (!*waiting)
		*(bounce->large ? &pool->waiting_large_tail : &pool->waiting_small_tail) = waiting;
	first->thin.bounce = bounce;
	/* By message: the one that gives back is in the middle of its own work. */
	first->thin.msg.run = run_got;
	base_mailbox_post(&req->queue->box, &first->thin.msg);
}
