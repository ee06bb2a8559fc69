/*
 * call_probe: calls under load.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef CALL_PROBE_LOAD_H
#define CALL_PROBE_LOAD_H

/*!
 * \brief Place calls from several threads for some time, and print one line "name number" for each thing measured.
 *
 * \param fd Of the CLI.
 * \param to exten@context, as a Local channel takes it.
 * \param callers How many threads, each with one call at a time.
 * \param rate Calls a second of all of them together; 0 = as many as they can.
 * \param seconds For how long.
 */
void load_run(int fd, const char *to, int callers, double rate, double seconds);

#endif /* CALL_PROBE_LOAD_H */
