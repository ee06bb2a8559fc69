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

/* The clock that times are taken with. */
static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Each power of two is divided into so many buckets, so that a percentile is wrong by less than 1/128. */
#define TIMES_PARTS_BITS 7
#define TIMES_PARTS (1 << TIMES_PARTS_BITS)
#define TIMES_POWERS 34 /* up to 2^40 ns, a quarter of an hour */

/*! \brief How often something took how long. All zero is an empty one. Its memory is small and always the same, so that it
 * is in no measurement of memory and needs no sorting, which would be in a measurement of processor time. */
struct times {
	uint64_t count;
	int64_t worst; /* ns, exact */
	int64_t own;   /* ns: the worst when what a thread waited for a processor does not count */
	uint32_t buckets[TIMES_POWERS * TIMES_PARTS];
};

/*! \brief Count one time of so many nanoseconds. */
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

/*! \brief Add what another one has counted. */
void times_merge(struct times *into, const struct times *from);

/*! \brief The time in nanoseconds that a share (0 to 1) of all is not above; 0 when there is none. */
int64_t times_percentile(const struct times *times, double share);

/*! \brief Print p50, p99, p99.9, the worst and the worst without waiting for a processor, a "name value" line each. */
void times_print(int fd, const struct times *times);

/*! \brief What one pair of readings of the clock costs, in nanoseconds: it is in every time of a call. */
double clock_cost_ns(void);

/*! \brief A descriptor for queued_ns() by the calling thread; -1 where the kernel has none. */
int queued_open(void);

/*! \brief How long the thread that opened it has been ready to run without a processor, in all, nanoseconds. */
int64_t queued_ns(int schedstat);

#endif
