package main

import (
	"bufio"
	"io"
	"sync"
	"time"
)

// line is a line of an input, with its time of arrival.
type line struct {
	text string
	at   time.Time
}

// lines are the lines of an input. They are read on arrival, so a printing part never waits for the consumer.
type lines struct {
	mtx   sync.Mutex
	grown sync.Cond
	kept  []line // not taken yet
	ended bool
	err   error // error of the input; set at ended
}

// follow begins to read an input.
func follow(in io.Reader, now func() time.Time) *lines {
	l := &lines{}
	l.grown.L = &l.mtx
	go func() {
		reader := bufio.NewReader(in)
		for {
			text, err := reader.ReadString('\n')
			l.add(line{text, now()}, err)
			if err != nil {
				return
			}
		}
	}()
	return l
}

func (l *lines) add(next line, err error) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if next.text != "" {
		l.kept = append(l.kept, next)
	}
	if err != nil {
		l.ended = true
	}
	if err != io.EOF {
		l.err = err
	}
	l.grown.Signal()
}

// next waits for the next line. false means the end.
func (l *lines) next() (line, bool) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	for len(l.kept) == 0 && !l.ended {
		l.grown.Wait()
	}
	if len(l.kept) == 0 {
		return line{}, false
	}
	first := l.kept[0]
	l.kept = l.kept[1:]
	return first, true
}
