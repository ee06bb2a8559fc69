/*
 * kafka_probe: a consumer that looks for gaps.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef KAFKA_PROBE_LISTEN_H
#define KAFKA_PROBE_LISTEN_H

/* Registers the commands; 0, or -1. */
int listen_load(void);

/* Ends the subscription and unregisters the commands. */
void listen_unload(void);

#endif
