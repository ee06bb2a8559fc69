/*
 * res_kafka: what `kafka show status` says of the engine.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Process, time, memory and restarts of the engine.
 */

#include "asterisk.h"

#include "asterisk/strings.h"

#include "engine_internal.h"

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
	/* After the name: state, and ten numbers that are of no interest here; then times, and eight numbers later the pages. */
	if (!end || sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %*u %*u %ld",
		&user, &system, kilobytes) != 3) {
		return -1;
	}
	*kilobytes *= sysconf(_SC_PAGESIZE) / 1024;
	*seconds = (double) (user + system) / sysconf(_SC_CLK_TCK);
	return 0;
}

void engine_status(struct ast_str **text)
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
	ast_str_append(text, 0, "  Restarts:        %u\n", status.deaths);
	if (status.deaths) {
		ast_str_append(text, 0, "  The last one:    %s\n", status.last);
	}
}
