package outbox

import "math/bits"

// marks stores positions with an outcome behind a position without. Positions are small, dense integers, so a
// bit each is enough.
type marks struct {
	base  uint64 // position of bit 0 of words[0], a multiple of 64
	words []uint64
	count uint64 // number of set bits
}

// set marks a position, which must not be below the last result of advance.
func (m *marks) set(position uint64) {
	if m.count == 0 {
		m.base, m.words = position&^63, m.words[:0]
	}
	for position < m.base { // the first marks of an empty set may come in any order
		m.base -= 64
		m.words = append(m.words, 0)
		copy(m.words[1:], m.words)
		m.words[0] = 0
	}
	word := int((position - m.base) / 64)
	for word >= len(m.words) {
		m.words = append(m.words, 0)
	}
	bit := uint64(1) << (position % 64)
	if m.words[word]&bit == 0 {
		m.words[word] |= bit
		m.count++
	}
}

// advance removes the unbroken run of marks from from on, and returns the first position behind.
func (m *marks) advance(from uint64) uint64 {
	for m.count > 0 && from >= m.base {
		word := int((from - m.base) / 64)
		if word >= len(m.words) {
			break
		}
		run := bits.TrailingZeros64(^(m.words[word] >> (from % 64)))
		run = min(run, 64-int(from%64))
		if run == 0 {
			break
		}
		mask := ^uint64(0)
		if run < 64 {
			mask = 1<<run - 1
		}
		m.words[word] &^= mask << (from % 64)
		m.count -= uint64(run)
		from += uint64(run)
	}
	if m.count == 0 {
		m.words = m.words[:0]
	} else if passed := int((from - m.base) / 64); from > m.base && passed >= 64 {
		m.words = m.words[:copy(m.words, m.words[passed:])]
		m.base += 64 * uint64(passed)
	}
	return from
}
