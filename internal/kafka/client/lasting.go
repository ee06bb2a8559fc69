package client

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// lasting has the troubles that were logged and are not over; the end of each is logged too. The zero value
// is ready for use. Methods are safe for concurrent use.
type lasting struct {
	some atomic.Bool // there are any

	mtx   sync.Mutex
	about map[string]trouble // by subject: "topic t", "group g"
}

// AboutTopic is the prefix of a topic's name in the subject of a trouble.
const AboutTopic = "topic "

// trouble is a logged failure.
type trouble struct {
	text  string
	since time.Time
}

// began notes a logged trouble.
func (l *lasting) began(about, text string, now time.Time) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	since := now
	if known, ok := l.about[about]; ok {
		since = known.since
	}
	if l.about == nil {
		l.about = map[string]trouble{}
	}
	l.about[about] = trouble{text, since}
	l.some.Store(true)
}

// has reports whether there is a trouble about something.
func (l *lasting) has(about string) bool {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	_, ok := l.about[about]
	return ok
}

// topics returns the troubles with topics, by topic.
func (l *lasting) topics() map[string]Failure {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	var found map[string]Failure
	for about, t := range l.about {
		if name, ok := strings.CutPrefix(about, AboutTopic); ok {
			if found == nil {
				found = map[string]Failure{}
			}
			found[name] = Failure{Text: t.text, At: t.since}
		}
	}
	return found
}

// ended removes and returns a trouble that is over; ok is false if there was none.
func (l *lasting) ended(about string) (t trouble, ok bool) {
	if !l.some.Load() {
		return trouble{}, false
	}
	l.mtx.Lock()
	defer l.mtx.Unlock()
	t, ok = l.about[about]
	delete(l.about, about)
	l.some.Store(len(l.about) > 0)
	return t, ok
}

// inherited is the subject prefix of troubles with brokers from the previous client.
const inherited = "broker "

// takeInherited removes the previous client's troubles with brokers and returns the oldest.
func (l *lasting) takeInherited() (about string, oldest trouble) {
	if !l.some.Load() {
		return "", trouble{}
	}
	l.mtx.Lock()
	defer l.mtx.Unlock()
	for other, t := range l.about {
		if strings.HasPrefix(other, inherited) {
			if about == "" || t.since.Before(oldest.since) {
				about, oldest = other, t
			}
			delete(l.about, other)
		}
	}
	l.some.Store(len(l.about) > 0)
	return about, oldest
}

// Follow adopts the troubles of the replaced client, so their end is logged. Follow must be called before the
// client is used.
func (s *Status) Follow(before *Status) {
	before.lasting.mtx.Lock()
	all := maps.Clone(before.lasting.about)
	before.lasting.mtx.Unlock()
	before.mtx.Lock()
	defer before.mtx.Unlock()
	for address, b := range before.brokers {
		if b.down && b.told {
			s.lasting.began(inherited+address, b.failure.Text, b.downSince)
		}
	}
	for about, t := range all {
		s.lasting.began(about, t.text, t.since)
	}
}
