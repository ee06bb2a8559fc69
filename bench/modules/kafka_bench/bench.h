/*
 * kafka_bench: the commands.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#ifndef KAFKA_BENCH_BENCH_H
#define KAFKA_BENCH_BENCH_H

/* Each command prints "name value" lines, or one line "error MESSAGE". argv has the words after the command's
 * name; the caller has checked their number, argc. */

void bench_produce(int fd, int argc, const char *const *argv);
void bench_latency(int fd, const char *const *argv);
void bench_send(int fd, const char *const *argv);
void bench_drain(int fd, const char *const *argv);
void bench_open(int fd, const char *prefix, long connections, const char *topic);
void bench_usage(int fd);

struct rusage;

/*! \brief Print the result of getrusage(), each name with a prefix. */
void usage_print(int fd, const char *prefix, const struct rusage *used);

/*! \brief Release the producers of bench_open(). */
void bench_close(void);

#endif
