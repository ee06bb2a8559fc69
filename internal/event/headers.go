package event

import (
	"strconv"
	"sync/atomic"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/record"
)

// headers builds the common record headers of all sources: the PBX's identity, and the message's time. Built
// once for each source.
type headers struct {
	before []record.Header // headers before the timestamp
	after  []record.Header // headers after the timestamp
	last   atomic.Pointer[stamped]
}

// stamped are the headers of all messages in a second. On a busy PBX hardly any message needs its own
// headers.
type stamped struct {
	second int64
	all    []record.Header
}

func newHeaders(system host.System) *headers {
	h := &headers{}
	h.before = append(h.before, record.Header{Name: "entity_id", Value: []byte(system.EntityID)})
	if system.Name != "" {
		h.before = append(h.before, record.Header{Name: "system_name", Value: []byte(system.Name)})
	}
	h.before = append(h.before, record.Header{Name: "asterisk_version", Value: []byte(system.Version)})
	h.after = append(h.after, record.Header{Name: "hostname", Value: []byte(system.Hostname)})
	return h
}

// at returns the headers of a message at the time now. Messages share the slice: it must not be modified; an
// append copies it.
func (h *headers) at(now time.Time) []record.Header {
	second := now.Unix()
	if last := h.last.Load(); last != nil && last.second == second {
		return last.all
	}
	all := make([]record.Header, 0, len(h.before)+1+len(h.after))
	all = append(all, h.before...)
	all = append(all, record.Header{Name: "timestamp", Value: strconv.AppendInt(nil, second, 10)})
	all = append(all, h.after...)
	h.last.Store(&stamped{second, all})
	return all
}
