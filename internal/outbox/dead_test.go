package outbox

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

// graveyard is an outbox whose client refuses every record permanently until good is set.
type graveyard struct {
	*Outbox
	t    *testing.T
	disk *disk
	heard
	good atomic.Bool
	sent []string
}

// heard counts the observer's calls by reason.
type heard struct {
	trouble
	counts map[string]int
	errs   map[string]error
}

func (h *heard) Dropped(topic, reason string, records int, err error) {
	h.hear("dropped, "+reason, records, err)
}
func (h *heard) Died(topic, reason string, records int, err error) {
	h.hear("dead, "+reason, records, err)
}

func (h *heard) hear(what string, records int, err error) {
	h.mtx.Lock()
	defer h.mtx.Unlock()
	h.counts[what] += records
	if h.errs[what] == nil {
		h.errs[what] = err
	}
}

func newGraveyard(t *testing.T, s Settings, d *disk) *graveyard {
	g := &graveyard{t: t, disk: d}
	g.counts, g.errs = map[string]int{}, map[string]error{}
	c := newClient("client", s, func(r *record.Record) answer {
		if g.good.Load() {
			g.sent = append(g.sent, r.Topic+" "+string(r.Value))
			return answer{}
		}
		return answer{err: errRefused}
	})
	g.Outbox = New(s, c, g, g)
	if d != nil {
		g.Attach(func() (Spool, error) { return d, nil })
	}
	return g
}

func (g *graveyard) put(topic string, from, to int) {
	for i := from; i < to; i++ {
		g.Accept([]record.Record{numbered(topic, i, record.Unsaid)})
		synctest.Wait()
	}
}

// want checks an account, including the sum.
func (g *graveyard) want(topic string, accepted, acknowledged int, dead, dropped map[string]uint64) {
	g.t.Helper()
	for _, c := range g.Counters() {
		if c.Topic != topic {
			continue
		}
		sum := c.Acknowledged + c.Waiting + c.Sending + c.Spooled
		for _, n := range c.Dead {
			sum += n
		}
		for _, n := range c.Dropped {
			sum += n
		}
		if c.Accepted != uint64(accepted) || c.Acknowledged != uint64(acknowledged) || sum != c.Accepted ||
			!maps.Equal(c.Dead, dead) || !maps.Equal(c.Dropped, dropped) {
			g.t.Errorf("topic %q: %+v, want %d accepted, %d acknowledged, dead %v, dropped %v", topic, c, accepted, acknowledged, dead, dropped)
		}
		return
	}
	g.t.Errorf("topic %q is in no account", topic)
}

func onDiskSettings() Settings {
	s := usual
	s.Durability = record.Disk
	return s
}

func counts(pairs ...any) map[string]uint64 {
	m := map[string]uint64{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = uint64(pairs[i+1].(int))
	}
	return m
}

// TestDeadLetters_NoRoom_OldestCountAsDropped guards that no dead letter leaves the account silently when the
// spool makes space.
func TestDeadLetters_NoRoom_OldestCountAsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(func(what string) { t.Error(what) })
		d.mostDead = 3
		g := newGraveyard(t, onDiskSettings(), d)
		g.put("t", 0, 6)
		g.put("u", 0, 2)
		after(time.Second)
		g.want("t", 6, 0, counts(reasonRefused, 1), counts(record.ReasonDeadFull, 5))
		g.want("u", 2, 0, counts(reasonRefused, 2), counts())
		if g.counts["dead, "+reasonRefused] != 8 || g.counts["dropped, "+record.ReasonDeadFull] != 5 || len(g.counts) != 2 {
			t.Errorf("the observer heard of %v", g.counts)
		}
		g.Close()
	})
}

// TestDeadLetters_OfAnEarlierRun_AreRestored guards the account over a restart: dead letters count from the
// beginning, and for their topic after a retry.
func TestDeadLetters_OfAnEarlierRun_AreRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(func(what string) { t.Error(what) })
		g := newGraveyard(t, onDiskSettings(), d)
		g.put("t", 0, 3)
		g.Close()
		g = newGraveyard(t, onDiskSettings(), d.boot())
		g.put("t", 3, 4)
		g.want("", 3, 0, counts(reasonEarlier, 3), counts())
		g.want("t", 1, 0, counts(reasonRefused, 1), counts())
		g.good.Store(true)
		if n, _, err := g.Retry(""); n != 4 || err != nil {
			t.Errorf("%d sent again, %v", n, err)
		}
		after(time.Second)
		g.want("t", 4, 4, counts(), counts())
		if c := g.Counters(); len(c) != 1 || c[0].Restored != 3 {
			t.Errorf("accounts %+v", c)
		}
		g.Close()
	})
}

// TestDeadLetters_OneTopic_OthersStay guards that a command for a topic leaves the dead letters of other
// topics unchanged.
func TestDeadLetters_OneTopic_OthersStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(func(what string) { t.Error(what) })
		g := newGraveyard(t, onDiskSettings(), d)
		for i := range 3 {
			g.put("t", i, i+1)
			g.put("u", i, i+1)
			g.put("v", i, i+1)
		}
		if records, dead, err := g.Purge("u"); records != 0 || dead != 3 || err != nil {
			t.Errorf("%d records and %d dead letters purged, %v", records, dead, err)
		}
		g.good.Store(true)
		if n, _, err := g.Retry("t"); n != 3 || err != nil {
			t.Errorf("%d sent again, %v", n, err)
		}
		after(time.Second)
		g.want("t", 3, 3, counts(), counts())
		g.want("u", 3, 0, counts(), counts(record.ReasonPurged, 3))
		g.want("v", 3, 0, counts(reasonRefused, 3), counts())
		if len(d.dead) != 3 || d.dead[0].Reason != reasonRefused || d.dead[0].Cause != errRefused.Error() {
			t.Errorf("dead letters %+v", d.dead)
		}
		if n, _, err := g.Retry(""); n != 3 || err != nil {
			t.Errorf("%d sent again, %v", n, err)
		}
		after(time.Second)
		if got, want := strings.Join(g.sent, ", "), "t 0, t 1, t 2, v 0, v 1, v 2"; got != want {
			t.Errorf("sent %s, want %s", got, want)
		}
		g.Close()
	})
}

// unburying is a disk that writes no dead letters while failing.
type unburying struct {
	*disk
	fails atomic.Bool
}

func (u *unburying) Bury(letters []record.DeadLetter) (written int, err error) {
	if u.fails.Load() {
		return 0, errDisk
	}
	return u.disk.Bury(letters)
}

// TestDeadLetters_OthersCannotBeWritten_CommandSaysSo guards the answer of a command for a topic while other
// topics' dead letters cannot be rewritten: the answer was zero letters, without an error.
func TestDeadLetters_OthersCannotBeWritten_CommandSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(func(what string) { t.Error(what) })
		g := newGraveyard(t, onDiskSettings(), d)
		g.put("t", 0, 3)
		g.put("u", 0, 2)
		g.Close()
		u := &unburying{disk: d.boot()}
		u.fails.Store(true)
		g = newGraveyard(t, onDiskSettings(), nil)
		g.Attach(func() (Spool, error) { return u, nil })
		after(time.Second)
		if _, dead, err := g.Purge("t"); dead != 3 || !errors.Is(err, errDisk) {
			t.Errorf("%d dead letters purged, %v", dead, err)
		}
		u.fails.Store(false)
		after(10 * time.Second)
		if n := len(u.disk.dead); n != 2 {
			t.Errorf("%d dead letters on disk", n)
		}
		if _, dead, err := g.Purge(""); dead != 2 || err != nil {
			t.Errorf("%d dead letters purged, %v", dead, err)
		}
		g.Close()
	})
}

// TestDeadLetters_Damaged_CountAsDropped guards that an unreadable dead letter does not stay in the account
// forever.
func TestDeadLetters_Damaged_CountAsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(func(what string) { t.Error(what) })
		g := newGraveyard(t, onDiskSettings(), d)
		g.put("t", 0, 5)
		d.damage = func(topic string, position uint64) bool { return topic == "" && position%2 == 0 }
		g.good.Store(true)
		if n, _, err := g.Retry(""); n != 3 || err != nil {
			t.Errorf("%d sent again, %v", n, err)
		}
		after(time.Second)
		g.want("t", 5, 3, counts(), counts(record.ReasonDamaged, 2))
		g.Close()
	})
}

// TestDeadLetters_DiskFailsUntilTheEnd_CountAsDropped guards that dead letters never written to disk are not
// counted as kept.
func TestDeadLetters_DiskFailsUntilTheEnd_CountAsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(func(what string) { t.Error(what) })
		g := newGraveyard(t, onDiskSettings(), d)
		after(time.Second)
		d.mtx.Lock()
		d.trouble = errDisk
		d.mtx.Unlock()
		g.put("t", 0, 4)
		g.want("t", 4, 0, counts(reasonRefused, 4), counts())
		g.Close()
		g.want("t", 4, 0, counts(), counts(record.ReasonStopped, 4))
		if g.counts["dropped, "+record.ReasonStopped] != 4 {
			t.Errorf("the observer heard of %v", g.counts)
		}
	})
}

// TestDeadLetters_Report_SaysSo guards that the receiver of a report can distinguish a dead letter from a
// lost record.
func TestDeadLetters_Report_SaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGraveyard(t, onDiskSettings(), newDisk(func(what string) { t.Error(what) }))
		r := numbered("t", 0, record.Unsaid)
		var got error
		r.Report = func(_ *record.Record, err error) { got = err }
		g.Accept([]record.Record{r})
		after(time.Second)
		if want := "dead letter, " + reasonRefused + ": " + errRefused.Error(); got == nil || got.Error() != want ||
			!errors.Is(got, errRefused) || !errors.Is(got, record.DroppedError(reasonRefused)) {
			t.Errorf("reported %v, want %s", got, want)
		}
		g.Close()
	})
}

// TestTooOld_ClockOfTheRecord_DoesNotCount guards that only the spool's clock makes a record too old, for any
// time of acceptance. The log has age and option.
func TestTooOld_ClockOfTheRecord_DoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := onDiskSettings()
		s.MaxAge = 2 * time.Hour
		d := newDisk(func(what string) { t.Error(what) })
		g := newGraveyard(t, s, d)
		c := newClient("down", s, fixed(answer{err: errRetry}))
		g.Swap(c, s, 0)
		synctest.Wait()
		for i, accepted := range []time.Time{time.Unix(0, 0), time.Now().Add(-3 * time.Hour), time.Now().Add(3 * time.Hour), {}} {
			r := numbered("t", i, record.Unsaid)
			r.Accepted = accepted
			g.Accept([]record.Record{r})
		}
		after(2*time.Hour - time.Minute)
		if account := g.Counters()[0]; account.Spooled != 4 {
			t.Errorf("before their time: %+v", account)
		}
		after(2 * time.Minute)
		g.want("t", 4, 0, counts(record.ReasonTooOld, 4), counts())
		if err := g.errs["dead, "+record.ReasonTooOld]; err == nil || !strings.Contains(err.Error(), "waited 2h0m") || !strings.Contains(err.Error(), "spool_max_hours = 2") {
			t.Errorf("the log is told %v", err)
		}
		// A retry restarts their hours.
		if n, _, err := g.Retry(""); n != 4 || err != nil {
			t.Errorf("%d sent again, %v", n, err)
		}
		after(2*time.Hour - time.Minute)
		if account := g.Counters()[0]; account.Spooled != 4 || len(account.Dead) != 0 {
			t.Errorf("after the retry: %+v", account)
		}
		g.good.Store(true)
		g.Swap(newClient("good", s, fixed(answer{})), s, 0)
		after(time.Second)
		g.want("t", 4, 4, counts(), counts())
		g.Close()
	})
}

// TestProbe_WhateverItsEnd_StaysOutOfTheAccount guards test messages: no account counts them, no line reports
// them.
func TestProbe_WhateverItsEnd_StaysOutOfTheAccount(t *testing.T) {
	for name, c := range map[string]struct {
		answer answer
		end    func(o *Outbox)
		want   error
	}{
		"acknowledged": {answer{}, nil, nil},
		"refused":      {answer{err: errRefused}, nil, errRefused},
		"out of time":  {answer{hang: true}, nil, record.DroppedError(record.ReasonExpired)},
		"in backoff":   {answer{err: errRetry}, nil, record.DroppedError(record.ReasonExpired)},
		"stopped":      {answer{err: errRetry}, (*Outbox).Close, record.DroppedError(record.ReasonStopped)},
	} {
		for _, durability := range []record.Durability{record.Memory, record.Disk} {
			t.Run(fmt.Sprint(name, ", ", durability), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := usual
					s.Durability = durability
					h := &heard{counts: map[string]int{}, errs: map[string]error{}}
					o := New(s, newClient("client", s, fixed(c.answer)), h, h)
					if durability == record.Disk {
						o.Attach(func() (Spool, error) { return newDisk(func(what string) { t.Error(what) }), nil })
						synctest.Wait()
					}
					reported, got := 0, error(nil)
					o.Accept([]record.Record{{Topic: "t", Value: []byte("1"), Accepted: time.Now(), Lifetime: 3 * time.Second, Probe: true, Charge: -1,
						Report: func(_ *record.Record, err error) { reported, got = reported+1, err }}})
					synctest.Wait()
					if c := o.Counters(); len(c) != 0 {
						t.Errorf("under way: %+v", c)
					}
					if c.end != nil {
						c.end(o)
					}
					after(4 * time.Second)
					if reported != 1 || !errors.Is(got, c.want) {
						t.Errorf("reported %d times, %v; want %v", reported, got, c.want)
					}
					o.Close()
					if c := o.Counters(); len(c) != 0 || len(h.counts) != 0 {
						t.Errorf("account %+v, the observer heard of %v", c, h.counts)
					}
				})
			})
		}
	}
}
