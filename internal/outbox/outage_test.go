package outbox

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A record whose time is up inside the client is the first of those that go to disk for it.
func TestTheLateRecordComesFirstOnDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual
		s.Durability, s.WindowRecords = Overflow, 1
		h, c := &trouble{}, newClient("client", s, fixed(answer{hang: true}))
		d := newDisk(func(what string) { t.Error(what) })
		o := New(s, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		o.Accept([]Record{numbered("t", 0, Unsaid)})
		after(s.Timeout / 2)
		o.Accept([]Record{numbered("t", 1, Unsaid)})
		after(s.Timeout/2 + 2*time.Second) // the second one has time left
		if got := d.values("t"); !slices.Equal(got, []string{"0", "1"}) {
			t.Errorf("on disk: %v", got)
		}
		o.Close()
		if got := d.values("t"); !slices.Equal(got, []string{"0", "1"}) {
			t.Errorf("on disk at the end: %v", got)
		}
	})
}
