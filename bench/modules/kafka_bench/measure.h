/*
 * kafka_bench: clocks and times.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef KAFKA_BENCH_MEASURE_H
#define KAFKA_BENCH_MEASURE_H

#include <stdint.h>
#include <time.h>

/* The clock of all times. */
static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* The wall clock, for comparison with another process. */
static inline int64_t wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Each power of two has this many buckets, so a percentile is wrong by less than 1/128. */
#define TIMES_PARTS_BITS 7
#define TIMES_PARTS (1 << TIMES_PARTS_BITS)
#define TIMES_POWERS 34 /* up to 2^40 ns, a quarter of an hour */

/*! \brief A histogram of durations. All zero is empty. Constant, small memory keeps the histogram out of
 * memory measurements. No sorting is needed, so none is in a measurement of processor time. */
struct times {
	uint64_t count;
	int64_t worst; /* ns, exact */
	int64_t own;   /* ns: the maximum without a thread's waits for a processor */
	uint32_t buckets[TIMES_POWERS * TIMES_PARTS];
};

/*! \brief Count a duration in nanoseconds. */
static inline void times_add(struct times *times, int64_t ns)
{
	uint64_t value = ns < 0 ? 0 : ns;
	int power = 63 - __builtin_clzll(value | TIMES_PARTS) - TIMES_PARTS_BITS;
	uint64_t bucket = (value >> power) + ((uint64_t) power << TIMES_PARTS_BITS);

	times->buckets[bucket < TIMES_POWERS * TIMES_PARTS ? bucket : TIMES_POWERS * TIMES_PARTS - 1]++;
	times->count++;
	if (ns > times->worst) {
		times->worst = ns;
	}
}

/*! \brief Add another histogram. */
void times_merge(struct times *into, const struct times *from);

/*! \brief The time in nanoseconds above a share (0 to 1) of all; 0 for an empty histogram. */
int64_t times_percentile(const struct times *times, double share);

/*! \brief Print p50, p99, p99.9, the worst and the worst without waiting for a processor, a "name value" line each. */
void times_print(int fd, const struct times *times);

/*! \brief Cost of two reads of the clock, in nanoseconds, part of every time of a call. */
double clock_cost_ns(void);

/*! \brief A descriptor for queued_ns() by the calling thread; -1 where the kernel has none. */
int queued_open(void);

/*! \brief Total time that the opening thread was runnable without a processor, nanoseconds. */
int64_t queued_ns(int schedstat);

#endif
