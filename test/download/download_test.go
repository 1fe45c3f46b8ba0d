package download

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const root = "../.." // the folder of the library's module

// released is the version that the tests publish.
const released = "v0.0.1"

// A file name that one system forbids, two names that differ only in case, or a file that is too
// large makes a module impossible to download, on every system.
func TestModules_have_archives(t *testing.T) {
	found := 0
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "node_modules":
			return filepath.SkipDir
		case entry.Name() != "go.mod":
			return nil
		}
		found++
		if err := zip.CreateFromDir(io.Discard, versionOf(t, file), filepath.Dir(file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 2 {
		t.Errorf("found %d modules, want the library's and this one at least", found)
	}
}

// A program that needs the module gets it from a proxy. The tests of the library pass in the module
// cache, where the nested modules are missing: "go test all" in the program runs them.
func TestModule_in_a_program(t *testing.T) {
	proxy, dir := t.TempDir(), t.TempDir()
	version := versionOf(t, filepath.Join(root, "go.mod"))
	publish(t, proxy, version)
	write(t, filepath.Join(dir, "main.go"), program(t))
	run := func(arg ...string) string { return goCommand(t, dir, proxy, arg...) }

	run("mod", "init", "example.com/program")
	run("get", version.String())
	run("vet", "./...")
	if list := run("list", "-m", "all"); strings.TrimSpace(list) != "example.com/program\n"+version.Path+" "+version.Version {
		t.Errorf("got the modules %s, want only the program and the library", list)
	}
	run("build", version.Path+"/...") // with the pages that the examples embed
	run("test", version.Path, version.Path+"/internal/...", version.Path+"/websockettest")
	run("mod", "vendor")
	run("vet", "./...")
}

func versionOf(t *testing.T, file string) module.Version {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return module.Version{Path: modfile.ModulePath(data), Version: released}
}

// publish puts the library's module into a folder that the go command uses as a proxy.
func publish(t *testing.T, proxy string, version module.Version) {
	t.Helper()
	dir := filepath.Join(proxy, filepath.FromSlash(version.Path), "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := json.Marshal(map[string]any{"Version": version.Version, "Time": time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "list"), []byte(version.Version+"\n"))
	write(t, filepath.Join(dir, version.Version+".mod"), mod)
	write(t, filepath.Join(dir, version.Version+".info"), info)
	archive, err := os.Create(filepath.Join(dir, version.Version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if err := zip.CreateFromDir(archive, version, root); err != nil {
		t.Fatal(err)
	}
}

// program returns the first program in the README.
func program(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), "\n```go\n")
	source, _, found := strings.Cut(after, "\n```")
	if !found {
		t.Fatal("README.md has no program")
	}
	return []byte(source)
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// goCommand runs the go command in dir, with an empty module cache and no other source of modules
// than the proxy. It returns what the command prints.
func goCommand(t *testing.T, dir, proxy string, arg ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", arg...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY=file://"+filepath.ToSlash(proxy), "GOSUMDB=off", "GOTOOLCHAIN=local",
		"GOMODCACHE="+filepath.Join(proxy, "cache"), "GOFLAGS=-modcacherw", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(arg, " "), err, out)
	}
	return string(out)
}
