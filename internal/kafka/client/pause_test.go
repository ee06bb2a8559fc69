package client

import (
	"errors"
	"os"
	"testing"
	"time"
)

// TestPause_Deadline_EndsTheWrite verifies that a waiting write ends after a change of its deadline, as at a
// context's end or the client's close.
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
