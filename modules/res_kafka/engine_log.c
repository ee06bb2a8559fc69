/*
 * res_kafka: the engine's log and state.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Lines for Asterisk's log, which members subscriptions are, and the engine's state.
 */

#include "asterisk.h"

#include "asterisk/logger.h"
#include "asterisk/strings.h"
#include "asterisk/utils.h"

#include "internal.h"

static void write_log(int level, const char *file, int line, const char *function, const char *text)
{
	static const int levels[] = {
		[RESK_LOG_DEBUG] = __LOG_DEBUG,
		[RESK_LOG_NOTICE] = __LOG_NOTICE,
		[RESK_LOG_WARNING] = __LOG_WARNING,
		[RESK_LOG_ERROR] = __LOG_ERROR,
	};

	if (level < 0 || level >= (int) ARRAY_LEN(levels)) {
		level = RESK_LOG_ERROR;
	}
	if (level == RESK_LOG_DEBUG && !DEBUG_ATLEAST(1)) {
		return;
	}
	ast_log(levels[level], file, line, function, "%s\n", text);
}

void engine_supervisor_says(int level, const char *text)
{
	write_log(level, __FILE__, __LINE__, "supervisor", text);
}

/* Copies a text of the engine without characters unfit for a log. */
static char *printable(char *copy, size_t size, const char *text)
{
	char *at;

	ast_copy_string(copy, text, size);
	for (at = copy; *at; at++) {
		if ((unsigned char) *at < ' ' || *at == 0x7f) {
			*at = ' ';
		}
	}
	return copy;
}

void engine_says(uint16_t kind, struct boundary_reader *fields)
{
	char file[64], function[64], text[4096];
	int32_t level, line;

	if (kind == BOUNDARY_MEMBER) {
		uint64_t number = boundary_get_number(fields);
		const char *member = boundary_get_string(fields);

		if (!fields->failed) {
			subscriptions_member(number, member);
		}
	} else if (kind == BOUNDARY_LOG) {
		level = boundary_get_int32(fields);
		printable(file, sizeof(file), boundary_get_string(fields));
		line = boundary_get_int32(fields);
		printable(function, sizeof(function), boundary_get_string(fields));
		printable(text, sizeof(text), boundary_get_string(fields));
		if (!fields->failed) {
			write_log(level, file, line, function, text);
		}
	} else {
		engine_refuse("it sent a message of an unknown kind");
		return;
	}
	if (boundary_end(fields)) {
		engine_broken();
	}
}

/* Reads memory and processor time of a process. Returns 0, or -1. */
static int read_usage(pid_t pid, long *kilobytes, double *seconds)
{
	unsigned long user, system;
	char path[64], line[1024];
	char *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
	file = fopen(path, "re");
	end = file && fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
	if (file) {
		fclose(file);
	}
	/* Fields of /proc/PID/stat after the name: state, ten numbers, the two times, eight numbers, the
	 * pages. */
	if (!end || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %*u %*u %ld",
		&user, &system, kilobytes) != 3) {
		return -1;
	}
	*kilobytes *= sysconf(_SC_PAGESIZE) / 1024;
	*seconds = (double) (user + system) / sysconf(_SC_CLK_TCK);
	return 0;
}

void engine_status(int silent_ms, struct ast_str **text)
{
	struct supervisor_status status = { 0 };
	long kilobytes;
	double seconds;

	engine_supervised(&status);
	ast_str_append(text, 0, "\nEngine:\n");
	if (!status.pid || !engine_now()) {
		ast_str_append(text, 0, "  restarting, attempt %u, since %lld s\n", status.attempt, (long long) status.since_ms / 1000);
	} else {
		ast_str_append(text, 0, "  Process id:      %d\n  Running for:     %lld s\n", (int) status.pid, (long long) status.since_ms / 1000);
		if (!read_usage(status.pid, &kilobytes, &seconds)) {
			ast_str_append(text, 0, "  Memory:          %ld kB\n  Processor time:  %.2f s\n", kilobytes, seconds);
		}
	}
	if (silent_ms) {
		ast_str_append(text, 0, "  No answer:       within %d ms; after %d s of silence the engine is replaced\n", silent_ms, SUPERVISOR_SILENCE_MS / 1000);
	}
	ast_str_append(text, 0, "  Restarts:        %u\n", status.deaths);
	if (status.deaths) {
		ast_str_append(text, 0, "  The last one:    %s\n", status.last);
	}
}
