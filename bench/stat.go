package main

import (
	"fmt"
	"math"
	"slices"
)

// values are a round's results by name, without unmeasured ones.
type values map[string]float64

// median is the middle of some numbers, the mean of the two in the middle of an even count; NaN of none.
func median(numbers []float64) float64 {
	if len(numbers) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(numbers))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// comparison is the kind of a goal's comparison.
type comparison int

const (
	noGoal           comparison = iota // only shown
	ratioAtMost                        // measured / other
	ratioAtLeast                       // measured / other
	absoluteAtMost                     // measured
	differenceAtMost                   // measured - other
)

// goal is the goal of a metric. Limits of absoluteAtMost and differenceAtMost are in the metric's unit.
type goal struct {
	how   comparison
	limit float64
}

func (g goal) String() string {
	switch g.how {
	case ratioAtMost:
		return fmt.Sprintf("ratio ≤ %g", g.limit)
	case ratioAtLeast:
		return fmt.Sprintf("ratio ≥ %g", g.limit)
	case absoluteAtMost:
		return fmt.Sprintf("≤ %g", g.limit)
	case differenceAtMost:
		return fmt.Sprintf("difference ≤ %g", g.limit)
	default:
		return ""
	}
}

// verdict is whether a goal is met.
type verdict string

const (
	met     verdict = "met"
	missed  verdict = "**missed**"
	unknown verdict = "?" // a necessary value was not measured
	shown   verdict = ""  // there is no goal
)

// judge compares two medians, either of which may be NaN, with a goal.
func (g goal) judge(measured, other float64) verdict {
	var found float64
	switch g.how {
	case ratioAtMost, ratioAtLeast:
		found = ratio(measured, other)
	case absoluteAtMost:
		found = measured
	case differenceAtMost:
		found = measured - other
	default:
		return shown
	}
	switch {
	case math.IsNaN(found):
		return unknown
	case g.how == ratioAtLeast && found >= g.limit, g.how != ratioAtLeast && found <= g.limit:
		return met
	default:
		return missed
	}
}

// ratio is NaN where there is nothing to divide by.
func ratio(measured, other float64) float64 {
	if other == 0 {
		return math.NaN()
	}
	return measured / other
}

// growth returns the growth of a cost beyond linear over the points of a series. For numbers of things, it is
// the largest ratio of a message's cost to the cost at the first point. For sizes, it is the largest ratio
// between two points divided by the ratio of the sizes. Costs are in the order of the points; NaN if one is
// missing.
func growth(points []int, costs []float64, bySize bool) float64 {
	worst := math.NaN()
	for i := 1; i < len(points); i++ {
		found := ratio(costs[i], costs[0])
		if bySize {
			found = ratio(costs[i], costs[i-1]) / (float64(points[i]) / float64(points[i-1]))
		}
		if math.IsNaN(found) {
			return found
		}
		if !(worst >= found) {
			worst = found
		}
	}
	return worst
}
