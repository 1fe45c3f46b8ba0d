package docs

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// upward holds the references that do not run down: a file, and the one further up.
var upward = []string{
	"core.go names Group of group.go",
	"inbox.go names messages of messages.go",
	"inbox.go names socketClosed of messages.go",
}

// The files of the root package have the order of the table in docs/architecture.md: code uses
// only names of its own row and of rows further down.
func TestCode_refers_down(t *testing.T) {
	rows := fileRows(t)
	var found []string
	for _, ref := range references(t) {
		from, known := rows[ref.from]
		to, alsoKnown := rows[ref.to]
		switch {
		case !known:
			t.Fatalf("the table of docs/architecture.md does not name %s", ref.from)
		case !alsoKnown:
			t.Fatalf("the table of docs/architecture.md does not name %s", ref.to)
		case from > to:
			found = append(found, fmt.Sprintf("%s names %s of %s", ref.from, ref.name, ref.to))
		}
	}
	slices.Sort(found)
	for _, up := range slices.Compact(found) {
		if !slices.Contains(upward, up) {
			t.Errorf("%s, which is further up", up)
		}
	}
	for _, up := range upward {
		if !slices.Contains(found, up) {
			t.Errorf("the exception %q is not needed any more", up)
		}
	}
}

var fileName = regexp.MustCompile(`[a-z0-9_]+\.go`)

// fileRows returns the row of each file in the table of docs/architecture.md.
func fileRows(t *testing.T) map[string]int {
	t.Helper()
	_, table, ok := strings.Cut(readPage(t, "docs/architecture.md"), "| files | content |\n")
	if !ok {
		t.Fatal("docs/architecture.md has no table of the files")
	}
	rows := map[string]int{}
	for i, line := range strings.Split(table, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 2 {
			break
		}
		for _, name := range fileName.FindAllString(cells[1], -1) {
			rows[name] = i
		}
	}
	return rows
}

// A reference is the use of a name in another file than that which declares it.
type reference struct{ from, name, to string }

// references returns those of the root package. Names of other packages are not resolved.
func references(t *testing.T) []reference {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	pkg, _ := config.Check("websocket", set, files, info)
	var refs []reference
	for id, used := range info.Uses {
		if used.Pkg() != pkg || !used.Pos().IsValid() || !isOfPackage(used) {
			continue
		}
		from, to := set.Position(id.Pos()).Filename, set.Position(used.Pos()).Filename
		if from != to {
			refs = append(refs, reference{filepath.Base(from), used.Name(), filepath.Base(to)})
		}
	}
	if len(refs) < 1000 {
		t.Fatalf("got %d references, which is too few: the types were not resolved", len(refs))
	}
	return refs
}

// isOfPackage reports whether a name is declared by the package, or is a method or a field.
func isOfPackage(o types.Object) bool {
	switch o := o.(type) {
	case *types.Func:
		return true
	case *types.Var:
		return o.IsField() || o.Parent() == o.Pkg().Scope()
	}
	return o.Parent() == o.Pkg().Scope()
}

// noImports imports nothing.
type noImports struct{}

func (noImports) Import(path string) (*types.Package, error) {
	return nil, errors.New("not imported: " + path)
}
