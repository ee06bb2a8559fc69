/*
 * res_kafka: finding and opening the engine's library.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Finds the engine's library beside this module, opens it and looks its calls up.
 */

#include "asterisk.h"

#include <dlfcn.h>

#include "asterisk/logger.h"
#include "asterisk/utils.h"

#include "golib.h"
#include "internal.h"

/* The engine's place, seen from this module's own directory. A folder of its own keeps it away from autoload, which
 * tries every *.so in the modules directory. */
#define ENGINE_FILE "res_kafka/libreskafka.so"

struct engine_calls engine;

static int engine_path(char *path, size_t size)
{
	Dl_info self;
	const char *slash;

	if (!dladdr(&engine, &self) || !self.dli_fname || !(slash = strrchr(self.dli_fname, '/'))) {
		ast_log(LOG_ERROR, "Cannot tell where res_kafka.so has been loaded from\n");
		return -1;
	}
	if (snprintf(path, size, "%.*s/" ENGINE_FILE, (int) (slash - self.dli_fname), self.dli_fname) >= (int) size) {
		ast_log(LOG_ERROR, "The path of res_kafka.so is too long: %s\n", self.dli_fname);
		return -1;
	}
	return 0;
}

int engine_open(void)
{
	char path[PATH_MAX];
	void *library;

	if (engine_path(path, sizeof(path))) {
		return -1;
	}
	library = golib_open(path, "resk_abi");
	if (!library) {
		ast_log(LOG_ERROR, "The Kafka engine cannot be opened; `make install` puts it beside res_kafka.so: %s\n", dlerror());
		return -1;
	}
#define LOOK_UP(call) \
	if (!(engine.call = (__typeof__(engine.call)) dlsym(library, #call))) { \
		ast_log(LOG_ERROR, "The Kafka engine %s has no call %s: it is of another version than res_kafka.so\n", path, #call); \
		return -1; \
	}
	RESK_CALLS(LOOK_UP)
	if (engine.resk_abi() != RESK_ABI_VERSION) {
		ast_log(LOG_ERROR, "The Kafka engine %s speaks version %u of their contract and res_kafka.so version %d; "
			"after an upgrade Asterisk has to be restarted\n", path, engine.resk_abi(), RESK_ABI_VERSION);
		return -1;
	}
	return 0;
}
