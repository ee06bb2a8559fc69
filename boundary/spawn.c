/*
 * res_kafka: a process of the engine: start and identity.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "spawn.h"

#include "kernel_limits.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

/* Descriptors below this have fixed numbers in the engine. */
#define FREE_DESCRIPTORS 16

/* Number of the program's descriptor in the child, because the C library can then close all others. */
#define BINARY (SUPERVISOR_SHARED + SUPERVISOR_HANDED)

#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 34)
#define HAS_CLOSEFROM 1
#else
#define HAS_CLOSEFROM 0
#endif

/* The child's ends of shared objects. */
enum { CHILD_ERRORS, CHILD_SOCKET, CHILD_HANDED, CHILD_BINARY = CHILD_HANDED + SUPERVISOR_HANDED, CHILD_ALL };

static void close_all(int *descriptors, int count)
{
	int i;

	for (i = 0; i < count; i++) {
		if (descriptors[i] >= 0) {
			close(descriptors[i]);
		}
		descriptors[i] = -1;
	}
}

/* Duplicates a descriptor to a number outside the child's fixed numbers. */
static int duplicate(int descriptor)
{
	return fcntl(descriptor, F_DUPFD_CLOEXEC, FREE_DESCRIPTORS);
}

/* Opens the socket and the pipe: ours into *engine, the child's into child. Returns 0, or -1 with errno. */
static int open_ends(const struct spawn_source *source, struct spawned *engine, int child[CHILD_ALL])
{
	int sockets[2], pipes[2], i, saved;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets)) {
		return -1;
	}
	if (pipe2(pipes, O_CLOEXEC)) {
		saved = errno;
		close_all(sockets, 2);
		errno = saved;
		return -1;
	}
	/* A dying Go program writes more than a page of stacks. With a pipe of one page the process exists until
	 * the supervisor reads, so the supervisor can read its limits before. */
	fcntl(pipes[0], F_SETPIPE_SZ, 4096);
	engine->socket = sockets[0];
	engine->errors = pipes[0];
	child[CHILD_SOCKET] = duplicate(sockets[1]);
	child[CHILD_ERRORS] = duplicate(pipes[1]);
	for (i = 0; i < SUPERVISOR_HANDED; i++) {
		child[CHILD_HANDED + i] = duplicate(source->handed[i]);
	}
	child[CHILD_BINARY] = source->binary < 0 ? -1 : duplicate(source->binary);
	saved = errno;
	close(sockets[1]);
	close(pipes[1]);
	errno = saved;
	for (i = 0; i < CHILD_ALL; i++) {
		if (child[i] < 0 && (i != CHILD_BINARY || source->binary >= 0)) {
			return -1;
		}
	}
	fcntl(engine->socket, F_SETFL, O_NONBLOCK);
	fcntl(engine->errors, F_SETFL, O_NONBLOCK);
	return 0;
}

static int fill_actions(posix_spawn_file_actions_t *actions, const int child[CHILD_ALL])
{
	int error = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	int i;

	error = error ? error : posix_spawn_file_actions_adddup2(actions, child[CHILD_ERRORS], STDOUT_FILENO);
	error = error ? error : posix_spawn_file_actions_adddup2(actions, child[CHILD_ERRORS], STDERR_FILENO);
	error = error ? error : posix_spawn_file_actions_adddup2(actions, child[CHILD_SOCKET], SUPERVISOR_SOCKET);
	for (i = 0; i < SUPERVISOR_HANDED && !error; i++) {
		error = posix_spawn_file_actions_adddup2(actions, child[CHILD_HANDED + i], SUPERVISOR_SHARED + i);
	}
#if HAS_CLOSEFROM
	if (!error && child[CHILD_BINARY] >= 0) {
		error = posix_spawn_file_actions_adddup2(actions, child[CHILD_BINARY], BINARY);
	}
	error = error ? error : posix_spawn_file_actions_addclosefrom_np(actions, BINARY + (child[CHILD_BINARY] >= 0));
#endif
	return error;
}

static int fill_attributes(posix_spawnattr_t *attributes)
{
	struct sched_param parameters = { 0 };
	short flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
	sigset_t signals;
	int error;

	sigfillset(&signals);
	error = posix_spawnattr_setsigdefault(attributes, &signals);
	sigemptyset(&signals);
	error = error ? error : posix_spawnattr_setsigmask(attributes, &signals);
	/* Under -p Asterisk is real-time, and children would inherit the class. */
	if (sched_getscheduler(0) != SCHED_OTHER) {
		flags |= POSIX_SPAWN_SETSCHEDULER;
		error = error ? error : posix_spawnattr_setschedpolicy(attributes, SCHED_OTHER);
		error = error ? error : posix_spawnattr_setschedparam(attributes, &parameters);
	}
#ifdef POSIX_SPAWN_SETSID
	flags |= POSIX_SPAWN_SETSID; /* a Ctrl-C at Asterisk's console is not for the engine */
#endif
	return error ? error : posix_spawnattr_setflags(attributes, flags);
}

/* Starts the program by its descriptor, or by its path without /proc. Returns an errno. */
static int start(const struct spawn_source *source, struct spawned *engine, const int child[CHILD_ALL])
{
	char *const arguments[] = { (char *) source->path, "engine", NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	char descriptor[32];
	int error = posix_spawn_file_actions_init(&actions);

	if (error) {
		return error;
	}
	if ((error = posix_spawnattr_init(&attributes))) {
		posix_spawn_file_actions_destroy(&actions);
		return error;
	}
	snprintf(descriptor, sizeof(descriptor), "/proc/self/fd/%d", HAS_CLOSEFROM ? BINARY : child[CHILD_BINARY]);
	error = fill_actions(&actions, child);
	error = error ? error : fill_attributes(&attributes);
	if (!error) {
		error = child[CHILD_BINARY] < 0 ? ENOENT
			: posix_spawn(&engine->pid, descriptor, &actions, &attributes, arguments, source->environment);
		if (error == ENOENT) {
			error = posix_spawn(&engine->pid, source->path, &actions, &attributes, arguments, source->environment);
		}
	}
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

int spawn_engine(const struct spawn_source *source, struct spawned *engine, char *why, size_t size)
{
	int child[CHILD_ALL] = { -1, -1, -1, -1, -1, -1 };
	int error;

	_Static_assert(CHILD_ALL == 6, "the initializer above");
	*engine = (struct spawned) { .pidfd = -1, .socket = -1, .errors = -1 };
	error = open_ends(source, engine, child) ? errno : 0;
	if (!error) {
		/* A child reaped before the pidfd is opened could make the number another process's. */
		if (source->keep_children) {
			source->keep_children(1);
		}
		error = start(source, engine, child);
		if (!error) {
			engine->pidfd = syscall(SYS_pidfd_open, engine->pid, 0);
		}
		if (source->keep_children) {
			source->keep_children(0);
		}
	}
	close_all(child, CHILD_ALL);
	if (error) {
		close_all(&engine->socket, 1);
		close_all(&engine->errors, 1);
		engine->pid = 0;
		limits_words(error, NULL, why, size);
		return -1;
	}
	return 0;
}

void spawn_signal(const struct spawned *engine, int signal)
{
	if (engine->pidfd >= 0) {
		syscall(SYS_pidfd_send_signal, engine->pidfd, signal, NULL, 0);
	}
}

bool spawn_is_dead(struct spawned *engine, struct spawn_end *end)
{
	struct pollfd poll_pidfd = { .fd = engine->pidfd, .events = POLLIN };
	pid_t reaped;

	if (engine->pidfd >= 0 && poll(&poll_pidfd, 1, 0) != 1) {
		return false;
	}
	do {
		reaped = waitpid(engine->pid, &end->status, WNOHANG);
	} while (reaped < 0 && errno == EINTR);
	if (!reaped && engine->pidfd < 0) {
		return false; /* neither reaped nor dead */
	}
	end->known = reaped == engine->pid;
	close_all(&engine->pidfd, 1);
	engine->pid = 0;
	return true;
}
