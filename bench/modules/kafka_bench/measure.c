/*
 * kafka_bench: clocks and times.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#include "asterisk.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "asterisk/cli.h"
#include "asterisk/utils.h"

#include "measure.h"

void times_merge(struct times *into, const struct times *from)
{
	int i;

	for (i = 0; i < TIMES_POWERS * TIMES_PARTS; i++) {
		into->buckets[i] += from->buckets[i];
	}
	into->count += from->count;
	into->worst = MAX(into->worst, from->worst);
	into->own = MAX(into->own, from->own);
}

int64_t times_percentile(const struct times *times, double share)
{
	uint64_t wanted = share * times->count, seen = 0;
	int i;

	if (!times->count) {
		return 0;
	}
	for (i = 0; i < TIMES_POWERS * TIMES_PARTS; i++) {
		seen += times->buckets[i];
		if (seen > wanted) {
			/* The inverse of times_add(): the lower end of a bucket, plus half of its width. */
			int power = MAX(i / TIMES_PARTS - 1, 0);
			int64_t parts = i - power * TIMES_PARTS;

			return MIN((parts << power) + ((1LL << power) >> 1), times->worst);
		}
	}
	return times->worst;
}

void times_print(int fd, const struct times *times)
{
	ast_cli(fd, "p50_ns %lld\np99_ns %lld\np99_9_ns %lld\nmax_ns %lld\nown_max_ns %lld\n",
		(long long) times_percentile(times, 0.5), (long long) times_percentile(times, 0.99),
		(long long) times_percentile(times, 0.999), (long long) times->worst, (long long) times->own);
}

double clock_cost_ns(void)
{
	enum { TRIES = 50, PAIRS = 1000 };
	int64_t least = INT64_MAX;
	int try, i;

	/* The minimum of several tries, without any wait for a processor. */
	for (try = 0; try < TRIES; try++) {
		int64_t in_pairs = 0;

		for (i = 0; i < PAIRS; i++) {
			int64_t before = now_ns();

			in_pairs += now_ns() - before;
		}
		least = MIN(least, in_pairs);
	}
	return (double) least / PAIRS;
}

int queued_open(void)
{
	return open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

int64_t queued_ns(int schedstat)
{
	char text[96];
	ssize_t length = schedstat < 0 ? -1 : pread(schedstat, text, sizeof(text) - 1, 0);
	unsigned long long ran, queued;

	text[MAX(length, 0)] = '\0';
	return sscanf(text, "%llu %llu", &ran, &queued) == 2 ? queued : 0;
}
