package client

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets the fields of a response to random values, with arrays of up to three elements.
func fill(random *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if random.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(random, v.Elem())
		}
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			for range random.IntN(3) {
				tags.Set(uint32(100+random.IntN(1000)), make([]byte, random.IntN(200)))
			}
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				fill(random, v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(nil) // record batches have their own test
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), random.IntN(4), 4))
		for i := range v.Len() {
			fill(random, v.Index(i))
		}
	case reflect.String:
		v.SetString(strings.Repeat("x", random.IntN(200)))
	case reflect.Bool:
		v.SetBool(random.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(random.IntN(100)))
	}
}

// walk feeds a response in pieces of up to size bytes.
func walk(c *responseCheck, body []byte, size int) error {
	for piece := range slices.Chunk(body, size) {
		if err := c.feed(piece); err != nil {
			return err
		}
	}
	return nil
}

// versions calls visit for every version of every response with a layout.
func versions(visit func(key kmsg.Key, version int16)) {
	for key := range responseLayouts {
		for version := range kmsg.RequestForKey(int16(key)).MaxVersion() + 1 {
			visit(key, version)
		}
	}
}

// TestResponseLayouts_EveryVersion_MatchesLibrary checks that the layouts equal the client library's: a
// response written by the library is followed to its last byte, in pieces of any size, and shorter responses
// are refused.
func TestResponseLayouts_EveryVersion_MatchesLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	versions(func(key kmsg.Key, version int16) {
		for range 20 {
			response := kmsg.ResponseForKey(int16(key))
			response.SetVersion(version)
			fill(random, reflect.ValueOf(response).Elem())
			if metadata, ok := response.(*kmsg.MetadataResponse); ok {
				for i := range metadata.Topics {
					metadata.Topics[i].Topic = kmsg.StringPtr("topic")
				}
			}
			body := response.AppendTo(nil)
			l, headerTags := layoutOf(key, version)
			if headerTags {
				body = append([]byte{0}, body...)
			}
			for _, size := range []int{1, 3, len(body)} {
				c := &responseCheck{}
				c.start(len(body), l, headerTags)
				if err := walk(c, slices.Clone(body), size); err != nil || len(c.stack) > 0 || c.unchecked {
					t.Fatalf("%s v%d in pieces of %d: %v, %d levels left, unchecked: %v", key.Name(), version, size, err, len(c.stack), c.unchecked)
				}
			}
			cut := 1 + random.IntN(len(body)-1)
			c := &responseCheck{}
			c.start(cut, l, headerTags)
			if err := walk(c, slices.Clone(body[:cut]), 7); err == nil {
				t.Fatalf("%s v%d: %d of %d bytes are accepted", key.Name(), version, cut, len(body))
			}
		}
	})
}

// TestResponseCheck_Bombs_AreRefused checks that counts beyond the remaining bytes, or beyond the memory
// limit, are refused before the decoding.
func TestResponseCheck_Bombs_AreRefused(t *testing.T) {
	long := func(n int, front ...byte) []byte { return append(front, make([]byte, n)...) }
	for _, bomb := range []struct {
		name    string
		key     kmsg.Key
		version int16
		body    []byte
		want    string
	}{
		{"topics of Metadata", kmsg.Metadata, 1, long(100, 0x7f, 0xff, 0xff, 0xff), "array of 2147483647 elements in 100 bytes"},
		{"as many as bytes", kmsg.ApiVersions, 0, long(60000, 0, 0, 0, 0, 0xea, 0x60), "array of 60000 elements"},
		{"compact", kmsg.ApiVersions, 3, long(20, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f), "array of 4294967294 elements"},
		{"tags", kmsg.Heartbeat, 4, long(20, 0xff, 0xff, 0xff, 0xff, 0x0f), "4294967295 tagged fields in 20 bytes"},
		{"tags behind the body", kmsg.Heartbeat, 4, long(20, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f), "4294967295 tagged fields"},
		{"a number without an end", kmsg.ApiVersions, 3, long(0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "without an end"},
		{"a long string", kmsg.SyncGroup, 5, long(4, 0, 0, 0, 0, 0, 0, 0, 200, 1), "claims 199 bytes in 4"},
		{"a long tag", kmsg.Heartbeat, 4, long(5, 0, 0, 0, 0, 0, 0, 0, 1, 9, 100), "tagged field of 100 bytes in 5"},
		{"an offset", kmsg.ListOffsets, 1, offsetAnswer(math.MaxInt64), "offset 9223372036854775807"},
		{"a topic without a name", kmsg.Metadata, 9, long(0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0),
			"leaves out the name of a topic"},
		{"memory", kmsg.Metadata, 9, metadataBomb(), "more than 64 MiB of memory"},
	} {
		l, headerTags := layoutOf(bomb.key, bomb.version)
		c := &responseCheck{}
		c.start(len(bomb.body), l, headerTags)
		err := c.feed(bomb.body)
		if strconv.IntSize == 32 && err != nil && strings.Contains(err.Error(), "claims 4294967295") {
			continue // refused before the number's purpose is known
		}
		if err == nil || !strings.Contains(err.Error(), bomb.want) {
			t.Errorf("%s: %v, want %q", bomb.name, err, bomb.want)
		}
	}
}

func offsetAnswer(offset int64) []byte {
	response := kmsg.NewPtrListOffsetsResponse()
	response.Version = 1
	topic, partition := kmsg.NewListOffsetsResponseTopic(), kmsg.NewListOffsetsResponseTopicPartition()
	partition.Offset = offset
	topic.Partitions = append(topic.Partitions, partition)
	response.Topics = append(response.Topics, topic)
	return response.AppendTo(nil)
}

// metadataBomb has as many partitions as fit into 16 MiB.
func metadataBomb() []byte {
	body := []byte{0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2, 0, 0, 2, 'x', 0}
	n := uint32(maxResponse-64) / 19
	body = binary.AppendUvarint(body, uint64(n+1))
	return append(body, make([]byte, n*19)...)
}

// TestResponseCheck_Throttle_IsTakenOut checks that a throttle time is cleared in place, at any split of the
// bytes.
func TestResponseCheck_Throttle_IsTakenOut(t *testing.T) {
	for _, millis := range []int32{0, 1, 255, 256, 59999, 60000, 60001, 65535, 65536, 1 << 24, math.MaxInt32, -1, math.MinInt32} {
		response := kmsg.NewPtrHeartbeatResponse()
		response.Version, response.ThrottleMillis = 4, millis
		body := append([]byte{0}, response.AppendTo(nil)...)
		for size := range len(body) {
			c, got := &responseCheck{}, slices.Clone(body)
			l, headerTags := layoutOf(kmsg.Heartbeat, 4)
			c.start(len(got), l, headerTags)
			if err := walk(c, got, size+1); err != nil {
				t.Fatal(err)
			}
			back := kmsg.NewPtrHeartbeatResponse()
			back.Version = 4
			if err := back.ReadFrom(got[1:]); err != nil || back.ThrottleMillis != 0 {
				t.Errorf("%d ms in pieces of %d became %d, %v", millis, size+1, back.ThrottleMillis, err)
			}
			if c.throttle != max(0, time.Duration(millis)*time.Millisecond) {
				t.Errorf("%d ms are reported as %v", millis, c.throttle)
			}
		}
	}
}

// TestResponseCheck_PreferredReplica_IsTakenOut checks that no response redirects a consumer to another
// replica.
func TestResponseCheck_PreferredReplica_IsTakenOut(t *testing.T) {
	response := kmsg.NewPtrFetchResponse()
	response.Version = 12
	topic, partition := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
	partition.PreferredReadReplica = 7
	topic.Partitions = append(topic.Partitions, partition)
	response.Topics = append(response.Topics, topic)
	body := append([]byte{0}, response.AppendTo(nil)...)
	for size := range len(body) {
		c, got := &responseCheck{}, slices.Clone(body)
		l, headerTags := layoutOf(kmsg.Fetch, 12)
		c.start(len(got), l, headerTags)
		if err := walk(c, got, size+1); err != nil {
			t.Fatal(err)
		}
		back := kmsg.NewPtrFetchResponse()
		back.Version = 12
		if err := back.ReadFrom(got[1:]); err != nil || back.Topics[0].Partitions[0].PreferredReadReplica != -1 {
			t.Errorf("in pieces of %d: %+v, %v", size+1, back.Topics, err)
		}
	}
}

// batchOf returns a record batch with these claims.
func batchOf(offset int64, delta, records int32, compressed bool, body int) []byte {
	b := kmsg.RecordBatch{FirstOffset: offset, Length: int32(body + 49), Magic: 2, LastOffsetDelta: delta, NumRecords: records,
		Records: make([]byte, body)}
	if compressed {
		b.Attributes = 4
	}
	return b.AppendTo(nil)
}

// TestResponseCheck_ImpossibleBatch_IsMadeUnreadable checks that a batch with an impossible header gets a
// wrong checksum, that other batches of the response stay unchanged, and that the reason has the partition
// and the offset.
func TestResponseCheck_ImpossibleBatch_IsMadeUnreadable(t *testing.T) {
	for _, one := range []struct {
		name  string
		batch []byte
		want  string // empty = passed on
	}{
		{"good", batchOf(5, 9, 10, false, 700), ""},
		{"good and compressed", batchOf(5, 9999, 10000, true, 70), ""},
		{"compacted", batchOf(5, 9, 0, false, 0), ""},
		{"last offset", batchOf(math.MaxInt64, 0, 1, false, 70), "an offset that no log has"},
		{"last offset by delta", batchOf(MaxOffset-5, 100, 1, false, 70), "an offset that no log has"},
		{"negative offset", batchOf(-5, 0, 1, false, 70), "an offset that no log has"},
		{"negative delta", batchOf(5, -1, 1, false, 70), "an offset that no log has"},
		{"records", batchOf(5, 9, math.MaxInt32, false, 70), "claims 2147483647 records in 70 bytes"},
		{"records in few bytes", batchOf(5, 9, 11, false, 70), "claims 11 records in 70 bytes"},
		{"compressed records", batchOf(5, 9, math.MaxInt32, true, 70), "message_max_bytes"},
		{"negative records", batchOf(5, 9, -1, true, 70), "claims -1 records"},
		{"old format", append(binary.BigEndian.AppendUint64(nil, math.MaxInt64), 0, 0, 0, 20, 1, 2, 3, 4, 1, 0), "no log reaches"},
	} {
		good := batchOf(1, 3, 4, false, 100)
		var batches []byte
		for _, b := range [][]byte{good, one.batch, good} {
			batches = append(batches, b...)
		}
		if one.name == "old format" {
			batches = one.batch
		}
		for _, size := range []int{1, 60, 61, 62, 4096} {
			response := kmsg.NewPtrFetchResponse()
			response.Version = 11
			topic, partition := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
			partition.Partition, partition.RecordBatches = 7, batches
			topic.Partitions = append(topic.Partitions, partition)
			response.Topics = append(response.Topics, topic)
			body := response.AppendTo(nil)
			got := slices.Clone(body)
			c := &responseCheck{}
			c.batch.maxRecords = 571428
			l, headerTags := layoutOf(kmsg.Fetch, 11)
			c.start(len(body), l, headerTags)
			if err := walk(c, got, size); err != nil {
				t.Fatalf("%s: %v", one.name, err)
			}
			changed := 0
			for i := range body {
				if got[i] != body[i] {
					changed++
				}
			}
			switch {
			case one.want == "" && (len(c.batch.refused) > 0 || !bytes.Equal(got, body)):
				t.Errorf("%s: refused: %v", one.name, c.batch.refused)
			case one.want == "":
			case len(c.batch.refused) != 1 || changed != 1:
				t.Errorf("%s in pieces of %d: %d bytes are changed, refused: %v", one.name, size, changed, c.batch.refused)
			case !strings.Contains(c.batch.refused[0].Error(), one.want) || !strings.Contains(c.batch.refused[0].Error(), "of partition 7"):
				t.Errorf("%s: %v, want %q", one.name, c.batch.refused[0], one.want)
			}
		}
	}
}

// FuzzResponseCheck checks that no bytes make the check panic, and that the check accepts every response that
// the client library can decode within the limits.
func FuzzResponseCheck(f *testing.F) {
	versions(func(key kmsg.Key, version int16) {
		response := kmsg.ResponseForKey(int16(key))
		response.SetVersion(version)
		fill(rand.New(rand.NewPCG(3, uint64(key))), reflect.ValueOf(response).Elem())
		f.Add(int16(key), version, response.AppendTo(nil), 5)
	})
	f.Fuzz(func(t *testing.T, key, version int16, body []byte, size int) {
		if _, ok := responseLayouts[kmsg.Key(key)]; !ok || version < 0 || version > kmsg.RequestForKey(key).MaxVersion() || len(body) == 0 {
			return
		}
		l, _ := layoutOf(kmsg.Key(key), version)
		c := &responseCheck{}
		c.start(len(body), l, false)
		// The check may correct its input, so it goes first.
		if err := walk(c, body, 1+max(size, 0)%64); err == nil {
			response := kmsg.ResponseForKey(key)
			response.SetVersion(version)
			if err := response.ReadFrom(body); err != nil && strings.Contains(err.Error(), "panic") {
				t.Fatal(err)
			}
		}
	})
}
