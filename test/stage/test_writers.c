/*
 * res_kafka: every byte put into a stage comes out once, and in order for each writer.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

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

int main(void)
{
	RUN(sixteen_writers_without_linger);
	RUN(sixteen_writers_with_linger);
	RUN(sixteen_writers_with_endless_linger);
	return 0;
}
