/*
 * res_kafka: the stage, where a caller leaves its bytes and goes on.
 *
 * A thread that carries a call puts a frame of bytes into a stage and returns. One pump thread takes whole slabs of
 * frames from all stages and hands them to their taker. The stage knows bytes and limits and nothing else: not what
 * a frame means, not who takes it.
 *
 *     writers ──stage_put──► current slab ──full, or lingered──► pump thread ──take()──► slab is reused
 *
 * What a writer may have to wait for: another writer's reservation of space, a few instructions long. Copying is
 * done outside the lock. A spare slab is always ready; only when the pump has fallen behind does a writer allocate
 * one itself. A writer never waits for the pump, and a stage at its limits refuses at once.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_STAGE_H
#define RES_KAFKA_STAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Limits and counters of one stage, shared by its writers, its pump and whoever takes the frames, who may read and
 * write all of it at any time with atomic operations (relaxed is enough). The memory is the stage's and lives as
 * long as it. All fields are 8 bytes wide, so that a Go program can use them as atomic.Int64. */
struct stage_gate {
	int64_t open;         /* 0 = every put is refused with STAGE_CLOSED */
	int64_t max_frames;   /* most frames held at a time */
	int64_t max_charge;   /* most charge held at a time; a single frame above it is still taken into an empty stage,
	                       * which is one with held_frames and held_charge 0 */
	int64_t max_length;   /* longest content of one frame, bytes */
	int64_t linger_ns;    /* how long a frame may wait for company before the pump takes it; 0 = not at all. A longer
	                       * value is in force from the pump's next look on, a shorter one from the next put on. A
	                       * stage that has filled a slab (64 KiB) does not wait for it. */
	int64_t held_frames;  /* admitted and not yet released: the writer adds, the taker subtracts once it is done */
	int64_t held_charge;
	int64_t admitted;     /* frames ever admitted; only ever grows */
	int64_t taken;        /* frames handed to take(); only ever grows */
	int64_t max_weight;   /* for the writers, who weigh a frame by a rule of their own; the stage does not look at it */
};

/* A frame as it lies in a slab, 8-byte aligned. The content follows the header; the next frame starts size bytes
 * after this one. The same layout stands in shared memory later, so it holds no pointer. */
struct stage_frame {
	uint32_t size;   /* bytes from this frame to the next, header and padding included: a multiple of 8 */
	uint32_t length; /* bytes of content */
	uint32_t state;  /* STAGE_FRAME_RESERVED while its writer copies, then STAGE_FRAME_READY */
	uint32_t charge; /* what it weighs against max_charge */
};

#define STAGE_FRAME_RESERVED 0x52455356u
#define STAGE_FRAME_READY    0x52454459u

enum stage_result {
	STAGE_OK = 0,
	STAGE_CLOSED,       /* the gate is shut */
	STAGE_TOO_LONG,     /* content longer than max_length */
	STAGE_FULL_FRAMES,  /* max_frames held */
	STAGE_FULL_CHARGE,  /* max_charge held */
	STAGE_NO_MEMORY,    /* none left, or more than STAGE_WAITING_MAX wait for the pump */
};

/* Most memory, in bytes and give or take one slab, that one stage lets wait for its pump. It is there for a pump that
 * hangs in its taker while the limits are wide; the limits alone decide otherwise: at 64 KiB in some 15 us, as fast as
 * one writer can be, a pump would have to be away for 60 ms. Tests set it lower. */
#ifndef STAGE_WAITING_MAX
#define STAGE_WAITING_MAX (256u * 1024 * 1024)
#endif

struct stage;
struct stage_pump;

/* What the pump calls, always from its own thread, never two at a time.
 *
 * take gets one slab: length bytes of ready frames, back to back, in the order in which they were admitted. The
 * memory is the pump's again when take returns, so what it needs afterwards it copies. For each writer thread frames
 * arrive in the order of its puts.
 *
 * note reports what stage_note counted under slot since the last report: how often, and the text of the first. text
 * is NUL-terminated and valid during the call.
 */
struct stage_taker {
	void (*take)(void *owner, const void *frames, size_t length);
	void (*note)(void *owner, unsigned int slot, uint64_t count, const char *text);
};

/* stage_pump_start creates the thread that empties stages. *taker is copied. The thread has all signals blocked and
 * the name `name` (at most 15 bytes). Returns NULL when there is no memory or no thread. */
struct stage_pump *stage_pump_start(const struct stage_taker *taker, const char *name);

/* stage_pump_stop takes what every stage still holds, frames and notes, ends the thread and waits for it. Its stages
 * must have been closed (gate.open = 0) and no put may be under way or be admitted later; they are destroyed before
 * or after this call. Not from the pump's thread. pump may be NULL. */
void stage_pump_stop(struct stage_pump *pump);

/* stage_create makes an empty stage with open = 0 and all limits 0; the caller fills the gate in. owner is passed to
 * the taker. Any thread. Returns NULL when there is no memory. */
struct stage *stage_create(struct stage_pump *pump, void *owner);

/* stage_destroy frees a stage nobody uses any more, after its pump has taken what it held, frames and notes. Any thread
 * but the pump's. Blocks until the pump has done so and is not inside a call for this stage. stage may be NULL. */
void stage_destroy(struct stage *stage);

/* stage_gate gives the stage's limits and counters, valid as long as the stage. */
struct stage_gate *stage_gate(struct stage *stage);

/* stage_put admits one frame made of the n parts, in order, and copies them; the caller may reuse its memory at
 * once. n may be 0. Any thread, the pump's included, but no signal handler; never blocks on the pump, the disk or a
 * system call but the pump's wake-up, which a busy stage does not need. Frames of one thread keep their order.
 * Returns STAGE_OK or why it was refused, in which case nothing has been counted or kept; of several reasons the
 * first in the order of enum stage_result. Content longer than 32 bits can say with its header is STAGE_TOO_LONG. */
enum stage_result stage_put(struct stage *stage, const struct iovec *parts, int n, uint32_t charge);

/* How many kinds of note a stage tells apart, and how much text it keeps of the first of a kind (with the NUL). */
#define STAGE_NOTE_SLOTS 8
#define STAGE_NOTE_TEXT  128

/* stage_note counts an event worth a line in the log without writing one in this thread: the pump reports it to
 * taker.note about 50 ms later, the count since its last report and the first text. Text beyond STAGE_NOTE_TEXT is cut;
 * text may be NULL if length is 0. A slot of STAGE_NOTE_SLOTS or more is ignored. Any thread, the pump's included.
 * Works on a closed stage too. */
void stage_note(struct stage *stage, unsigned int slot, const char *text, size_t length);

/* stage_flush waits until every frame admitted and every note made before the call has been handed to the taker, and
 * does not let them linger. By a thread that has set gate.open = 0 before: until the last frame there will be. Not from
 * the pump's thread. It has no time limit of its own: it ends because the taker ends. */
void stage_flush(struct stage *stage);

#ifdef __cplusplus
}
#endif

#endif /* RES_KAFKA_STAGE_H */
