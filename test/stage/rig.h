/*
 * res_kafka: an engine in a thread of the test. Like the real engine, this one maps the files, takes ranges
 * of frames from the ring and passes them to a function of the test. test_engine.c has an engine in a
 * separate process.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_TEST_STAGE_RIG_H
#define RES_KAFKA_TEST_STAGE_RIG_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../stage/internal.h"

/* A test's treatment of a range of frames. durable: the frames lie in a durable slab. */
typedef void (*rig_take)(void *owner, void *frames, size_t length, int durable);

struct rig {
	struct stage_memory memory;
	struct stage_pump *pump;
	pthread_t thread;
	rig_take take;
	void *owners[RESK_GATES]; /* by the number of the gate */
	unsigned char *usual[2];  /* mappings of usual slabs, by pool */
	size_t mapped[2];
	const char *folder;
	bool end; /* atomic */
};

static struct rig rig;

#define RIG_CHECK(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #condition); \
			exit(1); \
		} \
	} while (0)

static inline void *rig_map(int file, uint64_t at, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, at);

	RIG_CHECK(file >= 0 && memory != MAP_FAILED);
	return memory;
}

static inline int rig_file(const char *folder, uint64_t pool, uint64_t number)
{
	char path[4096];

	if (pool == RESK_POOL_FILE) {
		snprintf(path, sizeof(path), "%s/slab-%llu", folder, (unsigned long long) number);
	} else {
		snprintf(path, sizeof(path), "%s/" STAGE_SLABS_FILE, folder);
	}
	return open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
}

/* rig_frames maps the range of a ring entry. */
static inline unsigned char *rig_frames(const struct resk_ring_entry *entry)
{
	uint64_t usual = rig.memory.control->head.usual_bytes;
	uint64_t pool = entry->pool;
	int file;

	RIG_CHECK(pool <= RESK_POOL_FILE);
	if (pool == RESK_POOL_FILE || (pool == RESK_POOL_PLAIN && entry->slab >= usual)) {
		/* Never unmapped: a test may keep a pointer, and there are not many. */
		file = pool == RESK_POOL_FILE ? rig_file(rig.folder, pool, entry->slab) : rig.memory.plain_file;
		usual = pool == RESK_POOL_FILE ? 0 : entry->slab;
		unsigned char *slab = rig_map(file, usual, entry->start + entry->length);

		if (pool == RESK_POOL_FILE) {
			close(file);
		}
		return slab + entry->start;
	}
	if (!rig.usual[pool]) {
		file = pool == RESK_POOL_PLAIN ? rig.memory.plain_file : rig_file(rig.folder, pool, 0);
		rig.mapped[pool] = pool == RESK_POOL_PLAIN ? usual : STAGE_SHARED_MAX;
		rig.usual[pool] = rig_map(file, 0, rig.mapped[pool]);
		if (pool == RESK_POOL_DURABLE) {
			close(file);
		}
	}
	return rig.usual[pool] + entry->slab + entry->start;
}

static inline void *rig_run(void *argument)
{
	struct resk_ring *ring = &rig.memory.control->ring;
	uint64_t taken = 0;

	(void) argument;
	for (;;) {
		struct pollfd wake = { .fd = rig.memory.wake, .events = POLLIN };
		uint64_t count;

		while (taken != __atomic_load_n(&ring->put, __ATOMIC_SEQ_CST)) {
			struct resk_ring_entry entry = ring->entries[taken % RESK_RING];

			RIG_CHECK(entry.id > 0 && entry.id < RESK_GATES && rig.owners[entry.id]);
			rig.take(rig.owners[entry.id], rig_frames(&entry), entry.length, entry.pool != RESK_POOL_PLAIN);
			__atomic_store_n(&ring->taken, ++taken, __ATOMIC_SEQ_CST);
		}
		__atomic_store_n(&ring->asleep, 1, __ATOMIC_SEQ_CST);
		if (taken == __atomic_load_n(&ring->put, __ATOMIC_SEQ_CST)) {
			if (__atomic_load_n(&rig.end, __ATOMIC_SEQ_CST)) {
				return NULL;
			}
			poll(&wake, 1, -1);
		}
		__atomic_store_n(&ring->asleep, 0, __ATOMIC_SEQ_CST);
		if (read(rig.memory.wake, &count, sizeof(count)) < 0) {
			continue; /* there was no need to sleep */
		}
	}
}

/* rig_begin starts a pump with this engine in open memory. */
static inline struct stage_pump *rig_begin(rig_take take, stage_note_cb note, const char *name, const char *folder, uint64_t bytes)
{
	rig.take = take;
	rig.folder = folder;
	rig.pump = stage_pump_start(&rig.memory, note, name, folder, bytes);
	RIG_CHECK(rig.pump);
	RIG_CHECK(!pthread_create(&rig.thread, NULL, rig_run, NULL));
	stage_pump_engine_new(rig.pump);
	/* Tests mark frames as done that the engine does not have; the pump does not know of such frames. */
	while (!__atomic_load_n(&rig.pump->ring.open, __ATOMIC_ACQUIRE)) {
		sched_yield();
	}
	return rig.pump;
}

/* rig_start opens memory and starts a pump with this engine. */
static inline struct stage_pump *rig_start(rig_take take, stage_note_cb note, const char *name, const char *folder, uint64_t bytes)
{
	RIG_CHECK(!rig.pump);
	rig = (struct rig) { 0 };
	RIG_CHECK(!stage_memory_open(&rig.memory));
	return rig_begin(take, note, name, folder, bytes);
}

/* rig_remap maps control memory in a child, which did not inherit the mapping. */
static inline void rig_remap(void)
{
	rig.memory.control = rig_map(rig.memory.control_file, 0, sizeof(*rig.memory.control));
}

/* rig_settle waits until the engine has taken everything handed over. */
static inline void rig_settle(void)
{
	struct resk_ring *ring = &rig.memory.control->ring;

	while (__atomic_load_n(&ring->taken, __ATOMIC_SEQ_CST) != __atomic_load_n(&ring->put, __ATOMIC_SEQ_CST)) {
		sched_yield();
	}
}

/* rig_halt ends the engine after all frames are taken. */
static inline void rig_halt(void)
{
	const uint64_t one = 1;

	rig_settle();
	__atomic_store_n(&rig.end, true, __ATOMIC_SEQ_CST);
	RIG_CHECK(write(rig.memory.wake, &one, sizeof(one)) == sizeof(one));
	pthread_join(rig.thread, NULL);
	rig.end = false;
}

/* rig_end ends the engine, the pump having been stopped. */
static inline void rig_end(void)
{
	rig_halt();
	for (int pool = 0; pool < 2; pool++) {
		if (rig.usual[pool]) {
			munmap(rig.usual[pool], rig.mapped[pool]);
		}
	}
	rig.pump = NULL;
}

/* rig_stop stops pump and engine. A stage that outlives both has no gate after rig_close. */
static inline void rig_stop(void)
{
	stage_pump_stop(rig.pump);
	rig_end();
	stage_memory_close(&rig.memory);
}

#endif /* RES_KAFKA_TEST_STAGE_RIG_H */
