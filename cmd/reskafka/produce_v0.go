package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// claimProduceV0 has the cluster say that it takes produce requests from version 0 on, as Apache Kafka 4 says too
// (KAFKA-18659): librdkafka sends everything but zstd uncompressed to a broker that does not.
func claimProduceV0(ctx context.Context, cluster *kfake.Cluster) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DisableClientMetrics())
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	defer client.Close()
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "reskafka", "dev-broker"
	versions, err := request.RequestWith(ctx, client)
	if err != nil {
		return fmt.Errorf("asking for its versions: %w", err)
	}
	for i := range versions.ApiKeys {
		if key := &versions.ApiKeys[i]; kmsg.Key(key.ApiKey) == kmsg.Produce {
			key.MinVersion = 0
		}
	}
	cluster.ControlKey(int16(kmsg.ApiVersions), func(q kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if q.GetVersion() > q.MaxVersion() {
			return nil, nil, false
		}
		answer := *versions
		answer.Version = q.GetVersion()
		return &answer, nil, true
	})
	return nil
}
