/*
 * res_kafka: the stage, where a caller leaves its bytes and goes on.
 *
 * A thread that carries a call puts a frame of bytes into a stage and returns. One pump thread takes whole slabs of
 * frames from all stages and hands them to their taker. The stage knows bytes and limits and nothing else: not what
 * a frame means, not who takes it.
 *
 *     writers ──stage_put──► current slab ──full, or lingered──► pump thread ──take()──► slab is reused
 *
 * A writer waits for nobody: space is reserved by a single exchange of a word, so that a writer that loses its processor
 * anywhere in here holds up no other, but only the pump and what is behind its frame. A spare slab is always ready; only
 * when the pump has fallen behind does a writer fetch memory itself. A stage at its limits refuses at once.
 *
 * A slab lies in memory of the process, or is shared: then it is a file of a folder on a memory file system, and what
 * it holds survives the process, however that ends. Its frames stay where they are until their taker has said of each
 * that it is done with it. Whoever finds the files of a process that is gone reads them by struct stage_slab.
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
	/* What is read with every put and seldom written, in a cache line of its own. */
	int64_t open;         /* 0 = every put is refused with STAGE_CLOSED, as after stage_shut */
	int64_t max_frames;   /* most frames held at a time */
	int64_t max_charge;   /* most charge held at a time; a single frame above it is still taken into an empty stage,
	                       * which is one with held_frames and held_charge 0 */
	int64_t max_length;   /* longest content of one frame, bytes */
	int64_t linger_ns;    /* how long a frame may wait for company before the pump takes it, give or take an eighth, or
	                       * up to a half and 2.5 ms longer when frames come sooner than those before; 0 = not at all. A longer
	                       * value is in force from the pump's next look on, a shorter one from the next put on. A
	                       * stage that has filled a slab (64 KiB) does not wait for it. */
	int64_t max_weight;   /* for the writers, who weigh a frame by a rule of their own; the stage does not look at it */
	int64_t shared;       /* 1 = new slabs are shared ones; those that hold something go on as they are */
	int64_t taken;        /* frames handed to take(); only ever grows */

	/* What every put changes. */
	int64_t held_frames;  /* admitted and not yet released: the writer adds, the taker subtracts once it is done */
	int64_t held_charge;
	int64_t admitted;     /* frames ever admitted; only ever grows */
	int64_t unshared;     /* frames put while `shared` was 1 into a slab that is not shared, because no shared one could be
	                       * had: the folder's file system is full, the folder is gone, STAGE_SHARED_MAX is in use, the
	                       * pump has no folder, or the stage no label; only ever grows */
	int64_t memory;       /* for the writers, as max_weight: most frames in the lower half, most charge in units of 1024 in
	                       * the upper half, that may be held when a frame comes that is to wait in memory only */
};

/* A frame as it lies in a slab, 8-byte aligned. The content follows the header; the next frame starts size bytes
 * after this one. It holds no pointer, so that another process can read it. */
struct stage_frame {
	uint32_t size;   /* bytes from this frame to the next, header and padding included: a multiple of 8 */
	uint32_t length; /* bytes of content */
	uint32_t state;  /* STAGE_FRAME_READY; DONE see struct stage_taker */
	uint32_t charge; /* what it weighs against max_charge */
};

#define STAGE_FRAME_READY    0x52454459u
#define STAGE_FRAME_DONE     0x444f4e45u

/* One slab, its head included: about 200 frames of 300 bytes, so that what is done once per slab (a spare, a wake-up, a call
 * into the engine) costs a frame next to nothing. */
#define STAGE_SLAB_BYTES (64 * 1024)

/* The file of a folder that holds all shared slabs but larger ones: one may begin at every multiple of STAGE_SLAB_BYTES.
 * Each of the larger has a file to itself, whose name begins with "slab-". */
#define STAGE_SLABS_FILE "slabs"

/* The granule of a slab, bytes: every frame begins at a multiple of it. */
#define STAGE_GRANULE 8

/* How a shared slab begins. Whatever moment its process was killed at, this holds: without the magic number it is
 * nothing yet; where `whole` has a bit there is a frame, whole, READY or DONE, and in their order they overlap
 * nowhere. Between them may be what a writer had not finished: nothing can be said about that, nor where it ends. */
struct stage_slab {
	uint64_t magic;  /* STAGE_SLAB_MAGIC, written last */
	uint32_t layout; /* STAGE_SLAB_LAYOUT */
	uint32_t frames; /* where the first frame begins, bytes from the beginning of the slab */
	uint64_t size;   /* of the slab, bytes */
	uint64_t stage;  /* the stage's number in its pump, and */
	uint64_t first;  /* how many frames were admitted to the stage before the first in here: these two order the slabs
	                  * of one label */
	char label[152]; /* the stage's, ends with NUL */
	uint64_t whole[128]; /* bit n % 64 of word n / 64: a frame begins at granule n from frames on, and its writer is done */
};

#define STAGE_SLAB_MAGIC  UINT64_C(0x42414c534b534552) /* "RESKSLAB" where the lowest byte comes first */
#define STAGE_SLAB_LAYOUT 2                            /* of this struct, struct stage_frame and what a frame holds */
#define STAGE_LABEL_MAX   (sizeof(((struct stage_slab *) NULL)->label) - 1)

/* Most bytes of shared slabs one pump makes, if that is not more than half of what their file system holds in all.
 * Tests set it lower. */
#ifndef STAGE_SHARED_MAX
#define STAGE_SHARED_MAX (64u * 1024 * 1024)
#endif

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
 * one writer can be, a pump would have to be away for 120 ms. Tests set it lower. */
#ifndef STAGE_WAITING_MAX
#define STAGE_WAITING_MAX (512u * 1024 * 1024)
#endif

struct stage;
struct stage_pump;

/* What the pump calls, always from its own thread, never two at a time.
 *
 * take gets one slab: length bytes of ready frames, back to back, in the order in which they were admitted. For each
 * writer thread frames arrive in the order of its puts. With kept = 0 the memory is the pump's again when take returns,
 * so what is needed afterwards is copied, and nothing is written to it.
 *
 * kept = 1: the slab is a shared one. Each of its frames stays as it is, and is found should the process be killed,
 * until STAGE_FRAME_DONE has been stored into its state (atomically, with release order), by any thread at any time
 * after take began and before the pump ends; then the frame is the pump's again. Every frame has its turn once: whatever is done, in
 * whatever order, the slab is used again when all of it is.
 *
 * keep, if there is one, is asked instead of take where a slab of the usual size that is not shared is full and brings all its
 * frames at once. It takes them like take does, and answers whether it goes on using the memory: 0 = no, 1 = until it has called
 * stage_give_back with slab, which it may do before it returns.
 *
 * note reports what stage_note counted under slot since the last report: how often, and the text of the first. text
 * is NUL-terminated and valid during the call.
 */
struct stage_taker {
	void (*take)(void *owner, void *frames, size_t length, int kept);
	int (*keep)(void *owner, void *frames, size_t length, void *slab);
	void (*note)(void *owner, unsigned int slot, uint64_t count, const char *text);
};

/* stage_pump_start creates the thread that empties stages. *taker is copied. The thread has all signals blocked and
 * the name `name` (at most 15 bytes). folder is where shared slabs go, a folder of a memory file system that is nobody
 * else's; NULL or empty: there are none. Returns NULL when there is no memory or no thread. A folder that cannot be
 * opened is like one that is full. */
struct stage_pump *stage_pump_start(const struct stage_taker *taker, const char *name, const char *folder);

/* stage_pump_limit lowers how many bytes of shared slabs the pump makes, for good. Before the first stage is created. */
void stage_pump_limit(struct stage_pump *pump, uint64_t bytes);

/* stage_give_back ends the use of a slab's memory that taker.keep has kept. Once for each. Any thread, before
 * stage_pump_stop is called; what has not been given back by then stays in memory for good. */
void stage_give_back(struct stage_pump *pump, void *slab);

/* stage_pump_stop takes what every stage still holds, frames and notes, ends the thread and waits for it. Its stages
 * must have been closed (gate.open = 0, stage_shut) and no put may be under way or be admitted later; they are destroyed before
 * or after this call. The last of these calls unmaps all shared slabs: no state of a frame may be stored any more. Files
 * that hold frames that are not done stay. Not from the pump's thread. pump may be NULL. */
void stage_pump_stop(struct stage_pump *pump);

/* stage_create makes an empty stage with open = 0 and all limits 0; the caller fills the gate in. owner is passed to
 * the taker. label stands in its shared slabs, for whoever finds them; without one (NULL, empty) or with one longer than
 * STAGE_LABEL_MAX it has none. Any thread. Returns NULL when there is no memory. */
struct stage *stage_create(struct stage_pump *pump, void *owner, const char *label);

/* stage_destroy frees a stage nobody uses any more, after its pump has taken what it held, frames and notes. Any thread
 * but the pump's. Blocks until the pump has done so and is not inside a call for this stage. stage may be NULL. */
void stage_destroy(struct stage *stage);

/* stage_gate gives the stage's limits and counters, valid as long as the stage. */
struct stage_gate *stage_gate(struct stage *stage);

/* stage_shut refuses every later put with STAGE_CLOSED, for good, whatever gate.open says from now on. Any thread. */
void stage_shut(struct stage *stage);

/* stage_ready has the pump see to it that the stage's first put finds a slab of the kind that the gate asks for. Any thread,
 * after the gate was filled in or gate.shared was changed; does not wait for it. */
void stage_ready(struct stage *stage);

/* stage_put admits one frame made of the n parts, in order, and copies them; the caller may reuse its memory at
 * once. n may be 0. Any thread, the pump's included, but no signal handler; waits for nobody, and makes no
 * system call but the pump's wake-up, which a busy stage does not need, and those for memory when there is no spare slab. Frames of one thread keep their order.
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
 * does not let them linger. By a thread that has set gate.open = 0, or called stage_shut, before: until the last frame
 * there will be. Not from the pump's thread. It has no time limit of its own: it ends because the taker ends. */
void stage_flush(struct stage *stage);

#ifdef __cplusplus
}
#endif

#endif /* RES_KAFKA_STAGE_H */
