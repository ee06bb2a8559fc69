package brokers

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/test/wire"
)

func init() { rows = append(rows, hostileRows...) }

// hostileRows are brokers that lie and networks that damage what passes.
var hostileRows = []Row{
	{
		Name: "an honest broker", Records: 100, Consume: true,
		Shown: []string{"connected"},
	},
	{
		Name: "a request over the limit ends the connection", Finding: "A1",
		Broker: []wire.Fault{wire.SizeLimit(2000, wire.FIN)},
		Conf:   []string{"message_timeout_ms = 1000", "durability = memory"},
		Steps: func(b *Bench) error {
			p, err := b.Open("tested")
			if err != nil {
				return err
			}
			p.Put(string(make([]byte, 4000)))
			n, err := p.Settled()
			if err == nil && n != 0 {
				err = fmt.Errorf("acknowledged %d records through the limit", n)
			}
			return err
		},
		Log: []string{"it closed the connection", "dropped, message timeout"},
	},
	{
		Name: "an answer to ApiVersions with a length that does not fit", Finding: "C2",
		Broker: []wire.Fault{wire.Key(kmsg.ApiVersions, wire.Times(2, wire.Fault{
			Answer: func(_ *wire.Conn, _ wire.Header, answer []byte) []byte {
				answer[0] = 0x7f
				return answer
			},
		}))},
		Records: 10, Consume: true,
		Log: []string{"cannot be reached", "is back after"},
	},
}
