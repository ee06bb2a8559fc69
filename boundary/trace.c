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
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "res_kafka-engine"

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
 * reason; without any line *found is NULL. */
static bool find_reason(const struct trace *trace, const char **found, size_t *length)
{
	const char *line = trace->text ? trace->text : "", *end = line + trace->length;

	*found = NULL;
	*length = 0;
	while (line < end) {
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

/* Makes room in a full trace, unless it has the reason already. */
static void make_room(struct trace *trace)
{
	const char *unused;
	size_t length;

	if (trace->length == TRACE_SIZE && !find_reason(trace, &unused, &length)) {
		trace->length /= 2;
		memmove(trace->text, trace->text + trace->length, trace->length);
	}
}

int trace_read(struct trace *trace, int descriptor)
{
	char dropped[4096];
	int i;

	for (i = 0; i < 64; i++) { /* then back to other work */
		size_t room;
		ssize_t n;

		make_room(trace);
		trace->text = trace->text ? trace->text : malloc(TRACE_SIZE);
		room = trace->text ? TRACE_SIZE - trace->length : 0;
		n = room ? read(descriptor, trace->text + trace->length, room) : read(descriptor, dropped, sizeof(dropped));
		if (n <= 0) {
			return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
		}
		trace->length += room ? n : 0;
	}
	return 0;
}

void trace_reason(const struct trace *trace, char *reason, size_t size)
{
	const char *found;
	size_t length, i;

	find_reason(trace, &found, &length);
	length = length < size ? length : size - 1;
	for (i = 0; i < length; i++) {
		reason[i] = found[i] >= ' ' && found[i] <= '~' ? found[i] : '?';
	}
	reason[length] = '\0';
}

/* Chooses the file to write: a missing file, else the oldest. */
static void choose(const char *folder, char *path, size_t size)
{
	int64_t oldest = INT64_MAX, age;
	char candidate[PATH_MAX];
	struct stat status;
	int i;

	for (i = 1; i <= TRACE_FILES; i++) {
		snprintf(candidate, sizeof(candidate), "%s/" FILE_NAME ".%d.trace", folder, i);
		if (lstat(candidate, &status)) {
			snprintf(path, size, "%s", candidate);
			return;
		}
		age = status.st_mtim.tv_sec * INT64_C(1000000000) + status.st_mtim.tv_nsec;
		if (age < oldest) {
			snprintf(path, size, "%s", candidate);
			oldest = age;
		}
	}
}

int trace_save(const struct trace *trace, const char *folder, const char *title, char *path, size_t size)
{
	int descriptor, failed, saved;
	FILE *file;

	choose(folder, path, size);
	unlink(path);
	descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (descriptor < 0) {
		return -1;
	}
	if (!(file = fdopen(descriptor, "w"))) {
		close(descriptor);
		return -1;
	}
	failed = fputs(title, file) < 0 || fwrite(trace->text, 1, trace->length, file) < trace->length || fflush(file);
	saved = errno;
	fclose(file);
	errno = saved;
	return failed ? -1 : 0;
}

void trace_forget(struct trace *trace)
{
	free(trace->text);
	memset(trace, 0, sizeof(*trace));
}
