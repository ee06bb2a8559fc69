package spool

import (
	"fmt"
	"testing"

	"reskafka/internal/record"
)

// Records of 300 bytes, as call records are, appended a hundred at a time, read and settled.
func BenchmarkSpool(b *testing.B) {
	records := make([]*record.Record, 100)
	for i := range records {
		r := numbered("calls", 4*i+1)
		r.Value = make([]byte, 300)
		records[i] = r
	}
	for _, sync := range []Sync{SyncInterval, SyncNone} {
		b.Run(fmt.Sprintf("append/sync=%d", sync), func(b *testing.B) {
			s := benchSpool(b, sync)
			b.SetBytes(300)
			b.ReportAllocs()
			for n := 0; n < b.N; n += len(records) {
				first, err := s.Append("calls", records)
				if err != nil {
					b.Fatal(err)
				}
				_ = s.Settle("calls", first)
			}
		})
	}
	b.Run("append+read", func(b *testing.B) {
		s := benchSpool(b, SyncInterval)
		b.SetBytes(300)
		b.ReportAllocs()
		for n := 0; n < b.N; n += len(records) {
			first, err := s.Append("calls", records)
			if err != nil {
				b.Fatal(err)
			}
			got, _, next, err := s.Read("calls", first, len(records), 1<<20)
			if len(got) != len(records) || err != nil {
				b.Fatal(len(got), err)
			}
			_ = s.Settle("calls", next)
		}
	})
}

func benchSpool(b *testing.B, sync Sync) *Spool {
	s, err := Open(b.TempDir(), Options{Connection: connection, Limits: Limits{MaxBytes: 1 << 30, Sync: sync}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}
