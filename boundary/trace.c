/*
 * res_kafka: an engine's standard error, saved for people.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "res_kafka-engine"

static void keep(struct trace *trace, const char *bytes, size_t length)
{
	size_t first = TRACE_HEAD - trace->head_length;
	char *tail = trace->head + TRACE_HEAD;

	if (first > length) {
		first = length;
	}
	memcpy(trace->head + trace->head_length, bytes, first);
	trace->head_length += first;
	bytes += first;
	length -= first;
	while (length > 0) {
		size_t part = TRACE_TAIL - trace->tail_length;

		if (!part) {
			trace->tail_length /= 2;
			memmove(tail, tail + trace->tail_length, trace->tail_length);
			trace->cut = true;
			continue;
		}
		part = part < length ? part : length;
		memcpy(tail + trace->tail_length, bytes, part);
		trace->tail_length += part;
		bytes += part;
		length -= part;
	}
}

int trace_read(struct trace *trace, int descriptor)
{
	char bytes[4096];
	int i;

	for (i = 0; i < 64; i++) { /* the pipe's 64 KiB, and back to other work */
		ssize_t n = read(descriptor, bytes, sizeof(bytes));

		if (n < 0) {
			return errno == EAGAIN || errno == EINTR ? 0 : -1;
		}
		if (!n) {
			return -1;
		}
		if (!trace->head) {
			trace->head = malloc(TRACE_HEAD + TRACE_TAIL);
		}
		if (trace->head) {
			keep(trace, bytes, n);
		}
	}
	return 0;
}

static bool begins(const char *line, size_t length, const char *with)
{
	return length >= strlen(with) && !memcmp(line, with, strlen(with));
}

/* Returns whether a line is the first line of the Go runtime at the end of a program. */
static bool is_reason(const char *line, size_t length)
{
	return begins(line, length, "panic: ") || begins(line, length, "fatal error: ") || begins(line, length, "runtime: ")
		|| begins(line, length, "SIG") || begins(line, length, "unexpected fault address");
}

/* Finds the first line with a reason for the end of the program, or the last line. Returns whether there is a
 * reason; without any line *found is unchanged. */
static bool find_reason(const char *line, size_t size, const char **found, size_t *length)
{
	const char *end = line + size;

	while (size && line < end) {
		const char *newline = memchr(line, '\n', end - line);
		size_t here = (newline ? newline : end) - line;

		if (here) {
			*found = line;
			*length = here;
		}
		if (is_reason(line, here)) {
			return true;
		}
		line += here + 1;
	}
	return false;
}

void trace_reason(const struct trace *trace, char *reason, size_t size)
{
	const char *found = NULL;
	size_t length = 0, i;

	reason[0] = '\0';
	if (trace->head && !find_reason(trace->head, trace->head_length, &found, &length)) {
		find_reason(trace->head + TRACE_HEAD, trace->tail_length, &found, &length);
	}
	for (i = 0; found && i < length && i + 1 < size; i++) {
		reason[i] = found[i] >= ' ' && found[i] <= '~' ? found[i] : '?';
		reason[i + 1] = '\0';
	}
}

/* Chooses the file to write: a missing file, else the oldest. */
static void choose(const char *folder, char *path, size_t size)
{
	struct timespec oldest = { 0 };
	char candidate[PATH_MAX];
	struct stat status;
	int i;

	path[0] = '\0';
	for (i = 1; i <= TRACE_FILES; i++) {
		snprintf(candidate, sizeof(candidate), "%s/" FILE_NAME ".%d.trace", folder, i);
		if (lstat(candidate, &status)) {
			snprintf(path, size, "%s", candidate);
			return;
		}
		if (!path[0] || status.st_mtim.tv_sec < oldest.tv_sec
			|| (status.st_mtim.tv_sec == oldest.tv_sec && status.st_mtim.tv_nsec < oldest.tv_nsec)) {
			snprintf(path, size, "%s", candidate);
			oldest = status.st_mtim;
		}
	}
}

static int write_all(int descriptor, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t n = write(descriptor, bytes, length);

		if (n < 0 && errno != EINTR) {
			return -1;
		}
		if (n > 0) {
			bytes += n;
			length -= n;
		}
	}
	return 0;
}

int trace_save(const struct trace *trace, const char *folder, const char *title, char *path, size_t size)
{
	static const char missing[] = "\n... (left out) ...\n";
	int descriptor, result, saved;

	choose(folder, path, size);
	unlink(path);
	descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (descriptor < 0) {
		return -1;
	}
	result = write_all(descriptor, title, strlen(title));
	result = result ? result : write_all(descriptor, trace->head, trace->head_length);
	result = result || !trace->cut ? result : write_all(descriptor, missing, sizeof(missing) - 1);
	result = result || !trace->head ? result : write_all(descriptor, trace->head + TRACE_HEAD, trace->tail_length);
	saved = errno;
	close(descriptor);
	errno = saved;
	return result;
}

void trace_forget(struct trace *trace)
{
	free(trace->head);
	memset(trace, 0, sizeof(*trace));
}
