package main

import (
	"fmt"
	"math"
	"strings"
)

// This file draws the plot itself. gonum.org/v1/plot (0.17, BSD-3) draws similar plots, and adds itself and
// eight modules to go.mod, among them fonts, PDF and LaTeX, from new hosts for clones and checks: for four
// kinds of SVG elements.

// A panel is a series and a cost, with logarithmic axes: linear growth of the whole is a level line, and any
// other growth is visible.
const (
	panelWidth, panelHeight = 400, 260
	marginLeft, marginRight = 62, 34 // half of "900,000" is beyond the end of its axis
	marginTop, marginBottom = 34, 42
	legendHeight            = 30
)

// Styles of the variants. The reference is dashed, for readers without colours.
var (
	colours = map[variant]string{ours: "#0060b0", reference: "#c04000"}
	strokes = map[variant]string{
		ours:      `stroke="` + colours[ours] + `"`,
		reference: `stroke="` + colours[reference] + `" stroke-dasharray="6 4"`,
	}
)

// curve has the points of a variant; NaN = missing.
type curve struct {
	of variant
	y  []float64
}

// panel is a part of the plot.
type panel struct {
	title  string
	x      []int
	curves []curve
}

// plot renders the rows with a series as SVG, a line of panels for each. Without any the result is empty.
func plot(results []*result) string {
	var body strings.Builder
	drawn := 0
	for _, r := range results {
		if r.row.series == nil || r.err != nil {
			continue
		}
		for column, p := range r.panels() {
			fmt.Fprintf(&body, `<g transform="translate(%d %d)">`+"\n", column*panelWidth, legendHeight+drawn*panelHeight)
			p.draw(&body)
			body.WriteString("</g>\n")
		}
		drawn++
	}
	width, height := len(costs)*panelWidth, legendHeight+drawn*panelHeight
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="11">`+"\n", width, height)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for i, v := range []variant{ours, reference} {
		x := marginLeft + i*140
		fmt.Fprintf(&svg, `<path d="M%d 18h30" fill="none" stroke-width="2" %s/><text x="%d" y="22">%s</text>`+"\n", x, strokes[v], x+36, v)
	}
	svg.WriteString(body.String() + "</svg>\n")
	return svg.String()
}

// panels returns a panel for each cost of a row's series.
func (r *result) panels() []panel {
	var all []panel
	s := r.row.series
	for _, cost := range costs {
		p := panel{title: fmt.Sprintf("%s, %s, by %s", cost.label, cost.unit, s.of), x: s.points}
		for _, v := range r.row.variants {
			c := curve{of: v}
			for _, point := range s.points {
				c.y = append(c.y, r.median(v, s.pointKey(cost.key, point)))
			}
			p.curves = append(p.curves, c)
		}
		all = append(all, p)
	}
	return all
}

// axis maps values to places, by logarithm.
type axis struct{ low, high, from, to float64 }

func (a axis) at(value float64) float64 {
	return a.from + (math.Log(value)-math.Log(a.low))/(math.Log(a.high)-math.Log(a.low))*(a.to-a.from)
}

// ticks returns the powers of ten on an axis, with their multiples by 2 and 5 on a short axis.
func (a axis) ticks() []float64 {
	steps := []float64{1, 2, 5}
	if a.high/a.low > 1000 {
		steps = steps[:1]
	}
	var found []float64
	for power := math.Pow(10, math.Floor(math.Log10(a.low))); power <= a.high; power *= 10 {
		for _, step := range steps {
			if value := power * step; value >= a.low && value <= a.high {
				found = append(found, value)
			}
		}
	}
	return found
}

// span returns the axis of all curves, with a margin; a decade at least, so noise does not look like growth.
func (p panel) span() axis {
	low, high := math.Inf(1), math.Inf(-1)
	for _, c := range p.curves {
		for _, y := range c.y {
			if y > 0 {
				low, high = min(low, y), max(high, y)
			}
		}
	}
	if low > high {
		low, high = 1, 1
	}
	if widen := 10 / (high / low); widen > 1 {
		low, high = low/math.Sqrt(widen), high*math.Sqrt(widen)
	}
	return axis{low / 1.2, high * 1.2, panelHeight - marginBottom, marginTop}
}

// tickLabel returns a tick's value in the form of the other axis.
func tickLabel(tick float64) string {
	if tick >= 1000 {
		return thousands(int(math.Round(tick)))
	}
	return fmt.Sprintf("%g", math.Round(tick*1e6)/1e6)
}

func (p panel) draw(out *strings.Builder) {
	x := axis{float64(p.x[0]), float64(p.x[len(p.x)-1]), marginLeft, panelWidth - marginRight}
	y := p.span()
	fmt.Fprintf(out, `<text x="%d" y="%d" font-size="12" font-weight="bold">%s</text>`+"\n", marginLeft, marginTop-10, p.title)
	for _, tick := range y.ticks() {
		fmt.Fprintf(out, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			marginLeft, y.at(tick), panelWidth-marginRight, marginLeft-6, y.at(tick)+4, tickLabel(tick))
	}
	for _, point := range p.x {
		fmt.Fprintf(out, `<path d="M%.1f %dV%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x.at(float64(point)), marginTop, panelHeight-marginBottom, x.at(float64(point)), panelHeight-marginBottom+16, thousands(point))
	}
	for _, c := range p.curves {
		var path strings.Builder
		for i, value := range c.y {
			if !(value > 0) {
				continue
			}
			command := "L"
			if path.Len() == 0 {
				command = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", command, x.at(float64(p.x[i])), y.at(value))
			fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`+"\n", x.at(float64(p.x[i])), y.at(value), colours[c.of])
		}
		fmt.Fprintf(out, `<path d="%s" fill="none" stroke-width="2" %s/>`+"\n", &path, strokes[c.of])
	}
}
