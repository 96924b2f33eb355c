# SPDX-License-Identifier: MIT
# Builds, tests, shows and installs cpr.
#
#   make                      build/libcpr.so, build/cpr-exec, build/cprctl
#   make check                everything that is tested; SERVERS="nginx redis" narrows the servers
#   make check-unit           one part of it: -house -compilers -library -unit -tools -wrap -debug -faults -fuzz -servers -systemd
#   make check-neutral        other programs' own test suites under the library; takes long
#   make check-sanitize       the unit and the wrap tests under the address and undefined-behaviour sanitizers, threads under the thread sanitizer
#   make check-distro         make check in a root of Debian 13, debootstrapped into build/distro; as root
#   make demo                 a server upgraded ten times under load, with cpr and without
#   make bench                what cpr costs, in tables; plots in BENCH_OUT (build/bench); BENCH="lookup calls" narrows it
#   make install PREFIX= DESTDIR=          also libdir=, sysconfdir=
#   make deb                  Debian packages, in build/packages: libcpr0, libcpr-dev, cpr-tools
#   make check-packages       builds them, and installs, upgrades and removes them in a copy of this machine; takes minutes
#   make deps                 installs the packages that building and testing take
#   make SANITIZE=address,undefined | SANITIZE=thread      in build-asan, build-tsan
#   make DEBUG=1              in build-debug: ends a process that touches the table without the guard
#   make LTO=1 CFLAGS_EXTRA=-Werror V=1                    V=1 shows the commands

VERSION := 0.1.0
# changes when a program that is linked with the library must be built anew
SOVERSION := 0

PREFIX  ?= /usr/local
bindir  ?= $(PREFIX)/bin
libdir  ?= $(PREFIX)/lib
includedir ?= $(PREFIX)/include
datadir ?= $(PREFIX)/share
sysconfdir ?= /etc
INSTALL ?= install

BUILD := $(if $(SANITIZE),$(if $(findstring thread,$(SANITIZE)),build-tsan,build-asan),$(if $(DEBUG),build-debug,build))
Q     := $(if $(V),,@)
export BUILD SERVERS

# --- what is made of what ------------------------------------------------------------------------

# The rooms of the library, from the ground up (CONTRIBUTING.md); also the order in which they are linked.
ROOMS     := base model process fd drain deliver restart wrap
SHIM_SRC  := $(foreach room,$(ROOMS),$(sort $(wildcard shim/$(room)/*.c)))
SHIM_HDR  := $(wildcard shim/*.h shim/*/*.h)
# The pure layers, without interposition: the tools and the unit tests use them as ordinary objects.
SHARED_SRC := $(wildcard shim/base/*.c shim/model/*.c)
EXEC_SRC   := tools/cpr-exec.c
CTL_SRC    := tools/cprctl.c $(wildcard tools/cmd_*.c)
COMMON_SRC := $(filter-out $(EXEC_SRC) $(CTL_SRC),$(wildcard tools/*.c))
BENCH_SRC  := $(wildcard tools/bench/*.c)
UNIT_SRC   := $(wildcard tests/unit/*.c)

SHIM_OBJ   := $(SHIM_SRC:%.c=$(BUILD)/pic/%.o)
SHARED_OBJ := $(SHARED_SRC:%.c=$(BUILD)/obj/%.o)
EXEC_OBJ   := $(EXEC_SRC:%.c=$(BUILD)/obj/%.o)
CTL_OBJ    := $(CTL_SRC:%.c=$(BUILD)/obj/%.o)
COMMON_OBJ := $(COMMON_SRC:%.c=$(BUILD)/obj/%.o)
BENCH_OBJ  := $(BENCH_SRC:%.c=$(BUILD)/obj/%.o)
TOOL_OBJ   := $(EXEC_OBJ) $(CTL_OBJ) $(COMMON_OBJ) $(BENCH_OBJ)
UNIT_OBJ   := $(UNIT_SRC:%.c=$(BUILD)/obj/%.o)

# Programs that know nothing of cpr, and fuzzers: a file each.
PROGRAMS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/programs/*.c tests/servers/*.c))
FUZZERS  := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/fuzz/*.c))
DEMO     := $(BUILD)/demo/httpd-v1 $(BUILD)/demo/httpd-v2

# --- flags ---------------------------------------------------------------------------------------

CFLAGS   ?= -O2 -g
BASE     := -std=gnu11 -D_GNU_SOURCE= -Wall -Wextra $(if $(LTO),-flto=auto) $(if $(DEBUG),-DCPR_DEBUG) \
            $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer)
OURS     := -Ishim -DCPR_VERSION='"$(VERSION)"'
DEPFLAGS  = -MMD -MP
COMPILE   = $(CC) $(BASE) $(OURS) $(CPPFLAGS) $(CFLAGS) -ffunction-sections -fdata-sections $(DEPFLAGS)
LINK      = $(CC) $(BASE) $(CFLAGS) $(CFLAGS_EXTRA) $(LDFLAGS) -Wl,--as-needed
# Not for the unit tests: Criterion finds them by a section that nothing refers to.
GC        = -Wl,--gc-sections

# wrap/ looks whether the program gave a null pointer where libc's headers forbid it; clang knows no warning of that, nor the flag.
GCC_ONLY   := $(if $(findstring clang,$(shell $(CC) --version 2>/dev/null)),,-Wno-nonnull-compare)
# The shim defines open() and its like, which fortified headers would turn into something else; and it
# may be asked for its thread-local depth in a signal handler, where the dynamic TLS model could allocate.
PIC_FLAGS  := -fPIC -fvisibility=hidden -ftls-model=initial-exec -U_FORTIFY_SOURCE -fno-delete-null-pointer-checks $(GCC_ONLY)
# Only cpr-bench takes GLib, to be measured against; asked for when it is built.
BENCH_FLAGS = -Itools $(shell pkg-config --cflags glib-2.0)
# fstat: see lookup_child.c
BENCH_LIBS  = -Wl,--export-dynamic-symbol=fstat $(shell pkg-config --libs glib-2.0) -lm -pthread
TOOL_FLAGS := -DCPR_LIBDIR='"$(libdir)"' -DCPR_SOVERSION='"$(SOVERSION)"'
# noseparate-code, norelro, libcpr.ld: four mappings less in every process, for every fork to copy. What relro would protect is little: the pointers to libc that
# matter are next.c's, which are variables. Bsymbolic-functions: a program may have a sigaction of its own, which calls __sigaction, which is ours, and must not call sigaction
# again (Erlang).
SHIM_LDFLAGS = -shared -Wl,-Bsymbolic-functions -Wl,-soname,libcpr.so.$(SOVERSION) -Wl,-z,noseparate-code -Wl,-z,defs -Wl,-z,norelro -Wl,-z,now -Wl,-z,nodelete \
               -Wl,--exclude-libs,ALL -Wl,--version-script=$(BUILD)/libcpr.map -Wl,-T,shim/libcpr.ld
SHIM_LIBS  := -l:libbsd.a -l:libhttp_parser.a -ldl
TOOL_LIBS  := -lbsd -l:libhttp_parser.a -ldl

# --- building ------------------------------------------------------------------------------------

.DELETE_ON_ERROR:
.PHONY: all
all: $(BUILD)/libcpr.so $(BUILD)/cpr-exec $(BUILD)/cprctl

$(BUILD)/libcpr.so: $(SHIM_OBJ) $(BUILD)/libcpr.map shim/libcpr.ld
	@echo "  LINK  $@"
	$(Q)$(LINK) $(GC) $(SHIM_LDFLAGS) -o $@ $(SHIM_OBJ) $(SHIM_LIBS)

$(BUILD)/cpr-exec: $(EXEC_OBJ) $(COMMON_OBJ) $(SHARED_OBJ)
$(BUILD)/cprctl: $(CTL_OBJ) $(COMMON_OBJ) $(SHARED_OBJ)
$(BUILD)/cpr-exec $(BUILD)/cprctl:
	@echo "  LINK  $@"
	$(Q)$(LINK) $(GC) -o $@ $^ $(TOOL_LIBS)

$(BUILD)/cpr-bench: $(BENCH_OBJ) $(COMMON_OBJ) $(SHARED_OBJ)
	@echo "  LINK  $@"
	$(Q)$(LINK) $(GC) -o $@ $^ $(TOOL_LIBS) $(BENCH_LIBS)

# -std=c11: gnu11 would replace the words linux and unix.
$(BUILD)/libcpr.map: shim/libcpr.map shim/base/next.def $(BUILD)/flags | $(BUILD)/.headers
	@echo "  MAP   $@"
	$(Q)$(CC) -std=c11 -E -P -x c -Ishim -o $@ $<

$(SHIM_OBJ): $(BUILD)/pic/%.o: %.c $(BUILD)/flags | $(BUILD)/.headers
	@echo "  CC    $@"
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) $(PIC_FLAGS) $(CFLAGS_EXTRA) -c -o $@ $<

$(SHARED_OBJ) $(UNIT_OBJ) $(TOOL_OBJ): $(BUILD)/obj/%.o: %.c $(BUILD)/flags | $(BUILD)/.headers
	@echo "  CC    $@"
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) $(if $(filter tools/%,$<),$(TOOL_FLAGS)) $(if $(filter tools/bench/%,$<),$(BENCH_FLAGS)) $(CFLAGS_EXTRA) -c -o $@ $<

$(TOOL_OBJ): $(BUILD)/flags-tools

# Rewritten only when the flags differ from the last build's, which then is not this one's.
$(BUILD)/flags: NOW = $(COMPILE) $(PIC_FLAGS) $(CFLAGS_EXTRA) $(LINK)
$(BUILD)/flags-tools: NOW = $(TOOL_FLAGS)
$(BUILD)/flags $(BUILD)/flags-tools: force
	@mkdir -p $(@D)
	@printf '%s\n' "$(subst ",\",$(NOW))" | cmp -s - $@ || printf '%s\n' "$(subst ",\",$(NOW))" >$@
.PHONY: force
force:

# --- dependencies --------------------------------------------------------------------------------

$(BUILD)/.headers: | $(BUILD)/flags
	@printf '#include <%s>\n' uthash.h xxhash.h bsd/stdlib.h http_parser.h | $(CC) $(CPPFLAGS) -E -x c - >/dev/null 2>&1 || \
	    { echo "cpr needs a C compiler and the headers of uthash, xxhash, libbsd and http-parser: run 'make deps'" >&2; exit 1; }
	@touch $@

.PHONY: deps
deps:
	@.ci/deps
	@mkdir -p build && touch build/.deps

build/.deps: .ci/deps
	@.ci/deps
	@mkdir -p $(@D) && touch $@

build/.deps-bench: .ci/deps
	@.ci/deps bench
	@mkdir -p $(@D) && touch $@ build/.deps

# Who says check or demo on a fresh machine gets what they take; who says make is only told.
ifneq ($(filter check% demo,$(MAKECMDGOALS)),)
$(BUILD)/.headers $(DEMO) $(PROGRAMS) $(FUZZERS): | build/.deps
endif
ifneq ($(filter bench,$(MAKECMDGOALS)),)
$(BUILD)/.headers $(BENCH_OBJ): | build/.deps-bench
endif

# --- tests ---------------------------------------------------------------------------------------

.PHONY: check check-chaos check-endurance check-endurance-short check-debug check-sanitize check-threads check-distro check-house check-compilers objects check-library check-unit check-wrap check-faults check-fuzz check-servers check-recipes check-systemd check-packages check-neutral programs test-programs
PARTS := house compilers library unit tools wrap debug faults fuzz servers recipes endurance-short systemd

check: all
	+@for part in $(PARTS); do \
	    echo "== $$part"; $(MAKE) --no-print-directory check-$$part || { echo "== $$part: FAILED" >&2; exit 1; }; \
	done
	@echo "== all passed: $(PARTS)"

# No call goes up from room to room, and more that CONTRIBUTING.md says of the sources.
check-house: all
	@tests/house/run

# Other compilers, where they are installed, have nothing to warn of either. A cross compiler brings libc's headers only; the others' are the same everywhere.
AARCH64 := aarch64-linux-gnu-gcc
OBJECTS  = $(MAKE) --no-print-directory -s objects LTO= SANITIZE= BUILD=$(BUILD)/$(1) CC=$(2) CPPFLAGS="$(3)" CFLAGS="$(4)" CFLAGS_EXTRA=-Werror >/dev/null

check-compilers:
	+@if command -v clang >/dev/null; then $(call OBJECTS,clang,clang,,-O0); else echo "not tried: clang is not installed"; fi
	+@if command -v $(AARCH64) >/dev/null; then $(call OBJECTS,aarch64,$(AARCH64),-idirafter /usr/include,-O2); else echo "not tried: $(AARCH64) is not installed"; fi

objects: $(SHIM_OBJ) $(EXEC_OBJ) $(CTL_OBJ) $(COMMON_OBJ)

# A stranger's process must not gain a library: nothing but libc.
check-library: all
	@test -n "$(SANITIZE)" || readelf -dW $(BUILD)/libcpr.so | awk '/NEEDED/ && !/\[libc\.so\.6\]/ { print "libcpr.so: " $$0; bad = 1 } END { exit bad }'

ifeq ($(SANITIZE),thread)
check-unit:
	@echo "Criterion cannot run under the thread sanitizer: both want the same addresses"
else
check-unit: all $(BUILD)/unit-tests
	$(BUILD)/unit-tests
endif

check-tools check-wrap check-faults check-fuzz check-neutral check-systemd: check-%: all test-programs
	@if [ -x tests/$*/run ]; then tests/$*/run; else echo "no tests/$*/run"; fi

check-servers: all test-programs
	@if [ -x tests/servers/run ]; then tests/servers/setup && tests/servers/run --build $(BUILD) $(SERVERS); else echo "no tests/servers/run"; fi

# 10,000 restarts of a small server in handover mode, and 200 of nginx; in make check as many as take some seconds.
check-endurance: all test-programs
	@tests/servers/setup && tests/endurance/run

check-endurance-short: all test-programs
	@tests/servers/setup && tests/endurance/run --short

# Not in make check: what it finds, it finds by chance.
check-chaos: all
	@tests/chaos/run

# The README's own.
check-recipes: all
	@tests/servers/setup && tests/recipes/run

# The same programs under a library that ends a process which touches the table without the guard.
check-debug:
	+$(MAKE) --no-print-directory DEBUG=1 all programs
	BUILD=build-debug tests/wrap/run

check-sanitize:
	+$(MAKE) --no-print-directory SANITIZE=address,undefined check-unit check-wrap
	+$(MAKE) --no-print-directory SANITIZE=thread check-threads

# The runtime installs its handlers before it is ready, by our sigaction(), which would report to it: without them, then. A race ends it with status 66.
check-threads: export TSAN_OPTIONS = handle_segv=0 handle_abort=0 handle_sigbus=0 handle_sigill=0 handle_sigfpe=0 \
                                     suppressions=tests/programs/threads.supp
# CPR_LOG: a program with a setting of its own does not start light, and its table is there before its threads.
check-threads: all $(BUILD)/tests/programs/threads
	env CPR_LOG=warn LD_PRELOAD=$$($(CC) -print-file-name=libtsan.so):$(BUILD)/libcpr.so $(BUILD)/tests/programs/threads

# Its own sources, its own build directory: nothing of this one is used.
check-distro:
	@env -u MAKEFLAGS -u MAKELEVEL -u BUILD tests/distro/run

# Its own sources, its own build directory: nothing of this one is used.
check-packages:
	@env -u MAKEFLAGS -u MAKELEVEL -u BUILD tests/packages/run

.PHONY: deb
deb:
	@env -u MAKEFLAGS -u MAKELEVEL -u BUILD tests/packages/build build/packages

programs: $(PROGRAMS)
test-programs: programs $(FUZZERS)

$(BUILD)/unit-tests: $(UNIT_OBJ) $(SHARED_OBJ)
	@echo "  LINK  $@"
	$(Q)$(LINK) -o $@ $^ -lcriterion $(TOOL_LIBS)

$(PROGRAMS): $(BUILD)/tests/%: tests/%.c $(BUILD)/flags
	@echo "  CC    $@"
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) $(CFLAGS_EXTRA) -o $@ $< -pthread -ldl

$(FUZZERS): $(BUILD)/tests/%: tests/%.c $(SHARED_SRC) $(SHIM_HDR) $(BUILD)/flags | $(BUILD)/.headers
	@echo "  CC    $@"
	$(Q)mkdir -p $(@D)
	$(Q)$(filter-out $(DEPFLAGS),$(COMPILE)) $(CFLAGS_EXTRA) -fsanitize=address,undefined -o $@ $< $(SHARED_SRC) $(TOOL_LIBS)

# --- measuring -----------------------------------------------------------------------------------

BENCH_OUT ?= $(BUILD)/bench

.PHONY: bench
bench: all $(BUILD)/cpr-bench
	@mkdir -p $(BENCH_OUT)
	$(BUILD)/cpr-bench --out $(BENCH_OUT) $(BENCH)

.PHONY: demo
demo: all $(DEMO)
	@tests/demo/run

$(DEMO): $(BUILD)/demo/httpd-%: tests/programs/httpd.c $(BUILD)/flags
	@echo "  CC    $@"
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) -DVERSION='"$*"' $(CFLAGS_EXTRA) -o $@ $<

# --- installing ----------------------------------------------------------------------------------

.PHONY: install uninstall clean
D = $(DESTDIR)
# cpr-bench is installed if it was built: make bench, or make build/cpr-bench
BENCH_BIN := $(wildcard $(BUILD)/cpr-bench)
UNBUILT := $(if $(BENCH_BIN),,%/cpr-bench.1 %/cpr-bench.bash)
MAN1 := $(filter-out $(UNBUILT),$(wildcard tools/man/*.1))
MAN3 := $(wildcard tools/man/*.3)
BASH := $(filter-out $(UNBUILT),$(wildcard tools/completions/*.bash))
ZSH  := $(wildcard tools/completions/_*)
FISH := $(wildcard tools/completions/*.fish)
MAN5 := $(wildcard tools/man/*.5)
MAN7 := $(wildcard tools/man/*.7)
into  = $(INSTALL) -d $(D)$(1) && $(INSTALL) -m $(2) $(3) $(D)$(1)

install: all
	$(INSTALL) -d $(D)$(libdir)
	$(INSTALL) -m 644 $(BUILD)/libcpr.so $(D)$(libdir)/libcpr.so.$(VERSION)
	ln -sf libcpr.so.$(VERSION) $(D)$(libdir)/libcpr.so.$(SOVERSION)
	ln -sf libcpr.so.$(SOVERSION) $(D)$(libdir)/libcpr.so
	$(call into,$(bindir),755,$(BUILD)/cpr-exec $(BUILD)/cprctl $(BENCH_BIN))
	$(call into,$(includedir),644,shim/cpr.h)
	$(INSTALL) -d $(D)$(libdir)/pkgconfig
	printf '%s\n' 'libdir=$(libdir)' 'includedir=$(includedir)' '' 'Name: cpr' 'Version: $(VERSION)' \
	    'Description: restarts servers without any client noticing' \
	    'Libs: -L$${libdir} -lcpr' 'Cflags: -I$${includedir}' >$(D)$(libdir)/pkgconfig/cpr.pc
	$(if $(MAN1),$(call into,$(datadir)/man/man1,644,$(MAN1)))
	$(if $(MAN3),$(call into,$(datadir)/man/man3,644,$(MAN3)))
	$(if $(MAN5),$(call into,$(datadir)/man/man5,644,$(MAN5)))
	$(if $(MAN7),$(call into,$(datadir)/man/man7,644,$(MAN7)))
	$(if $(ZSH),$(call into,$(datadir)/zsh/vendor-completions,644,$(ZSH)))
	$(if $(FISH),$(call into,$(datadir)/fish/vendor_completions.d,644,$(FISH)))
	$(call into,$(sysconfdir)/needrestart/conf.d,644,contrib/needrestart/cpr.conf)
	$(if $(D),,-ldconfig)
	$(if $(BASH),$(INSTALL) -d $(D)$(datadir)/bash-completion/completions)
	$(foreach f,$(BASH),$(INSTALL) -m 644 $(f) $(D)$(datadir)/bash-completion/completions/$(basename $(notdir $(f))) &&) :

uninstall:
	rm -f $(addprefix $(D)$(libdir)/libcpr.so,.$(VERSION) .$(SOVERSION) '') $(D)$(libdir)/pkgconfig/cpr.pc $(D)$(includedir)/cpr.h $(addprefix $(D)$(bindir)/,cpr-exec cprctl cpr-bench)
	rm -f $(addprefix $(D)$(datadir)/man/man1/,$(notdir $(wildcard tools/man/*.1))) $(addprefix $(D)$(datadir)/man/man3/,$(notdir $(MAN3)))
	rm -f $(addprefix $(D)$(datadir)/man/man5/,$(notdir $(MAN5))) $(addprefix $(D)$(datadir)/man/man7/,$(notdir $(MAN7)))
	rm -f $(addprefix $(D)$(datadir)/zsh/vendor-completions/,$(notdir $(ZSH))) $(addprefix $(D)$(datadir)/fish/vendor_completions.d/,$(notdir $(FISH)))
	rm -f $(D)$(sysconfdir)/needrestart/conf.d/cpr.conf
	rm -f $(addprefix $(D)$(datadir)/bash-completion/completions/,$(basename $(notdir $(wildcard tools/completions/*.bash))))

clean:
	rm -rf build build-asan build-tsan build-debug

-include $(shell find $(BUILD)/obj $(BUILD)/pic $(BUILD)/tests -name '*.d' 2>/dev/null)
