// Package pbx runs a real Asterisk of its own, for tests and for the demo: with a private configuration, private
// directories and an explicit list of modules, as an ordinary process of the calling user. It never touches
// /etc/asterisk or an Asterisk that is running, and ends what it started by process id.
//
// The Asterisk comes from a root directory as scripts/provision prints it. Programs in it are run by the root's own
// loader with the root's own libraries; no chroot and no privileges are needed.
package pbx

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"reskafka/internal/ingest"
)

// Config says what kind of Asterisk to run.
type Config struct {
	// Dir is where everything private to it goes, but for SharedMemory. Made when it is not there; the caller removes both. The path must be
	// short enough for a Unix socket below it (see New).
	Dir string
	// Root is the root directory whose Asterisk to run; "/" for the machine's own.
	Root string
	// Install is the DESTDIR that `make install ASTERISK_ROOT=Root` was given, or empty for stock modules only.
	Install string
	// Modules is every module to load, in this order and without ".so"; those of Install go before those of Root.
	// nil means StockModules.
	Modules []string
	// Files is the content of configuration files by name. What Asterisk cannot do without is written when it is not
	// among them.
	Files map[string]string
	// Options is the [options] section of asterisk.conf, in addition to what a test needs.
	Options map[string]string
	// Env is added to the environment of the process, NAME=value.
	Env []string
	// Group is the folder of a control group that the process is to be in; empty = ours. Only root can.
	Group string
	// Args are added to Asterisk's command line, for example -p.
	Args []string
	// Prefix is put before Asterisk's command line: a program that changes its own process and executes the rest.
	Prefix []string
	// Namespaces are those that the process does not share with ours: CLONE_NEWPID and so on. Only root can.
	Namespaces uintptr
	// Detach lets the process outlive the one that started it. Otherwise the kernel kills it with its parent, however
	// that one ends.
	Detach bool
}

// StockModules are the modules of Asterisk that it takes to make a call without a phone:
//
//	channel originate Local/s@some-context application Echo
func StockModules() []string {
	return []string{
		"pbx_config", "app_dial", "app_echo", "app_verbose", "app_stack", "func_cdr", "func_channel",
		"chan_bridge_media", "bridge_simple", "res_timing_timerfd", "res_clioriginate",
	}
}

// PBX is one private Asterisk. Its methods may be called from any goroutine, but Start and Stop not concurrently with
// each other. It may be started again after it has ended.
type PBX struct {
	config Config
	lines  *follower
	user   uint32 // that the process runs as; 0 = ours

	mu      sync.Mutex
	process *process // the latest; nil before the first Start
}

// maxSocketPath is how long the path of a Unix socket may be: sun_path of struct sockaddr_un is 108 bytes with its NUL.
const maxSocketPath = 107

// New lays out the private directories and configuration files of an Asterisk. Files may be changed (WriteFile)
// before Start and while it runs. It is an error when a module is nowhere to be found.
func New(config Config) (*PBX, error) {
	var err error
	if config.Dir, err = filepath.Abs(config.Dir); err != nil {
		return nil, fmt.Errorf("finding the directory: %w", err)
	}
	if config.Modules == nil {
		config.Modules = StockModules()
	}
	p := &PBX{config: config, lines: newFollower(filepath.Join(config.Dir, "log", logName))}
	if socket := p.path("run", "asterisk.ctl"); len(socket) > maxSocketPath {
		return nil, fmt.Errorf("%s is %d bytes too long for a socket; choose a shorter directory",
			socket, len(socket)-maxSocketPath)
	}
	if err := p.layOut(); err != nil {
		return nil, fmt.Errorf("preparing a private Asterisk: %w", err)
	}
	return p, nil
}

// Dir is the private directory.
func (p *PBX) Dir() string { return p.config.Dir }

// SharedMemory returns the folders in shared memory of its runs: those that go on, and those that were killed.
func (p *PBX) SharedMemory() []string {
	folders, _ := filepath.Glob(p.SharedMemoryPattern())
	return folders
}

// SharedMemoryPattern is what filepath.Glob finds those by.
func (p *PBX) SharedMemoryPattern() string { return ingest.Pattern(ingest.Base, p.path("spool")) }

// WriteFile writes a configuration file, for a reload.
func (p *PBX) WriteFile(name, content string) error {
	return os.WriteFile(p.path("etc", name), []byte(content), 0o600)
}

// path is a path below the private directory.
func (p *PBX) path(elements ...string) string {
	return filepath.Join(append([]string{p.config.Dir}, elements...)...)
}
