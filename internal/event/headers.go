package event

import (
	"strconv"
	"sync/atomic"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/outbox"
)

// headers makes the record headers that every source sends: who the PBX is, and when the message was made. Made once
// for each source.
type headers struct {
	before []outbox.Header // those ahead of the timestamp
	after  []outbox.Header // and those behind it
	last   atomic.Pointer[stamped]
}

// stamped are the headers of the messages of one second. They are alike, so that on a busy PBX hardly any message needs
// headers of its own.
type stamped struct {
	second int64
	all    []outbox.Header
}

func newHeaders(system host.System) *headers {
	h := &headers{}
	h.before = append(h.before, outbox.Header{Name: "entity_id", Value: []byte(system.EntityID)})
	if system.Name != "" {
		h.before = append(h.before, outbox.Header{Name: "system_name", Value: []byte(system.Name)})
	}
	h.before = append(h.before, outbox.Header{Name: "asterisk_version", Value: []byte(system.Version)})
	h.after = append(h.after, outbox.Header{Name: "hostname", Value: []byte(system.Hostname)})
	return h
}

// at gives the headers of a message made at now. They are shared by messages and must not be written to; appending to
// them makes others.
func (h *headers) at(now time.Time) []outbox.Header {
	second := now.Unix()
	if last := h.last.Load(); last != nil && last.second == second {
		return last.all
	}
	all := make([]outbox.Header, 0, len(h.before)+1+len(h.after))
	all = append(all, h.before...)
	all = append(all, outbox.Header{Name: "timestamp", Value: strconv.AppendInt(nil, second, 10)})
	all = append(all, h.after...)
	h.last.Store(&stamped{second, all})
	return all
}
