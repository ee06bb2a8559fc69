// Package diagram compares the steps of random histories with a state diagram of a page. The diagram is the
// only list of the allowed steps: a history fails for a step outside, and for an edge of the diagram without
// a step.
package diagram

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// Edge is a step from one state to another. Both are names of the diagram; the start and the end are "[*]".
type Edge struct{ From, To string }

func (e Edge) String() string { return e.From + " --> " + e.To }

// Counts counts the steps of histories. Methods are safe for concurrent use.
type Counts struct {
	mtx     sync.Mutex
	edges   []Edge // of the diagram, in its order
	counts  map[Edge]int
	outside map[Edge]string // the first place of each step outside the diagram
}

var edgeLine = regexp.MustCompile(`^\s+(\S+) --> (\w+|\[\*\])(:.*)?$`)

// Read reads the state diagram under a heading of a page: the first block of mermaid there.
func Read(page, heading string) (*Counts, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		return nil, fmt.Errorf("%s has no line %q", page, heading)
	}
	_, block, found := strings.Cut(section, "```mermaid\nstateDiagram-v2\n")
	if block, _, _ = strings.Cut(block, "```"); !found {
		return nil, fmt.Errorf("%s has no state diagram under %q", page, heading)
	}
	c := &Counts{counts: map[Edge]int{}, outside: map[Edge]string{}}
	known := map[Edge]bool{}
	for line := range strings.SplitSeq(block, "\n") {
		if m := edgeLine.FindStringSubmatch(line); m != nil {
			if e := (Edge{m[1], m[2]}); !known[e] {
				known[e] = true
				c.edges = append(c.edges, e)
			}
		}
	}
	if len(c.edges) == 0 {
		return nil, fmt.Errorf("%s: the diagram under %q has no edges", page, heading)
	}
	return c, nil
}

// Step counts a step. where describes the first step outside the diagram.
func (c *Counts) Step(from, to string, where func() string) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	e := Edge{from, to}
	if c.counts[e]++; c.counts[e] > 1 {
		return
	}
	for _, known := range c.edges {
		if known == e {
			return
		}
	}
	c.outside[e] = where()
}

// Check prints the count of each edge. It fails the test for edges without a step, and for steps outside the
// diagram.
func (c *Counts) Check(t *testing.T) {
	t.Helper()
	c.mtx.Lock()
	defer c.mtx.Unlock()
	for _, e := range c.edges {
		t.Logf("%9d %v", c.counts[e], e)
		if c.counts[e] == 0 {
			t.Errorf("no history has the step %v of the diagram", e)
		}
	}
	for e, where := range c.outside {
		t.Errorf("%d times %v, which the diagram does not have; first: %s", c.counts[e], e, where)
	}
}
