package main

import (
	"net"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
)

// validTopic reports whether Kafka accepts a topic of this name.
func validTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > config.TopicLengthMax {
		return false
	}
	for i := range len(name) {
		if !config.TopicByte(name[i]) {
			return false
		}
	}
	return true
}

// refuseNames makes the cluster refuse the topic names refused by Kafka; kfake accepts any name.
func refuseNames(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.Metadata), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return refuseMetadata(cluster, request.(*kmsg.MetadataRequest))
	})
	cluster.ControlKey(int16(kmsg.CreateTopics), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return refuseCreation(request.(*kmsg.CreateTopicsRequest))
	})
}

// refuseMetadata answers a request without a valid topic, and removes invalid names from any other request.
func refuseMetadata(cluster *kfake.Cluster, request *kmsg.MetadataRequest) (kmsg.Response, error, bool) {
	var valid, invalid []kmsg.MetadataRequestTopic
	for _, t := range request.Topics {
		if t.Topic != nil && !validTopic(*t.Topic) {
			invalid = append(invalid, t)
		} else {
			valid = append(valid, t)
		}
	}
	if len(invalid) == 0 {
		return nil, nil, false
	}
	if len(valid) > 0 {
		request.Topics = valid
		return nil, nil, false
	}
	response := request.ResponseKind().(*kmsg.MetadataResponse)
	for id, address := range cluster.ListenAddrs() {
		host, port, _ := net.SplitHostPort(address)
		number, _ := strconv.Atoi(port)
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = int32(id), host, int32(number)
		response.Brokers = append(response.Brokers, b)
	}
	for _, t := range invalid {
		rt := kmsg.NewMetadataResponseTopic()
		rt.Topic, rt.ErrorCode = t.Topic, kerr.InvalidTopicException.Code
		response.Topics = append(response.Topics, rt)
	}
	return response, nil, true
}

// refuseCreation refuses all topics of a request with an invalid name.
func refuseCreation(request *kmsg.CreateTopicsRequest) (kmsg.Response, error, bool) {
	response, refuse := request.ResponseKind().(*kmsg.CreateTopicsResponse), false
	for _, t := range request.Topics {
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic, rt.ErrorCode = t.Topic, kerr.InvalidRequest.Code
		if !validTopic(t.Topic) {
			rt.ErrorCode, refuse = kerr.InvalidTopicException.Code, true
		}
		rt.ErrorMessage = kmsg.StringPtr("a topic's name has 1 to 249 letters, digits, dots, underscores or hyphens")
		response.Topics = append(response.Topics, rt)
	}
	return response, nil, refuse
}
