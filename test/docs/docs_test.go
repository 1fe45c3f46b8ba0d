package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// All code and tests that the tables of requirements name must exist.
func TestRequirementsMatrix(t *testing.T) {
	src := parseSources(t)
	for page, prefix := range map[string]string{"docs/rfc6455.md": "TestConformance_", "docs/rfc7692.md": "TestDeflate_", "docs/rfc8441.md": "TestHTTP2_"} {
		t.Run(page, func(t *testing.T) { checkRequirements(t, src, page, prefix) })
	}
}

// checkRequirements checks the tables of a page, which must name all tests whose names begin with
// prefix.
func checkRequirements(t *testing.T, src sources, page, prefix string) {
	text := readPage(t, page)
	rows := 0
	for i, line := range strings.Split(text, "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || cells[0] == "section" || strings.HasPrefix(cells[0], "-") {
			continue
		}
		rows++
		if len(cells) != 4 {
			t.Errorf("line %d has %d cells, want section, requirement, where, shown by", i+1, len(cells))
			continue
		}
		for _, problem := range src.check(cells[2], cells[3]) {
			t.Errorf("line %d, section %s: %s", i+1, cells[0], problem)
		}
	}
	if rows == 0 {
		t.Errorf("%s has no requirements", page)
	}
	wantNamed(t, src, prefix, page, text)
}

// All tests that the security page names must exist.
func TestSecurityPage(t *testing.T) {
	text := readPage(t, "SECURITY.md")
	src := parseSources(t)
	named := 0
	for _, span := range codeSpans(text) {
		if !strings.HasPrefix(span, "Test") && !strings.HasPrefix(span, "Fuzz") && !strings.HasPrefix(span, "Example") {
			continue
		}
		named++
		for _, problem := range src.check("", "`"+span+"`") {
			t.Error(problem)
		}
	}
	if named == 0 {
		t.Error("SECURITY.md names no tests")
	}
	wantNamed(t, src, "TestHostile_", "SECURITY.md", text)
}

// wantNamed checks that the page names every test whose name begins with prefix.
func wantNamed(t *testing.T, src sources, prefix, page, text string) {
	t.Helper()
	tests := 0
	for test := range src.tests {
		if !strings.HasPrefix(test, prefix) {
			continue
		}
		tests++
		if !strings.Contains(text, test) {
			t.Errorf("%s does not name %s", page, test)
		}
	}
	if tests == 0 {
		t.Errorf("there is no test whose name begins with %s", prefix)
	}
}
