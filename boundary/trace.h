/*
 * res_kafka: an engine's standard error, saved for people. Knows nothing of Asterisk.
 *
 * A Go program first prints the reason of its end, possibly after much other output, and then its stacks. Output
 * from the reason on is kept as long as there is room; before the reason, the latest output is kept.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_TRACE_H
#define RES_KAFKA_TRACE_H

#include <stddef.h>
#include <sys/types.h>

/* Limit of the kept output, bytes. Go's trace of some hundred goroutines is 100 KiB. */
#define TRACE_SIZE (256 * 1024)

/* Number of files: the oldest is replaced. */
#define TRACE_FILES 8

struct trace {
	char *text; /* TRACE_SIZE bytes, NULL until something was read */
	size_t length;
};

/* trace_read reads without blocking. Returns 0, or -1 at the end of the pipe. */
int trace_read(struct trace *trace, int descriptor);

/* trace_reason copies the line with the reason of the engine's end, or the last line. Empty without any
 * output. Unprintable bytes become '?'. */
void trace_reason(const struct trace *trace, char *reason, size_t size);

/* trace_save writes the trace into a file of the folder and the file's path into path. Returns 0, or -1 with
 * errno. */
int trace_save(const struct trace *trace, const char *folder, const char *title, char *path, size_t size);

/* trace_forget frees the trace. */
void trace_forget(struct trace *trace);

#endif /* RES_KAFKA_TRACE_H */
