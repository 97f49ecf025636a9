/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that do nothing: connects to each vhost-user-blk socket as a driver with one queue, reads one block there,
 * prints "connected N", and keeps all connections until its standard input ends.
 *
 *	vhost-hold SOCKET...
 *
 * For bench/growth: what connected guests cost an idle daemon. Failure modes: a socket that can't be used, or a read
 * that fails, is said on stderr; exit status 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/vhost/front.h"

static int read_one(struct front *front)
{
	struct front_slot *slot = front_slot(front, 0), *ended = NULL;
	const char *error = NULL;

	front_submit(front, 0, slot, VIRTIO_BLK_T_IN, 0, BLOCK_BYTES);
	front_kick(front, 0);
	while (!(ended = front_complete(front, 0, &error)) && !error)
		if (front_wait(front, 20000) < 0)
			return -1;
	return ended && *ended->status == VIRTIO_BLK_S_OK ? 0 : -1;
}

static struct front *connect_one(const char *path)
{
	struct front_options o = { .socket_path = path, .queues = 1, .num = 64, .indirect = true, .whole = true,
				   .buffer_bytes = BLOCK_BYTES };
	struct front *front = calloc(1, sizeof(*front));

	if (front && front_init(front, &o) == 0 && front_connect(front, 10000) == 0 && read_one(front) == 0)
		return front;
	fprintf(stderr, "vhost-hold: %s: no connection, or no answer\n", path);
	exit(1);
}

int main(int argc, char **argv)
{
	struct front **fronts = calloc((size_t)argc, sizeof(struct front *));
	char byte;

	for (int i = 1; fronts && i < argc; i++)
		fronts[i] = connect_one(argv[i]);
	printf("connected %d\n", argc - 1);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	for (int i = 1; fronts && i < argc; i++) {
		front_disconnect(fronts[i]);
		front_done(fronts[i]);
		free(fronts[i]);
	}
	free(fronts);
	return 0;
}
