/* SPDX-License-Identifier: Apache-2.0 */
/* Events of a pool in words and as JSON. Context: any thread, pure. */
#ifndef CMD_EVENT_TEXT_H
#define CMD_EVENT_TEXT_H

#include <jansson.h>

#include "meta/event.h"

#define CMD_EVENT_TEXT_BYTES 512

/* One sentence, without the name of the pool. */
const char *cmd_event_to_text(const struct meta_event *event, char buf[CMD_EVENT_TEXT_BYTES]);
/* {"number", "time_s", "event", "subject", "value", "limit", "text"}. New reference. */
json_t *cmd_event_to_json(const struct meta_event *event);
/* {"event": "lost", "value": how many}: there were events that this follower was too slow for. New reference. */
json_t *cmd_event_lost(uint64_t count);

#endif
