package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	kafka "reskafka/internal/kafka/produce"
	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// Limit of replay's records in flight, and the wait before a retry.
const (
	replayRecords = 1000
	replayBytes   = 4 << 20
	replayAttempt = 30 * time.Second
	replayPause   = 500 * time.Millisecond
)

// replayer sends the records of a spool.
type replayer struct {
	spool    *spool.Spool
	producer *kafka.Producer
	answers  chan answer // of the records of a Send
	patience time.Duration
	progress time.Time // of the last acknowledgement

	sent, refused, lost uint64
}

// replay sends the records of a spool.
func (o *spoolOptions) replay(ctx context.Context, dir string) error {
	connection, err := o.settings(dir)
	if err != nil {
		return err
	}
	name, _ := spool.Connection(dir)
	s, err := spool.Open(dir, spool.Options{Connection: name, Log: noteLogger{o}})
	var locked *spool.LockedError
	if errors.As(err, &locked) {
		return fmt.Errorf("%w: records are replayed while Asterisk does not run, or has no such connection", err)
	}
	if err != nil {
		return err
	}
	producer, err := kafka.NewProducer(connection, noteLogger{o}, nil)
	if err != nil {
		_ = s.Close()
		return err
	}
	r := &replayer{spool: s, producer: producer, answers: make(chan answer, replayRecords), patience: o.patience, progress: time.Now()}
	producer.AnswerTo(r.answered)
	if o.dead {
		err = r.letters(ctx, o.topic)
	} else {
		err = r.topics(ctx, o.topic)
	}
	producer.Close()
	if closing := s.Close(); err == nil && closing != nil {
		err = fmt.Errorf("closing the spool: %w", closing)
	}
	_, _ = fmt.Fprintf(o.env.stdout, "connection %s: %d records acknowledged, %d refused and kept as dead letters, %d damaged\n", host.Printable(name), r.sent, r.refused, r.lost)
	return err
}

// noteLogger prints the log lines of the spool and the client.
type noteLogger struct{ o *spoolOptions }

func (l noteLogger) Log(level host.Level, _ string, _ int, _, text string) {
	if level >= host.Notice {
		l.o.note("%s", text)
	}
}

// readConfig reads the file of --config.
func (o *spoolOptions) readConfig() error {
	if o.config == "" {
		return nil
	}
	text, err := os.ReadFile(o.config)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	o.configText = string(text)
	return nil
}

// settings makes the connection: of the defaults, or of a section of a file, with the brokers of the command line.
func (o *spoolOptions) settings(dir string) (*config.Connection, error) {
	name := o.connection
	if name == "" {
		name, _ = spool.Connection(dir)
	}
	var entries []config.Entry
	if o.config == "" {
		entries = []config.Entry{{Section: name}, {Section: name, Name: "type", Value: "connection"}}
	} else {
		var err error
		if entries, err = sectionOf(o.configText, name); err != nil {
			return nil, fmt.Errorf("reading %s: %w", o.config, err)
		}
	}
	if o.brokers != "" {
		entries = append(entries, config.Entry{Section: name, Name: "brokers", Value: o.brokers})
	}
	parsed, problems := config.ParseKafka(entries)
	if len(parsed.Connections) != 1 || parsed.Connections[0].NoProducer != "" {
		texts := []error{fmt.Errorf("connection %s cannot be used", host.Printable(name))}
		for _, p := range problems {
			texts = append(texts, errors.New(p.String()))
		}
		return nil, errors.Join(texts...)
	}
	return parsed.Connections[0], nil
}

// sectionOf returns the lines of a section, with its name in any case. It supports neither templates nor
// includes.
func sectionOf(text, name string) ([]config.Entry, error) {
	var entries []config.Entry
	inside, number := false, 0
	for line := range strings.Lines(text) {
		number++
		line = uncommented(line)
		if rest, ok := strings.CutPrefix(line, "["); ok {
			section, options, _ := strings.Cut(rest, "]")
			if inside = config.NameKey(section) == config.NameKey(name); inside && strings.TrimSpace(options) != "" {
				return nil, fmt.Errorf("line %d: section %s has %s, which only Asterisk reads", number, name, options)
			}
			if inside {
				entries = append(entries, config.Entry{Section: name})
			}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !inside || !ok {
			continue
		}
		value = strings.TrimSpace(strings.TrimPrefix(value, ">"))
		entries = append(entries, config.Entry{Line: number, Section: name, Name: strings.TrimSpace(key), Value: value})
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("it has no section %s", name)
	}
	return entries, nil
}

// uncommented removes a line's comment, which begins with a ; without a backslash.
func uncommented(line string) string {
	for i := range len(line) {
		if line[i] == ';' && (i == 0 || line[i-1] != '\\') {
			line = line[:i]
			break
		}
	}
	return strings.ReplaceAll(strings.TrimSpace(line), `\;`, ";")
}

// topics sends the records of every topic, or of a single topic.
func (r *replayer) topics(ctx context.Context, only string) error {
	for _, l := range r.spool.Logs() {
		if only != "" && l.Topic != only {
			continue
		}
		for next := l.First; next < l.Next; {
			records, positions, end, err := r.spool.Read(l.Topic, next, replayRecords, replayBytes)
			if err != nil {
				return err
			}
			r.lost += end - next - uint64(len(records))
			left, err := r.send(ctx, records)
			if err == nil {
				err = r.writeDeadLetters(left)
			}
			if err != nil { // records behind the first unacknowledged record may be sent again
				for i, record := range records {
					if len(left) > 0 && record == left[0].Record {
						end = positions[i]
						break
					}
				}
			}
			if settling := r.spool.Settle(l.Topic, end); settling != nil {
				err = errors.Join(err, settling)
			}
			if err != nil {
				return fmt.Errorf("replaying topic %s: %w", l.Topic, err)
			}
			next = end
		}
	}
	return nil
}

// writeDeadLetters stores permanently refused records.
func (r *replayer) writeDeadLetters(letters []record.DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	r.refused += uint64(len(letters))
	_, err := r.spool.Bury(letters)
	return err
}

// letters sends all dead letters, or those of a topic. Unacknowledged dead letters stay.
func (r *replayer) letters(ctx context.Context, only string) error {
	for todo := int(r.spool.Usage().Dead); todo > 0; {
		letters, _, forget, err := r.spool.Exhume(min(todo, replayRecords))
		if err != nil || len(letters) == 0 {
			return err
		}
		todo -= len(letters)
		var records []*record.Record
		var keep []record.DeadLetter
		for _, l := range letters {
			if only != "" && l.Record.Topic != only {
				keep = append(keep, l)
			} else {
				records = append(records, l.Record)
			}
		}
		left, err := r.send(ctx, records)
		for _, l := range letters { // with their first reason, unless the brokers gave a new reason
			for _, not := range left {
				if not.Record == l.Record {
					if not.Reason == "" {
						not = l
					}
					keep = append(keep, not)
				}
			}
		}
		if err == nil {
			r.refused += uint64(len(left))
		}
		if len(keep) < len(letters) {
			if _, storing := r.spool.Bury(keep); storing != nil {
				return errors.Join(err, storing)
			}
			err = errors.Join(err, forget())
		} else if err == nil && len(keep) > 0 { // all stay: behind the others, not tried yet
			if _, err = r.spool.Bury(keep); err == nil {
				err = forget()
			}
		}
		if err != nil {
			return fmt.Errorf("replaying dead letters: %w", err)
		}
	}
	return nil
}

// answer is the outcome of a record.
type answer struct {
	record *record.Record
	err    error
}

// answered is the receiver of the producer's outcomes.
func (r *replayer) answered(records []*record.Record, err error) {
	for _, one := range records {
		r.answers <- answer{one, err}
	}
}

// send sends at most replayRecords records until each is acknowledged or permanently refused, and returns the refused records in
// order. With an error it returns every unacknowledged record.
func (r *replayer) send(ctx context.Context, records []*record.Record) (left []record.DeadLetter, err error) {
	refused := map[*record.Record]record.DeadLetter{}
	for todo := records; len(todo) > 0; {
		r.producer.Send(todo, time.Now().Add(min(replayAttempt, max(r.patience, time.Second))))
		again := map[*record.Record]bool{}
		var cause error
		for range todo {
			a := <-r.answers
			if a.err == nil {
				r.sent++
				r.progress = time.Now()
			} else if reason, permanent := r.producer.Permanent(a.err); permanent {
				refused[a.record] = record.DeadLetter{Record: a.record, Reason: reason, Cause: a.err.Error(), At: time.Now()}
				r.progress = time.Now()
			} else {
				again[a.record] = true
				cause = a.err
			}
		}
		todo = pick(todo, again)
		if len(todo) == 0 {
			break
		}
		if err = r.pause(ctx, cause); err != nil {
			for _, one := range records {
				if letter, ok := refused[one]; ok || again[one] {
					letter.Record = one
					left = append(left, letter)
				}
			}
			return left, err
		}
	}
	for _, one := range records {
		if letter, ok := refused[one]; ok {
			left = append(left, letter)
		}
	}
	return left, nil
}

func pick(records []*record.Record, which map[*record.Record]bool) []*record.Record {
	var picked []*record.Record
	for _, one := range records {
		if which[one] {
			picked = append(picked, one)
		}
	}
	return picked
}

// pause waits before a retry, unless retries have taken too long.
func (r *replayer) pause(ctx context.Context, cause error) error {
	if time.Since(r.progress) > r.patience {
		return fmt.Errorf("giving up after %s without an acknowledgement: %w", r.patience, cause)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(replayPause):
		return nil
	}
}
