package confine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Mount is one change of the process's view of the file system.
type Mount struct {
	Kind string
	Path string
	// Text: the options of Empty, the content of File. Ignored otherwise.
	Text string
}

// Kinds of mounts.
const (
	Empty    = "empty"     // an empty memory file system: PrivateTmp=, ProtectHome=tmpfs
	Keep     = "keep"      // the folder stays unchanged and writable, whatever the mounts of folders above: ReadWritePaths=
	ReadOnly = "read-only" // ReadOnlyPaths=, and ProtectSystem=strict for "/"
	NoExec   = "noexec"    // nothing below the path can be executed
	Proc     = "proc"      // the processes of the own namespace only
	Devices  = "devices"   // null, zero, full, random, urandom, and an empty shm: PrivateDevices=
	File     = "file"      // a file with this content, in place of the file there
)

// kept is a folder to show again at its place.
type kept struct {
	path string
	fd   int
}

// mount makes the mounts in order. The starter's view stays unchanged.
func (s *Spec) mount() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	var folders []kept
	for _, m := range s.Mounts {
		if m.Kind != Keep {
			continue
		}
		if err := bind(m.Path, m.Path, 0); err != nil { // a separate mount, not read-only with the mounts above
			return fmt.Errorf("%s: %w", m.Path, err)
		}
		fd, err := syscall.Open(m.Path, syscall.O_DIRECTORY|syscall.O_CLOEXEC|oPath, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Path, err)
		}
		folders = append(folders, kept{m.Path, fd})
	}
	for _, m := range s.Mounts {
		if err := m.do(folders); err != nil {
			return fmt.Errorf("%s %s: %w", m.Kind, m.Path, err)
		}
	}
	return nil
}

const oPath = 0x200000 // O_PATH

// bind shows a folder or file at another place, with flags such as MS_RDONLY.
func bind(from, to string, flags uintptr) error {
	if err := syscall.Mount(from, to, "", syscall.MS_BIND, ""); err != nil || flags == 0 {
		return err
	}
	return syscall.Mount("", to, "", syscall.MS_BIND|syscall.MS_REMOUNT|flags, "")
}

func (m *Mount) do(folders []kept) error {
	switch m.Kind {
	case Keep:
		return nil
	case Empty:
		return m.empty(folders)
	case ReadOnly:
		if m.Path == "/" {
			return syscall.Mount("", "/", "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
		}
		return bind(m.Path, m.Path, syscall.MS_RDONLY)
	case NoExec:
		return bind(m.Path, m.Path, syscall.MS_NOEXEC)
	case Proc:
		return syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "")
	case Devices:
		return devices()
	case File:
		return m.file()
	default:
		return fmt.Errorf("no such kind of mount: %q", m.Kind)
	}
}

// empty hides a folder except for the kept folders below.
func (m *Mount) empty(folders []kept) error {
	if err := syscall.Mount("tmpfs", m.Path, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, m.Text); err != nil {
		return err
	}
	for _, folder := range folders {
		if !strings.HasPrefix(folder.path, m.Path+"/") {
			continue
		}
		if err := os.MkdirAll(folder.path, 0o755); err != nil {
			return err
		}
		if err := bind(fmt.Sprintf("/proc/self/fd/%d", folder.fd), folder.path, 0); err != nil {
			return fmt.Errorf("%s: %w", folder.path, err)
		}
	}
	return nil
}

// file replaces a file with a file in memory.
func (m *Mount) file() error {
	text, err := os.CreateTemp("/dev/shm", "confine")
	if err != nil {
		return err
	}
	defer os.Remove(text.Name())
	if _, err := text.WriteString(m.Text); err != nil {
		return err
	}
	if err := text.Chmod(0o644); err != nil {
		return err
	}
	_ = text.Close()
	return bind(text.Name(), m.Path, 0)
}

func devices() error {
	nodes := []string{"null", "zero", "full", "random", "urandom"}
	fds := map[string]int{}
	for _, name := range nodes {
		fd, err := syscall.Open(filepath.Join("/dev", name), syscall.O_CLOEXEC|oPath, 0)
		if err != nil {
			return err
		}
		fds[name] = fd
	}
	if err := syscall.Mount("tmpfs", "/dev", "tmpfs", syscall.MS_NOSUID|syscall.MS_NOEXEC, "mode=755"); err != nil {
		return err
	}
	for _, name := range slices.Sorted(slices.Values(nodes)) {
		path := filepath.Join("/dev", name)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return err
		}
		if err := bind(fmt.Sprintf("/proc/self/fd/%d", fds[name]), path, 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := os.Mkdir("/dev/shm", 0o1777); err != nil {
		return err
	}
	return syscall.Mount("tmpfs", "/dev/shm", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=1777,size=64m")
}
