package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// python is Debian's, which has the clients that Debian packages.
const python = "/usr/bin/python3"

var scripts = []client{
	script("ws", []string{"node", "clients/ws.mjs"},
		`console.log(require("ws/package.json").version, "on Node", process.version)`),
	script("undici", []string{"node", "clients/undici.mjs"},
		`console.log(require("undici/package.json").version, "on Node", process.version)`,
		"send-fragments"),
	script("websockets", []string{python, "clients/websockets_client.py"},
		`import sys, websockets.version as v; print(v.version, "on Python", sys.version.split()[0])`),
	script("websocket-client", []string{python, "clients/websocket_client.py"},
		`import sys, websocket as w; print(w.__version__, "on Python", sys.version.split()[0])`),
	script("aiohttp", []string{python, "clients/aiohttp_client.py"},
		`import sys, aiohttp as a; print(a.__version__, "on Python", sys.version.split()[0])`,
		"send-fragments"),
}

// script is a client of another language, and the program in it that prints its
// version.
func script(name string, command []string, version string, lacks ...string) client {
	return client{
		name:  name,
		lacks: lacks,
		version: func() (string, error) {
			flag := map[string]string{"node": "-e", python: "-c"}[command[0]]
			return output(command[0], flag, version)
		},
		run: func(ctx context.Context, p path, run string, cases []string) map[string]error {
			args := append(command[1:len(command):len(command)], p.websocket+"/"+run+"/")
			return runScript(ctx, p, command[0], append(args, cases...))
		},
	}
}

// runScript runs a script, which prints a line about each case. What it printed
// instead is at "".
func runScript(ctx context.Context, p path, name string, args []string) map[string]error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	dieWithUs(cmd)
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
	return results
}

// output is what a command that tells a version prints.
func output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), caseTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
