/*
 * res_kafka: time on CLOCK_MONOTONIC, which no user can set, and timed waits. Knows nothing of Asterisk.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_CLOCK_H
#define RES_KAFKA_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* clock_now returns the time in ms. */
static inline int64_t clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* clock_condition initializes a condition for clock_wait. Returns 0 or an errno value. */
static inline int clock_condition(pthread_cond_t *condition)
{
	pthread_condattr_t attributes;
	int error;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	error = pthread_cond_init(condition, &attributes);
	pthread_condattr_destroy(&attributes);
	return error;
}

/* clock_deadline returns the time after timeout_ms; a negative timeout is no deadline. */
static inline int64_t clock_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? INT64_MAX : clock_now() + timeout_ms;
}

/* clock_wait waits for the condition. Caller must hold the lock. Returns 0, or ETIMEDOUT after the deadline. */
static inline int clock_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int64_t deadline)
{
	struct timespec at = { .tv_sec = deadline / 1000, .tv_nsec = deadline % 1000 * 1000000 };

	return deadline == INT64_MAX ? pthread_cond_wait(condition, lock) : pthread_cond_timedwait(condition, lock, &at);
}

#endif /* RES_KAFKA_CLOCK_H */
