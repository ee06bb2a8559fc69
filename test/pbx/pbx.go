// Package pbx runs a private Asterisk, for tests and for the demo: with a private configuration, private
// directories and an explicit list of modules, as an ordinary process of the calling user. /etc/asterisk and
// any other running Asterisk stay untouched, and processes are ended by process id.
//
// The Asterisk comes from a root directory in the form of scripts/provision. The root's loader runs the
// root's programs with the root's libraries; no chroot and no privileges are needed.
package pbx

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"reskafka/internal/ingest"
)

// Config is the configuration of a private Asterisk.
type Config struct {
	// Dir has all private files, except SharedMemory. Created if missing; the caller removes both. The path
	// must be short enough for a Unix socket below it (see New).
	Dir string
	// Root is the root directory of the Asterisk; "/" for the machine's own.
	Root string
	// Install is the DESTDIR of `make install ASTERISK_ROOT=Root`, or empty for stock modules only.
	Install string
	// Modules lists all modules to load, in this order and without ".so". Modules of Install come before
	// modules of Root. nil means StockModules.
	Modules []string
	// Files is the content of configuration files by name. Missing files required by Asterisk are added.
	Files map[string]string
	// Options is the [options] section of asterisk.conf, in addition to the options for tests.
	Options map[string]string
	// Env is added to the environment of the process, NAME=value.
	Env []string
	// Group is the folder of the process's control group; empty = ours. Root only.
	Group string
	// Args are added to Asterisk's command line, for example -p.
	Args []string
	// Prefix precedes Asterisk's command line: a program that sets up the process and executes the rest.
	Prefix []string
	// Namespaces are the process's own namespaces: CLONE_NEWPID and so on. Root only.
	Namespaces uintptr
	// Detach lets the process outlive the parent. Otherwise the kernel kills the process after the parent's
	// end.
	Detach bool
}

// StockModules are the modules of Asterisk for a call without a phone:
//
//	channel originate Local/s@some-context application Echo
func StockModules() []string {
	return []string{
		"pbx_config", "app_dial", "app_echo", "app_verbose", "app_stack", "func_cdr", "func_channel",
		"chan_bridge_media", "bridge_simple", "res_timing_timerfd", "res_clioriginate",
	}
}

// PBX is one private Asterisk. All methods are safe for concurrent use, except Start with Stop. A new Start
// is allowed after the end.
type PBX struct {
	config Config
	lines  *follower
	user   uint32 // of the process; 0 = ours

	mu      sync.Mutex
	process *process // the latest; nil before the first Start
}

// maxSocketPath is the limit of a Unix socket's path: sun_path of struct sockaddr_un is 108 bytes with the
// NUL.
const maxSocketPath = 107

// New creates the private directories and configuration files of an Asterisk. Files may be changed
// (WriteFile) before Start and during the run. A missing module is an error.
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

// SharedMemory returns the folders in shared memory of present and killed runs.
func (p *PBX) SharedMemory() []string {
	folders, _ := filepath.Glob(p.SharedMemoryPattern())
	return folders
}

// SharedMemoryPattern is the pattern of these folders for filepath.Glob.
func (p *PBX) SharedMemoryPattern() string { return ingest.Pattern(ingest.Base, p.path("spool")) }

// WriteFile writes a configuration file, for a reload.
func (p *PBX) WriteFile(name, content string) error {
	return os.WriteFile(p.path("etc", name), []byte(content), 0o600)
}

// path is a path below the private directory.
func (p *PBX) path(elements ...string) string {
	return filepath.Join(append([]string{p.config.Dir}, elements...)...)
}
