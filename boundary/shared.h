/*
 * res_kafka: the memory that the module (C, in Asterisk) and the engine (Go, in its own process) share.
 *
 *   control memory   struct resk_control: one memfd of fixed size, sealed against every change of it
 *   plain slabs      one memfd, sealed against shrinking: slabs of the usual size below resk_head.usual_bytes, larger ones above
 *   durable slabs    the files of the staging folder, on a memory file system: STAGE_SLABS_FILE, and "slab-N" for each larger one
 *
 * Both processes map all of it for writing. Neither trusts the other: each reads a value once, into memory
 * of its own, and then checks that copy. Nothing that the engine writes here harms the module; the worst
 * outcome is a wrong refusal.
 *
 * Integers are in the machine's byte order, which is the same on both sides. A field of 8 bytes is read
 * and written atomically unless its comment says otherwise; relaxed order is enough where none is named.
 * SHARED_AT states the offset of each field; the Go side is compared with these lines.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_BOUNDARY_SHARED_H
#define RES_KAFKA_BOUNDARY_SHARED_H

#include <stddef.h>
#include <stdint.h>

#define SHARED_AT(type, field, offset) _Static_assert(offsetof(struct type, field) == (offset), #type "." #field)
#define SHARED_SIZE(type, size)        _Static_assert(sizeof(struct type) == (size), #type)

/* A cache line. Fields of different writers never share one. */
#define RESK_LINE 64

#define RESK_CONTROL_MAGIC  UINT64_C(0x4c525443534b4552) /* "RESKCTRL" where the lowest byte comes first */
#define RESK_CONTROL_LAYOUT 1                            /* of struct resk_control; the engine refuses any other */

/* Numbers of gates and progress records. Number 0 is never used: it means "none". */
#define RESK_GATES    4096
#define RESK_PROGRESS 1024

/* Entries of the ring, a power of two: some 30 ms of full slabs at the highest rate that writers reach. */
#define RESK_RING 1024

/* The module writes the head before it starts the first engine, but for usual_bytes. */
struct resk_head {
	uint64_t magic;       /* RESK_CONTROL_MAGIC */
	uint32_t layout;      /* RESK_CONTROL_LAYOUT */
	uint32_t ring;        /* RESK_RING */
	uint32_t gates;       /* RESK_GATES */
	uint32_t progress;    /* RESK_PROGRESS */
	uint64_t size;        /* sizeof(struct resk_control) */
	uint64_t usual_bytes; /* of the plain file: each multiple of STAGE_SLAB_BYTES below this may begin a slab of that size, and
	                       * from here on larger slabs follow. Written before the first entry of the ring */
	uint64_t unused[3];
};

SHARED_SIZE(resk_head, 64);
SHARED_AT(resk_head, magic, 0);
SHARED_AT(resk_head, layout, 8);
SHARED_AT(resk_head, ring, 12);
SHARED_AT(resk_head, gates, 16);
SHARED_AT(resk_head, progress, 20);
SHARED_AT(resk_head, size, 24);
SHARED_AT(resk_head, usual_bytes, 32);

/* Which file a slab lies in. */
enum resk_pool {
	RESK_POOL_PLAIN = 0,   /* the memfd of plain slabs; resk_entry_slab is the slab's offset in it */
	RESK_POOL_DURABLE = 1, /* STAGE_SLABS_FILE of the staging folder; the slab's offset in it */
	RESK_POOL_FILE = 2,    /* "slab-N" of the staging folder, a slab of its own; N */
};

/* One range of frames that the engine is to take over. Plain fields: the ring's counters order the
 * accesses.
 *
 * The range holds whole frames, back to back, in the order in which they were admitted.
 * After the start of a new engine a range may hold frames that are done already: the engine skips each frame whose
 * state is not STAGE_FRAME_READY. The last frame of a range is not done. So the slab is not used again before the
 * engine has read the range to its end, whichever frames it marks as done meanwhile. */
struct resk_ring_entry {
	uint64_t id;     /* number of the gate, which is that of the connection */
	uint64_t pool;   /* enum resk_pool */
	uint64_t slab;   /* see enum resk_pool */
	uint64_t start;  /* of the first frame, bytes from the beginning of the slab */
	uint64_t length; /* of the range, bytes */
	uint64_t unused[3];
};

SHARED_SIZE(resk_ring_entry, RESK_LINE);
SHARED_AT(resk_ring_entry, id, 0);
SHARED_AT(resk_ring_entry, pool, 8);
SHARED_AT(resk_ring_entry, slab, 16);
SHARED_AT(resk_ring_entry, start, 24);
SHARED_AT(resk_ring_entry, length, 32);

/* The module's pump puts entries, the engine takes them. put, taken and asleep are accessed in sequential
 * order. Entry n is entries[n % RESK_RING]; the ring is full when put - taken is RESK_RING. Between two
 * engines, when the old one is proved dead and the new one is not started yet, the module sets put and
 * taken to 0. */
struct resk_ring {
	_Alignas(RESK_LINE) uint64_t put;    /* entries ever put; the module writes it */
	_Alignas(RESK_LINE) uint64_t taken;  /* entries ever taken; the engine writes it */
	_Alignas(RESK_LINE) uint64_t asleep; /* the engine stores 1 and then looks at put once more before it sleeps. The module
	                                      * puts and then exchanges 1 for 0; if it was 1, it writes 8 bytes to the eventfd */
	_Alignas(RESK_LINE) struct resk_ring_entry entries[RESK_RING];
};

SHARED_SIZE(resk_ring, 3 * RESK_LINE + RESK_RING * RESK_LINE);
SHARED_AT(resk_ring, put, 0);
SHARED_AT(resk_ring, taken, 64);
SHARED_AT(resk_ring, asleep, 128);
SHARED_AT(resk_ring, entries, 192);

/* The limits and counters of one connection's stage. Frames held are those that writers put minus
 * done_frames; how many were put stands in the module's own memory. */
struct resk_gate {
	/* The engine writes, writers read with each put. */
	int64_t open;       /* 0 = every put is refused with STAGE_CLOSED */
	int64_t max_frames; /* frames that may be held */
	int64_t max_charge; /* charge that may be held; a frame above it is still admitted while nothing is held */
	int64_t max_length; /* bytes of one frame's content */
	int64_t linger_ns;  /* how long a frame may wait for more frames before the pump hands it over, give or take an eighth, or up
	                     * to a half and 2.5 ms longer when frames come sooner than those before; 0 = not at all. A longer value is
	                     * in force from the pump's next look on, a shorter one from the next put on. A full slab does not wait */
	int64_t max_weight; /* of a record; the module weighs it, the stage does not look at it */
	int64_t shared;     /* 1 = new slabs are durable ones */
	int64_t memory;     /* limits for frames that are to wait in memory only: frames in the lower 32 bits, charge in units of 1024
	                     * in the upper 32. max_frames and max_charge apply as well */

	/* The engine writes. It adds to both, first charge and then frames, after it has stored
	 * STAGE_FRAME_DONE into the states. Before a new engine gets its first entry, the module sets both to
	 * what the states say. */
	_Alignas(RESK_LINE) int64_t done_frames; /* frames ever done */
	int64_t done_charge;                     /* and their charge */
	int64_t unused_done[6];

	/* The module writes, at each look of the pump and when stage_publish is called. It never reads these. */
	_Alignas(RESK_LINE) int64_t admitted; /* frames ever admitted */
	int64_t handed;                       /* of these, frames handed over; less after the start of a new engine */
	int64_t unshared;                     /* frames put into a plain slab while `shared` was 1, because no durable one could be had: the
	                                       * file system of the folder is full, the folder is gone, or a limit is reached */
	int64_t unused_module[5];
};

SHARED_SIZE(resk_gate, 3 * RESK_LINE);
SHARED_AT(resk_gate, open, 0);
SHARED_AT(resk_gate, max_frames, 8);
SHARED_AT(resk_gate, max_charge, 16);
SHARED_AT(resk_gate, max_length, 24);
SHARED_AT(resk_gate, linger_ns, 32);
SHARED_AT(resk_gate, max_weight, 40);
SHARED_AT(resk_gate, shared, 48);
SHARED_AT(resk_gate, memory, 56);
SHARED_AT(resk_gate, done_frames, 64);
SHARED_AT(resk_gate, done_charge, 72);
SHARED_AT(resk_gate, admitted, 128);
SHARED_AT(resk_gate, handed, 136);
SHARED_AT(resk_gate, unshared, 144);

/* What a subscription's thread and the engine tell each other while a batch is delivered. */
struct resk_progress {
	_Alignas(RESK_LINE) uint64_t delivered; /* the thread adds 1 when a callback has returned: its offset may be committed */
	uint64_t hurry;                         /* the engine writes: not 0 = begin no other callback, ask for the next batch */
	uint64_t unused[6];
};

SHARED_SIZE(resk_progress, RESK_LINE);
SHARED_AT(resk_progress, delivered, 0);
SHARED_AT(resk_progress, hurry, 8);

/* The control memory. */
struct resk_control {
	struct resk_head head;
	struct resk_ring ring;
	struct resk_gate gates[RESK_GATES];
	struct resk_progress progress[RESK_PROGRESS];
};

SHARED_SIZE(resk_control, 917760);
SHARED_AT(resk_control, head, 0);
SHARED_AT(resk_control, ring, 64);
SHARED_AT(resk_control, gates, 65792);
SHARED_AT(resk_control, progress, 852224);

/* A frame as it lies in a slab, 8-byte aligned. The content follows the header; the next frame starts size
 * bytes after this one. It holds no pointer, so that another process can read it. */
struct stage_frame {
	uint32_t size;   /* bytes from this frame to the next, header and padding included: a multiple of 8 */
	uint32_t length; /* bytes of content */
	uint32_t state;  /* STAGE_FRAME_READY, until the engine stores STAGE_FRAME_DONE, atomically and with release order: from
	                  * then on nobody but the module looks at the frame */
	uint32_t charge; /* what it weighs against max_charge */
};

SHARED_SIZE(stage_frame, 16);
SHARED_AT(stage_frame, size, 0);
SHARED_AT(stage_frame, length, 4);
SHARED_AT(stage_frame, state, 8);
SHARED_AT(stage_frame, charge, 12);

#define STAGE_FRAME_READY    0x52454459u
#define STAGE_FRAME_DONE     0x444f4e45u

/* One slab, its head included: about 200 frames of 300 bytes, so work for each slab (a wake-up, a hand-over)
 * costs little for each frame. */
#define STAGE_SLAB_BYTES (64 * 1024)

/* The file of the staging folder that holds all durable slabs but larger ones: one may begin at every
 * multiple of STAGE_SLAB_BYTES. Each of the larger ones has a file to itself, whose name begins with
 * "slab-". */
#define STAGE_SLABS_FILE "slabs"

/* The granule of a slab, bytes: every frame begins at a multiple of it. */
#define STAGE_GRANULE 8

/* The head of a slab. It is valid at whatever moment its process was killed. Without the magic number there
 * is no slab. A bit in `whole` marks a complete frame, READY or DONE; such frames do not overlap. Bytes
 * between them are an unfinished frame of unknown length. */
struct stage_slab {
	uint64_t magic;  /* STAGE_SLAB_MAGIC, written last */
	uint32_t layout; /* STAGE_SLAB_LAYOUT */
	uint32_t frames; /* where the first frame begins, bytes from the beginning of the slab */
	uint64_t size;   /* of the slab's place, bytes: STAGE_SLAB_BYTES, or more for a larger one, which has a single frame */
	uint64_t stage;  /* the number of the stage's gate, and */
	uint64_t first;  /* how many frames were admitted to the stage before the first in here: these two order the slabs
	                  * of one label */
	char label[152]; /* the stage's, ends with NUL */
	uint64_t whole[128]; /* bit n % 64 of word n / 64: a frame begins at granule n from frames on, and its writer is done */
};

#define STAGE_SLAB_MAGIC  UINT64_C(0x42414c534b534552) /* "RESKSLAB" where the lowest byte comes first */
#define STAGE_SLAB_LAYOUT 2                            /* of this struct, struct stage_frame and what a frame holds */
#define STAGE_LABEL_MAX   (sizeof(((struct stage_slab *) NULL)->label) - 1)

SHARED_SIZE(stage_slab, 1216);
SHARED_AT(stage_slab, magic, 0);
SHARED_AT(stage_slab, layout, 8);
SHARED_AT(stage_slab, frames, 12);
SHARED_AT(stage_slab, size, 16);
SHARED_AT(stage_slab, stage, 24);
SHARED_AT(stage_slab, first, 32);
SHARED_AT(stage_slab, label, 40);
SHARED_AT(stage_slab, whole, 192);

#endif /* RES_KAFKA_BOUNDARY_SHARED_H */
