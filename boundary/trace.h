/*
 * res_kafka: what an engine writes to standard error, kept for people. Knows nothing of Asterisk.
 *
 * The beginning is kept and the end, for a Go program says first why it ends, and whatever it printed before may be long.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_TRACE_H
#define RES_KAFKA_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Bytes that are kept of the beginning and, half of this at least, of the end. Go's trace of some hundred goroutines is
 * 100 KiB. */
#define TRACE_HEAD (192 * 1024)
#define TRACE_TAIL (64 * 1024)

/* Files that are kept: the oldest is replaced. */
#define TRACE_FILES 8

struct trace {
	char *head; /* TRACE_HEAD + TRACE_TAIL bytes, NULL until something was written */
	size_t head_length, tail_length;
	bool cut; /* something between the two is missing */
};

/* trace_read takes what can be read without blocking. Returns 0, or -1 when the pipe has ended. */
int trace_read(struct trace *trace, int descriptor);

/* trace_reason copies the line that says why the engine ended, or its last line. Empty when it wrote nothing. What cannot
 * be printed becomes '?'. */
void trace_reason(const struct trace *trace, char *reason, size_t size);

/* trace_save writes the trace into a file of the folder and its path into path. Returns 0, or -1 with errno. */
int trace_save(const struct trace *trace, const char *folder, const char *title, char *path, size_t size);

/* trace_forget frees what was read. */
void trace_forget(struct trace *trace);

#endif /* RES_KAFKA_TRACE_H */
