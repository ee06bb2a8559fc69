/*
 * kafka_probe: records with delivery reports, counted.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef KAFKA_PROBE_REPORTED_H
#define KAFKA_PROBE_REPORTED_H

/* Registers the command; 0, or -1. */
int reported_load(void);

/* Ends the reports, and unregisters the command. */
void reported_unload(void);

#endif
