/*
 * res_kafka: leaving slabs in the engine's inbox. Knows nothing of Asterisk.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_INBOX_H
#define RES_KAFKA_INBOX_H

#include <stddef.h>
#include <stdint.h>

#include "abi/engine.h"

/* inbox_put leaves a slab for connection id, not 0, and wakes the engine if it sleeps. kept as for resk_take; without it the
 * frames are copied and may be reused. Returns 0 when the slab is too long or there is no room, or no inbox: then resk_take is
 * to be called, which keeps the order. One thread at a time, the one that calls resk_take; never blocks. */
int inbox_put(struct resk_inbox *inbox, uint64_t id, void *frames, size_t length, int kept);

#endif /* RES_KAFKA_INBOX_H */
