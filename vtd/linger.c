/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See linger.h. Failure modes: none; a clock that jumps makes a ring sleep or look once too often.
 */
#include "vtd/linger.h"

bool vtd_linger_wait(struct vtd_linger *linger, bool in_flight, uint64_t now_ns)
{
	if (!linger->is_waiting) {
		linger->is_waiting = true;
		linger->since_ns = now_ns;
	}
	return linger->states[in_flight].looks && now_ns - linger->since_ns < VTD_LINGER_NS;
}

static void looked(struct vtd_linger_state *state, bool is_found)
{
	if (is_found) {
		state->penalty /= 2;
		return;
	}
	state->looks = false;
	state->penalty = MIN(MAX(2 * state->penalty, 1u), (unsigned)VTD_LINGER_PENALTY_MAX);
	state->skip = state->penalty;
}

void vtd_linger_found(struct vtd_linger *linger, bool in_flight, uint64_t now_ns)
{
	struct vtd_linger_state *state = &linger->states[in_flight];
	bool is_short = now_ns - linger->since_ns < VTD_LINGER_NS;

	if (!linger->is_waiting)
		return;
	linger->is_waiting = false;
	if (state->looks)
		looked(state, is_short);
	else if (is_short && state->skip > 0)
		state->skip--;
	else if (is_short)
		state->looks = true;
}
