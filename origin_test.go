package websocket

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// originRequest returns a request with the headers that origin policies read. An empty
// string is a missing header. A | separates the lines of a header.
func originRequest(host, origin, site string) *http.Request {
	r := &http.Request{Host: host, Header: http.Header{}}
	if origin != "" {
		r.Header["Origin"] = strings.Split(origin, "|")
	}
	if site != "" {
		r.Header["Sec-Fetch-Site"] = strings.Split(site, "|")
	}
	return r
}

var sameOriginTests = []struct {
	name, host, origin, site string
	want                     bool
}{
	{"no Origin", "app.example", "", "", true},
	{"no Origin, no Host", "", "", "", true},
	{"https", "app.example", "https://app.example", "", true},
	{"http", "app.example", "http://app.example", "", true},
	{"case of host", "App.Example", "https://aPP.eXAMPLE", "", true},
	{"case of scheme", "app.example", "HTTPS://app.example", "", true},
	{"localhost with port", "localhost:8080", "http://localhost:8080", "", true},
	{"underscore", "my_app.example", "https://my_app.example", "", true},

	{"other host", "app.example", "https://evil.example", "", false},
	{"subdomain", "example.com", "https://app.example.com", "", false},
	{"parent domain", "app.example.com", "https://example.com", "", false},
	{"host is a prefix", "app.example", "https://app.example.evil.example", "", false},
	{"host is a suffix", "app.example", "https://evilapp.example", "", false},
	{"empty Host", "", "https://app.example", "", false},
	{"empty host twice", "", "https://", "", false},

	{"default port of https in Host", "app.example:443", "https://app.example", "", true},
	{"default port of http in Host", "app.example:80", "http://app.example", "", true},
	{"default port of https in Origin", "app.example", "https://app.example:443", "", true},
	{"default port of http in Origin", "app.example", "http://app.example:80", "", true},
	{"other port in both", "app.example:8443", "https://app.example:8443", "", true},
	{"https on port 80", "app.example:80", "https://app.example", "", false},
	{"http on port 443", "app.example:443", "http://app.example", "", false},
	{"port only in Host", "app.example:8443", "https://app.example", "", false},
	{"port only in Origin", "app.example", "https://app.example:8443", "", false},
	{"other port", "localhost:8080", "http://localhost:3000", "", false},
	{"https with port 80, Host without port", "app.example", "https://app.example:80", "", false},
	{"port without digits", "app.example:", "https://app.example", "", false},
	{"port without digits in Origin", "app.example", "https://app.example:", "", false},
	{"port with a name", "app.example", "https://app.example:https", "", false},
	{"port 0", "app.example:0", "https://app.example:0", "", false},
	{"port with a zero in front", "app.example", "https://app.example:0443", "", false},
	{"port too large", "app.example:65979", "https://app.example:443", "", false},
	{"port with a sign", "app.example", "https://app.example:+443", "", false},
	{"two ports", "app.example:443:443", "https://app.example:443:443", "", false},

	{"IPv4", "127.0.0.1:8080", "http://127.0.0.1:8080", "", true},
	{"IPv6", "[::1]:8080", "http://[::1]:8080", "", true},
	{"IPv6 without port", "[::1]", "http://[::1]", "", true},
	{"IPv6 spelled out", "[0:0:0:0:0:0:0:1]", "http://[::1]", "", true},
	{"IPv6 upper case", "[2001:DB8::A]", "https://[2001:db8::a]", "", true},
	{"IPv4 in IPv6", "[::ffff:192.0.2.1]", "https://[::ffff:c000:201]", "", true},
	{"other IPv6", "[::1]", "http://[::2]", "", false},
	{"IPv6 without brackets", "::1", "http://::1", "", false},
	{"IPv6 that is not closed", "[::1", "http://[::1", "", false},
	{"IPv6 with text after", "[::1]x", "http://[::1]x", "", false},
	{"IPv6 with zone", "[fe80::1%eth0]", "http://[fe80::1%eth0]", "", false},
	{"IPv4 in brackets", "[127.0.0.1]", "http://[127.0.0.1]", "", false},
	{"empty brackets", "[]", "http://[]", "", false},

	{"trailing dot in both", "app.example.", "https://app.example.", "", true},
	{"trailing dot in Origin", "app.example", "https://app.example.", "", false},
	{"trailing dot in Host", "app.example.", "https://app.example", "", false},
	{"two trailing dots", "app.example..", "https://app.example..", "", false},
	{"empty label", "app..example", "https://app..example", "", false},
	{"only a dot", ".", "https://.", "", false},
	{"IDN in ASCII", "xn--bcher-kva.example", "https://XN--BCHER-KVA.example", "", true},
	{"IDN in UTF-8", "bücher.example", "https://bücher.example", "", false},
	{"Kelvin sign is not a k", "kiosk.example", "https://kios\u212a.example", "", false},
	{"long s is not an s", "kiosk.example", "https://kio\u017fk.example", "", false},

	{"null", "app.example", "null", "", false},
	{"null on null", "null", "null", "", false},
	{"file", "app.example", "file://", "", false},
	{"file with host", "app.example", "file://app.example", "", false},
	{"extension", "app.example", "chrome-extension://app.example", "", false},
	{"ws", "app.example", "ws://app.example", "", false},
	{"no scheme", "app.example", "app.example", "", false},
	{"empty scheme", "app.example", "://app.example", "", false},
	{"scheme without slashes", "app.example", "https:app.example", "", false},
	{"slash after", "app.example", "https://app.example/", "", false},
	{"path", "app.example", "https://app.example/chat", "", false},
	{"query", "app.example", "https://app.example?", "", false},
	{"fragment", "app.example", "https://app.example#", "", false},
	{"user", "app.example", "https://app.example@evil.example", "", false},
	{"user in front", "app.example", "https://evil.example@app.example", "", false},
	{"password", "app.example", "https://app.example:443@evil.example", "", false},
	{"backslash", "app.example", "https://evil.example\\@app.example", "", false},
	{"percent", "app.example", "https://app%2eexample", "", false},
	{"NUL", "app.example", "https://app.example\x00", "", false},
	{"space after", "app.example", "https://app.example ", "", false},
	{"list", "app.example", "https://app.example, https://app.example", "", false},
	{"list with spaces", "app.example", "https://evil.example https://app.example", "", false},
	{"twice the right one", "app.example", "https://app.example|https://app.example", "", false},
	{"right one, then another", "app.example", "https://app.example|https://evil.example", "", false},
	{"garbage in Host", "app.example/x", "https://app.example/x", "", false},
	{"wildcard", "*.example", "https://*.example", "", false},

	{"same-origin", "app.example", "https://app.example", "same-origin", true},
	{"same-origin, Host rewritten", "backend:9000", "https://app.example", "same-origin", true},
	{"same-origin without Origin", "app.example", "", "same-origin", true},
	{"same-origin with two Origins", "app.example", "https://app.example|https://evil.example", "same-origin", false},
	{"same-origin in other case", "backend:9000", "https://app.example", "Same-Origin", false},
	{"same-origin twice", "backend:9000", "https://app.example", "same-origin|same-origin", false},
	{"same-origin in a list", "backend:9000", "https://app.example", "same-origin, same-origin", false},
	{"same-origin, then cross-site", "app.example", "https://evil.example", "same-origin|cross-site", false},
	{"cross-site", "app.example", "https://evil.example", "cross-site", false},
	{"cross-site without Origin", "app.example", "", "cross-site", false},
	{"cross-site by scheme alone", "app.example", "http://app.example", "cross-site", true},
	{"same-site", "api.example.com", "https://app.example.com", "same-site", false},
	{"same-site without Origin", "api.example.com", "", "same-site", false},
	{"unknown site", "app.example", "https://app.example", "elsewhere", true},
	{"none without Origin", "app.example", "", "none", true},
	{"none with the right Origin", "app.example", "https://app.example", "none", true},
	{"none twice without Origin", "app.example", "", "none|none", false},
	{"none with another Origin", "app.example", "https://evil.example", "none", false},
}

func TestSameOrigin(t *testing.T) {
	for _, test := range sameOriginTests {
		t.Run(test.name, func(t *testing.T) {
			r := originRequest(test.host, test.origin, test.site)
			if got := SameOrigin(r); got != test.want {
				t.Errorf("SameOrigin(Host %q, Origin %q, Sec-Fetch-Site %q) = %v, want %v",
					r.Host, r.Header["Origin"], r.Header["Sec-Fetch-Site"], got, test.want)
			}
		})
	}
}

func TestSameOrigin_refuses_an_empty_header(t *testing.T) {
	for _, header := range []http.Header{{"Origin": {""}}, {"Sec-Fetch-Site": {""}}} {
		if SameOrigin(&http.Request{Host: "app.example", Header: header}) {
			t.Errorf("SameOrigin with the headers %q = true, want false", header)
		}
	}
}

func TestAnyOrigin(t *testing.T) {
	for _, test := range sameOriginTests {
		if !AnyOrigin(originRequest(test.host, test.origin, test.site)) {
			t.Errorf("%s: AnyOrigin = false, want true", test.name)
		}
	}
}

// A pattern never makes AllowOrigins refuse a request that SameOrigin accepts.
func TestAllowOrigins_accepts_every_request_that_SameOrigin_accepts(t *testing.T) {
	policy := AllowOrigins("https://elsewhere.example")
	for _, test := range sameOriginTests {
		if got := policy(originRequest(test.host, test.origin, test.site)); got != test.want {
			t.Errorf("%s: AllowOrigins = %v, SameOrigin = %v", test.name, got, test.want)
		}
	}
}

func TestAllowOrigins(t *testing.T) {
	tests := []struct {
		pattern string
		in      []string
		out     []string
	}{
		{
			"https://app.example.com",
			[]string{"https://app.example.com", "https://app.example.com:443", "HTTPS://APP.example.com"},
			[]string{
				"http://app.example.com", "http://app.example.com:443", "https://app.example.com:8443", "https://example.com",
				"https://x.app.example.com", "https://evilapp.example.com", "https://app.example.com.evil.example",
				"https://app.example.com.", "https://app.example.com/", "https://u@app.example.com", "app.example.com", "null",
			},
		},
		{
			"HTTPS://App.Example.Com:443",
			[]string{"https://app.example.com", "https://app.example.com:443"},
			[]string{"http://app.example.com", "https://app.example.com:80"},
		},
		{
			"http://app.example.com:8080",
			[]string{"http://app.example.com:8080"},
			[]string{"http://app.example.com", "https://app.example.com:8080", "http://app.example.com:80"},
		},
		{
			"app.example.com",
			[]string{"https://app.example.com", "http://app.example.com", "http://app.example.com:80"},
			[]string{"http://app.example.com:443", "https://app.example.com:80", "http://app.example.com:8080", "ftp://app.example.com"},
		},
		{
			"localhost:3000",
			[]string{"http://localhost:3000", "https://localhost:3000"},
			[]string{"http://localhost", "http://localhost:30000"},
		},
		{
			"*.example.com",
			[]string{"https://a.example.com", "http://a.example.com", "https://a.b.c.example.com", "https://A.EXAMPLE.com"},
			[]string{
				"https://example.com", "https://evilexample.com", "https://.example.com", "https://a..example.com",
				"https://a.example.com.", "https://a.example.com:8443", "https://example.com.evil.example",
				"https://evil.example/.example.com", "https://evil.example#.example.com", "https://evil.example\\.example.com",
				"https://evil.example:443.example.com", "https://evil@a.example.com", "https://*.example.com", "null", "",
			},
		},
		{
			"https://*.example.com:8443",
			[]string{"https://a.example.com:8443"},
			[]string{"http://a.example.com:8443", "https://a.example.com", "https://example.com:8443"},
		},
		{
			"*.localhost",
			[]string{"http://app.localhost"},
			[]string{"http://localhost"},
		},
		{
			"http://[0:0::1]:8080",
			[]string{"http://[::1]:8080"},
			[]string{"http://[::1]", "http://[::2]:8080"},
		},
		{
			"192.0.2.1",
			[]string{"http://192.0.2.1"},
			[]string{"http://192.0.2.11", "http://1192.0.2.1"},
		},
		{
			"capacitor://localhost",
			[]string{"capacitor://localhost", "CAPACITOR://LocalHost"},
			[]string{
				"capacitor://localhost:80", "capacitor://localhost:443", "capacitor://localhost/", "capacitor://", "capacitor://localhost.",
				"capacitor://x.localhost", "capacitor://localhost.evil.example", "ionic://localhost", "capacitor:localhost",
				"http://localhost", "https://localhost", "localhost", "capacitor", "xcapacitor://localhost", "null", "",
			},
		},
		{
			"ionic://localhost:8100",
			[]string{"ionic://localhost:8100"},
			[]string{"ionic://localhost", "ionic://localhost:810", "http://localhost:8100"},
		},
		{
			"tauri://localhost",
			[]string{"tauri://localhost"},
			[]string{"https://tauri.localhost", "http://localhost"},
		},
		{
			"chrome-extension://abcdefghijklmnopabcdefghijklmnop",
			[]string{"chrome-extension://abcdefghijklmnopabcdefghijklmnop"},
			[]string{
				"chrome-extension://abcdefghijklmnopabcdefghijklmnoq", "chrome-extension://abcdefghijklmnopabcdefghijklmnop.x",
				"moz-extension://abcdefghijklmnopabcdefghijklmnop", "https://abcdefghijklmnopabcdefghijklmnop", "chrome-extension://",
			},
		},
		{
			"moz-extension://4b1cf9f0-5d5b-4d5f-9d3b-0c4b5d1f8f11",
			[]string{"moz-extension://4b1cf9f0-5d5b-4d5f-9d3b-0c4b5d1f8f11"},
			[]string{"moz-extension://4b1cf9f0-5d5b-4d5f-9d3b-0c4b5d1f8f12"},
		},
		{
			"file://",
			[]string{"file://", "FILE://"},
			[]string{"file:///", "file://localhost", "file:", "file:///etc/passwd", "app://", "null", "http://", "", "://"},
		},
		{
			"app://.",
			[]string{"app://.", "App://."},
			[]string{"app://", "app://..", "app://./", "app://-", "file://."},
		},
		{
			"app://a..B",
			[]string{"app://a..B"},
			[]string{"app://a..b", "app://a..B:1"},
		},
		{
			"app://*.example.com",
			[]string{"app://a.example.com", "app://a.b.example.com"},
			[]string{"app://example.com", "app://a..example.com", "app://.example.com", "app://-.example.com:80", "https://a.example.com", "app://*.example.com"},
		},
		{
			"com.example.app+2://host",
			[]string{"com.example.app+2://host"},
			[]string{"com.example.app://host", "2://host"},
		},
	}
	for _, test := range tests {
		t.Run(test.pattern, func(t *testing.T) {
			policy := AllowOrigins("https://first.example", test.pattern)
			check := func(origins []string, want bool) {
				for _, origin := range origins {
					r := &http.Request{Host: "ws.test", Header: http.Header{"Origin": {origin}, "Sec-Fetch-Site": {"cross-site"}}}
					if got := policy(r); got != want {
						t.Errorf("AllowOrigins(%q) for Origin %q = %v, want %v", test.pattern, origin, got, want)
					}
				}
			}
			check(test.in, true)
			check(test.out, false)
		})
	}
}

func TestAllowOrigins_refuses_several_Origins(t *testing.T) {
	r := originRequest("ws.test", "https://a.example|https://a.example", "")
	if AllowOrigins("https://a.example")(r) {
		t.Error("AllowOrigins accepted a request with two Origin headers")
	}
}

func TestAllowOrigins_panics(t *testing.T) {
	patterns := []string{
		"", "*", "*.", "*example.com", "a.*.example.com", "*.*.example.com", "https://*", "https://", "://app.example.com",
		"https://app.example.com/", "https://app.example.com/chat", "https://u@app.example.com", "https://app.example.com:",
		"https://app.example.com:*", "https://app.example.com:65536", "ws://app.example.com", "WSS://app.example.com", "null",
		"app.example.com, b.example.com", "app example.com", "bücher.example", ".example.com", "*..example.com",
		"[::1", "*.[::1]", "*.2.1", "*.192.0.2.1", "https:app.example.com", "https:///app.example.com",
		"http://", "capacitor://localhost/", "capacitor://localhost?", "capacitor://localhost#", "capacitor://u@localhost", "capacitor://localhost:",
		"capacitor://localhost:0", "capacitor://local host", "capacitor://l\u00f6calhost", "capacitor://*", "capacitor://*.", "capacitor://*localhost",
		"file:///", "file:///index.html", "file:", "chrome-extension://*", "moz-extension://*/", "capacitor:localhost", "capacitor:///localhost",
		"1app://localhost", "a b://localhost", "a_b://localhost", "+a://localhost", "app://a,b", "app://%2e", "app://*.192.0.2.1", "*://localhost", "://localhost",
	}
	advice := map[string]string{
		"*": "AnyOrigin", "null": "sandboxed", "ws://app.example.com": "use http://app.example.com", "WSS://app.example.com": "use https://app.example.com",
	}
	for _, pattern := range patterns {
		t.Run(pattern, func(t *testing.T) {
			defer func() {
				text, _ := recover().(string)
				wantMention(t, text, `AllowOrigins("`+pattern+`")`, advice[pattern])
			}()
			AllowOrigins("https://good.example", pattern)
		})
	}
}

func TestDenial(t *testing.T) {
	tests := []struct {
		name, origin, site string
		want               []string
	}{
		{"other host", "https://evil.example", "", []string{`Origin "https://evil.example"`, `"app.example"`, "AllowOrigins", "must not change the Host header"}},
		{"app shell", "capacitor://localhost", "", []string{`Origin "capacitor://localhost"`, "with AllowOrigins"}},
		{"several", "https://a.example|https://b.example", "", []string{`"https://a.example, https://b.example"`, `"app.example"`}},
		{"from elsewhere without Origin", "", "cross-site", []string{`no Origin`, `Sec-Fetch-Site "cross-site"`, `"app.example"`}},
		{"control characters", "a\x1b[2J\r\nb", "", []string{`"a\x1b[2J\r\nb"`}},
		{"too long to repeat", strings.Repeat("a", 200), "", []string{`"` + strings.Repeat("a", 100) + `..."`}},
		{"for another reason", "https://app.example", "", []string{`"app.example"`, "own rules"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := denial(originRequest("app.example", test.origin, test.site))
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("denial = %q, want %q in it", got, want)
				}
			}
		})
	}
}

// FuzzOrigin compares SameOrigin and AllowOrigins with a second, slower parser of the
// Origin header: an accepted origin names the host for which it is accepted.
func FuzzOrigin(f *testing.F) {
	for _, test := range sameOriginTests {
		f.Add(test.host, test.origin)
	}
	f.Add("app.example", "capacitor://localhost")
	f.Add("app.example", "file://")
	allow := AllowOrigins("*.example.com", "https://partner.example:8443", "capacitor://localhost", "file://")
	exact := []string{"https://partner.example:8443", "capacitor://localhost", "file://"}
	f.Fuzz(func(t *testing.T, host, origin string) {
		r := &http.Request{Host: host, Header: http.Header{"Origin": {origin}}}
		same := SameOrigin(r)
		if same && !namesHost(origin, host) {
			t.Errorf("SameOrigin accepted Origin %q for Host %q", origin, host)
		}
		if !allow(r) || same {
			return
		}
		lower := strings.ToLower(origin)
		if !slices.Contains(exact, lower) && !endsInSubdomain(lower) {
			t.Errorf("AllowOrigins accepted Origin %q", origin)
		}
	})
}

// namesHost reports whether origin is http:// or https:// and then host. It ignores the
// default port of the scheme and the spelling of an IPv6 address.
func namesHost(origin, host string) bool {
	origin, host = strings.ToLower(origin), strings.ToLower(host)
	for scheme, port := range map[string]string{"http://": ":80", "https://": ":443"} {
		rest, ok := strings.CutPrefix(origin, scheme)
		if ok && sameAuthority(strings.TrimSuffix(rest, port), strings.TrimSuffix(host, port)) {
			return true
		}
	}
	return false
}

func sameAuthority(a, b string) bool {
	if a == b {
		return true
	}
	hostA, portA := splitAuthority(a)
	hostB, portB := splitAuthority(b)
	ipA, ipB := net.ParseIP(hostA), net.ParseIP(hostB)
	if ipA != nil && ipA.Equal(ipB) {
		hostA, hostB = "", ""
	}
	return hostA == hostB && portA == portB
}

func splitAuthority(s string) (host, port string) {
	if host, port, err := net.SplitHostPort(s); err == nil {
		return host, port
	}
	return strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), ""
}

func endsInSubdomain(origin string) bool {
	origin = strings.TrimSuffix(strings.TrimSuffix(origin, ":443"), ":80")
	isWeb := strings.HasPrefix(origin, "http://") || strings.HasPrefix(origin, "https://")
	return isWeb && strings.HasSuffix(origin, ".example.com") && !strings.ContainsAny(strings.TrimPrefix(strings.TrimPrefix(origin, "https:"), "http:"), ":@?#\\ ")
}
