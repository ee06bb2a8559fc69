# res_kafka: Kafka inside Asterisk. `make help` lists what can be built.
#
#   ASTERISK_ROOT   the root whose Asterisk is built against and installed into; default /
#   DESTDIR         put before every installed path, for packagers
#   BUILD           where everything is built; default build
#   bindir          where the reskafka command goes; default /usr/bin
#   docdir          where the licences of what is linked go; default /usr/share/doc/res_kafka
#   SANITIZE        address: modules for the address sanitizer, which the process has to preload
#   CC CFLAGS LDFLAGS GO GOFLAGS GO_LDFLAGS   as usual, added to our own

# One word for each modules/NAME.c. A module's further sources are modules/NAME/*.c, its exported symbols those that
# modules/NAME/exports.map lists, none when there is no such file.
MODULES := res_kafka cdr_kafka
# The same for test/modules/NAME.c, modules that only tests load; `install-test-modules` adds them, `install` never does.
TEST_MODULES := kafka_probe call_probe test_res_kafka
# The same for bench/modules/NAME.c, modules that only measurements load; see install-bench-modules.
BENCH_MODULES := cdr_nothing kafka_bench

ASTERISK_ROOT ?= /
BUILD ?= build
# One spelling for one folder, however it was named: what gcc notes down of dependencies is found again by its name.
override BUILD := $(patsubst $(CURDIR)/%,%,$(abspath $(BUILD)))
bindir ?= /usr/bin
docdir ?= /usr/share/doc/res_kafka
CC = gcc
CFLAGS ?= -O2 -g
GO ?= go
# The symbol tables stay in, so that a core file or a profile of the PBX names the engine's functions. Packagers strip.
GO_LDFLAGS ?=

# The root without its slash at the end: empty for /, so that paths can be put behind it.
ROOT := $(patsubst %/,%,$(abspath $(ASTERISK_ROOT)))
# Where installed files go. Paths inside Asterisk's directories are put behind it.
TARGET = $(DESTDIR)$(ROOT)
SYSROOT := $(if $(ROOT),--sysroot=$(ROOT))

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
# Q= shows the commands.
Q ?= @

##@ Build and install

.PHONY: all
all: $(MODULES:%=$(BUILD)/%.so) $(BUILD)/reskafka $(BUILD)/NOTICES ## Build the modules and reskafka: the engine and the command

# What a module is made of besides its own sources.
res_kafka_extra := $(wildcard boundary/*.c stage/*.c)
res_kafka_libs := -ldl -lpthread

ifeq ($(SANITIZE),address)
SANITIZE_CFLAGS := -fsanitize=address -fno-omit-frame-pointer
endif

# What a packager's flags do not have already. Fortified functions need an optimizing compiler, and hide from the address sanitizer.
HARDEN_CFLAGS := $(if $(findstring -fstack-protector,$(CFLAGS)),,-fstack-protector-strong)
ifeq ($(SANITIZE)$(findstring _FORTIFY_SOURCE,$(CFLAGS))$(filter -O0,$(CFLAGS)),)
HARDEN_CFLAGS += $(if $(filter -O%,$(CFLAGS)),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif
HARDEN_LDFLAGS := -Wl,-z,relro,-z,now
# No path of this machine in what is built: the same sources give the same files, wherever they are.
SAME_CFLAGS := -ffile-prefix-map='$(CURDIR)'=.
# Asterisk's headers need blocks from a compiler that is clang.
BLOCKS_CFLAGS := $(if $(shell $(CC) -dM -E -x c /dev/null 2>/dev/null | grep -w __clang__),-fblocks)

MODULE_CFLAGS = -std=gnu11 $(HARDEN_CFLAGS) $(SAME_CFLAGS) $(BLOCKS_CFLAGS) $(CFLAGS) -fPIC -Wall -Wextra -Werror -Wno-unused-parameter -D_GNU_SOURCE -I. -Iinclude -I'$(BUILD)/obj' $(SYSROOT) $(SANITIZE_CFLAGS)
MODULE_LDFLAGS = $(HARDEN_LDFLAGS) $(LDFLAGS) $(SYSROOT) $(SANITIZE_CFLAGS) -shared

# define_module NAME FOLDER [SUBFOLDER/]: the rules of one module, which is built in BUILD or in SUBFOLDER of it.
# AST_MODULE is what Asterisk's headers ask of every source of a module.
define define_module
$(3)$(1)_sources := $(2)/$(1).c $$(wildcard $(2)/$(1)/*.c) $$($(3)$(1)_extra)
$(3)$(1)_objects := $$($(3)$(1)_sources:%.c=$(BUILD)/obj/$(1)/%.o)
$(3)$(1)_map := $$(or $$(wildcard $(2)/$(1)/exports.map),$(BUILD)/obj/private.map)

$$($(3)$(1)_objects): $(BUILD)/obj/$(1)/%.o: %.c $(BUILD)/obj/flags | $(BUILD)/obj/build.h check-asterisk
	@echo "  CC      $$<"
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(MODULE_CFLAGS) -DAST_MODULE=\"$(1)\" -DAST_MODULE_SELF_SYM=__internal_$(1)_self -I$(2)/$(1) -MMD -MP -c -o $$@ $$<

$(BUILD)/$(3)$(1).so: $$($(3)$(1)_objects) $$($(3)$(1)_map)
	@echo "  LD      $$@"
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(MODULE_LDFLAGS) -Wl,--version-script=$$($(3)$(1)_map) -o $$@ $$($(3)$(1)_objects) $$($(3)$(1)_libs)

-include $$($(3)$(1)_objects:.o=.d)
endef
$(foreach module,$(MODULES),$(eval $(call define_module,$(module),modules)))
$(foreach module,$(TEST_MODULES),$(eval $(call define_module,$(module),test/modules)))
$(foreach module,$(BENCH_MODULES),$(eval $(call define_module,$(module),bench/modules)))
# What res_kafka is measured against, under the same name. Nothing else of this repository uses librdkafka.
reference/res_kafka_libs := -lrdkafka -lpthread
$(eval $(call define_module,res_kafka,bench/reference,reference/))

# The linker map of a module that gives nothing to others.
$(BUILD)/obj/private.map:
	@mkdir -p $(@D)
	@echo '{ local: *; };' >$@

# Changes when what things are compiled with changes, and only then: another root or other flags rebuild everything.
$(BUILD)/obj/flags: export BUILT_WITH = $(CC) $(MODULE_CFLAGS) $(MODULE_LDFLAGS) $(filter-out -trimpath,$(GOFLAGS)) $(COMMAND_BUILD)
$(BUILD)/obj/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$$BUILT_WITH" >$@.new
	@cmp -s $@ $@.new && rm $@.new || mv $@.new $@

GO_SOURCES := go.mod $(wildcard go.sum) $(wildcard boundary/*.h stage/*.h) \
	$(shell find cmd internal -type f ! -name '*_test.go' ! -path '*/testdata/*')

# The number that the module and the engine show each other: they have to be of the same sources. Only what includes
# build.h is compiled again when it changes.
BUILD_SOURCES := $(sort $(GO_SOURCES) $(wildcard boundary/*.c stage/*.c include/asterisk/*.h modules/*.c modules/*/*.c modules/*/*.h))
BUILD_ID := $(shell cat $(BUILD_SOURCES) | sha256sum | cut -c 1-16)
$(BUILD)/obj/build.h: FORCE
	@mkdir -p $(@D)
	@printf '#define RESK_BUILD "%s"\n' '$(BUILD_ID)' >$@.new
	@cmp -s $@ $@.new && rm $@.new || mv $@.new $@

# The engine, and the command for people: the same on every C library, for there is no C in it, and no loader, which a
# position-independent program would need. -trimpath and -buildvcs=false, as SAME_CFLAGS: the same sources give the same file.
COMMAND_BUILD = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(COMMAND_ID) $(GO_LDFLAGS)'
$(BUILD)/reskafka: private COMMAND_ID = -X reskafka/internal/boundary.Build=$(BUILD_ID)
$(BUILD)/reskafka: $(GO_SOURCES) $(BUILD)/obj/flags $(BUILD)/obj/build.h | check-go
	@echo "  GO      $@"
	$(Q)$(COMMAND_BUILD) -o $@ ./cmd/reskafka

# The licences of what it is linked with.
$(BUILD)/NOTICES: go.mod internal/docs/notices/main.go | check-go
	@echo "  NOTICES $@"
	@mkdir -p $(@D)
	$(Q)$(GO) run ./internal/docs/notices >$@

# `install` unlinks what it replaces, so a running Asterisk keeps the files it has open, and with -C leaves alone what is the same,
# so that one that starts meanwhile finds it.
.PHONY: install
install: all ## Install modules, engine, documentation, headers and command
	@set -e; eval "$$(scripts/asterisk-dirs $(or $(ROOT),/) | sed "s/=\(.*\)/='\1'/")"; \
	put() { mode=$$1 dir=$(TARGET)$$2; shift 2; echo "  INSTALL $$dir ($$*)"; install -d "$$dir"; install -C -m $$mode "$$@" "$$dir"; }; \
	put 755 "$$astmoddir" $(MODULES:%=$(BUILD)/%.so); \
	put 755 "$$astmoddir/res_kafka" $(BUILD)/reskafka; \
	rm -f "$(TARGET)$$astmoddir/res_kafka/libreskafka.so"; \
	put 644 "$$includedir/asterisk" include/asterisk/kafka*.h; \
	set -- documentation/*-en_US.xml; test ! -e "$$1" || put 644 "$$astdatadir/documentation/thirdparty" "$$@"; \
	put 755 $(bindir) $(BUILD)/reskafka; \
	put 644 $(docdir) LICENSE $(BUILD)/NOTICES
	@echo 'An Asterisk that runs answers "config show help res_kafka" with "not found" until it is restarted: it reads its documentation at the start.'

.PHONY: install-test-modules
install-test-modules: $(TEST_MODULES:%=$(BUILD)/%.so)
	@set -e; eval "$$(scripts/asterisk-dirs $(or $(ROOT),/) | sed "s/=\(.*\)/='\1'/")"; \
	dir="$(TARGET)$$astmoddir"; install -d "$$dir"; install -C -m 755 $^ "$$dir"

# Into the same place as `install`, and beside the reference into a place of its own, a second DESTDIR: which of the two an
# Asterisk is given is all that differs. Needs librdkafka-dev in the root, which scripts/provision puts there.
REFERENCE_INSTALL := $(BUILD)/reference/install
.PHONY: install-bench-modules
install-bench-modules: $(BENCH_MODULES:%=$(BUILD)/%.so) $(TEST_MODULES:%=$(BUILD)/%.so) $(BUILD)/reference/res_kafka.so
	@set -e; eval "$$(scripts/asterisk-dirs $(or $(ROOT),/) | sed "s/=\(.*\)/='\1'/")"; \
	put() { dir=$$1; shift; install -d "$$dir"; install -C -m 755 "$$@" "$$dir"; }; \
	put "$(TARGET)$$astmoddir" $(filter-out $(BUILD)/reference/%,$^); \
	put "$(REFERENCE_INSTALL)$(ROOT)$$astmoddir" $^

# The password of a broker may stand in these files: whoever may read asterisk.conf may read them, and nobody else.
.PHONY: samples
samples: ## Install sample configuration files that are not there yet
	@set -e; eval "$$(scripts/asterisk-dirs $(or $(ROOT),/) | sed "s/=\(.*\)/='\1'/")"; \
	dir="$(TARGET)$$astetcdir"; install -d "$$dir"; \
	for sample in conf/*.sample; do \
		file="$$dir/$$(basename "$$sample" .sample)"; \
		if [ -e "$$file" ] || [ -L "$$file" ]; then echo "  KEPT    $$file"; continue; fi; \
		echo "  INSTALL $$file"; \
		install -m 640 "$$sample" "$$file"; \
		if [ "$$(id -u)" = 0 ] && [ -e "$$dir/asterisk.conf" ]; then chown --reference="$$dir/asterisk.conf" "$$file"; fi; \
	done

.PHONY: uninstall
uninstall: ## Remove what install put there; configuration files stay
	@set -e; eval "$$(scripts/asterisk-dirs $(or $(ROOT),/) | sed "s/=\(.*\)/='\1'/")"; \
	drop() { dir=$(TARGET)$$1; shift; for file; do \
		if [ -e "$$dir/$${file##*/}" ]; then echo "  REMOVE  $$dir/$${file##*/}"; rm -f "$$dir/$${file##*/}"; fi; done; }; \
	drop "$$astmoddir" $(MODULES:%=%.so); \
	drop "$$astmoddir/res_kafka" reskafka libreskafka.so; \
	rmdir "$(TARGET)$$astmoddir/res_kafka" 2>/dev/null || :; \
	drop "$$includedir/asterisk" include/asterisk/kafka*.h; \
	drop "$$astdatadir/documentation/thirdparty" documentation/*-en_US.xml; \
	drop $(bindir) reskafka; \
	drop $(docdir) LICENSE NOTICES; \
	rmdir "$(TARGET)$(docdir)" 2>/dev/null || :

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf $(BUILD)

##@ See it work

.PHONY: demo
demo: ## A private Asterisk, a broker, one call and its record; KEEP=1 leaves them running
	@echo 'Compiling the demo and, after that, res_kafka: the first time this takes some minutes.'
	@scripts/provision --tools
	@$(GO) run ./test/demo

.PHONY: demo-stop
demo-stop: ## End what KEEP=1 make demo left running
	@$(GO) run ./test/demo stop

##@ Test

.PHONY: test
test: ## Run every test: the parts below, in this order
	@scripts/test

.PHONY: lint test-go test-stage test-host test-asan test-apache test-asterisk
lint: ## Format, vet, staticcheck, generated files up to date
	@scripts/test lint
test-go: ## Go packages, with the race detector
	@scripts/test go
test-stage: ## The stage (C), also under the thread sanitizer
	@scripts/test stage
test-host: ## The boundary between module and engine, from a program that is not Asterisk
	@scripts/test host
test-asan: ## Modules, boundary and stage under the address sanitizer
	@scripts/test asan
test-apache: ## The Apache Kafka clusters that scenarios use
	@scripts/test apache
test-asterisk: ## Scenarios in a real Asterisk, against the embedded broker and Apache Kafka
	@scripts/test asterisk

.PHONY: test-limits
test-limits: ## Every value of each limit: threads, addresses, descriptors, memory, one processor
	@RES_KAFKA_LONG=1 RES_KAFKA_RESULTS='$(abspath $(PRIVATE)/limits.md)' scripts/test limits; status=$$?; cat '$(abspath $(PRIVATE)/limits.md)'; exit $$status

.PHONY: test-arch
test-arch: ## Modules for musl, armhf and arm64, and the engine as a program of 32 bits
	@RES_KAFKA_LONG=1 scripts/test arch

.PHONY: test-long
test-long: ## What make test has a sample of, in full: 20 seeds of damaged answers of a minute each, and the like
	@scripts/test long

# Copies of the sources in two folders have to give the same files.
.PHONY: check-reproducible
check-reproducible: | check-asterisk check-go ## Build in two folders and compare every byte of what is installed
	@set -e; for n in 1 22; do \
		dir="$(abspath $(BUILD))/same/$$n"; rm -rf "$$dir"; mkdir -p "$$dir"; \
		git ls-files -co --exclude-standard | tar cf - -T - | tar xf - -C "$$dir"; \
	done; \
	for n in 1 22; do \
		$(MAKE) --no-print-directory -s -C '$(abspath $(BUILD))'/same/$$n ASTERISK_ROOT='$(ASTERISK_ROOT)' BUILD=build; \
	done; \
	for file in $(MODULES:%=%.so) reskafka NOTICES; do \
		cmp $(BUILD)/same/1/build/$$file $(BUILD)/same/22/build/$$file; echo "  SAME    $$file"; \
	done; rm -rf $(BUILD)/same

PRIVATE := $(CURDIR)/build/private
RESULTS ?= $(PRIVATE)/faults.md
N ?= 1
MINUTES ?= 30
.PHONY: test-faults soak
test-faults: ## Each fault with each durability at full size, faults N=1 times as long; the table goes to RESULTS
	@FAULTS_N=$(N) RES_KAFKA_RESULTS='$(abspath $(RESULTS))' scripts/test faults; status=$$?; cat '$(abspath $(RESULTS))'; exit $$status
soak: ## Random faults for MINUTES=30 against one Asterisk under load
	@SOAK_MINUTES=$(MINUTES) RES_KAFKA_RESULTS='$(abspath $(RESULTS))' scripts/test faults; status=$$?; cat '$(abspath $(RESULTS))'; exit $$status

FUZZTIME ?= 10m
.PHONY: fuzz
fuzz: ## Fuzz every parser of what comes from outside, each for FUZZTIME (10m), and damage a broker's answers for as long
	$(Q)scripts/fuzz $(FUZZTIME)

.PHONY: bench
bench: ## Measure against a module on librdkafka, write bench/RESULTS.md; FLAGS=-help for less
	@scripts/bench $(FLAGS)

.PHONY: generate
generate: | check-go ## Write what is made from the tables: samples, documentation, messages
	@$(GO) run ./internal/docs/generate

.PHONY: check-generated
check-generated: | check-go ## Fail when a generated file is not what generate would write
	@$(GO) run ./internal/docs/generate -check

##@

.PHONY: help
help: ## Show this
	@awk 'BEGIN { FS = ":.*## " } /^##@ ./ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: check-asterisk check-go FORCE
FORCE:
check-asterisk:
	@test -e $(ROOT)/usr/include/asterisk/module.h || test -e $(ROOT)/usr/local/include/asterisk/module.h || { \
		echo "There are no Asterisk headers under $(or $(ROOT),/) (usr/include/asterisk/module.h)."; \
		echo "Install them (Debian: apt-get install asterisk-dev), or build against a private copy:"; \
		echo "    make ASTERISK_ROOT=\$$(scripts/provision)"; exit 1; } >&2
	@command -v $(firstword $(CC)) >/dev/null || { \
		echo "There is no C compiler ($(CC)). Debian: apt-get install gcc libc6-dev. Or name yours with CC=."; exit 1; } >&2
check-go:
	@command -v $(GO) >/dev/null || { \
		echo "There is no Go ($(GO)). The engine needs Go $$(sed -n 's/^go //p' go.mod) or later: https://go.dev/doc/install"; exit 1; } >&2
