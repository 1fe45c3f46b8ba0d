package docs

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// The program in the package comment of websockettest must be in test/guide.
func TestTestingPackageComment(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "websockettest/dial.go"), nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	var program strings.Builder
	for line := range strings.Lines(file.Doc.Text()) {
		if code, ok := strings.CutPrefix(line, "\t"); ok {
			program.WriteString(code)
		}
	}
	if program.Len() == 0 || !strings.Contains(readGuide(t), program.String()) {
		t.Errorf("test/guide does not have the program of the package comment:\n%s", program.String())
	}
}

// readGuide returns the Go files of test/guide.
func readGuide(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "test/guide/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var guide strings.Builder
	for _, file := range files {
		name, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		guide.WriteString(readPage(t, name))
	}
	return guide.String()
}
