/*
 * res_kafka: starts and watches the engine's process: functions for other threads.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "supervisor_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "messages.h"

extern char **environ;

void supervisor_log(struct supervisor *supervisor, int level, const char *format, ...)
{
	char text[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	supervisor->options.log(level, text);
}

/* Copies the environment into one block, for free. */
static char **copy_environment(void)
{
	size_t count = 0, bytes = 0, length, i;
	char **copy, *at;

	for (; environ && environ[count]; count++) {
		bytes += strlen(environ[count]) + 1;
	}
	copy = calloc(1, (count + 1) * sizeof(*copy) + bytes);
	at = (char *) (copy + count + 1);
	for (i = 0; copy && i < count && environ[i]; i++) {
		length = strlen(environ[i]) + 1;
		if (length > bytes) {
			break; /* another thread has changed the environment meanwhile */
		}
		copy[i] = memcpy(at, environ[i], length);
		at += length;
		bytes -= length;
	}
	return copy;
}

void supervisor_free(struct supervisor *supervisor)
{
	if (!supervisor) {
		return;
	}
	if (supervisor->binary >= 0) {
		close(supervisor->binary);
	}
	if (supervisor->engine.pidfd >= 0) {
		close(supervisor->engine.pidfd); /* of an abandoned engine */
	}
	trace_forget(&supervisor->trace);
	free(supervisor->environment);
	free(supervisor->path);
	free(supervisor->trace_folder);
	pthread_cond_destroy(&supervisor->changed);
	pthread_mutex_destroy(&supervisor->lock);
	free(supervisor);
}

static struct supervisor *create(const struct supervisor_options *options)
{
	struct supervisor *supervisor = calloc(1, sizeof(*supervisor));
	char words[LIMITS_WORDS];

	if (!supervisor) {
		return NULL;
	}
	supervisor->options = *options;
	pthread_mutex_init(&supervisor->lock, NULL);
	clock_condition(&supervisor->changed);
	supervisor->engine = (struct spawned) { .pidfd = -1, .socket = -1, .errors = -1 };
	supervisor->silent_ms = -1;
	supervisor->binary = open(options->path, O_PATH | O_CLOEXEC);
	if (supervisor->binary < 0) {
		supervisor_log(supervisor, RESK_LOG_ERROR, "The Kafka engine %s cannot be opened; `make install` puts it beside res_kafka.so: %s",
			options->path, limits_words(errno, NULL, words, sizeof(words)));
		supervisor_free(supervisor);
		return NULL;
	}
	supervisor->path = strdup(options->path);
	supervisor->trace_folder = options->trace_folder ? strdup(options->trace_folder) : NULL;
	supervisor->environment = copy_environment();
	supervisor->options.path = supervisor->path;
	supervisor->options.trace_folder = supervisor->trace_folder;
	if (!supervisor->path || !supervisor->environment || (options->trace_folder && !supervisor->trace_folder)) {
		supervisor_free(supervisor);
		return NULL;
	}
	return supervisor;
}

/* Starts the thread with every signal blocked, so the thread handles none of Asterisk's signals. */
static int start_thread(struct supervisor *supervisor)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&supervisor->thread, NULL, supervisor_run, supervisor);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!error) {
		pthread_setname_np(supervisor->thread, "kafka-engine");
	}
	return error;
}

int supervisor_start(const struct supervisor_options *options, struct supervisor **supervisor)
{
	char words[LIMITS_WORDS];
	int error;

	*supervisor = create(options);
	if (*supervisor && (error = start_thread(*supervisor))) {
		supervisor_log(*supervisor, RESK_LOG_ERROR, "The thread that watches the Kafka engine cannot be started: %s",
			limits_words(error, NULL, words, sizeof(words)));
		supervisor_free(*supervisor);
		*supervisor = NULL;
	}
	return *supervisor ? 0 : -1;
}

void supervisor_ready(struct supervisor *supervisor)
{
	pthread_mutex_lock(&supervisor->lock);
	supervisor->ready_at = clock_now();
	supervisor->ever_ready = true;
	supervisor->status.attempt = 0;
	pthread_cond_broadcast(&supervisor->changed);
	pthread_mutex_unlock(&supervisor->lock);
}

int supervisor_wait_first(struct supervisor *supervisor, int timeout_ms)
{
	int64_t deadline = clock_deadline(timeout_ms);
	int result;

	pthread_mutex_lock(&supervisor->lock);
	while (!supervisor->ever_ready && !supervisor->failed
		&& clock_wait(&supervisor->changed, &supervisor->lock, deadline) != ETIMEDOUT) {
	}
	result = supervisor->ever_ready ? 0 : supervisor->failed ? -1 : 1;
	pthread_mutex_unlock(&supervisor->lock);
	return result;
}

/* Sets a flag for the thread. */
static void set(struct supervisor *supervisor, bool *flag)
{
	pthread_mutex_lock(&supervisor->lock);
	*flag = true;
	pthread_mutex_unlock(&supervisor->lock);
	peer_wake(supervisor->options.peer);
}

void supervisor_alive(struct supervisor *supervisor)
{
	set(supervisor, &supervisor->alive);
}

void supervisor_hurry(struct supervisor *supervisor)
{
	set(supervisor, &supervisor->hurry);
}

void supervisor_hasten(struct supervisor *supervisor)
{
	set(supervisor, &supervisor->hasten);
}

void supervisor_refuse(struct supervisor *supervisor, const char *why)
{
	pthread_mutex_lock(&supervisor->lock);
	supervisor->refused = why;
	pthread_mutex_unlock(&supervisor->lock);
	peer_wake(supervisor->options.peer);
}

void supervisor_status(struct supervisor *supervisor, struct supervisor_status *status)
{
	pthread_mutex_lock(&supervisor->lock);
	*status = supervisor->status;
	status->since_ms = clock_now() - supervisor->status.since_ms;
	pthread_mutex_unlock(&supervisor->lock);
}

void supervisor_stop(struct supervisor *supervisor, int grace_ms)
{
	if (!supervisor) {
		return;
	}
	pthread_mutex_lock(&supervisor->lock);
	supervisor->stop = true;
	supervisor->grace_ms = grace_ms;
	pthread_mutex_unlock(&supervisor->lock);
	peer_wake(supervisor->options.peer);
	pthread_join(supervisor->thread, NULL);
}
