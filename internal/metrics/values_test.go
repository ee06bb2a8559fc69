package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestCounts_Collect_KeepsReasonsApart checks that a reason with a count of zero is deleted, and a count
// without a reason stays at zero.
func TestCounts_Collect_KeepsReasonsApart(t *testing.T) {
	var c Counts
	c.Add(RecordsAccepted, 3)
	c.Add(RecordsAccepted, -3)
	c.AddFor(DeadLetters, "too old", 2)
	c.AddFor(DeadLetters, "refused", 5)
	c.AddFor(DeadLetters, "too old", -2)
	c.AddFor(RecordsDropped, "purged", 0)
	if n := c.Of(DeadLetters); n != 5 {
		t.Errorf("%d dead letters, want 5", n)
	}
	v := Of("one").In(Topic, "t")
	c.Collect(v)
	if got := fmt.Sprint(v.By(Reason, DeadLetters)); got != "map[refused:5]" {
		t.Errorf("dead letters: %s", got)
	}
	if n, ok := v.Get(RecordsAccepted); n != 0 || !ok {
		t.Errorf("accepted: %d, %t", n, ok)
	}
	if v.At(Reason, "purged") != nil || v.At(Reason, "too old") != nil {
		t.Error("a reason is there that counts nothing")
	}
}

// TestValues_Sums_CoverWhatIsBelow checks that a sum covers the branches below and no others, with and
// without an index.
func TestValues_Sums_CoverWhatIsBelow(t *testing.T) {
	v := Of("one")
	v.Add(RecordsAccepted, 1)
	const topics = 3 * indexFrom
	for i := range topics {
		at := v.In(Topic, "t"+strconv.Itoa(i))
		at.Add(RecordsAccepted, 10)
		at.In(Reason, "purged").Add(RecordsDropped, 2)
	}
	v.In(Reason, "not encodable").Add(RecordsDropped, 7)
	if n := v.Sum(RecordsAccepted, RecordsDropped); n != 1+12*topics+7 {
		t.Errorf("the sum is %d", n)
	}
	if got, want := v.By(Reason, RecordsDropped), (map[string]uint64{"purged": 2 * topics, "not encodable": 7}); !maps.Equal(got, want) {
		t.Errorf("by reason: %v, want %v", got, want)
	}
	if at := v.At(Topic, "t40"); at.Sum(RecordsAccepted) != 10 || v.In(Topic, "t40") != at {
		t.Error("a branch is not found again")
	}
	var order []string
	for topic := range v.Each(Topic) {
		order = append(order, topic)
	}
	if len(order) != topics || !slices.Equal(order[:2], []string{"t0", "t1"}) {
		t.Errorf("%d topics, the first are %v", len(order), order[:2])
	}
}

// TestValues_Nil_IsEmpty checks that reads need no values: a command may ask before the first collection.
func TestValues_Nil_IsEmpty(t *testing.T) {
	var v *Values
	if v.At(Topic, "t").Sum(RecordsAccepted) != 0 || len(v.By(Reason, RecordsDropped)) != 0 || !v.Time(LastError).IsZero() {
		t.Error("something is there")
	}
	for range v.Each(Topic) {
		t.Error("a topic is there")
	}
}

// TestValues_Unknown_IsAbsent checks that an unknown offset or time is not shown as zero.
func TestValues_Unknown_IsAbsent(t *testing.T) {
	v := Of("one").In(Subscription, "1")
	v.AddTime(LastRebalance, time.Time{})
	v.In(Topic, "t").In(Partition, "0").AddKnown(Position, -1)
	if _, ok := v.At(Topic, "t").At(Partition, "0").Get(Position); ok || !v.Time(LastRebalance).IsZero() {
		t.Error("something is known")
	}
	moment := time.Unix(1795333900, 250)
	v.AddTime(LastRebalance, moment)
	if got := v.Time(LastRebalance); !got.Equal(moment) {
		t.Errorf("%v, want %v", got, moment)
	}
}

// TestValues_WrongLabel_Panics checks that the first test finds a value with a label missing from its row.
func TestValues_WrongLabel_Panics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("the label was taken")
		}
	}()
	Of("one").In(Topic, "t").Add(SpoolBytes, 1)
}
