/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost-user messages: what may be read at all, and that a descriptor that came
 * with a message is closed exactly once, whatever becomes of the message.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vtd/vhost_user.h"

static int check(uint32_t request, uint32_t flags, uint32_t size, unsigned fds)
{
	struct vtd_header header = { request, flags, size };
	const char *why;

	return vtd_msg_check(&header, fds, &why);
}

Test(vtd_vhost_user, header_says_what_may_be_read)
{
	cr_assert_eq(check(VTD_GET_FEATURES, VTD_FLAG_VERSION, 0, 0), 0);
	cr_assert_eq(check(VTD_GET_FEATURES, VTD_FLAG_VERSION | VTD_FLAG_NEED_REPLY, 0, 0), 0);
	cr_assert_eq(check(VTD_GET_FEATURES, 0, 0, 0), -EPROTO, "no version");
	cr_assert_eq(check(VTD_GET_FEATURES, VTD_FLAG_VERSION | VTD_FLAG_REPLY, 0, 0), -EPROTO);
	cr_assert_eq(check(VTD_GET_FEATURES, VTD_FLAG_VERSION, 0, 1), -EPROTO, "a descriptor too many");
	cr_assert_eq(check(VTD_SET_FEATURES, VTD_FLAG_VERSION, 7, 0), -EPROTO);
	cr_assert_eq(check(VTD_SET_FEATURES, VTD_FLAG_VERSION, 9, 0), -EPROTO);
	cr_assert_eq(check(VTD_SET_INFLIGHT_FD, VTD_FLAG_VERSION, 20, 1), 0);
	cr_assert_eq(check(VTD_SET_INFLIGHT_FD, VTD_FLAG_VERSION, 24, 1), 0);
	cr_assert_eq(check(VTD_SET_INFLIGHT_FD, VTD_FLAG_VERSION, 24, 0), -EPROTO);
	cr_assert_eq(check(VTD_SET_INFLIGHT_FD, VTD_FLAG_VERSION, 24, 2), -EPROTO);
}

Test(vtd_vhost_user, no_size_lets_more_be_read_than_a_message_holds)
{
	for (uint32_t request = 0; request < 300; request++)
		for (uint64_t size = sizeof(((struct vtd_msg *)0)->body) + 1; size <= UINT32_MAX; size = size * 2 + 1)
			cr_assert_eq(check(request, VTD_FLAG_VERSION, (uint32_t)size, 0), -EPROTO, "%u", request);
}

Test(vtd_vhost_user, unknown_request_is_no_violation)
{
	cr_assert_eq(check(0, VTD_FLAG_VERSION, 8, 0), VTD_MSG_UNKNOWN);
	cr_assert_eq(check(22, VTD_FLAG_VERSION, 8, 0), VTD_MSG_UNKNOWN);
	cr_assert_eq(check(UINT32_MAX, VTD_FLAG_VERSION, 8, 3), VTD_MSG_UNKNOWN);
}

/* ---- on a socket --------------------------------------------------------------------------- */

static unsigned open_fds(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void send_message(int socket, uint32_t request, const void *body, uint32_t bytes, unsigned fd_count)
{
	struct vtd_header header = { request, VTD_FLAG_VERSION, bytes };
	union {
		char room[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov[2] = { { &header, sizeof(header) }, { (void *)(uintptr_t)body, bytes } };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = 2 };
	int fd = eventfd(0, EFD_CLOEXEC);

	if (fd_count > 0) {
		hdr.msg_control = control.room;
		hdr.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		for (unsigned i = 0; i < fd_count; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
	}
	cr_assert_eq(sendmsg(socket, &hdr, 0), (ssize_t)(sizeof(header) + bytes));
	close(fd);
}

struct pair {
	int ends[2], stop;
	unsigned fds;
};

static struct pair pair_open(void)
{
	struct pair p = { .stop = eventfd(0, EFD_CLOEXEC) };

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p.ends), 0);
	p.fds = open_fds();
	return p;
}

static int receive(const struct pair *p, struct vtd_msg *msg)
{
	const char *why;

	return vtd_msg_receive(p->ends[1], p->stop, msg, &why);
}

Test(vtd_vhost_user, descriptors_are_closed_once_on_every_path)
{
	struct pair p = pair_open();
	struct vtd_mem_table table = { .count = 2 };
	struct vtd_msg msg;
	uint64_t u64 = 0;

	send_message(p.ends[0], VTD_SET_MEM_TABLE, &table, 8 + 64, 2);
	cr_assert_eq(receive(&p, &msg), 0);
	cr_assert_eq(open_fds(), p.fds + 2);
	int taken = vtd_msg_take_fd(&msg, 1);
	cr_assert_geq(taken, 0);
	cr_assert_eq(vtd_msg_take_fd(&msg, 1), -1, "taken twice");
	vtd_msg_done(&msg);
	vtd_msg_done(&msg);
	cr_assert_eq(open_fds(), p.fds + 1, "the one that was taken is left");
	close(taken);

	send_message(p.ends[0], VTD_GET_FEATURES, &u64, 0, 3);
	cr_assert_eq(receive(&p, &msg), -EPROTO);
	cr_assert_eq(open_fds(), p.fds, "not wanted");
	p = (close(p.ends[0]), close(p.ends[1]), close(p.stop), pair_open());
	send_message(p.ends[0], VTD_SET_MEM_TABLE, &table, sizeof(table), 16);
	cr_assert_eq(receive(&p, &msg), -EPROTO);
	cr_assert_eq(open_fds(), p.fds, "more than fit");
	p = (close(p.ends[0]), close(p.ends[1]), close(p.stop), pair_open());
	table.count = 3;
	send_message(p.ends[0], VTD_SET_MEM_TABLE, &table, sizeof(table), 2);
	cr_assert_eq(receive(&p, &msg), -EPROTO);
	cr_assert_eq(open_fds(), p.fds, "not as many as the body says");
}

Test(vtd_vhost_user, half_a_message_and_a_gone_peer_leave_nothing)
{
	struct pair p = pair_open();
	struct vtd_header header = { VTD_SET_FEATURES, VTD_FLAG_VERSION, 8 };
	struct vtd_msg msg;

	cr_assert_eq(write(p.ends[0], &header, sizeof(header)), (ssize_t)sizeof(header));
	close(p.ends[0]);
	cr_assert_eq(receive(&p, &msg), -ECONNRESET);
	cr_assert_eq(open_fds(), p.fds - 1);
}

Test(vtd_vhost_user, stop_ends_a_wait, .timeout = 20)
{
	struct pair p = pair_open();
	const uint64_t one = 1;
	struct vtd_msg msg;

	cr_assert_eq(write(p.stop, &one, sizeof(one)), (ssize_t)sizeof(one));
	cr_assert_eq(receive(&p, &msg), -ECANCELED);
}

Test(vtd_vhost_user, answer_carries_the_request_and_a_descriptor)
{
	struct pair p = pair_open();
	struct vtd_msg msg = { .header = { VTD_GET_INFLIGHT_FD, VTD_FLAG_VERSION, 24 },
			       .body.inflight.mmap_size = 4096 };
	struct vtd_header header;
	uint8_t body[24];

	cr_assert_eq(vtd_msg_reply(p.ends[1], p.stop, &msg, 24, p.stop), 0);
	cr_assert_eq(read(p.ends[0], &header, sizeof(header)), (ssize_t)sizeof(header));
	cr_assert_eq(read(p.ends[0], body, sizeof(body)), (ssize_t)sizeof(body));
	cr_assert_eq(header.request, (uint32_t)VTD_GET_INFLIGHT_FD);
	cr_assert_eq(header.flags, VTD_FLAG_VERSION | VTD_FLAG_REPLY);
	cr_assert_eq(header.size, 24u);
}
