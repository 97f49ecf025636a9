/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of vhost-hostile share: one connection, whose front end is the
 * attacker, and the tables of attacks.
 *
 *   hostile.c           the run, how the server is afterwards, chance
 *   hostile_messages.c  wrong messages on the socket
 *   hostile_rings.c     wrong descriptors and memory in the guest
 *
 * Context: one thread.
 */
#ifndef TESTS_VHOST_HOSTILE_H
#define TESTS_VHOST_HOSTILE_H

#include <stdbool.h>

#include "tests/vhost/front.h"

struct attack {
	const char *name; /* NULL ends a table; split_only_...: not made on packed rings */
	void (*run)(void);
	bool ends; /* the server must end the connection */
};

#define ATTACK(name)                                                                                                 \
	{                                                                                                            \
#name, name, true                                                                                    \
	}

extern const struct attack message_attacks[], ring_attacks[];

/* Connected and set up when an attack runs; it may spoil it as it likes. */
extern struct front guest;
extern struct front_options options;

_Noreturn void hostile_die(const char *what);
/* Below bound, from the seed. */
uint64_t hostile_draw(uint64_t bound);
/* A free slot of ring 0; there is one, or the program ends. */
struct front_slot *hostile_slot(void);
/* One request, to its end. Return: its status. */
uint8_t hostile_request(uint32_t type, uint64_t sector, uint32_t bytes);
void hostile_kick(void);
/* A message with any header: size is what the header says, bytes what is sent. */
void hostile_send_raw(uint32_t id, uint32_t flags, uint32_t size, const void *body, uint32_t bytes);

#endif
