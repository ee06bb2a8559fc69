package client_test

import (
	"testing"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/kafka/produce"
	"reskafka/test/kafkatest"
)

// open starts a producer, closed at the test's end.
func open(t *testing.T, c *config.Connection, log host.Logger, status *client.Status) *kafkatest.Sender {
	t.Helper()
	p, err := produce.NewProducer(c, log, status)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return kafkatest.Over(p)
}
