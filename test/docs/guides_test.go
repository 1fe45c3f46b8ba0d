package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The programs of these pages are in folders with tests that run them. A folder's pattern is
// from the root of the module.
var guides = []struct {
	page, files string
	partly      bool // the page also has code that is not in the folders
}{
	{"docs/testing.md", "test/guide/*.go", false},
	{"docs/broadcast.md", "test/guide/broadcast/*/*.go", false},
	{"docs/shutdown.md", "test/guide/shutdown/*/*.go", false},
	{"docs/authentication.md", "test/guide/authentication/*/*.go", false},
	{"docs/observability.md", "test/guide/observability/*/*.go", false},
	{"docs/migrating.md", "test/migrating/*/*/*.go", false},
	{"docs/deployment.md", "test/guide/deployment/*/*.go", true},
}

func TestGuides(t *testing.T) {
	for _, guide := range guides {
		if guide.partly {
			continue
		}
		t.Run(guide.page, func(t *testing.T) {
			var files strings.Builder
			for _, file := range glob(t, guide.files) {
				files.WriteString(readPage(t, file))
			}
			programs := strings.Split(readPage(t, guide.page), "```go\n")[1:]
			if len(programs) == 0 {
				t.Error("the page has no programs")
			}
			for _, rest := range programs {
				program, _, _ := strings.Cut(rest, "```")
				if !strings.Contains(files.String(), program) {
					t.Errorf("%s does not have this program:\n%s", guide.files, program)
				}
			}
		})
	}
}

// A main program of a guide is on its page in full, so that users can copy what the tests run.
func TestGuides_have_the_whole_programs(t *testing.T) {
	for _, guide := range guides {
		page := readPage(t, guide.page)
		for _, file := range glob(t, guide.files) {
			if filepath.Base(file) == "main.go" && !strings.Contains(page, "```go\n"+readPage(t, file)+"```") {
				t.Errorf("%s does not have the program %s", guide.page, file)
			}
		}
	}
}

// The page of the options has a row for each option, and no other rows.
func TestOptionsPage(t *testing.T) {
	var options []string
	for _, file := range glob(t, "*.go") {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !f.Name.IsExported() || f.Type.Results == nil {
				continue
			}
			if result, ok := f.Type.Results.List[0].Type.(*ast.Ident); ok && result.Name == "Option" {
				options = append(options, f.Name.Name)
			}
		}
	}
	var rows []string
	for line := range strings.Lines(readPage(t, "docs/options.md")) {
		if row, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(row, "(")
			rows = append(rows, name)
		}
	}
	slices.Sort(options)
	slices.Sort(rows)
	if len(options) == 0 || !slices.Equal(options, rows) {
		t.Errorf("docs/options.md has the options\n%q, want\n%q", rows, options)
	}
}

// Each link of a page to a file of the repository, and to a heading of a page, has a target.
func TestLinks(t *testing.T) {
	links := 0
	for _, page := range allPages(t) {
		for _, target := range linkTargets(readPage(t, page)) {
			if strings.Contains(target, "://") {
				continue
			}
			links++
			file, heading, _ := strings.Cut(target, "#")
			if file = filepath.Join(filepath.Dir(page), file); strings.HasPrefix(target, "#") {
				file = page
			}
			info, err := os.Stat(filepath.Join(root, file))
			switch {
			case strings.HasPrefix(file, ".."):
				// a page of GitHub beside the files, such as ../../issues
			case err != nil:
				t.Errorf("%s links to %s, which does not exist", page, target)
			case heading != "" && !info.IsDir() && !slices.Contains(anchors(readPage(t, file)), heading):
				t.Errorf("%s links to %s, but %s has no such heading", page, target, file)
			}
		}
	}
	if links < 100 {
		t.Errorf("the pages have %d links, want those of README.md and docs", links)
	}
}

// allPages returns the Markdown files of the repository, except those of packages that npm
// has installed.
func allPages(t *testing.T) (pages []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", ".github/*.md", "docs/*.md", "*/*/*.md", "benchmarks/*.md"} {
		matches, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range matches {
			page, err := filepath.Rel(root, match)
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, page)
		}
	}
	return pages
}

// linkTargets returns the targets of the links of a page. Code contains no links.
func linkTargets(text string) (targets []string) {
	for i, prose := range strings.Split(text, "```") {
		if i%2 == 1 {
			continue
		}
		for _, rest := range strings.Split(prose, "](")[1:] {
			target, _, _ := strings.Cut(rest, ")")
			targets = append(targets, target)
		}
	}
	return targets
}

// anchors returns the names of the headings of a page, as GitHub makes them.
func anchors(text string) (names []string) {
	for line := range strings.Lines(text) {
		heading := strings.TrimLeft(line, "#")
		if heading == line || !strings.HasPrefix(heading, " ") {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 0x7f:
				return r
			case r >= 'A' && r <= 'Z':
				return r + 'a' - 'A'
			}
			return -1
		}, strings.TrimSpace(heading))
		names = append(names, name)
	}
	return names
}
