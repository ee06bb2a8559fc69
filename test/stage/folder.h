/*
 * res_kafka: reads the slabs of a folder, like another process.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#ifndef RES_KAFKA_TEST_STAGE_FOLDER_H
#define RES_KAFKA_TEST_STAGE_FOLDER_H

#include <fcntl.h>
#include <sys/stat.h>

#include "check.h"

#define MOST_SLABS 4096

/* A copy of a slab's file. */
struct copy {
	struct stage_slab head;
	unsigned char *file;
	size_t size;
};

struct copies {
	struct copy list[MOST_SLABS];
	int count;
	int unfinished; /* files without a complete slab */
	int bytes;
};

static inline int by_first(const void *left, const void *right)
{
	const struct stage_slab *a = &((const struct copy *) left)->head;
	const struct stage_slab *b = &((const struct copy *) right)->head;

	return a->stage != b->stage ? (a->stage > b->stage) - (a->stage < b->stage) : (a->first > b->first) - (a->first < b->first);
}

/* copy_slab copies a slab of a file, if any, and returns the slab's size, or the smallest size. */
static inline size_t copy_slab(struct copies *copies, int file, off_t at, size_t most)
{
	struct copy *copy = &copies->list[copies->count];
	struct stage_slab head = { 0 };

	CHECK(copies->count < MOST_SLABS);
	if (pread(file, &head, sizeof(head), at) < (ssize_t) sizeof(head) || head.magic == 0) {
		copies->unfinished++;
		return STAGE_SLAB_BYTES;
	}
	CHECK_EQUAL(head.magic, STAGE_SLAB_MAGIC);
	CHECK_EQUAL(head.layout, STAGE_SLAB_LAYOUT);
	CHECK(head.size <= most);
	CHECK(head.frames >= sizeof(head) && head.frames % 8 == 0 && head.frames <= head.size);
	copy->head = head;
	copy->size = head.size;
	copy->file = calloc(1, head.size + 1);
	CHECK(copy->file != NULL);
	CHECK(pread(file, copy->file, head.size, at) > 0); /* the file may not have all of a larger plain slab */
	copies->count++;
	return head.size;
}

/* copy_places copies the adjacent slabs of a file. */
static inline void copy_places(struct copies *copies, int file)
{
	off_t at = lseek(file, 0, SEEK_DATA);
	struct stat status;

	CHECK_EQUAL(fstat(file, &status), 0);
	copies->bytes += status.st_blocks * 512;
	while (at >= 0 && at < status.st_size) {
		at = at / STAGE_SLAB_BYTES * STAGE_SLAB_BYTES;
		at = lseek(file, at + copy_slab(copies, file, at, SIZE_MAX), SEEK_DATA);
	}
}

static inline void copy_file(struct copies *copies, int folder, const char *name)
{
	int file = openat(folder, name, O_RDONLY | O_NOFOLLOW);
	struct stat status;

	if (file < 0) {
		return; /* just released by the pump */
	}
	CHECK_EQUAL(fstat(file, &status), 0);
	if (strcmp(name, STAGE_SLABS_FILE) == 0) {
		copy_places(copies, file);
	} else {
		copies->bytes += status.st_blocks * 512;
		copy_slab(copies, file, 0, status.st_size);
	}
	close(file);
}

static inline void copies_sort(struct copies *copies)
{
	qsort(copies->list, copies->count, sizeof(copies->list[0]), by_first);
}

/* copies_read_plain copies all plain slabs, in order. */
static inline void copies_read_plain(struct copies *copies, int file)
{
	copies->count = copies->unfinished = copies->bytes = 0;
	copy_places(copies, file);
	copies_sort(copies);
}

/* copies_read copies all slabs of a folder, in order. */
static inline void copies_read(struct copies *copies, const char *path)
{
	DIR *folder = opendir(path);
	struct dirent *entry;

	copies->count = copies->unfinished = copies->bytes = 0;
	CHECK(folder != NULL);
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] != '.') {
			copy_file(copies, dirfd(folder), entry->d_name);
		}
	}
	closedir(folder);
	copies_sort(copies);
}

static inline void copies_free(struct copies *copies)
{
	while (copies->count) {
		free(copies->list[--copies->count].file);
	}
}

/* copies_each calls visit for every complete frame, in order, in any state. */
static inline void copies_each(const struct copies *copies, void (*visit)(void *context, const struct copy *copy,
	const struct stage_frame *frame), void *context)
{
	const size_t granules = 8 * sizeof(((struct stage_slab *) NULL)->whole);
	int i;

	for (i = 0; i < copies->count; i++) {
		const struct copy *copy = &copies->list[i];
		size_t end = copy->head.frames;
		size_t granule;

		for (granule = 0; granule < granules; granule++) {
			size_t at = copy->head.frames + granule * STAGE_GRANULE;
			const struct stage_frame *frame = (const struct stage_frame *) (copy->file + at);

			if (!(copy->head.whole[granule / 64] >> granule % 64 & 1)) {
				continue;
			}
			CHECK(at >= end && at + sizeof(*frame) <= copy->size);
			CHECK(frame->size >= sizeof(*frame) && frame->size % STAGE_GRANULE == 0 && frame->size <= copy->size - at);
			CHECK(frame->state == STAGE_FRAME_READY || frame->state == STAGE_FRAME_DONE);
			visit(context, copy, frame);
			end = at + frame->size;
		}
	}
}

#endif /* RES_KAFKA_TEST_STAGE_FOLDER_H */
