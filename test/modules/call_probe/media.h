/*
 * call_probe: the clock of a media thread.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef CALL_PROBE_MEDIA_H
#define CALL_PROBE_MEDIA_H

/*! \brief Register the commands. \retval 0 Success. \retval -1 Failure. */
int media_load(void);

/*! \brief End the thread, and unregister the commands. */
void media_unload(void);

#endif /* CALL_PROBE_MEDIA_H */
