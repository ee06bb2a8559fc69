/*
 * res_kafka: names the kernel's limit behind a failed call, for the log. Independent of Asterisk.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_KERNEL_LIMITS_H
#define RES_KAFKA_KERNEL_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LIMITS_WORDS 384 /* bytes for the longest sentence */

/* Soft limits of the engine's process, see setrlimit(2); RLIM_INFINITY = none. */
struct limits {
	bool known;
	uint64_t threads, descriptors, addresses;
};

/* limits_read reads the limits of a process; the process may have ended. Never blocks. */
void limits_read(pid_t pid, struct limits *limits);

/* limits_words writes the limit behind an errno, its value, and how to raise it. For an errno without a
 * limit: the text of strerror. engine: the limits of the engine, for a failed call of the engine; NULL = of
 * this process. Reads files of /proc and of the control groups. Returns text. */
const char *limits_words(int error, const struct limits *engine, char *text, size_t size);

/* limits_of_reason returns the errno behind a line of the Go runtime: EAGAIN, EMFILE, ENOMEM, or 0 for other lines. */
int limits_of_reason(const char *reason);

/* limits_kills returns how many processes of this control group the kernel has killed for want of memory; 0 also when this is
 * not known. */
uint64_t limits_kills(void);

/* limits_memory_words writes that the kernel killed the engine, the limit of memory, and how to raise it.
 * Returns text. */
const char *limits_memory_words(char *text, size_t size);

#endif /* RES_KAFKA_KERNEL_LIMITS_H */
