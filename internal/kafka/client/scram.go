package client

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
)

// maxRounds is the limit of hash rounds requested by a broker: Kafka's default is 4096 or 8192, and a million
// take about a second. The client library computes any number, in a goroutine without a way to stop it.
const maxRounds = 1_000_000

// boundedSCRAM is a SCRAM mechanism that refuses more than maxRounds before any computation.
type boundedSCRAM struct{ sasl.Mechanism }

// Authenticate implements sasl.Mechanism.
func (m boundedSCRAM) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	session, first, err := m.Mechanism.Authenticate(ctx, host)
	if err != nil {
		return nil, nil, err
	}
	return &boundedSession{Session: session}, first, nil
}

type boundedSession struct {
	sasl.Session
	challenged bool
}

// Challenge implements sasl.Session.
func (s *boundedSession) Challenge(message []byte) (done bool, answer []byte, err error) {
	if !s.challenged {
		s.challenged = true
		if text := rounds(message); !allowed(text) {
			return false, nil, WithSentence(tooManyRounds, tooManyRounds, text)
		}
	}
	if done, answer, err = s.Session.Challenge(message); err != nil {
		err = WithSentence(err, scramFailed, brief(err.Error()))
	}
	return done, answer, err
}

// rounds returns the text of the iteration count in a server's first message, RFC 5802: attributes separated
// by commas. The client library takes the third attribute.
func rounds(message []byte) string {
	for _, attribute := range bytes.Split(message, []byte(",")) {
		if text, ok := strings.CutPrefix(string(attribute), "i="); ok {
			return text
		}
	}
	return ""
}

// allowed reports whether a number of rounds may be computed. The client library refuses an invalid number
// itself.
func allowed(text string) bool {
	n, err := strconv.Atoi(text)
	return err != nil || n <= maxRounds
}
