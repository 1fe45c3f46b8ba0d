package docs

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A program is Go code that users copy: a file of an example, or a block of a page.
type program struct {
	name string // the file, and the line of the block
	text string
}

// programs returns the code of the examples, and the Go blocks of the pages.
func programs(t *testing.T) []program {
	t.Helper()
	var all []program
	for _, pattern := range []string{"examples/*/*.go", "test/autobahn/*.go", "example*_test.go"} {
		for _, file := range glob(t, pattern) {
			all = append(all, program{file, readPage(t, file)})
		}
	}
	return append(all, blocks(t)...)
}

// blocks returns the Go blocks of all pages.
func blocks(t *testing.T) []program {
	t.Helper()
	var all []program
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*/*.md"} {
		for _, file := range glob(t, pattern) {
			before, rest, found := strings.Cut(readPage(t, file), "```go\n")
			line := 1
			for found {
				line += strings.Count(before, "\n") + 1
				var code string
				code, rest, _ = strings.Cut(rest, "```")
				all = append(all, program{fmt.Sprintf("%s:%d", file, line), code})
				line += strings.Count(code, "\n")
				before, rest, found = strings.Cut(rest, "```go\n")
			}
		}
	}
	return all
}

// glob returns the paths that match pattern, from the root of the module.
func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s matches %d files (error %v), want some", pattern, len(paths), err)
	}
	for i, path := range paths {
		paths[i], _ = filepath.Rel(root, path)
	}
	return paths
}

// parseCode parses a file, or a block with declarations or statements alone.
func parseCode(text string) (file *ast.File, err error) {
	for _, frame := range []string{"%s", "package p\n%s", "package p\nfunc _() {\n%s\n}"} {
		file, err = parser.ParseFile(token.NewFileSet(), "", fmt.Sprintf(frame, text), 0)
		if err == nil {
			return file, nil
		}
	}
	return nil, err
}

// No program has an HTTP server that waits without end for a header or for the next
// request.
func TestPrograms_have_timeouts(t *testing.T) {
	servers := 0
	for _, p := range programs(t) {
		file, err := parseCode(p.text)
		if err != nil {
			t.Errorf("%s is not Go code: %v", p.name, err)
			continue
		}
		n, problems := checkServers(file)
		servers += n
		for _, problem := range problems {
			t.Errorf("%s: %s", p.name, problem)
		}
	}
	if servers < 7 {
		t.Errorf("there are %d servers in the programs, want at least those of README.md, docs/deployment.md and the examples", servers)
	}
}

// The programs are safe to copy, also where WebSockets come over HTTP/2.
func TestPrograms_are_ready_for_HTTP2(t *testing.T) {
	for _, p := range programs(t) {
		for _, problem := range checkHTTP2(p.text) {
			t.Errorf("%s: %s", p.name, problem)
		}
	}
}

var readsBody = regexp.MustCompile(`\.(FormValue|PostFormValue|FormFile|ParseMultipartForm|MultipartReader)\(`)

// checkHTTP2 returns what would be a fault of the code over HTTP/2.
func checkHTTP2(code string) (problems []string) {
	for _, name := range readsBody.FindAllString(code, -1) {
		problems = append(problems, name+") may read the body, which is the stream of the WebSocket: use URL.Query")
	}
	before := ""
	for line := range strings.Lines(code) {
		if strings.Contains(line, `.Set("Connection", "close")`) && !strings.Contains(before, ".ProtoMajor == 1 {") {
			problems = append(problems, "Connection: close ends all streams: set it only if r.ProtoMajor == 1")
		}
		before = line
	}
	return problems
}

func TestCheckHTTP2(t *testing.T) {
	for _, tt := range []struct {
		name, code string
		problems   int
	}{
		{"parameters of the URL", `r.URL.Query().Get("user")`, 0},
		{"a form", `c.Request().FormValue("user")`, 1},
		{"close over HTTP/1", "if r.ProtoMajor == 1 {\nw.Header().Set(\"Connection\", \"close\")\n}", 0},
		{"close", `w.Header().Set("Connection", "close")`, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := checkHTTP2(tt.code); len(got) != tt.problems {
				t.Errorf("got the problems %q, want %d", got, tt.problems)
			}
		})
	}
}

// checkServers returns the number of servers in the code, and what is wrong with them.
func checkServers(file *ast.File) (servers int, problems []string) {
	configured := make(map[ast.Node]bool) // the types of composite literals, and those behind a star
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StarExpr:
			configured[n.X] = true
		case *ast.CompositeLit:
			if isHTTP(n.Type, "Server") {
				servers++
				configured[n.Type] = true
				problems = append(problems, missingTimeouts(n)...)
			}
		case *ast.SelectorExpr:
			switch {
			case isHTTP(n, "Server") && !configured[n]:
				problems = append(problems, "an http.Server without a literal has no ReadHeaderTimeout")
			case isHTTP(n, "ListenAndServe", "ListenAndServeTLS", "Serve", "ServeTLS"):
				problems = append(problems, "http."+n.Sel.Name+" has no ReadHeaderTimeout: use an http.Server")
			}
		}
		return true
	})
	return servers, problems
}

// isHTTP reports whether n is one of these names of package http.
func isHTTP(n ast.Node, names ...string) bool {
	selector, ok := n.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := selector.X.(*ast.Ident)
	return ok && pkg.Name == "http" && slices.Contains(names, selector.Sel.Name)
}

func missingTimeouts(server *ast.CompositeLit) (problems []string) {
	set := make(map[string]bool)
	for _, element := range server.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); ok {
				set[key.Name] = true
			}
		}
	}
	if !set["ReadHeaderTimeout"] {
		problems = append(problems, "an http.Server has no ReadHeaderTimeout")
	}
	if !set["ReadTimeout"] && !set["IdleTimeout"] {
		problems = append(problems, "an http.Server has neither ReadTimeout nor IdleTimeout")
	}
	return problems
}

func TestCheckServers(t *testing.T) {
	tests := []struct {
		name, code string
		problems   int
	}{
		{"both timeouts", `s := &http.Server{ReadHeaderTimeout: 1, ReadTimeout: 1}`, 0},
		{"IdleTimeout", `s := http.Server{ReadHeaderTimeout: 1, IdleTimeout: 1}`, 0},
		{"a parameter", `func f(s *http.Server) {}`, 0},
		{"no timeouts", `s := &http.Server{Addr: ":80"}`, 2},
		{"no ReadHeaderTimeout", `s := &http.Server{ReadTimeout: 1}`, 1},
		{"no end between requests", `s := &http.Server{ReadHeaderTimeout: 1}`, 1},
		{"a variable", `var s http.Server`, 1},
		{"new", `s := new(http.Server)`, 1},
		{"ListenAndServe", `http.ListenAndServe(":80", nil)`, 1},
		{"ListenAndServeTLS", `log.Fatal(http.ListenAndServeTLS(":443", "", "", nil))`, 1},
		{"Serve", `go http.Serve(l, nil)`, 1},
		{"as a value", `run := http.Serve`, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file, err := parseCode(tt.code)
			if err != nil {
				t.Fatal(err)
			}
			if _, problems := checkServers(file); len(problems) != tt.problems {
				t.Errorf("got the problems %q, want %d", problems, tt.problems)
			}
		})
	}
}

// Each complete program of the pages compiles. An overlay adds the programs to the
// module, so that they use the library as it is now.
func TestPrograms_compile(t *testing.T) {
	dir := t.TempDir()
	module, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	var names, packages []string
	files := make(map[string]string) // by their place in the module
	for i, p := range blocks(t) {
		if !strings.HasPrefix(p.text, "package main\n") {
			continue
		}
		name := fmt.Sprintf("program%d", i)
		path := filepath.Join(dir, name+".go")
		if err := os.WriteFile(path, []byte(p.text), 0o666); err != nil {
			t.Fatal(err)
		}
		files[filepath.Join(module, "docs", name, "main.go")] = path
		names = append(names, name+" is "+p.name)
		packages = append(packages, "./docs/"+name)
	}
	if len(packages) < 3 {
		t.Fatalf("the pages have the programs %q, want those of README.md and docs/deployment.md", names)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": files})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o666); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", append([]string{"build", "-overlay", list}, packages...)...)
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("go build: %v\n%s\n%s", err, out, strings.Join(names, "\n"))
	}
}
