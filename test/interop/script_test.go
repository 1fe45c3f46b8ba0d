package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// temporary is a folder for the whole test process.
var temporary string

func TestMain(m *testing.M) {
	var err error
	if temporary, err = os.MkdirTemp("", "interop"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(temporary)
	os.Exit(code)
}

// python is Debian's Python, because install.sh installs the clients as packages of Debian.
const python = "/usr/bin/python3"

var scripts = []client{
	script("ws", []string{"node", "clients/ws.mjs"},
		`console.log(require("ws/package.json").version, "on Node", process.version)`),
	script("undici", []string{"node", "clients/undici.mjs"},
		`console.log(require("undici/package.json").version, "on Node", process.version)`,
		"send-fragments"),
	nodeBuiltin(),
	script("websockets", []string{python, "clients/websockets_client.py"},
		`import sys, websockets.version as v; print(v.version, "on Python", sys.version.split()[0])`),
	script("websocket-client", []string{python, "clients/websocket_client.py"},
		`import sys, websocket as w; print(w.__version__, "on Python", sys.version.split()[0])`),
	script("aiohttp", []string{python, "clients/aiohttp_client.py"},
		`import sys, aiohttp as a; print(a.__version__, "on Python", sys.version.split()[0])`,
		"send-fragments"),
	okHTTP(),
}

// nodeBuiltin returns the WebSocket of Node itself. It uses no proxies, because it is an
// older undici.
func nodeBuiltin() client {
	c := script("node", []string{"node", "--experimental-websocket", "clients/node.mjs"},
		`console.log("undici", process.versions.undici, "in Node", process.version)`,
		"send-fragments", "client-ping")
	c.direct = true
	return c
}

// jars holds the classes of OkHttp, as Debian installs them.
const jars = "/usr/share/java/okhttp.jar:/usr/share/java/okio.jar"

// compileOkHTTP compiles the client for OkHttp and returns the folder with its classes.
// TestMain removes the folder.
var compileOkHTTP = sync.OnceValues(func() (string, error) {
	for jar := range strings.SplitSeq(jars, ":") {
		if _, err := os.Stat(jar); err != nil {
			return "", err
		}
	}
	dir := filepath.Join(temporary, "okhttp")
	_, err := output("javac", "-encoding", "UTF-8", "-cp", jars, "-d", dir, "clients/OkHttp.java")
	return dir, err
})

// okHTTP returns the client for OkHttp.
func okHTTP() client {
	// Without these options, the Java machine optimizes for a program that runs for long.
	options := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"}
	return client{
		name:        "okhttp",
		unsupported: []string{"send-fragments", "client-ping"},
		version: sync.OnceValues(func() (string, error) {
			dir, err := compileOkHTTP()
			if err != nil {
				return "", err
			}
			return output("java", append(options[:len(options):len(options)], dir+":"+jars, "OkHttp")...)
		}),
		run: func(ctx context.Context, p path, run string, cases []string) map[string]error {
			dir, err := compileOkHTTP()
			if err != nil {
				return map[string]error{"": err}
			}
			args := append(options[:len(options):len(options)], dir+":"+jars, "OkHttp", p.websocket+"/"+run+"/")
			return runScript(ctx, p, "java", append(args, cases...))
		},
	}
}

// script returns a client that is a script in another language. version is a program in
// that language that prints the client's version.
func script(name string, command []string, version string, unsupported ...string) client {
	return client{
		name:        name,
		unsupported: unsupported,
		version: sync.OnceValues(func() (string, error) {
			flag := map[string]string{"node": "-e", python: "-c"}[command[0]]
			return output(command[0], flag, version)
		}),
		run: func(ctx context.Context, p path, run string, cases []string) map[string]error {
			args := append(command[1:len(command):len(command)], p.websocket+"/"+run+"/")
			return runScript(ctx, p, command[0], append(args, cases...))
		},
	}
}

// runScript runs a script. The script prints a line for each case. If it prints another
// line, the error at "" has its whole output.
func runScript(ctx context.Context, p path, name string, args []string) map[string]error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	killWithParent(cmd)
	cmd.Env = append(os.Environ(),
		"PYTHONDONTWRITEBYTECODE=1",
		"SSL_CERT_FILE="+p.certificate,
		"WEBSOCKET_CLIENT_CA_BUNDLE="+p.certificate,
		"NODE_EXTRA_CA_CERTS="+p.certificate)
	out, err := cmd.CombinedOutput()
	results := map[string]error{}
	for line := range strings.Lines(string(out)) {
		verdict, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, problem, _ := strings.Cut(rest, ": ")
		switch verdict {
		case "ok":
			results[name] = nil
		case "failed":
			results[name] = errors.New(problem)
		default:
			results[""] = fmt.Errorf("%w; %s", err, out)
		}
	}
	if err != nil && results[""] == nil {
		results[""] = err
	}
	return results
}

// output runs a command that prints a version and returns its output.
func output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), caseTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
