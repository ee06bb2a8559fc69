package pbx

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The private directory:
//
//	etc/      configuration files
//	modules/  links to the loadable modules, and to the files beside them that the engine's module needs
//	data/     links to the stock data directory, with our documentation in place of the stock one
//	lib/ spool/ run/ log/ cache/
//	cli       a script: the Asterisk console, or one command on the console
//	kcat      a script: the kcat of this Asterisk
const logName = "full.log"

var directories = []string{"etc", "modules", "data/documentation/thirdparty", "lib", "spool", "run", "log", "cache"}

func (p *PBX) layOut() error {
	for _, dir := range directories {
		if err := os.MkdirAll(p.path(dir), 0o700); err != nil {
			return err
		}
	}
	if err := p.linkModules(); err != nil {
		return err
	}
	if err := p.linkData(); err != nil {
		return err
	}
	if err := p.writeConfiguration(); err != nil {
		return err
	}
	return p.writeScripts()
}

func (p *PBX) linkModules() error {
	dirs, err := p.moduleDirs()
	if err != nil {
		return err
	}
	for _, module := range p.config.Modules {
		if err := linkFirst(dirs, module+".so", p.path("modules")); err != nil {
			return err
		}
	}
	if p.config.Install == "" {
		return nil
	}
	// The engine's folder, searched by the module in the modules directory. The reference of the benchmark
	// has none.
	if err := linkFirst(dirs[:1], "res_kafka", p.path("modules")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// moduleDirs returns the folders of modules: the installation's, if any, then the root's.
func (p *PBX) moduleDirs() ([]string, error) {
	bases := []string{p.config.Root}
	if p.config.Install != "" {
		bases = slices.Insert(bases, 0, filepath.Join(p.config.Install, p.config.Root))
	}
	var dirs []string
	for _, base := range bases {
		found := firstMatch(base, "usr/lib/*/asterisk/modules/*.so", "usr/lib64/asterisk/modules/*.so",
			"usr/lib/asterisk/modules/*.so")
		if found == "" {
			return nil, fmt.Errorf("no Asterisk modules under %s", base)
		}
		dirs = append(dirs, filepath.Dir(found))
	}
	return dirs, nil
}

// linkData makes a data directory of links, because Asterisk searches documentation in one place only: for
// stock modules in documentation, for all others in documentation/thirdparty.
func (p *PBX) linkData() error {
	core := firstMatch(p.config.Root, "usr/share/asterisk/documentation/core-en_US.xml",
		"var/lib/asterisk/documentation/core-en_US.xml")
	if core == "" {
		return nil
	}
	stock := filepath.Dir(filepath.Dir(core))
	if err := linkAll(stock, p.path("data")); err != nil {
		return err
	}
	if err := linkAll(filepath.Join(stock, "documentation"), p.path("data/documentation")); err != nil {
		return err
	}
	if p.config.Install == "" {
		return nil
	}
	ours := filepath.Join(p.config.Install, stock, "documentation/thirdparty")
	return linkAll(ours, p.path("data/documentation/thirdparty"))
}

func (p *PBX) writeConfiguration() error {
	files := map[string]string{
		"asterisk.conf": p.asteriskConf(),
		"modules.conf":  p.modulesConf(),
		"logger.conf": "[general]\ndateformat = %F %T.%3q\n\n[logfiles]\n" +
			logName + " => notice,warning,error,debug,verbose\n",
		"acl.conf":         "",
		"cdr.conf":         "[general]\nenable = yes\n",
		"indications.conf": "[general]\ncountry = us\n\n[us]\ndescription = tones\nringcadence = 2000,4000\ndial = 350+440\n",
	}
	// Without these files the core logs errors; a log without errors and warnings must mean success.
	for _, name := range []string{
		"ccss.conf", "cel.conf", "extensions.conf", "features.conf", "manager.conf", "udptl.conf",
	} {
		files[name] = "[general]\n"
	}
	maps.Copy(files, p.config.Files)
	for name, content := range files {
		if err := p.WriteFile(name, content); err != nil {
			return err
		}
	}
	return nil
}

func (p *PBX) asteriskConf() string {
	var text strings.Builder
	text.WriteString("[directories]\n")
	for _, entry := range [][2]string{
		{"astetcdir", "etc"}, {"astmoddir", "modules"}, {"astdatadir", "data"}, {"astvarlibdir", "lib"},
		{"astdbdir", "lib"}, {"astkeydir", "lib"}, {"astagidir", "lib"}, {"astspooldir", "spool"},
		{"astrundir", "run"}, {"astlogdir", "log"}, {"astcachedir", "cache"},
	} {
		fmt.Fprintf(&text, "%s => %s\n", entry[0], p.path(entry[1]))
	}
	// hideconnect keeps our own CLI commands out of the log; verbose 1 is a call's own messages.
	options := map[string]string{"hideconnect": "yes", "nocolor": "yes", "verbose": "1"}
	maps.Copy(options, p.config.Options)
	text.WriteString("\n[options]\n")
	for _, name := range slices.Sorted(maps.Keys(options)) {
		fmt.Fprintf(&text, "%s = %s\n", name, options[name])
	}
	return text.String()
}

// modulesConf uses "load" instead of "require": Asterisk keeps running after a declined load.
func (p *PBX) modulesConf() string {
	var text strings.Builder
	text.WriteString("[modules]\nautoload = no\n")
	for _, module := range p.config.Modules {
		fmt.Fprintf(&text, "load = %s.so\n", module)
	}
	return text.String()
}

// writeScripts writes the scripts for a look around. A root without kcat has no kcat script.
func (p *PBX) writeScripts() error {
	argv, err := p.argv()
	if err != nil {
		return err
	}
	text := "#!/bin/sh\n# The console of this private Asterisk; with arguments, one command: ./cli core show channels\n" +
		"if [ $# -gt 0 ]; then exec " + quote(argv) + " -rx \"$*\"; fi\nexec " + quote(argv) + " -r\n"
	if err := os.WriteFile(p.path("cli"), []byte(text), 0o700); err != nil {
		return err
	}
	argv, err = KcatArgv(p.config.Root)
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(p.path("kcat"), []byte("#!/bin/sh\nexec "+quote(argv)+" \"$@\"\n"), 0o700)
}

// quote renders words for a shell.
func quote(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// firstMatch returns the first file under base for the patterns, or "".
func firstMatch(base string, patterns ...string) string {
	for _, pattern := range patterns {
		// The only error is a malformed pattern.
		if found, _ := filepath.Glob(filepath.Join(base, pattern)); len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

// linkFirst links name into target, from the first of dirs with such a file.
func linkFirst(dirs []string, name, target string) error {
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return link(filepath.Join(dir, name), filepath.Join(target, name))
		}
	}
	return fmt.Errorf("no %s in %s: %w", name, strings.Join(dirs, " or "), fs.ErrNotExist)
}

// linkAll links everything in dir into target, except existing names. A missing dir counts as empty.
func linkAll(dir, target string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if err := link(filepath.Join(dir, entry.Name()), filepath.Join(target, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func link(from, to string) error {
	from, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	if err := os.Symlink(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
