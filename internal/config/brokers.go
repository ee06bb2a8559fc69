package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// defaultPort is where a broker listens when nothing else is said.
const defaultPort = "9092"

// brokerField is the destination of a broker list: the addresses to dial, and the written text without
// blanks, for display.
type brokerField struct {
	addresses *[]string
	text      *string
}

// String returns the list as written, without blanks.
func (f brokerField) String() string {
	if *f.text != "" {
		return *f.text
	}
	return strings.Join(*f.addresses, ",")
}

// brokers reads the list. Empty items are ignored. A bad item beside a good item is a warning.
func (o *Info) brokers(field brokerField, text string) *fault {
	list := parseBrokers(text)
	*field.addresses = list.addresses
	*field.text = strings.Join(list.items, ",")
	why := list.fault(text)
	if len(list.items) == 0 {
		standard := parseBrokers(o.Default)
		*field.addresses, *field.text = standard.addresses, strings.Join(standard.items, ",")
		return wrong("%s; %s", why, o.advice())
	}
	if why != "" {
		return odd("%s; %s used, %s", why, oneOrMore(len(list.items), "the other broker is", "the other brokers are"), o.advice())
	}
	if len(list.remarks) > 0 {
		return odd("holds %s; give %s", strings.Join(list.remarks, ", "), o.asked())
	}
	return nil
}

func oneOrMore(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// brokerList is a parsed list of brokers.
type brokerList struct {
	addresses []string // with a port on each
	items     []string // without blanks
	faults    []string // unusable items, with the reasons
	remarks   []string // usable items in bad form
}

// parseBrokers reads a list.
func parseBrokers(text string) brokerList {
	var l brokerList
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		address, remark, err := brokerAddress(item)
		if err != nil {
			l.faults = append(l.faults, fmt.Sprintf("%q (%s)", item, err))
			continue
		}
		if remark != "" {
			l.remarks = append(l.remarks, fmt.Sprintf("%q (%s)", item, remark))
		}
		l.addresses = append(l.addresses, address)
		l.items = append(l.items, item)
	}
	return l
}

// fault describes the fault of the list, or returns "". It quotes no item of a list that may contain a
// password.
func (l *brokerList) fault(text string) string {
	switch {
	case strings.Contains(text, "@"):
		return "holds an @, so perhaps a user and password, which have options of their own"
	case len(l.faults) > 0:
		return "holds " + strings.Join(append(l.faults, l.remarks...), ", ")
	case len(l.items) == 0:
		return "names no broker"
	}
	return ""
}

// brokerAddress reads an item: [PROTOCOL://]host[:port][/path], the forms of librdkafka's bootstrap.servers.
// A remark describes a bad form that still has a meaning, to librdkafka and here.
func brokerAddress(item string) (address, remark string, err error) {
	_, rest := cutScheme(item)
	rest, _, _ = strings.Cut(rest, "/")
	// An IPv6 address without brackets can have no port.
	if strings.Count(rest, ":") > 1 && !strings.HasPrefix(rest, "[") {
		rest = "[" + rest + "]"
	}
	host, port := rest, defaultPort
	if strings.LastIndex(rest, ":") > strings.LastIndex(rest, "]") {
		if host, port, err = net.SplitHostPort(rest); err != nil {
			return "", "", errors.New("no host:port")
		}
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if host == "" && port != "" && !strings.HasPrefix(rest, "[") && rest != "" {
		host, remark = "localhost", "no host, localhost is used"
	}
	if strings.HasPrefix(rest, "[") {
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.Is6() {
			return "", "", errors.New("no IPv6 address")
		}
		if zone := ip.Zone(); zone != "" && hostFault(zone) != "" { // the name of a network interface
			return "", "", errors.New(hostFault(zone))
		}
	} else if why := hostFault(host); why != "" {
		return "", "", errors.New(why)
	}
	digits := leadingNumber.FindStringSubmatch(port)
	if digits == nil {
		return "", "", errors.New("a port is 1 to 65535")
	}
	if digits[1] != port {
		remark = "port " + digits[1] + " is used"
	}
	if n, err := strconv.ParseUint(digits[1], 10, 16); err != nil || n == 0 {
		return "", "", errors.New("a port is 1 to 65535")
	}
	return net.JoinHostPort(host, digits[1]), remark, nil
}

// leadingNumber is the part of a port read by C's atoi.
var leadingNumber = regexp.MustCompile(`^ *\+?0*([0-9]+)`)

// hostFault returns why a text is no host name, or "". Underscores are wrong in DNS but common in containers.
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

// withoutCredentials hides the credentials in user:password@host: an unsupported form that people paste.
func withoutCredentials(text string) string {
	if at := strings.LastIndex(text, "@"); at >= 0 {
		return "***" + text[at:]
	}
	return text
}
