/*
 * res_kafka: every byte put into a stage comes out once, and in order for each writer.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "check.h"

#define WRITERS   16
#define SEQUENCES (1u << 20)
#define LARGEST   (5 * 64 * 1024)

struct crowd {
	struct owner owner;
	unsigned int frames;
	int64_t expected[WRITERS]; /* the pump's thread only: next sequence number of each writer */
	int64_t bytes[WRITERS];    /* separate for each writer */
};

struct writer {
	struct crowd *crowd;
	unsigned int number;
};

/* Content is derived from writer and sequence, so the taker can verify it alone. */
static uint64_t seed_of(unsigned int writer, unsigned int sequence)
{
	return ((uint64_t) writer << 32 | sequence) * 0x9e3779b97f4a7c15u + 1;
}

/* Mostly small, some around a slab's size, now and then several slabs, often nothing at all. */
static size_t length_of(uint64_t *random)
{
	uint64_t kind = random_next(random) % 64;

	if (kind < 8) {
		return 0;
	}
	if (kind < 58) {
		return random_next(random) % 600;
	}
	if (kind < 63) {
		return 64 * 1024 - 100 + random_next(random) % 200;
	}
	return random_next(random) % LARGEST;
}

static void fill(unsigned char *bytes, size_t length, uint64_t *random)
{
	size_t i;

	for (i = 0; i < length; i += 8) {
		uint64_t word = random_next(random);

		memcpy(bytes + i, &word, length - i < 8 ? length - i : 8);
	}
}

static void *write_frames(void *argument)
{
	struct writer *writer = argument;
	unsigned char *bytes = malloc(LARGEST + 8);
	unsigned int sequence;

	CHECK(bytes != NULL);
	for (sequence = 0; sequence < writer->crowd->frames; sequence++) {
		uint64_t random = seed_of(writer->number, sequence);
		size_t length = length_of(&random);
		size_t cut = length ? random_next(&random) % length : 0;
		size_t rest = length - cut;
		struct iovec parts[4] = {
			{ bytes, cut }, { NULL, 0 }, { bytes + cut, rest / 2 }, { bytes + cut + rest / 2, rest - rest / 2 },
		};

		fill(bytes, length, &random);
		CHECK_EQUAL(stage_put(writer->crowd->owner.stage, parts, length ? 4 : 0, writer->number * SEQUENCES + sequence, false),
			STAGE_OK);
		memset(bytes, 0xee, length);
		writer->crowd->bytes[writer->number] += length;
	}
	free(bytes);
	return NULL;
}

static void check_frame(struct owner *owner, const struct stage_frame *frame)
{
	struct crowd *crowd = (struct crowd *) owner;
	unsigned int writer = frame->charge / SEQUENCES;
	unsigned int sequence = frame->charge % SEQUENCES;
	uint64_t random = seed_of(writer, sequence);
	size_t length = length_of(&random);
	unsigned char *bytes = malloc(length + 8);

	CHECK(bytes != NULL);
	CHECK(writer < WRITERS);
	CHECK_EQUAL(sequence, crowd->expected[writer]);
	CHECK_EQUAL(frame->length, length);
	if (length) {
		random_next(&random); /* the cut */
	}
	fill(bytes, length, &random);
	CHECK(memcmp(bytes, frame + 1, length) == 0);
	free(bytes);
	crowd->expected[writer]++;
	add(&owner->gate->done_frames, 1);
	add(&owner->gate->done_charge, frame->charge);
}

static void crowd_of_writers(unsigned int frames, int64_t linger)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct crowd crowd = { .frames = frames, .owner.frame = check_frame };
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];
	int64_t bytes = 0;
	unsigned int i;

	CHECK(pump != NULL);
	owner_open(&crowd.owner, pump, linger);
	for (i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer) { &crowd, i };
		threads[i] = start(write_frames, &writers[i]);
	}
	for (i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		bytes += crowd.bytes[i];
	}
	flush(crowd.owner.stage);
	CHECK_EQUAL(crowd.owner.frames, (int64_t) WRITERS * frames);
	CHECK_EQUAL(crowd.owner.bytes, bytes);
	CHECK_EQUAL(stage_admitted(crowd.owner.stage), (int64_t) WRITERS * frames);
	CHECK_EQUAL(get(&crowd.owner.gate->handed), (int64_t) WRITERS * frames);
	CHECK_EQUAL(held_frames(crowd.owner.stage), 0);
	CHECK_EQUAL(held_charge(crowd.owner.stage), 0);
	owner_close(&crowd.owner);
	rig_stop();
}

static void sixteen_writers_without_linger(void)
{
	crowd_of_writers(600, 0);
}

static void sixteen_writers_with_linger(void)
{
	crowd_of_writers(600, MILLISECOND);
}

static void sixteen_writers_with_endless_linger(void)
{
	crowd_of_writers(300, HOUR);
}

#define HELD_BYTES (64 * 1024 * 1024)
#define HELD_PUTS  40 /* slabs, more than there are spares */
#define HELD_TRIES 20

/* hold_file holds the lock of a pool's file in one long fallocate, like a thread without a processor in a short one. */
static void *hold_file(void *argument)
{
	struct slab_pool *pool = argument;

	__atomic_fetch_add(&pool->inside, 1, __ATOMIC_SEQ_CST);
	CHECK_EQUAL(fallocate(pool->file, FALLOC_FL_KEEP_SIZE, pool->end, HELD_BYTES), 0);
	__atomic_fetch_sub(&pool->inside, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* bytes_of returns how many bytes of a pool's file have pages. */
static int64_t bytes_of(const struct slab_pool *pool)
{
	struct stat status;

	CHECK_EQUAL(fstat(pool->file, &status), 0);
	return status.st_blocks * 512;
}

/* populates reports whether the kernel has MADV_POPULATE_WRITE. */
static bool populates(void)
{
	size_t size = sysconf(_SC_PAGESIZE);
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool can;

	CHECK(memory != MAP_FAILED);
	can = !madvise(memory, size, 23);
	munmap(memory, size);
	return can;
}

/* try_held fills slabs beside the holder of the file's lock. Returns whether the holder still allocated after the puts. */
static bool try_held(struct stage_pump *pump, struct owner *owner)
{
	struct slab_pool *pool = test_folder() ? &pump->shared : &pump->plain;
	int64_t before = bytes_of(pool);
	pthread_t thread = start(hold_file, pool);
	bool held;
	int i;

	while (bytes_of(pool) < before + HELD_BYTES / 16) {
		sched_yield();
	}
	for (i = 0; i < HELD_PUTS; i++) {
		CHECK_EQUAL(put_bytes(owner->stage, 'a', 60000, 1), STAGE_OK);
	}
	held = bytes_of(pool) < before + HELD_BYTES;
	pthread_join(thread, NULL);
	stage_pool_punch(pool, pool->end, HELD_BYTES);
	return held;
}

/* A writer without a spare slab waited for the lock of the slabs' file, and so for a pump or a writer that had lost its
 * processor with the lock. The machine may delay this thread too, hence several tries. */
static void writer_with_the_file_locked(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct owner owner = { .done_elsewhere = true }; /* no slab is used twice */
	bool held = false;
	int tries;

	owner_open(&owner, pump, MILLISECOND);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
	flush(owner.stage);
	for (tries = 0; populates() && !held && tries < HELD_TRIES; tries++) {
		held = try_held(pump, &owner);
		flush(owner.stage);
	}
	CHECK(held || !populates());
	owner_close(&owner);
	rig_stop();
}

/* Without an engine the pump made spare slabs once, and writers had to allocate all further slabs. */
static void spares_without_an_engine(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	struct slab_pool *pool = test_folder() ? &pump->shared : &pump->plain;
	struct owner owner = { 0 };
	int64_t limit;
	int i;

	owner_open(&owner, pump, MILLISECOND);
	CHECK_EQUAL(put_bytes(owner.stage, 'a', 10, 1), STAGE_OK);
	flush(owner.stage);
	rig_halt();
	stage_pump_engine_lost(pump);
	for (i = 0; i < 2 * STAGE_SPARES_BUSY; i++) {
		CHECK_EQUAL(put_bytes(owner.stage, 'a', 60000, 1), STAGE_OK);
		limit = stage_now() + FOREVER_SECONDS * SECOND;
		while (get(&pool->count) <= 0) {
			CHECK(stage_now() < limit);
			usleep(1000);
		}
	}
	rig.thread = start(rig_run, NULL);
	stage_pump_engine_new(pump);
	flush(owner.stage);
	owner_close(&owner);
	rig_stop();
}

int main(void)
{
	RUN(sixteen_writers_without_linger);
	RUN(sixteen_writers_with_linger);
	RUN(sixteen_writers_with_endless_linger);
	RUN(spares_without_an_engine);
	RUN(writer_with_the_file_locked); /* the last: unfinished frames stay in the folder */
	return 0;
}
