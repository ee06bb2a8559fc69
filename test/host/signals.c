/*
 * res_kafka: that loading a Go library leaves the process its signals, and its threads theirs.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "host.h"

static volatile sig_atomic_t urgent;

void on_urgent(int signal)
{
	(void) signal;
	urgent++;
}

void handlers_are_the_hosts(void)
{
	struct sigaction now;

	sigaction(SIGURG, NULL, &now);
	CHECK(now.sa_handler == on_urgent);
	CHECK(!(now.sa_flags & SA_RESTART));
	sigaction(SIGPIPE, NULL, &now);
	CHECK(now.sa_handler == SIG_IGN);
	DONE();
}

/* How many threads other than ours there are, and whether each has the signal blocked. */
int unblocked_in_others(int signal, const int *ours, int count)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	int unblocked = 0, i;

	while (tasks && (task = readdir(tasks))) {
		char path[300], line[256];
		FILE *status;
		int tid = atoi(task->d_name);

		for (i = 0; i < count && ours[i] != tid; i++) {
		}
		if (!tid || i < count) {
			continue;
		}
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		status = fopen(path, "r");
		while (status && fgets(line, sizeof(line), status)) {
			unsigned long long mask;

			if (sscanf(line, "SigBlk: %llx", &mask) == 1 && !(mask >> (signal - 1) & 1)) {
				unblocked++;
			}
		}
		if (status) {
			fclose(status);
		}
	}
	if (tasks) {
		closedir(tasks);
	}
	return unblocked;
}

void its_threads_take_no_signals(void)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGTERM, SIGURG, SIGALRM, SIGUSR1, SIGUSR2, SIGWINCH };
	int ours[] = { getpid() };
	size_t i;

	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		int unblocked = unblocked_in_others(signals[i], ours, 1);

		CHECK(unblocked == 0, "%d thread(s) of the library take signal %d", unblocked, signals[i]);
	}
	DONE();
}

static void __attribute__((noinline)) raise_fault(volatile int *nowhere)
{
	*nowhere = 1;
}

/* A fault in C must still end the process by a signal, not be taken for one of Go's. */
void faults_elsewhere_still_end_the_process(void)
{
	pid_t child = fork();
	int status;

	if (!child) {
		struct rlimit none = { 0, 0 };
		int quiet = open("/dev/null", O_WRONLY);

		setrlimit(RLIMIT_CORE, &none);
		dup2(quiet, 2);
		alarm(20);
		raise_fault((volatile int *) 8);
		_exit(0);
	}
	waitpid(child, &status, 0);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) != SIGALRM, "status %x", status);
	DONE();
}

struct sleeper {
	int pipe[2];
	int use_poll;
	volatile int waiting;
	int result;
	int error;
};

static void *sleeper_run(void *arg)
{
	struct sleeper *sleeper = arg;
	struct pollfd fd = { sleeper->pipe[0], POLLIN, 0 };
	char byte;

	sleeper->waiting = 1;
	sleeper->result = sleeper->use_poll ? poll(&fd, 1, 10000) : (int) read(sleeper->pipe[0], &byte, 1);
	sleeper->error = errno;
	return NULL;
}

void threads_wake_on_sigurg(void)
{
	int use_poll, round;

	log_reset();
	CHECK(engine.resk_start(&the_host, &limits) == RESK_OK);
	CHECK(engine.resk_configure(ENTRIES(nobody)) == RESK_OK);
	for (use_poll = 0; use_poll < 2; use_poll++) {
		for (round = 0; round < 20; round++) {
			struct sleeper sleeper = { .use_poll = use_poll };
			struct timespec moment = { 0, 2000000 };
			pthread_t thread;
			int i;

			CHECK(!pipe(sleeper.pipe));
			pthread_create(&thread, NULL, sleeper_run, &sleeper);
			for (i = 0; i < 5000 && !sleeper.waiting; i++) {
				nanosleep(&moment, NULL);
			}
			/* Sent until it has answered: a signal may come before the thread has gone to sleep. */
			for (i = 0; i < 1000; i++) {
				struct timespec soon;

				pthread_kill(thread, SIGURG);
				clock_gettime(CLOCK_REALTIME, &soon);
				soon.tv_nsec += 10000000;
				if (soon.tv_nsec >= 1000000000) {
					soon.tv_sec++;
					soon.tv_nsec -= 1000000000;
				}
				if (!pthread_timedjoin_np(thread, NULL, &soon)) {
					break;
				}
			}
			CHECK(i < 1000, "a thread in %s is not woken", use_poll ? "poll" : "read");
			CHECK(sleeper.result == -1 && sleeper.error == EINTR, "%s: %d, errno %d", use_poll ? "poll" : "read",
				sleeper.result, sleeper.error);
			close(sleeper.pipe[0]);
			close(sleeper.pipe[1]);
		}
	}
	engine.resk_stop(0);
	CHECK(urgent >= 40);
	DONE();
}

static volatile sig_atomic_t children_elsewhere, children_here;
static __thread int forks_children;

static void on_child(int signal)
{
	(void) signal;
	if (forks_children) {
		children_here++;
	} else {
		children_elsewhere++;
	}
}

static void *fork_children(void *arg)
{
	int i;

	(void) arg;
	forks_children = 1;
	for (i = 0; i < 200; i++) {
		pid_t child = fork();

		if (!child) {
			_exit(0);
		}
		waitpid(child, NULL, 0);
	}
	return NULL;
}

/* The one signal that Go's threads insist on taking. The kernel offers it to the thread that forked first, and to
 * another one only when that one has a signal pending just then. */
void sigchld_goes_to_the_thread_that_forked(void)
{
	struct sigaction act = { .sa_handler = on_child, .sa_flags = SA_RESTART }, before;
	pthread_t thread;

	sigaction(SIGCHLD, &act, &before);
	pthread_create(&thread, NULL, fork_children, NULL);
	pthread_join(thread, NULL);
	sigaction(SIGCHLD, &before, NULL);
	CHECK(children_here > 50 * children_elsewhere, "here %d, elsewhere %d", (int) children_here, (int) children_elsewhere);
	DONE();
}
