/*
 * res_kafka: common parts of the stage's tests: checks, cases, an owner with counts of the stage's frames in
 * the engine.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_TEST_STAGE_CHECK_H
#define RES_KAFKA_TEST_STAGE_CHECK_H

#include <dirent.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "rig.h"
#include "../../stage/internal.h"

#define MILLISECOND INT64_C(1000000)
#define SECOND      (1000 * MILLISECOND)
#define HOUR        (3600 * SECOND)

/* No successful wait takes this long. */
#define FOREVER_SECONDS 20

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #condition); \
			exit(1); \
		} \
	} while (0)

#define CHECK_EQUAL(a, b) \
	do { \
		long long a_ = (long long) (a); \
		long long b_ = (long long) (b); \
		if (a_ != b_) { \
			fprintf(stderr, "%s:%d: %s: %s is %lld, %s is %lld\n", __FILE__, __LINE__, __func__, #a, a_, #b, b_); \
			exit(1); \
		} \
	} while (0)

#define RUN(test) \
	do { \
		test(); \
		printf("ok %s: %s\n", strrchr("/" __FILE__, '/') + 1, #test); \
		fflush(stdout); \
	} while (0)

static inline int64_t get(const int64_t *field)
{
	return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static inline void set(int64_t *field, int64_t value)
{
	__atomic_store_n(field, value, __ATOMIC_RELAXED);
}

static inline void add(int64_t *field, int64_t value)
{
	__atomic_fetch_add(field, value, __ATOMIC_RELAXED);
}

/* random_next is a small generator (xorshift), with a state per thread, for repeatable runs. */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* An owner: a stage, its gate, and counts for other threads to wait for. A test's own taker may embed an
 * owner. */
struct owner {
	struct stage *stage;
	struct resk_gate *gate;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int64_t frames; /* under lock, as all below */
	int64_t charge;
	int64_t bytes;
	int64_t calls;
	int64_t notes;
	bool done_elsewhere; /* the test marks frames as done */
	void (*frame)(struct owner *owner, const struct stage_frame *frame); /* NULL = only count; without the lock */
	void (*noted)(struct owner *owner, unsigned int slot, uint64_t count, const char *text);
};

/* frame_done marks a frame as no longer needed. */
static inline void frame_done(const struct stage_frame *frame)
{
	__atomic_store_n((uint32_t *) &frame->state, STAGE_FRAME_DONE, __ATOMIC_RELEASE);
}

static inline void owner_take(void *context, void *frames, size_t length, int durable)
{
	struct owner *owner = context;
	unsigned char *at = frames;
	unsigned char *end = at + length;
	int64_t count = 0;
	int64_t charge = 0;
	int64_t bytes = 0;

	(void) durable;
	CHECK(length > 0);
	while (at < end) {
		const struct stage_frame *frame = (const struct stage_frame *) at;

		CHECK_EQUAL((uintptr_t) at % 8, 0);
		CHECK_EQUAL(frame->state, STAGE_FRAME_READY);
		CHECK_EQUAL(frame->size, (sizeof(*frame) + frame->length + 7) / 8 * 8);
		CHECK(frame->size <= (size_t) (end - at));
		count++;
		charge += frame->charge;
		bytes += frame->length;
		if (owner->frame) {
			owner->frame(owner, frame);
		}
		at += frame->size;
		if (!owner->done_elsewhere) {
			frame_done(frame);
		}
	}
	pthread_mutex_lock(&owner->lock);
	owner->frames += count;
	owner->charge += charge;
	owner->bytes += bytes;
	owner->calls++;
	pthread_cond_broadcast(&owner->changed);
	pthread_mutex_unlock(&owner->lock);
}

/* test_folder returns the folder of slabs in a test built with SHARED, else NULL. */
static inline const char *test_folder(void);

static inline void owner_note(void *context, unsigned int slot, uint64_t count, const char *text)
{
	struct owner *owner = context;

	CHECK(slot < STAGE_NOTE_SLOTS);
	CHECK(count > 0);
	CHECK(strlen(text) < STAGE_NOTE_TEXT);
	if (owner->noted) {
		owner->noted(owner, slot, count, text);
	}
	pthread_mutex_lock(&owner->lock);
	owner->notes += count;
	pthread_cond_broadcast(&owner->changed);
	pthread_mutex_unlock(&owner->lock);
}


/* owner_open creates the owner's stage, practically without limits. */
static inline void owner_open(struct owner *owner, struct stage_pump *pump, int64_t linger)
{
	pthread_mutex_init(&owner->lock, NULL);
	pthread_cond_init(&owner->changed, NULL);
	owner->stage = stage_create(pump, owner, "test");
	CHECK(owner->stage != NULL);
	rig.owners[stage_number(owner->stage)] = owner;
	owner->gate = stage_gate(owner->stage);
	CHECK_EQUAL(get(&owner->gate->open), 0);
	set(&owner->gate->max_frames, INT64_MAX / 2);
	set(&owner->gate->max_charge, INT64_MAX / 2);
	set(&owner->gate->max_length, INT64_MAX / 2);
	set(&owner->gate->linger_ns, linger);
	set(&owner->gate->shared, test_folder() != NULL);
	set(&owner->gate->open, 1);
}

/* owner_destroy destroys the stage; the engine has all frames at its return. */
static inline void owner_destroy(struct owner *owner)
{
	stage_destroy(owner->stage);
	rig_settle();
}

/* flush waits until the engine has got everything. */
static inline void flush(struct stage *stage)
{
	CHECK(stage_flush(stage, FOREVER_SECONDS * SECOND));
	rig_settle();
}

static inline void owner_close(struct owner *owner)
{
	set(&owner->gate->open, 0);
	owner_destroy(owner);
	owner->stage = NULL;
}

/* owner_wait waits until *field (a count under the owner's lock) has reached value. */
static inline void owner_wait(struct owner *owner, const int64_t *field, int64_t value)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += FOREVER_SECONDS;
	pthread_mutex_lock(&owner->lock);
	while (*field < value) {
		CHECK_EQUAL(pthread_cond_timedwait(&owner->changed, &owner->lock, &limit), 0);
	}
	pthread_mutex_unlock(&owner->lock);
}

static inline int64_t owner_get(struct owner *owner, const int64_t *field)
{
	int64_t value;

	pthread_mutex_lock(&owner->lock);
	value = *field;
	pthread_mutex_unlock(&owner->lock);
	return value;
}

/* held_frames and held_charge return the stage's use of its limits. */
static inline int64_t held_frames(const struct stage *stage)
{
	return __atomic_load_n(&stage->put_frames, __ATOMIC_RELAXED) - get(&stage->gate->done_frames);
}

static inline int64_t held_charge(const struct stage *stage)
{
	return __atomic_load_n(&stage->put_charge, __ATOMIC_RELAXED) - get(&stage->gate->done_charge);
}

/* put_bytes puts a frame of length bytes, all equal to `byte`, with this charge. */
static inline enum stage_result put_bytes(struct stage *stage, int byte, size_t length, uint32_t charge)
{
	unsigned char *bytes = malloc(length + 1);
	struct iovec part = { .iov_base = bytes, .iov_len = length };
	enum stage_result result;

	CHECK(bytes != NULL);
	memset(bytes, byte, length);
	result = stage_put(stage, &part, 1, charge, false);
	free(bytes);
	return result;
}

static inline pthread_t start(void *(*body)(void *), void *argument)
{
	pthread_t thread;

	CHECK_EQUAL(pthread_create(&thread, NULL, body, argument), 0);
	return thread;
}

#ifdef SHARED
static char shared_folder[] = "/dev/shm/res_kafka-test-XXXXXX";

/* remove_folder removes a folder of slabs. */
static inline void remove_folder(const char *path)
{
	DIR *folder = opendir(path);
	struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		unlinkat(dirfd(folder), entry->d_name, 0);
	}
	if (folder) {
		closedir(folder);
	}
	rmdir(path);
}

static inline void remove_shared_folder(void)
{
	remove_folder(shared_folder);
}

static inline const char *test_folder(void)
{
	static bool made;

	if (!made) {
		made = true;
		CHECK(mkdtemp(shared_folder) != NULL);
		atexit(remove_shared_folder);
	}
	return shared_folder;
}
#else
static inline const char *test_folder(void)
{
	return NULL;
}
#endif

#endif /* RES_KAFKA_TEST_STAGE_CHECK_H */
