package options

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/console"
	"reskafka/internal/metrics"
	"reskafka/internal/record"
	"reskafka/internal/spool"
	"reskafka/test/account"
	"reskafka/test/wire"
	"reskafka/test/world"
)

// needle is a value unique among all files.
const needle = "needle 6f1d0e52"

// spoolRows are observed while the broker refuses every record for now, in a directory of the observation's own.
var spoolRows = []Row{
	{
		Option: "durability", Value: "memory", With: []string{"spool_dir = $spool", "message_timeout_ms = 1000"}, prepare: spoolDir,
		Effect: "an expired record is dropped", Where: "in the account",
		holds: func(w *World) error {
			w.refuse()
			c, err := w.outOfTime()
			if err == nil && c.Spooled > 0 {
				return unseenf("it is on disk")
			}
			return err
		},
	},
	{
		Option: "durability", Value: "overflow", With: []string{"spool_dir = $spool", "message_timeout_ms = 1000"}, prepare: spoolDir,
		Instead: []string{"durability = memory"}, Why: "the value is the default",
		Effect: "an expired record goes to disk, and is delivered when the broker is back", Where: "in the account",
		holds: func(w *World) error {
			accept := w.refuse()
			c, err := w.outOfTime()
			if err != nil {
				return err
			}
			if c.Spooled == 0 {
				return unseenf("it is dropped")
			}
			accept()
			return w.Until("the record is acknowledged", func() bool { return w.account().Acknowledged == 1 })
		},
	},
	{
		Option: "durability", Value: "disk", With: []string{"spool_dir = $spool"}, prepare: spoolDir,
		Effect: "a waiting record is on disk, long before its deadline", Where: "in the spool's directory",
		holds: func(w *World) error {
			w.refuse()
			return w.found("$spool", "")
		},
	},
	{
		Option: "spool_dir", Value: "$spool", With: []string{"durability = disk"}, prepare: spoolDir,
		Instead: []string{"spool_dir = $elsewhere"}, Why: "the default is Asterisk's spool directory",
		Effect: "the directory of records on disk", Where: "in the directory",
		holds: func(w *World) error {
			w.refuse()
			return w.found("$spool", "$elsewhere")
		},
	},
	{
		Option: "spool_max_mbytes", Value: "1", With: []string{"durability = disk", "spool_dir = $spool"}, prepare: spoolDir,
		Effect: "the size on disk stays below the limit", Where: "in the spool's directory",
		holds: func(w *World) error {
			if err := w.overfill(func(c account.Account) bool { return c.Spooled == overfillRecords }); err != nil {
				return err
			}
			if w.account().Spooled == overfillRecords {
				return unseenf("all is on disk")
			}
			if size := w.sizeOf("$spool"); size > 1<<20+4<<10 { // the allowance is for the record of progress
				return fmt.Errorf("%d bytes are on disk", size)
			}
			return nil
		},
	},
	{
		Option: "spool_full", Value: "drop_oldest", prepare: spoolDir,
		With:   []string{"durability = disk", "spool_dir = $spool", "spool_max_mbytes = 1", "queue_buffering_max_messages = 5"},
		Effect: "the oldest records are dropped for new ones", Where: "in the account",
		holds: func(w *World) error {
			if err := w.overfill(func(c account.Account) bool { return dropped(c) > 0 }); err != nil {
				return err
			}
			if dropped(w.account()) == 0 {
				return unseenf("the spool is full and nothing is dropped")
			}
			return nil
		},
	},
	{
		Option: "spool_max_hours", Value: "1", With: []string{"durability = disk", "spool_dir = $spool"}, prepare: spoolDir,
		Effect: "a record stored two hours ago, before the machine's start, becomes a dead letter", Where: "in the account",
		holds: func(w *World) error {
			w.refuse()
			if err := w.leaveTwoHoursAgo(); err != nil {
				return err
			}
			if err := w.configure(); err != nil {
				return err
			}
			if _, err := w.open("tested"); err != nil {
				return err
			}
			dead := func() uint64 { return w.spool().Numbers.Sum(metrics.SpoolDeadLetters) }
			if err := w.Until("it is a dead letter or is tried again and again", func() bool { return dead() > 0 || w.attempts() >= manyAttempts }); err != nil {
				return err
			}
			if dead() == 0 {
				return unseenf("it is sent %d times", w.attempts())
			}
			return nil
		},
	},
	{
		Option: "spool_sync", Value: "always", With: []string{"durability = disk", "spool_dir = $spool"}, prepare: spoolDir,
		Instead: []string{"spool_sync = none"}, Why: "the default syncs only a second later",
		Effect: "spooled bytes are on disk, not only in the kernel's memory", Where: "in the kernel's page cache",
		holds: func(w *World) error {
			w.refuse()
			if _, err := w.produce(needle); err != nil {
				return err
			}
			if err := w.Until("the record is spooled", func() bool { return w.account().Spooled == 1 }); err != nil {
				return err
			}
			dirty, err := dirtyPages(w.vars["spool"], ".seg")
			if errors.Is(err, errUntold) {
				w.Skip(err)
			}
			if err == nil && dirty > 0 {
				return unseenf("%d pages are not on the disk", dirty)
			}
			return err
		},
	},
	{
		Option: "flush_timeout_ms", Value: "20000", With: []string{"durability = memory", "reconnect_backoff_max_ms = 200"},
		Effect: "a stop continues to deliver records in memory", Where: "in behaviour",
		holds: flushed,
	},
}

// flushed stops the engine; the broker takes records two seconds later, after the default time.
func flushed(w *World) error {
	accept := w.refuse()
	if _, err := w.produce("one"); err != nil {
		return err
	}
	if err := w.Until("the broker has refused the record", func() bool { return w.attempts() > 0 }); err != nil {
		return err
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.Engine.Stop(500 * time.Millisecond)
	}()
	select {
	case <-stopped:
	case <-time.After(2 * time.Second):
	}
	accept()
	if _, err := world.Await(w.World, stopped); err != nil {
		return err
	}
	if lost := w.Log.With("dropped, engine stopped"); len(lost) > 0 {
		return unseenf("%s", lost[0])
	}
	return nil
}

// spoolDir makes the directories named in rows.
func spoolDir(w *World) []kfake.Opt {
	w.vars["spool"], w.vars["elsewhere"] = w.TempDir(), w.TempDir()
	return nil
}

// leaveTwoHoursAgo leaves a record in the spool as from an earlier boot of the machine.
func (w *World) leaveTwoHoursAgo() error {
	then := time.Now().Add(-2 * time.Hour)
	earlier := &spool.Clock{Wall: func() time.Time { return then }, Uptime: func() time.Duration { return time.Minute }, Boot: 42}
	s, err := spool.Open(spool.Dir(w.vars["spool"], "tested"), spool.Options{Connection: "tested", Clock: earlier})
	if err != nil {
		return err
	}
	_, err = s.Append(w.Topic, []*record.Record{{Topic: w.Topic, Value: []byte(needle), Accepted: then}})
	return errors.Join(err, s.Close())
}

// refuse has the broker refuse every batch for now, until accept is called.
func (w *World) refuse() (accept func()) {
	var accepting atomic.Bool
	w.Kafka.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		w.Kafka.KeepControl()
		if accepting.Load() {
			return nil, nil, false
		}
		return refusal(request.(*kmsg.ProduceRequest), kerr.NotEnoughReplicas.Code), nil, true
	})
	return func() { accepting.Store(true) }
}

// manyAttempts take some seconds, because each waits before: every immediate effect has occurred by then.
const manyAttempts = 24

// attempts counts the batches sent so far.
func (w *World) attempts() int {
	return len(w.Wire.Seen(func(r wire.Request) bool { return kmsg.Key(r.Key()) == kmsg.Produce }))
}

func (w *World) account() account.Account {
	status, _ := w.Engine.Connection("tested")
	return account.Of(status.Numbers)
}

func (w *World) spool() console.SpoolStatus {
	status, _ := w.Engine.Spool("tested")
	return status
}

func dropped(c account.Account) (n uint64) {
	for _, count := range c.Dropped {
		n += count
	}
	return n
}

// outOfTime produces a record refused by the broker, and waits until the record is dropped or on disk.
func (w *World) outOfTime() (account.Account, error) {
	if _, err := w.produce(needle); err != nil {
		return account.Account{}, err
	}
	err := w.Until("the record is dropped or on disk", func() bool {
		c := w.account()
		return dropped(c)+c.Spooled > 0
	})
	return w.account(), err
}

// found produces a record and waits until a file below the directory here has it. A file below elsewhere, or
// many attempts without either, means no effect. Empty = no elsewhere.
func (w *World) found(here, elsewhere string) error {
	if _, err := w.produce(needle); err != nil {
		return err
	}
	seen, other := false, false
	if err := w.Until("a file holds the record", func() bool {
		seen = w.holdsNeedle(here)
		other = elsewhere != "" && w.holdsNeedle(elsewhere)
		return seen || other || w.attempts() >= manyAttempts
	}); err != nil {
		return err
	}
	if !seen {
		return unseenf("no file in %s holds it; elsewhere: %t", here, other)
	}
	return nil
}

// holdsNeedle reports whether a file below a row's directory has the needle.
func (w *World) holdsNeedle(dir string) bool {
	found := false
	w.eachFile(dir, func(path string) {
		text, err := os.ReadFile(path)
		found = found || err == nil && bytes.Contains(text, []byte(needle))
	})
	return found
}

// sizeOf adds up the files below a row's directory.
func (w *World) sizeOf(dir string) int64 {
	total := int64(0)
	w.eachFile(dir, func(path string) {
		if info, err := os.Stat(path); err == nil {
			total += info.Size()
		}
	})
	return total
}

// eachFile walks a directory; the directory may change meanwhile.
func (w *World) eachFile(dir string, do func(path string)) {
	_ = filepath.WalkDir(os.Expand(dir, w.value), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			do(path)
		}
		return nil
	})
}

// overfillRecords of overfillBytes are eight times the limit spool_max_mbytes = 1, and more than the part
// both in memory and on disk.
const overfillRecords, overfillBytes = 2000, 4 << 10

// overfill produces more than a megabyte and waits for so, or for a full spool.
func (w *World) overfill(so func(account.Account) bool) error {
	w.refuse()
	if err := w.configure(); err != nil {
		return err
	}
	s, err := w.open("tested")
	if err != nil {
		return err
	}
	for range overfillRecords {
		s.Put(strings.Repeat("x", overfillBytes))
	}
	return w.Until("the spool is full, or what it does then has happened", func() bool {
		return so(w.account()) || strings.Contains(w.spool().State, "full")
	})
}
