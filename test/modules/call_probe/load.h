/*
 * call_probe: calls under load.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef CALL_PROBE_LOAD_H
#define CALL_PROBE_LOAD_H

/*!
 * \brief Place calls from several threads for some time, and print one line "name number" for each
 * measurement.
 *
 * \param fd Of the CLI.
 * \param to exten@context, in the form of a Local channel.
 * \param callers Number of threads, each with one call at a time.
 * \param rate Calls a second of all callers together; 0 = no limit.
 * \param seconds Duration.
 */
void load_run(int fd, const char *to, int callers, double rate, double seconds);

#endif /* CALL_PROBE_LOAD_H */
