/*
 * res_kafka: tests of the socket to the engine, and of the supervisor with engines that die, hang, or send
 * damaged frames. The program is both sides: `PROGRAM engine` is an engine (engine.c).
 *
 *     supervisor [slow]    prints a line "ok NAME" or "not ok NAME: why" for each case; exit status 1 if any failed
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <dirent.h>
#include <sys/eventfd.h>

#include "kit.h"

static int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (dir && readdir(dir)) {
		count++;
	}
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	struct sigaction child = { .sa_handler = reap, .sa_flags = SA_RESTART };
	int before, i;

	if (argc > 1 && !strcmp(argv[1], "engine")) {
		return be_engine();
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(folder, sizeof(folder), "/tmp/res_kafka-supervisor.XXXXXX");
	if (!mkdtemp(folder)) {
		return 2;
	}
	setenv("RES_KAFKA_TEST_ENGINE", folder, 1);
	sigaction(SIGCHLD, &child, NULL);
	alarm(240); /* nothing here may hang a test run */
	for (i = 0; i < SUPERVISOR_HANDED; i++) {
		handed[i] = eventfd(0, EFD_CLOEXEC);
	}
	before = count_descriptors();
	run_cases(argc > 1 && !strcmp(argv[1], "slow"));
	if (count_descriptors() != before) {
		printf("not ok supervisor/descriptors: %d, then %d\n", before, count_descriptors());
		failures++;
	}
	snprintf(logged, sizeof(logged), "rm -rf %s", folder);
	return system(logged) || failures ? 1 : 0;
}
