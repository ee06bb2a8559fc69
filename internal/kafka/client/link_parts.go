package client

import "net"

// Parts are the bytes of requests in the order of the write: appended bytes, and references to bytes of the
// requests. A long batch is therefore not copied again.
type Parts struct {
	Own []byte // appended bytes

	copies     bool // there are no references
	references []reference
	referred   int // bytes of all references
}

// reference refers to bytes after the first `after` appended bytes.
type reference struct {
	after int
	bytes []byte
}

// Refer adds bytes to the end. The bytes must not change before the request's Unwritten or Ended. Bytes short
// enough for an inline write are copied.
func (p *Parts) Refer(bytes []byte) {
	if p.copies || len(bytes) <= InlineBytes {
		p.Own = append(p.Own, bytes...)
		return
	}
	p.references = append(p.references, reference{len(p.Own), bytes})
	p.referred += len(bytes)
}

// Len returns the number of bytes.
func (p *Parts) Len() int { return len(p.Own) + p.referred }

// reset removes all bytes. A large buffer is not kept.
func (p *Parts) reset() {
	if cap(p.Own) > retainedBytes {
		p.Own = nil
	}
	clear(p.references)
	p.Own, p.references, p.referred = p.Own[:0], p.references[:0], 0
}

// truncate removes the bytes of a request that were added to earlier bytes.
func (p *Parts) truncate(own, references int) {
	for _, r := range p.references[references:] {
		p.referred -= len(r.bytes)
	}
	p.Own, p.references = p.Own[:own], p.references[:references]
}

// buffers returns the bytes without copying them.
func (p *Parts) buffers() net.Buffers {
	all, from := make(net.Buffers, 0, 2*len(p.references)+1), 0
	for _, r := range p.references {
		if r.after > from {
			all = append(all, p.Own[from:r.after])
		}
		all, from = append(all, r.bytes), r.after
	}
	if len(p.Own) > from {
		all = append(all, p.Own[from:])
	}
	return all
}
