/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engines share.
 *
 * Carrying on: a device may answer a part of a READ or WRITE. ioc_io_step is
 * the only place that decides what follows; it sees results as numbers, so it
 * is the same for a completion of a ring and for the return value of preadv2.
 *
 *	whole                     ended, bytes
 *	short                     carry on behind what is done
 *	-EINTR, -EAGAIN           carry on at the same place
 *	READ, 0                   end of file: ended, bytes so far
 *	READ, -EINVAL, and what is done so far ends inside a sector: end of file
 *	                          too (see below)
 *	WRITE, 0                  ended, -EIO: carrying on would go round for ever
 *	any other error           ended, that error, whatever came before it
 *
 * The bell has three states. The owner goes AWAKE -> SLEEPING before it waits
 * and back to AWAKE after; whoever rings makes it RUNG, and writes the eventfd
 * if it was SLEEPING. An owner that finds RUNG does not wait. Every change is
 * an atomic exchange, so a ring that comes before the owner's change to AWAKE
 * is ordered before all that the owner does next: a message that was posted
 * before the ring is seen. A ring that falls between the owner's waking for
 * another reason and that change leaves the eventfd readable; the next wait
 * then ends early, which run() is allowed to do.
 */
#include "iocore/engine_internal.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum bell_state { BELL_AWAKE, BELL_SLEEPING, BELL_RUNG };

/* No device has smaller sectors, so only the end of a file can make a transfer stop inside one. */
#define SECTOR_BYTES_MIN 512

static bool end(struct ioc_io *io, int64_t result)
{
	io->result = result;
	return true;
}

static void step_over(struct ioc_io *io, uint64_t bytes)
{
	io->bytes_done += bytes;
	while (io->iov_count > 0 && bytes >= io->iov->iov_len) {
		bytes -= io->iov->iov_len;
		io->iov++;
		io->iov_count--;
	}
	if (io->iov_count > 0) {
		io->iov->iov_base = (char *)io->iov->iov_base + bytes;
		io->iov->iov_len -= bytes;
	}
}

bool ioc_io_step(struct ioc_io *io, int64_t result)
{
	if (result == -EINTR || result == -EAGAIN)
		return false;
	/* O_DIRECT up to the end of a file that ends inside a sector: the next
	 * position is not aligned, and some filesystems refuse it before they
	 * look whether there is anything. */
	if (result == -EINVAL && io->kind == IOC_IO_READ && io->bytes_done % SECTOR_BYTES_MIN != 0)
		return end(io, (int64_t)io->bytes_done);
	if (result < 0)
		return end(io, result);
	step_over(io, (uint64_t)result);
	if (io->iov_count == 0)
		return end(io, (int64_t)io->bytes_done);
	if (result > 0)
		return false;
	return end(io, io->kind == IOC_IO_READ ? (int64_t)io->bytes_done : -EIO);
}

void ioc_io_list_push(struct ioc_io_list *list, struct ioc_io *io)
{
	io->next = NULL;
	if (list->first)
		list->last->next = io;
	else
		list->first = io;
	list->last = io;
}

struct ioc_io *ioc_io_list_pop(struct ioc_io_list *list)
{
	struct ioc_io *io = list->first;

	if (io)
		list->first = io->next;
	return io;
}

void ioc_io_list_join(struct ioc_io_list *to, struct ioc_io_list *from)
{
	if (!from->first)
		return;
	if (to->first)
		to->last->next = from->first;
	else
		to->first = from->first;
	to->last = from->last;
	from->first = NULL;
}

int ioc_bell_open(struct ioc_bell *bell)
{
	atomic_init(&bell->state, BELL_AWAKE);
	bell->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return bell->fd < 0 ? -errno : 0;
}

void ioc_bell_close(struct ioc_bell *bell)
{
	close(bell->fd);
}

void ioc_bell_ring(struct ioc_bell *bell)
{
	const uint64_t one = 1;
	int saved_errno;

	if (atomic_exchange(&bell->state, BELL_RUNG) != BELL_SLEEPING)
		return;
	/* May be called from a signal handler, so errno stays as it was. The write can fail only by a full
	 * counter (EAGAIN), and then the descriptor is readable, which is all that is wanted. */
	saved_errno = errno;
	(void)!write(bell->fd, &one, sizeof(one));
	errno = saved_errno;
}

bool ioc_bell_may_sleep(struct ioc_bell *bell)
{
	int awake = BELL_AWAKE;

	return atomic_compare_exchange_strong(&bell->state, &awake, BELL_SLEEPING);
}

void ioc_bell_awake(struct ioc_bell *bell)
{
	atomic_exchange(&bell->state, BELL_AWAKE);
}
