/*
 * res_kafka: durable slabs: life, reuse, and the lack of space.
 *
 * Built with a STAGE_SHARED_MAX of 1 MiB and a STAGE_RETRY_NS of 1 ms.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define SHARED

#include "folder.h"

#define MOST   60000
#define LENGTH 1000

/* Frames are numbered by charge and filled with the lowest byte of the charge. */
struct keeper {
	struct owner owner;
	const struct stage_frame *frames[MOST]; /* taken, unfinished frames, by number; the engine's until a flush */
	int64_t taken;
	int64_t durable;
	int64_t plain;
	int64_t put;
};

static struct copies copies;

static void check_content(const struct stage_frame *frame)
{
	const unsigned char *content = (const unsigned char *) (frame + 1);
	size_t i;

	for (i = 0; i < frame->length; i++) {
		CHECK_EQUAL(content[i], (unsigned char) frame->charge);
	}
}

static void keep(void *context, void *frames, size_t length, int durable)
{
	struct keeper *keeper = context;
	size_t at;

	for (at = 0; at < length;) {
		const struct stage_frame *frame = (const struct stage_frame *) ((unsigned char *) frames + at);

		CHECK_EQUAL(frame->charge, keeper->taken);
		check_content(frame);
		keeper->frames[keeper->taken++] = frame;
		keeper->durable += durable;
		keeper->plain += !durable;
		at += frame->size;
	}
}

static void keeper_open(struct keeper *keeper, const char *folder, int64_t linger)
{
	struct stage_pump *pump = rig_start(keep, owner_note, "test pump", folder, 0);

	*keeper = (struct keeper) { 0 };
	owner_open(&keeper->owner, pump, linger);
}

static void keeper_put(struct keeper *keeper, size_t length)
{
	CHECK(keeper->put < MOST);
	CHECK_EQUAL(put_bytes(keeper->owner.stage, keeper->put, length, keeper->put), STAGE_OK);
	keeper->put++;
}

static void keeper_put_many(struct keeper *keeper, int many)
{
	while (many--) {
		keeper_put(keeper, LENGTH);
	}
	flush(keeper->owner.stage);
}

static void keeper_done(struct keeper *keeper, int64_t from, int64_t to)
{
	for (; from < to; from++) {
		if (keeper->frames[from]) {
			frame_done(keeper->frames[from]);
			keeper->frames[from] = NULL;
		}
	}
}

static int bytes_used(void)
{
	int bytes;

	copies_read(&copies, shared_folder);
	bytes = copies.bytes;
	copies_free(&copies);
	return bytes;
}

/* wait_for_spares waits until an idle pump has only its spares left. */
static void wait_for_spares(void)
{
	int64_t tries;

	for (tries = 0; bytes_used() > 2 * 64 * 1024; tries++) {
		CHECK(tries < FOREVER_SECONDS * 1000);
		usleep(1000);
	}
}

/* unshared_frames returns how many frames ought to have been in a durable slab. */
static int64_t unshared_frames(struct keeper *of)
{
	stage_publish(of->owner.stage);
	return get(&of->owner.gate->unshared);
}

static struct keeper keeper;

/* A slab with an unfinished frame stays untouched from this frame on, whatever else is done. */
static void used_again_when_all_is_done(void)
{
	const unsigned char *first;
	int64_t i;

	keeper_open(&keeper, shared_folder, MILLISECOND);
	keeper_put_many(&keeper, 200);
	CHECK(bytes_used() >= 200 * LENGTH);
	keeper_done(&keeper, 1, 200);
	keeper_put_many(&keeper, 200);
	first = (const unsigned char *) keeper.frames[0];
	check_content(keeper.frames[0]);
	CHECK_EQUAL(keeper.frames[0]->state, STAGE_FRAME_READY);
	for (i = 200; i < 400; i++) {
		const unsigned char *frame = (const unsigned char *) keeper.frames[i];

		CHECK(frame < first || frame > first + 60 * 1024);
		check_content(keeper.frames[i]);
	}
	keeper_done(&keeper, 0, 400);
	wait_for_spares();
	CHECK_EQUAL(unshared_frames(&keeper), 0);
	owner_close(&keeper.owner);
	rig_stop();
	CHECK_EQUAL(bytes_used(), 0);
}

/* An unfinished frame pins its own slab, and no later slab, under any traffic. */
static void one_holds_up_no_other(void)
{
	keeper_open(&keeper, shared_folder, MILLISECOND);
	keeper_put_many(&keeper, 1);
	/* Many times the limit of shared memory. */
	while (keeper.durable < 20 * (int64_t) STAGE_SHARED_MAX / LENGTH) {
		int64_t from = keeper.taken;

		keeper_put_many(&keeper, 25); /* runs into the limit of frames if this never ends */
		keeper_done(&keeper, from, keeper.taken);
		usleep(1000);
	}
	check_content(keeper.frames[0]);
	CHECK_EQUAL(keeper.frames[0]->state, STAGE_FRAME_READY);
	keeper_done(&keeper, 0, 1);
	wait_for_spares();
	owner_close(&keeper.owner);
	rig_stop();
}

/* The slab of a rarely used stage is reset instead of filling up. */
static void a_slab_starts_anew(void)
{
	int i;

	keeper_open(&keeper, shared_folder, 0);
	for (i = 0; i < 500; i++) {
		keeper_put_many(&keeper, 1);
		keeper_done(&keeper, i, i + 1);
		if (i % 100 == 99) {
			wait_for_spares();
		}
	}
	CHECK_EQUAL(keeper.durable, 500);
	owner_close(&keeper.owner);
	rig_stop();
}

/* Without space for durable slabs records continue in plain slabs, and return to durable slabs later. */
static void falls_back_when_full(void)
{
	int64_t unshared;
	int64_t from;
	int64_t i;

	keeper_open(&keeper, shared_folder, MILLISECOND);
	keeper_put_many(&keeper, 3 * STAGE_SHARED_MAX / LENGTH);
	unshared = unshared_frames(&keeper);
	CHECK(bytes_used() <= (int) STAGE_SHARED_MAX);
	CHECK(keeper.durable > (int64_t) STAGE_SHARED_MAX / LENGTH / 2);
	CHECK(unshared > 0 && keeper.plain == unshared);
	for (i = 0; i < keeper.taken; i++) {
		if (keeper.frames[i]) {
			check_content(keeper.frames[i]);
		}
	}
	keeper_done(&keeper, 0, keeper.taken);
	wait_for_spares();
	from = keeper.taken;
	keeper_put_many(&keeper, 100);
	CHECK_EQUAL(unshared_frames(&keeper), unshared);
	CHECK_EQUAL(keeper.plain, unshared);
	keeper_done(&keeper, from, keeper.taken);
	owner_close(&keeper.owner);
	rig_stop();
}

static size_t bytes_of_all(void)
{
	return __atomic_load_n(&rig.pump->slabs.bytes, __ATOMIC_RELAXED);
}

/* Plain memory of a flood stays for the next flood for a while, and is then released, larger slabs too. */
static void plain_pages_go_back(void)
{
	struct stat status;
	size_t most;
	int64_t done;
	int64_t tries = 0;

	keeper_open(&keeper, NULL, MILLISECOND);
	set(&keeper.owner.gate->shared, 0);
	keeper_put_many(&keeper, 10000);
	keeper_put(&keeper, 200000);
	keeper_put(&keeper, 2000000);
	flush(keeper.owner.stage);
	CHECK_EQUAL(fstat(rig.memory.plain_file, &status), 0);
	CHECK(status.st_blocks * 512 > 12000000);
	most = bytes_of_all();
	done = stage_now();
	keeper_done(&keeper, 0, keeper.taken);
	do {
		size_t bytes = bytes_of_all();

		CHECK(bytes >= most || stage_now() - done >= STAGE_IDLE_NS);
		CHECK(tries++ < FOREVER_SECONDS * 1000);
		usleep(1000);
		CHECK_EQUAL(fstat(rig.memory.plain_file, &status), 0);
	} while (status.st_blocks * 512 > 2 * STAGE_SLAB_BYTES);
	CHECK_EQUAL(bytes_of_all(), 2 * STAGE_SLAB_BYTES);
	owner_close(&keeper.owner);
	rig_stop();
}

/* Without a folder for shared slabs, every record for such a slab is counted. */
static void nowhere(const char *folder, const char *label)
{
	struct stage_pump *pump = rig_start(keep, owner_note, "test pump", folder, 0);

	keeper = (struct keeper) { 0 };
	owner_open(&keeper.owner, pump, 0);
	owner_destroy(&keeper.owner);
	keeper.owner.stage = stage_create(pump, &keeper.owner, label);
	rig.owners[stage_number(keeper.owner.stage)] = &keeper.owner;
	keeper.owner.gate = stage_gate(keeper.owner.stage);
	set(&keeper.owner.gate->max_frames, 1000);
	set(&keeper.owner.gate->max_charge, INT64_MAX / 2);
	set(&keeper.owner.gate->max_length, 1000000);
	set(&keeper.owner.gate->shared, 1);
	set(&keeper.owner.gate->open, 1);
	keeper_put_many(&keeper, 100);
	keeper_put(&keeper, 100000);
	flush(keeper.owner.stage);
	CHECK_EQUAL(keeper.plain, 101);
	CHECK_EQUAL(unshared_frames(&keeper), 101);
	owner_close(&keeper.owner);
	rig_stop();
}

/* All slabs together stay under the pump's limit, and a stage continues with new space. */
static void limited(void)
{
	struct stage_pump *pump = rig_start(keep, owner_note, "test pump", shared_folder, 4 * STAGE_SLAB_BYTES);
	struct stat status;
	char path[sizeof(shared_folder) + 16];
	int64_t tries = 0;

	keeper = (struct keeper) { 0 };
	owner_open(&keeper.owner, pump, 0);
	while (put_bytes(keeper.owner.stage, keeper.put, LENGTH, keeper.put) == STAGE_OK) {
		CHECK(++keeper.put < 5 * STAGE_SLAB_BYTES / LENGTH);
	}
	CHECK(keeper.put > STAGE_SLAB_BYTES / LENGTH);
	CHECK_EQUAL(put_bytes(keeper.owner.stage, 0, LENGTH, 0), STAGE_NO_MEMORY);
	flush(keeper.owner.stage);
	CHECK_EQUAL(keeper.taken, keeper.put);
	CHECK_EQUAL(unshared_frames(&keeper), keeper.plain);
	snprintf(path, sizeof(path), "%s/" STAGE_SLABS_FILE, shared_folder);
	CHECK_EQUAL(stat(path, &status), 0);
	CHECK(status.st_blocks * 512 <= 4 * STAGE_SLAB_BYTES);
	CHECK_EQUAL(fstat(rig.memory.plain_file, &status), 0);
	CHECK(bytes_used() + status.st_blocks * 512 <= 4 * STAGE_SLAB_BYTES);
	keeper_done(&keeper, 0, keeper.taken);
	while (put_bytes(keeper.owner.stage, keeper.put, LENGTH, keeper.put) != STAGE_OK) {
		CHECK(tries++ < FOREVER_SECONDS * 1000);
		usleep(1000);
	}
	keeper.put++;
	flush(keeper.owner.stage);
	keeper_done(&keeper, keeper.taken - 1, keeper.taken);
	owner_close(&keeper.owner);
	rig_stop();
}

/* Another user's preparations in place of the folder: the pump neither waits nor writes there. */
static void occupied(void)
{
	char place[] = "/dev/shm/res_kafka-test-XXXXXX";
	char path[sizeof(place) + 8];
	char inside[sizeof(path) + 8];

	CHECK(mkdtemp(place) != NULL);
	snprintf(path, sizeof(path), "%s/it", place);
	CHECK_EQUAL(mkfifo(path, 0666), 0);
	nowhere(path, "test");
	unlink(path);
	CHECK_EQUAL(close(open(path, O_CREAT | O_WRONLY, 0666)), 0);
	nowhere(path, "test");
	unlink(path);
	CHECK_EQUAL(symlink(shared_folder, path), 0);
	nowhere(path, "test");
	unlink(path);
	CHECK_EQUAL(mkdir(path, 0700), 0);
	CHECK_EQUAL(chmod(path, 0770), 0);
	nowhere(path, "test");
	if (geteuid() == 0) {
		CHECK_EQUAL(chmod(path, 0700), 0);
		CHECK_EQUAL(chown(path, 12345, 12345), 0);
		nowhere(path, "test");
	}
	snprintf(inside, sizeof(inside), "%s/" STAGE_SLABS_FILE, path);
	CHECK(access(inside, F_OK) != 0);
	rmdir(path);
	rmdir(place);
}

static void no_place(void)
{
	char gone[] = "/dev/shm/res_kafka-test-XXXXXX";
	char longest[STAGE_LABEL_MAX + 2];

	memset(longest, 'x', sizeof(longest));
	longest[STAGE_LABEL_MAX + 1] = '\0';
	nowhere(NULL, "test");
	nowhere("", "test");
	nowhere("/dev/shm/res_kafka-test-not-there", "test");
	nowhere(shared_folder, NULL);
	nowhere(shared_folder, "");
	nowhere(shared_folder, longest);
	/* A folder removed during its use. */
	CHECK(mkdtemp(gone) != NULL);
	keeper_open(&keeper, gone, 0);
	keeper_put_many(&keeper, 10);
	CHECK_EQUAL(keeper.durable, 10);
	remove_folder(gone);
	keeper_put_many(&keeper, 1000);
	CHECK(keeper.plain > 0 && keeper.plain == unshared_frames(&keeper));
	keeper_done(&keeper, 0, keeper.taken);
	owner_close(&keeper.owner);
	rig_stop();
}

/* A reload may want the other kind at any time. */
static void changes_its_mind(void)
{
	struct resk_gate *gate;
	int round;

	keeper_open(&keeper, shared_folder, 0);
	gate = keeper.owner.gate;
	for (round = 0; round < 40; round++) {
		int64_t durable = keeper.durable;
		int64_t plain = keeper.plain;
		int64_t from = keeper.taken;

		set(&gate->shared, round % 2);
		keeper_put_many(&keeper, round);
		keeper_put_many(&keeper, 300); /* more than the current slab can store */
		CHECK((round % 2 ? keeper.durable - durable : keeper.plain - plain) > 0);
		keeper_done(&keeper, from, keeper.taken);
	}
	CHECK_EQUAL(unshared_frames(&keeper), 0);
	set(&gate->shared, 0);
	wait_for_spares();
	owner_close(&keeper.owner);
	rig_stop();
}

/* A stage with little traffic changes too, before its slab is full. */
static void changes_in_little_traffic(void)
{
	int change;

	keeper_open(&keeper, shared_folder, MILLISECOND);
	for (change = 0; change < 6; change++) {
		const int64_t *now = change % 2 ? &keeper.durable : &keeper.plain;
		int64_t before = *now;
		int tries;

		set(&keeper.owner.gate->shared, change % 2);
		for (tries = 0; *now == before; tries++) {
			CHECK(tries < 800); /* most of a slab */
			keeper_put(&keeper, 40);
			flush(keeper.owner.stage);
			keeper_done(&keeper, keeper.taken - 1, keeper.taken);
			usleep(tries < 100 ? 100 : 5 * 1000); /* the pump looks between two frames, also when slow */
		}
	}
	owner_close(&keeper.owner);
	rig_stop();
}

/* Only records that need a shared slab count as unshared, also in a slab started under another setting. */
static void counts_what_is_wanted(void)
{
	int i;

	keeper_open(&keeper, NULL, HOUR);
	for (i = 1; i <= 4; i++) {
		set(&keeper.owner.gate->shared, i % 2);
		keeper_put(&keeper, 100);
		CHECK_EQUAL(unshared_frames(&keeper), (i + 1) / 2);
	}
	owner_close(&keeper.owner);
	rig_stop();
}

/* A stage with shared slabs to come has one ready before the first put, if asked. */
static void ready_before_the_first_put(void)
{
	int64_t tries;

	keeper_open(&keeper, shared_folder, HOUR);
	CHECK_EQUAL(bytes_used(), 0);
	set(&keeper.owner.gate->shared, 0);
	stage_ready(keeper.owner.stage);
	flush(keeper.owner.stage);
	CHECK_EQUAL(bytes_used(), 0);
	set(&keeper.owner.gate->shared, 1);
	stage_ready(keeper.owner.stage);
	for (tries = 0; bytes_used() < 2 * 64 * 1024; tries++) {
		CHECK(tries < FOREVER_SECONDS * 1000);
		usleep(1000);
	}
	owner_close(&keeper.owner);
	rig_stop();
}

struct left {
	int64_t next;
	int64_t step; /* every so manieth frame was done */
	int64_t ready;
};

static void check_left(void *context, const struct copy *copy, const struct stage_frame *frame)
{
	struct left *left = context;

	CHECK(strcmp(copy->head.label, "test") == 0);
	while (frame->charge != left->next) {
		CHECK_EQUAL(left->next++ % left->step, 0); /* with its whole slab */
	}
	CHECK_EQUAL(frame->state, left->next % left->step ? STAGE_FRAME_READY : STAGE_FRAME_DONE);
	check_content(frame);
	left->ready += frame->state == STAGE_FRAME_READY;
	left->next++;
}

/* Frames unfinished at the pump's end are there for the next process, large frames too, in order. */
static void stays_behind(void)
{
	struct left left = { .step = 3 };
	int64_t i;

	keeper_open(&keeper, shared_folder, HOUR);
	/* Little enough of STAGE_SHARED_MAX to leave space for spares, which a late pump increases. */
	for (i = 0; i < 300; i++) {
		keeper_put(&keeper, i % 100 == 50 ? 70000 : (size_t) i * 3);
	}
	flush(keeper.owner.stage);
	for (i = 0; i < 300; i += left.step) {
		frame_done(keeper.frames[i]);
	}
	owner_close(&keeper.owner);
	rig_stop();
	CHECK_EQUAL(get((int64_t *) &keeper.durable), 300);
	copies_read(&copies, shared_folder);
	copies_each(&copies, check_left, &left);
	CHECK_EQUAL(left.ready, 200);
	copies_free(&copies);
	remove_folder(shared_folder);
	CHECK_EQUAL(mkdir(shared_folder, 0700), 0);
}

/* A destroyed stage leaves unfinished frames to the pump, which continues the checks. */
static void outlives_its_stage(void)
{
	static struct keeper other;

	keeper_open(&keeper, shared_folder, 0);
	keeper_put_many(&keeper, 500);
	owner_close(&keeper.owner);
	for (int i = 0; i < 500; i++) {
		check_content(keeper.frames[i]);
	}
	keeper_done(&keeper, 0, 500);
	owner_open(&other.owner, rig.pump, 0);
	other.owner.gate = stage_gate(other.owner.stage);
	keeper_put_many(&other, 1); /* the pump passes by */
	keeper_done(&other, 0, 1);
	wait_for_spares();
	owner_close(&other.owner);
	rig_stop();
}

int main(void)
{
	test_folder();
	RUN(ready_before_the_first_put);
	RUN(used_again_when_all_is_done);
	RUN(one_holds_up_no_other);
	RUN(a_slab_starts_anew);
	RUN(falls_back_when_full);
	RUN(plain_pages_go_back);
	RUN(no_place);
	RUN(limited);
	RUN(occupied);
	RUN(changes_its_mind);
	RUN(changes_in_little_traffic);
	RUN(counts_what_is_wanted);
	RUN(stays_behind);
	RUN(outlives_its_stage);
	return 0;
}
