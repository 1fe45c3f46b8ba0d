package interop

import (
	"io"
	"log"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/gorilla/mux"
	labstack "github.com/labstack/echo/v4"
	labstackmiddleware "github.com/labstack/echo/v4/middleware"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
)

// wrappers holds the routers and middleware that are tested: functions that wrap the app.
var wrappers = []struct {
	name, module string
	wrap         func(http.Handler) http.Handler
}{
	{"chi", "github.com/go-chi/chi/v5", throughChi},
	{"gin", "github.com/gin-gonic/gin", throughGin},
	{"echo", "github.com/labstack/echo/v4", throughEcho},
	{"gorilla-mux", "github.com/gorilla/mux", throughGorillaMux},
	{"otelhttp", "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", throughOtel},
	{"logging", "", logging},
	{"metrics", "", metrics},
	{"logging-metrics-otelhttp", "", func(h http.Handler) http.Handler { return logging(metrics(throughOtel(h))) }},
}

func TestMiddleware(t *testing.T) {
	for _, w := range wrappers {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			if w.module != "" {
				version, err := moduleVersion(w.module)
				require(t, w.name, version, err)
			}
			a := newApp()
			p := startDirect(t, a, w.wrap(&a.mux))
			a.runCases(t, goClients[0], p, w.name)
			a.expectEmptyLog(t)
		})
	}
}

func throughChi(h http.Handler) http.Handler {
	r := chi.NewRouter()
	r.Use(chimiddleware.RequestID, chimiddleware.RequestLogger(&chimiddleware.DefaultLogFormatter{Logger: log.New(io.Discard, "", 0)}),
		chimiddleware.Recoverer, chimiddleware.Compress(5), chimiddleware.Timeout(time.Minute))
	r.Handle("/{run}/*", h)
	return r
}

func throughGin(h http.Handler) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(gin.LoggerWithWriter(io.Discard), gin.RecoveryWithWriter(io.Discard))
	r.GET("/:run/*case", gin.WrapH(h))
	return r
}

func throughEcho(h http.Handler) http.Handler {
	e := labstack.New()
	logging := labstackmiddleware.RequestLoggerConfig{
		LogStatus:     true,
		LogValuesFunc: func(labstack.Context, labstackmiddleware.RequestLoggerValues) error { return nil },
	}
	e.Use(labstackmiddleware.RequestLoggerWithConfig(logging),
		labstackmiddleware.Recover(), labstackmiddleware.RequestID(), labstackmiddleware.Gzip())
	e.GET("/:run/*", labstack.WrapHandler(h))
	return e
}

func throughGorillaMux(h http.Handler) http.Handler {
	r := mux.NewRouter()
	r.Use(logging)
	r.Handle("/{run}/{case}", h)
	return r
}

func throughOtel(h http.Handler) http.Handler { return otelhttp.NewHandler(h, "interop") }

// A recorder is the ResponseWriter of middleware that records the status. It has no Unwrap
// method.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// An unwrapper is a recorder with an Unwrap method, which http.ResponseController uses.
type unwrapper struct{ recorder }

func (u *unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// logging logs each request with its status and duration.
func logging(h http.Handler) http.Handler {
	logger := log.New(io.Discard, "", 0)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := &unwrapper{recorder{w, http.StatusOK}}
		start := time.Now()
		h.ServeHTTP(u, r)
		logger.Println(r.Method, r.URL, u.status, time.Since(start))
	})
}

// metrics counts open requests and server errors.
func metrics(h http.Handler) http.Handler {
	var open, failed atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		u := &unwrapper{recorder{w, http.StatusOK}}
		h.ServeHTTP(u, r)
		if u.status >= http.StatusInternalServerError {
			failed.Add(1)
		}
	})
}

// TestNoHijack checks that a request whose ResponseWriter cannot be hijacked is refused,
// with a text that names the type of the ResponseWriter.
func TestNoHijack(t *testing.T) {
	for _, test := range []struct {
		name, names string
		wrap        func(http.Handler) http.Handler
	}{
		{"TimeoutHandler", "*http.timeoutWriter", func(h http.Handler) http.Handler {
			return http.TimeoutHandler(h, time.Minute, "late")
		}},
		{"no Unwrap", "*interop.recorder", func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(&recorder{w, http.StatusOK}, r)
			})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newApp()
			p := startDirect(t, a, test.wrap(&a.mux))
			status, body := handshake(t, p.websocket+"/run/echo", nil)
			if status != "500 Internal Server Error" || !strings.Contains(body, test.names) {
				t.Errorf("got %s with %q, want 500 with a text that names %s", status, body, test.names)
			}
		})
	}
}
