// Command hostile is installed in place of the engine. It runs the real engine and relays the frames between
// engine and module. While its folder has a file "on", it damages frames and shared memory. Tests thus check
// that Asterisk survives an engine that writes any bytes.
//
// Its folder contains reskafka (this program), reskafka.real (the engine), and "on" with three numbers: the
// seed, the interval of damaged frames, and the words of shared memory written each millisecond.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"reskafka/internal/boundary"
)

// Descriptors from the module.
const (
	socketFile  = 3
	controlFile = 4
	slabsFile   = 5
	wakeFile    = 6
)

func main() {
	status, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(100)
	}
	os.Exit(status)
}

// run runs the engine and returns its exit status.
func run() (int, error) {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 0, err
	}
	folder := filepath.Dir(self)
	module, err := connect(socketFile)
	if err != nil {
		return 0, err
	}
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	child := exec.Command(filepath.Join(folder, "reskafka.real"), os.Args[1:]...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	theirs := os.NewFile(uintptr(ends[1]), "socket")
	child.ExtraFiles = []*os.File{theirs, os.NewFile(controlFile, "control"), os.NewFile(slabsFile, "slabs"), os.NewFile(wakeFile, "wake")}
	// The engine must not outlive this process, because the module watches this process.
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	if err := child.Start(); err != nil {
		return 0, err
	}
	_ = theirs.Close()
	engine, err := connect(ends[0])
	if err != nil {
		return 0, err
	}
	m := newMood(filepath.Join(folder, "on"))
	go m.scribble(controlFile)
	go m.scribble(slabsFile)
	go func() { // the module's frames stay unchanged
		_, _ = io.Copy(engine, module)
		_ = engine.CloseWrite()
	}()
	go func() {
		m.pass(module, engine)
		_ = module.Close() // the module sees the connection end and ends the engine
		_ = engine.Close()
	}()
	if err := child.Wait(); err != nil {
		if exit := (&exec.ExitError{}); errors.As(err, &exit) && exit.Exited() {
			return exit.ExitCode(), nil
		}
		return 0, err
	}
	return 0, nil
}

func connect(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// pass passes frames on to the module until there is no more.
func (m *mood) pass(module io.Writer, engine io.Reader) {
	for {
		frame, err := read(engine)
		if err != nil {
			return
		}
		for _, f := range m.damage(frame) {
			if _, err := module.Write(f); err != nil {
				return
			}
		}
	}
}

// read reads a frame as bytes.
func read(engine io.Reader) ([]byte, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(engine, frame); err != nil {
		return nil, err
	}
	length := int(frame[0]) | int(frame[1])<<8 | int(frame[2])<<16 | int(frame[3])<<24
	if length > boundary.MessagesMax {
		return nil, errors.New("the engine is hostile itself")
	}
	frame = append(frame, make([]byte, length)...)
	_, err := io.ReadFull(engine, frame[4:])
	return frame, err
}
