package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// An embeddedConfig is for the NATS that runs in this process.
type embeddedConfig struct {
	listen string
	dir    string // "" is a temporary directory
	token  string // clients must send it; "" accepts all, on a loopback address only
}

// An embedded is a NATS server in this process. It is a single point of failure: if the
// process ends, no other process can send messages. In production, run NATS as a cluster of
// three servers on machines of its own.
type embedded struct {
	server    *server.Server
	dir       string
	temporary bool // dir is removed at the end
}

// maxStored is the room on the disk that NATS may use. It is more than the history needs,
// because NATS frees old blocks with a delay.
const maxStored = 1 << 30

func startNATS(cfg embeddedConfig) (*embedded, error) {
	host, port, err := checkListen(cfg)
	if err != nil {
		return nil, err
	}
	e := &embedded{dir: cfg.dir, temporary: cfg.dir == ""}
	if e.temporary {
		if e.dir, err = os.MkdirTemp("", "cluster-nats-"); err != nil {
			return nil, err
		}
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	e.server, err = server.NewServer(&server.Options{
		ServerName:         "embedded",
		Host:               host,
		Port:               port,
		Authorization:      cfg.token,
		JetStream:          true,
		StoreDir:           e.dir,
		JetStreamMaxStore:  maxStored,
		JetStreamMaxMemory: 64 << 20,
		SyncAlways:         !e.temporary, // an acknowledged message outlives a crash of the machine
		MaxPayload:         64 << 10,
		NoSigs:             true, // the signals are for this program
	})
	if err != nil {
		e.stop()
		return nil, fmt.Errorf("starting NATS: %w", err)
	}
	e.server.SetLoggerV2(natsLog{}, false, false, false)
	e.server.Start()
	if !e.server.ReadyForConnections(startTimeout) {
		e.stop()
		return nil, fmt.Errorf("NATS does not accept connections on %s after %v; the log says why", cfg.listen, startTimeout)
	}
	return e, nil
}

// checkListen returns the host and the port. It refuses an address that other machines can
// reach if there is no token, because they could read and write the messages of the chat.
func checkListen(cfg embeddedConfig) (host string, port int, err error) {
	// Listening once shows whether the address is free. NATS would only log it.
	l, err := net.Listen("tcp", cfg.listen)
	if err != nil {
		return "", 0, fmt.Errorf("NATS cannot listen: %w; if another process of this chat runs NATS there, join it with -nats nats://%s", err, cfg.listen)
	}
	defer l.Close()
	addr := l.Addr().(*net.TCPAddr)
	if !addr.IP.IsLoopback() && cfg.token == "" {
		return "", 0, fmt.Errorf("other machines can reach NATS on %s: set a token in the environment variable NATS_TOKEN, or listen on localhost", addr)
	}
	host, p, err := net.SplitHostPort(cfg.listen)
	if err != nil {
		return "", 0, err
	}
	if port, err = strconv.Atoi(p); err != nil {
		port = addr.Port // the name of a service
	}
	return host, port, nil
}

// url returns the URL for the other processes on this machine.
func (e *embedded) url() string { return e.server.ClientURL() }

// stop stops NATS. It waits, but not without end, so that the files are complete.
func (e *embedded) stop() {
	if e.server != nil {
		stopped := make(chan struct{})
		go func() { // ends with the server, or with the program
			e.server.Shutdown()
			e.server.WaitForShutdown()
			close(stopped)
		}()
		select {
		case <-stopped:
		case <-time.After(shutdownTimeout):
			slog.Error("NATS has not stopped", "after", shutdownTimeout)
		}
	}
	if e.temporary {
		if err := os.RemoveAll(e.dir); err != nil {
			slog.Error("removing the directory of NATS", "err", err)
		}
	}
}

// natsLog passes the warnings and errors of NATS on.
type natsLog struct{}

func (natsLog) Noticef(string, ...any)           {}
func (natsLog) Debugf(string, ...any)            {}
func (natsLog) Tracef(string, ...any)            {}
func (natsLog) Warnf(format string, args ...any) { slog.Warn("NATS: " + fmt.Sprintf(format, args...)) }
func (natsLog) Errorf(format string, args ...any) {
	slog.Error("NATS: " + fmt.Sprintf(format, args...))
}
func (natsLog) Fatalf(format string, args ...any) {
	slog.Error("NATS: " + fmt.Sprintf(format, args...))
}
