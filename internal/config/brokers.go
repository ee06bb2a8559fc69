package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
)

// defaultPort is where a broker listens when nothing else is said.
const defaultPort = "9092"

// brokerField is where a broker list goes: the addresses to dial, and what was written, without blanks, to show.
type brokerField struct {
	addresses *[]string
	text      *string
}

// String gives the list as it was written, apart from blanks.
func (f brokerField) String() string {
	if *f.text != "" {
		return *f.text
	}
	return strings.Join(*f.addresses, ",")
}

// brokers reads the list. Empty items are ignored; no item at all is an error, as is any bad one.
func (o *Info) brokers(field brokerField, text string) *fault {
	addresses, items, err := parseBrokers(text)
	if err != nil {
		addresses, items, _ = parseBrokers(o.Default)
	}
	*field.addresses = addresses
	*field.text = strings.Join(items, ",")
	if err != nil {
		return wrong("%s; %s", err, o.advice())
	}
	return nil
}

// parseBrokers gives the addresses of a list with a port on each, and its items without blanks.
func parseBrokers(text string) (addresses, items []string, err error) {
	if strings.Contains(text, "@") {
		return nil, nil, errors.New("holds an @, so perhaps a user and password, which have options of their own")
	}
	var faults []string
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		address, err := brokerAddress(item)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%q (%s)", item, err))
			continue
		}
		addresses = append(addresses, address)
		items = append(items, item)
	}
	if len(faults) > 0 {
		return nil, nil, fmt.Errorf("holds %s", strings.Join(faults, ", "))
	}
	if len(items) == 0 {
		return nil, nil, errors.New("names no broker")
	}
	return addresses, items, nil
}

// brokerAddress reads one item: [PROTOCOL://]host[:port][/path], the forms librdkafka's bootstrap.servers knows.
func brokerAddress(item string) (string, error) {
	_, rest := cutScheme(item)
	rest, _, _ = strings.Cut(rest, "/")
	// An IPv6 address without brackets can have no port.
	if strings.Count(rest, ":") > 1 && !strings.HasPrefix(rest, "[") {
		rest = "[" + rest + "]"
	}
	host, port := rest, defaultPort
	if strings.LastIndex(rest, ":") > strings.LastIndex(rest, "]") {
		var err error
		if host, port, err = net.SplitHostPort(rest); err != nil {
			return "", errors.New("no host:port")
		}
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if strings.HasPrefix(rest, "[") {
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.Is6() {
			return "", errors.New("no IPv6 address")
		}
		if zone := ip.Zone(); zone != "" && hostFault(zone) != "" { // the name of a network interface
			return "", errors.New(hostFault(zone))
		}
	} else if why := hostFault(host); why != "" {
		return "", errors.New(why)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("a port is 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}

// hostFault says why a host name cannot be one, or nothing. Underscores are wrong in DNS but common in containers.
func hostFault(host string) string {
	if host == "" {
		return "no host"
	}
	for _, r := range host {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-._", r) {
			return fmt.Sprintf("%q in a host", r)
		}
	}
	return ""
}

// cutScheme takes PROTOCOL:// off the front of an item.
func cutScheme(item string) (scheme, rest string) {
	if scheme, rest, found := strings.Cut(item, "://"); found && scheme != "" {
		return scheme, rest
	}
	return "", item
}

// withoutCredentials hides what a user:password@host would give away: not a form we take, but one people paste.
func withoutCredentials(text string) string {
	if at := strings.LastIndex(text, "@"); at >= 0 {
		return "***" + text[at:]
	}
	return text
}
