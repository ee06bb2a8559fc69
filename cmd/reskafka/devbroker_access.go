package main

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// mechanisms are the login mechanisms for users of dev-broker.
var mechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}

// userList is a flag: user names with passwords.
type userList map[string]string

func (u userList) String() string { return "" }

func (u userList) Set(text string) error {
	name, password, ok := strings.Cut(text, ":")
	if !ok || name == "" || password == "" {
		return errors.New("want NAME:PASSWORD")
	}
	u[name] = password
	return nil
}

// right is a user's right on a topic.
type right struct {
	user, topic string
	operation   kmsg.ACLOperation
}

// operations are the rights by name.
var operations = map[string]kmsg.ACLOperation{
	"read": kmsg.ACLOperationRead, "write": kmsg.ACLOperationWrite, "create": kmsg.ACLOperationCreate, "describe": kmsg.ACLOperationDescribe,
	"all": kmsg.ACLOperationAll,
}

// rightList is a flag: rights of users.
type rightList []right

func (r *rightList) String() string { return "" }

func (r *rightList) Set(text string) error {
	fields := strings.Split(text, ":")
	if len(fields) != 3 || operations[fields[1]] == 0 {
		return errors.New("want NAME:RIGHT:TOPIC with read, write, create, describe or all as the right")
	}
	*r = append(*r, right{fields[0], fields[2], operations[fields[1]]})
	return nil
}

// access returns the cluster's options of users and rights. A user without explicit rights may do everything.
func (o *brokerOptions) access() []kfake.Opt {
	var options []kfake.Opt
	if len(o.users) > 0 {
		options = append(options, kfake.EnableSASL())
	}
	if len(o.rights) > 0 {
		options = append(options, kfake.EnableACLs())
	}
	for name, password := range o.users {
		acls := o.rightsOf(name)
		for _, mechanism := range mechanisms {
			if len(acls) == 0 {
				options = append(options, kfake.Superuser(mechanism, name, password))
			} else {
				options = append(options, kfake.User(mechanism, name, password, acls...))
			}
		}
	}
	return options
}

// rightsOf returns the access control list of a user: the user's rights, and with a read right the rights of
// any consumer group.
func (o *brokerOptions) rightsOf(name string) []kfake.ACL {
	var acls []kfake.ACL
	for _, r := range o.rights {
		if r.user != name {
			continue
		}
		acls = append(acls, kfake.ACL{
			Resource: kmsg.ACLResourceTypeTopic, Name: r.topic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: r.operation, Allow: true,
		})
		if r.operation == kmsg.ACLOperationRead || r.operation == kmsg.ACLOperationAll {
			acls = append(acls, kfake.ACL{
				Resource: kmsg.ACLResourceTypeGroup, Name: "*", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationRead, Allow: true,
			})
		}
	}
	return acls
}

// checkAccess refuses rights of unknown users.
func (o *brokerOptions) checkAccess() error {
	for _, r := range o.rights {
		if _, known := o.users[r.user]; !known {
			return usagef("--acl gives a right to %q, which no --user names", r.user)
		}
	}
	return nil
}

// listenOnBoth listens at an address of 127.0.0.1 and at the same port of [::1], the two meanings of
// "localhost" to clients. A machine without IPv6 has the first only.
func listenOnBoth(network, address string) (net.Listener, error) {
	first, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	port := first.Addr().(*net.TCPAddr).Port
	second, err := net.Listen("tcp6", net.JoinHostPort("::1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) && !strings.HasSuffix(address, ":0") {
		_ = first.Close()
		return nil, err
	}
	if err != nil {
		return first, nil
	}
	b := &bothListener{Listener: first, second: second, accepted: make(chan accepted), closed: make(chan struct{})}
	for _, l := range []net.Listener{first, second} {
		go b.accept(l)
	}
	return b, nil
}

// bothListener is two listeners with the address of the first.
type bothListener struct {
	net.Listener
	second   net.Listener
	accepted chan accepted
	closed   chan struct{}
	once     sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

func (b *bothListener) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		select {
		case b.accepted <- accepted{conn, err}:
		case <-b.closed:
			if conn != nil {
				_ = conn.Close()
			}
			return
		}
		if err != nil {
			return
		}
	}
}

// Accept implements net.Listener.
func (b *bothListener) Accept() (net.Conn, error) {
	select {
	case a := <-b.accepted:
		return a.conn, a.err
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (b *bothListener) Close() error {
	b.once.Do(func() { close(b.closed) })
	return errors.Join(b.Listener.Close(), b.second.Close())
}
