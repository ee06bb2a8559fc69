/*
 * res_kafka: the stage, the place of a caller's bytes on their way to the engine.
 *
 * A thread of a call puts a frame of bytes into a stage and returns. One pump thread hands the frames of all
 * stages over to the engine, another process, through a ring in shared memory: boundary/shared.h has the
 * layout. The stage knows bytes and limits, not the meaning of a frame.
 *
 *     writers ──stage_put──► current slab ──full, or lingered──► pump thread ──► ring ──► engine
 *                                ▲                                                          │
 *                                └──────────── reused when every frame is done ◄────────────┘
 *
 * A writer waits for no thread. A single exchange of a word reserves space, so a preempted writer delays no
 * other writer, only the pump and later frames. A spare slab is always ready; a writer allocates memory
 * itself only if the pump has fallen behind. A stage at its limits refuses at once.
 *
 * A frame stays in place until the engine marks its state as done. After the death of an engine, every
 * unfinished frame is handed over to the next engine. Without an engine the stage is the queue, bounded by
 * the gate's limits and by the bytes of all stages together.
 *
 * A plain slab lies in a memfd, which ends with the two processes. A durable slab lies in a folder on a
 * memory file system and outlives both. A later process reads the files of dead processes by struct
 * stage_slab.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_STAGE_H
#define RES_KAFKA_STAGE_H

#include <stdbool.h>
#include <sys/uio.h>

#include "../boundary/shared.h"

/* Upper bound for the bytes of all slabs of one pump, lower on 32-bit machines, where the module shares a
 * small address space with the PBX. Tests set a lower value. */
#ifndef STAGE_BYTES_MAX
#define STAGE_BYTES_MAX ((size_t) (sizeof(void *) > 4 ? 1024 : 192) * 1024 * 1024)
#endif

/* Upper bound for the bytes of durable slabs of one pump. The other bound is half of the file system's size.
 * Tests set a lower value. */
#ifndef STAGE_SHARED_MAX
#define STAGE_SHARED_MAX (64u * 1024 * 1024)
#endif

enum stage_result {
	STAGE_OK = 0,
	STAGE_CLOSED,       /* the gate is shut */
	STAGE_TOO_LONG,     /* content longer than max_length */
	STAGE_FULL_FRAMES,  /* the limit of held frames is reached */
	STAGE_FULL_CHARGE,  /* the limit of held charge is reached */
	STAGE_NO_MEMORY,    /* no memory is left, or the limit of all slabs is reached */
};

struct stage;
struct stage_pump;

/* The memory shared by module and engine, except the staging folder. The descriptors are close-on-exec; the
 * engine inherits copies. */
struct stage_memory {
	struct resk_control *control; /* mapped; not in children of fork */
	int control_file;
	int plain_file;
	int wake; /* a non-blocking eventfd */
};

/* stage_memory_open creates both files and the eventfd, and writes the head. Returns 0 or an errno value;
 * after a failure there is nothing to close. */
int stage_memory_open(struct stage_memory *memory);

/* stage_memory_close unmaps and closes the memory. The pump must be stopped and all stages destroyed. */
void stage_memory_close(struct stage_memory *memory);

/* stage_note_cb reports the notes of one slot since the last report: their number and the first text. text
 * ends with NUL and is valid during the call. Runs on the pump's thread. */
typedef void (*stage_note_cb)(void *owner, unsigned int slot, uint64_t count, const char *text);

/* stage_pump_start creates the thread that empties stages. memory serves one pump and must stay open. The
 * thread blocks all signals and has the name `name`, at most 15 bytes. folder is the folder for durable
 * slabs, on a memory file system and private to this process; NULL or empty means no durable slabs. A folder
 * that cannot be opened counts as full. bytes limits all slabs together; 0 = STAGE_BYTES_MAX. The pump starts
 * without an engine. Returns NULL with errno without memory, thread or address space. */
struct stage_pump *stage_pump_start(const struct stage_memory *memory, stage_note_cb note, const char *name,
	const char *folder, uint64_t bytes);

/* stage_pump_engine_new lets the pump hand over frames. The pump first sets done_frames and done_charge of
 * each gate from the states of the frames. The pump then hands over every unfinished frame, stage by stage,
 * oldest first, before newer frames. The engine must have opened its connections. Any thread; does not
 * block. */
void stage_pump_engine_new(struct stage_pump *pump);

/* stage_again_cb shows an unfinished frame, after the arrival of a new engine and before any frame is handed
 * over again. content has length bytes; the engine may change them at any time. content is NULL after the
 * last frame. Runs on the pump's thread. */
typedef void (*stage_again_cb)(const void *content, uint32_t length);

/* stage_pump_again sets this callback. Before the first stage_pump_engine_new. */
void stage_pump_again(struct stage_pump *pump, stage_again_cb again);

/* stage_pump_engine_lost stops the hand-over. After its return the ring is empty and stays empty, and the
 * head of control memory is restored. The old engine must be dead and the next engine not started, because
 * both write to this memory. Any thread; waits for no other process. Idempotent, also without
 * stage_pump_engine_new. */
void stage_pump_engine_lost(struct stage_pump *pump);

/* stage_pump_stop hands over the remaining frames and notes of every stage, ends the thread and waits for it,
 * at most a second longer than a call of note. Frames without space in the ring, or without an engine, are
 * not handed over. The pump's stages must be closed (gate.open = 0, stage_shut), without a running or later
 * put; they are destroyed before or after this call. The last of these calls unmaps all slabs. Durable slabs
 * with unfinished frames stay in the folder. Not from the pump's thread. pump may be NULL. */
void stage_pump_stop(struct stage_pump *pump);

/* stage_create makes an empty stage with its own gate, with open and all limits 0. owner is passed to note.
 * label is written into the stage's slabs, for later processes; without a label (NULL, empty), or with one
 * longer than STAGE_LABEL_MAX, the stage has no durable slabs. Any thread. Returns NULL without memory, or
 * after RESK_GATES - 1 stages of one pump: no gate is reused. */
struct stage *stage_create(struct stage_pump *pump, void *owner, const char *label);

/* stage_destroy frees an unused stage. The pump first hands over remaining frames and notes, with the time
 * limit of stage_pump_stop. Unfinished frames are not handed over to a later engine. Any thread but the
 * pump's. Blocks until the pump is not inside a callback for this stage. stage may be NULL. */
void stage_destroy(struct stage *stage);

/* stage_gate returns the stage's gate, valid as long as the stage. stage_number returns its number, the
 * engine's name of the stage. */
struct resk_gate *stage_gate(struct stage *stage);
uint32_t stage_number(const struct stage *stage);

/* stage_admitted returns how many frames were ever admitted. Any thread. */
int64_t stage_admitted(const struct stage *stage);

/* stage_publish updates the module's line of the gate. The pump calls stage_publish at each look. Any
 * thread. */
void stage_publish(struct stage *stage);

/* stage_hold keeps the stage's frames from being handed over while held is true, because the engine does not
 * know the gate yet. Any thread; returns at once. */
void stage_hold(struct stage *stage, bool held);

/* stage_shut refuses every later put with STAGE_CLOSED, permanently, for any gate.open. Any thread. */
void stage_shut(struct stage *stage);

/* stage_ready asks the pump for a slab of the gate's kind before the stage's first put. Any thread, after the
 * gate was filled in or gate.shared was changed; does not wait. */
void stage_ready(struct stage *stage);

/* stage_put admits a frame made of the n parts, in order, and copies them; the caller may reuse its memory at
 * once. n may be 0. memory_only: the frame waits in memory only, so gate.memory is a limit too. Any thread,
 * including the pump's, but no signal handler. stage_put waits for no thread. System calls: only the pump's
 * wake-up, unnecessary in a busy stage, and memory calls without a spare slab. Frames of one thread keep
 * their order. Returns STAGE_OK or the reason of a refusal, the first in the order of enum stage_result;
 * after a refusal nothing has been counted or kept. Content too long for 32 bits with its header is
 * STAGE_TOO_LONG. */
enum stage_result stage_put(struct stage *stage, const struct iovec *parts, int n, uint32_t charge, bool memory_only);

/* Number of kinds of notes in a stage, and stored text of the first note of a kind (with the NUL). */
#define STAGE_NOTE_SLOTS 8
#define STAGE_NOTE_TEXT  128

/* stage_note counts `count` events worth a line in the log, without a line from this thread. About 50 ms later the
 * pump reports the count since the last report and the first text to note. Text beyond STAGE_NOTE_TEXT is
 * cut; text may be NULL if length is 0. A slot of STAGE_NOTE_SLOTS or more is ignored. Any thread, including
 * the pump's. Works on a closed stage too. */
void stage_note(struct stage *stage, unsigned int slot, uint64_t count, const char *text, size_t length);

/* stage_flush waits until every frame and note from before the call has been handed over, without linger; for
 * at most patience (ns). After gate.open = 0 or stage_shut in the same thread, it waits for the very last
 * frame. Not from the pump's thread. Returns whether all was handed over. */
bool stage_flush(struct stage *stage, int64_t patience);

#endif /* RES_KAFKA_STAGE_H */
