/*
 * res_kafka: the first steps of our threads in Asterisk.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_BOUNDARY_THREAD_H
#define RES_KAFKA_BOUNDARY_THREAD_H

#include <pthread.h>
#include <sched.h>

/* Returns the calling thread to ordinary scheduling. Under `asterisk -p` a new thread inherits the real-time
 * class of its creator, and a flood of records would delay media threads. A process may always leave the
 * class. */
static inline void thread_leave_real_time(void)
{
	struct sched_param parameters = { 0 };

	pthread_setschedparam(pthread_self(), SCHED_OTHER, &parameters);
}

#endif
