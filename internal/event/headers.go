package event

import (
	"strconv"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/outbox"
)

// headers makes the record headers that every source sends: who the PBX is, and when the message was made. Made once
// for each source.
type headers struct {
	before []outbox.Header // those ahead of the timestamp
	after  []outbox.Header // and those behind it
}

func newHeaders(system host.System) headers {
	var h headers
	h.before = append(h.before, outbox.Header{Name: "entity_id", Value: []byte(system.EntityID)})
	if system.Name != "" {
		h.before = append(h.before, outbox.Header{Name: "system_name", Value: []byte(system.Name)})
	}
	h.before = append(h.before, outbox.Header{Name: "asterisk_version", Value: []byte(system.Version)})
	h.after = append(h.after, outbox.Header{Name: "hostname", Value: []byte(system.Hostname)})
	return h
}

// at gives the headers of a message made at now, with room for extra more, in a slice of its own.
func (h *headers) at(now time.Time, extra int) []outbox.Header {
	all := make([]outbox.Header, 0, len(h.before)+1+len(h.after)+extra)
	all = append(all, h.before...)
	all = append(all, outbox.Header{Name: "timestamp", Value: strconv.AppendInt(nil, now.Unix(), 10)})
	return append(all, h.after...)
}
