package spool

import (
	"fmt"

	"reskafka/internal/record"
)

// Bury implements outbox.Spool. Dead letters may have an eighth of the limit.
func (s *Spool) Bury(letters []record.DeadLetter) (written int, err error) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.closed {
		return 0, errClosed
	}
	for i := range letters {
		if err := s.freeDeadLetters(letterBatch(letters[i : i+1])); err != nil {
			return i, fmt.Errorf("writing %d of %d dead letters: %w", len(letters)-i, len(letters), err)
		}
		if _, err := s.append(s.dead, letterBatch(letters[i:i+1])); err != nil {
			return i, fmt.Errorf("writing %d of %d dead letters: %w", len(letters)-i, len(letters), err)
		}
	}
	return len(letters), nil
}

// DeadLog implements outbox.Spool.
func (s *Spool) DeadLog() Log {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	return Log{First: s.dead.first, Next: s.dead.next}
}

// freeDeadLetters removes the oldest dead letters until there is space for another.
func (s *Spool) freeDeadLetters(b letterBatch) error {
	limit := s.limit().MaxBytes / partOfLimit
	if limit <= 0 {
		return nil
	}
	for {
		need, err := s.need(s.dead, b)
		if err != nil {
			return err
		}
		if s.dead.bytes.Load()+need <= limit {
			return nil
		}
		bytes := s.dead.bytes.Load()
		s.dropOldest(s.dead)
		if err := s.reclaim(); err != nil {
			return err
		}
		if s.dead.bytes.Load() >= bytes { // a single letter is too large
			return ErrFull
		}
	}
}

// Exhume implements outbox.Spool.
func (s *Spool) Exhume(max int) (letters []record.DeadLetter, next uint64, forget func() error, err error) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	nothing := func() error { return nil }
	if s.closed {
		return nil, 0, nothing, errClosed
	}
	l := s.dead
	next = l.first
	for len(letters) == 0 && next < l.next && max > 0 && err == nil {
		next, err = s.deadRead.walk(l, next, func(f frame) verdict {
			letter, err := parseLetter(f.body)
			if err != nil {
				return takeBad
			}
			letter.Position = f.position
			if letters = append(letters, letter); len(letters) == max {
				return takeLast
			}
			return takeMore
		})
	}
	if err != nil {
		return nil, l.first, nothing, err
	}
	return letters, next, func() error {
		s.mtx.Lock()
		defer s.mtx.Unlock()
		if s.closed {
			return errClosed
		}
		s.settle(l, next)
		return nil
	}, nil
}
