package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/f44ffc3b/websocket/benchmarks/servers"
)

// plot draws a bar chart of each group of workloads into docs/plots, and returns
// the Markdown that shows them.
func (r Report) plot(docs string) (string, error) {
	dir := filepath.Join(docs, "plots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	var shown strings.Builder
	for _, t := range []table{raceTables[0], raceTables[5], memoryTables[0]} {
		rs := r.Race
		if t.title == memoryTables[0].title {
			rs = r.InMemory
		}
		for _, group := range groupsOf(rs) {
			rows := rowsOf(slices.DeleteFunc(slices.Clone(rs), func(r Result) bool { return r.Group != group || t.empty(r) }))
			if len(rows) == 0 {
				continue
			}
			name := fileName(group)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(t.chart(rows)), 0o644); err != nil {
				return "", err
			}
			fmt.Fprintf(&shown, "\n![%s: %s](plots/%s)\n", group, t.title, name)
		}
	}
	return shown.String(), nil
}

// groupsOf returns the groups of rs in their order.
func groupsOf(rs []Result) []string {
	var groups []string
	for _, r := range rs {
		if !slices.Contains(groups, r.Group) {
			groups = append(groups, r.Group)
		}
	}
	return groups
}

// fileName returns the file name of the chart of a group.
func fileName(group string) string {
	words := strings.FieldsFunc(strings.ToLower(group), func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9')
	})
	return strings.Join(words, "-") + ".svg"
}

var barColors = map[servers.Kind]string{
	servers.Own:      "#0b7a75",
	servers.Peer:     "#9aa5b1",
	servers.Baseline: "#d9c27e",
}

// chart returns a bar chart as SVG, with a block of bars for each workload. Each block
// has a separate scale. Shorter bars are better.
func (t table) chart(rows [][]Result) string {
	const width, bar, labels, longest = 720, 15, 90, 540
	var b strings.Builder
	y := 20
	text := func(x int, format string, args ...any) {
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\">%s</text>\n", x, y+11, html.EscapeString(fmt.Sprintf(format, args...)))
	}
	text(0, "%s: %s (shorter is better)", rows[0][0].Group, t.title)
	for _, row := range rows {
		y += 2 * bar
		text(labels, "%s", row[0].Workload)
		most := slices.MaxFunc(row, func(a, b Result) int { return int(1000 * (t.metric(a.Median) - t.metric(b.Median))) })
		for _, r := range row {
			y += bar
			c, _ := servers.Find(r.Contestant)
			length := int(longest * t.metric(r.Median) / max(t.metric(most.Median), 1e-9))
			text(0, "%s", r.Contestant)
			fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"%s\"/>\n", labels, y, max(1, length), bar-3, barColors[c.Kind])
			text(labels+max(1, length)+5, "%s", t.figure(r))
		}
	}
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\">\n"+
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n%s</svg>\n", width, y+2*bar, b.String())
}
