package spool

import "reskafka/internal/record"

// Versions 1 and 2 of the format have other fields: bytes behind their length plus one, 0 = null, and strings
// behind their length, all unsigned varints. This program reads these versions only.

func (p *parser) bytes2() []byte {
	n := p.uvarint()
	if n == 0 {
		return nil
	}
	return p.take(n - 1)
}

// fields2 is fields for versions 1 and 2.
func (p *parser) fields2(r *record.Record) error {
	r.Key = p.bytes2()
	r.Value = p.bytes2()
	count := p.uvarint()
	if count > uint64(len(p.rest))/2 { // a header has two bytes at least
		return errBody
	}
	for range count {
		r.Headers = append(r.Headers, record.Header{Name: p.string(), Value: p.bytes2()})
	}
	if p.bad || len(p.rest) > 0 {
		return errBody
	}
	return nil
}
