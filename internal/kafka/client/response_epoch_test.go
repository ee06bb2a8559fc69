package client

import (
	"math"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestResponseCheck_EpochAnswers checks the rewritten answers about epochs, at any split into reads.
func TestResponseCheck_EpochAnswers(t *testing.T) {
	encode := func(code int16, end int64) []byte {
		response := kmsg.NewPtrOffsetForLeaderEpochResponse()
		response.Version = 4
		topic, p := kmsg.NewOffsetForLeaderEpochResponseTopic(), kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		topic.Topic = "t"
		p.ErrorCode, p.EndOffset = code, end
		topic.Partitions = append(topic.Partitions, p)
		response.Topics = append(response.Topics, topic)
		return response.AppendTo(nil)
	}
	for _, size := range []int{1, 2, 3, 4096} {
		var c responseCheck
		l, _ := layoutOf(kmsg.OffsetForLeaderEpoch, 4)
		pass := func(code int16, end int64) (int16, int64) {
			body := encode(code, end)
			c.start(len(body), l, false)
			c.epochs.begin()
			for at := 0; at < len(body); at += size {
				if err := c.feed(body[at:min(at+size, len(body))]); err != nil {
					t.Fatal(err)
				}
			}
			got := kmsg.NewPtrOffsetForLeaderEpochResponse()
			got.Version = 4
			if err := got.ReadFrom(body); err != nil {
				t.Fatal(err)
			}
			p := got.Topics[0].Partitions[0]
			return p.ErrorCode, p.EndOffset
		}
		for _, end := range []int64{0, 1, 255, 1 << 40} {
			if code, got := pass(0, end); code != 0 || got != end {
				t.Errorf("end %d became %d, code %d", end, got, code)
			}
		}
		for _, end := range []int64{-1, -2, math.MinInt64} {
			if code, got := pass(0, end); code != 0 || got != 1<<62-1 {
				t.Errorf("end %d became %d, code %d", end, got, code)
			}
		}
		for i := range 10 {
			want := kerr.UnknownLeaderEpoch.Code
			if i >= maxEpochRefusals {
				want = 0
			}
			if code, _ := pass(kerr.UnknownLeaderEpoch.Code, -1); code != want {
				t.Errorf("refusal %d has code %d, want %d", i, code, want)
			}
		}
		if code, _ := pass(0, 5); code != 0 {
			t.Error("a good answer was changed")
		}
		if code, _ := pass(kerr.FencedLeaderEpoch.Code, -1); code != kerr.FencedLeaderEpoch.Code {
			t.Errorf("a refusal after a good answer has code %d", code)
		}
		if code, _ := pass(kerr.NotLeaderForPartition.Code, -1); code != kerr.NotLeaderForPartition.Code {
			t.Errorf("another refusal has code %d", code)
		}
	}
}
