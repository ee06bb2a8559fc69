package options

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"reskafka/test/wire"
)

var producerRows = []Row{
	{
		Option: "message_max_bytes", Value: "2000",
		Effect: "the stage's limit for a record, and no batch is larger", Where: "at the gate and on the wire", Apache: true,
		Beyond: "test/scenario TestSizeLimitIsExact, test/modules produce_limits, test/stage test_limits",
		holds: func(w *World) error {
			s, err := w.many(400, 100)
			if err != nil {
				return err
			}
			if limit := s.MaxWeight.Load(); limit != 2000 {
				return unseenf("the gate lets records of %d bytes pass", limit)
			}
			return w.eachBatch("tested", func(b kmsg.RecordBatch) error {
				if size := int(b.Length) + 12; size > 2000+128 { // as much more as kgo counts for a batch
					return unseenf("a batch of %d bytes", size)
				}
				return nil
			})
		},
	},
	codecRow("gzip", 1), codecRow("snappy", 2), codecRow("lz4", 3), codecRow("zstd", 4),
	levelRow("gzip", "1", false), levelRow("gzip", "9", true), levelRow("lz4", "12", true), levelRow("zstd", "12", true),
	{
		Option: "linger_ms", Value: "250",
		Effect: "the pump's delay for a batch of frames", Where: "at the gate",
		Beyond: "test/stage test_pump",
		holds: func(w *World) error {
			return w.gate(func(s *Stage) int64 { return s.LingerNS.Load() }, 250e6)
		},
	},
	{
		Option: "batch_num_messages", Value: "5",
		Effect: "no batch has more records", Where: "on the wire", Apache: true,
		holds: func(w *World) error {
			if _, err := w.many(1000, 10); err != nil {
				return err
			}
			return w.eachBatch("tested", func(b kmsg.RecordBatch) error {
				if b.NumRecords > 5 {
					return unseenf("a batch of %d records", b.NumRecords)
				}
				return nil
			})
		},
	},
	{
		Option: "batch_size", Value: "2000",
		Effect: "no batch has more bytes of records", Where: "on the wire", Apache: true,
		holds: func(w *World) error {
			if _, err := w.many(400, 97); err != nil { // a hundred with the key
				return err
			}
			return w.eachBatch("tested", func(b kmsg.RecordBatch) error {
				if b.NumRecords > 20 {
					return unseenf("a batch of %d records of 100 bytes", b.NumRecords)
				}
				return nil
			})
		},
	},
	{
		Option: "request_max_bytes", Value: "40000",
		Effect: "no request of more than one record is longer", Where: "on the wire", Apache: true,
		Beyond: "internal/kafka/produce TestProducer_LongQueues_RequestsStayWithinLimit",
		holds: func(w *World) error {
			if _, err := w.many(200, 1000); err != nil {
				return err
			}
			return w.eachBatch("tested", func(b kmsg.RecordBatch) error {
				if size := int(b.Length) + 12; size > 40000 {
					return unseenf("a batch of %d bytes", size)
				}
				return nil
			})
		},
	},
	{
		Option: "queue_buffering_max_messages", Value: "7",
		Effect: "the stage's limit for waiting records", Where: "at the gate",
		Beyond: "test/scenario TestFullQueue, test/modules produce_queue_full, test/stage test_limits",
		holds: func(w *World) error {
			return w.gate(func(s *Stage) int64 { return s.MaxFrames.Load() }, 7)
		},
	},
	{
		Option: "queue_buffering_max_kbytes", Value: "7",
		Effect: "the stage's limit for the bytes of waiting records", Where: "at the gate", Beyond: "test/stage test_limits",
		holds: func(w *World) error {
			return w.gate(func(s *Stage) int64 { return s.MaxCharge.Load() }, 7*1024)
		},
	},
	acksRow("0"), acksRow("1"),
	{
		Option: "retries", Value: "2",
		Effect: "a record with temporary refusals is sent three times and dropped", Where: "on the wire",
		Beyond: "internal/kafka/produce producer_test.go",
		holds: func(w *World) error {
			w.Kafka.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
				w.Kafka.KeepControl()
				return refusal(request.(*kmsg.ProduceRequest), kerr.NotEnoughReplicas.Code), nil, true
			})
			s, err := w.produce("one")
			if err != nil {
				return err
			}
			sent := func() int {
				return len(w.Wire.Seen(func(r wire.Request) bool { return kmsg.Key(r.Key()) == kmsg.Produce }))
			}
			told := func() bool { return s.HeldFrames.Load() == 0 && len(w.Log.With("dropped, retries spent")) > 0 }
			if err := w.Until("the record is dropped or sent again and again", func() bool { return told() || sent() > 3 }); err != nil {
				return err
			}
			if n := sent(); n != 3 || !told() {
				return unseenf("sent %d times: %q", n, w.Log.With("error: "))
			}
			return nil
		},
	},
	{
		Option: "enable_idempotence", Value: "yes",
		Effect: "batches have a producer id from the broker", Where: "on the wire", Apache: true,
		Logged: `"clientId":"tested".*"requestApiKeyName":"INIT_PRODUCER_ID"`,
		holds: func(w *World) error {
			if _, err := w.many(1, 10); err != nil {
				return err
			}
			return w.eachBatch("tested", func(b kmsg.RecordBatch) error {
				if b.ProducerID < 0 || b.FirstSequence < 0 {
					return unseenf("producer id %d, sequence %d", b.ProducerID, b.FirstSequence)
				}
				return nil
			})
		},
	},
}

// many produces that many records with values of that size and waits for their acknowledgement. The records
// enter the client during its first request, so batches grow to their limit.
func (w *World) many(count, size int) (*Stage, error) {
	var values []string
	for range count {
		values = append(values, strings.Repeat("v", size))
	}
	release := w.Wire.Hold(kmsg.Produce)
	defer release()
	s, err := w.produce(values...)
	if err != nil {
		return nil, err
	}
	if _, err := w.request("tested", kmsg.Produce); err != nil {
		return nil, err
	}
	release()
	n, err := s.Settled()
	if err == nil && n != count {
		err = fmt.Errorf("%d of %d records acknowledged: %q", n, count, w.Log.With("error: "))
	}
	return s, err
}

// eachBatch visits every batch sent by a connection.
func (w *World) eachBatch(client string, look func(kmsg.RecordBatch) error) error {
	some := false
	for _, r := range w.Wire.Seen(func(r wire.Request) bool { return r.Client == client && kmsg.Key(r.Key()) == kmsg.Produce }) {
		for _, topic := range r.Request.(*kmsg.ProduceRequest).Topics {
			for _, partition := range topic.Partitions {
				var b kmsg.RecordBatch
				if err := b.ReadFrom(partition.Records); err != nil {
					return fmt.Errorf("reading a batch: %w", err)
				}
				if err := look(b); err != nil {
					return err
				}
				some = true
			}
		}
	}
	if !some {
		return fmt.Errorf("no batch of %s was seen", client)
	}
	return nil
}

// gate compares a limit of the connection's gate.
func (w *World) gate(limit func(*Stage) int64, want int64) error {
	if err := w.configure(); err != nil {
		return err
	}
	s, err := w.open("tested")
	if err != nil {
		return err
	}
	if got := limit(s); got != want {
		return unseenf("the gate has %d, want %d", got, want)
	}
	return nil
}

func codecRow(name string, attribute int16) Row {
	return Row{
		Option: "compression_codec", Value: name,
		Effect: "the codec in the header of a batch", Where: "on the wire", Apache: true,
		holds: func(w *World) error {
			if _, err := w.many(1, 5000); err != nil {
				return err
			}
			return w.eachBatch("tested", func(b kmsg.RecordBatch) error {
				if codec := b.Attributes & 7; codec != attribute {
					return unseenf("codec %d, want %d", codec, attribute)
				}
				return nil
			})
		},
	}
}

// levelRow compares with the codec's default level.
func levelRow(codec, level string, smaller bool) Row {
	than := map[bool]string{true: "smaller", false: "larger"}[smaller]
	return Row{
		Option: "compression_level", Value: level, Case: codec, With: []string{"compression_codec = " + codec},
		Effect: "a batch is " + than + " than the same one with " + codec + "'s default level", Where: "on the wire",
		Beyond: "internal/kafka/produce TestCompressionLevels",
		holds: func(w *World) error {
			var text strings.Builder
			for i := range 4000 {
				fmt.Fprintf(&text, `{"uniqueid":"1700000%03d.%d","src":"+4930%06d","dst":"%x"}`, i%977, i, i*7919%1000000, int64(i*i)*2654435761)
			}
			if err := w.configure(section("other", "compression_codec = "+codec)); err != nil {
				return err
			}
			size := map[string]int32{}
			for _, name := range []string{"other", "tested"} {
				s, err := w.open(name)
				if err != nil {
					return err
				}
				s.Put(text.String())
				if _, err := s.Settled(); err != nil {
					return err
				}
				if err := w.eachBatch(name, func(b kmsg.RecordBatch) error { size[name] = b.Length; return nil }); err != nil {
					return err
				}
			}
			if size["tested"] == size["other"] || size["tested"] < size["other"] != smaller {
				return unseenf("%d bytes, %d with the default", size["tested"], size["other"])
			}
			return nil
		},
	}
}

func acksRow(value string) Row {
	return Row{
		Option: "acks", Value: value,
		Effect: "the acks field of Produce requests", Where: "on the wire", Apache: true,
		Logged: `"requestApiKeyName":"PRODUCE".*"acks":` + value + `,`,
		holds: func(w *World) error {
			if _, err := w.many(3, 10); err != nil {
				return err
			}
			for _, r := range w.Wire.Seen(func(r wire.Request) bool { return kmsg.Key(r.Key()) == kmsg.Produce }) {
				if got := fmt.Sprint(r.Request.(*kmsg.ProduceRequest).Acks); got != value {
					return unseenf("acks %s", got)
				}
			}
			return nil
		},
	}
}

// refusal answers a produce request with a code for each partition.
func refusal(request *kmsg.ProduceRequest, code int16) *kmsg.ProduceResponse {
	response := request.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range request.Topics {
		t := kmsg.NewProduceResponseTopic()
		t.Topic, t.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition, p.ErrorCode = partition.Partition, code
			t.Partitions = append(t.Partitions, p)
		}
		response.Topics = append(response.Topics, t)
	}
	return response
}
