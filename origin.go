package websocket

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// SameOrigin accepts the requests of pages that have the same origin as the
// WebSocket, and the requests of clients other than browsers. It is the default of
// [AcceptConnection].
//
// Browsers let any page open a WebSocket to any server, and send that server's
// cookies with the handshake. Without a check, a page on evil.example could act in
// the name of its visitor (cross-site WebSocket hijacking).
//
// The first row that describes the request decides:
//
//	Origin headers  Sec-Fetch-Site header  decision
//	two or more     any or none            refused
//	one or none     "same-origin"          accepted
//	none            none, or "none"        accepted
//	none            any other value        refused
//	one             any or none            accepted if it names the host and port of
//	                                       the Host header, else refused
//
// The reasons:
//
//   - Two or more Origin headers are refused, because browsers send one.
//   - Sec-Fetch-Site is set by the browser, and scripts cannot change it. It decides without regard
//     to Host, because a proxy may have rewritten Host.
//   - A request without an Origin header comes from a client other than a browser,
//     because browsers send Origin with every handshake. It is still refused if
//     Sec-Fetch-Site says that a page of another origin sent it.
//   - Origin cannot be changed by scripts either. Its host and port are compared with
//     those of Host, without regard to case. A port that is missing in either of them
//     is the default port of Origin's scheme: 80 for http, 443 for https. Other
//     schemes, "null" and every other text that is not scheme://host or
//     scheme://host:port are refused.
//
// The Host header has no scheme. If only Origin and Host decide, a page of
// http://app.example is accepted by https://app.example. HTTP Strict Transport
// Security keeps browsers from loading that page.
//
// Clients other than browsers can send any header. Origin policies protect the users
// of browsers; they do not replace authentication.
func SameOrigin(r *http.Request) bool {
	origins := r.Header["Origin"]
	if len(origins) > 1 {
		return false
	}
	sites := r.Header["Sec-Fetch-Site"]
	if len(sites) == 1 && sites[0] == "same-origin" {
		return true
	}
	if len(origins) == 0 {
		return len(sites) == 0 || len(sites) == 1 && sites[0] == "none"
	}
	return isHost(origins[0], r.Host)
}

// AnyOrigin accepts every request: any page can then use the WebSocket in the name of
// its visitor. Use it for endpoints that are public, and for endpoints whose
// authentication does not depend on what browsers send without a script, such as a
// token in the first message.
func AnyOrigin(r *http.Request) bool { return true }

// AllowOrigins returns a policy for [AcceptConnection] that accepts a request if
// [SameOrigin] does, or if its Origin header matches one of the patterns:
//
//	https://app.example.com       this scheme, host and port (443, the default of https)
//	https://app.example.com:8443  this scheme, host and port
//	https://*.example.com         every subdomain, at any depth; not example.com itself
//	app.example.com               http://app.example.com and https://app.example.com
//	*.example.com:8443            both schemes, every subdomain, this port
//	capacitor://localhost         this scheme and host, no port
//	file://                       exactly this Origin
//
// An Origin matches a pattern if these parts are equal:
//
//   - The scheme, without regard to case. It can be any scheme, because app shells and
//     browser extensions have their own. A pattern without a scheme matches http and
//     https. It then also accepts pages that were loaded over plain http, which an
//     attacker on the network can change.
//   - The host, without regard to case. After *. it is the end of the host, behind a dot.
//     IPv6 addresses are equal in every spelling. If the text after :// is not a host, as
//     in file:// and app://., the Origin must have the same text, byte for byte.
//   - The port. Without one, the port is the default port of the scheme: 80 for http,
//     443 for https. Other schemes have no default port, so "no port" is only equal to "no
//     port".
//
// A request matches no pattern if it has no Origin header or several. SameOrigin alone
// then decides.
//
// AllowOrigins panics if a pattern is invalid. "*" is invalid: to accept every origin, use
// [AnyOrigin]. "null" is invalid, because every site can send it, from a sandboxed frame. file://
// is the Origin of every local file, even of a downloaded one. Write international domain names in
// their ASCII form (xn--...), as browsers send them.
func AllowOrigins(patterns ...string) func(*http.Request) bool {
	allowed := make([]originPattern, len(patterns))
	for i, pattern := range patterns {
		allowed[i] = mustParsePattern(pattern)
	}
	return func(r *http.Request) bool {
		return SameOrigin(r) || matchesAny(allowed, r.Header["Origin"])
	}
}

// matchesAny reports whether origins, the Origin headers of a request, are one header
// that matches one of the allowed patterns.
func matchesAny(allowed []originPattern, origins []string) bool {
	if len(origins) != 1 {
		return false
	}
	o, ok := parseOrigin(origins[0])
	return ok && slices.ContainsFunc(allowed, func(p originPattern) bool { return p.matches(o) })
}

// isHost reports whether an Origin header names the host and port of a Host header.
func isHost(originHeader, hostHeader string) bool {
	o, ok := parseOrigin(originHeader)
	if !ok || !isWeb(o.scheme) {
		return false
	}
	host, port, ok := parseHost(hostHeader)
	return ok && o.host == host && o.hasPort(port)
}

// denial returns the reason why the policy of AcceptConnection refused r, for the
// response. A policy returns no reason, so denial asks SameOrigin: if SameOrigin
// accepts r, the policy has refused r for another reason than its origin.
func denial(r *http.Request) string {
	if SameOrigin(r) {
		return fmt.Sprintf("this request is not allowed to open a WebSocket on %s: the server's own rules do not allow it", quoted(r.Host))
	}
	sender := headerText("Origin", r.Header["Origin"])
	if sites := r.Header["Sec-Fetch-Site"]; len(sites) > 0 {
		sender += " with " + headerText("Sec-Fetch-Site", sites)
	}
	advice := "connect from a page of the same origin, or let the server allow this one with AllowOrigins"
	if o, ok := parseOrigin(r.Header.Get("Origin")); ok && isWeb(o.scheme) {
		advice += "; a proxy before the server must not change the Host header"
	}
	return fmt.Sprintf("%s is not allowed to open a WebSocket on %s: %s", sender, quoted(r.Host), advice)
}

// origin is a parsed Origin header. scheme and host are in lower case. If the header
// has no port, port is the default of the scheme.
type origin struct {
	scheme, host string
	port         uint16 // 0 if there is none and the scheme has no default
	opaque       bool   // host is not a host, but the text as it was sent
}

// parseOrigin parses an Origin header: scheme://host or scheme://host:port (RFC 6454
// section 6.2), or scheme://text with a scheme other than http and https. It is stricter
// than url.Parse, which also accepts user information, a path, a query and a fragment.
func parseOrigin(s string) (o origin, ok bool) {
	scheme, authority, ok := strings.Cut(s, "://")
	if !ok || !isScheme(scheme) {
		return origin{}, false
	}
	o.scheme = strings.ToLower(scheme)
	if o.host, o.port, ok = parseHost(authority); !ok {
		o.host, o.opaque = authority, true
		return o, !isWeb(o.scheme) && isOpaque(authority)
	}
	if o.port == 0 {
		o.port = defaultPort(o.scheme)
	}
	return o, true
}

// isScheme reports whether s is a scheme of RFC 3986 section 3.1.
func isScheme(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && (i == 0 || !strings.Contains("+-.", s[i:i+1])) {
			return false
		}
	}
	return s != "" && (s[0] < '0' || s[0] > '9')
}

// isOpaque reports whether s may stand for the host in an origin without a host: it is
// empty, or consists of the unreserved characters of RFC 3986 section 2.3.
func isOpaque(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && !strings.Contains("-._~", s[i:i+1]) {
			return false
		}
	}
	return true
}

// isWeb reports whether pages with this scheme can have the origin of a WebSocket.
func isWeb(scheme string) bool { return defaultPort(scheme) != 0 }

// hasPort reports whether port is the port of o. A port of 0 stands for the default
// port of o's scheme.
func (o origin) hasPort(port uint16) bool {
	if port == 0 {
		port = defaultPort(o.scheme)
	}
	return o.port == port
}

// defaultPort returns the default port of http and https, and 0 for every other scheme.
func defaultPort(scheme string) uint16 {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return 0
}

// parseHost splits host[:port]. It normalizes host, so that equal hosts are equal
// strings. port is 0 if s has none.
func parseHost(s string) (host string, port uint16, ok bool) {
	host = s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host = s[:i]
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || s[i+1] == '0' { // browsers send neither port 0 nor leading zeros
			return "", 0, false
		}
		port = uint16(n)
	}
	if strings.HasPrefix(host, "[") {
		host, ok = parseIPv6(host)
		return host, port, ok
	}
	return strings.ToLower(host), port, isHostname(host)
}

// parseIPv6 parses an IPv6 address in brackets and returns its canonical form, because
// one address has many spellings.
func parseIPv6(s string) (host string, ok bool) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return "", false
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", false
	}
	return "[" + addr.String() + "]", true
}

// isHostname reports whether s is a host name: labels of letters, digits, hyphens and
// underscores, with dots between them. No label may be empty, but one dot may follow
// the last label. Callers keep that dot, because app.example. and app.example are
// different hosts to a browser.
func isHostname(s string) bool {
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" {
			return false
		}
		for i := range len(label) {
			if b := label[i]; !isAlphanumeric(b) && b != '-' && b != '_' {
				return false
			}
		}
	}
	return true
}

// originPattern is a parsed pattern of AllowOrigins.
type originPattern struct {
	scheme   string // "" matches http and https
	host     string
	wildcard bool   // matches the subdomains of host instead of host
	port     uint16 // 0 matches the default port of the scheme
	opaque   bool   // as in origin
}

// matches reports whether o has the scheme, host and port of p.
func (p originPattern) matches(o origin) bool {
	sameScheme := p.scheme == o.scheme || p.scheme == "" && isWeb(o.scheme)
	if !sameScheme || p.opaque != o.opaque || !o.hasPort(p.port) {
		return false
	}
	if !p.wildcard {
		return o.host == p.host
	}
	subdomain, ok := strings.CutSuffix(o.host, p.host)
	return ok && strings.HasSuffix(subdomain, ".")
}

// mustParsePattern parses a pattern of AllowOrigins. It panics if the pattern is
// invalid, as http.ServeMux does, because the policy would otherwise refuse the users
// whom the pattern is meant to accept.
func mustParsePattern(s string) originPattern {
	p, ok := parsePattern(s)
	if ok {
		return p
	}
	advice := "want scheme://host[:port] or host[:port], as in the Origin header, and *. before the host for all of its subdomains"
	switch scheme, rest, _ := strings.Cut(strings.ToLower(s), "://"); {
	case s == "*":
		advice = "use AnyOrigin to accept every origin"
	case s == "null":
		advice = "every site can send this Origin, from a sandboxed frame; to accept it, write a policy of your own"
	case scheme == "ws":
		advice = "Origin has the scheme of the page: use http://" + rest
	case scheme == "wss":
		advice = "Origin has the scheme of the page: use https://" + rest
	}
	panic(fmt.Sprintf("websocket: AllowOrigins(%q): %s", s, advice))
}

// parsePattern parses a pattern of AllowOrigins. Without a scheme, "null" would stand for
// a host with this name.
func parsePattern(s string) (p originPattern, ok bool) {
	authority := s
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		p.scheme, authority = strings.ToLower(scheme), rest
		if !isScheme(scheme) || p.scheme == "ws" || p.scheme == "wss" {
			return originPattern{}, false
		}
	}
	host, wildcard := strings.CutPrefix(authority, "*.")
	p.wildcard = wildcard
	if p.host, p.port, ok = parseHost(host); ok {
		return p, s != "null" && !(wildcard && isAddress(p.host))
	}
	p.host, p.opaque = authority, true
	return p, p.scheme != "" && !isWeb(p.scheme) && isOpaque(authority)
}

// isAddress reports whether host is an IP address or ends like one. Addresses have no
// subdomains.
func isAddress(host string) bool {
	lastLabel := host[strings.LastIndexByte(host, '.')+1:]
	return strings.HasPrefix(host, "[") || strings.Trim(lastLabel, "0123456789") == ""
}
