package event

import (
	"strconv"
	"sync/atomic"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/outbox"
)

// headers builds the common record headers of all sources: the PBX's identity, and the message's time. Built
// once for each source.
type headers struct {
	before []outbox.Header // headers before the timestamp
	after  []outbox.Header // headers after the timestamp
	last   atomic.Pointer[stamped]
}

// stamped are the headers of all messages in a second. On a busy PBX hardly any message needs its own
// headers.
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

// at returns the headers of a message at the time now. Messages share the slice: it must not be modified; an
// append copies it.
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
