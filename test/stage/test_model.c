/*
 * res_kafka: random histories of one thread against a trivial model of a stage.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "check.h"

#define STEPS     4000
#define HISTORIES 12

struct model {
	struct owner owner;
	uint64_t random;
	/* Required state of the stage. */
	bool open;
	int64_t max_frames;
	int64_t max_charge;
	int64_t max_length;
	int64_t memory_frames; /* the limits of frames that wait in memory only */
	int64_t memory_charge;
	int64_t held_frames;
	int64_t held_charge;
	uint32_t lengths[STEPS]; /* of every admitted frame, in order */
	uint32_t charges[STEPS];
	int64_t admitted;
	int64_t noted[STAGE_NOTE_SLOTS];
	int64_t released; /* number of released frames, the first of the admitted */
	/* Frames seen by the pump's thread, under the owner's lock or after a flush. */
	int64_t seen;
	int64_t reported[STAGE_NOTE_SLOTS];
};

static void see_frame(struct owner *owner, const struct stage_frame *frame)
{
	struct model *model = (struct model *) owner;
	const unsigned char *content = (const unsigned char *) (frame + 1);
	uint32_t i;

	/* The writer entered both before its put. */
	CHECK_EQUAL(frame->length, model->lengths[model->seen]);
	CHECK_EQUAL(frame->charge, model->charges[model->seen]);
	for (i = 0; i < frame->length; i++) {
		CHECK_EQUAL(content[i], (unsigned char) model->seen);
	}
	model->seen++;
}

static void see_note(struct owner *owner, unsigned int slot, uint64_t count, const char *text)
{
	struct model *model = (struct model *) owner;
	char expected[STAGE_NOTE_TEXT];

	/* The text is from the first unreported note. */
	snprintf(expected, sizeof(expected), "%u/%lld", slot, (long long) model->reported[slot]);
	CHECK(strcmp(text, expected) == 0);
	model->reported[slot] += count;
}

static int64_t smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static enum stage_result expect(const struct model *model, size_t length, uint32_t charge, bool memory_only)
{
	int64_t max_frames = memory_only ? smaller(model->max_frames, model->memory_frames) : model->max_frames;
	int64_t max_charge = memory_only ? smaller(model->max_charge, model->memory_charge) : model->max_charge;

	if (!model->open) {
		return STAGE_CLOSED;
	}
	if ((int64_t) length > model->max_length) {
		return STAGE_TOO_LONG;
	}
	if (model->held_frames >= max_frames) {
		return STAGE_FULL_FRAMES;
	}
	if (model->held_charge + charge > max_charge && (model->held_frames || model->held_charge)) {
		return STAGE_FULL_CHARGE;
	}
	return STAGE_OK;
}

static void step_put(struct model *model)
{
	size_t length = random_next(&model->random) % (random_next(&model->random) % 50 ? 400 : 200000);
	uint32_t charge = random_next(&model->random) % 500;
	bool memory_only = random_next(&model->random) % 2;
	enum stage_result expected = expect(model, length, charge, memory_only);
	unsigned char *bytes = malloc(length + 1);
	struct iovec part = { bytes, length };

	model->lengths[model->admitted] = length;
	model->charges[model->admitted] = charge;
	CHECK(bytes != NULL);
	memset(bytes, model->admitted, length);
	CHECK_EQUAL(stage_put(model->owner.stage, &part, 1, charge, memory_only), expected);
	free(bytes);
	if (expected == STAGE_OK) {
		model->admitted++;
		model->held_frames++;
		model->held_charge += charge;
	}
}

static void step_limits(struct model *model)
{
	struct resk_gate *gate = model->owner.gate;
	static const int64_t lingers[] = { -1, 0, 1000, MILLISECOND, HOUR, INT64_MAX };

	switch (random_next(&model->random) % 6) {
	case 0:
		model->open = random_next(&model->random) % 4;
		set(&gate->open, model->open);
		break;
	case 1:
		model->max_frames = random_next(&model->random) % 40;
		set(&gate->max_frames, model->max_frames);
		break;
	case 2:
		model->max_charge = random_next(&model->random) % 5000;
		set(&gate->max_charge, model->max_charge);
		break;
	case 3:
		model->max_length = (int64_t) (random_next(&model->random) % 1000) - 1;
		model->max_length = model->max_length > 500 ? 300000 : model->max_length;
		set(&gate->max_length, model->max_length);
		break;
	case 4:
		model->memory_frames = random_next(&model->random) % 40;
		model->memory_charge = random_next(&model->random) % 5 * 1024;
		set(&gate->memory, model->memory_frames | model->memory_charge / 1024 << 32);
		break;
	default:
		set(&gate->linger_ns, lingers[random_next(&model->random) % 6]);
	}
}

static void step_release(struct model *model)
{
	int64_t many = random_next(&model->random) % 20;

	while (many-- && model->released < model->admitted) {
		model->held_frames--;
		model->held_charge -= model->charges[model->released];
		add(&model->owner.gate->done_frames, 1);
		add(&model->owner.gate->done_charge, model->charges[model->released]);
		model->released++;
	}
}

static void step_note(struct model *model)
{
	unsigned int slot = random_next(&model->random) % (STAGE_NOTE_SLOTS + 1);
	char text[STAGE_NOTE_TEXT];

	/* An invalid slot, which is ignored. */
	if (slot == STAGE_NOTE_SLOTS) {
		stage_note(model->owner.stage, slot, 1, "nobody", 6);
		return;
	}
	snprintf(text, sizeof(text), "%u/%lld", slot, (long long) model->noted[slot]);
	stage_note(model->owner.stage, slot, 1, text, strlen(text));
	model->noted[slot]++;
}

static void compare(struct model *model, bool flushed)
{
	struct resk_gate *gate = model->owner.gate;
	unsigned int slot;

	CHECK_EQUAL(held_frames(model->owner.stage), model->held_frames);
	CHECK_EQUAL(held_charge(model->owner.stage), model->held_charge);
	CHECK_EQUAL(stage_admitted(model->owner.stage), model->admitted);
	CHECK(get(&gate->handed) <= model->admitted);
	if (!flushed) {
		return;
	}
	CHECK_EQUAL(get(&gate->handed), model->admitted);
	CHECK_EQUAL(model->seen, model->admitted);
	for (slot = 0; slot < STAGE_NOTE_SLOTS; slot++) {
		CHECK_EQUAL(model->reported[slot], model->noted[slot]);
	}
}

static void history(struct stage_pump *pump, uint64_t seed)
{
	struct model *model = calloc(1, sizeof(*model));
	int step;

	CHECK(model != NULL);
	model->random = seed * 0x9e3779b97f4a7c15u + 1;
	model->owner.frame = see_frame;
	model->owner.noted = see_note;
	owner_open(&model->owner, pump, 0);
	model->open = true;
	model->max_frames = model->max_charge = model->max_length = INT64_MAX / 2;
	for (step = 0; step < STEPS; step++) {
		uint64_t kind = random_next(&model->random) % 100;

		if (kind < 60) {
			step_put(model);
		} else if (kind < 75) {
			step_release(model);
		} else if (kind < 85) {
			step_limits(model);
		} else if (kind < 97) {
			step_note(model);
		} else {
			flush(model->owner.stage);
		}
		compare(model, kind >= 97);
	}
	/* Destruction hands over the rest. */
	owner_destroy(&model->owner);
	CHECK_EQUAL(model->seen, model->admitted);
	CHECK(model->admitted > STEPS / 20);
	free(model);
}

static void random_histories(void)
{
	struct stage_pump *pump = rig_start(owner_take, owner_note, "test pump", test_folder(), 0);
	uint64_t seed;

	CHECK(pump != NULL);
	for (seed = 1; seed <= HISTORIES; seed++) {
		history(pump, seed);
	}
	rig_stop();
}

int main(void)
{
	RUN(random_histories);
	return 0;
}
