package options

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/consume"
	"reskafka/test/wire"
	"reskafka/test/world"
)

var consumerRows = []Row{
	{
		Option: "group_id", Value: "billing",
		Effect: "the member joins this group; without a group, requests for a consumer fail", Where: "on the wire", Apache: true,
		Logged: `"requestApiKeyName":"JOIN_GROUP".*"groupId":"billing"`,
		holds: func(w *World) error {
			join, err := w.join()
			if err == nil && join.Group != "billing" {
				return unseenf("group %s", join.Group)
			}
			return err
		},
	},
	{
		Option: "auto_offset_reset", Value: "earliest", With: []string{"group_id = $group"},
		Effect: "a record older than the group is delivered first", Where: "behaviour", Apache: true,
		Logged: `"clientId":"tested".*"requestApiKeyName":"LIST_OFFSETS".*"timestamp":-2`,
		holds: func(w *World) error {
			s, err := w.delivered("before")
			if err != nil {
				return err
			}
			messages := make(chan string, 10)
			if _, err := w.subscribe("tested", func(m consume.Message) { messages <- string(m.Value) }); err != nil {
				return err
			}
			// The first request for offsets fixes a consumer's beginning; later records arrive in both cases.
			if _, err := w.request("tested", kmsg.Fetch); err != nil {
				return err
			}
			s.Put("after")
			first, err := world.Await(w.World, messages)
			if err == nil && first != "before" {
				return unseenf("%q is delivered first", first)
			}
			return err
		},
	},
	{
		Option: "auto_offset_reset", Value: "none", With: []string{"group_id = $group"},
		Effect: "a group without a committed offset is logged, and nothing is consumed", Where: "behaviour", Apache: true,
		holds: func(w *World) error {
			if err := w.configure(); err != nil {
				return err
			}
			if _, err := w.subscribe("tested", func(consume.Message) {}); err != nil {
				return err
			}
			const line = "has no committed offset and auto_offset_reset = none"
			fetches := func(r wire.Request) bool { return r.Client == "tested" && kmsg.Key(r.Key()) == kmsg.Fetch }
			if err := w.Until("it is told of or consumed", func() bool {
				return len(w.Log.With(line)) > 0 || len(w.Wire.Seen(fetches)) > 0
			}); err != nil {
				return err
			}
			if len(w.Log.With(line)) == 0 {
				return unseenf("the partition is fetched")
			}
			return nil
		},
	},
	{
		Option: "enable_auto_commit", Value: "no", With: []string{"group_id = $group", "auto_offset_reset = earliest"},
		Effect: "delivered offsets are not committed at the end of the subscription", Where: "on the wire", Apache: true,
		Beyond: "test/scenario TestManualCommit",
		holds: func(w *World) error {
			if _, err := w.delivered("one"); err != nil {
				return err
			}
			messages := make(chan string, 10)
			sub, err := w.subscribe("tested", func(m consume.Message) { messages <- string(m.Value) })
			if err != nil {
				return err
			}
			if _, err := world.Await(w.World, messages); err != nil {
				return err
			}
			sub.End()
			if _, err := w.request("tested", kmsg.LeaveGroup); err != nil {
				return err
			}
			commits := w.Wire.Seen(func(r wire.Request) bool { return r.Client == "tested" && kmsg.Key(r.Key()) == kmsg.OffsetCommit })
			if len(commits) > 0 {
				return unseenf("%d commits", len(commits))
			}
			return nil
		},
	},
	{
		Option: "auto_commit_interval_ms", Value: "200", With: []string{"group_id = $group", "auto_offset_reset = earliest"},
		Effect: "delivered offsets are committed earlier than with 3000", Where: "on the wire",
		holds: func(w *World) error {
			if err := w.configure(section("other", "group_id = $group-2", "auto_offset_reset = earliest", "auto_commit_interval_ms = 3000")); err != nil {
				return err
			}
			s, err := w.open("tested")
			if err != nil {
				return err
			}
			s.Put("one")
			for _, name := range []string{"other", "tested"} {
				if _, err := w.subscribe(name, func(consume.Message) {}); err != nil {
					return err
				}
			}
			first, err := w.Wire.Await(w.Ctx, func(r wire.Request) bool { return kmsg.Key(r.Key()) == kmsg.OffsetCommit })
			if err == nil && first.Client != "tested" {
				return unseenf("%s commits first", first.Client)
			}
			return err
		},
	},
	{
		Option: "session_timeout_ms", Value: "7000", With: []string{"group_id = $group"},
		Effect: "the session timeout in JoinGroup", Where: "on the wire", Apache: true,
		Logged: `"requestApiKeyName":"JOIN_GROUP".*"sessionTimeoutMs":7000`,
		holds: func(w *World) error {
			join, err := w.join()
			if err == nil && join.SessionTimeoutMillis != 7000 {
				return unseenf("%d ms", join.SessionTimeoutMillis)
			}
			return err
		},
	},
	{
		Option: "max_poll_interval_ms", Value: "1500", With: []string{"group_id = $group", "session_timeout_ms = 1500", "auto_offset_reset = earliest"},
		Effect: "the rebalance timeout in JoinGroup; a longer callback makes the member leave the group", Where: "on the wire",
		Apache: true, Logged: `"requestApiKeyName":"JOIN_GROUP".*"rebalanceTimeoutMs":1500`,
		Beyond: "internal/kafka/consume watch_test.go",
		holds: func(w *World) error {
			if _, err := w.delivered("one"); err != nil {
				return err
			}
			done := make(chan struct{})
			sub, err := w.subscribe("tested", func(consume.Message) { <-done })
			if err != nil {
				return err
			}
			defer sub.End()
			defer close(done)
			r, err := w.request("tested", kmsg.JoinGroup)
			if err != nil {
				return err
			}
			if ms := r.Request.(*kmsg.JoinGroupRequest).RebalanceTimeoutMillis; ms != 1500 {
				return unseenf("%d ms", ms)
			}
			_, err = w.request("tested", kmsg.LeaveGroup)
			return err
		},
	},
}

// join subscribes and returns the member's request to join its group.
func (w *World) join() (*kmsg.JoinGroupRequest, error) {
	if err := w.configure(); err != nil {
		return nil, err
	}
	if _, err := w.subscribe("tested", func(consume.Message) {}); err != nil {
		return nil, err
	}
	r, err := w.request("tested", kmsg.JoinGroup)
	if err != nil {
		return nil, fmt.Errorf("joining: %w", err)
	}
	return r.Request.(*kmsg.JoinGroupRequest), nil
}
