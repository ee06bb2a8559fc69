/*
 * kafka_probe: many messages from many threads.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef KAFKA_PROBE_FLOOD_H
#define KAFKA_PROBE_FLOOD_H

/* Registers the commands; 0, or -1. */
int flood_load(void);

/* Ends the work of the commands, and unregisters them. */
void flood_unload(void);

#endif
