/*
 * res_kafka: names the kernel's limit behind a failed call, for the log.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "kernel_limits.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* A control group with less room than this counts as full. A dead engine has freed the room of its 10 to 20
 * threads. */
#define GROUP_ROOM 32

/* With less address space than this, pthread_create has no room for a stack. The C library reports EAGAIN then, as
 * for a limit of threads. */
#define STACK_ROOM (16ULL << 20)

#define GROUPS "/sys/fs/cgroup"

/* Version 1 has a number near INT64_MAX for "no limit". */
#define UNLIMITED (1ULL << 60)

static uint64_t soft_limit(pid_t pid, int resource)
{
	struct rlimit limit;

	return prlimit(pid, resource, NULL, &limit) ? RLIM_INFINITY : limit.rlim_cur;
}

void limits_read(pid_t pid, struct limits *limits)
{
	struct rlimit limit;

	limits->known = !prlimit(pid, RLIMIT_AS, NULL, &limit);
	limits->threads = soft_limit(pid, RLIMIT_NPROC);
	limits->descriptors = soft_limit(pid, RLIMIT_NOFILE);
	limits->addresses = soft_limit(pid, RLIMIT_AS);
}

/* A control group of this process, version 1 or 2, or one above it. */
struct group {
	char folder[PATH_MAX];
	size_t top; /* bytes of folder for the root of the hierarchy */
};

/* Finds the group of this process with a controller. */
static bool group_find(struct group *group, const char *controller)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		char *rest = line, *version, *controllers;

		version = strsep(&rest, ":");
		controllers = strsep(&rest, ":");
		if (!rest || (strcmp(controllers, controller) && (strcmp(version, "0") || *controllers))) {
			continue;
		}
		rest[strcspn(rest, "\n")] = '\0';
		group->top = sizeof(GROUPS) - 1 + (*controllers ? 1 + strlen(controllers) : 0);
		found = snprintf(group->folder, sizeof(group->folder), GROUPS "%s%s%s", *controllers ? "/" : "", controllers, rest)
			< (int) sizeof(group->folder);
	}
	if (file) {
		fclose(file);
	}
	return found;
}

/* Goes to the group above. A container may see its own group at the top of the hierarchy, instead of the
 * kernel's path. */
static bool group_up(struct group *group)
{
	char *slash = strrchr(group->folder, '/');

	if (strlen(group->folder) <= group->top || !slash) {
		return false;
	}
	*slash = '\0';
	return true;
}

/* Reads a number from a file of the group: the first word, or the word after key. Returns UINT64_MAX for a
 * missing file and for "max". */
static uint64_t group_number(const struct group *group, const char *name, const char *key)
{
	char path[PATH_MAX], text[64];
	uint64_t value = UINT64_MAX;
	size_t skip = key ? strlen(key) : 0;
	FILE *file;

	if (snprintf(path, sizeof(path), "%s/%s", group->folder, name) >= (int) sizeof(path) || !(file = fopen(path, "re"))) {
		return value;
	}
	while (fgets(text, sizeof(text), file)) {
		if (key && (strncmp(text, key, skip) || text[skip] != ' ')) {
			continue;
		}
		if (sscanf(text + skip, "%" SCNu64, &value) != 1) {
			value = UINT64_MAX;
		}
		break;
	}
	fclose(file);
	return value;
}

/* Finds the group without room for more threads. */
static bool find_full(struct group *group, uint64_t *max)
{
	if (!group_find(group, "pids")) {
		return false;
	}
	do {
		uint64_t now = group_number(group, "pids.current", NULL);

		*max = group_number(group, "pids.max", NULL);
		if (*max != UINT64_MAX && now != UINT64_MAX && now + GROUP_ROOM > *max) {
			return true;
		}
	} while (group_up(group));
	return false;
}

uint64_t limits_kills(void)
{
	struct group group;
	uint64_t kills = UINT64_MAX;

	if (group_find(&group, "memory")) {
		do {
			kills = group_number(&group, "memory.oom_control", "oom_kill"); /* version 1 */
			if (kills == UINT64_MAX) {
				kills = group_number(&group, "memory.events", "oom_kill");
			}
		} while (kills == UINT64_MAX && group_up(&group));
	}
	return kills == UINT64_MAX ? 0 : kills;
}

const char *limits_memory_words(char *text, size_t size)
{
	static const char *const names[] = { "memory.limit_in_bytes", "memory.max" };
	struct group group;
	size_t i;

	snprintf(text, size, "the kernel killed it for want of memory");
	if (!group_find(&group, "memory")) {
		return text;
	}
	do {
		for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
			uint64_t limit = group_number(&group, names[i], NULL);

			if (limit < UNLIMITED) {
				snprintf(text, size, "the kernel killed it for want of memory: %s of the control group %.200s is %" PRIu64 " MB; "
					"raise it, MemoryMax= in Asterisk's unit, or the container's limit", names[i], group.folder, limit >> 20);
				return text;
			}
		}
	} while (group_up(&group));
	return text;
}

/* How many bytes of addresses this process has left. */
static uint64_t addresses_left(uint64_t limit)
{
	unsigned long long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");
	uint64_t used;

	if (file) {
		if (fscanf(file, "%llu", &pages) != 1) {
			pages = 0;
		}
		fclose(file);
	}
	used = pages * sysconf(_SC_PAGESIZE);
	return limit > used ? limit - used : 0;
}

static void threads_words(uint64_t limit, char *text, size_t size)
{
	struct group group;
	uint64_t max;

	if (find_full(&group, &max)) {
		snprintf(text, size, "no thread is left: pids.max of the control group %.200s is %" PRIu64 "; raise it, or TasksMax= in "
			"Asterisk's unit", group.folder, max);
	} else if (limit == RLIM_INFINITY) {
		snprintf(text, size, "no thread is left; raise kernel.threads-max and kernel.pid_max");
	} else {
		snprintf(text, size, "no thread is left: RLIMIT_NPROC of this user is %" PRIu64 "; raise LimitNPROC= in Asterisk's unit, or ulimit -u",
			limit);
	}
}

static void addresses_words(int error, uint64_t limit, bool own, char *text, size_t size)
{
	if (limit == RLIM_INFINITY) {
		snprintf(text, size, "no memory is left (%s)", strerror(error));
	} else if (own) {
		snprintf(text, size, "no address space is left: RLIMIT_AS is %" PRIu64 " MB; raise LimitAS= in Asterisk's unit, or ulimit -v",
			limit >> 20);
	} else {
		snprintf(text, size, "no address space is left: RLIMIT_AS of the engine is %" PRIu64 " MB, which follows the limit of memory; "
			"raise MemoryMax= in Asterisk's unit, or the container's limit", limit >> 20);
	}
}

const char *limits_words(int error, const struct limits *engine, char *text, size_t size)
{
	struct limits own, of;

	limits_read(0, &own);
	of = engine && engine->known ? *engine : own;
	if (error == EAGAIN && !engine && of.addresses != RLIM_INFINITY && addresses_left(of.addresses) < STACK_ROOM) {
		error = ENOMEM;
	}
	switch (error) {
	case EAGAIN:
		threads_words(of.threads, text, size);
		break;
	case EMFILE:
		snprintf(text, size, "no descriptor is left: RLIMIT_NOFILE is %" PRIu64 "; raise maxfiles in asterisk.conf, or LimitNOFILE= in "
			"Asterisk's unit", of.descriptors);
		break;
	case ENOMEM:
		addresses_words(error, of.addresses, of.addresses == own.addresses, text, size);
		break;
	case EACCES:
		snprintf(text, size, "%s; the file must be executable, and its file system mounted without noexec", strerror(error));
		break;
	default:
		snprintf(text, size, "%s", strerror(error));
		break;
	}
	return text;
}

int limits_of_reason(const char *reason)
{
	static const char *const no_memory[] = {
		"errno=12", "cannot allocate", "out of memory", "failed to reserve", "cannot reserve", "cannot map pages",
	};
	size_t i;

	for (i = 0; i < sizeof(no_memory) / sizeof(*no_memory); i++) {
		if (strstr(reason, no_memory[i])) {
			return ENOMEM;
		}
	}
	if (strstr(reason, "failed to create new OS thread")) {
		return EAGAIN;
	}
	return strstr(reason, "failed with 24") ? EMFILE : 0;
}
