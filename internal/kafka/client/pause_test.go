package client

import (
	"errors"
	"os"
	"testing"
	"time"
)

// TestPause_Deadline_EndsTheWrite checks that a write that waits ends with its deadline's change, as when a context ends or the
// client closes.
func TestPause_Deadline_EndsTheWrite(t *testing.T) {
	c := &Conn{known: true, pause: pause{wake: make(chan struct{}, 1)}}
	c.usage.touch()
	c.pause.ask(time.Hour)
	waited := make(chan error)
	go func() { waited <- c.rest() }()
	c.pause.deadline(time.Now().Add(-time.Second))
	if err := <-waited; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
