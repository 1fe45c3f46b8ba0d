package docs

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the folder of the module.
const root = "../.."

// sources holds the names in the Go files of the root module, in every package.
type sources struct {
	declared map[string][]string        // by file, as a path from root: name, or Type.method
	tests    map[string]map[string]bool // the strings of each test: names of cases are among them
	shared   map[string]bool            // the strings of test files outside tests, such as tables of several tests
}

func parseSources(t *testing.T) sources {
	t.Helper()
	src := sources{map[string][]string{}, map[string]map[string]bool{}, map[string]bool{}}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path != root && isForeign(path) {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		return src.addFile(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// isForeign reports whether a folder does not belong to the packages of the root
// module.
func isForeign(dir string) bool {
	name := filepath.Base(dir)
	if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return !errors.Is(err, fs.ErrNotExist)
}

func (src sources) addFile(path string) error {
	parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		return err
	}
	if strings.HasSuffix(path, "_test.go") {
		src.addTests(parsed)
		return nil
	}
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	name = filepath.ToSlash(name)
	src.declared[name] = nil // also a file that declares nothing
	for _, decl := range parsed.Decls {
		src.declared[name] = append(src.declared[name], declaredNames(decl)...)
	}
	return nil
}

func (src sources) addTests(file *ast.File) {
	for _, decl := range file.Decls {
		literals := src.shared
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
			if src.tests[f.Name.Name] == nil {
				src.tests[f.Name.Name] = make(map[string]bool)
			}
			if strings.HasPrefix(f.Name.Name, "Test") {
				literals = src.tests[f.Name.Name]
			}
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					literals[s] = true
				}
			}
			return true
		})
	}
}

func declaredNames(decl ast.Decl) []string {
	var names []string
	switch d := decl.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			name = receiverType(d) + "." + name
		}
		names = append(names, name)
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, name := range s.Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// receiverType returns the name of the receiver's type, without its type
// parameters.
func receiverType(f *ast.FuncDecl) string {
	recv := f.Recv.List[0].Type
	for {
		switch t := recv.(type) {
		case *ast.StarExpr:
			recv = t.X
		case *ast.IndexExpr:
			recv = t.X
		case *ast.IndexListExpr:
			recv = t.X
		default:
			return recv.(*ast.Ident).Name
		}
	}
}

// files returns the files that name stands for: a path from the root of the module,
// or the end of a path, such as "frame.go" or "utf8/utf8.go".
func (src sources) files(name string) []string {
	var files []string
	for file := range src.declared {
		if file == name || strings.HasSuffix(file, "/"+name) {
			files = append(files, file)
		}
	}
	return files
}

// declares reports whether one of the files declares name, which may be written
// with the name of its package before it.
func (src sources) declares(files []string, name string) bool {
	for _, file := range files {
		unqualified := strings.TrimPrefix(name, filepath.Base(filepath.Dir(file))+".")
		if slices.Contains(src.declared[file], name) || slices.Contains(src.declared[file], unqualified) {
			return true
		}
	}
	return false
}

// check returns the errors of a row. "Where" names a file, and then declarations of that
// file. "Shown by" names tests, with their cases after slashes.
func (src sources) check(where, shownBy string) (problems []string) {
	file := ""
	for _, name := range codeSpans(where) {
		switch {
		case strings.HasSuffix(name, ".go"):
			file = name
			if len(src.files(file)) == 0 {
				problems = append(problems, fmt.Sprintf("there is no file %q", file))
			}
		case !src.declares(src.files(file), name):
			problems = append(problems, fmt.Sprintf("%q is not declared in %q", name, file))
		}
	}
	for _, name := range codeSpans(shownBy) {
		test, cases, _ := strings.Cut(name, "/")
		if src.tests[test] == nil {
			problems = append(problems, fmt.Sprintf("there is no test %q", test))
		}
		if cases != "" && !src.tests[test][cases] && !src.shared[cases] {
			problems = append(problems, fmt.Sprintf("%s has no case %q", test, cases))
		}
	}
	return problems
}

// codeSpans returns the texts between backquotes.
func codeSpans(cell string) []string {
	var spans []string
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			spans = append(spans, part)
		}
	}
	return spans
}
