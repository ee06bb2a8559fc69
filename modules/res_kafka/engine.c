/*
 * res_kafka: finding and opening the engine's library.
 *
 * This program is free software, distributed under the terms of the GNU General Public License Version 2. See the
 * LICENSE file at the top of the source tree.
 */

/*! \file
 *
 * \brief Loads Go into a process that is not Go's.
 *
 * What the Go runtime would change in the process, and what is in force instead:
 *
 * - Its threads inherit the signal mask of the thread that loads it. All signals are blocked while it loads, so that a
 *   signal meant for Asterisk (SIGHUP, SIGCHLD, SIGTERM, SIGURG, …) is never delivered to a thread of the engine.
 * - It replaces the handlers of SIGURG and SIGPIPE. Asterisk wakes threads out of poll() with SIGURG and ignores
 *   SIGPIPE; both handlers are put back. Go needs SIGURG only to preempt goroutines, which is switched off
 *   (asyncpreemptoff), and learns of a broken connection from the failed write.
 * - Its handlers of SIGSEGV, SIGBUS and SIGFPE stay: they turn a fault inside Go into a panic, which the engine
 *   catches. A fault anywhere else still ends the process with a core dump, as before.
 */

#include "asterisk.h"

#include <dlfcn.h>
#include <signal.h>

#include "asterisk/logger.h"
#include "asterisk/utils.h"

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

/* Opens the library for the first time in this process; see the top of the file. */
static void *first_open(const char *path)
{
	static const int kept[] = { SIGURG, SIGPIPE };
	struct sigaction before[ARRAY_LEN(kept)];
	const char *godebug = getenv("GODEBUG");
	char *restored = godebug ? ast_strdup(godebug) : NULL;
	char setting[512];
	sigset_t all, mask;
	uint32_t (*abi)(void);
	void *library;
	size_t i;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	for (i = 0; i < ARRAY_LEN(kept); i++) {
		sigaction(kept[i], NULL, &before[i]);
	}
	snprintf(setting, sizeof(setting), "%s%sasyncpreemptoff=1", S_OR(godebug, ""), godebug ? "," : "");
	setenv("GODEBUG", setting, 1);

	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library && (abi = dlsym(library, "resk_abi"))) {
		abi(); /* returns once the Go runtime is up and has read its environment */
	}

	if (restored) {
		setenv("GODEBUG", restored, 1);
		ast_free(restored);
	} else {
		unsetenv("GODEBUG");
	}
	for (i = 0; i < ARRAY_LEN(kept); i++) {
		sigaction(kept[i], &before[i], NULL);
	}
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	return library;
}

int engine_open(void)
{
	char path[PATH_MAX];
	void *library;

	if (engine_path(path, sizeof(path))) {
		return -1;
	}
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
	if (!library) {
		library = first_open(path);
	}
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
