/*
 * res_kafka: leaving slabs in the engine's inbox. Knows nothing of Asterisk.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "inbox.h"

static size_t aligned(size_t length)
{
	return (length + RESK_INBOX_ALIGN - 1) / RESK_INBOX_ALIGN * RESK_INBOX_ALIGN;
}

/* wake_engine can only fail in ways that cannot be: the counter of an eventfd holds 2^64 - 2 of these. */
static void wake_engine(int descriptor)
{
	const uint64_t one = 1;

	while (write(descriptor, &one, sizeof(one)) < 0 && errno == EINTR) {
	}
}

int inbox_put(struct resk_inbox *inbox, uint64_t id, void *frames, size_t length, int kept)
{
	struct resk_inbox_entry *entry;
	size_t need = sizeof(*entry) + aligned(kept ? 0 : length);
	size_t at, skipped = 0;
	uint64_t put;

	if (!inbox || length > RESK_INBOX_LONGEST) {
		return 0;
	}
	put = inbox->put;
	at = put % RESK_INBOX_BYTES;
	if (at + need > RESK_INBOX_BYTES) {
		skipped = RESK_INBOX_BYTES - at;
	}
	if (put + skipped + need - __atomic_load_n(&inbox->taken, __ATOMIC_SEQ_CST) > RESK_INBOX_BYTES) {
		return 0;
	}
	entry = (struct resk_inbox_entry *) (inbox->ring + at);
	if (skipped) {
		entry->id = 0;
		entry = (struct resk_inbox_entry *) inbox->ring;
	}
	*entry = (struct resk_inbox_entry) { .id = id, .length = length, .kept = kept ? frames : NULL };
	if (!kept) {
		memcpy(entry + 1, frames, length);
	}
	__atomic_store_n(&inbox->put, put + skipped + need, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&inbox->asleep, __ATOMIC_SEQ_CST) && __atomic_exchange_n(&inbox->asleep, 0, __ATOMIC_SEQ_CST)) {
		wake_engine(inbox->wake);
	}
	return 1;
}
